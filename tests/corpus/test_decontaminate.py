from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.settings.text import BenchmarkConfig, ContaminationConfig, CorpusConfig, SourceConfig
from corpus.decontaminate import DAMAGED, filter_corpus, study_corpus
from tests.runs import run_of

EXAMPLE = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


@pytest.fixture
def settings(tmp_path: Path) -> ContaminationConfig:
    path = tmp_path / "bench.jsonl"
    path.write_text(json.dumps({"question": EXAMPLE}) + "\n")
    benchmarks = {"bench": BenchmarkConfig(path=str(path))}
    return replace(run_of().contamination, benchmarks=benchmarks)


def said_nothing(what: str, done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("job", [filter_corpus, study_corpus])
def test_what_was_skipped_is_listed(
    job: object, corpus: CorpusConfig, settings: ContaminationConfig, tmp_path: Path
) -> None:
    path, out = tmp_path / "mine.jsonl", tmp_path / "out"
    path.write_text('{"text": "some words"}\n{"words": "others"}\n')
    mine = replace(corpus, text=str(path), max_damaged=0.5, workers=1)
    assert callable(job)
    job(mine, settings, out, said_nothing)
    what = "no field 'text'; the line has words; nearest: corpus.field=words"
    assert (out / DAMAGED).read_text() == f"{path}, line 2, byte 23: {what}\n"


@pytest.mark.parametrize("job", [filter_corpus, study_corpus])
def test_sources_without_text_are_named(
    job: object, corpus: CorpusConfig, settings: ContaminationConfig, tmp_path: Path
) -> None:
    for name, text in (("good", "some words"), ("empty", ""), ("blank", " \n")):
        (tmp_path / f"{name}.txt").write_text(text)
    sources = {
        name: SourceConfig(weight=1, path=str(tmp_path / f"{name}.txt"))
        for name in ("good", "empty", "blank")
    }
    mine = replace(corpus, text=None, sources=sources, workers=1)
    what = r"^corpus\.sources\.empty\.path: .* no text\n  corpus\.sources\.blank\.path: .* no text$"
    assert callable(job)
    with pytest.raises(InputError, match=what):
        job(mine, settings, tmp_path / "out", said_nothing)
