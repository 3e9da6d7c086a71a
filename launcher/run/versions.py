"""Package versions of a run; resuming with others may round differently, which is reported."""

from __future__ import annotations

import importlib.metadata
import json

_PACKAGES = ("phalanx", "torch", "megatron-core", "deepspeed", "numpy")


def installed() -> dict[str, str]:
    """Version by package, without packages that are not installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def changed(kept: str) -> str:
    """A line about versions that differ from those `kept` as JSON; empty if all are the same."""
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
