"""From the command line to a `Run`: Hydra composes, `configs.load` freezes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from configs.load import load
from configs.schema import Run
from launcher.multirun import job, overrides_of

OVERRIDES = "overrides.yaml"
ONCE = (
    *("train.stop_after", "debug", "run_dir", "format"),
    *("profile", "generate", "task", "tasks", "evaluate", "scaling", "parity", "convert", "plan"),
)
"""Settings, or groups of them, that hold for one start of a run and not for the next."""


def hydra_app(command: Callable[[Run, list[str]], None]) -> Callable[[], None]:
    """Makes `command(run, overrides)` a Hydra app: --help, --cfg, --multirun, tab completion.

    An existing run directory brings the overrides it was started with; those given now win.
    """
    composed: list[tuple[DictConfig, list[str]]] = []

    @hydra.main(version_base="1.3", config_path="pkg://configs", config_name="config")
    def compose_only(config: DictConfig) -> None:
        composed.append((config, overrides_of(HydraConfig.get().overrides.task, config)))

    def app() -> None:
        # Hydra only composes: were the command run inside, Hydra would tell its errors as well.
        composed.clear()
        compose_only()
        jobs = [(given, config.get("run_dir")) for config, given in composed]
        for number, (config, given) in enumerate(composed):
            overrides = merge_overrides(stored_overrides(config.get("run_dir")), given)
            run = load(config) if overrides == given else compose_run(overrides)
            with job(number, jobs):
                command(run, overrides)

    return app


def compose_run(overrides: list[str]) -> Run:
    """The run of these overrides; raises what Hydra and `configs.load` raise."""
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        return load(hydra.compose("config", overrides=overrides))


def stored_overrides(run_dir: str | None) -> list[str]:
    if run_dir is None:
        return []
    path = Path(run_dir) / OVERRIDES
    if not path.exists():
        return []
    return list(yaml.safe_load(path.read_text(encoding="utf-8")))


def store_overrides(overrides: list[str], run_dir: Path) -> None:
    """Keeps what makes the run what it is; its own checkpoint is where it once went back to."""

    def lasting(override: str) -> bool:
        key, _, value = override.partition("=")
        if key == "checkpoint" and run_dir.resolve() in Path(value).expanduser().resolve().parents:
            return False
        return key not in ONCE and key.split(".")[0] not in ONCE

    overrides = [override for override in overrides if lasting(override)]
    (run_dir / OVERRIDES).write_text(yaml.safe_dump(overrides), encoding="utf-8")


def merge_overrides(stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """Stored overrides, less those given anew; a group given anew drops its stored values too."""
    anew = {_key(override) for override in given}
    kept = [
        override
        for override in stored
        if _key(override) not in anew and _key(override).split(".")[0] not in anew
    ]
    return [*kept, *given]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")
