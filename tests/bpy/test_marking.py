"""Mark as Cleaned: what is seen is what the actor folder holds."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from understudy.blender_addon import (
    cleaning,
    curves,
    edits,
    faces,
    head,
    marking,
    outputs,
    pump,
    runtime,
    scene_io,
    solving,
)
from understudy.blender_addon.cli import main
from understudy.core.actor import Actor, create_actor
from understudy.core.stabilise import Motion
from understudy.core.topology import write_obj

SPEC = importlib.util.spec_from_file_location("stand", Path(__file__).with_name("stand.py"))
stands = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stands)
look = stands.look

TOLERANCE = 2e-4  # mesh units of a centimetre: 0.002 mm
COUNT, FIRST = 12, 3


@pytest.fixture
def stage(tmp_path):
    """An actor folder and a scene with a solved shot of it: .scene .shot .face .samples .actor .folder"""
    folder = tmp_path / "ö ä"
    folder.mkdir()
    template = stands.grid()
    write_obj(folder / "face.obj", template)
    animated = np.arange(9, len(template.vertices) - 2, dtype=np.int32)
    create_actor(folder / "Zoë", folder / "face.obj", "cm", animated=animated, stabiliser=range(9, 27),
                 crop=(0, 0, 240, 320))
    (folder / "take.mp4").write_bytes(b"a movie")
    rng = np.random.default_rng(5)
    weights = np.zeros((len(animated), 3, 5), np.float32)
    weights[20:] = 0.1 * rng.standard_normal((len(animated) - 20, 3, 5))  # the stabiliser is still
    mean, codes = template.vertices[animated].ravel(), stands.make_codes(COUNT, 5)
    weights = weights.reshape(-1, 5)
    model = folder / "Zoë" / "model.safetensors"
    stands.write_model(model, template, animated, weights, mean)
    samples = stands.write_solve(folder / "take.v001.pc2", template, animated, weights, mean, codes, FIRST)
    scene = bpy.context.scene
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"))
    scene = bpy.context.scene
    scene.render.fps = 24
    faces.open_actor(scene, folder / "Zoë")
    shot = faces.new_shot(scene, folder / "take.mp4")
    shot.frames, shot.fps, shot.first, shot.last = 100, 24, FIRST, FIRST + COUNT - 1
    shot.anchor_source, shot.anchor_scene = FIRST, 101
    shot.cache, shot.solved_first, shot.solved_last = str(folder / "take.v001.pc2"), shot.first, shot.last
    shot.solved_model = scene.understudy.model_sha256
    face = faces.ensure(scene, shot)
    list(outputs.show(scene, shot, "MESH_CACHE"))
    return SimpleNamespace(scene=scene, shot=shot, face=face, samples=samples, folder=folder, template=template,
                           weights=weights, mean=mean, animated=animated)


def marked(stage):
    """The actor's only shot."""
    shot, = Actor.load(stage.folder / "Zoë").shots
    return shot


def mark(stage, **settings):
    assert bpy.ops.understudy.mark_cleaned(**settings) == {"FINISHED"}
    return marked(stage)


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def test_a_solve_with_corrections_is_marked_as_it_looks(stage):
    block = edits.add(stage.scene, stage.shot, 105, falloff=2)
    scene_io.set_positions(block, stage.template.vertices + np.float32(.3) * (np.arange(81) > 40)[:, None])
    expected = [look(stage.face, 101 + index) for index in range(COUNT)]
    stage.scene.frame_set(107)
    shot = mark(stage)
    assert np.abs(shot.vertices() - expected).max() < TOLERANCE
    assert np.abs(shot.vertices() - stage.samples).max() > .1
    assert (shot.first_frame, shot.fps, shot.status) == (FIRST, 24, "cleaned")
    assert (shot.role, shot.split) == ("character", "train")
    assert shot.footage_path() == stage.folder / "take.mp4" and not Path(shot.footage).is_absolute()
    made = shot.provenance
    assert made["edits"] == [block.name] and made["blend"] == "scene.blend" and made["when"] and "by" in made
    assert made["model_sha256"] == stage.scene.understudy.model_sha256 and made["stabiliser_mm"]["max"] < .01
    assert stage.shot.status == "CLEANED" and stage.shot.taught == "take" and stage.scene.frame_current == 107


def test_marking_again_replaces_it(stage):
    first = mark(stage)
    stage.shot.role, stage.shot.split, stage.shot.last = "FACS", "VALIDATION", FIRST + 7
    again = mark(stage)
    assert (again.role, again.split, len(again.vertices())) == ("facs", "validation", 8)
    assert again.cache != first.cache
    assert "12 frames of this shot; now it has 8" in runtime.marks[stage.shot.uid].warnings[0]


