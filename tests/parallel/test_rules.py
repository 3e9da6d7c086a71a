"""Every rule: that it fires, whom it blames, and that what it suggests is a way out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import InputError
from configs.schema import EngineConfig, EngineName, Precision, Run, Schedule
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.rules import RULES, allowed, check, violations
from parallel.rules.case import Case
from parallel.rules.fault import Violation
from parallel.rules.settings import RANGES, Range
from tests.parallel.faults import FAULTS, NANO, SMALL
from tests.runs import names, run_of


@pytest.mark.parametrize(("overrides", "setting", "ranks"), FAULTS.values(), ids=FAULTS)
def test_one_fault_is_one_violation_and_what_is_suggested_mends_it(
    overrides: str, setting: str, ranks: int | None
) -> None:
    [violation] = found_in(overrides, ranks)
    assert violation.setting == setting
    assert violation.source
    assert violation.nearest or setting in ("device", "cluster.peak_tflops")
    for mended in violation.nearest[:1]:
        # The config files of engines hold their names and no more.
        words = f"{overrides} {mended}".replace("engine=", "engine.name=")
        assert found_in(words, ranks_after(mended, words, ranks)) == []


def ranks_after(mended: str, words: str, ranks: int | None) -> int | None:
    """More nodes of a cluster are more ranks at hand."""
    cluster = run_of(words).cluster
    if ranks is None or "cluster.nodes" not in mended or cluster.gpus_per_node is None:
        return ranks
    return cluster.nodes * cluster.gpus_per_node


def case_of(overrides: str, ranks: int | None = None) -> Case:
    run = run_of(overrides)
    device = "cpu" if run.cluster.gpus_per_node is None else "cuda"
    return Case.of(run, Layout.resolve(run.layout, ranks), ranks, device)


def found_in(overrides: str, ranks: int | None = None) -> list[Violation]:
    case = case_of(overrides, ranks)
    return violations(case.run, case.layout, ranks=ranks, device=case.device)


def test_every_rule_is_among_the_cases() -> None:
    # Ranges are a rule too; they have a test of their own below.
    cases = [case_of(overrides, ranks) for overrides, _, ranks in FAULTS.values()]
    assert {rule for rule in RULES for case in cases if any(rule(case))} == set(RULES)


@pytest.mark.parametrize("allowed_range", RANGES, ids=lambda r: r.setting)
def test_a_setting_out_of_its_range_is_named(allowed_range: Range) -> None:
    nano = Case.of(run_of(NANO), Layout(micro_batch=4), None, "cpu")
    low = allowed_range.low if allowed_range.above_low else allowed_range.low - 1
    whole = isinstance(nano.value(allowed_range.setting), int | None)
    wrong = [int(low) if whole else float(low)]
    if allowed_range.high < 2:
        wrong.append(allowed_range.high if allowed_range.below_high else allowed_range.high + 1)
    for value in wrong:
        found = violations_of(nano.changed({allowed_range.setting: value}))
        [mine] = [v for v in found if v.setting == allowed_range.setting and "has to be" in v.why]
        assert mine.value == value
        assert mine.nearest


def violations_of(case: Case) -> list[Violation]:
    return violations(case.run, case.layout, ranks=case.ranks, device=case.device)


def test_all_faults_are_told_at_once() -> None:
    overrides = (
        f"{SMALL} layout.tensor=8 layout.pipeline=5 layout.micro_batch=3 layout.zero=2 "
        "layout.interleave=0 model.window=0 optimizer.beta2=1 generate.top_p=0 train.steps=0"
    )
    assert {violation.setting for violation in found_in(overrides)} == {
        "layout.tensor",
        "layout.pipeline",
        "train.global_batch",
        "optimizer.ramp_start",
        "layout.zero",
        "layout.interleave",
        "model.window",
        "optimizer.beta2",
        "generate.top_p",
        "train.steps",
    }


@pytest.mark.parametrize(
    ("given", "mended"),
    [("[3,2]", "[2,2]"), ("[2,1,1]", "[2,2]"), ("[4,0]", "[3,1]"), ("[1000000000,1]", "[3,1]")],
)
def test_stages_are_mended_by_as_few_layers_as_will_do(given: str, mended: str) -> None:
    run = run_of(f"{NANO} layout.pipeline=2 layout.stage_layers={given}")
    layout = Layout.resolve(run.layout, None)
    (violation,) = violations(run, layout, ranks=None, device="cpu")
    assert violation.nearest == (f"layout.stage_layers={mended}", "layout.stage_layers=null")


def test_a_line_has_the_setting_the_arithmetic_and_the_nearest() -> None:
    with pytest.raises(InputError) as raised:
        check(run_of(SMALL), Layout(tensor=8, micro_batch=3), ranks=None, device="cpu")
    assert [line.strip() for line in str(raised.value).splitlines()] == [
        "this run cannot work, for 3 reasons:",
        "layout.tensor=8: 12 heads do not split 8 ways; "
        "nearest: layout.tensor=6 or layout.tensor=12",
        "train.global_batch=256: 256 samples are not a multiple of micro_batch 3 x data 1 = 3; "
        "nearest: layout.micro_batch=2 or train.global_batch=240 or train.global_batch=288",
        "optimizer.ramp_start=16: the batch grows from 16 to 256 samples, and 16 is not a multiple "
        "of micro_batch 3 x data 1 = 3; nearest: layout.micro_batch=2 or optimizer.ramp_tokens=0",
    ]


SMALL_MODELS = [name for name in names("model") if name.startswith(("gpt3", "scaling", "llama_"))]
# Those of models without experts.
SHIPPED_SMALL = [name for name in names("layout") if not name.startswith(("gpt3_", "ep"))]
SHIPPED_LARGE = [
    "model=gpt3_1.3b layout=gpt3_1.3b cluster=dgx_a100",
    "model=gpt3_2.7b layout=gpt3_2.7b cluster=dgx_h100",
    "model=gpt3_6.7b layout=gpt3_6.7b cluster=dgx_h200",
    "model=gpt3_13b layout=gpt3_13b cluster=dgx_a100 cluster.nodes=2",
    "model=gpt3_13b layout=gpt3_13b cluster=dgx_v100 layout.zero=0",
    "model=gpt3_175b layout=gpt3_175b cluster=dgx_a100 cluster.nodes=32 optimizer.ramp_start=32",
    "model=gpt3_175b layout=gpt3_175b cluster=dgx_h100 cluster.nodes=64 optimizer.ramp_start=64",
    "model=moe_nano layout=ep2 cluster.gpus_per_node=2",
]


@pytest.mark.parametrize("model", SMALL_MODELS)
@pytest.mark.parametrize("layout", SHIPPED_SMALL)
def test_shipped_models_fit_the_shipped_small_layouts(model: str, layout: str) -> None:
    shipped = run_of(f"layout={layout}").layout
    run = replace(run_of(f"model={model}"), layout=shipped)
    resolved = Layout.resolve(shipped, None)
    check(run, resolved, ranks=None, device="cpu")
    check(run, resolved, ranks=resolved.world_size, device="cuda")


@pytest.mark.parametrize("overrides", SHIPPED_LARGE)
def test_shipped_large_layouts_fit_their_clusters(overrides: str) -> None:
    run = run_of(overrides)
    ranks = run.cluster.nodes * (run.cluster.gpus_per_node or 0)
    check(run, Layout.resolve(run.layout, ranks), ranks=ranks, device="cuda")
    assert {*SHIPPED_SMALL, *(words.split()[1][len("layout=") :] for words in SHIPPED_LARGE)} == {
        *names("layout")
    }


SIZE = st.integers(-2, 9)


@st.composite
def any_layout(draw: st.DrawFn) -> Layout:
    return Layout(
        tensor=draw(SIZE),
        pipeline=draw(SIZE),
        data=draw(SIZE),
        interleave=draw(SIZE),
        micro_batch=draw(SIZE),
        schedule=draw(st.sampled_from(Schedule)),
        sequence_parallel=draw(st.booleans()),
        zero=draw(SIZE),
    )


@settings(deadline=None, max_examples=60)
@given(
    any_layout(),
    st.builds(EngineConfig, name=st.sampled_from(EngineName), offload_optimizer=st.booleans()),
    st.sampled_from(Precision),
    st.none() | st.integers(-1, 64),
)
def test_no_layout_makes_the_rules_fail(
    layout: Layout, engine: EngineConfig, precision: Precision, ranks: int | None
) -> None:
    base = run_of(f"{SMALL} layout.data=null")
    run = replace(base, engine=engine, precision=precision)
    found = violations(run, layout, ranks=ranks, device="cpu")
    assert allowed(run, layout, ranks=ranks, device="cpu") == (not found)


GOOD_SIZE = st.sampled_from([1, 2, 3, 4, 6, 8])


@settings(deadline=None, max_examples=200)
@given(tensor=GOOD_SIZE, pipeline=GOOD_SIZE, interleave=GOOD_SIZE, data=GOOD_SIZE, micro=GOOD_SIZE)
def test_what_is_allowed_adds_up(
    tensor: int, pipeline: int, interleave: int, data: int, micro: int
) -> None:
    layout = Layout(
        tensor=tensor, pipeline=pipeline, interleave=interleave, data=data, micro_batch=micro
    )
    run = run_of(f"{SMALL} layout.data=null optimizer.ramp_tokens=0")
    adds_up = all(
        [
            heads_are_whole(run, layout),
            sorted(layers_on_all_stages(layout, run)) == list(range(run.model.layers)),
            sorted(samples_on_all_ranks(layout, run)) == list(range(run.train.global_batch)),
            interleave == 1 or (pipeline > 1 and micro_batches(layout, run) % pipeline == 0),
        ]
    )
    assert allowed(run, layout, ranks=layout.world_size, device="cpu") == adds_up


def heads_are_whole(run: Run, layout: Layout) -> bool:
    shape = ModelShape.of(run.model)
    sizes = (shape.heads, shape.query_groups, shape.hidden, shape.feed_forward)
    return all(size % layout.tensor == 0 for size in sizes)


def layers_on_all_stages(layout: Layout, run: Run) -> list[int]:
    return [
        layer
        for stage in range(layout.pipeline)
        for chunk in layout.layers_on(stage, run.model.layers)
        for layer in chunk
    ]


def samples_on_all_ranks(layout: Layout, run: Run) -> list[int]:
    return [
        sample
        for data_rank in range(layout.data)
        for micro_batch in layout.samples_of(data_rank, run.train.global_batch)
        for sample in micro_batch
    ]


def micro_batches(layout: Layout, run: Run) -> int:
    return layout.micro_batches(run.train.global_batch)
