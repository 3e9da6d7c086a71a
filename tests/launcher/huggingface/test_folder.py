"""A folder from a stranger: nothing of it is unpickled, nothing outside of it is opened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import InputError
from launcher.inference.hf_folder import Gpt2Folder
from models.huggingface import gpt2_config, to_gpt2
from tests.asking import DENSE, large_weights

PICKLED, INDEX = "pytorch_model.bin", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("gpt2")
    save_file(to_gpt2(large_weights(DENSE), DENSE), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(gpt2_config(DENSE, "float32", 0)))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(whole, tmp_path / "gpt2"))


def refuse(folder: Path, *says: str) -> None:
    given = Gpt2Folder(folder, f"checkpoint={folder}")
    with pytest.raises(InputError) as refused:
        given.weights()
    assert "\n" not in str(refused.value)
    for each in (f"checkpoint={folder}: ", *says):
        assert each in str(refused.value)


class Runs:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (self._command,)


def test_a_pickle_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(Runs(f"touch {tmp_path / 'mark'}"), folder / PICKLED)
    refuse(folder, f"model.safetensors is missing; {PICKLED}, which is there, may run code")
    # Nor is it read where it has the other's name.
    (folder / PICKLED).rename(folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({**gpt2_config(DENSE, "float32", 0), "n_embd": 4, "n_head": 1, "n_layer": 1})
    )
    refuse(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "name",
    ["../model.safetensors", "/etc/passwd", "sub/../../model.safetensors", "..", "", PICKLED, 3],
)
def test_an_index_names_files_of_its_folder(folder: Path, name: object) -> None:
    shutil.copyfile(folder / "model.safetensors", folder.parent / "model.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    refuse(folder, f"{INDEX}: names {str(name)!r}")


def test_an_index_is_followed(folder: Path) -> None:
    weights = Gpt2Folder(folder, "").weights()
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"any": "model-1.safetensors"}}))
    assert weights.keys() == Gpt2Folder(folder, "").weights().keys()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', "[" * 99_999])
def test_an_index_that_is_none(folder: Path, content: str) -> None:
    (folder / INDEX).write_text(content)
    refuse(folder, INDEX)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_layer": 10**15}, "parameters, and its weights have"),
        ({"n_embd": 1 << 40, "n_inner": None}, "parameters, and its weights have"),
        ({"n_head": 0}, "n_head=0 is no size"),
        ({"n_layer": "12"}, "n_layer='12' is no size"),
        ({"n_embd": [8]}, "n_embd=[8] is no size"),
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "another model"),
    ],
)
def test_a_config_that_cannot_be(folder: Path, change: dict[str, Any], says: str) -> None:
    config = {**gpt2_config(DENSE, "float32", 0), **change}
    (folder / "config.json").write_text(json.dumps(config))
    refuse(folder, says)
