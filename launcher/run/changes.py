"""What a resume changes about a run. Prints it, and requires confirmation if training changes.

The layout, engine, device, logging and a larger step count do not change what is trained. The
optimizer, its schedule, the batch, the precision and what attention sees of a sample do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from configs.errors import InputError
from configs.override import override
from configs.schema import RateSchedule, Run
from configs.words import listed
from launcher.run.resolve import ResolvedRun
from launcher.run.settings import ONCE, key_of
from parallel.batch_schedule import BatchPlan, steps_of
from parallel.checkpoint.manifest import TrainState
from parallel.lr_schedule import LearningRate

_MEANING = (
    *("optimizer", "precision", "train.global_batch"),
    *("train.document_mask", "train.restart_positions"),
)
# How and where one start runs, or values that the files naming them already imply.
_UNSHOWN = (*ONCE, "launch", "cluster", "checkpoint", "model.recipe")
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Change:
    """A setting whose value a resume changes."""

    setting: str
    before: object
    now: object

    @property
    def of_meaning(self) -> bool:
        """Whether the setting changes what is trained."""
        return _within(self.setting, _MEANING)

    def __str__(self) -> str:
        return f"{self.setting} {_value(self.before)} -> {_value(self.now)}"


def changes(before: Run, now: Run) -> list[Change]:
    """Changes of persistent settings, in the order of the schema."""
    found = (Change(name, old, new) for name, old, new in _pairs(before, now) if old != new)
    return [change for change in found if not _within(change.setting, _UNSHOWN)]


def lines(found: list[Change]) -> Iterator[str]:
    """The lines printed before the run resumes."""
    for change in found[:_SHOWN]:
        yield f"changed  {change}"
    if len(found) > _SHOWN:
        yield f"changed  and {len(found) - _SHOWN} more; config.yaml has them all"


def require_meant(found: list[Change], step: int, run: Run, given: Collection[str]) -> None:
    """Raises InputError if training itself would change and the user has not allowed it."""
    # If keep_schedule has fixed the decay's end, only this override can restart the decay.
    decays_anew = any(key_of(each) == "optimizer.decay_tokens" for each in given)
    changed = [
        change
        for change in found
        if change.of_meaning
        and not (decays_anew and change.setting == "optimizer.decay_tokens" and change.now is None)
    ]
    if not changed or run.train.allow_changes:
        return
    said = listed([f"{override(c.setting, c.before)} (now {_value(c.now)})" for c in changed])
    raise InputError(
        f"run_dir={run.run_dir}: was trained to step {step} with {said}; nearest: "
        "train.allow_changes=true goes on with what is new"
    )


def keep_schedule(
    before: Run, plan: ResolvedRun, requested: Run, state: TrainState, given: Collection[str]
) -> tuple[ResolvedRun, Run, str]:
    """Keeps the learning rates of a run whose number of steps changes.

    Returns the plan and the settings, with the decay's end fixed explicitly if it would have moved,
    and a line that reports it. Under WSD a longer run is stable for longer and decays at its own
    end; raises InputError if its checkpoint is of the decay, after which it cannot be stable again.
    """
    run = plan.run
    was, would = LearningRate.of(before), LearningRate.of(run)
    named = any(key_of(each) == "optimizer.decay_tokens" for each in given)
    follows_the_end = before.optimizer.decay_tokens is None and run.optimizer.decay_tokens is None
    if named or run.train.allow_changes or not follows_the_end or was == would:
        return plan, requested, ""
    if was.schedule is RateSchedule.wsd:
        return plan, requested, _stable_until(run, was, would, state)
    # A run that ended during warmup had no decay to keep.
    if was.decay_tokens == would.decay_tokens or was.decay_tokens <= was.warmup_tokens:
        return plan, requested, ""

    def kept(run: Run) -> Run:
        return replace(run, optimizer=replace(run.optimizer, decay_tokens=was.decay_tokens))

    batch = BatchPlan.of(run)
    rate = was.of_step(state.samples, batch.size_at(state.samples))
    anew = would.of_step(state.samples, batch.size_at(state.samples))
    line = (
        f"{override('train.steps', run.train.steps)}: the learning rate decays as before, to "
        f"{was.floor:.3g} at step {steps_of(before)}, and is {rate:.3g} at step {state.step + 1}; "
        f"optimizer.decay_tokens=null restarts the decay, to step {steps_of(run)}, from {anew:.3g}"
    )
    return replace(plan, run=kept(run)), kept(requested), line


def _stable_until(run: Run, was: LearningRate, would: LearningRate, state: TrainState) -> str:
    batch = BatchPlan.of(run)

    def step_at(tokens: int) -> int:
        return batch.steps_for(-(-tokens // run.model.context))

    steps = override("train.steps", steps_of(run))
    if (
        was.decay_begins < state.samples * run.model.context
        and would.decay_begins > was.decay_begins
    ):
        raise InputError(
            f"{steps}: since step {step_at(was.decay_begins)} the learning rate of this run has "
            f"decayed, and step {state.step} cannot go on as if it were stable; nearest: another "
            "run_dir with checkpoint= one from before, or train.allow_changes=true, after which it "
            "jumps"
        )
    return (
        f"{steps}: the learning rate stays at {would.peak:.3g} until step "
        f"{step_at(would.decay_begins)}, and decays to {would.floor:.3g} at step {steps_of(run)}"
    )


def _pairs(before: Any, now: Any, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    for field in fields(now):
        old, new = getattr(before, field.name), getattr(now, field.name)
        name = prefix + field.name.removesuffix("_")
        if is_dataclass(new) and is_dataclass(old):
            yield from _pairs(old, new, f"{name}.")
        else:
            yield name, old, new


def _within(setting: str, names: Collection[str]) -> bool:
    return any(setting == name or setting.startswith(f"{name}.") for name in names)


def _value(value: object) -> str:
    text = override("", value).removeprefix("=")
    return text if len(text) <= 60 else f"{text[:57]}..."
