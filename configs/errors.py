"""The two ways a run ends badly that are not a bug: each is told to the user in one line."""

from __future__ import annotations

STOPPED = 75
"""Exit status of a run that was told to stop and has saved (sysexits' EX_TEMPFAIL)."""


class InputError(ValueError):
    """What the user gave cannot be used: a setting, a file, a layout. Exit status 2."""


class RunError(RuntimeError):
    """What was asked for failed while running: a full disk, a rank that died. Exit status 1."""
