"""Benchmarks against a corpus: removes overlap from its text, or marks it in the benchmarks."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from configs.errors import InputError
from configs.settings.text import ContaminationConfig, CorpusConfig
from corpus.contamination.benchmarks import Benchmark
from corpus.contamination.filter import filter_table
from corpus.contamination.study import Row, plan_study
from corpus.formats.records import Record
from corpus.prepare.checkpointed_work import Meter, Progress, keep_rules, kept_rules, survey_all
from corpus.prepare.inventory import cache_root, read_benchmarks, rules_of
from corpus.prepare.scan import Filters, UnitScan, progressing
from corpus.prepare.select import (
    Disposition,
    Selection,
    by_source,
    check_damage,
    list_damage,
    require_text,
    without_common,
)
from corpus.prepare.tokenise import KeptRecords
from corpus.prepare.workers import Workers, workers
from corpus.sources.faults import of_each
from corpus.sources.sources import files_of_all, sources_of
from corpus.sources.units import Unit, units_of
from corpus.store import prepared
from corpus.store.atomic import make_once

REMOVED = "removed.jsonl"  # documents that were cut or dropped
DAMAGED = "damaged.txt"  # records that could not be read, if any
REPORT = "report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """The filter's effect on one source."""

    name: str
    documents: int
    damaged: int  # records that could not be read
    cut: int  # documents that lost some text
    cut_away: int  # those of which nothing was left
    characters: int  # removed


def filter_corpus(
    corpus: CorpusConfig, settings: ContaminationConfig, out: Path, progress: Progress
) -> list[Filtered]:
    """Writes each source's text without its overlap with benchmarks, as JSONL in `out`.

    Raises InputError for text, benchmarks and folders that cannot be used.
    """
    benchmarks = read_benchmarks(settings)
    job = _Job(corpus, settings, benchmarks, progress)
    with job.running(out) as (work, pool):
        table = partial(filter_table, benchmarks, settings.n)
        scans = survey_all(work, job.units, lambda: Filters(grams=table()), pool, job.meter)
        job.check(scans, out)
        selections = without_common([_keep_all(scan) for scan in scans], settings)
        keep_rules(work, rules_of(settings))
        chosen = list(zip(job.units, selections, strict=True))
        left = [each for each in chosen if not _counts_file(work, each[0]).exists()]
        job.meter.begin("writing", [unit for unit, _ in left])
        for _ in pool.map(partial(_filter_unit, work, out), left):
            pass
        filtered = _account(work, job.units, scans)
        with (out / REMOVED).open("wb") as file:
            for unit in job.units:
                file.write(_removed_file(work, unit).read_bytes())
        _write_report(out, [asdict(each) for each in filtered])
    return filtered


def study_corpus(
    corpus: CorpusConfig, settings: ContaminationConfig, out: Path, progress: Progress
) -> list[Row]:
    """Marks each example of the benchmarks clean or dirty, and writes the result to `out`.

    Raises InputError as `filter_corpus` does.
    """
    benchmarks = read_benchmarks(settings)
    job = _Job(corpus, settings, benchmarks, progress)
    study = plan_study(benchmarks, min_n=settings.min_n, max_n=settings.max_n)
    with job.running(out) as (work, pool):
        filters = Filters(grams=study.table)
        scans = survey_all(work, job.units, lambda: filters, pool, job.meter)
        job.check(scans, out)
        found = np.unique(np.concatenate([scan.hits[:, 1] for scan in scans]))
        for benchmark, statuses in zip(benchmarks, study.statuses(found), strict=True):
            lines = (
                json.dumps({"example": number, "status": status})
                for number, status in enumerate(statuses)
            )
            text = "".join(f"{line}\n" for line in lines)
            (out / f"{benchmark.name}.jsonl").write_text(text, encoding="utf-8")
        rows = study.report(found)
        _write_report(out, [_as_dict(row) for row in rows])
    return rows


