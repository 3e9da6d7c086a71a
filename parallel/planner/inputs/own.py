"""Constants fitted to one's own runs, which plans of the same model and machine then rest on.

`phalanx plan calibrate` writes them to a file of the user's, one entry for each model and GPU.
Imports no torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.atomic import write_atomic
from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.words import listed
from models.shape import ModelShape
from parallel.planner.inputs.calibration import Calibrated, Constants, calibrated
from parallel.planner.inputs.machine import Machine

SHIPPED = "shipped"
"""`plan.calibration` for a plan that rests on published runs alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Constants of a model on a GPU, and the runs that they were fitted to."""

    model: str
    shape: Mapping[str, Any]  # as `ModelShape.settings` has it, without the context
    gpu: str
    basis: str
    constants: Constants
    errors: tuple[float, ...]  # of each run by constants fitted to the others: planned / measured


def default_path() -> Path:
    """$XDG_DATA_HOME/phalanx/calibration.json, as the XDG base directories have it."""
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "phalanx" / "calibration.json"


def path_of(setting: str | None) -> Path | None:
    """The file that `plan.calibration` names; None for constants as shipped."""
    if setting == SHIPPED:
        return None
    return default_path() if setting is None else Path(setting).expanduser()


def read_own(path: Path) -> list[Own]:
    """The entries of a file. Raises InputError if it is no such file."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        for entry in entries:
            _require_numbers([*entry["constants"].values(), *entry["errors"]])
        return [
            Own(
                **{
                    **entry,
                    "constants": Constants(**entry["constants"]),
                    "errors": tuple(entry["errors"]),
                }
            )
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{override('plan.calibration', str(path))}: is no file of phalanx plan calibrate, or "
            f"of another version; nearest: {override('plan.calibration', SHIPPED)}"
        ) from None


def _require_numbers(values: Iterable[object]) -> None:
    """Raises ValueError unless all are positive and finite; a constant may be 0."""
    for value in values:
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(value)


def write_own(path: Path, entry: Own) -> None:
    """Adds an entry to a file, in place of one of the same model and GPU."""
    try:
        others = read_own(path) if path.exists() else []
        kept = [each for each in others if not _alike(each, entry.shape, entry.gpu)]
        entries = [asdict(each) for each in [*kept, entry]]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"entries": entries}, indent=1) + "\n")
    except OSError as error:
        raise InputError(
            f"{override('plan.calibration', str(path))}: {error.strerror}; nearest: "
            f"{override('plan.calibration', path.name)}"
        ) from None


def shape_settings(shape: ModelShape) -> dict[str, Any]:
    """What makes a model the same one, whatever its context."""
    settings = json.loads(json.dumps(shape.settings(), default=str))
    return {name: value for name, value in settings.items() if name != "context"}


def constants_for(run: Run, machine: Machine) -> Calibrated:
    """Those of one's own runs if there are any of the model on this GPU, else of published ones.

    Raises InputError if a file was asked for that has none.
    """
    published = calibrated(run.cluster.software, machine.gpu)
    setting = run.plan.calibration
    path = path_of(setting)
    if path is None or (setting is None and not path.exists()):
        return published
    entries = read_own(path)
    shape = shape_settings(ModelShape.of(run.model))
    for entry in entries:
        if _alike(entry, shape, machine.gpu):
            return Calibrated(
                constants=entry.constants,
                overheads=published.overheads,
                software=published.software,
                gpu=published.gpu,
                basis=entry.basis,
                errors=entry.errors,
            )
    if setting is None:
        return published
    have = {f"{entry.model} on {entry.gpu}" for entry in entries}
    told = listed(sorted(have), apart=" and ") or "nothing"
    raise InputError(
        f"{override('plan.calibration', setting)}: has {told}, "
        f"not {run.model.name} on {machine.gpu}; nearest: {override('plan.calibration', SHIPPED)}"
    )


def _alike(entry: Own, shape: Mapping[str, Any], gpu: str) -> bool:
    return entry.shape == shape and entry.gpu == gpu
