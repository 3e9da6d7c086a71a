"""What becomes of each document: the filters' decisions, taken over the whole corpus."""

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
from configs.schema import ContaminationConfig, CorpusConfig
from corpus.filters.duplicates import near_copies
from corpus.filters.quality import stays
from corpus.formats.records import Damage, fields_nearest, fields_said
from corpus.prepare.scan import Survey
from corpus.prepare.split import hold_out
from corpus.sources.faults import of_each
from corpus.sources.sources import TextSource
from corpus.sources.units import Unit

Array = npt.NDArray[Any]


class Fate(IntEnum):
    TRAIN = 0
    VALIDATION = 1
    BLANK = 2
    QUALITY = 3
    DUPLICATE = 4


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Choice:
    """What to do with the records of one unit."""

    fates: Array  # (records,) Fate
    digests: Array  # (records,) as in Survey: the second reading must find the same text
    tail: float  # of each training document, for validation; 0: whole documents are
    hits: Array  # (hits, 4) as in Survey: what to cut, without grams that are too common


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """All units of one source as one."""

    source: TextSource
    units: list[Unit]
    surveys: list[Survey]

    @property
    def damage(self) -> list[Damage]:
        return [each for survey in self.surveys for each in survey.damage]

    def joined(self, name: str) -> Array:
        return np.concatenate([getattr(survey, name) for survey in self.surveys])

    def parted(self, fates: Array) -> list[Array]:
        ends = np.cumsum([len(survey.sizes) for survey in self.surveys])
        return np.split(fates, ends[:-1])


def choose(
    units: Sequence[Unit],
    surveys: Sequence[Survey],
    corpus: CorpusConfig,
    contamination: ContaminationConfig | None,
) -> list[Choice]:
    """A choice for each unit. Raises InputError naming all sources with no text."""
    sources = by_source(units, surveys)
    names = [whole.source.name for whole in sources]
    fates = dict(zip(names, of_each(partial(_fates, corpus=corpus), sources), strict=True))
    _drop_copies(sources, fates, corpus)
    held_out = of_each(lambda whole: _hold_out(whole, fates[whole.source.name], corpus), sources)
    tails = dict(zip(names, held_out, strict=True))
    parted = {whole.source.name: whole.parted(fates[whole.source.name]) for whole in sources}
    by_unit = [
        Choice(
            fates=each,
            digests=survey.digests,
            tail=tails[whole.source.name],
            hits=survey.hits,
        )
        for whole in sources
        for each, survey in zip(parted[whole.source.name], whole.surveys, strict=True)
    ]
    return by_unit if contamination is None else without_common(by_unit, contamination)


def by_source(units: Sequence[Unit], surveys: Sequence[Survey]) -> list[Whole]:
    """The sources in their order."""
    found: dict[str, Whole] = {}
    for unit, survey in zip(units, surveys, strict=True):
        whole = found.setdefault(unit.source.name, Whole(source=unit.source, units=[], surveys=[]))
        whole.units.append(unit)
        whole.surveys.append(survey)
    return list(found.values())


def check_damage(sources: Sequence[Whole], most: float) -> None:
    """Raises InputError, naming all sources of which more than this fraction is damaged."""
    of_each(partial(_check_damage, most=most), sources)


def _check_damage(whole: Whole, most: float) -> None:
    damage = whole.damage
    records = len(damage) + sum(len(survey.sizes) for survey in whole.surveys)
    if len(damage) <= most * records:
        return
    setting, source = whole.source.setting, whole.source
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
    ways = [fields_nearest(damage[0].fields or {}, source.field_setting)]
    if 2 * len(damage) <= records:
        ways.append(f"corpus.max_damaged={math.ceil(1000 * len(damage) / records) / 1000:g}")
    nearest = " or ".join(filter(None, ways))
    raise InputError(
        f"{setting}: {len(damage):,} of {records:,} records are damaged, more than "
        f"corpus.max_damaged={most:g} allows: {damage[0].said}{others}"
        + (f"; nearest: {nearest}" if nearest else "")
    )


def list_damage(path: Path, sources: Sequence[Whole]) -> None:
    """Writes a line for each record that could not be read."""
    # A file's name may be no UTF-8.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for whole in sources:
            for each in whole.damage:
                file.write(f"{each.told(whole.source.field_setting)}\n")


