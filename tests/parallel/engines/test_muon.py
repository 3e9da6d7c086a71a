"""Muon: what it makes of a matrix, and the same training under every layout and engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from configs.schema import (
    DeviceName,
    EngineConfig,
    MuonScale,
    OptimizerConfig,
    OptimizerName,
    Precision,
    Schedule,
)
from models.initialise import Part
from parallel.checkpoint import manifest
from parallel.checkpoint.tensors import read_tensors
from parallel.engines.newton_schulz import blocks_of, orthogonal, queries_keys_values, update_of
from parallel.layout import Layout
from parallel.planner.communication.formulas import step_traffic
from parallel.planner.communication.traffic import Traffic
from tests import families, trained, training
from tests.parallel.engines.megatron.test_parity import assert_same, name
from tests.parallel.planner.traced import tiny_run, trace_all
from tests.pool import RankPool
from tests.trained import Case
from tests.training import ADAM, DEEPSPEED, MEGATRON, MUON, SHAPE, Curve

CASES = [
    (MEGATRON, Layout(tensor=2, pipeline=2, data=2, micro_batch=1, zero=1, sequence_parallel=True)),
    (MEGATRON, Layout(tensor=2, data=2, micro_batch=4)),
    (MEGATRON, Layout(pipeline=2, interleave=2, data=2, micro_batch=2, zero=1)),
    (DEEPSPEED, Layout(tensor=2, pipeline=2, micro_batch=2)),
    (DEEPSPEED, Layout(pipeline=4, data=2, micro_batch=1, zero=1)),
    (DEEPSPEED, Layout(pipeline=2, data=2, micro_batch=1, zero=1, schedule=Schedule.dualpipev)),
    (DEEPSPEED, Layout(data=2, micro_batch=4)),
    (DEEPSPEED, Layout(tensor=2, data=2, micro_batch=2, zero=2)),
    (DEEPSPEED, Layout(tensor=2, data=2, micro_batch=2, zero=3)),
]
HALF = [
    (MEGATRON, Layout(tensor=2, data=2, micro_batch=2, zero=1), Precision.bf16),
    (MEGATRON, Layout(data=2, micro_batch=4), Precision.fp16),
    (DEEPSPEED, Layout(data=2, micro_batch=4, zero=1), Precision.bf16),
    (DEEPSPEED, Layout(data=2, micro_batch=4, zero=3), Precision.fp16),
]
# The fewer layers a stage has than data ranks, the more of these have nothing to do.
ON_CUDA = [
    (MEGATRON, Layout(tensor=2, pipeline=4, data=2, micro_batch=1, zero=1), Precision.bf16),
    (DEEPSPEED, Layout(tensor=2, pipeline=4, data=2, micro_batch=1, zero=1), Precision.fp16),
    (DEEPSPEED, Layout(tensor=2, data=8, micro_batch=1, zero=3), Precision.bf16),
]


def case_name(case: object) -> str:
    return name(case) if isinstance(case, Layout) else str(getattr(case, "name", case))


def planned(
    config: EngineConfig, layout: Layout, precision: Precision, stage: int, device: DeviceName
) -> list[Traffic]:
    return step_traffic(
        SHAPE,
        layout,
        config.name,
        stage=stage,
        precision=precision,
        micro_batches=layout.micro_batches(training.GLOBAL_BATCH),
        device=device,
        optimizer=OptimizerName.muon,
    )


@pytest.fixture(scope="module")
def one_rank(ranks: RankPool) -> Curve:
    case = Case(MEGATRON, Layout(micro_batch=8), Precision.float32)
    answers = ranks.run(1, trained.train_and_count, case, MUON)
    return training.assemble([answer[:2] for answer in answers])


def test_it_learns(one_rank: Curve) -> None:
    assert min(one_rank.grad_norms) > MUON.clip
    assert one_rank.losses[-1] < one_rank.losses[0] - 0.1


@pytest.mark.parametrize(("config", "layout"), CASES, ids=case_name)
def test_trains_as_one_rank_does_and_sends_what_is_planned(
    ranks: RankPool, one_rank: Curve, config: EngineConfig, layout: Layout
) -> None:
    case = Case(config, layout, Precision.float32)
    answers = ranks.run(layout.world_size, trained.train_and_count, case, MUON)
    assert_same(training.assemble([answer[:2] for answer in answers]), one_rank)
    for rank, (*_, traffic) in enumerate(answers):
        stage = layout.coordinates(rank).pipeline
        said = planned(config, layout, Precision.float32, stage, DeviceName.cpu)
        assert said == traffic, f"rank {rank}"


@pytest.mark.parametrize(("config", "layout", "precision"), HALF, ids=case_name)
def test_half_precision_stays_near_float32(
    ranks: RankPool, one_rank: Curve, config: EngineConfig, layout: Layout, precision: Precision
) -> None:
    answers = ranks.run(
        layout.world_size, trained.train_and_count, Case(config, layout, precision), MUON
    )
    losses = training.assemble([answer[:2] for answer in answers]).losses
    assert losses == pytest.approx(one_rank.losses, rel=2e-2)


def test_a_trace_of_cuda_counts_what_is_planned(ranks: RankPool) -> None:
    asked = [(replace(tiny_run(Case(*case)), optimizer=MUON), case[1], 0) for case in ON_CUDA]
    for case, trace in zip(ON_CUDA, trace_all(ranks, asked, DeviceName.cuda), strict=True):
        assert planned(*case, 0, DeviceName.cuda) == trace.traffic, case


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        (MEGATRON, Layout(tensor=2, data=2, micro_batch=2, zero=1, sequence_parallel=True)),
        (DEEPSPEED, Layout(tensor=2, data=2, micro_batch=2, zero=2)),
    ],
    ids=case_name,
)
def test_grouped_heads_and_the_halves_of_a_gated_mlp_are_matrices_of_their_own(
    ranks: RankPool, config: EngineConfig, layout: Layout
) -> None:
    alone = Case(MEGATRON, Layout(micro_batch=8), Precision.float32, families.QWEN3)
    split = Case(config, layout, Precision.float32, families.QWEN3)
    curves = [
        training.assemble(
            [
                answer[:2]
                for answer in ranks.run(case.layout.world_size, trained.train_and_count, case, MUON)
            ]
        )
        for case in (alone, split)
    ]
    assert_same(curves[1], curves[0])


def test_which_rows_are_halves() -> None:
    whole = torch.arange(12.0)[:, None]
    gate, linear = blocks_of(whole, ranks=2, blocks=2)  # ranks hold 3 rows of each half
    assert gate.flatten().tolist() == [0, 1, 2, 6, 7, 8]
    assert linear.flatten().tolist() == [3, 4, 5, 9, 10, 11]


def go_on(
    ranks: RankPool,
    folder: Path,
    config: EngineConfig,
    layout: Layout,
    steps: tuple[int, int],
    optimizer: OptimizerConfig = MUON,
) -> Curve:
    job = (layout, *steps, str(folder), steps[0] > 1, config, Precision.float32, SHAPE, optimizer)
    return training.assemble(ranks.run(layout.world_size, training.train_and_save, *job))


def test_a_checkpoint_goes_on_under_any_layout_and_engine(
    ranks: RankPool, one_rank: Curve, tmp_path: Path
) -> None:
    go_on(ranks, tmp_path, MEGATRON, Layout(tensor=2, pipeline=2, micro_batch=2), (1, 2))
    go_on(ranks, tmp_path, DEEPSPEED, Layout(pipeline=4, micro_batch=2), (3, 4))
    go_on(ranks, tmp_path, DEEPSPEED, Layout(data=2, micro_batch=2, zero=3), (5, 6))
    last = go_on(ranks, tmp_path, MEGATRON, Layout(data=2, micro_batch=4, zero=1), (7, 8))
    assert_same(Curve(one_rank.losses, one_rank.grad_norms, last.weights), one_rank)
    assert last.losses == pytest.approx(one_rank.losses[6:], rel=1e-5)
    saved = manifest.find(tmp_path)
    assert manifest.TrainState.read(saved).adam_step == 8
    second = {key for key in read_tensors(saved) if key.startswith("exp_avg_sq.")}
    assert second  # of what AdamW trains
    assert not [key for key in second if "linear" in key and key.endswith("weight")]


def test_adam_takes_over_and_gives_back(ranks: RankPool, tmp_path: Path) -> None:
    layout = Layout(micro_batch=4)
    losses = go_on(ranks, tmp_path, MEGATRON, layout, (1, 2)).losses
    losses += go_on(ranks, tmp_path, DEEPSPEED, layout, (3, 4), ADAM).losses
    losses += go_on(ranks, tmp_path, MEGATRON, layout, (5, 6)).losses
    assert max(losses) < losses[0] + 0.2


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(24, 24), (96, 24), (24, 96)], ids=str)
def test_an_orthogonal_matrix_is_nearly_that_of_the_decomposition(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    made = orthogonal(matrix, 5)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    # In the bases of the decomposition it is diagonal, with values near 1.
    inner = left.T @ made @ right.T
    values = inner.diagonal()
    assert (inner - values.diag()).abs().max() < 1e-4
    assert values.min() > 0.5
    assert values.max() < 1.25


class Alone:
    """A process group of one rank."""

    def size(self) -> int:
        return 1

    def rank(self) -> int:
        return 0


@pytest.mark.parametrize("scale", MuonScale)
@pytest.mark.parametrize("shape", [(24, 24), (96, 24), (24, 96)], ids=str)
def test_a_plain_matrix_is_updated_as_by_torch(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], scale: MuonScale
) -> None:
    from megatron.core import parallel_state

    from parallel.engines.base import ParameterPart
    from parallel.engines.muon import Muon
    from parallel.engines.named_parameters import NamedParameter
    from parallel.engines.optimizer_state import WholeState

    for group in ("data_parallel", "tensor_model_parallel"):
        monkeypatch.setattr(parallel_state, f"get_{group}_group", lambda **_: Alone())
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)  # torch's has no other precision
    ours, theirs = (torch.nn.Parameter(random(*shape)) for _ in range(2))
    at = ParameterPart(
        name="decoder.layers.3.mlp.linear_fc1.weight",
        shape=ours.shape,
        part=Part(),
        whole=ours.shape,
    )
    settings = replace(MUON, muon_scale=scale)
    groups = [{"params": [ours], "lr": 0.1, "muon": True}]
    muon = Muon(groups, settings, Precision.float32, DeviceName.cpu)
    muon.tell([NamedParameter(ours, at, False)], WholeState(muon, {}, Alone()), SHAPE)
    plain = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn=scale.value)
    for step in range(3):
        ours.grad = random(*shape) + step
        theirs.grad = ours.grad.clone()
        muon.step()
        plain.step()  # type: ignore[no-untyped-call]
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_queries_keys_and_values_are_found_by_group() -> None:
    heads, groups, width, columns = 6, 2, 4, 10
    q, k, v = random(heads * width, columns), random(8, columns), random(8, columns) + 1
    rows = [
        part[group * part.shape[0] // groups : (group + 1) * part.shape[0] // groups]
        for group in range(groups)
        for part in (q, k, v)
    ]
    views = queries_keys_values(torch.cat(rows), heads, groups, width)
    for view, part in zip(views, (q, k, v), strict=True):
        assert torch.equal(view.flatten(0, -2), part)
    update = update_of(
        torch.cat(rows),
        lambda whole: queries_keys_values(whole, heads, groups, width),
        steps=5,
        scale=MuonScale.original,
        dtype=torch.float32,
    )
    made = queries_keys_values(update, heads, groups, width)[2].flatten(0, -2)
    assert torch.allclose(made, orthogonal(v, 5), atol=1e-6)
