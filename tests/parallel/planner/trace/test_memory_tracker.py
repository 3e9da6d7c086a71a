"""Live and peak bytes of small computations whose memory is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from parallel.planner.trace.memory_tracker import BLOCK, Category, Storages, blocks

SIDE = 128
MATRIX = SIDE * SIDE * 4  # bytes, whole blocks


@pytest.fixture(params=[False, True], ids=["real", "fake"])
def storages(request: pytest.FixtureRequest) -> Iterator[Storages]:
    with FakeTensorMode() if request.param else nullcontext(), Storages() as following:
        yield following


def matrix(**more: Any) -> Tensor:
    return torch.ones(SIDE, SIDE, **more)


def test_a_block_is_the_least_there_is() -> None:
    assert [blocks(size) for size in (0, 1, BLOCK, BLOCK + 1)] == [0, BLOCK, BLOCK, 2 * BLOCK]


def test_a_storage_lives_as_long_as_anything_sees_it(storages: Storages) -> None:
    x = matrix()
    row = x[0]
    assert storages.live_bytes == MATRIX
    del x
    assert storages.live_bytes == MATRIX
    del row
    assert storages.live_bytes == 0
    assert storages.peak_bytes == MATRIX


def test_a_chain_of_matmuls_needs_three_matrices(storages: Storages) -> None:
    x = weight = matrix()
    for _ in range(5):
        x = x @ weight
    assert storages.live_bytes == 2 * MATRIX
    assert storages.peak_bytes == 3 * MATRIX  # the weight, what goes in and what comes out


def test_autograd_keeps_what_backward_needs(storages: Storages) -> None:
    weight = matrix(requires_grad=True)
    y = weight
    for _ in range(3):
        y = torch.tanh(y)
    total = y.sum()
    del y
    # The weight and three outputs, each wanted by its own backward; the sum takes a block.
    assert storages.live_bytes == 4 * MATRIX + BLOCK
    total.backward()  # type: ignore[no-untyped-call]
    del total
    assert storages.live_bytes == 2 * MATRIX  # the weight and its gradient


def test_data_put_aside_is_gone(storages: Storages) -> None:
    x = matrix()
    x.data = torch.empty(1)
    assert storages.live_bytes == BLOCK
    del x
    assert storages.live_bytes == 0


def test_in_place_work_makes_nothing(storages: Storages) -> None:
    x = matrix()
    x.add_(1).mul_(x).view(-1)[3] = 2
    assert storages.peak_bytes == MATRIX


def test_the_peak_starts_anew(storages: Storages) -> None:
    x = torch.cat([matrix(), matrix()])
    assert storages.peak_bytes == 4 * MATRIX
    storages.restart_peak()
    assert storages.peak_bytes == x.numel() * 4


def test_memory_is_told_apart_by_what_it_is_for() -> None:
    with FakeTensorMode(), Storages(logits_width=7) as storages, storages.watching_modules():
        model = nn.Linear(SIDE, SIDE, bias=False)
        head = nn.Linear(SIDE, 7, bias=False)
        storages.label([model.weight, head.weight], Category.parameters)
        x = torch.ones(2, 64, SIDE)
        logits = head(model(x).tanh())
        live = storages.live()
        assert live[Category.parameters] == MATRIX + SIDE * 7 * 4
        assert live[Category.logits] == 2 * 64 * 7 * 4
        assert live[Category.activations] == 2 * MATRIX  # the input given and what tanh made
        logits.sum().backward()
        assert sum(storages.at_peak().values()) == storages.peak_bytes
        storages.label([model.weight.grad, head.weight.grad], Category.gradients)
        assert storages.live()[Category.gradients] == storages.live()[Category.parameters]


@contextmanager
def allocations() -> Iterator[list[int]]:
    """The most bytes that torch's CPU allocator had given out, as its own profiler tells."""
    peak = [0]
    with torch.profiler.profile(profile_memory=True) as profile:
        yield peak
    live = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak[0] = max(peak[0], live)


def test_the_peak_is_what_torch_allocates() -> None:
    def step() -> None:
        torch.manual_seed(0)
        layers = [torch.randn(SIDE, SIDE, requires_grad=True) for _ in range(3)]
        x = torch.randn(SIDE, SIDE)
        for weight in layers:
            x = torch.relu(x @ weight)
        x.square().sum().backward()  # type: ignore[no-untyped-call]

    step()  # what torch allocates once and keeps
    with allocations() as allocated:
        step()
    with Storages() as storages:
        step()
    # It counts in whole blocks, torch on CPU in bytes: here only single numbers differ.
    assert abs(storages.peak_bytes - allocated[0]) < 10 * BLOCK


def test_tensors_on_meta_take_nothing() -> None:
    with Storages() as storages:
        shape = torch.empty(SIDE, SIDE, device="meta")
    assert shape.numel() == SIDE**2
    assert storages.live_bytes == 0
