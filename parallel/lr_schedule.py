"""The learning rate of every step, as a pure function of the samples consumed.

Linear warm-up from zero, then a decay to a fraction of the peak, constant afterwards, counted in
tokens so that neither the batch ramp-up nor a resume shifts it. The decay is a cosine (Brown et al.
2020, Appendix B), a line, none, or that of WSD: the peak until the last part of the run, and down
by 1 - sqrt there (Hu et al. 2024, MiniCPM; Haegele et al. 2024).

The curves are those of Megatron-core's OptimizerParamScheduler, evaluated at another point:
Megatron counts the tokens before the step, so its first step has rate 0 and learns nothing; here
the step's own tokens count too, so the first step learns and the last step of the warm-up has the
peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs.schema import RateSchedule, Run
from parallel.batch_schedule import BatchPlan, steps_of

_ANNEALED = 10  # the part of a WSD run that its decay takes by default: a tenth


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRate:
    """The curve of one run: peak and floor as rates, the rest in tokens."""

    schedule: RateSchedule = RateSchedule.cosine
    peak: float
    floor: float  # the rate at the end of the decay
    warmup_tokens: int
    decay_begins: int  # after the warm-up; for WSD later
    decay_tokens: int  # the decay ends here
    context: int  # tokens per sample

    @classmethod
    def of(cls, run: Run) -> LearningRate:
        """The curve from the settings; without `decay_tokens` it ends with the run."""
        optimizer = run.optimizer
        peak, warmup = optimizer.learning_rate, optimizer.warmup_tokens
        end = decay_end(run)
        if optimizer.schedule is RateSchedule.constant:
            end = warmup  # it has none: a run of another length has the same curve
        begins = warmup
        if optimizer.schedule is RateSchedule.wsd:
            begins = max(warmup, end - annealing_tokens(run))
        return cls(
            schedule=optimizer.schedule,
            peak=peak,
            floor=peak
            if optimizer.schedule is RateSchedule.constant
            else peak * optimizer.min_learning_rate_fraction,
            warmup_tokens=warmup,
            decay_begins=begins,
            decay_tokens=end,
            context=run.model.context,
        )

    def of_step(self, samples: int, batch: int) -> float:
        """The rate of a step of `batch` samples before which `samples` were consumed."""
        return self.at((samples + batch) * self.context)

    def at(self, tokens: int) -> float:
        """The curve itself. A run shorter than its warm-up never leaves the warm-up."""
        if tokens <= self.warmup_tokens:
            return self.peak * tokens / self.warmup_tokens if self.warmup_tokens else self.peak
        if tokens >= self.decay_tokens:
            return self.floor
        if tokens <= self.decay_begins:
            return self.peak
        done = (tokens - self.decay_begins) / (self.decay_tokens - self.decay_begins)
        return self.floor + (self.peak - self.floor) * self._left(done)

    def _left(self, done: float) -> float:
        """How much of the way from the floor to the peak is left, once `done` of the decay is."""
        if self.schedule is RateSchedule.linear:
            return 1 - done
        if self.schedule is RateSchedule.wsd:
            return 1 - math.sqrt(done)
        return (1 + math.cos(math.pi * done)) / 2


def decay_end(run: Run) -> int:
    """The token at which the decay ends."""
    if run.optimizer.decay_tokens is not None:
        return run.optimizer.decay_tokens
    return BatchPlan.of(run).samples_after(steps_of(run)) * run.model.context


def annealing_tokens(run: Run) -> int:
    """The tokens of WSD's decay."""
    given = run.optimizer.annealing_tokens
    return decay_end(run) // _ANNEALED if given is None else given
