"""Models with experts through the commands: read, asked, written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs import load
from corpus.tokenizer.tokenizer import Tokenizer
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import find
from tests import pretrained
from tests.asking import tokenizer_json
from tests.cli import TEXT, phalanx

CASES = ("mixtral", "qwen3_moe-dense-first", "olmoe")
PROMPT = "What is a question?"


@pytest.fixture(scope="module", params=CASES)
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers wrote, with a tokenizer. Not to be changed."""
    folder = tmp_path_factory.mktemp("theirs") / str(request.param)
    pretrained.write(folder, request.param, vocab_size=300, eos_token_id=None)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was made of it. Not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "run"
    result = phalanx("convert", f"convert.source={theirs}", run_dir=folder)
    assert result.status == 0, result.errors
    return folder


def test_there_and_back_loses_nothing(theirs: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = phalanx("convert", f"convert.to={out}", run_dir=made)
    assert result.status == 0, result.errors
    before, after = (
        json.loads((each / "config.json").read_text(encoding="utf-8")) for each in (theirs, out)
    )
    assert f"wrote {out}: {before['model_type']}, " in result.output
    keys = ("model_type", "num_experts_per_tok", "router_aux_loss_coef", "intermediate_size")
    assert [after[key] for key in keys] == [before[key] for key in keys]
    tensors = [load_file(each / "model.safetensors") for each in (theirs, out)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    models = [pretrained.read(each) for each in (theirs, out)]
    logits = [model(pretrained.prompt(9)).logits for model in models]
    assert torch.equal(*logits)


@pytest.mark.parametrize("layout", ["single", "tp2_pp2"])
def test_answers_are_those_of_transformers(theirs: Path, made: Path, layout: str) -> None:
    tokenizer = Tokenizer.load(find(made) / manifest.TOKENIZER)
    prompt = torch.tensor([tokenizer.encode_prompt(PROMPT)])
    model = pretrained.read(theirs)
    said = model.generate(prompt, do_sample=False, max_new_tokens=8, pad_token_id=0)[0]
    for source in (f"checkpoint={theirs}", f"checkpoint={made}"):
        answer = phalanx(
            "generate",
            source,
            f"generate.prompt={PROMPT}",
            "generate.temperature=0",
            "generate.tokens=8",
            f"layout={layout}",
        )
        assert answer.status == 0, answer.errors
        assert tokenizer.decode(said.tolist()).strip() in answer.output, source


def test_a_run_keeps_what_trains_it(theirs: Path, tmp_path: Path) -> None:
    """The folder says what the network is; how it is balanced is the named model's, or typed."""
    words = ("model=olmoe_7b", "model.moe.capacity=1.5", "model.moe.balance_weight=0.03")
    result = phalanx("convert", f"convert.source={theirs}", *words, run_dir=tmp_path / "made")
    assert result.status == 0, result.errors
    moe = load.read(tmp_path / "made" / "settings.yaml").model.moe
    assert (moe.balance, moe.z_loss) == ("batch", 0.001), "olmoe_7b's"
    assert (moe.capacity, moe.balance_weight) == (1.5, 0.03), "as typed"
    config = json.loads((theirs / "config.json").read_text(encoding="utf-8"))
    assert moe.experts == config.get("num_experts", config.get("num_local_experts"))
    out = phalanx("convert", f"convert.to={tmp_path / 'out'}", run_dir=tmp_path / "made")
    assert out.status == 0, "a capacity is training's, and stands in no family's way"


def test_what_does_not_fit_is_told_in_one_line(theirs: Path, tmp_path: Path) -> None:
    experts = phalanx(
        "train", f"checkpoint={theirs}", "model.moe.experts=5", f"corpus.text={TEXT}", "--dry-run"
    )
    assert (experts.status, experts.errors.count("\n")) == (2, 1)
    assert f"model.moe.experts=5: checkpoint={theirs} has weights of another" in experts.errors
    assert "; nearest: model.moe.experts=" in experts.errors
    biased = ("model.moe.bias_rate=0.001",)
    made = phalanx("convert", f"convert.source={theirs}", *biased, run_dir=tmp_path / "made")
    assert made.status == 0, made.errors
    out = phalanx("convert", f"convert.to={tmp_path / 'out'}", run_dir=tmp_path / "made")
    assert (out.status, out.errors.count("\n")) == (2, 1)
    assert "model.moe.bias_rate=0.001: not what a" in out.errors
    assert not (tmp_path / "out").exists()
