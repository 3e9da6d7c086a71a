"""What a preparation leaves for its processes, and what it makes of what others left there."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig
from corpus.contamination.filter import Rules
from corpus.contamination.grams import build_table
from corpus.contamination.scan import Scanner
from corpus.filters.quality import Classifier
from corpus.prepare.checkpointed_work import FILTERS, keep_rules, kept_rules
from corpus.prepare.inventory import take_inventory
from corpus.prepare.prepare import prepare
from corpus.prepare.scan import Filters
from corpus.store.prepared import Prepared
from tests.runs import run_of

TEXT = "never mind how long precisely having little or no money in my purse"


class Runs:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (self._command,)


def test_filters_are_the_same_in_another_process(tmp_path: Path) -> None:
    filters = Filters(
        classifier=Classifier(weights=np.arange(8, dtype=np.float64), bias=0.5),
        duplicates=run_of().corpus.duplicates,
        grams=build_table([TEXT, "a b c"], [4, 2]),
    )
    filters.save(tmp_path / FILTERS)
    again = Filters.load(tmp_path / FILTERS)
    assert again.duplicates == filters.duplicates
    assert again.classifier is not None
    assert filters.classifier is not None
    assert again.classifier.bias == 0.5
    assert again.classifier.weights.tolist() == filters.classifier.weights.tolist()
    assert again.grams is not None
    assert filters.grams is not None
    found = Scanner(again.grams).scan(["but a b c", TEXT])
    assert found == Scanner(filters.grams).scan(["but a b c", TEXT])
    assert [again.grams.words(hit.gram) for hit in found[:2]] == [["a", "b"], ["b", "c"]]


def test_no_filters_are_none(tmp_path: Path) -> None:
    Filters().save(tmp_path / FILTERS)
    assert Filters.load(tmp_path / FILTERS) == Filters()


def test_rules_are_the_same_in_another_process(tmp_path: Path) -> None:
    rules = Rules(window=1, min_piece=2, max_pieces=3, max_documents=4)
    for number, each in enumerate((rules, None)):
        (tmp_path / str(number)).mkdir()
        keep_rules(tmp_path / str(number), each)
        assert kept_rules(tmp_path / str(number)) == each


def test_pickles_in_unfinished_work_are_not_read(
    corpus: CorpusConfig, model: ModelConfig, prepared: Prepared, tmp_path: Path
) -> None:
    inventory = take_inventory(corpus, model, None, None)
    work = inventory.root / f"work-{inventory.key}"
    work.mkdir(parents=True)
    hostile = pickle.dumps(Runs(f"touch {tmp_path / 'mark'}"))
    for name in ("filters", "writing", "rules"):
        (work / f"{name}.pickle").write_bytes(hostile)
    found = prepare(replace(corpus, workers=1), model)
    assert (found.fingerprint, (tmp_path / "mark").exists()) == (prepared.fingerprint, False)


def test_nor_where_arrays_should_be(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    inventory = take_inventory(corpus, model, None, None)
    work = inventory.root / f"work-{inventory.key}"
    work.mkdir(parents=True)
    objects = np.array([Runs(f"touch {tmp_path / 'mark'}")], dtype=object)
    np.savez(work / FILTERS, weights=objects, bias=objects, allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        prepare(replace(corpus, workers=1), model)
    assert not (tmp_path / "mark").exists()
