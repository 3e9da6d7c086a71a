"""Prompts, and which solved examples stand in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from configs.settings.asking import EvaluateConfig, TaskConfig
from corpus.machine.retrieval import TESTS
from evals.forms import FORMS
from evals.tasks import FEW, Task, fitting_shots, prompt_of, read_task
from launcher.command_line.compose import compose_run

SETTINGS: EvaluateConfig = compose_run([]).evaluate


def task_of(name: str, config: TaskConfig) -> Task:
    return read_task(name, config, SETTINGS, lambda: ["casino", "mankind"])


def composed(name: str, *overrides: str) -> TaskConfig:
    return compose_run([f"task={name}", *overrides]).tasks[name]


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_arithmetic_is_asked_as_in_the_paper() -> None:
    task = task_of("two_digit_addition", compose_run([]).tasks["two_digit_addition"])
    zero = prompt_of(task, 0, 0, 0, task.zero[0].context)
    assert zero == task.zero[0].context
    two = prompt_of(task, 0, 2, 0, task.few[0].context)
    assert two.count("\n\nQ: What is ") == 3
    assert two.endswith(zero)
    assert two == prompt_of(task, 0, 2, 0, task.few[0].context)
    assert two != prompt_of(task, 0, 2, 1, task.few[0].context)


def test_a_fact_is_asked_for_at_the_end_of_a_haystack() -> None:
    task = task_of("retrieval_512", compose_run(["task=retrieval"]).tasks["retrieval_512"])
    assert len(task.zero) == TESTS
    assert re.search(r" Which \w+\?$", prompt_of(task, 0, 0, 0, task.zero[0].context))


def test_words_are_asked_with_their_instruction() -> None:
    task = task_of("reversed_words", compose_run(["task=scramble"]).tasks["reversed_words"])
    said = prompt_of(task, 0, 1, 0, task.few[0].context)
    assert said.startswith("Please unscramble the letters into a word, and write that word:\n\n")
    assert said.count(" =") == 2


def test_a_question_is_never_its_own_example(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(5)]
    config = composed("closed_book", f"tasks.closed_book.path={written(tmp_path / 'q', rows)}")
    task = task_of("closed_book", config)
    assert task.most_shots == 4
    for number, question in enumerate(task.few):
        shown = task.shown_before(number, 4, 0)
        assert len(shown) == 4
        assert question.context not in {it.context for it in shown}


def test_as_many_as_fit(tmp_path: Path) -> None:
    rows = [{"question": "q" * 10, "answer": f"{n:04}"} for n in range(50)]
    config = composed("closed_book", f"tasks.closed_book.path={written(tmp_path / 'q', rows)}")
    task = task_of("closed_book", config)
    each = len(task.few[0].shown)
    room = len(task.few[0].context) + 3 * each + each // 2
    # All questions read alike, so none of the examples is told from the question.
    assert fitting_shots(task, FEW, 0, 10_000, len) == task.most_shots == 49
    rows = [{"question": f"{n:010}", "answer": f"{n:04}"} for n in range(50)]
    config = composed("closed_book", f"tasks.closed_book.path={written(tmp_path / 'q', rows)}")
    task = task_of("closed_book", config)
    assert fitting_shots(task, FEW, 0, room, len) == 3
    assert fitting_shots(task, "3", 0, room, len) == 3
    with pytest.raises(InputError, match=r"shots=4: of task closed_book 3 fit .*shots=\[3\]"):
        fitting_shots(task, "4", 0, room, len)
    with pytest.raises(InputError, match="shots=60: of task closed_book 49 are there"):
        fitting_shots(task, "60", 0, 10_000, len)


FORMS_AND_ROWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("released", {"context": "\nxy =", "completion": " yx"}, "\nxy =", " yx"),
    ("cloze", {"context": "He saw the ", "continuation": "sea"}, "\n\nHe saw the", " sea"),
    ("blanks", {"context": "He saw the", "continuation": "sea"}, "\n\nHe saw the ____. ->", " sea"),
    (
        "reading",
        {"passage": "P.", "question": "is it so", "answer": True},
        "\n\nP.\nquestion: is it so?\nanswer:",
        " yes",
    ),
    (
        "reading",
        {"query": "Passage: P.\nQuestion: is it so?", "choices": ["no", "yes"], "gold": 0},
        "\n\nP.\nquestion: is it so?\nanswer:",
        " no",
    ),
    (
        "entailment",
        {"premise": "P.", "hypothesis": "H.", "label": 1},
        "\n\nP.\nquestion: H. True or False?\nanswer:",
        " False",
    ),
    ("closed_book", {"question": "Who?", "answers": ["He", "him"]}, "\n\nQ: Who?\n\nA:", " He"),
    (
        "science",
        {"question": "Q?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
        "\n\nQuestion: Q?\nAnswer:",
        " y",
    ),
    ("pair", {"source": "Ja.", "target": "Yes."}, "\n\nJa. =", " Yes."),
    (
        "translation",
        {"source": "Ja.", "target": "Yes.", "language": "English"},
        "\n\nQ: What is the English translation of Ja. A:",
        " Yes.",
    ),
]


@pytest.mark.parametrize(("form", "row", "context", "answer"), FORMS_AND_ROWS)
def test_forms(form: str, row: dict[str, Any], context: str, answer: str) -> None:
    example = FORMS[form](row)
    assert example.context == context
    assert example.answers[0] == answer
    if example.choices:
        assert example.choices[example.gold] == answer


def test_partial_evaluation_has_a_context_for_each_choice() -> None:
    row = {"context_options": ["As the city", "As the men"], "continuation": "fear.", "gold": 1}
    example = FORMS["schema"](row)
    assert example.prompts == ("\n\nAs the city", "\n\nAs the men")
    assert example.choices == (" fear.", " fear.")
    assert example.shown == "\n\nAs the men fear."


def test_novel_words() -> None:
    row = {
        "word": "whatpu",
        "definition": 'A "whatpu" is a small, furry animal native to Tanzania.',
        "sentence": "We saw these very cute whatpus.",
    }
    said = FORMS["novel_word"](row).shown
    assert said == (
        '\nA "whatpu" is a small, furry animal native to Tanzania. An example of a sentence that '
        "uses the word whatpu is:\nWe saw these very cute whatpus."
    )


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["task=reading"], r"tasks.reading.path=null: needs a file"),
        (["task=reading", "tasks.reading.path=NOT"], "cannot read NOT"),
        (
            ["task=reading", "tasks.reading.path=ROWS"],
            "line 1: is no row of form=reading, which is {passage, question, answer: ",
        ),
        (["task=reading", "tasks.reading.path=ROWS", "tasks.reading.form=x"], "form=x: is none of"),
    ],
)
def test_what_cannot_be_read_is_named(
    overrides: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "ROWS", [{"question": "?"}])
    with pytest.raises(InputError, match=says):
        task_of("reading", compose_run(overrides).tasks["reading"])
