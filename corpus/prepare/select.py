"""Decides which documents are kept, from the filters' results over the entire corpus."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import InputError
from configs.settings.text import ContaminationConfig, CorpusConfig
from corpus.filters.duplicates import near_copies
from corpus.filters.quality import stays
from corpus.formats.records import Damage, fields_nearest, fields_said
from corpus.prepare.scan import UnitScan
from corpus.prepare.split import hold_out
from corpus.sources.faults import of_each
from corpus.sources.sources import TextSource
from corpus.sources.units import Unit

Array = npt.NDArray[Any]


class Disposition(IntEnum):
    """The fate of a record: kept in one of two parts, or dropped for one of three reasons."""

    TRAIN = 0
    VALIDATION = 1
    BLANK = 2
    QUALITY = 3
    DUPLICATE = 4


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Selection:
    """The decisions for the records of one unit."""

    dispositions: Array  # (records,) Disposition
    digests: Array  # (records,) as in UnitScan: the second pass must find the same text
    tail: float  # of each training document, for validation; 0: entire documents are
    hits: Array  # (hits, 4) as in UnitScan: what to cut, without grams that are too common


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScan:
    """Scan results of every unit of one source."""

    source: TextSource
    units: list[Unit]
    scans: list[UnitScan]

    @property
    def damage(self) -> list[Damage]:
        """The damage of all units, in order."""
        return [each for scan in self.scans for each in scan.damage]

    def joined(self, name: str) -> Array:
        """Concatenates the array `name` of all units' scans."""
        return np.concatenate([getattr(scan, name) for scan in self.scans])

    def parted(self, dispositions: Array) -> list[Array]:
        """Splits an array over the source's records into one per unit."""
        ends = np.cumsum([len(scan.sizes) for scan in self.scans])
        return np.split(dispositions, ends[:-1])


def select(
    units: Sequence[Unit],
    scans: Sequence[UnitScan],
    corpus: CorpusConfig,
    contamination: ContaminationConfig | None,
) -> list[Selection]:
    """The decisions for each unit. Raises InputError naming all sources without text."""
    sources = by_source(units, scans)
    names = [scanned.source.name for scanned in sources]
    dispositions = dict(
        zip(names, of_each(partial(_dispositions, corpus=corpus), sources), strict=True)
    )
    _drop_copies(sources, dispositions, corpus)
    held_out = of_each(
        lambda scanned: _hold_out(scanned, dispositions[scanned.source.name], corpus), sources
    )
    tails = dict(zip(names, held_out, strict=True))
    parted = {
        scanned.source.name: scanned.parted(dispositions[scanned.source.name])
        for scanned in sources
    }
    by_unit = [
        Selection(
            dispositions=each,
            digests=scan.digests,
            tail=tails[scanned.source.name],
            hits=scan.hits,
        )
        for scanned in sources
        for each, scan in zip(parted[scanned.source.name], scanned.scans, strict=True)
    ]
    return by_unit if contamination is None else without_common(by_unit, contamination)


def by_source(units: Sequence[Unit], scans: Sequence[UnitScan]) -> list[SourceScan]:
    """Groups the scans by source, in order."""
    found: dict[str, SourceScan] = {}
    for unit, scan in zip(units, scans, strict=True):
        scanned = found.setdefault(
            unit.source.name, SourceScan(source=unit.source, units=[], scans=[])
        )
        scanned.units.append(unit)
        scanned.scans.append(scan)
    return list(found.values())


def check_damage(sources: Sequence[SourceScan], most: float) -> None:
    """Raises InputError naming all sources in which more than this fraction is damaged."""
    of_each(partial(_check_damage, most=most), sources)


def _check_damage(scanned: SourceScan, most: float) -> None:
    damage = scanned.damage
    records = len(damage) + sum(len(scan.sizes) for scan in scanned.scans)
    if len(damage) <= most * records:
        return
    setting, source = scanned.source.setting, scanned.source
    lacking = [each.fields for each in damage if each.fields is not None]
    if 2 * len(lacking) > records:
        fields = Counter[str]()
        for each in lacking:
            fields.update(each)
        nearest = fields_nearest(fields, source.field_setting)
        raise InputError(
            f"{setting}: {len(lacking):,} of {records:,} lines have no text in a field "
            f"{source.config.field!r}; they have {fields_said(fields)}"
            + (f"; nearest: {nearest}" if nearest else "")
        )
    others = f" (and {len(damage) - 1:,} more)" if len(damage) > 1 else ""
    fixes = [fields_nearest(damage[0].fields or {}, source.field_setting)]
    if 2 * len(damage) <= records:
        fixes.append(f"corpus.max_damaged={math.ceil(1000 * len(damage) / records) / 1000:g}")
    nearest = " or ".join(filter(None, fixes))
    raise InputError(
        f"{setting}: {len(damage):,} of {records:,} records are damaged, more than "
        f"corpus.max_damaged={most:g} allows: {damage[0].said}{others}"
        + (f"; nearest: {nearest}" if nearest else "")
    )


