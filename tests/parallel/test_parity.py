"""The comparison of two runs: what it calls the same, and what it names first."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from configs.schema import Precision
from parallel.parity import Tolerance, Trace, compare

FLOAT32 = Tolerance.of(Precision.float32)
NAMES = [
    "decoder.final_layernorm.weight",
    "decoder.layers.0.mlp.linear_fc1.weight",
    "decoder.layers.10.self_attention.linear_qkv.weight",
    "decoder.layers.2.self_attention.linear_qkv.weight",
    "embedding.word_embeddings.weight",
]


def tensors(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        f"{kind}.{name}": torch.randn(8, 4, generator=generator)
        for name in NAMES
        for kind in ("master", "exp_avg", "exp_avg_sq")
    }


def trace(steps: int = 3) -> Trace:
    return Trace(
        losses=[5.0 - step for step in range(steps)],
        grad_norms=[2.0] * steps,
        tensors={step: tensors(step) for step in range(steps)},
    )


def spoiled(step: int, *keys: str, by: float = 0.01) -> Trace:
    run = trace()
    kept = {number: dict(found) for number, found in run.tensors.items()}
    for key in keys:
        kept[step][key] = kept[step][key] * (1 + by)
    return replace(run, tensors=kept)


def tensors_of(run: Trace) -> dict[str, Tensor]:
    """Those after the first step, to be spoiled."""
    kept = run.tensors[0]
    assert isinstance(kept, dict)
    return kept


def test_a_run_agrees_with_itself() -> None:
    comparison = compare(trace(), trace(), FLOAT32)
    assert comparison.agrees
    assert comparison.largest is not None
    assert comparison.largest.difference == 0


def test_the_first_step_is_held_closer_than_the_others() -> None:
    near = 1 + 1e-5
    first = replace(trace(), losses=[5.0 * near, 4.0, 3.0])
    assert [s.agrees for s in compare(first, trace(), FLOAT32).steps] == [False, True, True]
    later = replace(trace(), losses=[5.0, 4.0 * near, 3.0])
    assert compare(later, trace(), FLOAT32).agrees


def test_a_gradient_norm_alone_gives_it_away() -> None:
    comparison = compare(replace(trace(), grad_norms=[2.0, 2.001, 2.0]), trace(), FLOAT32)
    assert not comparison.agrees
    assert [s.grad_norm > 1e-4 for s in comparison.steps] == [False, True, False]


def test_gradients_come_before_weights_and_layers_in_their_order() -> None:
    weight, tenth, second = (
        f"master.{NAMES[4]}",
        f"exp_avg.{NAMES[2]}",
        f"exp_avg.{NAMES[3]}",
    )
    first = compare(spoiled(1, weight, tenth, second), trace(), FLOAT32).first
    assert first is not None
    assert (first.step, first.kind, first.name) == (1, "exp_avg", NAMES[3])
    assert first.difference == pytest.approx(0.01, rel=1e-3)
    first = compare(spoiled(1, weight, tenth), trace(), FLOAT32).first
    assert first is not None
    assert first.name == NAMES[2]


def test_an_earlier_step_comes_before_a_later_one() -> None:
    run = spoiled(2, f"exp_avg.{NAMES[4]}")
    kept = {**run.tensors, 1: spoiled(1, f"master.{NAMES[0]}").tensors[1]}
    first = compare(replace(run, tensors=kept), trace(), FLOAT32).first
    assert first is not None
    assert (first.step, first.kind, first.name) == (1, "master", NAMES[0])
    assert str(first).startswith(f"weight of {NAMES[0]} after step 2: relative difference 1.0e-02")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_differs(value: float) -> None:
    run = spoiled(0)
    tensors_of(run)[f"master.{NAMES[1]}"][0, 0] = value
    assert not compare(run, trace(), FLOAT32).agrees
    lost = replace(trace(), losses=[value, 4.0, 3.0])
    assert not compare(lost, trace(), FLOAT32).agrees


def test_missing_and_misshapen_tensors_differ() -> None:
    run = spoiled(0)
    del tensors_of(run)[f"exp_avg.{NAMES[4]}"]
    first = compare(run, trace(), FLOAT32).first
    assert "only one of the runs has it" in str(first)
    run = spoiled(0)
    key = f"exp_avg.{NAMES[4]}"
    tensors_of(run)[key] = run.tensors[0][key][:4]
    assert "of shape (4, 4) and (8, 4)" in str(compare(run, trace(), FLOAT32).first)


def test_half_precisions_are_given_more_room() -> None:
    order = [Tolerance.of(p) for p in (Precision.float32, Precision.fp16, Precision.bf16)]
    assert [t.tensors for t in order] == sorted(t.tensors for t in order)
    assert order[0].steps < order[1].steps
