"""What a newcomer asks for, and what is answered."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from configs.errors import InputError
from launcher.command_line.arguments import parse
from launcher.command_line.catalogue import COMMANDS
from launcher.command_line.compose import compose_run
from launcher.command_line.help import asked, version
from launcher.commands.parity import split_arguments
from tests.cli import ROOT, environment, phalanx


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str) -> None:
    text = asked([command])
    about = COMMANDS[command]
    assert " ".join(text.split()).count(" ".join(about.about.split())) == 1
    assert text.count(f"  phalanx {command}") >= len(about.examples) == 3
    assert "  phalanx help settings" in text
    assert max(map(len, text.splitlines())) <= 100
    others = [name for name in COMMANDS if name != command]
    assert all(asked([other]) != text for other in others[:2])


@pytest.mark.parametrize("command", COMMANDS)
def test_its_settings_are_there(command: str) -> None:
    text = asked([command])
    for name in (*COMMANDS[command].own, *COMMANDS[command].shared):
        assert f"\n  {name.removesuffix('*')}" in text


EXAMPLES = [line for command in COMMANDS.values() for line, _ in command.examples]


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_settings_that_there_are(line: str) -> None:
    command, *words = shlex.split(line)
    mine, against = split_arguments(words)
    arguments = parse(mine, command)
    overrides = [it for it in arguments.for_hydra() if not it.startswith("-")]
    if "--multirun" in arguments.flags:
        overrides = [it.partition(",")[0] for it in overrides]
    compose_run([*overrides, *against])


def test_defaults_are_those_of_what_is_typed() -> None:
    assert "\n  train.global_batch=16 " in asked(["train"])
    assert "\n  train.global_batch=256 " in asked(["train", "model=gpt3_125m", "--help"])
    assert "\n  experiment=null " in asked(["train"])


def test_values_have_their_sentences() -> None:
    text = asked(["train.on_bad_loss"])
    assert "train.on_bad_loss=stop\n" in text
    assert "train.on_bad_loss=skip          returns to the newest checkpoint" in text


def test_help_of_a_group_and_of_a_name() -> None:
    text = asked(["layout"])
    assert "layout=tp2 " in text
    assert "Two ranks: every matmul split in two" in text
    assert "layout.recompute=none" in text
    assert "the text's key in a JSONL line" in asked(["corpus.sources.books1.field"])


def test_the_reference_has_every_setting() -> None:
    from configs.describe import settings

    text = asked(["settings"])
    for name in settings():
        assert f"\n  {name}" in f"\n{text}"
    of_train = asked(["settings", "train"])
    assert "train.max_skips=100" in of_train
    assert "model." not in of_train.replace("model.recipe.tokens", "")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["tran"], "nearest: train"),
        (["layuot"], "nearest: layout,"),
        (["sav_every"], "nearest: train.save_every,"),
        (["settings", "trian"], "nearest: train,"),
    ],
)
def test_what_there_is_no_help_for(words: list[str], near: str) -> None:
    with pytest.raises(InputError, match=near):
        asked(words)


def test_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.command_line.help._tells_width", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        for line in asked([command]).splitlines():
            assert len(line) <= 80, line


def test_no_torch_is_imported() -> None:
    for words in (["--help"], ["train", "--help"], ["help", "layout"], ["--version"]):
        code = f"import sys; sys.modules['torch'] = None; sys.argv = {['phalanx', *words]}; "
        code += "from launcher.cli import main; main()"
        done = phalanx.python("-c", code)
        assert done.status == 0, done.errors


def test_version() -> None:
    for name in ("phalanx ", "torch 2.", "megatron-core 0.", "deepspeed 0."):
        assert name in version()
    assert phalanx("train", "--version").output.strip() == version()


@pytest.mark.parametrize("words", [["help", "train"], ["train", "-h"], ["--help", "train"]])
def test_the_ways_to_ask(words: list[str]) -> None:
    assert phalanx(*words).output.strip() == asked(["train"])


def test_help_of_ranks_that_torchrun_would_start() -> None:
    assert phalanx.python("-m", "launcher.train", "--help").output.strip() == asked(["train"])


def test_completion_is_installed_by_one_line() -> None:
    """As bash does it: the function is asked for the words behind what was typed."""
    code = f"""
    phalanx() {{ {shlex.quote(sys.executable)} -m launcher "$@"; }}
    eval "$(phalanx -sc install=bash)"
    complete -p phalanx
    command() {{ echo /bin/true; }}  # it looks for a program, not for a function
    COMP_WORDS=(phalanx train model=gpt3_n) COMP_CWORD=2
    COMP_LINE="${{COMP_WORDS[*]}}"
    hydra_bash_completion
    echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", code],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "-F hydra_bash_completion phalanx" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "model=gpt3_nano"
    assert 'eval "$(phalanx -sc install=bash)"' in asked([])
