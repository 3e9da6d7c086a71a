"""Stops or saves a training run on request: by a signal, or by a file.

A signal reaches ranks at different moments, and all must stop after the same step: they agree at
every step, and between the batches of an evaluation. The same message reports an asynchronous save
that has failed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import torch

from launcher.run.ownership import Lease
from launcher.run.run_dir import RunFolder
from launcher.training.broadcast import broadcast_from_rank0
from launcher.training.signals import Signals
from parallel.checkpoint.store import CheckpointStore
from parallel.runtime.device import Device

_STOP_FILE = 1 << 16  # above all signal numbers
_SAVE_FILE = 1
_TAKEN_OVER = 2  # above 1, which is a failed save


class Stop:
    """Agrees on stopping and saving. Collective: every rank calls it at the same points."""

    def __init__(
        self,
        signals: Signals,
        folder: RunFolder,
        device: Device,
        store: CheckpointStore,
        lease: Lease | None,
        say: Callable[[str], None] = print,
    ) -> None:
        """`lease`: of the run directory, where rank 0 knows it; `say`: prints a line."""
        self._signals = signals
        self._folder = folder
        self._store = store
        self._lease = lease
        self._say = say
        # The signal, whether to save, and whether something has failed, on the device whose
        # backend communicates them.
        self._asked = torch.zeros(3, dtype=torch.int64, device=device.torch_device)
        self._reads_files = torch.distributed.get_rank() == 0
        self.reason: str | None = None  # once set, it stays
        self.save_now = False  # as of the last `agreed`

    def agreed(self) -> bool:
        """Whether any rank was told to stop.

        Raises RunError on every rank if an asynchronous save has failed, or another run has taken
        the directory over.
        """
        if self.reason is not None:
            return True
        stop, save, failed = self._signals.came, 0, int(self._store.has_failed())
        if self._reads_files:
            stop = max(stop, _STOP_FILE * self._folder.stop_file.exists())
            save = _SAVE_FILE * self._folder.save_file.exists()
            failed = _TAKEN_OVER if self._lease is not None and self._lease.is_lost() else failed
        self._asked.copy_(torch.tensor([stop, save, failed]))
        torch.distributed.all_reduce(self._asked, torch.distributed.ReduceOp.MAX)
        stop, save, failed = self._asked.tolist()
        if failed == _TAKEN_OVER:
            broadcast_from_rank0(self._require_lease)
        if failed:
            self._store.finish()
        self.save_now = save == _SAVE_FILE
        if self.save_now and self._reads_files:
            self._folder.save_file.unlink(missing_ok=True)
            self._say("a SAVE file was found: saves after this step")
        if stop:
            self.reason = "a STOP file" if stop == _STOP_FILE else signal.Signals(stop).name
        return self.reason is not None

    def _require_lease(self) -> None:
        if self._lease is not None:
            self._lease.require()
