from __future__ import annotations

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

from configs.errors import InputError
from launcher.command_line.arguments import command_of, parse


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["layout=single", "--multirun", "a=1,2"], ["--multirun"]),
        (["layout=single", "a=1,2", "-m"], ["--multirun"]),
        (["layout=single", "--cfg", "job", "a=1,2"], ["--cfg=job"]),
        (["layout=single", "-c", "job", "--resolve", "a=1,2"], ["--cfg=job", "--resolve"]),
        (["layout=single", "--info", "a=1,2"], ["--info=all"]),
        (["layout=single", "--info", "searchpath", "a=1,2"], ["--info=searchpath"]),
        (["layout=single", "--config-dir=conf", "a=1,2"], ["--config-dir=conf"]),
        (["layout=single", "-cd", "conf", "a=1,2"], ["--config-dir=conf"]),
        (["layout=single", "--multi", "a=1,2"], ["--multirun"]),
        (["layout=single", "--dry-run", "a=1,2"], []),
        (["layout=single", "--dryrun", "a=1,2"], []),
    ],
)
def test_flags_may_stand_anywhere(words: list[str], flags: list[str]) -> None:
    arranged = parse(words).for_hydra()
    assert arranged == [*flags, "layout=single", "a=1,2"]
    assert get_args_parser().parse_args(arranged).overrides == ["layout=single", "a=1,2"]


def test_blanks_at_the_ends_of_a_text_are_kept() -> None:
    [word] = parse(["generate.prompt= The "]).for_hydra()
    [override] = OverridesParser.create().parse_overrides([word])
    assert override.value() == " The "


def test_every_flag_of_hydra_is_known() -> None:
    values = {"cfg": "job", "info": "all"}
    for action in get_args_parser()._actions:
        for flag in action.option_strings:
            takes = action.nargs != 0
            given = [flag, *([values.get(action.dest, "x")] if takes else [])]
            assert parse(["a=1", *given]).overrides == ["a=1"]


def test_a_dry_run_is_asked_for() -> None:
    assert parse(["--dryrun"]).dry_run
    assert parse(["a=1", "--dry-run"]).dry_run
    assert not parse(["a=1"]).dry_run


@pytest.mark.parametrize(
    ("words", "command", "told"),
    [
        (["--steps", "10"], "train", "--steps 10: settings are written as train.steps=10"),
        (["--steps", "10"], "parity", "--steps 10: settings are written as parity.steps=10"),
        (["--seed=3"], "generate", "--seed=3: settings are written as generate.seed=3"),
        (["--layout=tp2"], "train", "--layout=tp2: settings are written as layout=tp2"),
        (["--save-every", "5"], "train", "settings are written as train.save_every=5"),
        (["--train.steps", "5"], "plan", "settings are written as train.steps=5"),
        (["--wandb"], "train", "--wandb: settings are written as log.wandb=true"),
        (["-x"], "train", "-x: there is no such flag; settings are written as key=value"),
        (["--mulitrun"], "train", "--mulitrun: there is no such flag; nearest: --multirun"),
        (["--conf", "x"], "train", "nearest: --config-path or --config-name or --config-dir"),
        (["--cfg", "jbo"], "train", "--cfg jbo: takes job|hydra|all"),
        (["--config-dir"], "train", "--config-dir: needs a value behind it"),
        (["tensor"], "train", "'tensor' is not a setting; nearest: layout.tensor=VALUE"),
        (["nonsense"], "train", "'nonsense' is not a setting; nearest: key=value"),
        (["a/my_run.yaml"], "train", "nearest: --config-dir a --config-name my_run, or"),
    ],
)
def test_mistakes(words: list[str], command: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(words, command)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_told() -> None:
    with pytest.raises(InputError) as caught:
        parse(["--steps", "10", "layout=tp2", "tensor"], "train")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("word", "arranged"),
    [
        ("run_dir=runs/x-layout=tp2,train.seed=3", "run_dir='runs/x-layout=tp2,train.seed=3'"),
        ("run_dir='a=b'", "run_dir='a=b'"),
        ("launch.directives=[--mem=0,-x]", "launch.directives=['--mem=0',-x]"),
        ("launch.directives=['--mem=0']", "launch.directives=['--mem=0']"),
        ("+corpus.sources.a={path: x=y}", "+corpus.sources.a={path: x=y}"),
        ("train.seed=range(start=1,stop=3)", "train.seed=range(start=1,stop=3)"),
        ("train.seed=3", "train.seed=3"),
    ],
)
def test_a_text_with_equals_is_quoted(word: str, arranged: str) -> None:
    assert parse([word]).for_hydra() == [arranged]


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        (["train", "a=1"], "train", ["a=1"]),
        (["--multirun", "train", "a=1"], "train", ["--multirun", "a=1"]),
        (["-c", "job", "train"], "train", ["-c", "job"]),
        (["--config-dir=x", "train"], "train", ["--config-dir=x"]),
        (["--train"], None, ["--train"]),
        ([], None, []),
    ],
)
def test_flags_may_stand_before_the_command(
    words: list[str], command: str | None, rest: list[str]
) -> None:
    assert command_of(words) == (command, rest)
