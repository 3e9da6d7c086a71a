from __future__ import annotations

from pathlib import Path

import pytest

from launcher.command_line.completion import complete

COMMANDS = ("train", "plan", "help")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], ["train "]),
        (["--ver"], ["--version "]),
        (["train", "--dry"], ["--dry-run ", "--dryrun "]),
        (["train", "layout.sch"], ["layout.schedule="]),
        (["train", "layout.schedule="], ["layout.schedule=standard", "layout.schedule=dualpipev"]),
        (["train", "train.async"], ["train.async_save="]),
        (["train", "train.async_save="], ["train.async_save=true", "train.async_save=false"]),
        (["train", "model=gpt3_na"], ["model=gpt3_nano"]),
        (["train", "train.steps="], []),
        (["train", "nosuch="], []),
    ],
)
def test_words(words: list[str], offered: list[str]) -> None:
    assert complete(words, COMMANDS) == offered


def test_what_there_is_help_for() -> None:
    found = complete(["help", "lau"], COMMANDS)
    assert {"launch", "launch.name"} <= set(found)
    assert len(found) == len(set(found))


def test_a_group_is_listed_to_its_next_dot() -> None:
    found = complete(["train", "corpus"], COMMANDS)
    assert {"corpus=", "corpus."} <= set(found)
    assert not any("sources.NAME" in each for each in found)


def test_files_and_folders_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("name: mine\n")
    (tmp_path / "my_texts").mkdir()
    (tmp_path / "my_texts" / "a.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert complete(["train", "corpus.text=my_"], COMMANDS) == ["corpus.text=my_texts/"]
    assert complete(["train", "corpus.text=my_texts/"], COMMANDS) == ["corpus.text=my_texts/a.txt"]
    assert complete(["train", "--config-dir", "co"], COMMANDS) == ["conf/"]
    assert complete(["train", "--config-dir=co"], COMMANDS) == ["--config-dir=conf/"]
    assert complete(["train", "-cd", "conf", "model=min"], COMMANDS) == ["model=mine"]
