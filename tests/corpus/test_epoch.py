from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from corpus import epoch
from corpus.cache import Prepared
from corpus.epoch import Epoch, open_tokens

CONTEXT = 16


def make(prepared: Prepared, cache: Path | None = None, number: int = 0) -> Epoch:
    tokens = open_tokens(prepared.train)
    return Epoch(tokens, context=CONTEXT, seed=1, number=number, cache=cache)


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
    monkeypatch.setattr(epoch, "SHARED", 1)


def test_it_reads_what_megatron_core_would(prepared: Prepared) -> None:
    one = make(prepared)
    for index in (0, 5, len(one) - 1):
        item = one[index]
        np.testing.assert_array_equal(one.tokens(index)[:-1], item["tokens"].numpy())
        np.testing.assert_array_equal(one.tokens(index)[1:], item["labels"].numpy())


def test_a_small_order_is_not_written(prepared: Prepared, tmp_path: Path) -> None:
    make(prepared, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("shared")
def test_a_large_order_is_written_once_and_is_the_same(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = every_token(make(prepared))
    np.testing.assert_array_equal(every_token(make(prepared, tmp_path)), expected)
    monkeypatch.setattr(epoch, "_save", None)
    np.testing.assert_array_equal(every_token(make(prepared, tmp_path)), expected)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("shared")
def test_each_epoch_is_written_apart(prepared: Prepared, tmp_path: Path) -> None:
    first, second = (every_token(make(prepared, tmp_path, number)) for number in (0, 1))
    assert len(list(tmp_path.iterdir())) == 2
    assert (first != second).any()


@pytest.mark.usefixtures("shared")
def test_a_cache_that_cannot_be_written_is_no_obstacle(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    expected = every_token(make(prepared))
    np.testing.assert_array_equal(every_token(make(prepared, tmp_path / "file")), expected)


@pytest.mark.usefixtures("shared", "last_rank_alone")
@pytest.mark.parametrize("cached", [False, True], ids=["in memory", "on disk"])
def test_any_rank_may_come_first(prepared: Prepared, tmp_path: Path, cached: bool) -> None:
    one = make(prepared, tmp_path if cached else None)
    assert len(every_token(one)) == len(one)


def test_it_is_silent(
    prepared: Prepared, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    make(prepared)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
