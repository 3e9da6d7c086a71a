"""Llamas through the commands: trained, written, read, trained on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.override import override
from corpus.tokenizer.tokenizer import Tokenizer
from parallel.checkpoint.manifest import find
from parallel.checkpoint.tensors import read_tensors
from tests import pretrained
from tests.cli import TEXT, phalanx

LLAMA = [
    "model=llama_nano",
    "model.layers=2",
    "model.hidden=32",
    "model.heads=4",
    "model.query_groups=2",
    "model.feed_forward=48",
    "model.context=32",
    "model.vocab=300",
    "model.tokenizer=trained",
    override("model.begin_token", "<|begin|>"),
    override("model.stop_tokens", ["<|im_end|>"]),
]
TRAINING = [
    f"corpus.text={TEXT}",
    "train.global_batch=8",
    "train.eval_batches=1",
    "layout.micro_batch=2",
]
TOKENIZER = "tokenizer.json"
AS_IT_IS = "optimizer.learning_rate=1e-30"  # a step that changes nothing


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama, trained by two tensor ranks. Not to be changed."""
    folder = tmp_path_factory.mktemp("llama") / "run"
    result = phalanx("train", *LLAMA, *TRAINING, "layout=tp2", "train.steps=2", run_dir=folder)
    assert result.status == 0, result.errors
    return folder


@pytest.fixture(scope="module")
def theirs(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was written of it. Not to be changed."""
    target = tmp_path_factory.mktemp("theirs") / "llama"
    out = phalanx("convert", f"convert.to={target}", run_dir=run)
    assert out.status == 0, out.errors
    assert f"wrote {target}: llama, " in out.output
    return target


def test_a_plan_is_of_the_folder_s_model(theirs: Path) -> None:
    said = phalanx("plan", f"checkpoint={theirs}", "layout=tp2", "format=json")
    composed = phalanx("plan", *LLAMA, "layout=tp2", "format=json")
    assert said.status == composed.status == 0, said.errors
    ours, its = (json.loads(each.output) for each in (composed, said))
    for key in ("parameters", "flops_per_step", "memory_gib", "collectives"):
        assert its[key] == ours[key], key
    assert its["model"] == theirs.name


def test_transformers_reads_weights_and_tokens(run: Path, theirs: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer, ours = AutoTokenizer.from_pretrained(theirs), Tokenizer.load(find(run) / TOKENIZER)
    assert tokenizer("The License")["input_ids"] == ours.encode_prompt("The License")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin|>", "<|endoftext|>")
    assert (tokenizer.unk_token, tokenizer.pad_token) == (None, None)
    model = pretrained.read(theirs)
    assert model.config.bos_token_id == ours.begin[0]
    assert model.config.eos_token_id[0] == ours.end_of_text
    assert set(model.config.eos_token_id) == ours.ends
    assert set(model.generation_config.eos_token_id) == ours.ends
    prompt = torch.tensor([ours.encode_prompt("The License")])
    said = model.generate(prompt, do_sample=False, max_new_tokens=8, pad_token_id=0)[0]
    answer = phalanx(
        "generate",
        f"checkpoint={theirs}",
        "generate.prompt=The License",
        "generate.temperature=0",
        "generate.tokens=8",
        "layout=single",
    )
    assert answer.status == 0, answer.errors
    assert ours.decode(said.tolist()[1:]).strip() in answer.output


def test_there_and_back_loses_nothing(run: Path, theirs: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    back = phalanx("convert", f"convert.source={theirs}", run_dir=made)
    assert back.status == 0, back.errors
    before = read_tensors(find(run), ("master",))
    after = read_tensors(find(made))
    assert before.keys() == after.keys(), "no moments before the first step"
    assert all(torch.equal(before[name], after[name]) for name in before)
    tokenizers = [Tokenizer.load(find(each) / TOKENIZER) for each in (run, made)]
    ours, back_again = (each.special for each in tokenizers)
    assert (ours.begin, ours.end, ours.stops) == (
        *(back_again.begin, back_again.end, back_again.stops),
    )
    # As another family with the same layers.
    out = phalanx("convert", f"convert.to={tmp_path / 'm'}", "convert.family=mistral", run_dir=made)
    assert out.status == 0, out.errors
    assert pretrained.read(tmp_path / "m").config.model_type == "mistral"
    other = phalanx("convert", f"convert.to={tmp_path / 'q'}", "convert.family=qwen2", run_dir=made)
    assert (other.status, "model.biases=none: not what a qwen2 can be" in other.errors) == (2, True)


@pytest.fixture(scope="module")
def folder(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with positions scaled, as transformers writes it, and a tokenizer."""
    folder = tmp_path_factory.mktemp("given") / "llama3"
    pretrained.write(folder, "llama3", vocab_size=300)
    for name in (TOKENIZER, "tokenizer_config.json"):
        shutil.copyfile(theirs / name, folder / name)
    return folder


@pytest.mark.parametrize(
    "how",
    [("layout=tp2_pp2",), ("layout=dp2", "layout.zero=2", "engine=deepspeed")],
    ids=["megatron", "deepspeed"],
)
def test_training_begins_with_a_folder(how: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    begin = ("train", f"checkpoint={folder}", *TRAINING, "model.context=32", AS_IT_IS, *how)
    dry = phalanx(*begin, "--dry-run", "train.steps=1", run_dir=made)
    assert dry.status == 0, dry.errors
    assert f"{folder}, after step 0 of 1" in dry.output
    assert not made.exists()
    result = phalanx(*begin, "train.steps=1", run_dir=made)
    assert result.status == 0, result.errors
    assert "step 1/1" in result.output
    exported = phalanx("convert", f"convert.to={out}", run_dir=made)
    assert exported.status == 0, exported.errors
    before, after = (load_file(each / "model.safetensors") for each in (folder, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] == 32, "as it was typed"
    assert config["rope_scaling"]["rope_type"] == "llama3"
    # From now on it is a run like any other.
    again = phalanx("train", "train.steps=2", run_dir=made)
    assert again.status == 0, again.errors
    assert "step 2/2" in again.output


def test_a_folder_that_does_not_fit_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    begin = ("train", f"checkpoint={folder}", *TRAINING)
    wider = phalanx(*begin, "model.hidden=64", run_dir=tmp_path / "made")
    assert (wider.status, wider.errors.count("\n")) == (2, 1)
    assert "model.hidden=64: checkpoint=" in wider.errors
    assert "nearest: model.hidden=32" in wider.errors
    fewer = phalanx(*begin, "model.context=16", "model.query_groups=1", run_dir=tmp_path / "made")
    assert (fewer.status, fewer.errors.count("\n")) == (2, 1)
    assert "model.query_groups=1: checkpoint=" in fewer.errors
    target = Path(shutil.copytree(folder, tmp_path / "given"))
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config["rope_parameters"]["rope_type"] = "dynamic"
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for command in (
        ("train", f"checkpoint={target}", *TRAINING),
        ("generate", f"checkpoint={target}"),
        ("convert", f"convert.source={target}"),
    ):
        refused = phalanx(*command, run_dir=tmp_path / "made")
        assert (refused.status, refused.errors.count("\n")) == (2, 1)
        assert f"={target}: config.json: rope_type='dynamic' is not supported" in refused.errors
    assert not (tmp_path / "made").exists()
