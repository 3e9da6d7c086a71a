"""Runs composed from the shipped configs, for tests of what reads a `Run`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from configs.load import load
from configs.schema import Run

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def names(group: str) -> list[str]:
    """The choices of one config group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@cache
def run_of(overrides: str = "") -> Run:
    """The run of a command line such as "model=gpt3_125m layout.tensor=4"."""
    return load(composed(overrides))


def composed(overrides: str = "") -> DictConfig:
    words = overrides.split()
    groups = tuple(word for word in words if "." not in word.partition("=")[0])
    values = [word for word in words if word not in groups]
    config = OmegaConf.merge(_composed(groups), OmegaConf.from_dotlist(values))
    assert isinstance(config, DictConfig)
    return config


@cache
def _composed(groups: tuple[str, ...]) -> DictConfig:
    # Composing takes a tenth of a second, so it is done once for each choice of files.
    with initialize_config_module(config_module="configs", version_base="1.3"):
        return compose("config", overrides=list(groups))
