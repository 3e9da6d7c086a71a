"""Turns text into a folder of token files, once; a killed preparation resumes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, groupby, islice
from pathlib import Path

from configs.errors import InputError
from configs.settings.network import ModelConfig
from configs.settings.text import ContaminationConfig, CorpusConfig
from corpus.contamination.filter import Rules, filter_table
from corpus.filters.quality import Classifier, learn
from corpus.formats.records import texts
from corpus.prepare.checkpointed_work import Meter, Progress, keep_rules, kept_rules, survey_all
from corpus.prepare.inventory import Inventory, take_inventory
from corpus.prepare.publish import Done, publish_corpus
from corpus.prepare.scan import Filters, UnitScan
from corpus.prepare.select import Selection, by_source, check_damage, select
from corpus.prepare.tokenise import Shard, Writing, tokenise, training_text
from corpus.prepare.workers import Workers, workers
from corpus.sources.faults import of_each
from corpus.sources.sources import NotMadeError
from corpus.sources.units import Unit, units_of
from corpus.store import prepared as store
from corpus.store.atomic import make_once
from corpus.store.prepared import Prepared, PreparedSource
from corpus.store.token_file import dtype_for
from corpus.tokenizer.chunks import pieces
from corpus.tokenizer.encoder import encoder_of
from corpus.tokenizer.tokenizer import Tokenizer

LEARNED_FROM = 1 << 26  # characters of each source used to train a vocabulary
EXAMPLE = 1 << 14  # characters of a document used to train the classifier

TOKENIZER = "tokenizer.json"


def prepare(
    corpus: CorpusConfig,
    model: ModelConfig,
    contamination: ContaminationConfig | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """The corpus as tokens, from the cache if the same text and settings were prepared before.

    Safe to call from several processes: one prepares, the others wait. Raises InputError for
    text, settings or a cache folder that cannot be used, RunError if writing or a process fails.
    """
    on_progress = progress or (lambda what, done, total: None)
    inventory = take_inventory(corpus, model, contamination, lambda what: on_progress(what, 0, 0))
    root = inventory.root
    folder = store.find(root, inventory.accepted_key)
    if folder is None:
        with (
            store.writable(root, "corpus.cache", "preparing the corpus"),
            store.alone(
                root / "known" / f"{inventory.key}.lock",
                lambda: on_progress("waiting for another process", 0, 0),
            ),
        ):
            folder = (
                store.find(root, inventory.accepted_key)
                or _Preparation(inventory, on_progress).run()
            )
            store.remember(root, inventory.accepted_key, folder)
    prepared = store.reopen(folder)
    check_enough(prepared, inventory, model.context)
    return prepared


def prepared_before(
    corpus: CorpusConfig, model: ModelConfig, contamination: ContaminationConfig | None = None
) -> Prepared | None:
    """The cached result of `prepare`, without reading text. Raises what `prepare` raises."""
    try:
        inventory = take_inventory(corpus, model, contamination, None)
    except NotMadeError:
        return None
    folder = store.find(inventory.root, inventory.accepted_key)
    return None if folder is None else store.reopen(folder)


def check_enough(prepared: Prepared, inventory: Inventory, context: int) -> None:
    """Raises InputError naming all sources that cannot fill a sample of training or validation."""
    settings = {source.name: source.setting for source, _ in inventory.sources}

    def check(source: PreparedSource) -> None:
        parts = {"training": source.tokens, "validation": source.validation_tokens}
        for part, tokens in parts.items():
            if tokens <= context:
                raise InputError(
                    f"{settings[source.name]}: {source.name} is too little text: {tokens:,} {part} "
                    f"tokens, and one sample of model.context={context} needs {context + 1:,}"
                )

    of_each(check, prepared.sources)


class _Preparation:
    """Two passes over the text; each unit's result is kept as a file in `work`."""

    def __init__(self, inventory: Inventory, progress: Progress) -> None:
        self._inventory = inventory
        self._work = inventory.root / f"work-{inventory.key}"
        self._units = units_of(inventory.sources, whole=inventory.filtered)
        self._meter = Meter(self._units, progress)

    def run(self) -> Path:
        """The folder of the prepared corpus."""
        self._work.mkdir(store.MODE, exist_ok=True)
        inventory, units, meter = self._inventory, self._units, self._meter
        with workers(inventory.corpus.workers, meter.on_progress) as pool:
            scans = survey_all(self._work, units, self._filters, pool, meter)
            check_damage(by_source(units, scans), inventory.corpus.max_damaged)
            fingerprint = self._fingerprint(scans)
            folder = inventory.root / fingerprint[:16]
            # A copy of the text has another key, but the same fingerprint.
            lock = inventory.root / "known" / f"{folder.name}.lock"
            with store.alone(lock, lambda: meter.say("waiting for another process")):
                if not folder.is_dir():
                    self._make(folder, fingerprint, scans, pool)
        shutil.rmtree(self._work, ignore_errors=True)
        return folder

    def _make(self, folder: Path, fingerprint: str, scans: list[UnitScan], pool: Workers) -> None:
        self._meter.say("deciding what to keep")
        inventory = self._inventory
        selections = select(self._units, scans, inventory.corpus, inventory.contamination)
        shards = self._tokenise(pool, selections)
        self._meter.say("writing the token files")
        done = [Done(*each) for each in zip(self._units, scans, selections, shards, strict=True)]
        publish_corpus(folder, fingerprint, done, self._work)

    def _tokenise(self, pool: Workers, selections: list[Selection]) -> list[Shard]:
        chosen = list(zip(self._units, selections, strict=True))
        make_once(self._work / TOKENIZER, lambda: self._tokenizer(chosen).encode())
        keep_rules(self._work, self._inventory.rules)
        left = [each for each in chosen if not _shard_file(self._work, each[0]).exists()]
        self._meter.begin("tokenising", [unit for unit, _ in left])
        for _ in pool.map(partial(_tokenise_unit, self._work), left):
            pass
        return [Shard.load(_shard_file(self._work, unit)) for unit in self._units]

    def _filters(self) -> Filters:
        inventory = self._inventory
        return Filters(
            classifier=self._classifier() if inventory.filters_quality else None,
            duplicates=inventory.corpus.duplicates if inventory.deduplicates else None,
            grams=None
            if inventory.contamination is None
            else filter_table(inventory.benchmarks, inventory.contamination.n),
        )

    def _classifier(self) -> Classifier:
        self._meter.say("learning what curated text is like")
        config = self._inventory.corpus.quality
        curated = [unit for unit in self._units if unit.source.config.curated]
        crawled = [unit for unit in self._units if unit.source.config.quality]
        good, raw = (examples(units, config.documents) for units in (curated, crawled))
        if not good or not raw:
            which = "curated" if not good else "quality"
            raise InputError(f"corpus.sources: those with {which}=true hold no text")
        return learn(good, raw, config)

    def _fingerprint(self, scans: list[UnitScan]) -> str:
        # Contents, not names and times: a copy or a fresh checkout of the text is the same corpus,
        # on every machine.
        digest = hashlib.sha256(self._inventory.settings.encode())
        for scanned in by_source(self._units, scans):
            digests = scanned.joined("digests")
            digest.update(f"{scanned.source.name} {len(digests)}".encode())
            digest.update(digests.astype("<u8").tobytes())
            # The same text read with different damage must get its own statistics.
            for scan in scanned.scans:
                digest.update(
                    "".join(each.identity for each in scan.damage).encode(errors="surrogateescape")
                )
        return digest.hexdigest()

    def _tokenizer(self, chosen: list[tuple[Unit, Selection]]) -> str:
        vocabulary = self._inventory.vocabulary
        if vocabulary.trains:
            self._meter.say("training a tokenizer")
        return vocabulary.make(vocabulary_text(chosen, self._inventory.rules))


