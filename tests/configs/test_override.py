"""What is typed is what is meant, through Hydra's grammar and the shell's."""

from __future__ import annotations

import subprocess

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from configs.override import override, shell_command


def read_by_hydra(word: str) -> object:
    [parsed] = OverridesParser.create().parse_overrides([word])
    config = OmegaConf.create({})
    OmegaConf.update(config, parsed.key_or_group, parsed.value(), force_add=True)
    return config.x


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
@example("a run, of mine")
@example("/home/josé/runs")
@example("${oc.env:HOME}")
@example("it's \\")
@example("1e3")
@example("null")
def test_any_text_comes_through(text: str) -> None:
    assert read_by_hydra(override("x", text)) == text


def test_the_usual_is_not_quoted() -> None:
    assert override("run_dir", "/scratch/me/runs/13b-tp2") == "run_dir=/scratch/me/runs/13b-tp2"
    assert override("layout.tensor", 2) == "layout.tensor=2"
    assert override("train.steps", None) == "train.steps=null"
    assert override("plan.search", True) == "plan.search=true"
    assert override("layout.stage_layers", [3, 1]) == "layout.stage_layers=[3,1]"


def test_a_folder_of_config_files_is_shown_as_its_flag() -> None:
    shown = shell_command("phalanx", "plan", "hydra.searchpath=['file:///home/me/my conf']")
    assert shown == "phalanx plan --config-dir '/home/me/my conf'"


def test_the_shell_gives_back_the_words() -> None:
    words = ["phalanx", "train", override("run_dir", "a run $(touch gone) `x`; 'y'")]
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {shell_command(*words)}"],
        text=True,
        capture_output=True,
        check=True,
    )
    assert printed.stdout.splitlines() == words
