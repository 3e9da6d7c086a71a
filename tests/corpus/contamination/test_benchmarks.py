from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from configs.errors import InputError
from configs.settings.text import BenchmarkConfig
from corpus.contamination.benchmarks import read_benchmark

ROWS = [
    {"id": 1, "question": "Who?", "answers": ["me", "you"]},
    {"id": 2, "question": "Où\u2028?", "answers": []},
]
CONTENT = ("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n").encode()


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def packed(path: Path, content: bytes = CONTENT) -> bytes:
    if path.suffix == ".gz":
        return gzip.compress(content)
    return zstandard.compress(content) if path.suffix == ".zst" else content


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_an_example_is_all_text_of_a_row(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    found = read_benchmark("b", BenchmarkConfig(path=write(path, packed(path))))
    assert found.examples == ("Who?\nme\nyou", "Où\u2028?")
    assert (found.name, found.synthetic, found.scores) == ("b", False, None)


def test_or_that_of_the_fields_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", CONTENT)
    found = read_benchmark("b", BenchmarkConfig(path=path, fields=["answers", "question"]))
    assert found.examples == ("me\nyou\nWho?", "Où\u2028?")


def test_joined_frames_are_one_file(tmp_path: Path) -> None:
    both = [zstandard.compress(line) for line in CONTENT.splitlines(keepends=True)]
    path = write(tmp_path / "rows.jsonl.zst", b"".join(both))
    assert len(read_benchmark("b", BenchmarkConfig(path=path)).examples) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b" \n", "a.jsonl is empty"),
        ("a.jsonl", CONTENT + b"{]\n", "a.jsonl, line 4: not JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl, line 1: a row must be an object, not list"),
        ("a.jsonl", CONTENT + b'{"question": "\xff"}', "a.jsonl, line 4: not UTF-8"),
        ("a.jsonl", b'{"id": 1}', "a.jsonl, line 1: no field 'question'; it has id"),
        (
            "a.gz",
            gzip.compress(CONTENT, mtime=0)[:-12],
            "a.gz is not whole: the compressed data ends early",
        ),
        ("a.gz", CONTENT, "a.gz is not whole: the compressed data is damaged"),
        (
            "a.zst",
            zstandard.compress(CONTENT)[:-5],
            "a.zst is not whole: the compressed data ends early",
        ),
        ("a.zst", CONTENT, "a.zst is not whole: the compressed data is damaged"),
    ],
)
def test_what_cannot_be_read_is_told_with_file_and_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError) as told:
        read_benchmark("quiz", BenchmarkConfig(path=path, fields=["question"]))
    assert str(told.value).startswith("contamination.benchmarks.quiz.path: ")
    assert message in str(told.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corpus.sources import jsonl

    monkeypatch.setattr(jsonl, "LARGEST", 5 << 20)
    pack = gzip.compress if name.endswith("gz") else zstandard.compress
    packed = pack(bytes(64 << 20))
    assert len(packed) < 100_000
    path = write(tmp_path / name, packed)
    with pytest.raises(InputError, match=rf"{name} holds more than 5,242,880 bytes"):
        read_benchmark("quiz", BenchmarkConfig(path=path))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    message = r"^contamination\.benchmarks\.quiz\.path: cannot read .*gone: No such file"
    with pytest.raises(InputError, match=message):
        read_benchmark("quiz", BenchmarkConfig(path=str(tmp_path / "gone")))


def test_scores_go_with_the_examples(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", CONTENT)
    scores = write(tmp_path / "scores.jsonl", b'{"score": 1}\n{"score": 0.5, "id": 2}\n')
    found = read_benchmark("b", BenchmarkConfig(path=path, scores=scores, synthetic=True))
    assert found.scores == (1.0, 0.5)
    assert found.synthetic


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"score": 1}', "scores.jsonl has 1 scores for 2 examples"),
        (b'{"score": 1}\n{"points": 1}', 'line 2: "score" must be a number, not null'),
        (b'{"score": 1}\n{"score": NaN}', 'line 2: "score" must be a number, not NaN'),
    ],
)
def test_scores_that_do_not_are_told(content: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", CONTENT)
    scores = write(tmp_path / "scores.jsonl", content)
    with pytest.raises(InputError) as told:
        read_benchmark("quiz", BenchmarkConfig(path=path, scores=scores))
    assert str(told.value).startswith("contamination.benchmarks.quiz.scores: ")
    assert message in str(told.value)
