from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig, SourceConfig
from corpus.prepare.prepare import prepare
from corpus.store.prepared import Prepared
from tests.runs import run_of


def make_text(folder: Path, documents: int, lines: int = 40) -> Path:
    """Files that differ, in English enough to be compressible, a few of them in subfolders."""
    words = ["the", "of", "ranks", "and", "soldiers", "in", "a", "phalanx", "stood", "together"]
    words += ["shields", "spears", "été", "naïve", "北京", "don't", "1,024", "under", "orders"]
    dice = random.Random(documents)
    for number in range(documents):
        path = folder / f"part{number % 3}" / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(" ".join(dice.choices(words, k=9)) for _ in range(lines))
        path.write_text(f"{text}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text(tmp_path_factory.mktemp("text"), documents=120)


@pytest.fixture(scope="session")
def model() -> ModelConfig:
    return replace(run_of().model, vocab=300, context=16, tokenizer="trained")


@pytest.fixture(scope="session")
def session_corpus(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusConfig:
    """One source."""
    return replace(
        run_of().corpus,
        text=str(text_folder),
        validation_fraction=0.1,
        cache=str(tmp_path_factory.mktemp("cache")),
    )


@pytest.fixture(scope="session")
def session_mixed(session_corpus: CorpusConfig, text_folder: Path) -> CorpusConfig:
    """Three sources of unlike sizes."""
    weights = {"part0": 0.6, "part1": 0.3, "part2": 0.1}
    return replace(
        session_corpus,
        text=None,
        root=str(text_folder),
        sources={name: SourceConfig(weight=w, path=name) for name, w in weights.items()},
    )


@pytest.fixture(scope="session")
def prepared(session_corpus: CorpusConfig, model: ModelConfig) -> Prepared:
    """Read-only: tests that damage files prepare their own."""
    return prepare(session_corpus, model)


@pytest.fixture(scope="session")
def mixed(session_mixed: CorpusConfig, model: ModelConfig) -> Prepared:
    """Read-only."""
    return prepare(session_mixed, model)


@pytest.fixture
def corpus(session_corpus: CorpusConfig, tmp_path: Path) -> CorpusConfig:
    """The same text with a cache of its own."""
    return replace(session_corpus, cache=str(tmp_path / "cache"))


@pytest.fixture
def mixed_corpus(session_mixed: CorpusConfig, tmp_path: Path) -> CorpusConfig:
    return replace(session_mixed, cache=str(tmp_path / "cache"))
