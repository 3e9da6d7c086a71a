"""Peak dense matmul rates of known GPUs, for the share of the peak that a run reaches (MFU).

TFLOP/s without sparsity, from NVIDIA's datasheets: V100 (2020), A100 (2021), H100 SXM and H200
(2023, 2024), Quadro RTX 8000 (2018), B200 (2024). float32 is without TF32.
"""

from __future__ import annotations

from configs.schema import Precision

_PEAKS = {
    "V100": {Precision.float32: 15.7, Precision.fp16: 125.0},
    "A100": {Precision.float32: 19.5, Precision.bf16: 312.0, Precision.fp16: 312.0},
    "H100": {Precision.float32: 67.0, Precision.bf16: 989.4, Precision.fp16: 989.4},
    "H200": {Precision.float32: 67.0, Precision.bf16: 989.4, Precision.fp16: 989.4},
    "RTX 8000": {Precision.float32: 16.3, Precision.fp16: 130.5},
    "B200": {Precision.float32: 80.0, Precision.bf16: 2250.0, Precision.fp16: 2250.0},
}


def peak_tflops(device_name: str, precision: Precision) -> float | None:
    """The peak of one device by the name its driver gives it; None where it is not known."""
    for name, peaks in _PEAKS.items():
        if name in device_name:
            return peaks.get(precision)
    return None
