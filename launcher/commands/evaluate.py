"""`phalanx evaluate`: a model's scores on tasks, zero-shot, one-shot and few-shot.

`run_dir=DIR` uses the run's newest checkpoint and its layout; `checkpoint=DIR` any checkpoint, or
a folder in Hugging Face's GPT-2 format. `task=[arithmetic,reading]` selects the tasks.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from configs.atomic import atomic_folder, is_taken
from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.settings.asking import Scoring
from configs.settings.text import BenchmarkConfig, ContaminationAction
from corpus.decontaminate import study_corpus
from corpus.sources.sources import expanded
from evals.results import HARNESS_RESULTS, RESULTS, score_text
from launcher.command_line.compose import hydra_app
from launcher.commands.decontaminate import study_table
from launcher.console.progress_bar import progress_bar
from launcher.console.run_tables import shown
from launcher.console.tables import print_table
from launcher.inference.session import ModelSource, resolve_inference, run_inference, source_of
from launcher.inference.tasks import tasks_of

STUDY = "contamination"


def evaluate(run: Run, overrides: list[str]) -> None:
    """Checks the settings, has the ranks run the tasks, writes and prints the scores."""
    source = source_of(run, "evaluate")
    plan = resolve_inference(run, source, "evaluate", data=True, given=overrides)
    if run.evaluate.harness:
        if importlib.util.find_spec("lm_eval") is None:
            raise InputError("evaluate.harness: needs pip install 'phalanx[lm-eval]'")
    else:
        tasks_of(plan.run)
    out, next_name = _out(run, source)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    into = atomic_folder("evaluate.out", out, next_name)
    with _told_if_interrupted(console), run_inference(plan, "evaluate") as found, into as filling:
        folder = filling.folder
        for path in sorted(found.glob("*.json*")):
            shutil.copyfile(path, folder / path.name)
        shutil.copyfile(found / "config.yaml", folder / "config.yaml")
        if run.evaluate.harness:
            found_there = json.loads((folder / HARNESS_RESULTS).read_text("utf-8"))
            print_table(console, harness_table(found_there))
        else:
            rows = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
            print_table(console, results_table(rows))
            if run.evaluate.contamination:
                _study(plan.run, rows, folder, console)
    console.print(f"done: {shown(filling.target)}")


@contextmanager
def _told_if_interrupted(console: Console) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print("no score was kept; evaluate.limit=100 asks at most 100 questions a task")
        raise


def _out(run: Run, source: ModelSource) -> tuple[Path, Callable[[Path], Path] | None]:
    """The results folder, and how to rename it if that name is taken. Raises InputError if a name
    was given and is taken.
    """
    given = run.evaluate.out
    if given is not None:
        out = expanded("evaluate.out", given).resolve()
        if is_taken(out):
            raise InputError(f"{override('evaluate.out', given)}: is there already; give another")
        return out, None
    of_run = source.folder is None and source.path.parent.name == "checkpoints"
    parent = source.path.parent.parent if of_run else Path.cwd()
    first = parent / "evaluations" / source.path.name

    def next_name(taken: Path) -> Path:
        number = int(taken.name.removeprefix(f"{first.name}-")) if taken != first else 1
        return first.with_name(f"{first.name}-{number + 1}")

    return first, next_name


def results_table(rows: list[dict[str, Any]]) -> Table:
    """One row per task, one column per number of examples; scores in percent, or BLEU."""
    asked = list(dict.fromkeys(row["asked"] for row in rows))
    title = "scores in percent (BLEU of translations) ± their standard errors"
    if "few" in asked:
        title += "; K: the examples shown"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    table.add_column("questions", justify="right")
    for each in asked:
        table.add_column(_HEADINGS.get(each, f"{each} shown"), justify="right")
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = {row["asked"]: row for row in rows if row["task"] == task}
        count = next((f"{row['count']:,}" for row in of_task.values() if "count" in row), "")
        table.add_row(task, count, *(_cell(of_task[each]) for each in asked))
    return table


def harness_table(found: dict[str, Any]) -> Table:
    """The harness's own metrics, with their standard errors."""
    table = Table(title="lm-evaluation-harness", box=box.SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    for heading in ("shown", "metric", "value", "standard error"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for results in found.values():
        for task, values in results["results"].items():
            for key, value in values.items():
                metric, _, way = key.partition(",")
                if not isinstance(value, float) or metric.endswith("_stderr"):
                    continue
                error = values.get(f"{metric}_stderr,{way}")
                shots = results.get("n-shot", {}).get(task, "")
                said = f"{error:.4f}" if isinstance(error, float) else ""
                table.add_row(task, str(shots), metric, f"{value:.4f}", said)
    return table


_HEADINGS = {"0": "zero-shot", "1": "one-shot", "few": "few-shot"}


def _cell(row: dict[str, Any]) -> str:
    if "value" not in row:
        return "to be read"
    said = score_text(row["value"], row["error"])
    if row["perplexity"] is not None:
        said += f", perplexity {row['perplexity']:.2f}"
    return f"{said} (K = {row['shots']})" if row["asked"] == "few" else said


def _study(run: Run, rows: list[dict[str, Any]], folder: Path, console: Console) -> None:
    """Each score on all questions, on those not in the corpus, and on those in it."""
    benchmarks = {}
    for row in rows:
        name = f"{row['task']}-{row['asked']}"
        path = str(folder / f"{name}.jsonl")
        benchmarks[name] = BenchmarkConfig(
            path=path,
            fields=["question", "right"],
            scores=path if run.tasks[row["task"]].scoring in _SCORED else None,
            synthetic=run.tasks[row["task"]].synthetic,
        )
    settings = replace(run.contamination, benchmarks=benchmarks, action=ContaminationAction.study)
    with progress_bar(console) as on_progress:
        found = study_corpus(run.corpus, settings, folder / STUDY, on_progress)
    print_table(console, study_table(found))


_SCORED = (Scoring.match, Scoring.loose_match, Scoring.cloze, Scoring.choice)


app = hydra_app(evaluate)
