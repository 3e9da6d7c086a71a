"""`phalanx convert convert.source=DIR`: a whole run, or nothing and one line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import load
from corpus.tokenizer.tokenizer import Tokenizer
from launcher.cli import guarded
from launcher.commands import convert
from models.huggingface.reading import Weights
from models.shape import ModelShape
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import find
from tests import pretrained
from tests.asking import tokenizer_json
from tests.cli import TEXT, phalanx
from tests.runs import run_of

Convert = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a tokenizer. Not to be changed."""
    folder = tmp_path_factory.mktemp("theirs") / "llama"
    pretrained.write(folder, "llama3", vocab_size=300)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    return folder


@pytest.fixture
def imported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Convert:
    """`phalanx convert` in this process: its status, and what it says of a mistake."""

    def run(source: Path, *more: str) -> tuple[int, str]:
        words = [f"convert.source={source}", f"run_dir={tmp_path / 'made'}", *more]
        monkeypatch.setattr(sys, "argv", ["phalanx convert", *words])
        capfd.readouterr()
        status = guarded(convert.app)
        return status, capfd.readouterr().err

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("inside", [True, False], ids=["before it", "its own"])
def test_a_signal_leaves_nothing(
    theirs: Path, imported: Convert, tmp_path: Path, number: int, inside: bool
) -> None:
    made, stream, sent = tmp_path / "made", Weights.stream, Event()
    if inside:
        made.mkdir()

    def ended(self: Weights, name: str, out: Tensor, first: int) -> None:
        stream(self, name, out, first)
        if not sent.is_set():
            sent.set()
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Weights, "stream", ended)
        if number == signal.SIGTERM:
            with pytest.raises(SystemExit) as left:
                imported(theirs)
            assert left.value.code == 128 + number
        else:
            assert imported(theirs) == (130, "phalanx: interrupted\n")
    assert made.exists() == inside
    assert not inside or [path.name for path in made.iterdir()] == ["owner"]
    status, said = imported(theirs)
    assert status == 0, said


def test_what_a_killed_one_left_is_taken_over(
    theirs: Path, imported: Convert, tmp_path: Path
) -> None:
    made, stream = tmp_path / "made", Weights.stream

    def killed(self: Weights, name: str, out: Tensor, first: int) -> None:
        stream(self, name, out, first)
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        Weights.stream = killed  # type: ignore[method-assign]
        with suppress(BaseException):
            imported(theirs)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = {path.name for path in made.iterdir()}
    assert left == {"owner", "checkpoints", "CONVERTING"}
    status, said = imported(theirs)
    assert status == 0, said
    assert not (made / "CONVERTING").exists()
    assert find(made).name == "step_00000000"
    status, said = imported(theirs)
    assert (status, "is there already; give another" in said) == (2, True)


def test_what_was_there_stays(theirs: Path, imported: Convert, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "notes").write_text("mine")
    status, said = imported(theirs)
    assert (status, "is there already; give another" in said) == (2, True)
    assert (tmp_path / "made" / "notes").read_text() == "mine"


