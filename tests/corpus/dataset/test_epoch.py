from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig
from corpus.dataset import epoch, shuffle
from corpus.dataset.epoch import Epoch, open_tokens
from corpus.dataset.mixture import Mixture
from corpus.prepare.prepare import prepare
from corpus.store.prepared import Prepared

CONTEXT = 16


@pytest.fixture
def prefix(prepared: Prepared, tmp_path: Path) -> Path:
    """Token files of the test's own, as orders are kept beside them."""
    return Path(shutil.copytree(prepared.folder, tmp_path / "copy")) / "text.train"


def make(prefix: Path, number: int = 0) -> Epoch:
    return Epoch(open_tokens(prefix), context=CONTEXT, seed=1, number=number)


def written(prefix: Path) -> list[str]:
    return sorted(path.name for path in prefix.parent.glob("orders/*"))


def every_token(one: Epoch) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.stack([one.tokens(index) for index in range(len(one))])


@pytest.fixture
def last_rank_alone() -> Iterator[None]:
    """Rank 1 of 2, with no rank 0 to wait for."""
    torch.distributed.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "SHARED", 1)


def test_it_reads_what_megatron_core_would(prefix: Path) -> None:
    one = make(prefix)
    for index in (0, 5, len(one) - 1):
        item = one[index]
        np.testing.assert_array_equal(one.tokens(index)[:-1], item["tokens"].numpy())
        np.testing.assert_array_equal(one.tokens(index)[1:], item["labels"].numpy())


def test_a_small_order_is_not_written(prefix: Path) -> None:
    make(prefix)
    assert written(prefix) == []


def test_a_large_order_is_written_once_and_is_the_same(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = every_token(make(prefix))
    monkeypatch.setattr(shuffle, "SHARED", 1)
    np.testing.assert_array_equal(every_token(make(prefix)), expected)
    monkeypatch.setattr(epoch, "_save", None)
    np.testing.assert_array_equal(every_token(make(prefix)), expected)
    assert written(prefix) == ["text.train-context16-seed1-epoch0"]


@pytest.mark.usefixtures("shared")
def test_each_epoch_is_written_apart(prefix: Path) -> None:
    first, second = (every_token(make(prefix, number)) for number in (0, 1))
    assert len(written(prefix)) == 2
    assert (first != second).any()


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = every_token(make(prefix))
    monkeypatch.setattr(shuffle, "SHARED", 1)
    (prefix.parent / "orders").touch()
    np.testing.assert_array_equal(every_token(make(prefix)), expected)


@pytest.mark.usefixtures("last_rank_alone")
@pytest.mark.parametrize("large", [False, True], ids=["in memory", "on disk"])
def test_any_rank_may_come_first(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(shuffle, "SHARED", 1)
    one = make(prefix)
    assert len(every_token(one)) == len(one)


def test_it_is_silent(
    prefix: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    make(prefix)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_the_orders_a_run_needs_are_known_before_it(
    mixed_corpus: CorpusConfig, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "SHARED", 1)
    prepared = prepare(mixed_corpus, model)
    shares = {"part0": 0.6, "part1": 0.3, "part2": 0.1}
    mixture = Mixture(prepared, "train", shares, context=CONTEXT, seed=5)
    samples = round(1.5 * len(mixture.sources[0]) / 0.6)

    def missing() -> list[tuple[str, int]]:
        return list(
            shuffle.missing_orders(prepared, shares, context=CONTEXT, seed=5, samples=samples)
        )

    assert missing() == [("part0", 0), ("part0", 1), ("part1", 0), ("part2", 0)]
    mixture.ids(np.arange(samples))
    assert missing() == []


def test_orders_beside_the_tokens_are_not_unpickled(prefix: Path, tmp_path: Path) -> None:
    """Where Megatron-core would look for its own, and unpickle what it finds."""
    first, mark = make(prefix), tmp_path / "mark"
    cache = prefix / "cache" / "Epoch_indices"
    cache.mkdir(parents=True)
    for part in ("document_index.npy", "sample_index.npy", "shuffle_index.npy", "description.txt"):
        name = f"{first.unique_description_hash}-Epoch-train-{part}"
        (cache / name).write_bytes(pickle.dumps(Touches(mark)))
    assert make(prefix).tokens(0).tolist() == first.tokens(0).tolist()
    assert not mark.exists()


class Touches:
    """A file, when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self._path}",)
