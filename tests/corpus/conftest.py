from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from configs.schema import AttentionPattern, CorpusConfig, ModelConfig, RecipeConfig
from corpus.cache import Prepared
from corpus.prepare import prepare


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
    return ModelConfig(
        name="tiny",
        layers=1,
        hidden=8,
        heads=1,
        vocab=300,
        context=16,
        attention=AttentionPattern.dense,
        window=8,
        tokenizer="trained",
        recipe=RecipeConfig(
            global_batch=1,
            learning_rate=1e-3,
            tokens=1,
            warmup_tokens=0,
            decay_tokens=None,
            ramp_tokens=0,
            ramp_start=1,
        ),
    )


@pytest.fixture(scope="session")
def session_corpus(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusConfig:
    return CorpusConfig(
        name="test",
        text=str(text_folder),
        extensions=[".txt", ".md"],
        max_bytes=100_000,
        validation_fraction=0.1,
        cache=str(tmp_path_factory.mktemp("cache")),
    )


@pytest.fixture(scope="session")
def prepared(session_corpus: CorpusConfig, model: ModelConfig) -> Prepared:
    """Read-only: tests that damage files prepare their own."""
    return prepare(session_corpus, model)


@pytest.fixture
def corpus(session_corpus: CorpusConfig, tmp_path: Path) -> CorpusConfig:
    """The same text with a cache of its own."""
    return replace(session_corpus, cache=str(tmp_path / "cache"))
