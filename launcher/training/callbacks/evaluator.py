"""Evaluates the loss on held-out text periodically."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from launcher.training.callbacks.callback import Callback, StepRecord


class Evaluation(Callback):
    """Collective: every rank evaluates its share.

    Args:
        evaluate: returns None if it was stopped; the step is then evaluated after a resume.
        every: interval in steps; 0 disables it.
        last: last step of the run, which is also evaluated.
    """

    def __init__(
        self,
        evaluate: Callable[[], float | None],
        every: int,
        last: int,
        listeners: Sequence[Callback],
    ) -> None:
        self._evaluate = evaluate
        self._every = every
        self._last = last
        self._listeners = listeners

    def after_step(self, record: StepRecord) -> None:
        """Evaluates if the step is due."""
        if self.is_due(record.step):
            self.of_step(record.step)

    def is_due(self, step: int) -> bool:
        """Whether the step is a multiple of `every` or the last."""
        return bool(self._every) and (step % self._every == 0 or step == self._last)

    def of_step(self, step: int) -> None:
        """Evaluates and notifies the listeners, unless it was stopped. Collective."""
        loss = self._evaluate()
        if loss is None:
            return
        for callback in self._listeners:
            callback.after_evaluation(step, loss)
