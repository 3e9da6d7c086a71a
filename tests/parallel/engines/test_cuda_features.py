"""Each feature of CUDA is on by default where it is right, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import DeviceName, EngineName, Precision
from configs.settings.cuda import CudaConfig
from parallel.engines import cuda_features as module
from parallel.engines.cuda_features import CudaFeatures, cuda_features
from parallel.layout import Layout

MEGATRON, DEEPSPEED = EngineName.megatron, EngineName.deepspeed
OFF = CudaFeatures(
    cross_entropy_fusion=False,
    gradient_accumulation_fusion=False,
    average_in_collective=False,
    align_param_gather=False,
    bucket_size=None,
    bf16_gradients=False,
    tensor_overlap=False,
    graphs=False,
)
ONE, TWO = Layout(), Layout(data=2)
INTERLEAVED = Layout(pipeline=2, interleave=2, data=2, zero=1)


@pytest.mark.parametrize(
    ("layout", "engine", "precision", "on"),
    [
        (ONE, MEGATRON, Precision.float32, set()),
        (ONE, MEGATRON, Precision.fp16, set()),
        (ONE, MEGATRON, Precision.bf16, {"cross_entropy_fusion"}),
        (ONE, MEGATRON, Precision.fp8, {"cross_entropy_fusion"}),
        (TWO, MEGATRON, Precision.float32, {"average_in_collective"}),
        (INTERLEAVED, MEGATRON, Precision.fp16, {"average_in_collective", "align_param_gather"}),
        (replace(INTERLEAVED, zero=0), MEGATRON, Precision.fp16, {"average_in_collective"}),
        (TWO, DEEPSPEED, Precision.bf16, {"cross_entropy_fusion"}),
    ],
)
def test_defaults_on_cuda(
    layout: Layout, engine: EngineName, precision: Precision, on: set[str]
) -> None:
    found = cuda_features(CudaConfig(), layout, engine, precision, DeviceName.cuda)
    assert found == replace(OFF, **dict.fromkeys(on, True))


def test_gradients_are_added_up_in_matmuls_where_apex_has_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "has_accumulation_kernel", lambda: True)
    given = (CudaConfig(), ONE, MEGATRON, Precision.bf16)
    assert cuda_features(*given, DeviceName.cuda).gradient_accumulation_fusion
    assert not cuda_features(*given, DeviceName.cpu).gradient_accumulation_fusion


def test_a_cpu_has_none_of_them() -> None:
    for precision in Precision:
        found = cuda_features(CudaConfig(), INTERLEAVED, MEGATRON, precision, DeviceName.cpu)
        assert found == OFF


def test_a_value_that_was_given_wins() -> None:
    chosen = CudaConfig(cross_entropy_fusion=False, average_in_collective=False)
    found = cuda_features(chosen, TWO, MEGATRON, Precision.bf16, DeviceName.cuda)
    assert found == OFF


def test_a_kernel_that_is_required_and_missing_is_named() -> None:
    from configs.errors import InputError
    from parallel.engines.megatron.config import _require_kernels

    _require_kernels(OFF)
    with pytest.raises(InputError, match="Apex's fused_weight_gradient_mlp_cuda is not installed"):
        _require_kernels(replace(OFF, gradient_accumulation_fusion=True))
