"""Tracks from elsewhere: whatever their format, unit and axes, they end as a shot of the template."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from understudy.blender_addon import (
    capture,
    edits,
    faces,
    head,
    importing,
    marking,
    outputs,
    scene_io,
    solving,
    tracks,
)
from understudy.blender_addon.modifier import modifier_of
from understudy.blender_addon.paths import absolute
from understudy.core.actor import Actor, create_actor
from understudy.core.meshcache import cache_writer, read_cache
from understudy.core.solved import read_solved
from understudy.core.stabilise import Motion
from understudy.core.topology import Mesh, write_obj

SPEC = importlib.util.spec_from_file_location("stand", Path(__file__).with_name("stand.py"))
stands = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stands)
look = stands.look

COUNT = 9
TOLERANCE = 2e-3  # centimetres: other formats and units round


@pytest.fixture
def stage(tmp_path):
    """An actor and a shot with a plate of 20 frames that nobody solved; .samples is a performance of its face."""
    folder = tmp_path / "ö ä"
    folder.mkdir()
    template = stands.grid()
    write_obj(folder / "face.obj", template)
    create_actor(folder / "Zoë", folder / "face.obj", "cm", stabiliser=range(27), crop=(0, 0, 240, 320))
    (folder / "take.mp4").write_bytes(b"a movie")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"))
    scene = bpy.context.scene
    scene.render.fps = 24
    faces.open_actor(scene, folder / "Zoë")
    shot = faces.new_shot(scene, folder / "take.mp4")
    shot.frames, shot.fps, shot.last, shot.anchor_scene, shot.identity = 20, 24, 19, 101, "x"
    weights = np.zeros((81, 3))
    weights[27:] = np.random.default_rng(0).normal(0, .2, (54, 3))
    samples = template.vertices + np.sin(np.arange(COUNT) / 2)[:, None, None] * weights
    return SimpleNamespace(scene=scene, shot=shot, folder=folder, template=template,
                           samples=samples.astype(np.float32))


def bring_in(stage, **settings):
    assert bpy.ops.understudy.track_import(**settings) == {"FINISHED"}
    return read_cache(absolute(stage.shot.cache))


def write_cache(path, samples):
    with cache_writer(path, samples.shape[1], len(samples)) as writer:
        writer.write(samples)
    return str(path)


def actress(stage, template=None):
    """An object of a vendor's scene, in metres and upright, that plays the samples by shape keys, as faces do."""
    face = scene_io.build_object("Vendor", template or stage.template, {})
    bpy.context.scene.collection.objects.link(face)
    face.shape_key_add(name="Basis")
    block = face.shape_key_add(name="All")
    scene_io.set_positions(block, stage.template.vertices + (stage.samples[3] - stage.samples[0]) / np.sin(1.5))
    for index in range(COUNT):
        block.slider_min = -1
        block.value = np.sin(index / 2)
        block.keyframe_insert("value", frame=101 + index)
    scene_io.place(bpy.context.scene, face, 0.01)
    bpy.context.view_layer.update()
    return face


def test_a_mesh_cache_in_other_units_and_axes(stage):
    vendors = (stage.samples / 100) @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])  # metres, Z up
    seen = bring_in(stage, filepath=write_cache(stage.folder / "v 1.mdd", vendors.astype(np.float32)), first=4)
    assert np.abs(seen - stage.samples).max() < TOLERANCE
    shot = stage.shot
    assert (shot.solved_first, shot.solved_last, shot.first, shot.last) == (4, 12, 4, 12)
    assert shot.status == "IN_CLEANUP" and importing.is_track(shot) and not solving.stale(stage.scene.understudy, shot)
    solved = read_solved(absolute(shot.cache))
    assert solved.sidecar["axes"] == "+X+Z-Y" and solved.sidecar["scale"] == 100
    assert np.abs(look(shot.face, 105 + 5) - stage.samples[5]).max() < TOLERANCE  # source frame 4 plays at 105


