"""A training step: in parts where memory is short, from data on the device, and shared out among processes."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from understudy.core import process
from understudy.core.actor import Actor
from understudy.core.errors import UnderstudyError
from understudy.core.jobs import Reporter
from understudy.training.config import Config
from understudy.training.dataset import read_frames
from understudy.training.feed import Data, batches
from understudy.training.replay import Order
from understudy.training.state import State, new_model
from understudy.training.team import Team

CONFIG = dataclasses.replace(Config.preset("smoke"), batch=6)
CPU = torch.device("cpu")


@pytest.fixture
def frames(actor):
    actor = Actor.load(actor)
    return read_frames(actor, actor.training_shots(), [], CONFIG, Reporter())[0]


def state(actor, frames, **options) -> State:
    return State(new_model(Actor.load(actor), frames, CONFIG), CONFIG, CPU, **options)


def first_batch(frames, resident=False, rank=0, size=1, images=0):
    team = Team()
    team.rank, team.size = rank, size
    order = Order(CONFIG, len(frames), np.arange(len(frames)))
    return next(batches(CONFIG, frames, order, 1.0, CPU, resident, team, images, None, lambda images: 1.0))


def weights(of: State) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in of.parameters])


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory."), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 983040000 bytes. Error code 12 (Cannot allocate memory)")],
    ids=["GPU", "Python", "CPU"])
def test_a_batch_that_does_not_fit_goes_through_in_parts(actor, frames, monkeypatch, error):
    notices, batch = [], first_batch(frames)
    whole, parts = state(actor, frames), state(actor, frames, notice=notices.append)
    start = weights(whole)
    loss = whole.step(batch, 0.5)
    real = State._loss

    def small(self, batch, keep):
        if len(batch) > 2:
            raise error
        return real(self, batch, keep)

    monkeypatch.setattr(State, "_loss", small)
    assert parts.step(batch, 0.5) == pytest.approx(float(loss), rel=1e-3)
    assert (weights(parts) - weights(whole)).norm() < 0.1 * (weights(whole) - start).norm()
    assert len(notices) == 2 and "goes on with 2 at once" in notices[1]
    parts.step(batch, 0.5)
    assert len(notices) == 2 and parts.images == 12


def test_memory_that_is_too_small_for_one_frame_gets_a_sentence(actor, frames, monkeypatch):
    def never(self, batch, keep):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(State, "_loss", never)
    with pytest.raises(UnderstudyError, match="too small for a single frame"):
        state(actor, frames, notice=lambda text: None).step(first_batch(frames), 0.5)


def test_data_on_the_device_trains_the_same(actor, frames):
    data = Data.upload(frames, 1.0, CPU)
    there, here = state(actor, frames, data=data), state(actor, frames)
    assert np.array_equal(data.pictures[3].numpy(), frames.picture(3))
    batch = first_batch(frames, resident=True)
    assert batch.targets is None and torch.equal(data.targets[batch.pictures], first_batch(frames).targets)
    loss = there.step(batch, 0.5)
    assert loss == pytest.approx(float(here.step(first_batch(frames), 0.5)), rel=0.02)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_what_is_random_does_not_depend_on_the_number_of_processes(frames, size):
    whole = first_batch(frames, images=6)
    parts = [first_batch(frames, images=6, rank=rank, size=size) for rank in range(size)]
    assert {part.count for part in parts} == {whole.count}
    for name, value in whole.tensors().items():
        assert torch.equal(torch.cat([part.tensors()[name] for part in parts]), value)


def test_the_parts_of_a_team_sum_up_to_the_step_of_one(actor, frames, monkeypatch):
    """What two processes would send each other, put together here by hand."""
    alone = state(actor, frames)
    alone.step(first_batch(frames), 0.5)
    want = [parameter.grad.clone() for parameter in alone.parameters]
    sums = [torch.zeros_like(gradient) for gradient in want]
    for rank in range(2):
        team = Team()
        team.rank, team.size = rank, 2
        monkeypatch.setattr(team, "add", lambda gradients: [total.add_(gradient) for total, gradient in
                                                            zip(sums, gradients, strict=True)])
        state(actor, frames, team=team).step(first_batch(frames, rank=rank, size=2), 0.5)
    for total, gradient in zip(sums, want, strict=True):
        assert (total - gradient).norm() <= 0.02 * gradient.norm()


def test_more_processes_than_gpus_get_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UnderstudyError, match="--nproc-per-node 2"):
        Team().device("auto")
    assert Team().device("cpu") == "cpu"


def test_data_stays_off_a_gpu_that_has_no_room_for_it(frames, monkeypatch):
    size = len(frames) * (np.prod(frames.shape) + 12 * len(frames.animated))
    gpu = SimpleNamespace(type="cuda")
    for free, allowed, fits in ((2 * size, 0, True), (1.1 * size, 0, False), (2 * size, 1.1 * size, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        monkeypatch.setattr(process, "gpu_memory", allowed / 1e9)
        assert Data.fits(frames, gpu) == fits
    assert not Data.fits(frames, CPU)
