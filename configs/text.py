"""What text is trained on and how it is prepared: a part of configs.schema."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TextFormat(StrEnum):
    """How a file of text is read."""

    auto = "auto"  # by the file's name
    text = "text"  # a document a file
    jsonl = "jsonl"  # a document a line
    warc = "warc"  # Common Crawl's WARC and WET


class MachineText(StrEnum):
    """Text that every installation can make for itself; `corpus.machine` does."""

    crawl = "crawl"  # Python's documentation server, crawled over loopback into WARC
    packages = "packages"  # descriptions and documentation of the installed packages
    docstrings = "docstrings"  # docstrings of the installed packages
    library = "library"  # sources of Python's standard library
    manual = "manual"  # Python's manual pages
    arithmetic = "arithmetic"  # arithmetic problems in words


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source of a corpus; it has a `path` or is made on this `machine`."""

    weight: float  # any number from 0 on; its share of the samples is this by the sum of all
    path: str | None = None  # a file, a folder or a glob pattern, seen from corpus.root
    machine: MachineText | None = None  # text this machine makes, in place of a path
    max_bytes: int = 0  # text of the machine is cut here; 0: nowhere
    stands_for: str | None = None  # what it is in place of, for people
    format: TextFormat = TextFormat.auto  # how its files are read
    field: str = "text"  # the text's key in a line of JSONL
    curated: bool = False  # an example of good text to the quality filter
    quality: bool = False  # goes through the quality filter
    deduplicate: bool = False  # loses documents like ones of curated sources or earlier ones


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """The filter that keeps what reads like curated text (Brown et al. 2020, appendix A)."""

    alpha: float  # a document stays if numpy.random.pareto(alpha) > 1 - score
    features: int  # the words of a document are hashed into so many
    documents: int  # documents of either kind that the classifier learns from


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Near copies by MinHash and locality-sensitive hashing."""

    hashes: int  # numbers in a document's MinHash
    bands: int  # documents that agree in one whole band are compared
    similarity: float  # estimated Jaccard similarity from which on documents are duplicates
    shingle: int  # words of one shingle


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """The text to train on, and what is filtered from it."""

    name: str  # what the corpus is called
    text: str | None  # a file, a folder or a glob pattern, in place of the sources
    field: str = "text"  # the text's key in a line of corpus.text's JSONL; a source has its own
    sources: dict[str, SourceConfig]  # named sources with weights
    root: str | None  # the folder that paths of sources start from; null: the current one
    extensions: list[str]  # which files of a folder are plain text
    validation_fraction: float  # of each source's documents, held out for evaluation
    max_damaged: float  # a larger fraction of damaged records ends the preparation
    decontaminate: bool  # removes what overlaps contamination.benchmarks
    quality: QualityConfig  # sources with quality=true keep what reads like the curated ones
    duplicates: DuplicatesConfig  # sources with deduplicate=true lose near copies
    workers: int | None  # processes that prepare it; null: one a core
    cache: str | None  # where tokenizers and token files are kept; null: ~/.cache/phalanx


class ContaminationAction(StrEnum):
    """What is done with overlaps of text and benchmarks."""

    filter = "filter"  # writes training text without what overlaps benchmarks
    study = "study"  # marks each example of the benchmarks clean or dirty


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Examples of one benchmark: a row of JSONL each, plain or compressed."""

    path: str  # the JSONL with its examples
    fields: list[str] | None = None  # whose text makes up an example; null: all that hold text
    synthetic: bool = False  # examples made by a program: the study's N may be below min_n
    scores: str | None = None  # JSONL with a "score" for each example, in their order


@dataclass(frozen=True, kw_only=True)
class ContaminationConfig:
    """13-gram overlap with benchmarks, after appendix C of Brown et al. (2020)."""

    action: ContaminationAction  # what is done with overlaps
    # by name: +contamination.benchmarks.boolq.path=FILE.jsonl
    benchmarks: dict[str, BenchmarkConfig]
    out: str | None  # the folder of filtered text and reports; null: contamination/CORPUS-ACTION
    n: int  # filter: words of a gram
    window: int  # filter: characters removed on either side of a gram
    min_piece: int  # filter: characters; shorter pieces are dropped
    max_pieces: int  # filter: documents cut into more are dropped
    max_documents: int  # filter: grams found in more documents are ignored
    min_n: int  # study: least N, and the words of the shortest example that is judged
    max_n: int  # study: largest N
