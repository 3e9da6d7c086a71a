"""What a user who only looks around sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.command_line.catalogue import COMMANDS
from tests.cli import phalanx


def test_usage_names_every_command() -> None:
    result = phalanx("--help")
    assert result.status == 0
    for command in COMMANDS:
        assert f"  {command}" in result.output
    assert phalanx().output == result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "there is no command 'trian'; nearest: train; the commands are plan,"),
        (["--multirun", "trian"], "there is no command 'trian'; nearest: train"),
        (["--train"], "there is no command '--train'; nearest: train"),
        (["layout=tp2"], "layout=tp2: a command comes first: phalanx train layout=tp2"),
        (["--steps", "10"], "there is no command '10'"),
        (["--multirun"], "--multirun: a command comes first"),
        (["help", "trian"], "help trian: there is no such command or setting; nearest: train"),
    ],
)
def test_no_command(words: list[str], told: str) -> None:
    result = phalanx(*words)
    assert result.status == 2
    assert told in result.errors
    assert len(result.errors.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_hydra_app(command: str) -> None:
    shown = phalanx(command, "layout=tp4", "--cfg", "job")
    assert shown.status == 0
    assert "tensor: 4" in shown.output


def test_what_hydra_has_to_say() -> None:
    assert "Hydra" in phalanx("train", "--hydra-help").output
    assert "pkg://configs" in phalanx("train", "layout=tp2", "--info", "searchpath").output


def test_a_flag_behind_the_settings(tmp_path: Path) -> None:
    result = phalanx(
        "plan",
        "layout=single",
        "--multirun",
        f"hydra.sweep.dir={tmp_path}",
        "format=json",
        "train.seed=1,2",
    )
    assert result.status == 0, result.errors
    assert result.output.count('"step_time_s"') == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("phalanx tr", "train "),
        ("phalanx he", "help "),
        ("phalanx train model=gpt3_n", "gpt3_nano"),
    ],
)
def test_tab_completion(line: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert expected in phalanx("-sc", "query=bash").output


def test_doctor() -> None:
    result = phalanx("doctor")
    assert result.status == 0
    for name in ("torch", "megatron-core", "deepspeed", "device=auto"):
        assert name in result.output
