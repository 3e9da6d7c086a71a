"""`phalanx prepare`: text, JSONL or WARC/WET to token files, with a summary of what was kept."""

from __future__ import annotations

from itertools import islice

from rich import box
from rich.console import Console
from rich.table import Table

from configs.schema import Run
from corpus.prepare.prepare import prepare as prepare_corpus
from corpus.store.prepared import Prepared
from launcher.command_line.compose import hydra_app
from launcher.console.progress_bar import progress_bar
from launcher.console.tables import print_table
from launcher.run.corpus import human, mixture_table, notes, orders_to_make, shares_of
from launcher.run.run_dir import begun
from parallel.rules import check_ranges

SHOWN = 5  # damaged records; the file that `notes` names lists all of them


def prepare(run: Run, overrides: list[str]) -> None:
    """Prepares the corpus and the orders of its epochs; prints statistics of the text."""
    run = begun(run, overrides)
    check_ranges(run, ("corpus", "contamination", "model"))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with progress_bar(console) as on_progress:
        prepared = prepare_corpus(run.corpus, run.model, run.contamination, on_progress)
        on_progress("making the orders of epochs", 0, 0)
        _make_orders(run, prepared)
    print_table(console, source_table(prepared))
    _show_damage(prepared, console)
    print_table(console, mixture_table(run, prepared))
    for line in notes(run, prepared):
        console.print(line)
    console.print(f"prepared: {prepared.folder}")


def source_table(prepared: Prepared) -> Table:
    """Document counts of each source: kept and removed."""
    columns = {
        "blank": "blank",
        "damaged": "damaged",
        "low_quality": "low quality",
        "duplicates": "near copies",
        "cut": "cut",
        "cut_away": "cut away",
    }
    shown = [name for name in columns if any(getattr(each, name) for each in prepared.sources)]
    table = Table(title="documents", box=box.SIMPLE_HEAD)
    table.add_column("source")
    for heading in [*(columns[name] for name in shown), "kept", "text", "tokens", "held out"]:
        table.add_column(heading, justify="right")
    for source in prepared.sources:
        table.add_row(
            source.name,
            *(f"{getattr(source, name):,}" for name in shown),
            f"{source.documents:,}",
            f"{human(source.bytes)}B",
            human(source.tokens),
            human(source.validation_tokens),
        )
    return table


def _show_damage(prepared: Prepared, console: Console) -> None:
    with prepared.damaged.open(encoding="utf-8") as lines:
        for line in islice(lines, SHOWN):
            console.print(f"skipped: {line.rstrip()}")


def _make_orders(run: Run, prepared: Prepared) -> None:
    missing = orders_to_make(run, prepared)
    if not missing:
        return
    from corpus.dataset.mixture import Mixture

    mixture = Mixture(
        prepared, "train", shares_of(run), context=run.model.context, seed=run.train.seed
    )
    for name, epoch in missing:
        mixture.sources[mixture.names.index(name)].epoch(epoch)


app = hydra_app(prepare)
