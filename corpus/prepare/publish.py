"""The last step of a preparation: turns shards into token files, with statistics of the text."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from corpus.prepare.scan import UnitScan
from corpus.prepare.select import Disposition, Selection, by_source, list_damage
from corpus.prepare.tokenise import PARTS, Shard, dropped_file, shard_file
from corpus.sources.units import Unit
from corpus.store import prepared as store
from corpus.store.prepared import Prepared, PreparedSource
from corpus.store.token_file import dtype_for, join
from corpus.tokenizer.tokenizer import Tokenizer


class Done(NamedTuple):
    """A unit and all its results."""

    unit: Unit
    scan: UnitScan
    selection: Selection
    shard: Shard


def publish_corpus(folder: Path, fingerprint: str, done: Sequence[Done], work: Path) -> None:
    """Creates `folder` from the shards in `work`."""

    def fill(new: Path) -> None:
        shutil.copyfile(work / "tokenizer.json", new / "tokenizer.json")
        tokenizer = Tokenizer.load(new / "tokenizer.json")
        dtype = dtype_for(tokenizer.size)
        sources = []
        for name, group in groupby(done, key=lambda each: each.unit.source.name):
            mine = list(group)
            tokens = {
                part: join(
                    new / f"{name}.{part}",
                    [shard_file(work, each.unit.number, part) for each in mine],
                    [each.shard.lengths[part] for each in mine],
                    dtype,
                )
                for part in PARTS
            }
            sources.append(_account(name, mine, tokens))
        prepared = Prepared(folder=new, fingerprint=fingerprint, sources=tuple(sources))
        units, scans = [each.unit for each in done], [each.scan for each in done]
        list_damage(prepared.damaged, by_source(units, scans))
        with prepared.dropped.open("wb") as file:
            for each in done:
                file.write(dropped_file(work, each.unit.number).read_bytes())
        store.seal(prepared)

    store.clear_scratch(folder.parent, folder.name)
    store.publish(folder.parent, folder.name, fill)


def _account(name: str, done: Iterable[Done], tokens: dict[str, int]) -> PreparedSource:
    dispositions = np.zeros(len(Disposition), np.int64)
    size = damaged = cut = cut_away = removed = 0
    for _, scan, selection, shard in done:
        dispositions += np.bincount(selection.dispositions[scan.ends], minlength=len(Disposition))
        size += int(scan.sizes[selection.dispositions <= Disposition.VALIDATION].sum())
        damaged += len(scan.damage)
        cut += shard.cut
        cut_away += shard.cut_away
        removed += shard.removed
    return PreparedSource(
        name=name,
        bytes=size,
        tokens=tokens["train"],
        validation_tokens=tokens["validation"],
        documents=int(dispositions[Disposition.TRAIN] + dispositions[Disposition.VALIDATION])
        - cut_away,
        damaged=damaged,
        blank=int(dispositions[Disposition.BLANK]),
        low_quality=int(dispositions[Disposition.QUALITY]),
        duplicates=int(dispositions[Disposition.DUPLICATE]),
        cut=cut,
        cut_away=cut_away,
        cut_characters=removed,
    )