def test_what_is_told_before_it_is_applied(stage):
    path = Path(write_cache(stage.folder / "v.pc2", stage.samples * 10))
    with tracks.opened(stage.scene, stage.shot, stage.template, path) as track:
        found, lines = importing.look(stage.scene, stage.shot, track)
    assert lines == ["v.pc2: 9 samples; the shot has 20 frames",
                     "It has no faces; the order of its vertices is judged by the edges"]
    assert found.sure and "it is in mm, one unit is 0.1 of the template" in found.lines[0]
    assert found.lines[1] == "Its X, Y, Z become the template's X, Y, Z"


def test_the_guess_can_be_overridden(stage):
    turned = stage.samples @ np.diag([-1.0, -1, 1]) * 1.5
    seen = bring_in(stage, filepath=write_cache(stage.folder / "v.npz", turned.astype(np.float32)),
                    scale=1.0, axes="+X+Y+Z", stabilise=False)
    assert np.abs(seen - turned).max() < TOLERANCE and not stage.shot.head


def test_a_folder_of_obj_files(stage):
    for index, sample in enumerate(stage.samples):
        write_obj(stage.folder / f"f{index}.obj", Mesh(sample, stage.template.face_sizes, stage.template.face_indices))
    (stage.folder / "face.obj").unlink()
    seen = bring_in(stage, filepath=str(stage.folder / "f0.obj"))
    assert np.abs(seen - stage.samples).max() < 1e-5


@pytest.mark.parametrize("suffix", [".abc", ".usdc", ".fbx", ".glb"])
def test_files_that_blender_imports(stage, suffix):
    """They are read in a scene of their own, of which nothing is left."""
    names = {".fbx": ("io_scene_fbx", "fbx"), ".glb": ("io_scene_gltf2", "gltf")}
    scene = bpy.data.scenes.new("Vendor's")
    scene.frame_start, scene.frame_end, scene.render.fps = 101, 109, 24
    path = str(stage.folder / f"v{suffix}")
    with bpy.context.temp_override(scene=scene, view_layer=scene.view_layers[0]):
        face = actress(stage)
        face.select_set(True)
        if suffix in names:
            bpy.ops.preferences.addon_enable(module=names[suffix][0])
        if suffix == ".abc":
            bpy.ops.wm.alembic_export(filepath=path, start=101, end=109)
        elif suffix == ".usdc":
            bpy.ops.wm.usd_export(filepath=path, export_animation=True)
        elif suffix == ".fbx":
            bpy.ops.export_scene.fbx(filepath=path, bake_anim_use_nla_strips=False, bake_anim_use_all_actions=False,
                                     bake_anim_simplify_factor=0)
        else:
            bpy.ops.export_scene.gltf(filepath=path, use_selection=True)
    bpy.data.objects.remove(face)
    bpy.data.scenes.remove(scene)
    before = set(bpy.data.user_map())
    track = tracks.opened(stage.scene, stage.shot, stage.template, Path(path))
    with track as found:
        assert found.count == COUNT
        frames = np.stack([found.sample(index) for index in range(COUNT)])
    assert set(bpy.data.user_map()) == before
    assert np.ptp(frames, 0).max() > 1e-3, "it moves"
    seen = bring_in(stage, filepath=path)
    assert np.abs(seen - stage.samples).max() < TOLERANCE
    if suffix == ".abc":  # its times are those of 24 frames a second
        assert len(bring_in(stage, filepath=path, fps=48)) == 2 * COUNT - 1


