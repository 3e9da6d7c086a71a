"""`phalanx decontaminate`: text without what overlaps benchmarks, or benchmarks marked."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from configs.schema import ContaminationAction, Run
from corpus.contamination.study import Row, Verdict
from corpus.decontaminate import Filtered, filter_corpus, study_corpus
from launcher.compose import hydra_app
from launcher.progress_bar import progress_bar
from parallel.rules import check_ranges


def decontaminate(run: Run, overrides: list[str]) -> None:
    check_ranges(run, ("corpus", "contamination"))
    settings = run.contamination
    out = Path(settings.out or f"contamination/{run.corpus.name}-{settings.action}").expanduser()
    console = Console(soft_wrap=True, highlight=False)
    with progress_bar(console) as told:
        if settings.action is ContaminationAction.filter:
            table = filter_table(filter_corpus(run.corpus, settings, out, told))
        else:
            table = study_table(study_corpus(run.corpus, settings, out, told))
    console.print(table)
    console.print(f"done: {out}")


def filter_table(filtered: list[Filtered]) -> Table:
    table = Table(title="training text without what overlaps benchmarks", box=box.SIMPLE_HEAD)
    table.add_column("source")
    for heading in ("documents", "damaged", "cut", "nothing left", "characters removed"):
        table.add_column(heading, justify="right")
    for each in filtered:
        counts = (each.documents, each.damaged, each.cut, each.cut_away, each.characters)
        table.add_row(each.name, *(f"{count:,}" for count in counts))
    return table


def study_table(rows: list[Row]) -> Table:
    """As table C.1 of Brown et al. (2020)."""
    table = Table(title="benchmark examples seen in training", box=box.SIMPLE_HEAD)
    table.add_column("benchmark")
    for heading in ("N", "examples", "ignored", "dirty", "clean"):
        table.add_column(heading, justify="right")
    for heading in ("all", "dirty", "clean", "difference"):
        table.add_column(
            heading if heading == "difference" else f"score {heading}", justify="right"
        )
    table.add_column("verdict")
    for row in rows:
        scores = (row.score_all, row.score_dirty, row.score_clean)
        table.add_row(
            row.name,
            str(row.n),
            f"{row.examples:,}",
            f"{row.ignored:,}",
            f"{row.dirty:,} ({row.dirty_share:.1%})",
            f"{row.clean:,} ({row.clean_share:.1%})",
            *("" if score is None else f"{score:.4g}" for score in scores),
            "" if row.difference is None else f"{row.difference:+.1f} %",
            "" if row.verdict is Verdict.unscored else row.verdict,
        )
    return table


app = hydra_app(decontaminate)