def list_damage(path: Path, sources: Sequence[SourceScan]) -> None:
    """Writes one line for each record that could not be read."""
    # File names need not be valid UTF-8.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for scanned in sources:
            for each in scanned.damage:
                file.write(f"{each.as_line(scanned.source.field_setting)}\n")


def require_text(scanned: SourceScan) -> None:
    """Raises InputError for a source that is empty, blank or unreadable."""
    if scanned.joined("blank").all():
        place = scanned.source.config.path or scanned.source.name
        damage, what = scanned.damage, f"{scanned.source.setting}: {place}"
        if damage:
            raise InputError(
                f"{what} holds no text that can be read: {len(damage):,} records are damaged, "
                f"the first: {damage[0].as_line(scanned.source.field_setting)}"
            )
        raise InputError(f"{what} is empty: it holds no text")


def _dispositions(scanned: SourceScan, corpus: CorpusConfig) -> Array:
    require_text(scanned)
    blank = scanned.joined("blank")
    dispositions = np.where(blank, Disposition.BLANK, Disposition.TRAIN).astype(np.uint8)
    if scanned.source.config.quality and len(scores := scanned.joined("scores")):
        good = stays(scores, _mixed(scanned.joined("digests")), corpus.quality.alpha)
        dispositions[(dispositions == Disposition.TRAIN) & ~good] = Disposition.QUALITY
    return dispositions


def _mixed(digests: Array) -> Array:
    """Other bits of the same hash, as those below decide what is held out."""
    return (digests * np.uint64(0x9E3779B97F4A7C15)) ^ (digests >> np.uint64(29))


def _drop_copies(
    sources: list[SourceScan], dispositions: dict[str, Array], corpus: CorpusConfig
) -> None:
    """Keeps curated text if it has a copy in another source; otherwise the first document."""
    compared = [scanned for scanned in sources if scanned.scans[0].signatures.shape[1]]
    compared.sort(key=lambda scanned: not scanned.source.config.curated)
    if not any(scanned.source.config.deduplicate for scanned in compared):
        return
    places = [
        np.flatnonzero(dispositions[scanned.source.name] == Disposition.TRAIN)
        for scanned in compared
    ]
    found = [
        scanned.joined("signatures")[place] for scanned, place in zip(compared, places, strict=True)
    ]
    droppable = np.concatenate(
        [
            np.full(len(place), scanned.source.config.deduplicate)
            for scanned, place in zip(compared, places, strict=True)
        ]
    )
    dropped = near_copies(np.concatenate(found), droppable, corpus.duplicates) >= 0
    start = 0
    for scanned, place in zip(compared, places, strict=True):
        mine = dropped[start : start + len(place)]
        dispositions[scanned.source.name][place[mine]] = Disposition.DUPLICATE
        start += len(place)


def _hold_out(scanned: SourceScan, dispositions: Array, corpus: CorpusConfig) -> float:
    """Marks held-out documents; if there are none, returns the tail to hold out of each."""
    kept = np.flatnonzero(dispositions == Disposition.TRAIN)
    if not len(kept):
        lost = {
            disposition: int((dispositions == disposition).sum())
            for disposition in (Disposition.QUALITY, Disposition.DUPLICATE)
        }
        raise InputError(
            f"{scanned.source.setting}: nothing is left of it: {lost[Disposition.QUALITY]:,} "
            f"documents were dropped by the quality filter, {lost[Disposition.DUPLICATE]:,} as "
            "near copies of others"
        )
    sizes, digests = scanned.joined("sizes")[kept], _first_of_document(scanned)[kept]
    held = hold_out(sizes, digests, corpus.validation_fraction)
    dispositions[kept[held.documents]] = Disposition.VALIDATION
    return held.tail


def _first_of_document(scanned: SourceScan) -> Array:
    """The digest of the first record of each record's document."""
    digests, ends = scanned.joined("digests"), scanned.joined("ends")
    begins = np.concatenate([[True], ends[:-1]])
    return digests[np.maximum.accumulate(np.where(begins, np.arange(len(ends)), 0))]


def without_common(selections: list[Selection], settings: ContaminationConfig) -> list[Selection]:
    """Drops hits of grams that too many of the remaining documents contain."""
    grams = 1 + max(
        (int(selection.hits[:, 1].max(initial=-1)) for selection in selections), default=-1
    )
    counts = np.zeros(grams, np.int64)  # documents with each gram
    for selection in selections:
        kept = selection.hits[
            selection.dispositions[selection.hits[:, 0]] <= Disposition.VALIDATION
        ]
        counts += np.bincount(np.unique(kept[:, :2], axis=0)[:, 1], minlength=grams)
    rare = counts <= settings.max_documents
    return [
        replace(selection, hits=selection.hits[rare[selection.hits[:, 1]]])
        for selection in selections
    ]
