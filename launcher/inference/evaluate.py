"""The ranks' part of an evaluation: rank 0 runs the tasks, all ranks run the model."""

from __future__ import annotations

import json
import shutil
import time
from typing import IO

import torch

from configs.schema import Run
from configs.words import listed
from evals.evaluation import Result, evaluate, write_result
from evals.language_model import LanguageModel
from evals.ranks import DistributedModel
from evals.results import RESULTS, score_text
from launcher.inference.session import load_model
from launcher.inference.tasks import tasks_of
from launcher.run.run_dir import RunFolder
from parallel.runtime.device import Device

_SAYS_EVERY_S, _REWRITES_EVERY_S = 10.0, 0.2
_CLEAR = "\r\x1b[2K"  # to the beginning of the line, and empties it


def evaluate_session(run: Run, folder: RunFolder, device: Device, terminal: IO[str]) -> None:
    """Evaluates under the run's layout; results go to the folder. Collective."""
    with load_model(run, device) as (model, tokenizer):
        ranks = DistributedModel(
            model, tokenizer, run.evaluate.tokens_at_once, run.layout.data or 1
        )
        if torch.distributed.get_rank() > 0:
            ranks.serve()
            return
        with ranks.asking():
            progress = Progress(terminal)
            asked = LanguageModel(ranks, progress.on_progress)
            if run.evaluate.harness:
                from evals.harness import run_harness

                run_harness(asked, run.evaluate, folder.path)
                progress.close()
                return
            tasks = tasks_of(run)
            rows = []
            progress.begin(len(tasks), len(run.evaluate.shots))
            for result in evaluate(asked, tasks, run.evaluate.shots, run.evaluate.seed):
                write_result(result, folder.path)
                rows.append(result.row())
                progress.on_result(result)
            progress.close()
        (folder.path / RESULTS).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


class Progress:
    """How far the tasks are: one line that is rewritten on a terminal, else a line for each task,
    and for each few seconds in which none is done.
    """

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal
        self._rewrites = terminal.isatty()
        self._said = time.monotonic()
        self._answered = 0
        self._tasks, self._of_task = 0, 0  # how many, and the scores of each; 0: unknown
        self._scores: list[str] = []  # of the task that is asked
        self._done = 0  # tasks

    def begin(self, tasks: int, scores: int) -> None:
        """Tells how many tasks there are, and of each how many scores."""
        self._tasks, self._of_task = tasks, scores

    def on_progress(self, count: int) -> None:
        """Takes the number of answers that came just now."""
        self._answered += count
        if time.monotonic() - self._said > (_REWRITES_EVERY_S if self._rewrites else _SAYS_EVERY_S):
            of = f", {self._done} of {self._tasks} tasks" if self._tasks else ""
            self._say(f"{self._answered:,} answers{of}")

    def on_result(self, result: Result) -> None:
        """Takes the next score of the task."""
        score = result.score
        said = "to be read" if score is None else score_text(score.value, score.error)
        self._scores.append(f"{said} with {result.shots} shown")
        if len(self._scores) == self._of_task:
            self._done += 1
            self._say(f"{result.task}: {listed(self._scores)}; {self._done} of {self._tasks} tasks")
            self._scores = []

    def close(self) -> None:
        """Leaves the line empty for what comes."""
        if self._rewrites:
            print(_CLEAR, end="", file=self._terminal, flush=True)

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        if self._rewrites:
            width = shutil.get_terminal_size().columns - 1
            print(f"{_CLEAR}{text[:width]}", end="", file=self._terminal, flush=True)
        else:
            print(text, file=self._terminal, flush=True)
