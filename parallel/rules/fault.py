"""What a rule finds, and what is reported to the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from configs.override import override
from parallel.rules.case import Case

Change = Mapping[str, object]
"""Overrides that belong together: setting -> value."""

Fix = Sequence[Change]
"""Changes of one kind, nearest first; the first that helps is suggested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A broken rule: the setting, the reason, and fixes in order of preference."""

    setting: str
    why: str
    source: str  # where the rule comes from
    fixes: tuple[Fix, ...] = ()


Rule = Callable[[Case], Iterator[Fault]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A fault as reported to the user."""

    setting: str
    value: object
    why: str
    nearest: tuple[str, ...]  # overrides to paste, each sufficient by itself
    source: str

    def __str__(self) -> str:
        line = f"{override(self.setting, self.value)}: {self.why}"
        return f"{line}; nearest: {' or '.join(self.nearest)}" if self.nearest else line