def test_an_animated_object_of_the_scene_with_a_moving_head(stage):
    face = actress(stage)
    face.location = 0, 0, 0
    face.keyframe_insert("location", frame=101)
    face.location = .02, 0, .01
    face.keyframe_insert("location", frame=109)
    stage.shot.last = COUNT - 1
    stage.scene.frame_set(104)
    seen = bring_in(stage, object="Vendor")
    assert np.abs(seen - stage.samples).max() < TOLERANCE and stage.scene.frame_current == 104
    motion = Motion.load(absolute(stage.shot.head))
    way, angle = motion.extent(np.zeros(3))
    assert way == pytest.approx(np.hypot(2, 1), rel=1e-3) and angle < .1
    assert bpy.ops.understudy.head_motion(on="ON") == {"FINISHED"}
    layer = stage.scene.view_layers[0]
    for frame in (101, 105, 109):
        stage.scene.frame_set(frame)
        worlds = []
        for object in (face, stage.shot.face):
            matrix = np.array(capture.shown(layer, object).matrix_world)
            worlds.append(capture.vertices(layer, object, 81) @ matrix[:3, :3].T + matrix[:3, 3])
        assert np.abs(worlds[0] - worlds[1]).max() < 1e-4  # metres


def test_frame_offset_and_side_by_side(stage):
    bring_in(stage, filepath=write_cache(stage.folder / "v.pc2", stage.samples), first=-2)
    shot = stage.shot
    assert (shot.solved_first, shot.solved_last) == (0, 6)
    assert np.abs(look(shot.face, 101) - stage.samples[2]).max() < TOLERANCE
    assert bpy.ops.understudy.track_nudge(frames=5) == {"FINISHED"}
    assert (shot.solved_first, shot.solved_last, shot.first, shot.last) == (5, 11, 5, 11)
    assert np.abs(look(shot.face, 106) - stage.samples[2]).max() < TOLERANCE
    assert read_solved(absolute(shot.cache)).first == 5 and Motion.load(absolute(shot.head)).first == 5
    frames = []
    for which in ("FIRST", "MIDDLE", "LAST"):
        bpy.ops.understudy.frame_check(which=which)
        frames.append(stage.scene.frame_current)
    assert frames == [106, 109, 112]
    with pytest.raises(RuntimeError, match="would begin 1 frames before its footage"):
        bpy.ops.understudy.track_nudge(frames=-6)


def test_corrections_move_with_their_track(stage):
    bring_in(stage, filepath=write_cache(stage.folder / "v.pc2", stage.samples), first=2)
    block = edits.add(stage.scene, stage.shot, 105, falloff=2)  # source frame 4
    scene_io.set_positions(block, scene_io.positions(block) + .5)
    corrected = look(stage.shot.face, 105)
    assert np.abs(corrected - stage.samples[2]).max() > .1
    assert bpy.ops.understudy.track_nudge(frames=3) == {"FINISHED"}
    assert np.abs(look(stage.shot.face, 108) - corrected).max() < TOLERANCE
    assert np.abs(look(stage.shot.face, 105) - stage.samples[0]).max() < .3
    list(outputs.show(stage.scene, stage.shot, "FRAMES"))
    with pytest.raises(RuntimeError, match="Set its output to Mesh Cache, then nudge"):
        bpy.ops.understudy.track_nudge(frames=1)


def test_a_track_that_comes_before_its_footage(stage):
    settings = stage.scene.understudy
    path = write_cache(stage.folder / "v 2.pc2", stage.samples / 100)
    assert bpy.ops.understudy.shot_from_track(filepath=path) == {"FINISHED"}
    shot = settings.shot
    assert len(settings.shots) == 2 and (shot.name, shot.footage, shot.solved_first) == ("v 2", "", 0)
    assert np.abs(look(shot.face, stage.scene.frame_start + 4) - stage.samples[4]).max() < TOLERANCE
    assert marking.reason_not_to(stage.scene, shot).startswith("v 2 has no footage")
    shot.footage = str(stage.folder / "take.mp4")
    solving._store(shot, {"width": 240, "height": 320, "frames": 5, "fps": 24, "variable": False, "audio": False,
                          "identity": "y", "times": None})
    assert (shot.first, shot.last) == (0, 4) and not marking.reason_not_to(stage.scene, shot)


