"""The learning rate of every step, as a pure function of the samples consumed.

Linear warm-up from zero, a cosine down to a fraction of the peak, constant afterwards (Brown et al.
2020, Appendix B), counted in tokens so that neither the batch ramp-up nor a resume shifts it. The
curve is that of Megatron-core's OptimizerParamScheduler, evaluated at another point: Megatron
counts the tokens before the step, so its first step has rate 0 and learns nothing; here the step's
own tokens count too, so the first step learns and the last step of the warm-up has the peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs.schema import Run
from parallel.batch_schedule import BatchPlan, steps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRate:
    """The curve of one run: peak and floor as rates, the rest in tokens."""

    peak: float
    floor: float  # the final rate of the cosine
    warmup_tokens: int
    decay_tokens: int  # the cosine ends here
    context: int  # tokens per sample

    @classmethod
    def of(cls, run: Run) -> LearningRate:
        """The curve from the settings; without `decay_tokens` it ends with the run."""
        optimizer = run.optimizer
        decay_tokens = optimizer.decay_tokens
        if decay_tokens is None:
            decay_tokens = BatchPlan.of(run).samples_after(steps_of(run)) * run.model.context
        return cls(
            peak=optimizer.learning_rate,
            floor=optimizer.learning_rate * optimizer.min_learning_rate_fraction,
            warmup_tokens=optimizer.warmup_tokens,
            decay_tokens=decay_tokens,
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
        done = (tokens - self.warmup_tokens) / (self.decay_tokens - self.warmup_tokens)
        return self.floor + (self.peak - self.floor) * (1 + math.cos(math.pi * done)) / 2
