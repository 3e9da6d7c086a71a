"""What a corpus consists of before it is read: sources, files, settings, and their key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.settings.network import ModelConfig
from configs.settings.text import ContaminationConfig, CorpusConfig
from corpus.contamination.benchmarks import Benchmark, read_benchmark
from corpus.contamination.filter import Rules
from corpus.filters.duplicates import check as check_duplicates
from corpus.sources.sources import (
    Progress,
    TextFile,
    TextSource,
    expanded,
    files_of_all,
    require_name,
    sources_of,
)
from corpus.store.prepared import require_own
from corpus.tokenizer.vocabulary import Vocabulary, choose

FORMAT = 2
"""Raised when the same text and settings begin to give other files."""

CACHE = Path("~/.cache/phalanx")


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Everything that a preparation reads: settings, benchmarks, vocabulary, source files."""

    corpus: CorpusConfig
    contamination: ContaminationConfig | None  # None: no decontamination
    benchmarks: tuple[Benchmark, ...]
    vocabulary: Vocabulary
    sources: tuple[tuple[TextSource, list[TextFile]], ...]
    root: Path  # the cache folder

    @property
    def settings(self) -> str:
        """Everything that the tokens depend on besides the text, so without the weights."""
        corpus = self.corpus
        content: dict[str, Any] = {
            "format": FORMAT,
            "vocabulary": self.vocabulary.identity,
            "validation_fraction": corpus.validation_fraction,
            "quality": asdict(corpus.quality) if self.filters_quality else None,
            "duplicates": asdict(corpus.duplicates) if self.deduplicates else None,
            "sources": [
                [source.name, config.field, config.curated, config.quality, config.deduplicate]
                for source, _ in self.sources
                for config in [source.config]
            ],
        }
        if self.contamination is not None:
            rules = self.contamination
            content["rules"] = [
                rules.n, rules.window, rules.min_piece, rules.max_pieces, rules.max_documents
            ]  # fmt: skip
            content["benchmarks"] = [_digest(benchmark) for benchmark in self.benchmarks]
        return json.dumps(content)

    @property
    def key(self) -> str:
        """Equal for the same settings and files of the same name, size and time."""
        files = [
            [str(file.path), file.format, file.bytes, file.modified_ns]
            for _, files in self.sources
            for file in files
        ]
        return hashlib.sha256(json.dumps([self.settings, files]).encode()).hexdigest()[:16]

    @property
    def accepted_key(self) -> str:
        """Like `key`, but also differs with the fraction of damage allowed."""
        return f"{self.key}-{self.corpus.max_damaged:g}"

    @property
    def rules(self) -> Rules | None:
        """How overlaps with benchmarks are cut; None without decontamination."""
        return None if self.contamination is None else rules_of(self.contamination)

    @property
    def filters_quality(self) -> bool:
        """Whether any source goes through the quality filter."""
        return any(source.config.quality for source, _ in self.sources)

    @property
    def deduplicates(self) -> bool:
        """Whether near copies are dropped from any source."""
        return any(source.config.deduplicate for source, _ in self.sources)

    @property
    def filtered(self) -> bool:
        """Whether documents are filtered, and so must be read in full."""
        return self.filters_quality or self.deduplicates or self.contamination is not None


def take_inventory(
    corpus: CorpusConfig,
    model: ModelConfig,
    contamination: ContaminationConfig | None,
    progress: Progress | None,
) -> Inventory:
    """Raises InputError for settings, files and benchmarks that cannot be used.

    Raises NotMadeError for machine text that does not exist yet, if `progress` is None.
    """
    vocabulary = choose(model)
    check_duplicates(corpus.duplicates)
    sources = sources_of(corpus)
    root = cache_root(corpus)
    rules = contamination if corpus.decontaminate else None
    return Inventory(
        corpus=corpus,
        contamination=rules,
        benchmarks=() if rules is None else read_benchmarks(rules),
        vocabulary=vocabulary,
        sources=tuple(files_of_all(sources, corpus, root / "texts", progress)),
        root=root,
    )


def read_benchmarks(settings: ContaminationConfig) -> tuple[Benchmark, ...]:
    """Raises InputError if there are none, or one cannot be used."""
    if not settings.benchmarks:
        raise InputError(
            "contamination.benchmarks: there are none; nearest: "
            "+contamination.benchmarks.NAME.path=FILE.jsonl"
        )
    if settings.min_n > settings.max_n:
        raise InputError(
            f"contamination.min_n={settings.min_n} is above contamination.max_n={settings.max_n}; "
            f"nearest: contamination.min_n={settings.max_n}"
        )
    for name in settings.benchmarks:
        require_name(f"contamination.benchmarks.{name}", name)
    return tuple(read_benchmark(name, each) for name, each in settings.benchmarks.items())


def rules_of(settings: ContaminationConfig) -> Rules:
    """The settings for cutting a document."""
    return Rules(
        window=settings.window,
        min_piece=settings.min_piece,
        max_pieces=settings.max_pieces,
        max_documents=settings.max_documents,
    )


def cache_root(corpus: CorpusConfig) -> Path:
    """Raises InputError if it is world-writable."""
    root = expanded("corpus.cache", corpus.cache) if corpus.cache else CACHE.expanduser()
    require_own(root)
    return root


def _digest(benchmark: Benchmark) -> str:
    return hashlib.sha256(json.dumps(benchmark.examples).encode()).hexdigest()
