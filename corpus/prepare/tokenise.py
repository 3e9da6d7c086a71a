"""The second pass over a unit: turns the selected text into two shards of tokens."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from configs.errors import InputError
from corpus.contamination.filter import Rules, cut
from corpus.formats.records import Record
from corpus.prepare.scan import batches, digest_of, progressing
from corpus.prepare.select import Disposition, Selection
from corpus.prepare.split import divide
from corpus.sources.units import Unit
from corpus.store.atomic import save_arrays
from corpus.store.token_file import Lengths, TokenWriter
from corpus.tokenizer.encoder import Encoder

PARTS = ("train", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A unit's result: statistics, and a `.bin` file for each part in `folder`."""

    lengths: dict[str, Lengths]  # by part
    cut: int  # documents from which overlaps with benchmarks were removed
    cut_away: int  # documents of which nothing was left
    removed: int  # characters

    def save(self, path: Path) -> None:
        """Writes the file atomically, after the `.bin` files."""
        counts = np.array([self.cut, self.cut_away, self.removed], np.int64)
        save_arrays(path, {**self.lengths, "counts": counts})

    @classmethod
    def load(cls, path: Path) -> Shard:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            cut_, cut_away, removed = map(int, arrays["counts"])
            lengths = {part: arrays[part] for part in PARTS}
        return cls(lengths=lengths, cut=cut_, cut_away=cut_away, removed=removed)


def shard_file(folder: Path, unit: int, part: str) -> Path:
    """The file for the tokens of one part of a unit."""
    return folder / f"tokens-{unit:07}.{part}.bin"


def dropped_file(folder: Path, unit: int) -> Path:
    """The file that lists a unit's dropped and cut documents."""
    return folder / f"dropped-{unit:07}.jsonl"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Writing:
    """The settings for turning documents into tokens."""

    encoder: Encoder
    begin: Sequence[int]  # tokens before each document
    end_of_text: int
    dtype: np.dtype[np.integer]
    rules: Rules | None
    folder: Path


class Stretch(NamedTuple):
    """Text that is encoded at once and goes to one part."""

    text: str
    begins: bool  # a document begins with it
    ends: bool  # a document ends with it
    held_out: bool


def tokenise(unit: Unit, selection: Selection, how: Writing) -> Shard:
    """Writes the unit's `.bin` files and the list of dropped documents, replacing earlier ones."""
    train, validation = (
        TokenWriter(shard_file(how.folder, unit.number, part), how.dtype) for part in PARTS
    )
    records = (each for each in progressing(unit) if isinstance(each, Record))
    dropped = dropped_file(how.folder, unit.number).open("w", encoding="utf-8")
    with train, validation, dropped:
        kept = KeptRecords(selection, how.rules, dropped)
        for batch in batches(records):
            stretches = [stretch for record in batch for stretch in kept.next(record)]
            ids = how.encoder.encode([stretch.text for stretch in stretches])
            for tokens, stretch in zip(ids, stretches, strict=True):
                writer = validation if stretch.held_out else train
                if how.begin and stretch.begins:
                    tokens = np.concatenate([how.begin, tokens])
                writer.add(tokens, how.end_of_text if stretch.ends else None)
        kept.require_all(unit)
    return Shard(
        lengths={"train": train.lengths, "validation": validation.lengths},
        cut=kept.cut,
        cut_away=kept.cut_away,
        removed=kept.removed,
    )


def training_text(unit: Unit, selection: Selection, rules: Rules | None) -> Iterator[str]:
    """The text that `tokenise` would write for training."""
    kept = KeptRecords(selection, rules, io.StringIO())
    for record in unit.read():
        if isinstance(record, Record):
            for stretch in kept.next(record):
                if not stretch.held_out:
                    yield stretch.text
    kept.require_all(unit)


class KeptRecords:
    """Selects what is kept of a unit's records, which must be passed in order."""

    def __init__(self, selection: Selection, rules: Rules | None, dropped: IO[str]) -> None:
        self._selection = selection
        self._rules = rules
        self._dropped = dropped
        self._hits = selection.hits[np.argsort(selection.hits[:, 0], kind="stable")]
        self._number = -1
        self.cut = self.cut_away = self.removed = 0

    def next(self, record: Record) -> Iterator[Stretch]:
        """What is kept of the next record."""
        self._number += 1
        self._require_unchanged(record)
        disposition, tail = (
            Disposition(self._selection.dispositions[self._number]),
            self._selection.tail,
        )
        if disposition > Disposition.VALIDATION:
            self._note(record, disposition.name.lower())
            return
        for text in self._uncontaminated(record):
            if not tail or disposition is Disposition.VALIDATION:
                held_out = disposition is Disposition.VALIDATION
                yield Stretch(text, record.begins, record.ends, held_out)
                continue
            head, rest = divide(text, tail)
            if head:
                yield Stretch(head, True, bool(rest) or record.ends, False)
            if rest:
                yield Stretch(rest, True, True, True)

    def require_all(self, unit: Unit) -> None:
        """Raises InputError if there were fewer records than in the first pass."""
        if self._number + 1 != len(self._selection.digests):
            raise _changed(unit.stretches[-1].path)

    def _require_unchanged(self, record: Record) -> None:
        known = self._selection.digests
        if self._number >= len(known) or digest_of(record.text.encode()) != known[self._number]:
            raise _changed(record.file)

    def _uncontaminated(self, record: Record) -> list[str]:
        """The text without its overlaps with benchmarks."""
        rules, text = self._rules, record.text
        begin, end = np.searchsorted(self._hits[:, 0], [self._number, self._number + 1])
        if begin == end or rules is None:
            return [text]
        spans = [(int(start), int(stop)) for start, stop in self._hits[begin:end, 2:]]
        done = cut(text, spans, rules)
        kept = [text[start:stop] for start, stop in done.pieces]
        self.cut += 1
        self.cut_away += not kept
        self.removed += len(text) - sum(map(len, kept))
        self._note(record, f"contaminated: {done.dropped or f'{len(kept)} pieces kept'}")
        return kept

    def _note(self, record: Record, why: str) -> None:
        row = {"file": str(record.file), "position": record.position, "why": why}
        self._dropped.write(json.dumps(row) + "\n")


def _changed(file: Path) -> InputError:
    return InputError(f"{file} changed while it was being read; run the same command again")
