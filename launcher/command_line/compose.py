"""From the command line to a `Run`: Hydra composes, `configs.load` freezes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from configs.load import as_config, load
from configs.schema import Run
from launcher.run.multirun import job, overrides_of
from launcher.run.settings import go_on, kept_settings, key_of, with_overrides


def hydra_app(command: Callable[[Run, list[str]], None]) -> Callable[[], None]:
    """Makes `command(run, overrides)` a Hydra app: --help, --cfg, --multirun, tab completion.

    An existing run directory supplies the settings it was started with; new overrides win.
    `overrides` are the given ones, plus the search path if config files lie outside this package.
    """
    composed: list[tuple[DictConfig, list[str], str]] = []

    @hydra.main(version_base="1.3", config_path="pkg://configs", config_name="config")
    def compose_only(config: DictConfig) -> None:
        about = HydraConfig.get()
        given = [*_search_path(about), *overrides_of(about.overrides.task, config)]
        composed.append((config, given, str(about.job.config_name)))

    def app() -> None:
        added = _make_addable(sys.argv)
        # Hydra only composes: if the command ran inside, Hydra would report its errors as well.
        composed.clear()
        compose_only()
        jobs = [(words, config.get("run_dir")) for config, words, _ in composed]
        for number, (config, words, name) in enumerate(composed):
            given = [added.get(word, word) for word in words]
            kept = kept_settings(config.get("run_dir"))
            run = load(config if kept is None else go_on(kept, config, given, name))
            with job(number, jobs):
                command(run, given)

    return app


def _search_path(about: HydraConf) -> list[str]:
    """Folders of --config-dir as an override, for composing again."""
    own = [
        f"'file://{source.path}'"
        for source in about.runtime.config_sources
        if source.provider == "command-line"
    ]
    return [f"hydra.searchpath=[{','.join(own)}]"] if own else []


def _make_addable(arguments: list[str]) -> dict[str, str]:
    """Lets a resumed run override settings that only the run has, and not the shipped configs.

    Such overrides become additions for Hydra; `load` checks whether they are valid settings.
    Returns what each was before.
    """
    given = [word.partition("=")[2] for word in arguments if word.startswith("run_dir=")]
    folders = [each.strip("'\"") for each in given]
    if not any((Path(each).expanduser() / "config.yaml").is_file() for each in folders):
        return {}
    added = {}
    for at, word in enumerate(arguments[1:], start=1):
        if re.match(r"\w+(\.\w+)+=", word):
            arguments[at] = f"++{word}"
            added[arguments[at]] = word
    return added


def compose_run(overrides: list[str]) -> Run:
    """The run of these overrides; raises what Hydra and `configs.load` raise."""
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        return load(hydra.compose("config", overrides=overrides))


def composed_run(run: Run, given: list[str], overrides: list[str]) -> Run:
    """`run` with further overrides; `given` are those it was composed from."""
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        where = [each for each in given if each.startswith("hydra.searchpath=")]
        composed = hydra.compose("config", overrides=[*where, *overrides])
    return load(with_overrides(as_config(run), composed, overrides))


def merge_overrides(stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """Stored overrides, less those given again; a group given again drops its stored values too."""
    anew = {key_of(override) for override in given}
    kept = [
        override
        for override in stored
        if key_of(override) not in anew and key_of(override).split(".")[0] not in anew
    ]
    return [*kept, *given]
