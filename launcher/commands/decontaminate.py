"""`phalanx decontaminate`: removes benchmark overlap from text, or marks benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from configs.schema import Run
from configs.settings.text import ContaminationAction
from configs.words import counted
from corpus.contamination.study import Row, Verdict
from corpus.decontaminate import DAMAGED, Filtered, filter_corpus, study_corpus
from corpus.sources.sources import expanded
from launcher.command_line.compose import hydra_app
from launcher.console.progress_bar import progress_bar
from launcher.console.tables import print_table
from launcher.run.corpus import left_out_notes
from parallel.rules import check_ranges


def decontaminate(run: Run, overrides: list[str]) -> None:
    """Filters the text or studies the benchmarks; writes a folder and prints a table."""
    check_ranges(run, ("corpus", "contamination"))
    settings = run.contamination
    name = Path(run.corpus.text).stem if run.corpus.text else run.corpus.name
    out = expanded("contamination.out", settings.out or f"contamination/{name}-{settings.action}")
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with progress_bar(console) as on_progress:
        if settings.action is ContaminationAction.filter:
            table = filter_table(filter_corpus(run.corpus, settings, out, on_progress))
        else:
            table = study_table(study_corpus(run.corpus, settings, out, on_progress))
    print_table(console, table)
    damaged = out / DAMAGED
    if damaged.exists():
        with damaged.open(encoding="utf-8") as lines:
            skipped = counted(sum(1 for _ in lines), "damaged record", "damaged records")
        console.print(f"skipped  {skipped}; listed in {damaged}")
    for line in left_out_notes(run):
        console.print(line)
    console.print(f"done: {out}")


def filter_table(filtered: list[Filtered]) -> Table:
    """One row per source: its documents, how many were cut, characters removed."""
    table = Table(title="training text without what overlaps benchmarks", box=box.SIMPLE_HEAD)
    table.add_column("source")
    for heading in ("documents", "damaged", "cut", "nothing left", "characters removed"):
        table.add_column(heading, justify="right")
    for each in filtered:
        counts = (each.documents, each.damaged, each.cut, each.cut_away, each.characters)
        table.add_row(each.name, *(f"{count:,}" for count in counts))
    return table


def study_table(rows: list[Row]) -> Table:
    """As in table C.1 of Brown et al. (2020)."""
    table = Table(
        title="benchmark examples seen in training: how many, and scores on them",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("benchmark", no_wrap=True)
    columns = [(heading, values(rows)) for heading, values in _COLUMNS]
    shown = [(heading, values) for heading, values in columns if any(values)]
    for heading, _ in shown:
        table.add_column(heading, justify="left" if heading == "verdict" else "right")
    for number, row in enumerate(rows):
        table.add_row(row.name, *(values[number] for _, values in shown))
    return table


_COLUMNS: tuple[tuple[str, Callable[[list[Row]], list[str]]], ...] = (
    ("N-grams", lambda rows: [str(row.n) for row in rows]),
    ("total", lambda rows: [f"{row.examples:,}" for row in rows]),
    ("short", lambda rows: [f"{row.ignored:,}" if row.ignored else "" for row in rows]),
    ("dirty", lambda rows: [f"{row.dirty:,}" for row in rows]),
    ("clean", lambda rows: [f"{row.clean:,}" for row in rows]),
    ("clean share", lambda rows: [f"{row.clean_share:.0%}" for row in rows]),
    ("score", lambda rows: [_number(row.score_all) for row in rows]),
    ("score, dirty", lambda rows: [_number(row.score_dirty) for row in rows]),
    ("score, clean", lambda rows: [_number(row.score_clean) for row in rows]),
    (
        "change",
        lambda rows: ["" if row.difference is None else f"{row.difference:+.1f}%" for row in rows],
    ),
    (
        "verdict",
        lambda rows: ["" if row.verdict is Verdict.unscored else row.verdict for row in rows],
    ),
)
"""Counts, then scores; a column without values is not shown."""


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4g}"


app = hydra_app(decontaminate)