def test_a_full_disk_is_told_in_one_line(theirs: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"

    def small_files() -> None:
        # What the kernel says when a file may not grow; a full disk differs by a word.
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    given = ("convert", f"convert.source={theirs}")
    result = phalanx(*given, run_dir=made, before=small_files)
    assert result.errors == f"phalanx: run_dir={made}: File too large\n"
    assert result.status == 2
    assert not made.exists()
    again = phalanx(*given, run_dir=made)
    assert again.status == 0, again.errors


def changed(theirs: Path, folder: Path, **changes: Any) -> Path:
    """A copy with another config.json."""
    shutil.copytree(theirs, folder)
    config = json.loads((theirs / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return folder


ROPE = {**pretrained.LLAMA3, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"rope_parameters": {**ROPE, "rope_theta": 1.0}},
            "model.rotary.base=1.0: has to be above 1; nearest: model.rotary.base=10000.0",
        ),
        (
            {"rope_parameters": {**ROPE, "low_freq_factor": 4.0}},
            "model.rotary.high_frequency_factor=4.0: it is not above "
            "model.rotary.low_frequency_factor=4; nearest: model.rotary.high_frequency_factor=16.0",
        ),
        ({"rope_parameters": {**ROPE, "factor": 0.25}}, "model.rotary.factor=0.25: has to be"),
    ],
    ids=["base", "factors", "factor"],
)
def test_a_network_that_no_training_takes_is_refused(
    theirs: Path, imported: Convert, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    source = changed(theirs, tmp_path / "theirs", **changes)
    status, said = imported(source)
    assert (status, said.count("\n")) == (2, 1)
    assert f"convert.source={source}: {says}" in said
    assert not (tmp_path / "made").exists()
    nearest = said.rpartition("nearest: ")[2].strip()
    assert imported(source, nearest) == (0, "")
    key, _, value = nearest.removeprefix("model.rotary.").partition("=")
    rotary = manifest.shape_in(find(tmp_path / "made")).rotary
    assert getattr(rotary, key) == float(value)


def test_a_context_that_no_machine_has_memory_for_is_refused(
    theirs: Path, imported: Convert, tmp_path: Path
) -> None:
    source = changed(theirs, tmp_path / "theirs", max_position_embeddings=1 << 39)
    status, said = imported(source)
    assert (status, said.count("\n")) == (2, 1)
    assert f"convert.source={source}: model.context={1 << 39}: its rotary positions take" in said
    assert imported(source, said.rpartition("nearest: ")[2].strip()) == (0, "")
    asked = phalanx("generate", f"checkpoint={source}")
    assert (asked.status, f"model.context={1 << 39}: its rotary" in asked.errors) == (2, True)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    imported: Convert, tmp_path: Path
) -> None:
    source = tmp_path / "theirs"
    pretrained.write(source, "llama3", vocab_size=258)
    (source / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    size = Tokenizer.load(source / "tokenizer.json").size
    says = f"its tokenizer has {size} tokens, its model knows 258"
    assert imported(source) == (2, f"phalanx: convert.source={source}: {says}\n")
    trained = phalanx("train", f"checkpoint={source}", f"corpus.text={TEXT}", "--dry-run")
    assert (trained.status, f"checkpoint={source}: {says}" in trained.errors) == (2, True)


def test_a_tokenizer_that_cannot_be_read_is_told_of_its_folder(
    theirs: Path, imported: Convert, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(theirs, tmp_path / "theirs"))
    (source / "tokenizer.json").write_text('{"model":')
    status, said = imported(source)
    assert (status, said.count("\n")) == (2, 1)
    assert f"convert.source={source}: {source}/tokenizer.json is not a tokenizer.json: " in said
    assert "model.tokenizer" not in said
    (source / "tokenizer.json").unlink()
    status, said = imported(source)
    assert (status, "; nearest: the model's own, saved into it by" in said) == (2, True)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("model.layers=8", "weights of another shape; nearest: model.layers=2"),
        ("convert.family=mistral", "has no effect with convert.source"),
        ("checkpoint=other", "has no effect with convert.source"),
        ("model.tokenizer=gpt2", "has no effect with convert.source"),
    ],
)
def test_what_the_folder_contradicts_is_refused(
    theirs: Path, imported: Convert, tmp_path: Path, typed: str, says: str
) -> None:
    status, said = imported(theirs, typed)
    assert (status, said.count("\n"), said.startswith(f"phalanx: {typed}: ")) == (2, 1, True)
    assert says in said
    assert not (tmp_path / "made").exists()


def test_what_is_typed_is_kept(theirs: Path, imported: Convert, tmp_path: Path) -> None:
    assert imported(theirs, "model=gpt3_125m", "model.context=32") == (0, "")
    made = load.read(tmp_path / "made" / "settings.yaml").model
    assert ModelShape.of(made) == manifest.shape_in(find(tmp_path / "made"))
    assert (made.context, made.vocab, made.layers) == (32, 300, 2)
    assert made.recipe == run_of("model=gpt3_125m").model.recipe
    # And it is a run that goes on.
    result = phalanx(
        "train", f"corpus.text={TEXT}", "train.steps=1", "--dry-run", run_dir=tmp_path / "made"
    )
    assert result.status == 0, result.errors


def test_no_vocabulary_is_advised_where_there_are_weights(tmp_path: Path) -> None:
    source, made = tmp_path / "theirs", tmp_path / "made"
    pretrained.write(source, "llama3", vocab_size=320)
    (source / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    text = (f"corpus.text={TEXT}", "train.steps=1", "layout=single", "layout.micro_batch=1")
    begin = ("train", f"checkpoint={source}", *text)
    for result in (phalanx(*begin, run_dir=made), phalanx(*begin, "--dry-run", run_dir=made)):
        assert result.status == 0, result.errors
        assert "are never used" not in result.output
    composed = phalanx("train", *text, "model.vocab=4096", f"model.tokenizer={source}", "--dry-run")
    assert "rows of the embedding are never used; nearest: model.vocab=" in composed.output


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_weights_that_are_no_numbers_are_refused(
    theirs: Path, imported: Convert, tmp_path: Path, number: str
) -> None:
    source = Path(shutil.copytree(theirs, tmp_path / "theirs"))
    weights = load_file(source / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] = float(number)
    save_file(weights, source / "model.safetensors")
    says = f"convert.source={source}: {name}: has numbers that are infinite or NaN"
    assert imported(source) == (2, f"phalanx: {says}\n")
    assert not (tmp_path / "made").exists()


def test_what_fp16_cannot_hold_is_not_written(
    theirs: Path, imported: Convert, tmp_path: Path
) -> None:
    source, made = Path(shutil.copytree(theirs, tmp_path / "theirs")), tmp_path / "made"
    weights = load_file(source / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] = 1e5
    save_file(weights, source / "model.safetensors")
    assert imported(source) == (0, "")
    out = tmp_path / "out"
    refused = phalanx("convert", f"convert.to={out / 'it'}", "precision=fp16", run_dir=made)
    assert (refused.status, refused.errors.count("\n")) == (2, 1)
    says = f"checkpoint={find(made)}: {name}: has numbers that are too large for precision=fp16"
    assert f"{says}; nearest: precision=bf16" in refused.errors
    assert not list(out.iterdir())
    done = phalanx("convert", f"convert.to={out / 'it'}", "precision=bf16", run_dir=made)
    assert done.status == 0, done.errors
