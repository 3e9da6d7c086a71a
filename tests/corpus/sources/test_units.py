from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from configs.settings.text import CorpusConfig
from corpus.formats import text as text_format
from corpus.formats.records import Record
from corpus.sources import units as module
from corpus.sources.sources import files_of, sources_of
from corpus.sources.units import Unit, units_of


def make(corpus: CorpusConfig, folder: Path, *, whole: bool = False) -> list[Unit]:
    (source,) = sources_of(replace(corpus, text=str(folder)))
    return units_of([(source, files_of(source, corpus, folder, print))], whole=whole)


def records(units: list[Unit]) -> list[Record]:
    return [each for unit in units for each in unit.read() if isinstance(each, Record)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text(f"document {number}\n" * 20)
    lines = (json.dumps({"text": f"line {number}"}) for number in range(500))
    (tmp_path / "z.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_small_files_share_a_unit(
    corpus: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(make(corpus, folder)) == 1
    monkeypatch.setattr(module, "SMALL", 600)
    assert [len(unit.stretches) for unit in make(corpus, folder)] == [2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("whole", [False, True])
def test_units_are_all_documents_once_and_in_order(
    corpus: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    expected = [record.text for record in records(make(corpus, folder, whole=whole))]
    assert len(expected) == 510
    monkeypatch.setattr(module, "SMALL", 1_000)
    monkeypatch.setattr(module, "PART", 1_000)
    units = make(corpus, folder, whole=whole)
    assert len(units) > 10
    assert [unit.number for unit in units] == list(range(len(units)))
    assert [record.text for record in records(units)] == expected


def test_a_long_text_is_divided_unless_it_must_be_seen_whole(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"line {number} of a book\n" for number in range(500))
    (tmp_path / "book.txt").write_text(text)
    monkeypatch.setattr(module, "PART", 1_000)
    monkeypatch.setattr(text_format, "PART", 1_000)
    parts = records(make(corpus, tmp_path))
    assert [part.ends for part in parts] == [False] * (len(parts) - 1) + [True]
    assert "".join(part.text for part in parts) == text
    (book,) = records(make(corpus, tmp_path, whole=True))
    assert (book.text, book.ends) == (text, True)
