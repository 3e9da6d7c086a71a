"""The requested evaluation tasks, with their data. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

from configs.errors import InputError
from configs.schema import Run
from configs.settings.text import MachineText
from configs.words import listed
from corpus.prepare.inventory import cache_root
from corpus.sources.sources import expanded
from evals.generated import scrambled_words
from evals.tasks import Task, read_task, require_shots

_WORD = re.compile(r"[a-z]+")
_TEXTS = (MachineText.manual, MachineText.docstrings, MachineText.packages)


def tasks_of(run: Run) -> list[Task]:
    """Raises InputError for a task that is not defined, or has no data."""
    settings = run.evaluate
    require_shots(settings.shots)
    names = list(run.tasks) if settings.tasks is None else settings.tasks
    for name in names:
        if name not in run.tasks:
            raise InputError(
                f"evaluate.tasks={name}: is not defined; known: {listed(run.tasks)}; "
                "task=FILE of configs/task defines others"
            )

    @cache
    def words() -> list[str]:
        if settings.words is not None:
            return _words_of_file(settings.words)
        return scrambled_words(_counted(run))

    return [read_task(name, run.tasks[name], settings, words) for name in names]


def _words_of_file(path: str) -> list[str]:
    """WORD or WORD COUNT per line, as in Norvig's list; the most frequent first."""
    try:
        lines = expanded("evaluate.words", path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"evaluate.words={path}: {error}") from None
    counts: dict[str, int] = {}
    for number, line in enumerate(lines):
        word, *count = line.split()[:2] or [""]
        counts[word.lower()] = int(count[0]) if count and count[0].isdecimal() else -number
    words = scrambled_words(counts)
    if not words:
        raise InputError(f"evaluate.words={path}: has no words of 5 to 14 letters")
    return words


def _counted(run: Run) -> Counter[str]:
    """Word counts of the English text that comes with every installation."""
    from corpus.machine import machine_file
    from corpus.sources.jsonl import json_rows

    counts: Counter[str] = Counter()
    for kind in _TEXTS:
        path = machine_file(kind, cache_root(run.corpus) / "texts", 1_000_000, lambda _: None)
        for _, row in json_rows(Path(path), "evaluate.words"):
            counts.update(_WORD.findall(row["text"].lower()))
    return counts
