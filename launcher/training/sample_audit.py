"""Verifies that a run reads each sample once, by summing and comparing its ranks' fingerprints."""

from __future__ import annotations

from pathlib import Path

import torch

from configs.errors import InputError, RunError
from corpus.dataset.fingerprint import MODULUS, SampleFingerprint, fingerprint
from corpus.dataset.mixture import Mixture
from launcher.training.broadcast import broadcast_from_rank0
from parallel.checkpoint.manifest import TrainState
from parallel.runtime.device import Device

HALF = MODULUS // 2  # the sign bit of a 64-bit integer


class SampleIds:
    """Every rank has one; of the ranks that read the same samples, one `counts`."""

    def __init__(self, mixture: Mixture, *, counts: bool, device: Device) -> None:
        self.consumed = SampleFingerprint(mixture)
        self._mixture = mixture
        self._counts = counts
        self._device = device
        self._samples, self._before = 0, 0

    def go_on_from(self, state: TrainState, checkpoint: Path) -> None:
        """Raises InputError if the checkpoint has read other samples than this run. Collective."""
        self._samples, self._before = state.samples, int(state.sample_ids or "0", 16)
        self.consumed.sum = 0
        if state.sample_ids:
            broadcast_from_rank0(lambda: self._require_same(state, checkpoint))

    def total(self, samples: int) -> str:
        """The fingerprint of all `samples` read so far, as 16 hexadecimal digits. Collective.

        Raises RunError if the ranks together did not read each of them once.
        """
        mine = self.consumed.sum if self._counts else 0
        read = torch.tensor([mine - MODULUS if mine >= HALF else mine], dtype=torch.int64)
        read = read.to(self._device.torch_device)
        torch.distributed.all_reduce(read)  # the overflow is intended
        total = (self._before + int(read.item())) % MODULUS
        broadcast_from_rank0(lambda: self._require_each_once(total, samples))
        self._before, self._samples, self.consumed.sum = total, samples, 0
        return f"{total:016x}"

    def _require_same(self, state: TrainState, checkpoint: Path) -> None:
        if fingerprint(self._mixture, 0, state.samples) != self._before:
            raise InputError(
                f"checkpoint={checkpoint}: its {state.samples:,} samples are not the first "
                f"{state.samples:,} of this run; nearest: the weights of corpus.sources and the "
                "versions of megatron-core and numpy that it was trained with"
            )

    def _require_each_once(self, total: int, samples: int) -> None:
        new = fingerprint(self._mixture, self._samples, samples)
        if total != (self._before + new) % MODULUS:
            raise RunError(
                f"of the samples {self._samples:,} to {samples - 1:,} one was read twice or not "
                "at all; the newest checkpoint is from before that"
            )
