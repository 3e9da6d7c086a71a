"""The two expected kinds of failure, each reported to the user in one line."""

from __future__ import annotations

STOPPED = 75
"""Exit status of a run that was stopped and has saved (sysexits' EX_TEMPFAIL)."""


class InputError(ValueError):
    """Invalid input: a setting, a file, a layout. Exit status 2."""


class RunError(RuntimeError):
    """A failure at run time: a full disk, a rank that died. Exit status 1."""
