from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from corpus.dataset import mixture as module
from corpus.dataset.fingerprint import SampleFingerprint, fingerprint
from corpus.dataset.mixture import BLOCK, Mixture, blend
from corpus.dataset.mixture_plan import plan_mixture
from corpus.dataset.samples import Samples
from corpus.sources.sources import sources_of
from corpus.store.prepared import Prepared
from tests.runs import run_of

CONTEXT = 16
SHARES = {"part0": 0.6, "part1": 0.3, "part2": 0.1}


def make(prepared: Prepared, shares: Mapping[str, float] = SHARES, seed: int = 7) -> Mixture:
    return Mixture(prepared, "train", shares, context=CONTEXT, seed=seed)


@pytest.fixture
def mixture(mixed: Prepared) -> Mixture:
    return make(mixed)


@pytest.mark.parametrize("name", ["default", "gpt3"])
def test_every_source_gets_its_share(name: str) -> None:
    """Within two samples at every moment, so within 0.1 % of its weight over a run."""
    shares = [source.share for source in sources_of(run_of(f"corpus={name}").corpus)]
    source, _ = blend(shares, 100_000)
    drawn = np.stack([np.cumsum(source == each) for each in range(len(shares))], axis=1)
    expected = np.arange(1, 100_001)[:, None] * np.array(shares)
    assert np.abs(drawn - expected).max() <= 2
    assert drawn[-1] / 100_000 == pytest.approx(shares, rel=1e-3)


def test_a_source_is_read_from_its_first_sample_on(mixture: Mixture, mixed: Prepared) -> None:
    numbers = np.arange(3_000)
    source, index = mixture.places(numbers)
    for each in range(3):
        mine = index[source == each]
        assert (mine == np.arange(len(mine))).all()
    for number in (0, 1, 17, 2_999):
        expected = mixture.sources[source[number]][int(index[number])]
        assert (mixture[number] == expected).all()


def test_the_pattern_begins_again_and_no_sample_is_lost(
    mixed: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 50)
    source, index = make(mixed).places(np.arange(500))
    for each, share in enumerate(SHARES.values()):
        mine = index[source == each]
        assert (mine == np.arange(len(mine))).all()
        assert len(mine) == round(500 * share)


def test_far_samples_cost_no_more_than_near_ones(mixture: Mixture) -> None:
    assert len(mixture[7 * BLOCK + 3]) == CONTEXT + 1


def test_one_source_is_read_as_it_is(prepared: Prepared) -> None:
    mixture = make(prepared, {"text": 1.0})
    source, index = mixture.places(np.arange(BLOCK - 2, BLOCK + 2))
    assert source.tolist() == [0] * 4
    assert index.tolist() == list(range(BLOCK - 2, BLOCK + 2))


def test_a_source_without_weight_is_not_read(mixed: Prepared) -> None:
    mixture = make(mixed, {"part0": 0.5, "part1": 0.5, "part2": 0.0})
    assert mixture.names == ["part0", "part1"]


def test_sources_have_orders_of_their_own(mixture: Mixture, mixed: Prepared) -> None:
    own = [samples.epoch(0).shuffle_index[:50].tolist() for samples in mixture.sources]
    assert own[0] != own[1]
    assert make(mixed, seed=8)[0].tolist() != mixture[0].tolist()


def test_the_order_is_the_one_it_has_always_been() -> None:
    """A change here breaks every run that is resumed, however good the new order."""
    source, _ = blend([0.6, 0.22, 0.08, 0.08, 0.02], 25)
    assert "".join(map(str, source)) == "0102030100104001020301000"


def test_negative_numbers_are_refused(mixture: Mixture) -> None:
    with pytest.raises(IndexError, match="numbered from 0"):
        mixture[-1]


def test_ids_tell_text_and_number_apart(mixture: Mixture) -> None:
    ids = mixture.ids(np.arange(20_000))
    assert len(np.unique(ids)) == len(ids)


def test_ids_say_which_text_is_read(mixture: Mixture, mixed: Prepared) -> None:
    """Two mixtures give a sample the same id if and only if it is the same text."""
    numbers = np.arange(500)
    other = make(mixed, {"part0": 0.6, "part1": 0.29, "part2": 0.11})
    same = mixture.ids(numbers) == other.ids(numbers)
    texts = [(mixture[int(n)] == other[int(n)]).all() for n in numbers]
    assert same.tolist() == texts
    assert 0 < same.sum() < 500


def test_ranks_together_read_what_one_would(mixture: Mixture) -> None:
    ranks = [SampleFingerprint(mixture) for _ in range(4)]
    for number in range(1_000):
        ranks[number % 4].note([number])
    assert sum(rank.sum for rank in ranks) % 2**64 == fingerprint(mixture, 0, 1_000)


@pytest.mark.parametrize("wrong", [[0, 1, 1, 3], [0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 4]])
def test_a_sample_read_twice_or_missed_shows(mixture: Mixture, wrong: list[int]) -> None:
    reader = SampleFingerprint(mixture)
    reader.note(wrong)
    assert reader.sum != fingerprint(mixture, 0, 4)


def test_fingerprints_add_up(mixture: Mixture) -> None:
    parts = fingerprint(mixture, 0, 300) + fingerprint(mixture, 300, 2_000)
    assert parts % 2**64 == fingerprint(mixture, 0, 2_000)


def test_the_plan_is_what_is_read(mixture: Mixture, mixed: Prepared) -> None:
    samples = 3 * len(mixture.sources[0])
    plans = plan_mixture(mixed, SHARES, context=CONTEXT, samples=samples)
    source, index = mixture.places(np.arange(samples))
    for each, plan in enumerate(plans):
        read = Samples(mixed.tokens(plan.name, "train"), context=CONTEXT, seed=0)
        mine = np.flatnonzero(source == each)
        assert plan.samples == pytest.approx(len(mine), abs=2)
        assert plan.epochs == pytest.approx(len(mine) / len(read), abs=2 / len(read))
        if plan.wraps_at is None:
            assert len(mine) <= len(read)
        else:
            begins_anew = mine[index[mine] == len(read)][0]
            assert abs(begins_anew - plan.wraps_at) <= 2 / plan.share + 1
