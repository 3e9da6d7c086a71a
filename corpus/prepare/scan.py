"""The first pass over a unit: statistics of its documents; no text is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.settings.text import DuplicatesConfig
from corpus.contamination.grams import GramTable
from corpus.contamination.scan import Scanner
from corpus.filters.duplicates import signatures
from corpus.filters.quality import Classifier
from corpus.formats.records import Damage, Record
from corpus.prepare.workers import advance
from corpus.sources.units import Unit
from corpus.store.atomic import from_text_array, save_arrays, text_array

BATCH = 1 << 20  # characters per batch of the filters

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters to apply to each document; None disables one."""

    classifier: Classifier | None = None
    duplicates: DuplicatesConfig | None = None
    grams: GramTable | None = None

    def save(self, path: Path) -> None:
        """Writes the file atomically."""
        content: dict[str, Array] = {}
        if self.classifier is not None:
            content["weights"] = self.classifier.weights
            content["bias"] = np.array(self.classifier.bias)
        if self.duplicates is not None:
            content["duplicates"] = text_array(asdict(self.duplicates))
        if self.grams is not None:
            content |= {f"grams.{name}": array for name, array in self.grams.arrays().items()}
        save_arrays(path, content)

    @classmethod
    def load(cls, path: Path) -> Filters:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            content: dict[str, Array] = dict(arrays)
        grams = {name[6:]: array for name, array in content.items() if name.startswith("grams.")}
        return cls(
            classifier=Classifier(content["weights"], float(content["bias"]))
            if "weights" in content
            else None,
            duplicates=DuplicatesConfig(**from_text_array(content["duplicates"]))
            if "duplicates" in content
            else None,
            grams=GramTable.of_arrays(grams) if grams else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitScan:
    """Scan results of one unit: arrays over its records, in order."""

    sizes: Array  # bytes of UTF-8
    digests: Array  # 64 bits of the text's hash
    blank: Array  # bool
    ends: Array  # bool: the document ends with this record
    scores: Array  # of quality; empty without the filter
    signatures: Array  # (records, hashes), or (0, 0) without deduplication
    hits: Array  # (hits, 4): record, gram, first character, past the last
    damage: tuple[Damage, ...]

    def save(self, path: Path) -> None:
        """Writes the file atomically."""
        arrays = {name: getattr(self, name) for name in self.__slots__ if name != "damage"}
        rows = [each.as_json() for each in self.damage]
        save_arrays(path, {**arrays, "damage": text_array(rows)})

    @classmethod
    def load(cls, path: Path) -> UnitScan:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            fields = {name: arrays[name] for name in cls.__slots__}
        rows = from_text_array(fields["damage"])
        fields["damage"] = tuple(Damage.from_json(row) for row in rows)
        return cls(**fields)


def scan(unit: Unit, filters: Filters) -> UnitScan:
    """Reads the unit once and computes its statistics."""
    config = unit.source.config
    scanner = Scanner(filters.grams) if filters.grams is not None else None
    compared = filters.duplicates if config.deduplicate or config.curated else None
    found = ScanBuilder(compared.hashes if compared is not None else 0)
    for records in batches(_counted(unit, found.damage)):
        texts = [record.text for record in records]
        found.note(records)
        if filters.classifier is not None and config.quality:
            found.scores.append(filters.classifier.scores(texts))
        if compared is not None:
            found.signatures.append(signatures(texts, compared))
        if scanner is not None:
            found.hit(scanner, texts)
    return found.scan()


class ScanBuilder:
    """Collects a `UnitScan` batch by batch; `hashes` is the length of a signature."""

    def __init__(self, hashes: int) -> None:
        self.rows: list[tuple[int, int, bool, bool]] = []
        self.scores: list[Array] = [np.zeros(0, np.float32)]
        self.signatures: list[Array] = [np.zeros((0, hashes), np.uint32)]
        self.hits: list[tuple[int, int, int, int]] = []
        self.damage: list[Damage] = []

    def note(self, records: Iterable[Record]) -> None:
        """Appends size, digest, blankness and end of each record."""
        for record in records:
            encoded = record.text.encode()
            blank = not record.text or record.text.isspace()
            self.rows.append((len(encoded), digest_of(encoded), blank, record.ends))

    def hit(self, scanner: Scanner, texts: list[str]) -> None:
        """Searches `texts`, the last ones noted, for grams."""
        first = len(self.rows) - len(texts)
        self.hits += [
            (first + hit.text, hit.gram, hit.start, hit.stop) for hit in scanner.scan(texts)
        ]

    def scan(self) -> UnitScan:
        """Converts what was collected to arrays."""
        sizes, digests, blank, ends = zip(*self.rows, strict=True) if self.rows else ((),) * 4
        return UnitScan(
            sizes=np.array(sizes, np.int64),
            digests=np.array(digests, np.uint64),
            blank=np.array(blank, np.bool_),
            ends=np.array(ends, np.bool_),
            scores=np.concatenate(self.scores),
            signatures=np.concatenate(self.signatures),
            hits=np.array(self.hits, np.int64).reshape(-1, 4),
            damage=tuple(self.damage),
        )


def digest_of(text: bytes) -> int:
    """A 64-bit digest of the text."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _counted(unit: Unit, damage: list[Damage]) -> Iterator[Record]:
    """Yields the records; collects damage separately and reports progress."""
    for record in progressing(unit):
        if isinstance(record, Damage):
            damage.append(record)
        else:
            yield record


def progressing(unit: Unit) -> Iterator[Record | Damage]:
    """Reads the unit and reports progress in bytes, which add up to the unit's size.

    Compressed text reports its uncompressed bytes until the unit's size is reached.
    """
    left = unit.bytes
    for record in unit.read():
        step = min(left, len(record.text)) if isinstance(record, Record) else 0
        left -= step
        advance(step)
        yield record
    advance(left)


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Groups records into lists of at least BATCH characters; the last may have fewer."""
    batch: list[Record] = []
    held = 0
    for record in records:
        batch.append(record)
        held += len(record.text)
        if held >= BATCH:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
