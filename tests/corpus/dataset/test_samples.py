from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError, RunError
from corpus.dataset.epoch import Epoch, open_tokens
from corpus.dataset.megatron_import import quiet_import
from corpus.dataset.samples import Samples
from corpus.store.prepared import Prepared

with quiet_import():
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

CONTEXT = 16


@pytest.fixture
def samples(prepared: Prepared) -> Samples:
    return Samples(prepared.tokens("text", "train"), context=CONTEXT, seed=7)


def rows(samples: Samples, numbers: range) -> list[tuple[int, ...]]:
    return [tuple(samples[number].tolist()) for number in numbers]


def test_a_sample_is_inputs_and_targets(samples: Samples) -> None:
    assert samples[0].shape == (CONTEXT + 1,)
    assert samples[0].dtype == np.int64


def test_every_target_is_read_once_an_epoch(samples: Samples, prepared: Prepared) -> None:
    assert len(samples) == (prepared.train_tokens - 1) // CONTEXT
    tokens = open_tokens(prepared.tokens("text", "train"))
    whole = np.bincount(np.concatenate([tokens[number] for number in range(len(tokens))]))
    for epoch in range(3):
        first = epoch * len(samples)
        targets = np.concatenate([samples[first + number][1:] for number in range(len(samples))])
        left_out = whole - np.bincount(targets, minlength=len(whole))
        assert left_out.min() >= 0
        assert left_out.sum() == prepared.train_tokens - CONTEXT * len(samples)


def test_samples_join_end_to_end(samples: Samples) -> None:
    """Each but one begins with the token that another ends with, as stretches of one text do."""
    first = sorted(int(samples[number][0]) for number in range(len(samples)))
    last = sorted(int(samples[number][-1]) for number in range(len(samples)))
    unmatched = np.bincount(first, minlength=300) - np.bincount(last, minlength=300)
    assert np.abs(unmatched).sum() <= 2


def test_no_epoch_repeats_another(samples: Samples) -> None:
    size = len(samples)
    epochs = [rows(samples, range(number * size, (number + 1) * size)) for number in range(3)]
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_a_sample_depends_on_its_number_and_the_seed_alone(
    samples: Samples, prepared: Prepared
) -> None:
    span = range(2 * len(samples) + 5)
    forwards = rows(samples, span)
    resumed = Samples(prepared.tokens("text", "train"), context=CONTEXT, seed=7)
    late = range(len(samples) + 3, len(span))
    assert rows(resumed, late) == forwards[late.start :]
    other = Samples(prepared.tokens("text", "train"), context=CONTEXT, seed=8)
    assert rows(other, range(20)) != forwards[:20]


def test_the_order_is_the_one_it_has_always_been(tmp_path: Path) -> None:
    """A change here breaks every run that is resumed, however good the new order."""
    samples = Samples(counting(tmp_path, tokens=101), context=10, seed=0)
    order = [int(samples[number][0]) // 10 for number in range(20)]
    assert order[:10] == [0, 3, 4, 6, 8, 5, 1, 7, 2, 9]
    assert order[10:] == [0, 7, 5, 8, 9, 1, 6, 4, 3, 2]


def counting(folder: Path, tokens: int) -> Path:
    """One document that counts from 0, so that a sample shows where it was read."""
    builder = IndexedDatasetBuilder(str(folder / "count.bin"), dtype=np.uint16)
    builder.add_document(np.arange(tokens), [tokens])
    builder.finalize(str(folder / "count.idx"))
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps({"files": sizes}))
    return folder / "count"


def test_samples_share_only_the_token_between_them(tmp_path: Path) -> None:
    samples = Samples(counting(tmp_path, tokens=101), context=10, seed=3)
    assert len(samples) == 10
    read = sorted(rows(samples, range(10)))
    assert read == [tuple(range(start, start + 11)) for start in range(0, 100, 10)]


def test_iterating_is_one_epoch(samples: Samples) -> None:
    assert len(list(samples)) == len(samples)


def test_negative_numbers_are_refused(samples: Samples) -> None:
    with pytest.raises(IndexError, match="numbered from 0"):
        samples[-1]


def test_validation_is_read_too(prepared: Prepared) -> None:
    samples = Samples(prepared.tokens("text", "validation"), context=CONTEXT, seed=0)
    assert len(samples) == (prepared.validation_tokens - 1) // CONTEXT


