"""Every kind of collective is counted, under the name of the group it goes over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parallel.layout import Layout
from parallel.planner.communication.traffic import CollectiveKind, Group, Traffic
from tests.pool import RankPool

LAYOUT = Layout(tensor=2, pipeline=2)
NUMBERS = 6
BYTES = NUMBERS * 4


def each_kind(layout: Layout) -> list[Traffic]:
    """A job: one call of each kind over the world, or between neighbours."""
    from parallel.planner.trace.collective_counter import counting

    world = torch.distributed
    here, of = world.get_rank(), world.get_world_size()
    one, all_ = torch.ones(NUMBERS), torch.ones(of * NUMBERS)
    with counting(layout) as counts:
        world.all_reduce(one)
        world.broadcast(one, 0)
        world.all_gather_into_tensor(all_, one)
        world.all_gather(list(all_.chunk(of)), one)
        world.reduce_scatter_tensor(one, all_)
        world.all_to_all_single(all_, all_.clone())
        world.barrier()
        peer = (here + of // 2) % of
        operations = [
            world.P2POp(world.isend, one, peer),
            world.P2POp(world.irecv, one.clone(), peer),
        ]
        for request in world.batch_isend_irecv(operations):
            request.wait()
        return counts.traffic()


def coalesced(layout: Layout) -> list[Traffic]:
    """A job: three collectives started as one."""
    from torch.distributed.distributed_c10d import _coalescing_manager

    from parallel.planner.trace.collective_counter import counting

    tensors = [torch.ones(NUMBERS) for _ in range(3)]
    with counting(layout) as counts:
        with _coalescing_manager(async_ops=True) as manager:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)
        manager.wait()
        return counts.traffic()


def in_backward(layout: Layout) -> tuple[list[Traffic], bool]:
    """A job: a collective that autograd starts; and whether anything stays counted afterwards."""
    from parallel.planner.trace.collective_counter import counting

    def add_up(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        torch.distributed.all_reduce(gradient)
        return gradient

    weight = torch.ones(NUMBERS, requires_grad=True)
    weight.register_hook(add_up)  # type: ignore[no-untyped-call]
    with counting(layout) as counts:
        weight.sum().backward()  # type: ignore[no-untyped-call]
    before = counts.traffic()
    torch.distributed.all_reduce(torch.ones(1))
    return before, counts.traffic() == before


def over_groups(layout: Layout) -> list[Traffic]:
    """A job: an all_reduce over every group of Megatron's that this rank is in."""
    from megatron.core import parallel_state

    from parallel.planner.trace.collective_counter import counting
    from parallel.runtime.process_groups import process_groups

    with process_groups(layout, 0), counting(layout) as counts:
        groups: list[Any] = [
            parallel_state.get_tensor_model_parallel_group(),
            parallel_state.get_data_parallel_group(),
            parallel_state.get_pipeline_model_parallel_group(),
            parallel_state.get_model_parallel_group(),
            parallel_state.get_tensor_and_data_parallel_group(),
            None,
        ]
        for group in groups:
            torch.distributed.all_reduce(torch.ones(NUMBERS), group=group)
        return counts.traffic()


def test_each_kind_is_counted(ranks: RankPool) -> None:
    world = dict.fromkeys((CollectiveKind.all_reduce, CollectiveKind.broadcast), (1, BYTES))
    world[CollectiveKind.all_gather] = (2, 2 * 4 * BYTES)
    world |= dict.fromkeys(
        (CollectiveKind.reduce_scatter, CollectiveKind.all_to_all), (1, 4 * BYTES)
    )
    world[CollectiveKind.barrier] = (1, 0)
    messages = dict.fromkeys((CollectiveKind.send, CollectiveKind.recv), (1, BYTES))
    for traffic in ranks.run(4, each_kind, LAYOUT):
        said = {(t.group, t.kind): (t.count, t.bytes) for t in traffic}
        expected = {(Group.model, kind): each for kind, each in world.items()}
        assert said == expected | {(Group.pipeline, kind): each for kind, each in messages.items()}


def test_what_is_coalesced_counts_one_by_one(ranks: RankPool) -> None:
    for traffic in ranks.run(2, coalesced, Layout(data=2)):
        assert traffic == [
            Traffic(group=Group.data, kind=CollectiveKind.all_reduce, count=3, bytes=3 * BYTES)
        ]


def test_autograds_collectives_are_counted_and_later_ones_are_not(ranks: RankPool) -> None:
    for traffic, unchanged in ranks.run(2, in_backward, Layout(tensor=2)):
        assert [(t.group, t.count) for t in traffic] == [(Group.tensor, 1)]
        assert unchanged


@pytest.mark.parametrize(
    ("layout", "groups"),
    [
        (Layout(tensor=2), {Group.tensor: 4}),
        (Layout(tensor=2, pipeline=2), {Group.tensor: 2, Group.pipeline: 1, Group.model: 2}),
        (Layout(pipeline=4), {Group.pipeline: 3}),
        (
            Layout(tensor=2, data=2, pipeline=2),
            {
                Group.tensor: 1,
                Group.data: 1,
                Group.pipeline: 1,
                Group.model: 1,
                Group.tensor_data: 1,
                Group.world: 1,
            },
        ),
    ],
    ids=str,
)
def test_a_group_goes_by_its_first_name(
    ranks: RankPool, layout: Layout, groups: dict[Group, int]
) -> None:
    for traffic in ranks.run(layout.world_size, over_groups, layout):
        assert {t.group: t.count for t in traffic} == groups