def test_any_rig_counts_up_to_what_changes_the_topology(stage):
    """An armature moves the face, a subdivision after it does not count, and all is put back."""
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    stage.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones.new("Jaw").tail = (0, 1, 0)
    bpy.ops.object.mode_set(mode="OBJECT")
    group = stage.face.vertex_groups.new(name="Jaw")
    group.add(list(range(40, 81)), 1.0, "REPLACE")
    bone = rig.pose.bones["Jaw"]
    for frame, way in ((101, 0), (112, .02)):
        bone.location.x = way
        bone.keyframe_insert("location", frame=frame)
    stage.face.modifiers.new("Armature", "ARMATURE").object = rig
    expected = [look(stage.face, 101 + index) for index in range(COUNT)]
    assert np.abs(expected - stage.samples).max() > 1
    stage.face.modifiers.new("Subdivision", "SUBSURF")
    stage.face.modifiers.new("Smooth", "SMOOTH")
    shot = mark(stage)
    assert np.abs(shot.vertices() - expected).max() < TOLERANCE
    assert all(modifier.show_viewport for modifier in stage.face.modifiers)
    warning = runtime.marks[stage.shot.uid].warnings[0]
    assert warning == "Subdivision changes vertices or faces: the mesh before it is learned, also without Smooth."


@pytest.mark.parametrize("form", ["BASIS", "FRAMES"])
def test_every_form_of_a_solve_is_marked(stage, form):
    list(outputs.show(stage.scene, stage.shot, form))
    assert np.abs(mark(stage).vertices() - stage.samples).max() < TOLERANCE


def test_other_frame_rates_are_read_between_scene_frames(stage):
    stage.shot.fps, stage.shot.pace = 60, "TIME"
    outputs.retime(stage.scene, stage.shot)
    assert np.abs(mark(stage).vertices() - stage.samples).max() < 1e-3


def test_the_heads_motion_is_taken_out_of_the_mesh_and_can_be_put_back(stage):
    tracked = np.stack([sample @ turn(.02 * index).T + [0, .1 * index, 0]
                        for index, sample in enumerate(stage.samples)])
    with stands.cache_writer(stage.folder / "tracked.pc2", 81, COUNT) as writer:
        writer.write(tracked.astype(np.float32))
    stage.face.modifiers["Understudy"].filepath = str(stage.folder / "tracked.pc2")
    shot = mark(stage)
    assert np.abs(shot.vertices() - stage.samples).max() < TOLERANCE
    motion = Motion.load(shot.folder / "head.npz")
    assert np.allclose(motion.rotations[5], turn(.1), atol=1e-4) and motion.first == FIRST
    assert "The head moves by up to" in runtime.marks[stage.shot.uid].text
    stage.face.modifiers["Understudy"].filepath = stage.shot.cache
    world = np.array(stage.face.matrix_world)
    assert bpy.ops.understudy.head_motion(on="ON") == {"FINISHED"} and head.is_on(stage.shot)
    for index in (0, 5, 11):
        shown = look(stage.face, 101 + index)
        matrix = np.array(stage.face.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world)
        seen = shown @ matrix[:3, :3].T + matrix[:3, 3]
        assert np.abs(seen - (tracked[index] @ world[:3, :3].T + world[:3, 3])).max() < 1e-5
    assert np.abs(mark(stage).vertices() - stage.samples).max() < TOLERANCE, "the empty moves the object, not the face"
    stage.shot.anchor_scene = 201
    keyed = curves.read(curves.curves_of(stage.shot.head_empty)[("location", 1)])[0]
    assert keyed[0] == pytest.approx(201) and keyed[-1] == pytest.approx(212)
    assert bpy.ops.understudy.head_motion() == {"FINISHED"} and stage.face.parent is None
    bpy.context.view_layer.update()
    assert np.allclose(np.array(stage.face.matrix_world), world) and not bpy.data.objects.get("take Head")


def test_the_head_moves_under_the_parent_that_the_face_has(stage):
    parent = bpy.data.objects.new("Set", None)
    stage.scene.collection.objects.link(parent)
    parent.location = 1, 2, 3
    stage.face.parent = parent
    rotations = np.repeat(np.eye(3)[None], COUNT, 0)
    Motion(rotations, np.outer(np.arange(COUNT), [0, 0, 1.0]), np.zeros(COUNT), FIRST).save(stage.folder / "head.npz")
    stage.shot.head = str(stage.folder / "head.npz")
    empty = head.put_on(stage.scene, stage.shot)
    stage.scene.frame_set(103)
    assert np.allclose(stage.face.matrix_world.translation, [1, 2 - .02, 3])  # +Z of the template is -Y of the scene
    assert empty.parent == parent
    head.take_off(stage.shot)
    assert stage.face.parent == parent