def test_a_token_outside_the_vocabulary_is_named(prepared: Prepared, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared.folder, tmp_path / "copy"))
    tokens = np.memmap(folder / "text.train.bin", np.uint16, mode="r+")
    tokens[:] = 7
    tokens[-1] = 300
    tokens.flush()
    samples = Samples(folder / "text.train", context=CONTEXT, seed=0, vocab=300)
    assert samples[1].max() < 300
    what = r"text\.train\.bin is damaged: document .* has the id 300, beyond model\.vocab=300"
    with pytest.raises(RunError, match=what):
        list(samples)
    tokens[-1] = 299
    assert len(list(samples)) == len(samples)


def test_too_long_a_context_is_refused(prepared: Prepared) -> None:
    with pytest.raises(InputError, match=r"text\.train\.bin holds .*=999999 needs 1,000,000$"):
        Samples(prepared.tokens("text", "train"), context=999_999, seed=0)


def test_a_context_of_all_tokens_lacks_a_last_target(tmp_path: Path) -> None:
    prefix = counting(tmp_path, tokens=10)
    with pytest.raises(InputError, match=r"holds 10 tokens, and .*=10 needs 11$"):
        Samples(prefix, context=10, seed=0)


def test_a_context_that_just_fits_is_one_sample(tmp_path: Path) -> None:
    samples = Samples(counting(tmp_path, tokens=11), context=10, seed=0)
    assert len(samples) == 1
    assert rows(samples, range(3)) == [tuple(range(11))] * 3


def test_positions_say_where_a_sample_begins(samples: Samples, prepared: Prepared) -> None:
    tokens = open_tokens(prepared.tokens("text", "train"))
    numbers = np.array([0, 3, len(samples) - 1, len(samples), 2 * len(samples) + 7])
    places = zip(*samples.positions(numbers), strict=True)
    for number, (document, offset) in zip(numbers, places, strict=True):
        text = np.concatenate([tokens[int(document)][offset:], samples[int(number)]])
        assert text[0] == samples[int(number)][0]
        length = min(len(tokens[int(document)]) - offset, CONTEXT)
        assert (text[:length] == samples[int(number)][:length]).all()


@pytest.mark.parametrize("name", ["text.train.bin", "text.train.idx"])
def test_a_truncated_file_is_refused(prepared: Prepared, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(prepared.folder, tmp_path / "copy"))
    (folder / name).write_bytes((folder / name).read_bytes()[:-2])
    with pytest.raises(InputError, match=rf"{name} has .* delete the folder {folder}"):
        Samples(folder / "text.train", context=CONTEXT, seed=0)


def test_a_sample_says_where_its_documents_begin(samples: Samples, prepared: Prepared) -> None:
    """By the token file alone, whatever tokens there are."""
    tokens = open_tokens(prepared.tokens("text", "train"))
    several = 0
    for number in (*range(len(samples)), 3 * len(samples) + 1):
        place, offset = (int(each[0]) for each in samples.positions(np.array([number])))
        # Walks through the epoch's documents from where the sample begins.
        order = samples.epoch(number // len(samples)).document_index
        at = int(np.flatnonzero(order == place)[0])
        expected: list[int] = []
        left, begin = len(tokens[int(order[at])]) - offset, 0
        for position in range(CONTEXT):
            if not left:
                at, begin = at + 1, position
                left = len(tokens[int(order[at])])
            expected.append(begin)
            left -= 1
        starts = samples.starts(number)
        assert starts.dtype == np.int32
        assert starts.tolist() == expected
        several += expected[-1] > 0
    assert several


def test_documents_of_one_token_and_one_longer_than_a_sample(tmp_path: Path) -> None:
    lengths = [1, 1, 1, 70, 1, 5, 16, 16, 1]
    builder = IndexedDatasetBuilder(str(tmp_path / "tokens.bin"), dtype=np.int32)
    for number, length in enumerate(lengths):
        builder.add_document(np.full(length, number, dtype=np.int32), [length])
    builder.finalize(str(tmp_path / "tokens.idx"))
    epoch = Epoch(open_tokens(tmp_path / "tokens"), context=CONTEXT, seed=3, number=0)
    for index in range(len(epoch)):
        inputs, starts = epoch.tokens(index)[:-1], epoch.starts(index)
        # Each document's tokens are its number, so that here they show where it begins.
        changes = np.flatnonzero(np.diff(inputs, prepend=inputs[0] - 1))
        expected = changes[np.searchsorted(changes, np.arange(CONTEXT), side="right") - 1]
        assert starts.tolist() == expected.tolist()
