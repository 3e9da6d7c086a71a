"""Finds the known name that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from configs.words import listed

NEAR = 0.6  # difflib's default cutoff


def by_likeness(name: str, known: Iterable[str]) -> list[str]:
    """All of them, the most similar first."""

    def likeness(other: str) -> float:
        whole = difflib.SequenceMatcher(None, name, other).ratio()
        return max(whole, 0.9 * difflib.SequenceMatcher(None, _end(name), _end(other)).ratio())

    return sorted(known, key=likeness, reverse=True)


def nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """`nearest: ...`, or if none is similar enough, `known: ...`, the most similar first."""
    if not known:
        return "there is none to choose"
    ordered = by_likeness(name, known)
    parts = [each for each in ordered if name and re.search(rf"(^|[_.]){re.escape(name)}$", each)]
    parts = parts or [each for each in ordered if name and each.startswith(f"{name}_")]
    if parts:
        return f"nearest: {prefix}{parts[0]}"
    if difflib.SequenceMatcher(None, name, ordered[0]).ratio() >= NEAR:
        return f"nearest: {prefix}{ordered[0]}"
    return f"known: {listed([prefix + each for each in ordered])}"


def _end(name: str) -> str:
    return name.rpartition(".")[2]
