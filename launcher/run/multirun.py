"""One job of a `--multirun` sweep over settings with several values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from configs.errors import InputError
from configs.override import override

LONGEST = 120  # characters of a folder name that describe its job; file systems allow 255 bytes


@dataclass(frozen=True, slots=True)
class _Job:
    own: tuple[str, ...] = ()  # overrides that the other jobs lack
    beside: tuple[str | None, ...] = ()  # run directories of the other jobs


_ALONE = _Job()
_JOB: ContextVar[_Job] = ContextVar("job", default=_ALONE)


@contextmanager
def job(number: int, jobs: Sequence[tuple[list[str], str | None]]) -> Iterator[None]:
    """Makes job `number`, of jobs with these overrides and run directories, the current one."""
    own = [it for it in jobs[number][0] if not all(it in given for given, _ in jobs)]
    others = [run_dir for other, (_, run_dir) in enumerate(jobs) if other != number]
    before = _JOB.set(_Job(tuple(own), tuple(others)))
    try:
        yield
    finally:
        _JOB.reset(before)


def own_name() -> str:
    """A folder-name suffix that distinguishes this job; "" outside a sweep."""
    own = [each for each in _JOB.get().own if not each.startswith("run_dir=")]
    # Without what has to be quoted when a command names the folder.
    safe = re.sub(r"[^\w.+-]+", "_", "-".join(own))[:LONGEST]
    return f"-{safe}" if safe else ""


def require_own_folder(run_dir: str | None) -> None:
    """Raises InputError if another job has the same directory: each would resume the last one."""
    beside = _JOB.get().beside
    if run_dir is not None and run_dir in beside:
        raise InputError(
            f"run_dir={run_dir}: is one for {len(beside) + 1} runs of --multirun; nearest: "
            f"'run_dir={run_dir}/${{hydra:job.num}}', or none, for a new one each"
        )


def overrides_of(task: object, config: DictConfig) -> list[str]:
    """A job's overrides as given, except for a run directory that refers to other values:
    ${hydra:job.num} is known only while Hydra composes, so it is filled in, in `config` too.
    """
    given = OmegaConf.to_container(task, resolve=False)
    assert isinstance(given, list)
    overrides = [str(each) for each in given]
    if OmegaConf.is_interpolation(config, "run_dir"):
        config.run_dir = config.run_dir
        others = [it for it in overrides if not it.startswith("run_dir=")]
        return [*others, override("run_dir", config.run_dir)]
    return overrides
