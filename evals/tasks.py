"""A task: its questions, and the solved examples that precede them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError
from configs.settings.asking import EvaluateConfig, TaskConfig
from corpus.machine.arithmetic import KINDS, TESTS
from corpus.machine.retrieval import TEST_TOKENS
from corpus.sources.jsonl import json_rows
from evals.examples import Example
from evals.forms import FORMS, Row
from evals.generated import (
    SCRAMBLES,
    arithmetic_shots,
    arithmetic_tests,
    retrieval_tests,
    scrambled,
)

ARITHMETIC, SCRAMBLE, RETRIEVAL = "arithmetic", "scramble", "retrieval"
FEW = "few"
_SHOWN = 1000  # problems that examples are drawn from, if generated
Words = Callable[[], list[str]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions in the forms with and without solved examples, and the pool of examples.

    Attributes:
        own: the pool is the questions themselves.
    """

    name: str
    config: TaskConfig
    few: list[Example]
    zero: list[Example]
    pool: list[Example]
    own: bool

    def questions(self, shots: int) -> list[Example]:
        """The questions, in the form for this number of examples."""
        return self.few if shots else self.zero

    def shown_before(self, number: int, shots: int, seed: int) -> list[Example]:
        """The examples before question `number`, drawn at random, never the question itself."""
        if not shots:
            return []
        generator = random.Random(f"{seed}/{self.name}/{number}")
        asked = self.few[number].context
        drawn = generator.sample(self.pool, min(shots + 1, len(self.pool)))
        return [example for example in drawn if example.context != asked][:shots]

    @property
    def most_shots(self) -> int:
        """The number of examples available besides the question itself."""
        return len(self.pool) - (1 if self.own else 0)


def require_shots(asked: Sequence[str]) -> None:
    """Raises InputError for what is not a number of examples."""
    for each in asked:
        if each != FEW and not each.isdecimal():
            raise InputError(
                f"evaluate.shots={each}: is neither a number of examples nor {FEW}; nearest: "
                f"evaluate.shots=[0,1,{FEW}]"
            )


def read_task(name: str, config: TaskConfig, settings: EvaluateConfig, words: Words) -> Task:
    """Raises InputError if the task has no data, or data in another format."""
    where = f"tasks.{name}"
    if config.path is not None:
        few, zero = _read(config, config.path, f"{where}.path")
    else:
        few = _made(name, config, settings, words)
        zero = few
    if config.train is not None:
        pool, _ = _read(config, config.train, f"{where}.train")
    elif config.form == ARITHMETIC and config.path is None:
        pool = arithmetic_shots(name, settings.seed, _SHOWN, few)
    else:
        pool = few
    if settings.limit is not None:
        few, zero = few[: settings.limit], zero[: settings.limit]
    return Task(name=name, config=config, few=few, zero=zero, pool=pool, own=config.train is None)


def _made(name: str, config: TaskConfig, settings: EvaluateConfig, words: Words) -> list[Example]:
    if config.form == ARITHMETIC and name in KINDS:
        return arithmetic_tests(name, settings.seed, TESTS)
    if config.form == RETRIEVAL and name in TEST_TOKENS:
        return retrieval_tests(name, settings.seed)
    if config.form == SCRAMBLE and name in SCRAMBLES:
        return scrambled(name, words(), settings.seed)[: settings.limit or TESTS]
    raise InputError(f"tasks.{name}.path=null: needs a file; tasks.{name}.path=FILE.jsonl")


def _read(config: TaskConfig, path: str, setting: str) -> tuple[list[Example], list[Example]]:
    """Returns the examples in the form with examples and in that without."""
    forms = [_form(config.form, setting), _form(config.zero_form or config.form, setting)]
    found: tuple[list[Example], list[Example]] = ([], [])
    for where, row in json_rows(Path(path).expanduser(), setting):
        for form, examples in zip(forms, found, strict=True):
            try:
                examples.append(form({"language": config.language, **row}))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                why = f"has no {error}" if isinstance(error, KeyError) else str(error)
                raise InputError(
                    f"{where}: is no row of form={form.__name__}, which is {_keys_of(form)}: {why}"
                ) from None
    return found


def _keys_of(form: Callable[[Row], Example]) -> str:
    """The keys of a form's rows, from the braces in its docstring."""
    found = re.search(r"\{.*?\}(?=[:.,;\n ]|$)", " ".join((form.__doc__ or "").split()))
    return found[0] if found else form.__name__


def _form(name: str, setting: str) -> Callable[[Row], Example]:
    if name in (ARITHMETIC, SCRAMBLE, RETRIEVAL):
        name = "released"
    if name not in FORMS:
        raise InputError(f"{setting.rpartition('.')[0]}.form={name}: is none of {', '.join(FORMS)}")
    return FORMS[name]


def fitting_shots(task: Task, asked: str, seed: int, room: int, count: Callable[[str], int]) -> int:
    """How many examples precede every question of the task.

    Args:
        asked: a number, or few: as many as the task's own number and the context allow.
        room: maximum tokens of a prompt.
        count: counts the tokens of a text.

    Raises InputError if that many do not fit, or do not exist.
    """
    wanted = task.config.shots if asked == FEW else int(asked)
    fits = min(wanted, task.most_shots)
    head = count(task.config.instruction)
    for number, question in enumerate(task.questions(wanted)):
        if fits == 0:
            break
        left = room - head - max(map(count, question.prompts))
        for place, example in enumerate(task.shown_before(number, fits, seed)):
            left -= count(example.shown)
            if left < 0:
                fits = place
                break
    if asked != FEW and fits < wanted:
        why = "are there" if task.most_shots < wanted else f"fit into {room:,} tokens"
        raise InputError(
            f"evaluate.shots={asked}: of task {task.name} {fits} {why}; nearest: "
            f"evaluate.shots=[{fits}]"
        )
    return fits


def prompt_of(task: Task, number: int, shots: int, seed: int, question: str) -> str:
    """Everything before the answer."""
    before = "".join(it.shown for it in task.shown_before(number, shots, seed))
    return task.config.instruction + before + question
