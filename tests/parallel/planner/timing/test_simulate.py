"""The schedule played through: orders that are complete, bubbles that the papers give."""

from __future__ import annotations

from itertools import pairwise

import pytest

from configs.schema import Schedule
from parallel.layout import Layout
from parallel.planner.report.perfetto import perfetto
from parallel.planner.schedule.order import orders
from parallel.planner.timing.simulate import PassTimes, play, seconds_of

LAYOUTS = [
    Layout(pipeline=1),
    Layout(pipeline=2),
    Layout(pipeline=4),
    Layout(pipeline=7),
    Layout(pipeline=2, interleave=2),
    Layout(pipeline=4, interleave=3),
    Layout(pipeline=2, schedule=Schedule.dualpipev),
    Layout(pipeline=4, schedule=Schedule.dualpipev),
]


def times(
    layout: Layout, forward: float = 1.0, backward: float = 2.0, hop: float = 0.0
) -> PassTimes:
    chunks, forward, backward = layout.chunks_per_stage, 1.0, 2.0
    return PassTimes(
        forward=[[forward / chunks] * chunks for _ in range(layout.pipeline)],
        backward=[[backward / chunks] * chunks for _ in range(layout.pipeline)],
        hop=hop,
    )


def name(layout: Layout) -> str:
    return f"{layout}{'v' if layout.dualpipev else ''}"


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("groups", [2, 5])
def test_every_pass_runs_once_and_after_what_it_needs(layout: Layout, groups: int) -> None:
    micro_batches = groups * layout.pipeline
    for ops in orders(layout, micro_batches):
        assert len(ops) == len(set(ops)) == 2 * micro_batches * layout.chunks_per_stage
    played = play(layout, times(layout, hop=0.1), micro_batches)
    for stage in played.events:
        for before, after in pairwise(stage):
            assert before.end <= after.begin + 1e-12


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 4), (4, 4), (4, 16), (8, 64)])
def test_1f1b_has_the_bubble_of_the_paper(stages: int, micro_batches: int) -> None:
    """(p - 1) / m of the ideal time: Narayanan et al. 2021, section 2.2.1."""
    layout = Layout(pipeline=stages)
    ideal = 3.0 * micro_batches
    assert play(layout, times(layout), micro_batches).seconds == pytest.approx(
        ideal * (1 + (stages - 1) / micro_batches)
    )


@pytest.mark.parametrize(("stages", "chunks"), [(2, 2), (4, 2), (4, 3), (8, 3)])
def test_interleaving_divides_the_bubble_by_the_chunks(stages: int, chunks: int) -> None:
    """(p - 1) / (v m): Narayanan et al. 2021, section 2.2.2."""
    layout = Layout(pipeline=stages, interleave=chunks)
    micro_batches = 3 * stages
    ideal = 3.0 * micro_batches
    assert play(layout, times(layout), micro_batches).seconds == pytest.approx(
        ideal * (1 + (stages - 1) / (chunks * micro_batches))
    )


def test_dualpipev_has_less_bubble_than_1f1b() -> None:
    folded = Layout(pipeline=4, schedule=Schedule.dualpipev)
    plain = Layout(pipeline=4)
    assert play(folded, times(folded), 16).seconds < play(plain, times(plain), 16).seconds


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("micro_batches", [28, 84, 140])
def test_long_steps_are_added_up_exactly(layout: Layout, micro_batches: int) -> None:
    uneven = times(layout, hop=0.05)
    uneven.forward[-1][-1] += 0.2  # the logits
    whole = play(layout, uneven, micro_batches).seconds
    assert seconds_of(layout, uneven, micro_batches) == pytest.approx(whole, rel=2e-3)


def test_activations_in_flight_are_those_of_the_warm_up() -> None:
    layout = Layout(pipeline=4)
    assert play(layout, times(layout), 12).in_flight == [4, 3, 2, 1]


def test_a_trace_has_an_event_for_every_pass() -> None:
    layout = Layout(pipeline=2, interleave=2)
    events = perfetto(play(layout, times(layout), 4), 4)["traceEvents"]
    passes = [event for event in events if event["ph"] == "X"]
    assert len(passes) == 2 * 2 * 4 * 2
    assert {event["cat"] for event in passes} == {"forward", "backward"}
    assert max(event["ts"] + event["dur"] for event in passes) == pytest.approx(
        play(layout, times(layout), 4).seconds * 1e6
    )


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 4), (4, 6), (4, 16), (3, 2)])
def test_1f1b_is_deepspeeds_order(stages: int, micro_batches: int) -> None:
    from deepspeed.runtime.pipe.schedule import BackwardPass, ForwardPass, TrainSchedule

    for stage, ours in enumerate(orders(Layout(pipeline=stages), micro_batches)):
        steps = TrainSchedule(micro_batches, stages, stage)
        theirs = [
            isinstance(command, ForwardPass)
            for commands in steps
            for command in commands
            if isinstance(command, ForwardPass | BackwardPass)
        ]
        assert theirs == [op.forward for op in ours]


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 4), (4, 8), (4, 13)])
def test_dualpipev_is_deepspeeds_order(stages: int, micro_batches: int) -> None:
    from deepspeed.runtime.pipe.schedule import BackwardPass, DualPipeVSchedule, ForwardPass

    layout = Layout(pipeline=stages, schedule=Schedule.dualpipev)
    for stage, ours in enumerate(orders(layout, micro_batches)):
        theirs = [
            (c.phase, c.buffer_id % micro_batches, isinstance(c, ForwardPass))
            for commands in DualPipeVSchedule(micro_batches, stages, stage).steps()
            for c in commands
            if isinstance(c, ForwardPass | BackwardPass)
        ]
        assert theirs == [tuple(op) for op in ours]


@pytest.mark.parametrize(("stages", "chunks", "groups"), [(2, 2, 2), (4, 3, 2), (4, 2, 1)])
def test_interleaving_is_megatrons_order(stages: int, chunks: int, groups: int) -> None:
    from megatron.core.pipeline_parallel.schedules import get_schedule_table

    micro_batches = groups * stages
    table = get_schedule_table(micro_batches, chunks, stages)
    for ops in orders(Layout(pipeline=stages, interleave=chunks), micro_batches):
        forwards = [(op.micro_batch, op.chunk) for op in ops if op.forward]
        backwards = [(op.micro_batch, chunks - 1 - op.chunk) for op in ops if not op.forward]
        assert forwards == backwards == [tuple(entry) for entry in table]
