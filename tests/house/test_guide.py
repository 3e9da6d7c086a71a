"""The guide's commands, typed page by page as they stand there, on runs that take seconds."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import forked
from tests.cli import ROOT, TIMEOUT_S, TINY, environment
from tests.finished import LAYOUTS, finished_run
from tests.house.test_documents import blocks, shown, text_of, words_of

GUIDE = ROOT / "docs" / "guide"
SHORT = [*TINY, "train.steps=2"]  # of a run that begins
Settings = Mapping[str, list[str]]
"""By what a command has in it: what is added, so that it takes seconds."""


def commands(page: str, containing: str) -> list[list[str]]:
    """The words of the commands of a page's block that has this in it."""
    (block,) = [each for each in blocks(text_of(GUIDE / page), "bash") if containing in each]
    lines = [line for line in block.splitlines() if line.startswith("phalanx ")]
    typed = []
    for line in lines:
        command, words = words_of(line)
        typed.append([command or "", *words])
    return typed


def typed(
    folder: Path, page: str, containing: str, smaller: Settings, *, but: tuple[str, ...] = ()
) -> dict[str, str]:
    """Types a block's commands in `folder`; what each said.

    Args:
        but: parts of the commands that are left out.
    """
    said = {}
    for words in commands(page, containing):
        line = " ".join(words)
        if any(part in line for part in but):
            continue
        added = [more for part, settings in smaller.items() if part in line for more in settings]
        status, output, errors = forked.run([*words, *added], environment(), folder, TIMEOUT_S)
        assert status == 0, f"{line}: {errors}"
        said[line] = output
    return said


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Where the reader types: with the run that the pages speak of."""
    shutil.copytree(trained, tmp_path / "runs" / "mine", symlinks=True)
    return tmp_path


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, own_cache: str) -> Path:
    """A folder of Hugging Face's, which the page on checkpoints makes."""
    place = tmp_path_factory.mktemp("gpt2")
    page, block = "checkpoints-and-hugging-face.md", "convert.to=gpt2_of_mine"
    typed(
        place, page, block, {"train": [*SHORT, "model.context=64"]}, but=("convert.source", "gpt2/")
    )
    assert (place / "half" / "model.safetensors").exists()
    return place / "gpt2_of_mine"


def test_going_on_with_a_run(folder: Path) -> None:
    # Each goes on where the one before it was stopped.
    smaller = {
        "layout=pp4": ["train.stop_after=7", "train.steps=9"],
        "engine=deepspeed": ["train.stop_after=8"],
        "run_dir=runs/mine train.steps=300": ["train.stop_after=9"],
        "allow_changes": ["train.stop_after=10"],
        "runs/next": [*TINY, "train.steps=11"],
    }
    block = "run_dir=runs/mine layout=pp4"
    said = list(typed(folder, "checkpoints-and-hugging-face.md", block, smaller).values())
    assert len(said) == 6
    assert "layout.pipeline 1 -> 4" in said[1]
    assert "engine.name megatron -> deepspeed" in said[2]
    assert "train.steps 9 -> 300" in said[3]
    assert "optimizer.learning_rate" in said[4]
    assert (folder / "runs" / "next" / "DONE").exists()


def test_from_hugging_faces_format(folder: Path, gpt2: Path) -> None:
    (folder / "gpt2").symlink_to(gpt2)
    page, block = "checkpoints-and-hugging-face.md", "convert.source=gpt2/"
    smaller = {"checkpoint=gpt2/": [*TINY[6:], "train.steps=1"]}
    typed(folder, page, block, smaller, but=("attention=dense", "convert.to"))
    assert (folder / "runs" / "theirs").is_dir()
    assert (folder / "runs" / "further" / "DONE").exists()


