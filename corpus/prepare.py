"""From `corpus.text` and `model.tokenizer` to a folder of token files, once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from configs.errors import InputError
from configs.schema import CorpusConfig, ModelConfig
from corpus.cache import Prepared, Source, publish, reopen, seal
from corpus.documents import Document
from corpus.gather import Progress, describe, gather
from corpus.split import Split, hold_out
from corpus.tokenizer import Tokenizer
from corpus.vocabulary import Vocabulary, choose

FORMAT = 1
"""Raised when the same text and settings begin to give other files."""

CACHE = Path("~/.cache/phalanx")


def prepare(corpus: CorpusConfig, model: ModelConfig, progress: Progress | None = None) -> Prepared:
    """The corpus as tokens, from the cache if these very documents were tokenised before.

    `progress` is told in a few words what is going on. Safe to call from several processes.
    Raises InputError for text, a tokenizer or a cache folder that cannot be used, RunError if
    writing fails.
    """
    progress = progress or (lambda message: None)
    vocabulary = choose(model)
    split = hold_out(gather(corpus, progress), corpus.validation_fraction)
    fingerprint = _fingerprint(split.documents, vocabulary, corpus.validation_fraction)
    root = Path(corpus.cache).expanduser() if corpus.cache else CACHE.expanduser()
    folder = root / fingerprint[:16]
    if not folder.is_dir():
        publish(root, folder.name, lambda new: _fill(new, split, vocabulary, fingerprint, progress))
    # Equal text under another name has the same tokens, but the name shown should be this one.
    prepared = replace(reopen(folder), source=describe(split.documents))
    _check_enough(prepared, corpus, model.context)
    return prepared


def _fingerprint(documents: Iterable[Document], vocabulary: Vocabulary, fraction: float) -> str:
    # Contents, not names and times: a copy or a fresh checkout of the text is the same corpus, on
    # every machine. Hashing reads a gigabyte in about a second, hundreds of times faster than
    # tokenising it. corpus.max_bytes acts through the documents that it leaves.
    digests = [document.digest for document in documents]
    key = json.dumps([FORMAT, vocabulary.identity, fraction, digests])
    return hashlib.sha256(key.encode()).hexdigest()


def _fill(
    folder: Path, split: Split, vocabulary: Vocabulary, fingerprint: str, progress: Progress
) -> None:
    from corpus.tokenfiles import write_tokens  # imports Megatron-core, which takes seconds

    if vocabulary.trains:
        progress("training a tokenizer")
    pieces = (piece for document in split.train for piece in document.pieces())
    (folder / "tokenizer.json").write_text(vocabulary.make(pieces), encoding="utf-8")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    advance = _percentage(sum(document.size for document in split.documents), progress)
    train = write_tokens(folder / "train", split.train, tokenizer, advance)
    validation = write_tokens(folder / "validation", split.validation, tokenizer, advance)
    prepared = Prepared(
        folder=folder,
        fingerprint=fingerprint,
        source=describe(split.documents),
        sources=_sources(split, [*train, *validation]),
        documents=len(split.documents),
        train_tokens=sum(train),
        validation_tokens=sum(validation),
    )
    seal(prepared)


def _sources(split: Split, counts: Iterable[int]) -> tuple[Source, ...]:
    tokens: Counter[str] = Counter()
    for document, count in zip([*split.train, *split.validation], counts, strict=True):
        tokens[document.source] += count
    sizes: dict[str, list[int]] = {}
    for document in split.documents:
        sizes.setdefault(document.source, []).append(document.size)
    return tuple(
        Source(name=name, documents=len(each), bytes=sum(each), tokens=tokens[name])
        for name, each in sizes.items()
    )


def _percentage(total: int, progress: Progress) -> Callable[[int], None]:
    done, told = 0, -1

    def advance(size: int) -> None:
        nonlocal done, told
        done += size
        percent = 100 * done // total
        if percent > told:
            told = percent
            progress(f"tokenising, {percent} % done")

    return advance


def _check_enough(prepared: Prepared, corpus: CorpusConfig, context: int) -> None:
    setting = (
        f"corpus.text={corpus.text}" if corpus.text else f"corpus.max_bytes={corpus.max_bytes}"
    )
    parts = {"training": prepared.train_tokens, "validation": prepared.validation_tokens}
    for part, tokens in parts.items():
        if tokens <= context:
            raise InputError(
                f"{setting} is too little text: {tokens:,} {part} tokens, and one sample of "
                f"model.context={context} needs {context + 1:,}"
            )