def test_excluded_frames_are_samples_in_the_actor(stage):
    assert bpy.ops.understudy.exclude_add(source="RANGE", first=5, last=6) == {"FINISHED"}
    stage.scene.frame_set(105)  # source frame 7
    bpy.ops.understudy.exclude_add(source="FRAME")
    stage.scene.use_preview_range = True
    stage.scene.frame_preview_start, stage.scene.frame_preview_end = 111, 300
    bpy.ops.understudy.exclude_add()
    assert [(one.first, one.last) for one in stage.shot.excluded] == [(5, 7), (13, 14)]
    assert mark(stage).excluded == [[2, 4], [10, 11]]
    stage.shot.excluded_active = 0
    assert bpy.ops.understudy.exclude_remove() == {"FINISHED"} and len(stage.shot.excluded) == 1
    assert bpy.ops.understudy.mark_facts() == {"FINISHED"}
    shot = marked(stage)
    assert shot.excluded == [[10, 11]] and shot.provenance
    with pytest.raises(RuntimeError, match="The source frames 2 to 90 are not in take"):
        bpy.ops.understudy.exclude_add(source="RANGE", first=2, last=90)


def test_suspicious_frames_are_told(stage):
    samples = stage.template.vertices + np.zeros((COUNT, 1, 1), np.float32)
    with stands.cache_writer(stage.folder / "still.pc2", 81, COUNT) as writer:
        writer.write(samples)
    stage.face.modifiers["Understudy"].filepath = str(stage.folder / "still.pc2")
    mark(stage)
    assert runtime.marks[stage.shot.uid].warnings == ["The frames 3 to 14 stand still."]


def test_what_cannot_be_learned_is_refused_and_nothing_changes(stage):
    def files():
        return sorted(path for path in (stage.folder / "Zoë").rglob("*") if path.is_file())

    before = files()
    bad = stage.samples.copy()
    bad[4, 50] = np.nan
    with stands.cache_writer(stage.folder / "bad.pc2", 81, COUNT) as writer:
        writer.write(bad)
    stage.face.modifiers["Understudy"].filepath = str(stage.folder / "bad.pc2")
    with pytest.raises(RuntimeError, match="source frame 7 whose position is not a finite number"):
        bpy.ops.understudy.mark_cleaned()
    with stands.cache_writer(stage.folder / "bad.pc2", 81, COUNT) as writer:
        writer.write(100 * stage.samples)
    with pytest.raises(RuntimeError, match="100 times the size"):
        bpy.ops.understudy.mark_cleaned()
    stage.scene.frame_set(104)
    stage.scene.view_layers[0].layer_collection.children[0].exclude = True
    with pytest.raises(RuntimeError, match="is hidden"):
        bpy.ops.understudy.mark_cleaned()
    assert files() == before and stage.scene.frame_current == 104
    assert stage.shot.status == "RAW" and not stage.shot.taught


def test_a_marking_can_be_stopped_and_an_undo_ends_it(stage):
    for how, text in (("stop", "Stopped; the training data"), ("undo", "changed by an undo")):
        run = marking.mark(stage.scene, stage.shot)
        for _ in range(4):
            next(pump._asides[0])
        assert run.done and run.state == "marking"
        if how == "stop":
            assert bpy.ops.understudy.mark_stop() == {"FINISHED"}
        else:
            pump.epoch += 1
        pump.finish()
        assert text in run.text and not Actor.load(stage.folder / "Zoë").shots
        assert not [path for path in (stage.folder / "Zoë" / "shots").glob("*")]


def test_a_marking_waits_for_no_worker_but_for_those_who_change_the_scene(stage):
    changing, waiting = [True], [True]

    def solve():  # as solving.py, in reverse: it changes the scene, then waits for its worker
        while changing:
            yield pump.WORK
        while waiting:
            yield pump.WAIT

    pump.add(solve())
    run = marking.mark(stage.scene, stage.shot)
    for _ in range(3):
        pump.tick()
    assert run.state == "queued"
    changing.clear()
    for _ in range(300):
        pump.tick()
    assert run.state == "done" and pump.busy(), run.text
    waiting.clear()
    pump.finish()