def examples(units: Sequence[Unit], most: int) -> list[str]:
    """Beginnings of documents, equally many from each unit."""
    each = -(-most // max(len(units), 1))
    records = chain.from_iterable(islice(texts(unit.read()), each) for unit in units)
    return [text[:EXAMPLE] for text in records if text.strip()]


def vocabulary_text(chosen: Iterable[tuple[Unit, Selection]], rules: Rules | None) -> Iterator[str]:
    """Text to train a vocabulary on: the training text, or the beginning of each source's."""
    for _, group in groupby(chosen, key=lambda each: each[0].source.name):
        left = LEARNED_FROM
        for text in chain.from_iterable(training_text(*each, rules) for each in group):
            yield from pieces(text)
            left -= len(text)
            if left < 0:
                break


def _tokenise_unit(work: Path, chosen: tuple[Unit, Selection]) -> None:
    how = _writing(work, (work / TOKENIZER).stat().st_mtime_ns)
    tokenise(*chosen, how).save(_shard_file(work, chosen[0]))


@lru_cache(maxsize=1)  # once per process
def _writing(work: Path, _modified_ns: int) -> Writing:
    tokenizer = Tokenizer.load(work / TOKENIZER)
    return Writing(
        encoder=encoder_of(tokenizer),
        begin=tokenizer.begin,
        end_of_text=tokenizer.end_of_text,
        dtype=dtype_for(tokenizer.size),
        rules=kept_rules(work),
        folder=work,
    )


def _shard_file(work: Path, unit: Unit) -> Path:
    return work / f"tokens-{unit.number:07}.npz"
