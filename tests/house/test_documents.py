"""What documents tell to type works, what they show is what is said, and their links lead on."""

from __future__ import annotations

import json
import re
import shlex
import sys
from itertools import product
from pathlib import Path

import hydra
import pytest

from configs.load import load
from configs.schema import DeviceName, Run
from launcher.cli import main
from launcher.command_line import reference
from launcher.command_line.arguments import command_of, parse
from launcher.command_line.catalogue import COMMANDS
from launcher.command_line.explain import is_known
from launcher.commands.parity import split_arguments
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.plan import Plan
from parallel.rules import violations
from tests.cli import ROOT
from tests.runs import names

OWN = ROOT / "docs" / "guide" / "your-own-configs.md"
WORDS = "A few words of a text that is only there to be long enough to be trained on. "
MORE = "..."  # in a command: and more that the reader has to say
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands(text: str) -> list[str]:
    """Those of phalanx that are to be typed, each in one line."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", "").splitlines()
    return [line for line in lines if line.startswith("phalanx ")]


def shown(text: str) -> dict[str, str]:
    """Commands of phalanx that are shown with what they say."""
    return {
        block.partition("\n")[0].removeprefix("$ "): block.partition("\n")[2]
        for block in blocks(text, "console")
        if block.startswith("$ phalanx ")
    }


TEXTS = {path: text_of(path) for path in DOCUMENTS}
TYPED = list(dict.fromkeys(line for text in TEXTS.values() for line in commands(text)))
SHOWN = {line: said for text in TEXTS.values() for line, said in shown(text).items()}


def words_of(line: str) -> tuple[str | None, list[str]]:
    """The command and its other words, without what the reader has to say."""
    return command_of([word for word in shlex.split(line, comments=True)[1:] if word != MORE])


def test_there_are_commands() -> None:
    assert len(TYPED) > 50
    assert any("README" in path.name and commands(text) for path, text in TEXTS.items())


@pytest.mark.parametrize("line", [*TYPED, *SHOWN], ids=str)
def test_every_command_has_settings_that_there_are(line: str) -> None:
    command, rest = words_of(line)
    if command == "help":
        return
    assert command in COMMANDS
    mine, against = split_arguments(rest)
    for override in [*parse(mine, command).overrides, *against]:
        assert is_known(override.lstrip("+").partition("=")[0]), override


def composed(overrides: list[str]) -> Run:
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        return load(hydra.compose("config", overrides=overrides))


def runs_of(line: str) -> list[Run]:
    """What a command composes: a run, one for each value of --multirun, or the two of parity."""
    command, rest = words_of(line)
    mine, against = split_arguments(rest)
    arguments = parse(mine, command or "")
    given = [word for word in arguments.for_hydra() if not word.startswith("-")]
    if "--multirun" in arguments.flags:
        several = [
            [f"{word.partition('=')[0]}={value}" for value in word.partition("=")[2].split(",")]
            for word in given
        ]
        return [composed(list(words)) for words in product(*several)]
    return [composed(given), *([composed([*given, *against])] if against else [])]


def faults(run: Run) -> list[str]:
    """What this run would be refused for, if the machines were there that it asks for."""
    cluster = run.cluster
    ranks = None if cluster.gpus_per_node is None else cluster.nodes * cluster.gpus_per_node
    device = "cpu" if cluster.gpu is None else "cuda"
    layout = Layout.resolve(run.layout, ranks)
    return [str(fault) for fault in violations(run, layout, ranks=ranks, device=device)]


RULED = ("train", "parity")  # commands that the rules of a training hold for
COMPOSED = [line for line in TYPED if words_of(line)[0] != "help" and "--config-dir" not in line]


@pytest.mark.parametrize("line", COMPOSED, ids=str)
def test_every_command_is_one_that_could_run(line: str) -> None:
    """It composes to a run of the right types; one that trains breaks no rule."""
    for run in runs_of(line):
        if MORE not in line and words_of(line)[0] in RULED:
            assert not faults(run)


def large(run: Run) -> bool:
    return ModelShape.of(run.model).parameters > 1e9


@pytest.mark.parametrize("line", [it for it in COMPOSED if words_of(it)[0] == "train"], ids=str)
def test_what_is_trained_fits(line: str) -> None:
    """A large model fits the cluster, which the command names."""
    for run in filter(large, runs_of(line)):
        cluster = run.cluster
        layout = Layout.resolve(run.layout, cluster.nodes * (cluster.gpus_per_node or 1))
        assert Plan.of(run, layout, DeviceName.cuda).fits


def said_by(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that succeeds prints."""
    monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert ended.value.code == 0, f"{line}: {output.err}"
    return output.out


def is_quick(line: str) -> bool:
    """Help, and plans of one layout that need neither torch nor a file."""
    unfit = (
        *(MORE, "--config-dir", "plan.search", "plan.trace", "plan.out", "plan.timeline"),
        "cluster.from",
        "plan calibrate",
    )
    return words_of(line)[0] in ("help", "plan") and not any(word in line for word in unfit)


@pytest.mark.parametrize("line", [line for line in TYPED if is_quick(line)], ids=str)
def test_help_and_plans_answer(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said_by(line, monkeypatch, capsys)
    assert not list(tmp_path.iterdir())


REFUSED = {line: said for line, said in SHOWN.items() if said.startswith("phalanx: ")}


def test_a_refusal_is_shown() -> None:
    assert REFUSED


@pytest.mark.parametrize("line", REFUSED, ids=str)
def test_refusals_are_shown_as_they_are(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == REFUSED[line]


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page on files of one's own, with its files and some text in the current folder."""
    page = text_of(OWN)
    for block in blocks(page, "yaml"):
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
    return page


def test_files_of_ones_own(
    own_files: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for line in commands(own_files):
        said[line.partition("#")[0].strip()] = said_by(line, monkeypatch, capsys)
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


def test_the_reference_is_current() -> None:
    page = ROOT / reference.PATH
    assert text_of(page) == reference.reference(), (
        f"{reference.PATH} is not what configs/ says: `{reference.COMMAND}` writes it anew"
    )


def headings(text: str) -> set[str]:
    """As GitHub names them in links."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(text: str) -> list[str]:
    """The relative ones."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [it for it in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"\w+:", it)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(TEXTS[path]):
        place, _, heading = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), f"{link}: there is no {place}"
        assert not heading or heading in headings(text_of(target)), f"{link}: there is no {heading}"


FILES = [f"/{path.relative_to(ROOT)}" for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
GONE = {"tests/parallel/__init__.py"}  # named because there must be none


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_files_of_code_that_are_named_are_there(path: Path) -> None:
    named = set(re.findall(r"`([\w./]+\.py)`", TEXTS[path])) - GONE
    for file in sorted(each for each in named if "NAME" not in each):
        assert any(each.endswith(f"/{file}") for each in FILES), f"there is no {file}"


def test_the_page_on_models_names_them_all() -> None:
    rows = re.findall(r"^\| (`.*?) \|", text_of(ROOT / "docs" / "guide" / "models.md"), re.M)
    named = [
        each for row in rows for each in re.findall(r"`([\w.]+)`", row) if "model." not in each
    ]
    assert sorted(named) == names("model")
