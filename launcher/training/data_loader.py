"""Maps global samples to this rank's micro-batches, and prefetches them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from configs.schema import DeviceName
from corpus.dataset.fingerprint import SampleFingerprint
from corpus.dataset.mixture import Mixture
from parallel.engines.base import Batch
from parallel.layout import Layout
from parallel.runtime.device import Device


class Batches:
    """The batches of one data-parallel rank. A sample depends on its global number alone.

    A thread reads them, so that disk reads and the shuffling of a new epoch overlap with the
    previous step. For CUDA they are in pinned memory, so that copies are asynchronous too.
    """

    def __init__(
        self,
        samples: Mixture,
        layout: Layout,
        data_rank: int,
        device: Device,
        consumed: SampleFingerprint | None = None,
        *,
        documents: bool = False,
    ) -> None:
        """`consumed` is notified of every sample returned.

        Args:
            documents: batches say where documents begin.
        """
        self._samples = samples
        self._layout = layout
        self._data_rank = data_rank
        self._consumed = consumed
        self._documents = documents
        self._pin = device.name is DeviceName.cuda
        self._reader = ThreadPoolExecutor(1, "data", _use, (device,))
        self._prepared: tuple[tuple[int, int], Future[Batch]] | None = None

    def prepare(self, first_sample: int, global_batch: int) -> None:
        """Starts reading the batch that `at` will request next."""
        future = self._reader.submit(self._read, first_sample, global_batch)
        self._prepared = (first_sample, global_batch), future

    def at(self, first_sample: int, global_batch: int) -> Batch:
        """This rank's part of the `global_batch` samples starting at number `first_sample`.

        Raises RunError if the token file is damaged there.
        """
        if self._prepared is None or self._prepared[0] != (first_sample, global_batch):
            self.prepare(first_sample, global_batch)
        assert self._prepared is not None
        batch = self._prepared[1].result()
        self._prepared = None
        if self._consumed is not None:
            numbers = self._numbers(first_sample, global_batch)
            self._consumed.note([number for micro_batch in numbers for number in micro_batch])
        return batch

    def _numbers(self, first_sample: int, global_batch: int) -> list[list[int]]:
        """The sample numbers of each of this rank's micro-batches."""
        places = self._layout.samples_of(self._data_rank, global_batch)
        return [[first_sample + place for place in micro_batch] for micro_batch in places]

    def _read(self, first_sample: int, global_batch: int) -> Batch:
        rows = self._numbers(first_sample, global_batch)
        micro_batches = [_stacked(self._samples.__getitem__, numbers) for numbers in rows]
        if self._pin:
            micro_batches = [each.pin_memory() for each in micro_batches]
        starts = None
        if self._documents:
            starts = [_stacked(self._samples.starts, numbers) for numbers in rows]
        return Batch(micro_batches=micro_batches, starts=starts)


def _stacked(read: Callable[[int], npt.NDArray[Any]], numbers: list[int]) -> Tensor:
    return torch.from_numpy(np.stack([read(number) for number in numbers]))


def _use(device: Device) -> None:
    """Sets the thread's CUDA device, which is per thread; else all ranks would pin on the first."""
    if device.name is DeviceName.cuda:
        torch.cuda.set_device(device.torch_device)
