"""A step's speed: tokens, model FLOPs, and the fraction of the devices' peak."""

from __future__ import annotations

import math

from configs.schema import DeviceName, Precision
from configs.settings.planning import ClusterConfig
from launcher.training.callbacks.callback import StepRecord
from models.flops import step_flops
from models.shape import ModelShape
from parallel.engines.base import StepResult
from parallel.gpu_peaks import peak_tflops
from parallel.runtime.device import Device


class Speed:
    """Converts a step's time to tokens/s, the model's TFLOP/s and MFU."""

    def __init__(
        self,
        shape: ModelShape,
        ranks: int,
        device: Device,
        precision: Precision,
        cluster: ClusterConfig,
    ) -> None:
        self._shape = shape
        self._device = device
        self._peak: float | None = None  # summed over ranks
        if device.name is DeviceName.cuda:
            known = cluster.peak_tflops.get(precision) or peak_tflops(device.label, precision)
            self._peak = known * ranks if known else None

    def record(
        self,
        step: int,
        samples: int,
        batch: int,
        learning_rate: float,
        result: StepResult,
        seconds: float,
    ) -> StepRecord:
        """The step's record; a skipped step (loss NaN) counts no tokens and FLOPs."""
        taken = 0 if math.isnan(result.loss) else batch
        tflops = step_flops(self._shape, taken) / seconds / 1e12
        return StepRecord(
            step=step,
            loss=result.loss,
            grad_norm=result.grad_norm,
            learning_rate=learning_rate,
            samples=samples,
            tokens=samples * self._shape.context,
            step_time_s=seconds,
            tokens_per_s=taken * self._shape.context / seconds,
            tflops=tflops,
            mfu=tflops / self._peak if self._peak else None,
            memory_gib=self._device.peak_memory_bytes() / 2**30,
            loss_scale=result.loss_scale,
            skipped=result.skipped,
            routing=result.routing,
        )