def test_a_solve_is_shown_when_no_shot_is_being_marked(stage, monkeypatch):
    solve = runtime.Run(stage.shot.uid, "take")
    monkeypatch.setattr(solving, "_here", lambda run: (stage.scene, stage.shot))
    run = marking.mark(stage.scene, stage.shot)
    steps = solving._when_free(solve)
    assert next(steps) == pump.LATER and solve.text == "Waiting for a marking"
    while run.active:
        pump.tick()
    assert next(steps, None) is None


def test_only_corrected_frames_count(stage):
    stage.shot.teaches = "CORRECTED"
    with pytest.raises(RuntimeError, match="take has no corrected frame"):
        bpy.ops.understudy.mark_cleaned()
    edits.add(stage.scene, stage.shot, 103, falloff=2)
    edits.add(stage.scene, stage.shot, 107, last=109)
    edits.add(stage.scene, stage.shot, 111).mute = True
    bpy.ops.understudy.exclude_add(source="RANGE", first=10, last=10)  # plays at 108
    shot = mark(stage)
    assert shot.frames().tolist() == [2, 6, 8] and len(shot.vertices()) == COUNT
    assert runtime.marks[stage.shot.uid].text.startswith("Marked 3 of 12 frames of take as character, train.")
    stage.shot.excluded.clear()
    edits.add(stage.scene, stage.shot, 101)  # what was not marked does not count
    assert bpy.ops.understudy.mark_facts() == {"FINISHED"} and marked(stage).frames().tolist() == [2, 6, 7, 8]
    stage.shot.teaches = "ALL"
    assert len(mark(stage).frames()) == COUNT


def test_sculpted_frame_keys_are_corrected_frames(stage):
    list(outputs.show(stage.scene, stage.shot, "FRAMES"))
    block = edits.add(stage.scene, stage.shot, 106)
    scene_io.set_positions(block, scene_io.positions(block) + 0.1)
    assert main(["mark", "--shot", "take", "--corrected-only"]) == 0
    assert marked(stage).frames().tolist() == [5]


def test_unmark(stage):
    assert not Actor.load(stage.folder / "Zoë").shots
    with pytest.raises(RuntimeError, match="has no shot take that was marked"):
        bpy.ops.understudy.unmark()
    mark(stage)
    stage.shot.last = FIRST + 7
    mark(stage)
    assert bpy.ops.understudy.unmark() == {"FINISHED"}
    assert len(marked(stage).vertices()) == COUNT and stage.shot.status == "CLEANED"
    stage.shot.taught = ""  # as after an undo of the marking
    assert bpy.ops.understudy.unmark() == {"FINISHED"}
    assert not Actor.load(stage.folder / "Zoë").training_shots() and stage.shot.status == "IN_CLEANUP"
    assert not stage.shot.taught and stage.shot.uid not in runtime.marks
    mark(stage)
    assert len(Actor.load(stage.folder / "Zoë").training_shots()) == 1


def test_a_shot_that_is_not_the_active_one_is_marked_too(stage):
    other = faces.new_shot(stage.scene, stage.folder / "other.mp4")
    assert stage.scene.understudy.shot == other
    assert bpy.ops.understudy.mark_cleaned.poll() is False
    stage = SimpleNamespace(**{**vars(stage), "shot": stage.scene.understudy.shots["take"]})
    run = marking.mark(stage.scene, stage.shot)
    pump.finish()
    assert run.state == "done", run.text
    assert np.abs(marked(stage).vertices() - stage.samples).max() < TOLERANCE
    assert stage.scene.understudy.shot.name == "other"


def test_headless(stage, capsys):
    assert main(["mark", "--shot", "take", "--role", "facs", "--split", "validation", "--save", "--json"]) == 0
    shot = marked(stage)
    assert (shot.role, shot.split) == ("facs", "validation")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert events[-1]["type"] == "done" and "Marked 12 frames" in events[-1]["text"]
    assert main(["mark", "--shot", "nobody"]) == 2


def test_comparing_shows_each_and_marking_sees_the_corrections(stage):
    block = edits.add(stage.scene, stage.shot, 105)
    other = edits.add(stage.scene, stage.shot, 107)
    other.mute = True
    shown = []
    for _ in range(3):
        bpy.ops.understudy.show_toggle()
        shown.append((stage.shot.compare, block.mute, other.mute, stage.face.hide_viewport))
    assert shown == [("SOLVE", True, True, False), ("PLATE", False, True, True), ("EDITED", False, True, False)]
    bpy.ops.understudy.show_toggle(show="SOLVE")
    assert mark(stage).provenance["edits"] == [block.name] and stage.shot.compare == "SOLVE" and block.mute


