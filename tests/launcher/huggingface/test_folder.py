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
from launcher.huggingface.folder import HuggingFaceFolder
from models.huggingface.writing import save
from tests import pretrained
from tests.asking import DENSE, large_weights

PICKLED, INDEX = "pytorch_model.bin", "model.safetensors.index.json"
ONE = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    save(large_weights(DENSE), DENSE, folder)
    return folder


@pytest.fixture(scope="module")
def llama_written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose output layer is tied, by transformers."""
    folder = tmp_path_factory.mktemp("llama")
    pretrained.write(folder, "llama3-tied")
    return folder


@pytest.fixture
def llama(llama_written: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(llama_written, tmp_path / "llama"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(whole, tmp_path / "gpt2"))


def refuse(folder: Path, *says: str) -> None:
    given = HuggingFaceFolder(folder, f"checkpoint={folder}")
    with pytest.raises(InputError) as refused:
        given.require_whole()
    assert "\n" not in str(refused.value)
    for each in (f"checkpoint={folder}: ", *says):
        assert each in str(refused.value)


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


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
    configure(folder, n_embd=4, n_head=1, n_layer=1, n_inner=None)
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


def in_two_files(folder: Path) -> dict[str, str]:
    """Cuts the weights in two; returns the file of each tensor."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(weights)}
    for file in set(files.values()):
        own = {name: weights[name] for name in weights if files[name] == file}
        save_file(own, folder / file)
    write_index(folder, files)
    return files


def write_index(folder: Path, files: dict[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": files}))


def test_an_index_is_followed(llama: Path, llama_written: Path) -> None:
    in_two_files(llama)
    before, after = (HuggingFaceFolder(it, "").weights() for it in (llama_written, llama))
    HuggingFaceFolder(llama, "").require_whole()
    name = "decoder.layers.1.self_attention.linear_qkv.weight"
    assert torch.equal(before.rows(name, 5, 40), after.rows(name, 5, 40))


def test_an_index_says_what_is_there(llama: Path) -> None:
    files = in_two_files(llama)
    name = "model.layers.0.mlp.up_proj.weight"
    write_index(llama, {**files, "model.more.weight": "model-0.safetensors"})
    refuse(llama, f"{INDEX}: names model.more.weight in model-0.safetensors, where it is not")
    other = {"model-0.safetensors": "model-1.safetensors"}.get(files[name], "model-0.safetensors")
    write_index(llama, {**files, name: other})
    refuse(llama, f"{INDEX}: names {name} in {other}, where it is not")
    write_index(llama, {key: file for key, file in files.items() if key != name})
    refuse(llama, f"{INDEX}: does not name {name}, which {files[name]} has")
    write_index(llama, files)
    (llama / files[name]).unlink()
    refuse(llama, f"{files[name]} is missing")


def test_an_index_beside_the_one_file_is_refused(llama: Path, llama_written: Path) -> None:
    in_two_files(llama)
    shutil.copyfile(llama_written / "model.safetensors", llama / "model.safetensors")
    refuse(llama, f"model.safetensors is there, which transformers reads, and {INDEX}, which names")
    # One that names nothing else says the same.
    write_index(llama, dict.fromkeys(json.loads((llama / INDEX).read_text())["weight_map"], ONE))
    HuggingFaceFolder(llama, "").require_whole()


def test_a_file_that_was_cut_is_told(llama: Path) -> None:
    configure(llama, num_hidden_layers=1)  # which the bytes that are left suffice for
    file = llama / ONE
    size = file.stat().st_size
    os.truncate(file, size - 100)
    refuse(llama, f"{ONE}: is cut short: its header tells of {size:,} bytes, it has {size - 100:,}")
    file.write_bytes(size.to_bytes(8, "little") + b" " * (size - 100))
    refuse(llama, f"{ONE}: is cut short: its header tells of {size + 8:,} bytes, it has ")
    file.write_bytes(b"x" * size)
    refuse(llama, f"{ONE}: is no file of safetensors (")


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


NORM, WORDS, OUTPUT = "model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"


def test_tensors_are_those_that_the_config_tells_of(llama: Path, llama_written: Path) -> None:
    def again(change: Callable[[dict[str, torch.Tensor]], object], *says: str) -> None:
        shutil.copyfile(llama_written / "model.safetensors", llama / "model.safetensors")
        changed(llama, change)
        refuse(llama, *says)

    again(lambda it: it.pop(NORM), f"{NORM}: is not among the weights")
    again(
        lambda it: it.update({NORM: torch.ones(8)}),
        f"{NORM}: is (8,), config.json tells of (32,)",
    )
    again(
        lambda it: it.update({NORM: torch.ones(32, dtype=torch.float64)}),
        f"{NORM}: has numbers of F64; nearest: BF16",
    )
    bias = "model.layers.0.self_attn.q_proj.bias"
    again(lambda it: it.update({bias: torch.ones(64)}), f"{bias}: config.json tells of no such")


def test_buffers_of_older_versions_are_passed_over(llama: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    changed(llama, lambda it: it.update({name: torch.ones(8)}))
    HuggingFaceFolder(llama, "").require_whole()


def test_a_tied_output_layer_is_the_embedding(llama: Path) -> None:
    changed(llama, lambda it: it.update({OUTPUT: it[WORDS].clone()}))
    HuggingFaceFolder(llama, "").require_whole()
    changed(llama, lambda it: it[OUTPUT][7, 3].add_(1))
    refuse(llama, f"{OUTPUT}: differs from {WORDS}, which config.json ties it to")
    configure(llama, tie_word_embeddings=False)
    HuggingFaceFolder(llama, "").require_whole()
    changed(llama, lambda it: it.pop(OUTPUT))
    refuse(llama, f"{OUTPUT}: is not among the weights")


def test_names_may_lack_the_prefix(folder: Path, whole: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): it for name, it in weights.items()}
    # As of OpenAI's own files: with the masks of attention.
    bare |= {"h.0.attn.bias": torch.ones(1, 1, 96, 96), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(bare, folder / "model.safetensors")
    before, after = (HuggingFaceFolder(it, "").weights() for it in (whole, folder))
    name = "embedding.word_embeddings.weight"
    assert torch.equal(before.rows(name, 0, 300), after.rows(name, 0, 300))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', "[" * 99_999])
def test_an_index_that_is_none(folder: Path, content: str) -> None:
    (folder / INDEX).write_text(content)
    refuse(folder, INDEX)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_layer": 10**4}, "parameters, and its weights have"),
        ({"n_layer": 10**15}, "is no size"),
        ({"n_embd": 1 << 40}, "parameters, and its weights have"),
        ({"n_head": 0}, "n_head=0 is no size"),
        ({"n_layer": "12"}, "n_layer='12' is no size"),
        ({"n_embd": [8]}, "n_embd=[8] is no size"),
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "model_type='evil'"),
    ],
)
def test_a_config_that_cannot_be(folder: Path, change: dict[str, Any], says: str) -> None:
    configure(folder, **change)
    refuse(folder, says)
