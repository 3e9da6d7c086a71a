"""Settings of the training text and its preparation: a part of configs.schema."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TextFormat(StrEnum):
    """How a file of text is read."""

    auto = "auto"  # by the file's name
    text = "text"  # one document per file
    jsonl = "jsonl"  # one document per line
    warc = "warc"  # Common Crawl's WARC and WET


class MachineText(StrEnum):
    """Text that every installation can generate itself (`corpus.machine`)."""

    crawl = "crawl"  # Python's documentation server, crawled over loopback into WARC
    packages = "packages"  # descriptions and documentation of the installed packages
    docstrings = "docstrings"  # docstrings of the installed packages
    library = "library"  # sources of Python's standard library
    manual = "manual"  # Python's manual pages
    arithmetic = "arithmetic"  # arithmetic problems in words
    retrieval = "retrieval"  # facts and later questions, in documents of up to 2,048 tokens
    long_retrieval = "long_retrieval"  # the same, of up to 8,192 tokens


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source of a corpus; it has a `path` or is made on this `machine`."""

    weight: float  # 0 or more; a source's share of the samples is its weight over the sum of all
    path: str | None = None  # a file, folder or glob pattern, relative to corpus.root
    machine: MachineText | None = None  # text generated on this machine, instead of a path
    max_bytes: int = 0  # limit on generated text; 0: none
    stands_for: str | None = None  # the source that it replaces, as a note to readers
    format: TextFormat = TextFormat.auto  # how its files are read
    field: str = "text"  # the text's key in a JSONL line
    curated: bool = False  # serves as good text for the quality filter
    quality: bool = False  # goes through the quality filter
    deduplicate: bool = False  # drops near copies of curated or earlier documents


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """The filter that keeps what reads like curated text (Brown et al. 2020, appendix A)."""

    alpha: float  # a document is kept if numpy.random.pareto(alpha) > 1 - score
    features: int  # number of buckets that words are hashed into
    documents: int  # documents of each class that train the classifier


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Near copies by MinHash and locality-sensitive hashing."""

    hashes: int  # length of a document's MinHash
    bands: int  # documents that agree in an entire band are compared
    similarity: float  # estimated Jaccard similarity above which documents are duplicates
    shingle: int  # words per shingle


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """The text to train on, and what is filtered from it."""

    name: str  # the corpus's name
    text: str | None  # a file, folder or glob pattern, instead of the sources
    field: str = "text"  # the text's key in JSONL lines of corpus.text; sources have their own
    sources: dict[str, SourceConfig]  # named sources with weights
    root: str | None  # base folder of the sources' paths; null: the current one
    extensions: list[str]  # which files of a folder are plain text
    validation_fraction: float  # fraction of each source's documents held out for evaluation
    max_damaged: float  # preparation fails above this fraction of damaged records
    decontaminate: bool  # removes overlap with contamination.benchmarks
    quality: QualityConfig  # sources with quality=true keep what reads like the curated ones
    duplicates: DuplicatesConfig  # removes near copies from sources with deduplicate=true
    workers: int | None  # preparation processes; null: one per core
    cache: str | None  # where tokenizers and token files are kept; null: ~/.cache/phalanx


class ContaminationAction(StrEnum):
    """What to do about overlap between text and benchmarks."""

    filter = "filter"  # writes the training text without the overlap
    study = "study"  # marks each example of the benchmarks clean or dirty


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Examples of one benchmark, one per JSONL row, plain or compressed."""

    path: str  # the JSONL with its examples
    fields: list[str] | None = None  # fields that form an example; null: all with text
    synthetic: bool = False  # program-generated examples: the study's N may be below min_n
    scores: str | None = None  # JSONL with a "score" for each example, in the same order


@dataclass(frozen=True, kw_only=True)
class ContaminationConfig:
    """13-gram overlap with benchmarks, after appendix C of Brown et al. (2020)."""

    action: ContaminationAction  # what to do about overlap
    # by name: +contamination.benchmarks.boolq.path=FILE.jsonl
    benchmarks: dict[str, BenchmarkConfig]
    out: str | None  # folder of filtered text and reports; null: contamination/CORPUS-ACTION
    n: int  # filter: words per gram
    window: int  # filter: characters removed on each side of a gram
    min_piece: int  # filter: pieces with fewer characters are dropped
    max_pieces: int  # filter: documents cut into more pieces are dropped
    max_documents: int  # filter: grams found in more documents are ignored
    min_n: int  # study: smallest N, and the fewest words of an example that is judged
    max_n: int  # study: largest N
