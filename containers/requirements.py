"""Prints what pip has to add to NVIDIA's image: what Phalanx and DeepSpeed ask for, less the rest.

The rest is torch, which the image has, and the two engines, which install.sh has installed by then.
Megatron-core asks for nothing beside torch, NumPy and packaging.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

THERE = {"torch", "megatron-core", "deepspeed"}


def added() -> list[str]:
    """The requirements, as pip reads them."""
    project = Path(__file__).parent.parent / "pyproject.toml"
    ours = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    theirs = [
        requirement
        for requirement in importlib.metadata.requires("deepspeed") or []
        if "extra ==" not in requirement
    ]
    return [each for each in (*ours, *theirs) if re.split(r"[^\w.-]", each)[0] not in THERE]


if __name__ == "__main__":
    print("\n".join(added()))
