"""The loss on held-out text, now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from launcher.hooks.hook import Hook, StepRecord


class Evaluation(Hook):
    """Collective: every rank evaluates its share."""

    def __init__(
        self, evaluate: Callable[[], float], every: int, last: int, listeners: Sequence[Hook]
    ) -> None:
        self._evaluate = evaluate
        self._every = every
        self._last = last
        self._listeners = listeners

    def after_step(self, record: StepRecord) -> None:
        if self._every and (record.step % self._every == 0 or record.step == self._last):
            loss = self._evaluate()
            for hook in self._listeners:
                hook.after_evaluation(record.step, loss)
