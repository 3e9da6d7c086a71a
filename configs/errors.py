"""The two ways a run ends badly that are not a bug: each is told to the user in one line."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used: a setting, a file, a layout. Exit status 2."""


class RunError(RuntimeError):
    """What was asked for failed while running: a full disk, a rank that died. Exit status 1."""
