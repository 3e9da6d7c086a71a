"""The ranks' part of an evaluation: rank 0 runs the tasks, all ranks run the model."""

from __future__ import annotations

import json
import time
from typing import IO

import torch

from configs.schema import Run
from evals.evaluation import Result, evaluate, write_result
from evals.language_model import LanguageModel
from evals.ranks import DistributedModel
from evals.results import RESULTS
from launcher.inference.session import load_model
from launcher.inference.tasks import tasks_of
from launcher.run.run_dir import RunFolder
from parallel.runtime.device import Device

_SAYS_EVERY_S = 10.0


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
            progress = _Progress(terminal)
            asked = LanguageModel(ranks, progress.on_progress)
            if run.evaluate.harness:
                from evals.harness import run_harness

                run_harness(asked, run.evaluate, folder.path)
                return
            tasks = tasks_of(run)
            rows = []
            progress.scores = len(tasks) * len(run.evaluate.shots)
            for result in evaluate(asked, tasks, run.evaluate.shots, run.evaluate.seed):
                write_result(result, folder.path)
                rows.append(result.row())
                progress.scored += 1
                print(_line(result), file=terminal, flush=True)
        (folder.path / RESULTS).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _line(result: Result) -> str:
    score = result.score
    said = "" if score is None else f"{score.value:.2f} +- {score.error:.2f}"
    return f"{result.task}, {result.shots} shown: {said}"


class _Progress:
    """Prints how many requests are done, periodically."""

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal
        self._said = time.monotonic()
        self._answered = 0
        self.scored, self.scores = 0, 0  # done and in total; the total is 0 if unknown

    def on_progress(self, count: int) -> None:
        self._answered += count
        if time.monotonic() - self._said > _SAYS_EVERY_S:
            self._said = time.monotonic()
            of = f", {self.scored} of {self.scores} scores" if self.scores else ""
            print(f"  {self._answered:,} answers{of}", file=self._terminal, flush=True)