def require_text(whole: Whole) -> None:
    """Raises InputError for a source that is empty or blank, or of which nothing can be read."""
    if whole.joined("blank").all():
        place = whole.source.config.path or whole.source.name
        damage, what = whole.damage, f"{whole.source.setting}: {place}"
        if damage:
            raise InputError(
                f"{what} holds no text that can be read: {len(damage):,} records are damaged, "
                f"the first: {damage[0].told(whole.source.field_setting)}"
            )
        raise InputError(f"{what} is empty: it holds no text")


def _fates(whole: Whole, corpus: CorpusConfig) -> Array:
    require_text(whole)
    blank = whole.joined("blank")
    fates = np.where(blank, Fate.BLANK, Fate.TRAIN).astype(np.uint8)
    if whole.source.config.quality and len(scores := whole.joined("scores")):
        good = stays(scores, _mixed(whole.joined("digests")), corpus.quality.alpha)
        fates[(fates == Fate.TRAIN) & ~good] = Fate.QUALITY
    return fates


def _mixed(digests: Array) -> Array:
    """Other bits of the same hash, as those below choose what is held out."""
    return (digests * np.uint64(0x9E3779B97F4A7C15)) ^ (digests >> np.uint64(29))


def _drop_copies(sources: list[Whole], fates: dict[str, Array], corpus: CorpusConfig) -> None:
    """Curated text stays where a copy of it is in another source; else the first one does."""
    compared = [whole for whole in sources if whole.surveys[0].signatures.shape[1]]
    compared.sort(key=lambda whole: not whole.source.config.curated)
    if not any(whole.source.config.deduplicate for whole in compared):
        return
    places = [np.flatnonzero(fates[whole.source.name] == Fate.TRAIN) for whole in compared]
    found = [
        whole.joined("signatures")[place] for whole, place in zip(compared, places, strict=True)
    ]
    droppable = np.concatenate(
        [
            np.full(len(place), whole.source.config.deduplicate)
            for whole, place in zip(compared, places, strict=True)
        ]
    )
    dropped = near_copies(np.concatenate(found), droppable, corpus.duplicates) >= 0
    start = 0
    for whole, place in zip(compared, places, strict=True):
        mine = dropped[start : start + len(place)]
        fates[whole.source.name][place[mine]] = Fate.DUPLICATE
        start += len(place)


def _hold_out(whole: Whole, fates: Array, corpus: CorpusConfig) -> float:
    """Marks the documents held out; returns the tail held out of each where none are."""
    kept = np.flatnonzero(fates == Fate.TRAIN)
    if not len(kept):
        lost = {fate: int((fates == fate).sum()) for fate in (Fate.QUALITY, Fate.DUPLICATE)}
        raise InputError(
            f"{whole.source.setting}: nothing is left of it: {lost[Fate.QUALITY]:,} documents were "
            f"dropped by the quality filter, {lost[Fate.DUPLICATE]:,} as near copies of others"
        )
    sizes, digests = whole.joined("sizes")[kept], _first_of_document(whole)[kept]
    held = hold_out(sizes, digests, corpus.validation_fraction)
    fates[kept[held.documents]] = Fate.VALIDATION
    return held.tail


def _first_of_document(whole: Whole) -> Array:
    """The digest of each record, or of the first record of its document."""
    digests, ends = whole.joined("digests"), whole.joined("ends")
    begins = np.concatenate([[True], ends[:-1]])
    return digests[np.maximum.accumulate(np.where(begins, np.arange(len(ends)), 0))]


def without_common(choices: list[Choice], settings: ContaminationConfig) -> list[Choice]:
    """Drops hits of grams that too many of the documents still there have in them."""
    grams = 1 + max((int(choice.hits[:, 1].max(initial=-1)) for choice in choices), default=-1)
    counts = np.zeros(grams, np.int64)  # documents with each gram
    for choice in choices:
        kept = choice.hits[choice.fates[choice.hits[:, 0]] <= Fate.VALIDATION]
        counts += np.bincount(np.unique(kept[:, :2], axis=0)[:, 1], minlength=grams)
    rare = counts <= settings.max_documents
    return [replace(choice, hits=choice.hits[rare[choice.hits[:, 1]]]) for choice in choices]
