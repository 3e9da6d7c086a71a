"""What is told at the end of a first run can be pasted as it is."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from launcher.command_line.catalogue import COMMANDS
from launcher.command_line.compose import compose_run
from launcher.commands.parity import split_arguments
from launcher.console.next_steps import next_steps
from launcher.run.resolve import resolve


@pytest.mark.parametrize("given", [[], ["layout=pp2", "train.steps=9", "model.vocab=300"]])
def test_every_command_composes_and_its_layout_works(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = compose_run([*given, "device=cpu"])
    told = next_steps(run, tmp_path / "runs" / "my first", given)
    commands = [shlex.split(line, comments=True) for line in told.splitlines()]
    commands = [words for words in commands if words and words[0].endswith("phalanx")]
    assert [words[1] for words in commands] == ["generate", "evaluate", "plan", "train", "parity"]
    for _, command, *words in commands:
        assert command in COMMANDS
        mine, against = split_arguments(words)
        of_run = [] if command == "parity" else given
        for overrides in ([*of_run, *mine], [*of_run, *mine, *against]):
            made = compose_run([*(o for o in overrides if not _replaced(o, overrides)), CPU])
            resolve(made, {})
            if command != "parity":
                assert made.run_dir == "runs/my first"
    assert ("layout=pp2" in told) is (given == [])


CPU = "device=cpu"


def _replaced(override: str, overrides: list[str]) -> bool:
    """Whether a later one is of the same setting."""
    later = overrides[overrides.index(override) + 1 :]
    return any(override.split("=")[0] == each.split("=")[0] for each in later)
