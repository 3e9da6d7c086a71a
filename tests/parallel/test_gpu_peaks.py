from __future__ import annotations

import pytest

from configs.schema import Precision
from parallel.gpu_peaks import peak_tflops


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", Precision.bf16, 989.4),
        ("NVIDIA A100-SXM4-40GB", Precision.fp16, 312.0),
        ("Tesla V100-SXM2-32GB", Precision.float32, 15.7),
        ("Tesla V100-SXM2-32GB", Precision.bf16, None),
        ("NVIDIA GeForce RTX 4090", Precision.bf16, None),
        ("NVIDIA H200", Precision.bf16, 989.4),
        ("NVIDIA H20", Precision.bf16, 148.0),
        ("NVIDIA GB200", Precision.bf16, 2500.0),
        ("NVIDIA B300 SXM6 AC", Precision.bf16, 2250.0),
        ("AMD Instinct MI300X", Precision.bf16, 1307.4),
        ("cpu", Precision.float32, None),
    ],
)
def test_peaks_by_the_drivers_names(device: str, precision: Precision, peak: float | None) -> None:
    assert peak_tflops(device, precision) == peak
