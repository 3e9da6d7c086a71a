"""`phalanx convert`: out to Hugging Face's format, and back into a run that works."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli import TINY, phalanx


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of dense attention under two tensor ranks of DeepSpeed."""
    folder = tmp_path_factory.mktemp("dense") / "run"
    given = [*TINY, "model.attention=dense", "layout=tp2", "layout.micro_batch=4"]
    result = phalanx("train", *given, "engine=deepspeed", "train.steps=2", run_dir=folder)
    assert result.status == 0, result.errors
    return folder


@pytest.fixture(scope="module")
def theirs(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was written of it. Not to be changed."""
    target = tmp_path_factory.mktemp("theirs") / "gpt2"
    out = phalanx("convert", f"convert.to={target}", run_dir=dense)
    assert out.status == 0, out.errors
    assert "vocabulary 300 without padding" in out.output
    return target


def text_of(source: str) -> str:
    result = phalanx("generate", "generate.tokens=8", "layout=single", source)
    assert result.status == 0, result.errors
    return result.output


def test_out_and_back(dense: Path, theirs: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from parallel.checkpoint.manifest import find
    from parallel.checkpoint.tensors import read_tensors

    made = tmp_path / "made"
    model, tokenizer = (
        kind.from_pretrained(theirs) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    assert model.config.vocab_size == 300
    assert tokenizer.decode(tokenizer("The License")["input_ids"]) == "The License"
    again = phalanx("convert", f"convert.to={theirs}", run_dir=dense)
    assert (again.status, "is there already" in again.errors) == (2, True)

    back = phalanx("convert", f"convert.source={theirs}", run_dir=made)
    assert back.status == 0, back.errors
    before, after = (read_tensors(find(run), ("master",)) for run in (dense, made))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    # Their folder is read as it is, and our checkpoint whatever engine made it.
    assert text_of(f"checkpoint={theirs}") == text_of(f"run_dir={dense}")


def test_a_run_goes_on_from_what_was_read(theirs: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert phalanx("convert", f"convert.source={theirs}", run_dir=made).status == 0
    # Until the checkpoint that was made of it has been deleted.
    given = [*TINY[6:], "train.keep_checkpoints=1"]
    for steps in (2, 4):
        result = phalanx("train", *given, f"train.steps={steps}", run_dir=made)
        assert result.status == 0, result.errors
        assert f"step {steps}/{steps}" in result.output
    assert not (made / "checkpoints" / "step_00000000").exists()


def test_banded_layers_are_refused(trained: Path, tmp_path: Path) -> None:
    result = phalanx("convert", f"convert.to={tmp_path / 'theirs'}", run_dir=trained)
    assert result.status == 2
    assert "model.attention=alternating, model.window=8: not what a gpt2 can be" in result.errors
    assert not (tmp_path / "theirs").exists()


def test_bad_input_is_told_in_one_line(dense: Path, theirs: Path, tmp_path: Path) -> None:
    nothing = phalanx("convert", run_dir=dense)
    assert (nothing.status, nothing.errors.count("\n")) == (2, 1)
    assert "needs convert.to=DIR" in nothing.errors
    missing = phalanx("convert", f"convert.source={tmp_path}", run_dir=tmp_path / "made")
    assert (missing.status, "no readable config.json" in missing.errors) == (2, True)
    target = Path(shutil.copytree(theirs, tmp_path / "theirs"))
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "n_layer": 5}), encoding="utf-8")
    deeper = phalanx("convert", f"convert.source={target}", run_dir=tmp_path / "made")
    assert (deeper.status, "transformer.h.4.ln_1.weight: is not" in deeper.errors) == (2, True)
    assert not (tmp_path / "made").exists()
    unknown = phalanx(
        "convert", f"convert.to={tmp_path / 'out'}", "convert.family=lama", run_dir=dense
    )
    assert (unknown.status, unknown.errors.count("\n")) == (2, 1)
    assert "convert.family=lama: is not supported; nearest: llama" in unknown.errors
    assert not (tmp_path / "out").exists()
    weights = target / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    cut = phalanx("convert", f"convert.source={target}", run_dir=tmp_path / "made")
    assert (cut.status, "model.safetensors: " in cut.errors) == (2, True)
    assert not (tmp_path / "made").exists()
