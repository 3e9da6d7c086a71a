"""Which samples a run reads: the same under every data size, micro-batch, ramp and resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import InputError, RunError
from configs.schema import DeviceName
from corpus.dataset.fingerprint import SampleFingerprint, fingerprint
from corpus.dataset.mixture import Mixture
from corpus.prepare.prepare import prepare
from corpus.store.prepared import Prepared, reopen
from launcher.training.data_loader import Batches
from launcher.training.sample_audit import SampleIds
from parallel.batch_schedule import BatchPlan
from parallel.checkpoint.manifest import TrainState
from parallel.layout import Layout
from parallel.runtime.device import Device, open_device
from tests.pool import RankPool
from tests.runs import run_of

SHARES = {"one": 0.7, "two": 0.3}
RAMP = BatchPlan(global_batch=32, ramp_start=8, ramp_tokens=16 * 300, context=16)
CPU = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
STATE = TrainState(step=3, samples=0, tokens=0, seed=7, corpus="", adam_step=3, scaler={}, model={})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("texts")
    for name, lines in (("one", 900), ("two", 400)):
        text = "".join(f"{name} {number} {number**3 % 1009}\n" for number in range(lines))
        (folder / f"{name}.txt").write_text(text)
    run = run_of("model.vocab=300 model.context=16 model.window=8")
    config = next(iter(run.corpus.sources.values()))
    sources = {
        name: replace(config, machine=None, path=str(folder / f"{name}.txt"), weight=weight)
        for name, weight in SHARES.items()
    }
    return prepare(replace(run.corpus, sources=sources, cache=str(folder / "cache")), run.model)


def mixture_of(folder: Path, shares: dict[str, float] = SHARES) -> Mixture:
    return Mixture(reopen(folder), "train", shares, context=16, seed=7)


class Recorded(SampleFingerprint):
    """Remembers the numbers too."""

    def __init__(self, mixture: Mixture) -> None:
        super().__init__(mixture)
        self.numbers: list[int] = []

    def note(self, numbers: Any) -> None:
        super().note(numbers)
        self.numbers += numbers


def read(prepared: Prepared, data: int, micro_batch: int, until: int) -> list[list[int]]:
    """The samples of each step under the ramp, from the batches of all data ranks."""
    mixture = mixture_of(prepared.folder)
    config = replace(run_of().layout, tensor=1, pipeline=1, data=data, micro_batch=micro_batch)
    layout = Layout.resolve(config, data)
    ranks = [Recorded(mixture) for _ in range(data)]
    batches = [Batches(mixture, layout, rank, CPU, ranks[rank]) for rank in range(data)]
    steps, samples = [], 0
    while samples < until:
        size = RAMP.size_at(samples)
        for rank in range(data):
            ranks[rank].numbers.clear()
            batch = batches[rank].at(samples, size)
            batches[rank].prepare(samples + size, RAMP.size_at(samples + size))
            texts = np.concatenate([each.numpy() for each in batch.micro_batches])
            assert (texts == [mixture[number] for number in ranks[rank].numbers]).all()
        steps.append(sorted(number for rank in ranks for number in rank.numbers))
        samples += size
    assert sum(rank.sum for rank in ranks) % 2**64 == fingerprint(mixture, 0, samples)
    return steps


def test_samples_are_the_same_under_every_data_size(prepared: Prepared) -> None:
    one = read(prepared, data=1, micro_batch=8, until=700)
    assert [number for step in one for number in step] == list(range(sum(map(len, one))))
    assert {len(step) for step in one} == {8, 16, 24, 32}
    assert read(prepared, data=2, micro_batch=4, until=700) == one
    assert read(prepared, data=4, micro_batch=1, until=700) == one


def test_what_was_prepared_counts_when_it_is_taken(prepared: Prepared) -> None:
    mixture = mixture_of(prepared.folder)
    recorded = Recorded(mixture)
    batches = Batches(mixture, Layout(micro_batch=2), 0, CPU, recorded)
    batches.prepare(100, 4)
    batches.prepare(8, 4)  # a run that went back asks for something else
    assert recorded.numbers == []
    for first in (8, 20, 20):
        recorded.numbers.clear()
        texts = torch.cat(batches.at(first, 4).micro_batches).numpy()
        assert recorded.numbers == list(range(first, first + 4))
        assert (texts == [mixture[number] for number in recorded.numbers]).all()


def test_what_could_not_be_prepared_is_told_when_it_is_taken(prepared: Prepared) -> None:
    small = Mixture(reopen(prepared.folder), "train", SHARES, context=16, seed=7, vocab=3)
    batches = Batches(small, Layout(micro_batch=2), 0, CPU)
    batches.prepare(0, 4)
    with pytest.raises(RunError, match=r"beyond model\.vocab=3"):
        batches.at(0, 4)


def totals(folder: Path, missed: bool) -> list[Any]:
    """Each of the ranks reads its part of 40 samples, twice; the fingerprints, or the error."""
    rank, world = _rank_and_world()
    ids = SampleIds(mixture_of(folder), counts=True, device=open_device(run_of().device, 0, 1))
    found: list[Any] = []
    for first in (0, 40):
        ids.consumed.note(list(range(first + rank, first + 40, world)))
        if missed and first == 40 and rank == 0:
            ids.consumed.note([3])
        try:
            found.append(ids.total(first + 40))
        except RunError as error:
            found.append(str(error))
    return found


def resume(folder: Path, shares: dict[str, float], samples: int, sample_ids: str) -> str:
    ids = SampleIds(
        mixture_of(folder, shares), counts=True, device=open_device(run_of().device, 0, 1)
    )
    state = replace(STATE, samples=samples, sample_ids=sample_ids)
    try:
        ids.go_on_from(state, Path("there"))
    except InputError as error:
        return str(error)
    rank, world = _rank_and_world()
    ids.consumed.note(list(range(samples + rank, samples + 40, world)))
    return ids.total(samples + 40)


def _rank_and_world() -> tuple[int, int]:
    import torch

    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def test_every_data_size_gives_the_fingerprint_of_the_definition(
    ranks: RankPool, prepared: Prepared
) -> None:
    mixture = mixture_of(prepared.folder)
    expected = [f"{fingerprint(mixture, 0, stop):016x}" for stop in (40, 80)]
    for world in (1, 2, 4):
        assert ranks.run(world, totals, prepared.folder, False) == [expected] * world


def test_a_sample_read_twice_ends_the_run_on_every_rank(
    ranks: RankPool, prepared: Prepared
) -> None:
    for found in ranks.run(2, totals, prepared.folder, True):
        assert "of the samples 40 to 79 one was read twice or not at all" in found[1]


def test_a_resume_goes_on_under_another_data_size(ranks: RankPool, prepared: Prepared) -> None:
    mixture = mixture_of(prepared.folder)
    saved = f"{fingerprint(mixture, 0, 40):016x}"
    expected = f"{fingerprint(mixture, 0, 80):016x}"
    for world in (1, 4):
        assert ranks.run(world, resume, prepared.folder, SHARES, 40, saved) == [expected] * world


def test_a_resume_under_other_weights_is_refused(ranks: RankPool, prepared: Prepared) -> None:
    saved = f"{fingerprint(mixture_of(prepared.folder), 0, 40):016x}"
    others = {"one": 0.5, "two": 0.5}
    for found in ranks.run(2, resume, prepared.folder, others, 40, saved):
        assert found.startswith("checkpoint=there: its 40 samples are not the first 40 of this run")
        assert "the weights of corpus.sources" in found
