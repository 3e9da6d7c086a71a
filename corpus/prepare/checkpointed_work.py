"""Resumable work: each finished piece is a file, and is not repeated.

Data shared by all processes is in a file too, as numbers and text only, so that a file written by
others cannot execute code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path

from corpus.contamination.filter import Rules
from corpus.prepare.scan import Filters, UnitScan, scan
from corpus.prepare.workers import Workers
from corpus.sources.units import Unit
from corpus.store.atomic import make_once

FILTERS, RULES = "filters.npz", "rules.json"

Progress = Callable[[str, int, int], None]
"""Called with the current phase, bytes done and bytes in total (0 of 0: unknown)."""


class Meter:
    """Progress of phases that each process all units."""

    def __init__(self, units: Sequence[Unit], progress: Progress) -> None:
        self._progress = progress
        self._bytes = sum(unit.bytes for unit in units)
        self._phase, self._counted, self._offset = "", 0, 0

    def say(self, what: str) -> None:
        """Reports work of unknown length."""
        self._progress(what, 0, 0)

    def begin(self, phase: str, left: Sequence[Unit]) -> None:
        """Starts a phase in which these units are left to do."""
        self._phase = phase
        self._offset = self._bytes - sum(unit.bytes for unit in left) - self._counted
        self.on_progress(self._counted)

    def on_progress(self, counted: int) -> None:
        """Reports bytes done over all phases, relative to what was left to do in each."""
        self._counted = counted
        self._progress(self._phase, counted + self._offset, self._bytes)


def survey_all(
    work: Path, units: Sequence[Unit], filters: Callable[[], Filters], pool: Workers, meter: Meter
) -> list[UnitScan]:
    """The scans of all units; `filters` is called once, however often the work is resumed."""
    if not (work / FILTERS).exists():
        filters().save(work / FILTERS)
    left = [unit for unit in units if not _survey_file(work, unit).exists()]
    meter.begin("reading", left)
    for _ in pool.map(partial(_survey_unit, work), left):
        pass
    return [UnitScan.load(_survey_file(work, unit)) for unit in units]


def keep_rules(work: Path, rules: Rules | None) -> None:
    """Saves the rules for all processes; `kept_rules` reads them."""
    content = None if rules is None else asdict(rules)
    make_once(work / RULES, lambda: json.dumps(content).encode())


def kept_rules(work: Path) -> Rules | None:
    """Reads what `keep_rules` wrote; None: no decontamination."""
    content = json.loads((work / RULES).read_bytes())
    return None if content is None else Rules(**content)


@lru_cache(maxsize=1)  # once per process
def _filters(path: Path, _modified_ns: int) -> Filters:
    return Filters.load(path)


def _survey_unit(work: Path, unit: Unit) -> None:
    path = work / FILTERS
    filters = _filters(path, path.stat().st_mtime_ns)
    scan(unit, filters).save(_survey_file(work, unit))


def _survey_file(work: Path, unit: Unit) -> Path:
    return work / f"survey2-{unit.number:07}.npz"  # 2: Damage as objects, not as lines
