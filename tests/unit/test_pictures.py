"""Decoded pictures are kept from run to run, and made anew when what they were made from has changed."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from understudy.core.actor import Actor
from understudy.core.errors import UnderstudyError
from understudy.core.footage import Footage
from understudy.core.jobs import Reporter
from understudy.training import pictures
from understudy.training.config import Config
from understudy.training.dataset import read_frames

CONFIG = Config()


@pytest.fixture
def decoded(monkeypatch, tmp_path):
    """Names of the footage that was decoded, in an empty cache."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    names, real = [], Footage.pick

    def pick(self, *arguments, **options):
        names.append(self.path.name)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Footage, "pick", pick)
    return names


def read(folder, config=CONFIG):
    actor = Actor.load(folder)
    return read_frames(actor, actor.training_shots(), actor.validation_shots(), config, Reporter())


def test_the_next_run_decodes_nothing(actor, decoded):
    first = read(actor)[0]
    assert sorted(decoded) == ["held out.mp4", "talk.mp4"]
    again = read(actor)[0]
    assert len(decoded) == 2
    assert all(np.array_equal(first.picture(i), again.picture(i)) for i in range(len(first)))


def test_a_copy_of_the_folder_is_another_actor_only_by_its_pictures(actor, decoded, tmp_path):
    read(actor)
    read(shutil.copytree(actor, tmp_path / "copy"))  # copytree keeps the times of files
    assert len(decoded) == 2


@pytest.mark.parametrize("change", ["crop", "augmentation", "footage", "excluded"])
def test_what_has_changed_is_decoded_again(actor, decoded, change):
    read(actor)
    config, talk = CONFIG, Actor.load(actor).training_shots()[0]
    if change == "crop":
        text = (actor / "actor.json").read_text()
        values = json.loads(text) | {"crop": [9, 12, 240, 320]}
        (actor / "actor.json").write_text(json.dumps(values))
    elif change == "augmentation":
        config = dataclasses.replace(CONFIG, translation=0.0, rotation=0.0, zoom=0.0)
    elif change == "footage":
        os.utime(talk.footage_path(), (1, 1))
    else:
        path = talk.folder / "shot.json"
        path.write_text(path.read_text().replace('"excluded": []', '"excluded": [[0, 2]]'))
    read(actor, config)
    # the crop alone moves nothing in training here: all of the small picture is kept for augmentation
    assert decoded[2:] == (["held out.mp4"] if change == "crop" else ["talk.mp4"])


def test_the_pictures_unused_for_longest_go_first(actor, decoded, monkeypatch):
    read(actor)
    folder = pictures.cache_folder()
    old, other = folder / "old.u8", folder / "other.txt"
    old.write_bytes(bytes(1000))
    other.write_bytes(bytes(1000))
    os.utime(old, (1, 1))
    left = folder / ".left.0"
    left.write_bytes(b"")
    os.utime(left, (1, 1))
    read(actor)
    assert old.exists() and not left.exists()
    monkeypatch.setattr(pictures, "SHARE", 0)
    read(actor)
    assert not old.exists() and other.exists() and len(decoded) == 2  # never what is needed now


def test_a_full_disk_gets_a_sentence(actor, decoded, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(UnderstudyError, match="No space left on device.*UNDERSTUDY_CACHE"):
        read(actor)
    assert not list(pictures.cache_folder().iterdir())


def test_whitening_of_evenly_spaced_frames_is_that_of_all(actor, decoded, monkeypatch):
    frames = read(actor)[0]
    (mean, deviation), reference = frames.statistics()
    inputs = frames.inputs(np.arange(len(frames)))
    assert mean == pytest.approx(inputs.mean()) and deviation == pytest.approx(inputs.std(), rel=1e-5)
    assert np.array_equal(reference, np.rint(inputs.mean(0)))
    monkeypatch.setattr("understudy.training.dataset.WHITENING_FRAMES", 8)
    assert frames.statistics()[0] == pytest.approx((mean, deviation), rel=0.2)