class _Job:
    """The units to read, and the key that identifies this job."""

    def __init__(
        self,
        corpus: CorpusConfig,
        settings: ContaminationConfig,
        benchmarks: Sequence[Benchmark],
        progress: Progress,
    ) -> None:
        made = cache_root(corpus) / "texts"
        sources = files_of_all(sources_of(corpus), corpus, made, lambda what: progress(what, 0, 0))
        self.units = units_of(sources, whole=True)
        self.meter = Meter(self.units, progress)
        self._workers = corpus.workers
        self._most_damaged = corpus.max_damaged
        content = [
            asdict(settings),
            [benchmark.examples for benchmark in benchmarks],
            [[source.name, source.config.field] for source, _ in sources],
            [
                [str(f.path), f.format, f.bytes, f.modified_ns]
                for _, files in sources
                for f in files
            ],
        ]
        self._key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def check(self, scans: Sequence[UnitScan], out: Path) -> None:
        """Lists damage in `out`. Raises InputError if sources have too much, or no text."""
        sources = by_source(self.units, scans)
        check_damage(sources, self._most_damaged)
        of_each(require_text, sources)
        if any(scanned.damage for scanned in sources):
            list_damage(out / DAMAGED, sources)

    @contextmanager
    def running(self, out: Path) -> Iterator[tuple[Path, Workers]]:
        """A folder for unfinished work, and processes. Raises InputError if `out` is not ours."""
        work = out / ".work"
        _claim(out, work, self._key)
        with (
            prepared.writable(out, "contamination.out", "writing"),
            prepared.alone(work / "lock", lambda: _refuse(out)),
            workers(self._workers, self.meter.on_progress) as pool,
        ):
            yield work, pool
            shutil.rmtree(work)


def _claim(out: Path, work: Path, key: str) -> None:
    """Accepts `out` if it is new, empty, or left unfinished by an earlier start of the same job."""
    note = work / "key"
    if note.is_file() and note.read_text(encoding="utf-8") == key:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"contamination.out={out}: holds something else already; give another folder, or "
            "delete it"
        )
    try:
        work.mkdir(parents=True)
        note.write_text(key, encoding="utf-8")
    except OSError as error:
        raise InputError(f"contamination.out={out}: {error.strerror}") from None


def _refuse(out: Path) -> None:
    raise InputError(f"contamination.out={out}: another process is writing there")


def _keep_all(scan: UnitScan) -> Selection:
    dispositions = np.where(scan.blank, Disposition.BLANK, Disposition.TRAIN).astype(np.uint8)
    return Selection(dispositions=dispositions, digests=scan.digests, tail=0.0, hits=scan.hits)


def _filter_unit(work: Path, out: Path, chosen: tuple[Unit, Selection]) -> None:
    """Writes a unit's filtered text, then its counts, which mark the unit as done."""
    unit, selection = chosen
    folder = out / unit.source.name
    folder.mkdir(exist_ok=True)
    removed = _removed_file(work, unit).open("w", encoding="utf-8")
    target = folder / f"{unit.number:07}.jsonl.zst"
    unfinished = target.with_suffix(".unfinished")
    with removed, zstandard.open(unfinished, "wt", encoding="utf-8") as file:
        kept = KeptRecords(selection, kept_rules(work), removed)
        for record in progressing(unit):
            if isinstance(record, Record):
                for stretch in kept.next(record):
                    file.write(json.dumps({"text": stretch.text}, ensure_ascii=False) + "\n")
        kept.require_all(unit)
    unfinished.rename(target)
    counts = [kept.cut, kept.cut_away, kept.removed]
    make_once(_counts_file(work, unit), lambda: json.dumps(counts).encode())


def _account(work: Path, units: Sequence[Unit], scans: Sequence[UnitScan]) -> list[Filtered]:
    filtered = []
    for scanned in by_source(units, scans):
        counts = [json.loads(_counts_file(work, unit).read_bytes()) for unit in scanned.units]
        cut, cut_away, characters = map(sum, zip(*counts, strict=True))
        filtered.append(
            Filtered(
                name=scanned.source.name,
                documents=len(scanned.joined("blank")) - int(scanned.joined("blank").sum()),
                damaged=sum(len(scan.damage) for scan in scanned.scans),
                cut=cut,
                cut_away=cut_away,
                characters=characters,
            )
        )
    return filtered


def _as_dict(row: Row) -> dict[str, Any]:
    shown = ("examples", "dirty_share", "clean_share", "difference", "verdict")
    return {**asdict(row), **{name: getattr(row, name) for name in shown}}


def _write_report(out: Path, rows: list[dict[str, Any]]) -> None:
    (out / REPORT).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _counts_file(work: Path, unit: Unit) -> Path:
    return work / f"counts-{unit.number:07}.json"


def _removed_file(work: Path, unit: Unit) -> Path:
    return work / f"removed-{unit.number:07}.jsonl"
