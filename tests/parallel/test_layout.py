"""The Layout's arithmetic, alone and against the engines' own rank lists."""

from __future__ import annotations

import os
from itertools import product

import pytest

from configs.schema import Schedule
from parallel.layout import Coordinates, Layout


def layouts(world_size: int) -> list[Layout]:
    sizes = [size for size in range(1, world_size + 1) if world_size % size == 0]
    return [
        Layout(tensor=tensor, pipeline=pipeline, data=world_size // (tensor * pipeline))
        for tensor, pipeline in product(sizes, sizes)
        if world_size % (tensor * pipeline) == 0
    ]


LAYOUTS = [*layouts(1), *layouts(8), *layouts(24)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_axis_partitions_the_world(layout: Layout) -> None:
    sizes = {"tensor": layout.tensor, "data": layout.data, "pipeline": layout.pipeline}
    for axis, size in sizes.items():
        groups: list[list[int]] = layout.groups(axis)
        assert sorted(rank for group in groups for rank in group) == list(range(layout.world_size))
        for group in groups:
            # Along its own axis a group counts up; on the others it stands still.
            places = [layout.coordinates(rank) for rank in group]
            assert [getattr(place, axis) for place in places] == list(range(size))
            for other in sizes.keys() - {axis}:
                assert len({getattr(place, other) for place in places}) == 1


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_rank_and_coordinates_are_inverse(layout: Layout) -> None:
    for rank in range(layout.world_size):
        assert layout.rank(layout.coordinates(rank)) == rank


def test_a_rank_outside_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 4 is not in a world of 4"):
        Layout(tensor=2, pipeline=2).coordinates(4)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_rank_order_is_megatrons(layout: Layout) -> None:
    from megatron.core.parallel_state import RankGenerator

    ranks = RankGenerator(
        tp=layout.tensor,
        ep=1,
        dp=layout.data,
        pp=layout.pipeline,
        cp=1,
        order="tp-cp-ep-dp-pp",
    )
    assert layout.groups("tensor") == ranks.get_ranks("tp")
    assert layout.groups("pipeline") == ranks.get_ranks("pp")
    assert layout.groups("data") == ranks.get_ranks("dp")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_rank_order_is_deepspeeds(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    if "DS_ACCELERATOR" not in os.environ:
        monkeypatch.setenv("DS_ACCELERATOR", "cpu")  # it looks for a driver otherwise
    from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology

    topology = PipeModelDataParallelTopology(
        num_pp=layout.pipeline, num_mp=layout.tensor, num_dp=layout.data
    )
    for rank in range(layout.world_size):
        at = layout.coordinates(rank)
        assert topology.get_rank(pipe=at.pipeline, data=at.data, model=at.tensor) == rank
    for axis, groups in {
        "model": layout.groups("tensor"),
        "data": layout.groups("data"),
        "pipe": layout.groups("pipeline"),
    }.items():
        assert sorted(topology.get_axis_comm_lists(axis)) == sorted(groups)


@pytest.mark.parametrize("pipeline", [1, 2, 4])
@pytest.mark.parametrize("interleave", [1, 2, 3])
def test_every_layer_is_on_one_stage(pipeline: int, interleave: int) -> None:
    layout = Layout(pipeline=pipeline, interleave=interleave)
    layers = 2 * layout.chunks
    held = [
        layer
        for chunk in range(interleave)
        for stage in range(pipeline)
        for layer in layout.layers_of(stage, chunk, layers)
    ]
    # Chunk by chunk through the stages is also the order that the model runs them in.
    assert held == list(range(layers))
    assert [layout.layers_of(1 % pipeline, c, layers) for c in range(interleave)] == (
        layout.layers_on(1 % pipeline, layers)
    )


@pytest.mark.parametrize("pipeline", [2, 4])
def test_dualpipev_folds_the_layers(pipeline: int) -> None:
    layout = Layout(pipeline=pipeline, schedule=Schedule.dualpipev)
    layers = 2 * layout.chunks
    out = [layer for p in range(pipeline) for layer in layout.layers_of(p, 0, layers)]
    back = [layer for p in reversed(range(pipeline)) for layer in layout.layers_of(p, 1, layers)]
    assert out + back == list(range(layers))
    assert layout.layers_on(0, layers) == [range(2), range(layers - 2, layers)]
    assert layout.logits_stage == 0
    assert layout.embedding_groups() == [[0]]


def test_stages_have_the_layers_that_they_are_given() -> None:
    layout = Layout(tensor=2, pipeline=3, stage_layers=(3, 1, 2))
    assert [layout.layers_on(stage, 6) for stage in range(3)] == [
        [range(3)],
        [range(3, 4)],
        [range(4, 6)],
    ]
    assert Layout.resolve(layout.as_config(), 6) == layout


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_sample_is_read_by_one_data_rank(layout: Layout) -> None:
    global_batch = 4 * layout.data
    portions = [list(layout.samples_of(rank, global_batch)) for rank in range(layout.data)]
    assert all(len(portion) == layout.micro_batches(global_batch) for portion in portions)
    # Micro-batch by micro-batch over the data ranks, the samples come in their order.
    read = [sample for turn in zip(*portions, strict=True) for part in turn for sample in part]
    assert read == list(range(global_batch))


def test_the_embedding_is_on_the_first_and_the_last_stage() -> None:
    layout = Layout(tensor=2, pipeline=3, data=2)
    for first, last in layout.embedding_groups():
        assert layout.coordinates(first).pipeline == 0
        assert layout.coordinates(last) == Coordinates(
            tensor=layout.coordinates(first).tensor,
            data=layout.coordinates(first).data,
            pipeline=2,
        )
    assert Layout(tensor=2).embedding_groups() == [[0], [1]]


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (Layout(), "1x1"),
        (Layout(tensor=2, pipeline=2), "2x2"),
        (Layout(tensor=2, pipeline=2, data=2), "2x2x1x2"),
        (Layout(pipeline=2, interleave=2), "1x2x2"),
    ],
)
def test_text(layout: Layout, text: str) -> None:
    assert str(layout) == text


def test_experts_divide_the_ranks_of_a_stage_anew() -> None:
    layout = Layout(tensor=2, data=4, pipeline=2, expert=2, expert_tensor=2)
    assert [layout.experts_of(rank, 8) for rank in range(4)] == [range(4)] * 2 + [range(4, 8)] * 2
    assert layout.expert_groups("expert_tensor")[0] == [0, 1]
    assert layout.expert_groups("expert")[0] == [0, 2]
    assert layout.expert_groups("expert_data")[0] == [0, 4]
    assert layout.expert_groups("expert_tensor", "expert")[-1] == [12, 13, 14, 15]
    assert layout.expert_copies == 2
    for rank in range(layout.world_size):
        assert layout.expert_coordinates(rank).pipeline == layout.coordinates(rank).pipeline
