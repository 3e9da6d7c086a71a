"""What a user who only looks around sees."""

from __future__ import annotations

import pytest

from launcher.cli import COMMANDS
from tests.cli import phalanx


def test_usage_names_every_command() -> None:
    result = phalanx("--help")
    assert result.status == 0
    for command in COMMANDS:
        assert f"  {command}" in result.output


def test_an_unknown_command() -> None:
    result = phalanx("trian")
    assert result.status == 2
    assert "there is no command 'trian'; nearest: train" in result.errors


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_hydra_app(command: str) -> None:
    shown = phalanx(command, "layout=tp4", "--cfg", "job")
    assert shown.status == 0
    assert "tensor: 4" in shown.output
    assert "phalanx is powered by Hydra" in phalanx(command, "--help").output


@pytest.mark.parametrize(
    ("line", "expected"), [("phalanx tr", "train "), ("phalanx train model=gpt3_n", "gpt3_nano")]
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
