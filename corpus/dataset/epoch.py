"""One pass over a token file in its own order, by Megatron-core's GPTDataset."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corpus.dataset import shuffle
from corpus.dataset.megatron_import import quiet_import
from corpus.dataset.shuffle import order_folder, samples_in
from corpus.store.prepared import make_folder, publish

with quiet_import():
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    from megatron.core.datasets.utils import Split

# Its only warning is that the order was not written to disk; `Epoch` writes it itself.
logging.getLogger(GPTDataset.__module__).setLevel(logging.ERROR)

Positions = npt.NDArray[np.int64]
Order = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.integer]]


def open_tokens(prefix: Path) -> IndexedDataset:
    """Opens `prefix`.bin and `prefix`.idx, memory-mapped."""
    return IndexedDataset(str(prefix))


class Epoch(GPTDataset):  # type: ignore[misc]  # Megatron-core is untyped
    """Every sample of `tokens` once, shuffled by `seed` and `number`."""

    def __init__(self, tokens: IndexedDataset, *, context: int, seed: int, number: int) -> None:
        self._folder = order_folder(
            Path(tokens.path_prefix), context=context, seed=seed, epoch=number
        )
        super().__init__(
            indexed_dataset=tokens,
            dataset_path=tokens.path_prefix,
            indexed_indices=np.arange(len(tokens), dtype=np.int32),
            num_samples=None,  # one epoch
            index_split=Split.train,
            config=_config(context, _seed_of(seed, number)),
        )

    def tokens(self, index: int) -> npt.NDArray[np.int64]:
        """Sample `index` of this epoch, shape (context + 1,): inputs and shifted targets."""
        sample, _ = self._query_document_sample_shuffle_indices(index)
        return sample

    def starts(self, index: int) -> npt.NDArray[np.int32]:
        """Where documents begin in sample `index`, shape (context,): of each input the position of
        its document's first token, 0 for a document that began before the sample.
        """
        at = self.shuffle_index[index]
        (first, offset), (last, _) = self.sample_index[at], self.sample_index[at + 1]
        held = self.document_index[first : last + 1]
        lengths = self.dataset.sequence_lengths[held].astype(np.int64)
        lengths[0] -= offset
        begins = np.concatenate([[0], np.cumsum(lengths[:-1])])
        context = self.config.sequence_length
        number = np.searchsorted(begins, np.arange(context), side="right") - 1
        return begins[number].astype(np.int32)

    def positions(self, indices: Positions) -> tuple[Positions, Positions]:
        """The samples' start positions: documents of the token file, and tokens within them."""
        places, offsets = self.sample_index[self.shuffle_index[indices]].T
        return self.document_index[places].astype(np.int64), offsets.astype(np.int64)

    def _build_document_sample_shuffle_indices(self) -> Order:
        # Megatron-core makes rank 0 write the order and the others read it after a barrier. Here
        # ranks may arrive at any time, so the first one publishes it by a rename.
        size = samples_in(self._get_num_tokens_per_epoch(), self.config.sequence_length)
        if size < shuffle.SHARED:
            return super()._build_document_sample_shuffle_indices()
        folder = self._folder
        if not folder.is_dir():
            order = super()._build_document_sample_shuffle_indices()
            try:
                make_folder(folder.parent)
                publish(folder.parent, folder.name, lambda scratch: _save(order, scratch))
            except OSError:  # a read-only or full cache is not fatal
                return order
        return _load(folder)


def _save(order: Order, folder: Path) -> None:
    for name, array in zip(("document", "sample", "shuffle"), order, strict=True):
        np.save(folder / f"{name}.npy", array)


def _load(folder: Path) -> Order:
    document, sample, shuffle = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("document", "sample", "shuffle")
    )
    return document, sample, shuffle


def _seed_of(seed: int, epoch: int) -> int:
    """32 bits, as NumPy's RandomState takes."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:4], "big")


@dataclass(frozen=True)
class _NoTokenizer:
    """The parts of a tokenizer that GPTDataset requires although the text is already tokens."""

    vocab_size: None = None
    eod: int = 0  # read, then unused, as no mask is requested
    unique_identifiers: dict[str, str] = field(default_factory=dict)


def _config(context: int, seed: int) -> GPTDatasetConfig:
    return GPTDatasetConfig(
        random_seed=seed,
        sequence_length=context,
        tokenizer=_NoTokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        # No folder: Megatron-core would unpickle orders that it finds there.
        path_to_cache="",
    )
