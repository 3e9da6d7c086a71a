"""The rules for many layouts of one run: the same verdicts, each reached once.

A search asks the same few dozen rules of a hundred thousand layouts, and each depends on few of a
layout's sizes. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from configs.schema import Run
from parallel.layout import Layout
from parallel.remembered import Remembered, noted_config
from parallel.rules import RULES
from parallel.rules.case import Case
from parallel.rules.fault import Rule
from parallel.rules.settings import every_setting_is_in_range


class Verdicts:
    """Whether layouts are allowed, of one run on one number of ranks.

    Layouts have as many ranks, and sizes that are in range, which is not asked for each.
    """

    def __init__(self, run: Run, *, ranks: int, device: str) -> None:
        self._run, self._ranks, self._device = run, ranks, device
        self._in_range: bool | None = None
        self._open = [
            Remembered(partial(self._holds, rule))
            for rule in RULES
            if rule is not every_setting_is_in_range
        ]

    def allow(self, layout: Layout) -> bool:
        """Whether no rule is broken."""
        return bool(self.allowed([layout]))

    def allowed(self, layouts: Sequence[Layout], differ_in: Collection[str] = ()) -> list[Layout]:
        """Those that break no rule, of layouts that differ in these fields alone."""
        first = layouts[0]
        assert first.world_size == self._ranks, first
        if self._in_range is None:
            self._in_range = self._holds(every_setting_is_in_range, first)
        if not self._in_range:
            return []
        deciding = []
        for verdict in self._open:
            if differ_in and verdict.asks(first, differ_in):
                deciding.append(verdict)
            elif not verdict(first):
                return []
            elif verdict.constant:  # whatever the layout
                self._open = [each for each in self._open if each is not verdict]
        return [layout for layout in layouts if all(verdict(layout) for verdict in deciding)]

    def _holds(self, rule: Rule, layout: Layout) -> bool:
        """As `Case.of` has it; `layout` notes what is read of it, if it does."""
        given = self._run.layout.data is not None
        if type(layout) is Layout:
            config = layout.as_config() if given else replace(layout.as_config(), data=None)
        else:
            config = noted_config(layout, derived=not given)
        case = Case(replace(self._run, layout=config), self._ranks, self._device)
        case.__dict__["layout"] = layout  # which it would derive
        return not any(True for _ in rule(case))
