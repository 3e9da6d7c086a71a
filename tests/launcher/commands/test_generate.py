"""`phalanx generate`: prompts of every kind, and those that cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from corpus.tokenizer.tokenizer import Tokenizer
from launcher.inference.generate import _Stream
from launcher.inference.prompts import prompts_of
from parallel.checkpoint.manifest import find
from tests.cli import ROOT, environment, phalanx

LIKELIEST = ("generate.temperature=0", "generate.tokens=6", "layout=single")


@pytest.fixture(scope="module")
def tokenizer(trained: Path) -> Tokenizer:
    return Tokenizer.load(find(trained) / "tokenizer.json")


SUMS = ["task=arithmetic", "evaluate.limit=2", "evaluate.shots=[0]"]
PROMPTS = ["Licensor", "The work", "You may"]


def test_a_file_of_prompts_gives_what_each_gives_as_it_is_typed(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("\n".join(["", *PROMPTS, ""]))
    out = tmp_path / "out.jsonl"
    files = (f"generate.file={tmp_path / 'in.txt'}", f"generate.out={out}")
    never = 'generate.stop=["no such thing"]'
    done = phalanx("generate", *LIKELIEST, *files, never, "layout=tp2_pp2", run_dir=trained)
    assert done.status == 0, done.errors
    assert done.output == f"wrote {out}\n"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["prompt"], row["ended"]) for row in rows] == [(it, "tokens") for it in PROMPTS]
    assert not list(tmp_path.glob("*.unfinished"))
    settings = ("generate.interactive=true", *LIKELIEST, f"run_dir={trained}")
    typed = subprocess.run(
        [sys.executable, "-m", "launcher", "generate", *settings],
        input="\n".join(["", *PROMPTS, ""]),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        check=False,
    )
    assert typed.returncode == 0, typed.stderr
    texts = [f"{row['prompt']}{row['text']}\n" for row in rows]
    assert typed.stdout == "".join(f"> {said}" for said in ["", *texts, "\n"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["generate.prompt="], "generate.prompt='': is empty; nearest: "),
        (["generate.prompt=" + "work " * 40], "tokens, the model's context is 32"),
        (["generate.file=none.txt"], "generate.file=none.txt: "),
        (["generate.out=none/out.jsonl"], "generate.out=none/out.jsonl: its folder is not there"),
        (["launch=torchrun"], "launch=torchrun: generate starts its own ranks"),
    ],
)
def test_what_cannot_be_asked(trained: Path, settings: list[str], says: str) -> None:
    done = phalanx("generate", *LIKELIEST, *settings, run_dir=trained)
    assert done.status == 2
    assert says in done.errors
    assert done.errors.count("\n") == 1


def test_a_run_that_torchrun_or_slurm_trained_is_asked_here(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    settings["launch"] |= {"name": "slurm", "elastic": True}
    settings["cluster"] |= {"nodes": 2, "gpus_per_node": 4}
    (run / "settings.yaml").write_text(yaml.safe_dump(settings))
    for command in (["generate", *LIKELIEST], ["evaluate", *SUMS]):
        done = phalanx(*command, "layout=single", run_dir=run)
        assert done.status == 0, done.errors


def test_a_tokenizer_of_another_vocabulary(trained: Path, tmp_path: Path) -> None:
    from corpus.tokenizer.vocabulary import GPT2_SIZE, gpt2
    from parallel.checkpoint import manifest

    checkpoint = tmp_path / "step_00000006"
    shutil.copytree(find(trained), checkpoint)
    (checkpoint / "tokenizer.json").write_text(gpt2(GPT2_SIZE).make(()))
    names = [path.name for path in checkpoint.iterdir() if path.name != "manifest.json"]
    digests = {name: manifest.file_digest(checkpoint / name) for name in sorted(names)}
    manifest.write_manifest(checkpoint, digests)
    done = phalanx("generate", *LIKELIEST, f"checkpoint={checkpoint}")
    assert done.status == 2
    assert "its tokenizer has 50,257 tokens, its model knows 300" in done.errors


def test_articles_are_asked_for_as_in_the_paper(tmp_path: Path) -> None:
    from dataclasses import replace

    from launcher.command_line.compose import compose_run

    rows = [{"title": f"T{n}", "subtitle": f"S{n}", "article": f"A{n}."} for n in range(2)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = replace(
        compose_run([]).generate, title="T", subtitle="S", articles=str(tmp_path / "a.jsonl")
    )
    assert prompts_of(settings) == [
        "Title: T0\nSubtitle: S0\nArticle: A0.\n\nTitle: T1\nSubtitle: S1\nArticle: A1.\n\n"
        "Title: T\nSubtitle: S\nArticle:"
    ]


@pytest.mark.parametrize("stops", [["work"], ["e W", "\n\n"], ["no such thing"], []])
def test_streamed_text_ends_before_a_stop_string(tokenizer: Tokenizer, stops: list[str]) -> None:
    text = 'The Work is "the work", and\n\nno other work.'
    stream = _Stream(tokenizer, stops)
    pieces = [stream.push(token) for token in tokenizer.encode(text)] + [stream.flush()]
    ends = [text.find(stop) for stop in stops if stop in text]
    assert "".join(pieces) == text[: min(ends, default=len(text))]
    assert stream.stopped == bool(ends)
    if not ends:
        assert len([piece for piece in pieces if piece]) > 5  # as it comes, not at the end
