"""What the README tells to type works."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.command_line.arguments import command_of, parse
from launcher.command_line.catalogue import COMMANDS
from launcher.command_line.explain import is_known
from launcher.commands.parity import split_arguments
from tests.cli import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN = "### Your own model, cluster, corpus and experiment"
WORDS = "A few words of a text that is only there to be long enough to be trained on. "


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands(text: str) -> list[str]:
    """Those of phalanx, each in one line."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", "").splitlines()
    lines += [
        line[2:] for line in "".join(blocks(text, "console")).splitlines() if line[:2] == "$ "
    ]
    return [line for line in lines if line.startswith("phalanx ")]


@pytest.mark.parametrize("line", commands(README))
def test_every_command_has_settings_that_there_are(line: str) -> None:
    words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
    command, rest = command_of(words)
    if command == "help":
        return
    assert command in COMMANDS
    mine, against = split_arguments(rest)
    for override in [*parse(mine, command).overrides, *against]:
        assert is_known(override.lstrip("+").partition("=")[0]), override


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The section on files of one's own, with its files and some text in the current folder."""
    section = README.split(f"\n{OWN}\n")[1].split("\n### ")[0]
    for block in blocks(section, "yaml"):
        named = re.search(r"^# (conf/\S+\.yaml)$", block, re.M)
        assert named is not None
        path = tmp_path / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block, encoding="utf-8")
    for name in ("notes", "books"):
        (tmp_path / name).mkdir()
    rows = [json.dumps({"content": f"{number} {WORDS * 20}"}) for number in range(600)]
    (tmp_path / "notes" / "all.jsonl").write_text("\n".join(rows))
    for number in range(600):
        (tmp_path / "books" / f"{number}.txt").write_text(f"{number} {WORDS * 20}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHALANX_CACHE", str(tmp_path / "cache"))
    return section


def test_files_of_ones_own(
    own_files: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for line in commands(own_files):
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        assert ended.value.code == 0, f"{line}: {output.err}"
        said[line.partition("#")[0].strip()] = output.out
    assert len(said) == 6
    plan, prepare, train, models, job, planned = said.values()
    assert "my_model" in plan
    assert "on 8 x A100" in plan
    assert "notes" in prepare
    assert "mixture of my_corpus" in train
    assert "training 200 steps" in train
    assert "model=my_model" in models
    assert "seed: 7" in job
    assert "my_model" in planned
    assert not Path("runs").exists()