def test_generating(folder: Path, gpt2: Path) -> None:
    (folder / "gpt2").symlink_to(gpt2)
    prompts = ["The ", "License "]
    (folder / "prompts.txt").write_text("\n".join(prompts))
    rows = [json.dumps({"prompt": prompt}) for prompt in prompts]
    (folder / "prompts.jsonl").write_text("\n".join(rows))
    short = ["generate.tokens=4"]
    said = typed(folder, "evaluation.md", "generate.interactive=true", {"generate": short})
    assert len(said) == 5
    answers = (folder / "texts.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in answers] == prompts


def test_evaluating(folder: Path) -> None:
    row = {"passage": "A harp.", "question": "is it", "answer": False}
    for name in ("dev", "train"):
        (folder / f"{name}.jsonl").write_text("\n".join([json.dumps(row)] * 3))
    smaller = {
        "evaluate": ["evaluate.limit=1", "evaluate.shots=[0]"],
        "evaluate run_dir=runs/mine evaluate": ["task=arithmetic"],
    }
    said = typed(folder, "evaluation.md", "task=[arithmetic,scramble]", smaller)
    assert len(said) == 4
    assert (folder / "runs" / "mine" / "evaluations" / "step_00000006" / "results.json").exists()


def test_texts_of_ones_own(folder: Path) -> None:
    text = "A few words of a text that is only there to be long enough to be trained on. " * 20
    (folder / "my_texts").mkdir()
    shutil.copy(ROOT / "LICENSE", folder / "my_texts" / "license.txt")
    (folder / "texts").mkdir()
    for path, field in (("texts/all.jsonl", "text"), ("posts.jsonl", "content")):
        rows = [json.dumps({field: f"{number} {text}"}) for number in range(200)]
        (folder / path).write_text("\n".join(rows))
    packed = gzip.compress((folder / "texts" / "all.jsonl").read_bytes())
    (folder / "texts" / "all.jsonl.gz").write_bytes(packed)
    on_theirs = [each for each in SHORT if not each.startswith("corpus.text=")]
    smaller = {"train": on_theirs, "posts": ["model.vocab=300"]}
    said = typed(folder, "data.md", "corpus.text=my_texts/", smaller)
    assert len(said) == 3


def test_looking_for_what_went_wrong(folder: Path) -> None:
    said = typed(folder, "when-something-fails.md", "phalanx doctor", {})
    assert len(said) == 3
    assert "step     6 of 6" in said["status run_dir=runs/mine"]


def test_decontaminating(folder: Path) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    (folder / "texts").mkdir()
    rows = [json.dumps({"text": f"{number} {words} {number}"}) for number in range(50)]
    (folder / "texts" / "all.jsonl").write_text("\n".join(rows))
    question = {"passage": words, "question": "is it", "answer": True}
    (folder / "boolq.jsonl").write_text(json.dumps(question))
    smaller = {"decontaminate": ["model.vocab=300"]}
    said = typed(folder, "data.md", "phalanx decontaminate", smaller)
    assert len(said) == 2


def test_constants_from_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    names = ("one", "another", "third")
    for name, layout in zip(names, LAYOUTS.values(), strict=False):
        finished_run(tmp_path / "runs" / name, layout)
    said = typed(tmp_path, "how-sure-a-plan-is.md", "calibrate", {})
    (output,) = said.values()
    assert "plans of llama3_8b on H100-SXM5-80GB rest on 3 runs of yours" in output


PLANS = {
    line: said
    for page in ("planning.md", "how-sure-a-plan-is.md")
    for line, said in shown(text_of(GUIDE / page)).items()
}


@pytest.mark.parametrize("line", PLANS, ids=str)
def test_a_plan_says_what_the_page_shows(line: str, tmp_path: Path) -> None:
    """Line by line, in this order; what the page leaves out is `...`."""
    command, words = words_of(line)
    _, output, errors = forked.run([command or "", *words], environment(), tmp_path, TIMEOUT_S)
    said = iter([each.rstrip() for each in (output + errors).splitlines()])
    for each in map(str.rstrip, PLANS[line].splitlines()):
        assert each == "..." or each in said, f"{each}\n\n{output}{errors}"
