"""A line of `phalanx doctor`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, what was found, and what that means for a run."""

    what: str
    found: str
    means: str = ""
    good: bool | None = True  # None: neither good nor bad


def output_of(*command: str) -> str:
    """The output of a program; empty if it is missing or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
