"""Evaluates tasks with several numbers of examples before each question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evals.examples import Example
from evals.language_model import LanguageModel
from evals.scoring import Answer, Score, answers_of, score_of
from evals.tasks import Task, fitting_shots, prompt_of

_CACHED = 1 << 16  # cached token counts of texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Attributes:
    asked: the number of examples as requested; `shots`: the number used.
    score: None for human evaluation.
    """

    task: str
    asked: str
    shots: int
    score: Score | None
    questions: list[Example]
    answers: list[Answer]

    @property
    def name(self) -> str:
        """The name of the result's file: the task and the requested number of examples."""
        return f"{self.task}-{self.asked}"

    def row(self) -> dict[str, Any]:
        """The settings and the score, if there is one, as a JSON object."""
        score = {} if self.score is None else asdict(self.score)
        return {"task": self.task, "asked": self.asked, "shots": self.shots, **score}


def evaluate(
    model: LanguageModel, tasks: Sequence[Task], asked: Sequence[str], seed: int
) -> Iterator[Result]:
    """Yields results one by one; a repeated number of examples is evaluated once.

    Raises InputError if that many examples do not fit.
    """

    @lru_cache(_CACHED)
    def count(text: str) -> int:
        return len(model.tokenizer.encode(text))

    for task in tasks:
        room = model.context - len(model.tokenizer.begin) - _longest_answer(task, count)
        found = {each: fitting_shots(task, each, seed, room, count) for each in asked}
        for each in asked:
            yield _result(model, task, each, found[each], seed)


def _longest_answer(task: Task, count: Any) -> int:
    if task.config.scoring in ("choice", "cloze"):
        return max(count(it) for example in task.few for it in (*example.choices, *example.answers))
    return task.config.tokens


def _result(model: LanguageModel, task: Task, asked: str, shots: int, seed: int) -> Result:
    questions = task.questions(shots)
    prompts = [
        [prompt_of(task, number, shots, seed, text) for text in question.prompts]
        for number, question in enumerate(questions)
    ]
    answers = answers_of(model, task.config, questions, prompts)
    return Result(
        task=task.name,
        asked=asked,
        shots=shots,
        score=score_of(task.config, answers, questions),
        questions=questions,
        answers=answers,
    )


def write_result(result: Result, folder: Path) -> None:
    """Writes TASK-SHOTS.jsonl: one line per question, with the right and the given answer."""
    lines = (
        json.dumps(
            {
                "question": question.context.strip(),
                "right": [answer.strip() for answer in question.answers],
                **{key: it for key, it in asdict(answer).items() if it is not None},
            },
            ensure_ascii=False,
        )
        for question, answer in zip(result.questions, result.answers, strict=True)
    )
    text = "".join(f"{line}\n" for line in lines)
    (folder / f"{result.name}.jsonl").write_text(text, encoding="utf-8")
