"""The formulas are right: what they say of a stage is what its ranks count, or a trace of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import DeviceName, Precision, Recompute, Schedule
from configs.settings.cuda import CudaConfig
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.communication.formulas import step_traffic
from parallel.planner.trace.trace import traced_ranks
from tests import families
from tests.layouts import name
from tests.parallel.planner.traced import tiny_run, trace_all
from tests.pool import RankPool
from tests.trained import CASES, Case, TrainedCases, case_name
from tests.training import DEEPSPEED, GLOBAL_BATCH, MEGATRON, SHAPE

# Enough numbers for several buckets of each engine and for ZeRO 3 to let some go.
LARGE = ModelShape(layers=8, hidden=5120, heads=40, context=2048, vocab=50257)
LARGE_LLAMA = replace(
    families.QWEN3,
    hidden=5120,
    heads=40,
    head_width=128,
    feed_forward=13824,
    vocab=151936,
    tied=False,
)
MICRO_BATCHES = 4
ON_CUDA: list[Case] = [
    Case(MEGATRON, layout, precision)
    for layout, precision in (
        (Layout(tensor=2, data=2), Precision.fp16),
        (Layout(tensor=2, pipeline=2, data=2, zero=1, sequence_parallel=True), Precision.bf16),
        (
            Layout(pipeline=2, interleave=2, data=2, zero=1, recompute=Recompute.selective),
            Precision.fp16,
        ),
        (
            Layout(tensor=2, pipeline=4, sequence_parallel=True, recompute=Recompute.full),
            Precision.bf16,
        ),
    )
] + [
    Case(DEEPSPEED, layout, precision)
    for layout, precision in (
        (Layout(tensor=2), Precision.bf16),
        (Layout(tensor=2, data=2, zero=2, sequence_parallel=True), Precision.fp16),
        (Layout(tensor=2, data=4, zero=3, recompute=Recompute.full), Precision.fp16),
        (Layout(tensor=2, pipeline=2, data=2, zero=1), Precision.fp16),
        (Layout(tensor=2, pipeline=2, data=2, zero=1), Precision.bf16),
        (
            Layout(tensor=2, pipeline=2, data=2, zero=1, schedule=Schedule.dualpipev),
            Precision.bf16,
        ),
    )
]
LARGE_ON_CUDA: list[Case] = [
    Case(MEGATRON, Layout(data=2, pipeline=2, interleave=2), Precision.bf16, LARGE),
    Case(MEGATRON, Layout(tensor=2, pipeline=2, data=64, zero=1), Precision.bf16, LARGE),
    Case(DEEPSPEED, Layout(data=2, zero=1), Precision.bf16, LARGE),
    Case(DEEPSPEED, Layout(data=4, zero=2), Precision.bf16, LARGE),
    Case(DEEPSPEED, Layout(tensor=2, data=4, zero=3), Precision.bf16, LARGE),
    Case(DEEPSPEED, Layout(data=2, zero=3), Precision.bf16, LARGE),
    Case(MEGATRON, Layout(tensor=2, pipeline=2, data=4, zero=1), Precision.bf16, LARGE_LLAMA),
    Case(DEEPSPEED, Layout(tensor=2, data=4, zero=2), Precision.bf16, LARGE_LLAMA),
]


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_a_formula_says_what_each_rank_counts(cases: TrainedCases, case: Case) -> None:
    config, layout, precision, shape = case
    for rank, (_, traffic) in enumerate(cases[case].counted):
        said = step_traffic(
            shape,
            layout,
            config.name,
            stage=layout.coordinates(rank).pipeline,
            precision=precision,
            micro_batches=layout.micro_batches(GLOBAL_BATCH),
            device=DeviceName.cpu,
            context_rank=layout.coordinates(rank).context,
        )
        assert said == traffic, f"rank {rank}"


def test_a_formula_says_what_a_trace_of_cuda_counts(ranks: RankPool) -> None:
    cases = ON_CUDA + LARGE_ON_CUDA
    keys = [(case, rank) for case in cases for rank in traced_ranks(case.layout)]
    asked = [
        (tiny_run(case, MICRO_BATCHES * case.layout.data), case.layout, rank) for case, rank in keys
    ]
    traces = trace_all(ranks, asked, DeviceName.cuda)
    for ((config, layout, precision, shape), _), trace in zip(keys, traces, strict=True):
        said = step_traffic(
            shape,
            layout,
            config.name,
            stage=trace.stage,
            precision=precision,
            micro_batches=MICRO_BATCHES,
            device=DeviceName.cuda,
        )
        assert said == trace.traffic, f"{config.name}, {name(layout)}, stage {trace.stage}"


@pytest.mark.parametrize(
    "cuda",
    [
        CudaConfig(bf16_gradients=True),
        CudaConfig(bucket_size=1000),
        CudaConfig(cross_entropy_fusion=False),
        CudaConfig(average_in_collective=False, align_param_gather=False),
    ],
    ids=str,
)
def test_a_formula_knows_the_settings_of_cuda(ranks: RankPool, cuda: CudaConfig) -> None:
    layouts = (
        Layout(tensor=2, pipeline=2, data=2, zero=1, sequence_parallel=True),
        Layout(pipeline=2, interleave=2, data=2, zero=1),
        Layout(tensor=2, data=2),
    )
    asked = [
        (replace(tiny_run(Case(MEGATRON, layout, Precision.bf16)), cuda=cuda), layout, rank)
        for layout in layouts
        for rank in traced_ranks(layout)
    ]
    for (run, layout, _), trace in zip(
        asked, trace_all(ranks, asked, DeviceName.cuda), strict=True
    ):
        said = step_traffic(
            SHAPE,
            layout,
            MEGATRON.name,
            stage=trace.stage,
            precision=Precision.bf16,
            micro_batches=layout.micro_batches(run.train.global_batch),
            device=DeviceName.cuda,
            cuda=cuda,
        )
        assert said == trace.traffic, f"{name(layout)}, stage {trace.stage}"


def test_one_rank_says_nothing() -> None:
    for config in (MEGATRON, DEEPSPEED):
        assert not step_traffic(
            SHAPE,
            Layout(),
            config.name,
            stage=0,
            precision=Precision.bf16,
            micro_batches=3,
            device=DeviceName.cuda,
        )
