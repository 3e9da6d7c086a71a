"""The versions of what computes a run: a resume under others may round otherwise, and says so."""

from __future__ import annotations

import importlib.metadata
import json

_PACKAGES = ("phalanx", "torch", "megatron-core", "deepspeed", "numpy")


def installed() -> dict[str, str]:
    """By package; those that are not here are missing."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def changed(kept: str) -> str:
    """A line about versions other than those `kept` as JSON; empty where all are the same."""
    try:
        before = json.loads(kept)
    except ValueError:
        return ""
    if not isinstance(before, dict):
        return ""
    now = installed()
    other = [
        f"{name} {version} -> {now.get(name, 'none')}"
        for name, version in before.items()
        if name in _PACKAGES and version != now.get(name)
    ]
    return f"versions {', '.join(other)}: sums may round otherwise" if other else ""