def test_a_track_that_fails_leaves_no_shot(stage):
    path = write_cache(stage.folder / "v.pc2", np.where(np.arange(COUNT)[:, None, None] == 6, np.nan, stage.samples))
    before = [shot.name for shot in stage.scene.understudy.shots], len(stage.scene.objects)
    with pytest.raises(RuntimeError, match="in sample 6 is not a finite"):
        bpy.ops.understudy.track_import(filepath=path, new_shot=True)
    assert ([shot.name for shot in stage.scene.understudy.shots], len(stage.scene.objects)) == before
    stage.scene.understudy.shots.clear()
    with pytest.raises(RuntimeError, match="There is no shot"):
        bpy.ops.understudy.track_import(filepath=path)


def test_a_track_is_marked_like_a_solve(stage):
    bring_in(stage, filepath=write_cache(stage.folder / "v.pc2", stage.samples), first=3)
    assert bpy.ops.understudy.mark_cleaned() == {"FINISHED"}
    shot, = Actor.load(stage.folder / "Zoë").shots
    assert np.abs(shot.vertices() - stage.samples).max() < TOLERANCE and shot.first_frame == 3
    assert shot.provenance["model_sha256"] == "" and shot.provenance["cache"] == "take.v001.pc2"


def test_bringing_in_again_keeps_the_version_before(stage):
    bring_in(stage, filepath=write_cache(stage.folder / "v.pc2", stage.samples))
    before = absolute(stage.shot.cache)
    bring_in(stage, filepath=write_cache(stage.folder / "v.pc2", stage.samples[:4]))
    assert absolute(stage.shot.cache) != before and before.is_file() and stage.shot.solved_last == 3
    assert modifier_of(stage.shot.face).filepath == stage.shot.cache


@pytest.mark.parametrize("spoil, text", [
    (lambda samples: samples[:, :-1], "v.pc2 has 80 vertices, but the template has 81"),
    (lambda samples: samples[:, np.random.default_rng(0).permutation(81)], "in another order"),
    (lambda samples: np.where(np.arange(COUNT)[:, None, None] == 6, np.nan, samples), "in sample 6 is not a finite"),
    (lambda samples: np.zeros_like(samples), "lie in one place")])
def test_what_cannot_be_the_template_is_refused_and_nothing_changes(stage, spoil, text):
    path = write_cache(stage.folder / "v.pc2", spoil(stage.samples).astype(np.float32))
    before = sorted(stage.folder.rglob("*.pc2"))
    with pytest.raises(RuntimeError, match=text):
        bpy.ops.understudy.track_import(filepath=path)
    assert sorted(stage.folder.rglob("*.pc2")) == before and not stage.shot.solved and stage.shot.status == "RAW"


def test_files_without_the_face_are_refused(stage):
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.wm.alembic_export(filepath=str(stage.folder / "cube.abc"), start=1, end=2, selected=True)
    with pytest.raises(RuntimeError, match=r"No mesh in cube.abc has the template's 81 vertices; there are: .*\(8\)"):
        bpy.ops.understudy.track_import(filepath=str(stage.folder / "cube.abc"))
    with pytest.raises(RuntimeError, match="is no track that can be read here"):
        bpy.ops.understudy.track_import(filepath=str(stage.folder / "take.mp4"))
    (stage.folder / "broken.abc").write_bytes(b"nothing")
    before = set(bpy.data.user_map())
    with pytest.raises(RuntimeError, match="broken.abc"):
        bpy.ops.understudy.track_import(filepath=str(stage.folder / "broken.abc"))
    assert set(bpy.data.user_map()) == before


def test_basis_keys_of_a_track_are_refused_with_the_reason(stage):
    bring_in(stage, filepath=write_cache(stage.folder / "v.pc2", stage.samples))
    with pytest.raises(RuntimeError):
        bpy.ops.understudy.output_set(form="BASIS")
    assert not head.is_on(stage.shot) and outputs.modifier_of(stage.shot.face) is not None