def test_comparing_comes_back_to_the_mode_that_it_left(stage):
    edits.add(stage.scene, stage.shot, 105)
    bpy.context.view_layer.objects.active = stage.face
    bpy.ops.object.mode_set(mode="SCULPT")
    modes = []
    for _ in range(4):
        bpy.ops.understudy.show_toggle()
        modes.append(stage.face.mode)
    assert modes == ["OBJECT", "OBJECT", "SCULPT", "OBJECT"]
    bpy.ops.understudy.show_toggle(show="EDITED")
    assert stage.face.mode == "SCULPT"
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.understudy.show_toggle(show="EDITED")
    assert stage.face.mode == "OBJECT"


def test_all_corrections_are_switched_at_once(stage):
    assert not bpy.ops.understudy.edits_switch.poll()
    blocks = [edits.add(stage.scene, stage.shot, frame) for frame in (105, 107)]
    blocks[0].mute = True
    for expected in ([True, True], [False, False]):
        assert bpy.ops.understudy.edits_switch() == {"FINISHED"}
        assert [block.mute for block in blocks] == expected
    bpy.ops.understudy.show_toggle(show="SOLVE")
    bpy.ops.understudy.edits_switch()
    assert stage.shot.compare == "EDITED" and all(block.mute for block in blocks)


@pytest.mark.parametrize("form", ["MESH_CACHE", "BASIS", "FRAMES"])
def test_a_sculpted_frame_becomes_one_that_the_actor_can_do(stage, form):
    list(outputs.show(stage.scene, stage.shot, form))
    stage.scene.frame_set(105)
    block = edits.add(stage.scene, stage.shot, 105)
    bump = np.random.default_rng(0).normal(0, .1, (81, 3))
    scene_io.set_positions(block, scene_io.positions(block) + bump)
    sculpted = look(stage.face, 105)
    name, mean, most = cleaning.project(stage.scene, stage.shot)
    now = look(stage.face, 105)
    code, *_ = np.linalg.lstsq(stage.weights, sculpted[stage.animated].ravel() - stage.mean, rcond=None)
    expected = (stage.weights @ code + stage.mean).reshape(-1, 3)
    assert name == block.name and np.abs(now[stage.animated] - expected).max() < 1e-3
    left = 10 * np.linalg.norm(expected - sculpted[stage.animated], axis=1)
    assert mean == pytest.approx(np.sqrt(np.square(left).mean()), rel=1e-3)
    assert most == pytest.approx(left.max(), rel=1e-3)
    stage.scene.frame_set(108)
    if form != "FRAMES":
        with pytest.raises(RuntimeError, match="is off at this frame"):
            bpy.ops.understudy.edit_project()


def test_suggested_frames_are_the_least_sure_without_those_corrected(stage):
    path = stage.folder / "take.v001.json"
    sidecar = json.loads(path.read_text())
    sidecar["confidence_mm"] = {"all": [.1] * 8 + [2.0] + [.1] * 3, "lips": [.1] * 12}
    path.write_text(json.dumps(sidecar))
    assert bpy.ops.understudy.frame_suggested() == {"FINISHED"} and stage.scene.frame_current == 109
    bpy.ops.understudy.frame_suggested()
    assert stage.scene.frame_current != 109
    edits.add(stage.scene, stage.shot, 109)
    assert FIRST + 8 not in [frame for frame, _, _ in cleaning.suggested(stage.scene, stage.shot)]


def test_the_composition_is_told(stage):
    mark(stage)
    assert bpy.ops.understudy.composition() == {"FINISHED"}
    assert runtime.composition[0] == "0.0 minutes train (12 frames)"



def test_a_single_frame_can_be_marked(stage):
    stage.shot.first = stage.shot.last = FIRST + 5
    shot = mark(stage)
    assert shot.vertices().shape == (1, 81, 3) and shot.first_frame == FIRST + 5
    assert np.abs(shot.vertices()[0] - stage.samples[5]).max() < TOLERANCE


def test_what_changed_in_the_actor_meanwhile_is_noticed(stage):
    write_obj(stage.folder / "other.obj", stands.grid(8))
    (stage.folder / "Zoë" / "actor.json").unlink()
    create_actor(stage.folder / "Yoë", stage.folder / "other.obj", "cm", crop=(0, 0, 240, 320))
    stage.scene.understudy.actor = str(stage.folder / "Yoë")
    with pytest.raises(RuntimeError, match="is another one now. Open the actor again"):
        bpy.ops.understudy.mark_cleaned()
    stage.scene.understudy.actor = str(stage.folder / "Zoë")
    with pytest.raises(RuntimeError, match="is no actor folder"):
        bpy.ops.understudy.mark_cleaned()
