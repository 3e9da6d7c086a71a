"""Peak dense matmul rates of known GPUs, for model FLOPs utilisation (MFU).

The figures are those of configs/cluster. For any other GPU set cluster.peak_tflops, or the MFU is
not shown.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import yaml

from configs.schema import Precision


@cache
def _peaks() -> dict[str, dict[str, float]]:
    """TFLOP/s without sparsity by precision, of each GPU by the first word of its name."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted(files("configs").joinpath("cluster").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            cluster = yaml.safe_load(path.read_text(encoding="utf-8"))
            name = (cluster.get("gpu") or "").split("-")[0]
            if any(letter.isdigit() for letter in name):  # "RTX" alone is ambiguous
                found.setdefault(name, cluster["peak_tflops"])
    return found


def peak_tflops(device_name: str, precision: Precision) -> float | None:
    """The peak of one device by the name its driver gives it; None where it is not known."""
    # Word by word: an H200 is no H20, and a GB200 no B200.
    for word in re.split(r"[-_\s]+", device_name):
        if word in _peaks():
            return _peaks()[word].get(precision)
    return None
