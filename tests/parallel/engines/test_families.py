"""Every kind of decoder trains under both engines as on one rank of Megatron."""

from __future__ import annotations

import pytest

from configs.schema import Precision
from parallel.layout import Layout
from parallel.parity import Tolerance, Trace, compare
from tests import training
from tests.parallel.engines.megatron.test_parity import assert_same
from tests.trained import HALF_OF_FAMILIES, OF_FAMILIES, Case, TrainedCases, case_name
from tests.training import MEGATRON


def on_one_rank(case: Case) -> Case:
    return Case(MEGATRON, Layout(micro_batch=training.GLOBAL_BATCH), Precision.float32, case.shape)


@pytest.mark.parametrize("case", OF_FAMILIES, ids=case_name)
def test_trains_as_one_rank_does(cases: TrainedCases, case: Case) -> None:
    one = cases[on_one_rank(case)].curve
    assert one.losses[-1] < one.losses[0] - 0.03, "the model must learn"
    assert_same(cases[case].curve, one)


@pytest.mark.parametrize("case", HALF_OF_FAMILIES, ids=case_name)
def test_half_precision_stays_near_float32(cases: TrainedCases, case: Case) -> None:
    one = cases[on_one_rank(case)].curve
    expected = Trace(losses=one.losses, grad_norms=one.grad_norms)
    comparison = compare(cases[case].curve.trace(), expected, Tolerance.of(case.precision))
    assert comparison.agrees, comparison
