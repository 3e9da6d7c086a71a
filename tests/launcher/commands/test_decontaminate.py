from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import zstandard

from tests.cli import PhalanxResult, phalanx

DICE = random.Random(5)
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdklmnrst"]


def prose(words: int) -> str:
    return " ".join(DICE.choices(WORDS, k=words))


EXAMPLES = [prose(20) for _ in range(30)]
THIRTEEN = " ".join(EXAMPLES[0].split()[3:16])
TWELVE = " ".join(EXAMPLES[1].split()[3:15])
COMMON = EXAMPLES[2]


def disguised(text: str) -> str:
    """Other case and punctuation, over lines."""
    words = [f'"{word.upper()}",' if n % 2 else f"{word}--" for n, word in enumerate(text.split())]
    return "\n".join(words)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    clean = [prose(300) for _ in range(20)]
    texts = [
        *clean,
        f"{prose(200)} {disguised(THIRTEEN)} {prose(200)}",  # 20
        f"{disguised(THIRTEEN)} {prose(200)}",  # 21: at the beginning
        f"{prose(200)} {THIRTEEN}",  # 22: at the end
        f"{prose(200)} {TWELVE} {prose(200)}",  # 23: one word short
        " ".join(f"{prose(150)} {EXAMPLES[4 + n]}" for n in range(11)),  # 24: cut too often
        *(f"{prose(100)} {COMMON} {prose(100)}" for _ in range(11)),  # 25 to 35: too common
        f"{prose(9)} {THIRTEEN}",  # 36: nothing long is left
    ]
    rows = "".join(f"{json.dumps({'text': text})}\n" for text in texts)
    (folder / "texts.jsonl").write_text(rows)
    rows = "".join(f"{json.dumps({'question': text, 'id': 'x'})}\n" for text in EXAMPLES)
    (folder / "bench.jsonl").write_text(rows)
    scores = "".join(f"{json.dumps({'score': n % 2})}\n" for n in range(len(EXAMPLES)))
    (folder / "scores.jsonl").write_text(scores)
    return folder


def decontaminate(files: Path, action: str, out: Path, *more: str) -> PhalanxResult:
    return phalanx(
        "decontaminate",
        f"contamination.action={action}",
        f"contamination.out={out}",
        f"corpus.text={files / 'texts.jsonl'}",
        f"+contamination.benchmarks.bench.path={files / 'bench.jsonl'}",
        "+contamination.benchmarks.bench.fields=[question]",
        *more,
    )


def test_the_filter_cuts_exactly_what_the_rule_says(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = decontaminate(files, "filter", out)
    assert result.status == 0, result.errors
    before = [json.loads(line)["text"] for line in (files / "texts.jsonl").read_text().splitlines()]
    (file,) = (out / "text").iterdir()
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        after = [json.loads(line)["text"] for line in lines]
    hit = disguised(THIRTEEN)[:-1].rstrip('",-')
    start = before[20].index(hit.lstrip('"'))
    # The last word's closing marks are not part of it.
    expected = [
        *before[:20],
        before[20][: start - 200],
        before[20][start + len(hit) + 200 :],
        before[21][len(hit) + 200 :],
        before[22][: -len(THIRTEEN) - 200],
        before[23],
        *before[25:36],
    ]
    assert after == expected
    report = json.loads((out / "report.json").read_text())
    assert report[0] | {"characters": 0} == {
        "name": "text", "documents": 37, "damaged": 0, "cut": 5, "cut_away": 2, "characters": 0,
    }  # fmt: skip
    removed = [json.loads(line) for line in (out / "removed.jsonl").read_text().splitlines()]
    assert [row["why"] for row in removed] == [
        "contaminated: 2 pieces kept",
        "contaminated: 1 pieces kept",
        "contaminated: 1 pieces kept",
        "contaminated: cut into too many pieces",
        "contaminated: no piece is long enough",
    ]


def test_the_study_marks_every_example(files: Path, tmp_path: Path) -> None:
    out, scores = tmp_path / "out", files / "scores.jsonl"
    result = decontaminate(files, "study", out, f"+contamination.benchmarks.bench.scores={scores}")
    assert result.status == 0, result.errors
    statuses = [
        json.loads(line)["status"] for line in (out / "bench.jsonl").read_text().splitlines()
    ]
    dirty = {0, 2, *range(4, 15)}
    assert statuses == ["dirty" if n in dirty else "clean" for n in range(30)]
    (row,) = json.loads((out / "report.json").read_text())
    assert (row["n"], row["dirty"], row["clean"], row["ignored"]) == (13, 13, 17, 0)
    assert row["score_all"] == 0.5
    assert row["score_clean"] == pytest.approx(sum(n % 2 for n in range(30) if n not in dirty) / 17)
    line = next(line.split() for line in result.output.splitlines() if line.startswith("  bench "))
    assert line[:6] == ["bench", "13", "30", "13", "17", "57%"]
    assert line[10] == "too"
    again = decontaminate(files, "study", out)
    assert again.status == 2
    assert f"contamination.out={out}: holds something else already" in again.errors


def test_a_study_without_benchmarks_is_refused(files: Path) -> None:
    result = phalanx("decontaminate", f"corpus.text={files / 'texts.jsonl'}")
    assert result.status == 2
    assert "nearest: +contamination.benchmarks.NAME.path=FILE.jsonl" in result.errors


def test_prepare_takes_the_filter_too(files: Path) -> None:
    result = phalanx(
        "prepare",
        "model.vocab=300",
        "model.context=32",
        "model.window=8",
        "corpus.decontaminate=true",
        f"corpus.text={files / 'texts.jsonl'}",
        f"+contamination.benchmarks.bench.path={files / 'bench.jsonl'}",
    )
    assert result.status == 0, result.errors
    row = next(line.split() for line in result.output.splitlines() if line.startswith("  text "))
    assert row[1:4] == ["5", "2", "35"]  # cut, of which nothing is left, kept
