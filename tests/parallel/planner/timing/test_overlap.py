"""What today's programs do meanwhile, or once more: each against its plain reference."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from configs.schema import ContextBy, Recompute
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.communication.traffic import Group
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.job import Job
from parallel.planner.timing.kernels import CAST_BYTES, Kernels
from parallel.planner.timing.links import Links
from parallel.planner.timing.step import Step
from tests.runs import run_of

MACHINE = machine_of(run_of("cluster=dgx_h100").cluster)
CONSTANTS = calibrated("phalanx", MACHINE.gpu).constants
SHAPE = ModelShape(layers=32, hidden=8192, heads=64, context=8192, vocab=128256)
WIDE = Layout(tensor=8, pipeline=4, data=32, interleave=4, sequence_parallel=True, zero=1)


def job(layout: Layout = WIDE, **other: object) -> Job:
    whole = {"shape": SHAPE, "layout": layout, "global_batch": 4 * 32, "precision": "bf16", **other}
    return Job(**whole)  # type: ignore[arg-type]


def step(its: Job) -> Step:
    return Step(its, MACHINE, CONSTANTS)


def test_casts_are_the_difference_between_a_linear_in_fp8_and_its_matmuls() -> None:
    kernels = Kernels(MACHINE, CONSTANTS, "fp8")
    forward, backward = kernels.linear(4096, 8192, 2048)
    assert forward - kernels.matmul(4096, 8192, 2048) == pytest.approx(
        kernels.moving(CAST_BYTES * 4096 * 2048)
    )
    matmuls = kernels.matmul(4096, 2048, 8192) + kernels.matmul(8192, 2048, 4096)
    assert backward - matmuls == pytest.approx(kernels.moving(CAST_BYTES * 4096 * 8192))
    plain = replace(kernels, precision="bf16")
    assert plain.linear(4096, 8192, 2048)[0] == plain.matmul(4096, 8192, 2048)


def test_grouped_matmuls_fill_the_gpu_as_one_and_are_launched_once() -> None:
    kernels = Kernels(MACHINE, CONSTANTS, "bf16")
    apart = 64 * kernels.matmul(128, 256, 2048)
    together = kernels.matmul(128, 256, 2048, count=64)
    assert together < apart / 10
    # All bytes are moved, and all weights of the 64 with them.
    moved = 64 * 2 * (128 * 2048 + 2048 * 256 + 128 * 256)
    assert together > kernels.moving(moved)
    assert kernels.matmul(128, 256, 2048, count=1) == kernels.matmul(128, 256, 2048)


@pytest.mark.parametrize("chunks", [1, 2, 4])
@pytest.mark.parametrize("size", [0.1, 0.5, 1.0, 3.0, 10.0])
def test_what_passes_do_not_hide_is_what_a_link_has_left_when_they_end(
    chunks: int, size: float
) -> None:
    """Chunk by chunk: each is ready after a round of micro-batches, and the link is serial."""
    made = step(job(replace(WIDE, interleave=chunks)))
    each = 0.3  # seconds of a micro-batch's backward pass through all chunks
    rounds = min(4, made.job.micro_batches) * each / chunks
    end, link = rounds * chunks, 0.0
    for chunk in range(1, chunks):
        link = max(link, chunk * rounds) + size / chunks
    # The first chunk's buckets are ready one by one during its last pass.
    ready = end - each / chunks
    link = max(max(link, ready) + size / chunks, end)
    assert made._beside(size, each) == pytest.approx(link - end, abs=each / chunks)
    if size < each:
        assert made._beside(size, each) == 0


def test_overlapped_tensor_collectives_cost_less_and_not_nothing() -> None:
    plain, overlapped = step(job()), step(job(overlap_tensor=True))
    alone = step(job(replace(WIDE, tensor=1, data=256, sequence_parallel=False), global_batch=1024))
    assert alone.time().tensor == 0
    assert 0 < overlapped.time().tensor < plain.time().tensor


def test_hops_that_go_on_meanwhile_are_waited_for_less() -> None:
    assert step(job(overlap_hops=True)).waited < step(job()).waited
    one = replace(WIDE, interleave=1)
    assert step(job(one, overlap_hops=True)).waited == step(job(one)).waited


def test_recomputing_half_of_the_matmuls_is_between_none_and_all() -> None:
    none, half = step(job()), step(job(recomputed_matmuls=0.5))
    full = step(job(replace(WIDE, recompute=Recompute.full)))
    times = [each.time().seconds for each in (none, half, full)]
    assert all(first < second for first, second in pairwise(times))


def test_uneven_ends_are_the_first_chunk_and_the_last() -> None:
    shape = replace(SHAPE, layers=30)
    layers = (7, 8, 8, 7)
    made = step(job(shape=shape, stage_layers=layers))
    kinds = [made.job.kinds_of_chunks(stage) for stage in range(4)]
    counts = [[count for chunk in stage for _, count in chunk] for stage in kinds]
    assert counts == [[1, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 1]]
    times = made.pass_times
    # The logits' chunk has a layer fewer, and the others of its stage have none of them.
    assert times.forward[3][0] == pytest.approx(times.forward[1][0])
    assert times.forward[3][3] != times.forward[3][0]


def test_a_longer_ring_takes_longer_than_its_share_of_the_work() -> None:
    def attention(way: ContextBy) -> float:
        layout = Layout(context=8, context_by=way, data=1)
        return step(job(layout, global_batch=1)).passes._attention(banded=False)[0]

    ring, gather = attention(ContextBy.ring), attention(ContextBy.gather)
    assert ring == pytest.approx(gather * (1 + 7 * CONSTANTS.ring))


def test_tokens_sent_once_a_node_cross_the_network_fewer_times() -> None:
    run = run_of("model=qwen3_30b_a3b cluster=dgx_h100 precision=bf16")
    shape = ModelShape.of(run.model)
    layout = Layout(data=16, expert=16)
    plain = Job(shape=shape, layout=layout, global_batch=64, precision="bf16")
    once = replace(plain, once_a_node=True)
    assert Links(MACHINE, CONSTANTS, layout).in_node(Group.expert) == 8
    assert step(once).time().experts < 0.6 * step(plain).time().experts
    # On one node there is no network to save.
    small = Layout(data=8, expert=8)
    near = replace(plain, layout=small)
    assert step(replace(near, once_a_node=True)).time().experts == step(near).time().experts
