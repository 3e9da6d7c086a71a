"""Peak dense matmul rates of known GPUs, for the share of the peak that a run reaches (MFU).

TFLOP/s without sparsity, of the SXM parts; float32 is without TF32. Only GPUs whose published
figures are settled are here; for any other, cluster.peak_tflops says it, or the MFU stays blank.
"""

from __future__ import annotations

from configs.schema import Precision

_PEAKS = {
    "V100": {Precision.float32: 15.7, Precision.fp16: 125.0},
    "A100": {Precision.float32: 19.5, Precision.bf16: 312.0, Precision.fp16: 312.0},
    "H100": {Precision.float32: 67.0, Precision.bf16: 989.4, Precision.fp16: 989.4},
    "H200": {Precision.float32: 67.0, Precision.bf16: 989.4, Precision.fp16: 989.4},
}


def peak_tflops(device_name: str, precision: Precision) -> float | None:
    """The peak of one device by the name its driver gives it; None where it is not known."""
    for name, peaks in _PEAKS.items():
        if name in device_name:
            return peaks.get(precision)
    return None
