"""The number of samples per step: the batch ramp-up as a value that every layout shares.

GPT-3 grew its batch linearly from 32k tokens to the full size over the first 4 to 12 billion
tokens (Brown et al. 2020, Appendix B). As with Megatron-LM's `--rampup-batch-size START INCREMENT
SAMPLES`, the size goes up in equal increments and every size gets an equal share of the ramp's
samples. The increment is `ramp_start`: were it taken from the layout, the same run would read its
data in other portions under another layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from configs.schema import Run


@dataclass(frozen=True, slots=True)
class Phase:
    """Consecutive steps of one batch size; the last phase is unbounded."""

    first_step: int  # from 0: this many steps precede it
    first_sample: int  # from 0
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """Samples per step. With a ramp, global_batch must be a multiple of ramp_start."""

    global_batch: int
    ramp_start: int
    ramp_tokens: int  # 0: every step takes global_batch
    context: int

    def __post_init__(self) -> None:
        assert self.global_batch >= 1, self
        assert self.context >= 1, self
        assert self.ramp_tokens >= 0, self
        assert self.ramp_tokens == 0 or 1 <= self.ramp_start <= self.global_batch, self
        assert self.ramp_tokens == 0 or self.global_batch % self.ramp_start == 0, self

    @classmethod
    def of(cls, run: Run) -> BatchPlan:
        """The plan from the run's settings."""
        return cls(
            global_batch=run.train.global_batch,
            ramp_start=run.optimizer.ramp_start,
            ramp_tokens=run.optimizer.ramp_tokens,
            context=run.model.context,
        )

    @property
    def ramp_samples(self) -> int:
        """Samples of the ramp, without its last partial size; 0: there is no ramp."""
        return self.ramp_tokens // self.context

    @property
    def increments(self) -> int:
        """The number of times the size increases."""
        return self.global_batch // self.ramp_start - 1 if self.ramp_samples else 0

    def sizes(self) -> list[int]:
        """The sizes of the ramp in order, the full one last. A very short ramp may skip some."""
        return [self._size(level) for level in range(self.increments + 1)]

    def size_at(self, samples: int) -> int:
        """The size of the step before which `samples` samples were consumed."""
        return self._size(self._level(samples))

    def samples_after(self, steps: int) -> int:
        """The samples that the first `steps` steps consume."""
        assert steps >= 0, steps
        phase = next(p for p in self._phases_backwards() if p.first_step <= steps)
        return phase.first_sample + (steps - phase.first_step) * phase.size

    def steps_for(self, samples: int) -> int:
        """The fewest steps that consume at least `samples` samples."""
        assert samples >= 0, samples
        phase = next(p for p in self._phases_backwards() if p.first_sample <= samples)
        return phase.first_step + _ceil(samples - phase.first_sample, phase.size)

    def phases(self) -> Iterator[Phase]:
        """The run as phases of one size: as many as there are sizes, however long."""
        step = sample = 0
        while (level := self._level(sample)) < self.increments:
            phase = Phase(step, sample, self._size(level))
            yield phase
            steps = _ceil(self._end_of(level) - sample, phase.size)
            step, sample = step + steps, sample + steps * phase.size
        yield Phase(step, sample, self.global_batch)

    def _phases_backwards(self) -> list[Phase]:
        return list(self.phases())[::-1]

    def _size(self, level: int) -> int:
        below_full = self.increments - level
        return self.global_batch - below_full * self.ramp_start

    def _level(self, samples: int) -> int:
        if samples >= self.ramp_samples:
            return self.increments
        return samples * self.increments // self.ramp_samples

    def _end_of(self, level: int) -> int:
        """The first sample before which a step has left `level`."""
        return _ceil((level + 1) * self.ramp_samples, self.increments)


def steps_of(run: Run) -> int:
    """The total steps of the run: as configured, or until the recipe's tokens have been read."""
    if run.train.steps is not None:
        return run.train.steps
    return BatchPlan.of(run).steps_for(_ceil(run.model.recipe.tokens, run.model.context))


def _ceil(total: int, part: int) -> int:
    return -(-total // part)
