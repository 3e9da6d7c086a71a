"""Scores under every layout: the same answers, and likelihoods to 1e-4."""

from __future__ import annotations

import json
from typing import Any

import pytest

from configs.errors import InputError
from evals.language_model import LanguageModel
from launcher.command_line.compose import compose_run
from launcher.inference.tasks import tasks_of
from parallel.layout import Layout
from tests.asking import ask
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool

LAYOUTS = [Layout(tensor=t, pipeline=p, data=d) for t, p, d in
           ((2, 1, 1), (1, 2, 1), (2, 2, 1), (2, 1, 2))]  # fmt: skip
ROWS: dict[str, list[dict[str, Any]]] = {
    "reading": [
        {"passage": f"No. {n} is so.", "question": f"is no. {n} so", "answer": n % 2 == 0}
        for n in range(8)
    ],
    "cloze": [{"context": f"{n} and {n} and", "continuation": str(n)} for n in range(6)],
    "schema": [
        {"context_options": [f"the {n}", f"a {n}"], "continuation": "it is.", "gold": n % 2}
        for n in range(6)
    ],
    "science": [
        {
            "question": f"What is {n}?",
            "choices": {"text": ["an answer", "that", f"{n}"], "label": ["A", "B", "C"]},
            "answerKey": "ABC"[n % 3],
        }
        for n in range(6)
    ],
    "closed_book": [{"question": f"What is {n}?", "answer": ["so", "that"]} for n in range(4)],
    "translation": [{"source": f"Das ist {n}.", "target": f"That is {n}."} for n in range(4)],
}


def answers(model: LanguageModel, overrides: list[str]) -> Any:
    """Rank 0's part of a job: all results, in plain values."""
    from evals.evaluation import evaluate

    run = compose_run(overrides)
    found = evaluate(model, tasks_of(run), run.evaluate.shots, run.evaluate.seed)
    return [
        (_row(it), [(each.said, each.score, each.likelihood) for each in it.answers])
        for it in found
    ]


def _row(result: Any) -> dict[str, Any]:
    """Less what follows from likelihoods, which are compared to 1e-4."""
    return {key: it for key, it in result.row().items() if key != "perplexity"}


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tasks")
    for task, rows in ROWS.items():
        (folder / task).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        f"task=[arithmetic,{','.join(ROWS)}]",
        *(f"tasks.{task}.path={folder / task}" for task in ROWS),
        f"evaluate.tasks=[two_digit_addition,{','.join(ROWS)}]",
        "tasks.translation.tokens=6",
        "tasks.closed_book.tokens=4",
        "evaluate.limit=6",
        "evaluate.shots=[0,few]",
    ]


@pytest.fixture(scope="module")
def one_rank(ranks: RankPool, overrides: list[str]) -> Any:
    return ranks.run(1, ask, Layout(), answers, overrides)[0]


def test_every_task_is_answered(one_rank: Any) -> None:
    assert [row["task"] for row, _ in one_rank[::2]] == ["two_digit_addition", *ROWS]
    for row, each in one_rank:
        assert row["count"] == len(each) == min(6, len(ROWS.get(row["task"], range(6))))
        assert row["shots"] == 0 if row["asked"] == "0" else row["shots"] > 0
        assert 0 <= row["value"] <= 100


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_answers_are_the_same_under_every_layout(
    ranks: RankPool, one_rank: Any, overrides: list[str], layout: Layout
) -> None:
    found = ranks.run(layout.world_size, ask, layout, answers, overrides)[0]
    for (row, each), (expected_row, expected) in zip(found, one_rank, strict=True):
        assert row == expected_row
        for (said, score, likelihood), (right, of, at) in zip(each, expected, strict=True):
            assert (said, score) == (right, of)
            assert likelihood == pytest.approx(at, abs=1e-4)


def too_many(model: LanguageModel) -> Any:
    with pytest.raises(InputError, match=r"shots=20: of task two_digit_addition \d fit into") as e:
        answers(model, ["evaluate.shots=[20]", "evaluate.tasks=[two_digit_addition]"])
    return str(e.value)


def test_too_many_examples_for_the_context(ranks: RankPool) -> None:
    assert "nearest: evaluate.shots=" in ranks.run(1, ask, Layout(), too_many)[0]
