"""The door between Hydra and the program: what it refuses, and that nothing is lost through it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, ValidationError

from configs.load import load, read, save
from configs.schema import Recompute, Run
from tests.runs import CONFIGS, composed, run_of

CHOICES = [(path.parent.name, path.stem) for path in sorted(CONFIGS.glob("*/*.yaml"))]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_file_of_every_group_composes(group: str, name: str) -> None:
    run = run_of(f"{group}={name}")
    part = getattr(run, group, None)
    assert getattr(part, "name", name) == name


def test_a_run_is_frozen_dataclasses_all_the_way() -> None:
    run = run_of()
    parts = {n: hint for n, hint in get_type_hints(Run).items() if is_dataclass(hint)}
    assert {"model", "layout", "train"} <= parts.keys()
    for name, kind in parts.items():
        part = getattr(run, name)
        assert type(part) is kind
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, None)
    assert run.layout.recompute is Recompute.none


@pytest.mark.parametrize("key", ["layout.tensr", "trian", "model.recipe.tokns"])
def test_an_unknown_key_is_refused(key: str) -> None:
    config = composed()
    OmegaConf.update(config, key, 3, force_add=True)
    with pytest.raises(ConfigKeyError, match=key.split(".")[-1]):
        load(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layout.tensor", "two"),
        ("layout.tensor", 1.5),
        ("layout.recompute", "some"),
        ("engine.name", "jax"),
        ("precision", "fp4"),
        ("model.recipe.tokens", None),
        ("layout.sequence_parallel", 7.5),
        ("train", 3),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(key: str, value: object) -> None:
    config = composed()
    OmegaConf.update(config, key, value, merge=False)
    with pytest.raises(ValidationError):
        load(config)


@pytest.mark.parametrize("key", ["train.seed", "device", "model.recipe.ramp_start"])
def test_a_missing_value_is_refused(key: str) -> None:
    config = composed()
    OmegaConf.update(config, key, "???")
    with pytest.raises(MissingMandatoryValue, match=key.split(".")[-1]):
        load(config)


@pytest.mark.parametrize(
    "overrides",
    ["", "model=gpt3_175b layout=gpt3_175b cluster=dgx_a100", "layout.data=3 run_dir=runs/a"],
)
def test_what_is_saved_reads_back_equal(overrides: str, tmp_path: Path) -> None:
    run = run_of(overrides)
    path = tmp_path / "config.yaml"
    save(run, path)
    assert read(path) == run
    # The file is whole: what the optimizer took from the recipe stands in it as a value.
    assert "${" not in path.read_text(encoding="utf-8")


def test_the_optimizer_follows_the_recipe_until_told_otherwise() -> None:
    run = run_of("model=gpt3_1.3b optimizer.ramp_start=32")
    assert run.optimizer.learning_rate == run.model.recipe.learning_rate == 2e-4
    assert run.train.global_batch == run.model.recipe.global_batch == 512
    assert (run.optimizer.ramp_start, run.model.recipe.ramp_start) == (32, 16)
