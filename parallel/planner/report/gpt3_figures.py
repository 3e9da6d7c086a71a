"""Published figures of GPT-3's cost, beside what the formulas give. Imports no torch.

Published: table D.1 of Brown et al. 2020 for FLOPs, and the popular overview that assumes one V100
at 28 TFLOPS for $1.50 an hour, and one RTX 8000 at 15 TFLOPS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from configs.settings.network import AttentionPattern
from models.flops import paper_training_flops
from models.shape import ModelShape
from parallel.planner.cost import gpu_years, petaflop_days

TABLE_D1 = {  # PF-days
    "gpt3_125m": 2.60,
    "gpt3_350m": 7.42,
    "gpt3_760m": 15.8,
    "gpt3_1.3b": 27.5,
    "gpt3_2.7b": 55.2,
    "gpt3_6.7b": 139.0,
    "gpt3_13b": 268.0,
    "gpt3_175b": 3640.0,
}
GPT3 = "gpt3_175b"
HOURS_A_YEAR = 8760


@dataclass(frozen=True, slots=True)
class Line:
    """One figure, as published and as computed."""

    what: str
    published: str
    computed: str


def headline() -> list[Line]:
    """The figures of the 175B model."""
    shape, tokens = _published(GPT3)
    flops = paper_training_flops(shape, tokens)
    v100, rtx = _cluster("single_v100"), _cluster("single_rtx8000")
    years = gpu_years(flops, v100["sustained_tflops"])
    dollars = years * HOURS_A_YEAR * v100["dollars_per_hour"]
    weights = 4 * shape.parameters / 1e9
    memory = rtx["memory_gib"]
    return [
        Line("floating-point operations", "3.14E23", f"{flops:.4G}"),
        Line("years on one V100 at 28 TFLOPS", "355", f"{years:.1f}"),
        Line("price at $1.50 an hour", "$4.6M", f"${dollars / 1e6:.2f}M"),
        Line(
            "years on one RTX 8000 at 15 TFLOPS",
            "665",
            f"{gpu_years(flops, rtx['sustained_tflops']):.1f}",
        ),
        Line("FP32 parameters", "700 GB", f"{weights:.1f} GB"),
        Line("memory of the largest GPU of its day", "48 GB", f"{memory:.0f} GB (RTX 8000)"),
    ]


def petaflop_days_of_all() -> list[Line]:
    """Table D.1, size by size."""
    return [
        Line(f"PF-days of {name}", f"{published:g}", f"{petaflop_days(*_published(name)):.3g}")
        for name, published in TABLE_D1.items()
    ]


@cache
def _published(name: str) -> tuple[ModelShape, int]:
    """A model size from its config file, and its training tokens."""
    path = files("configs").joinpath("model", f"{name}.yaml")
    model = yaml.safe_load(path.read_text(encoding="utf-8"))
    shape = ModelShape(
        layers=model["layers"],
        hidden=model["hidden"],
        heads=model["heads"],
        context=model["context"],
        vocab=model["vocab"],
        attention=AttentionPattern(model["attention"]),
        window=model["window"],
    )
    return shape, int(model["recipe"]["tokens"])


@cache
def _cluster(name: str) -> dict[str, float]:
    path = files("configs").joinpath("cluster", f"{name}.yaml")
    cluster: dict[str, float] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return cluster
