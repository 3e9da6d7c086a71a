"""Compares the dry run's predictions with measurements: rank 0's memory and traffic, and the step
time.

The step time on a CPU follows from smaller steps that were measured on this machine before the run;
where there are none it is not told, since constants of other machines and code are off by several
times. The number of collectives is exact everywhere; that of bytes is too, but for experts on other
ranks, to which as many tokens are sent as a router says: predicted are even loads.
"""

from __future__ import annotations

import math
import statistics
from contextlib import ExitStack
from dataclasses import replace

from configs.errors import InputError
from configs.schema import DeviceName, Run
from launcher.training.callbacks.callback import Callback, StepRecord
from parallel.batch_schedule import BatchPlan
from parallel.layout import Layout
from parallel.planner.communication.traffic import Traffic, steps_to_settle
from parallel.planner.plan import Plan
from parallel.planner.trace.collective_counter import Counts, counting

_SETTLED = 3  # steps of this start before timings are steady
_GIB = 2**30


class PredictionCallback(Callback):
    """Counts the traffic of one step, the first in a steady state; none if this start has none."""

    def __init__(self, run: Run, layout: Layout, device: DeviceName, first: int, last: int) -> None:
        self._run, self._layout, self._device = run, layout, device
        self._counted_step = first + steps_to_settle(layout)
        self._settled = min(first + _SETTLED, last)
        self._counting = ExitStack()
        self._counts: Counts | None = None
        self._records: list[StepRecord] = []
        self._last: StepRecord | None = None
        self._samples = 0  # consumed so far
        self._batch = run.train.global_batch  # of the step that is counted

    def before_step(self, step: int) -> None:
        """Starts counting collectives at the chosen step."""
        if step == self._counted_step:
            self._counts = self._counting.enter_context(counting(self._layout))
            self._batch = BatchPlan.of(self._run).size_at(self._samples)

    def after_step(self, record: StepRecord) -> None:
        """Ends the count; if the step was skipped, the next one is counted."""
        self._counting.close()
        self._samples = record.samples
        if math.isnan(record.loss):  # the step was skipped
            self._counted_step += record.step == self._counted_step
            return
        self._last = record
        if record.step >= self._settled:
            self._records.append(record)

    def on_rollback(self, step: int) -> None:
        """Ends the count of a step that did not finish."""
        self._counting.close()

    def lines(self) -> list[str]:
        """The comparison; or one line with the reason if nothing can be predicted."""
        if self._last is None:
            return []
        try:
            plan = Plan.of(self._run, self._layout, self._device)
        except InputError as error:
            return [f"no prediction: {error}"]
        memory = plan.memories[0]
        on_cpu = self._device is DeviceName.cpu
        predicted = memory.total if on_cpu else memory.allocated
        return [
            "predicted beside measured, rank 0",
            f"{'':<18} {'predicted':>14} {'measured':>14}",
            *([] if on_cpu and not plan.probes else [self._step_time(plan)]),
            _line("memory, GiB", predicted / _GIB, self._last.memory_gib, "{:,.2f}"),
            *([] if self._counts is None else self._traffic(self._counts.traffic())),
        ]

    def _traffic(self, counted: list[Traffic]) -> list[str]:
        train = replace(self._run.train, global_batch=self._batch)  # smaller during the ramp
        plan = Plan.of(replace(self._run, train=train), self._layout, self._device)
        uneven = self._layout.expert * self._layout.expert_tensor > 1
        return [
            _line("collectives a step", _count(plan.traffic[0]), _count(counted), "{:,}"),
            _line("their bytes", _bytes(plan.traffic[0]), _bytes(counted), "{:,}")
            + ("  even loads are predicted" if uneven else ""),
        ]

    def _step_time(self, plan: Plan) -> str:
        last = [] if self._last is None else [self._last]
        full = [each for each in self._records if each.tokens_per_s] or last
        seconds = statistics.median(each.step_time_s for each in full)
        return _line("step time, s", plan.time.seconds, seconds, "{:,.4g}")


def _line(what: str, predicted: float, measured: float, form: str) -> str:
    off = f"{(predicted / measured - 1) * 100:+8.1f} %" if measured else ""
    return f"{what:<18} {form.format(predicted):>14} {form.format(measured):>14}{off}"


def _count(traffic: list[Traffic]) -> int:
    return sum(each.count for each in traffic)


def _bytes(traffic: list[Traffic]) -> int:
    return sum(each.bytes for each in traffic)
