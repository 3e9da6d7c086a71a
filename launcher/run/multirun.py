"""One job of several, which `--multirun` makes of settings with several values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from configs.errors import InputError
from configs.override import override

LONGEST = 120  # of what a folder's name says of its job; file systems take 255 bytes


@dataclass(frozen=True, slots=True)
class _Job:
    own: tuple[str, ...] = ()  # overrides that other jobs do not have
    beside: tuple[str | None, ...] = ()  # run directories of the other jobs


_ALONE = _Job()
_JOB: ContextVar[_Job] = ContextVar("job", default=_ALONE)


@contextmanager
def job(number: int, jobs: Sequence[tuple[list[str], str | None]]) -> Iterator[None]:
    """What runs inside is job `number` of those with these overrides and run directories."""
    own = [it for it in jobs[number][0] if not all(it in given for given, _ in jobs)]
    others = [run_dir for other, (_, run_dir) in enumerate(jobs) if other != number]
    before = _JOB.set(_Job(tuple(own), tuple(others)))
    try:
        yield
    finally:
        _JOB.reset(before)


def own_name() -> str:
    """What sets this job apart, to end a folder's name with; "" for a job that is alone."""
    own = [each for each in _JOB.get().own if not each.startswith("run_dir=")]
    safe = re.sub(r"[^\w.,=+-]+", "_", ",".join(own))[:LONGEST]
    return f"-{safe}" if safe else ""


def require_own_folder(run_dir: str | None) -> None:
    """Raises InputError where another job has the same one: each would go on with the last."""
    beside = _JOB.get().beside
    if run_dir is not None and run_dir in beside:
        raise InputError(
            f"run_dir={run_dir}: is one for {len(beside) + 1} runs of --multirun; nearest: "
            f"'run_dir={run_dir}/${{hydra:job.num}}', or none, for a new one each"
        )


def overrides_of(task: object, config: DictConfig) -> list[str]:
    """A job's overrides as they were given, but for a run directory that is named by others'
    values: ${hydra:job.num} is known while Hydra composes, so it is filled in, in `config` too.
    """
    given = OmegaConf.to_container(task, resolve=False)
    assert isinstance(given, list)
    overrides = [str(each) for each in given]
    if OmegaConf.is_interpolation(config, "run_dir"):
        config.run_dir = config.run_dir
        others = [it for it in overrides if not it.startswith("run_dir=")]
        return [*others, override("run_dir", config.run_dir)]
    return overrides
