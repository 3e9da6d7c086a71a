"""Global samples to this rank's micro-batches."""

from __future__ import annotations

import numpy as np
import torch

from corpus.consumed import Consumed
from corpus.mixture import Mixture
from parallel.engine import Batch
from parallel.layout import Layout


class Batches:
    """The batches of one data rank. Which sample is which depends on its global number alone."""

    def __init__(
        self, samples: Mixture, layout: Layout, data_rank: int, consumed: Consumed | None = None
    ) -> None:
        """`consumed` is told of every sample read."""
        self._samples = samples
        self._layout = layout
        self._data_rank = data_rank
        self._consumed = consumed

    def at(self, first_sample: int, global_batch: int) -> Batch:
        """This rank's part of the `global_batch` samples from number `first_sample`."""
        places = list(self._layout.samples_of(self._data_rank, global_batch))
        if self._consumed is not None:
            self._consumed.note([first_sample + place for part in places for place in part])
        return Batch(
            micro_batches=[
                torch.from_numpy(
                    np.stack([self._samples[first_sample + place] for place in micro_batch])
                )
                for micro_batch in places
            ]
        )
