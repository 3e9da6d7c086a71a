"""A `Run` composed from the shipped configs, as the command line would compose it."""

from __future__ import annotations

from hydra import compose, initialize_config_module

from configs.load import load
from configs.schema import Run


def compose_run(overrides: list[str]) -> Run:
    with initialize_config_module(config_module="configs", version_base="1.3"):
        return load(compose("config", overrides=overrides))
