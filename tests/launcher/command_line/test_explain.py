"""Mistakes in settings and in config files of the user's own, each told with what works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.cli import guarded
from launcher.command_line.compose import hydra_app

FIGURES = """name: mine
nodes: 2
gpus_per_node: 4
gpu: A100-SXM4-80GB
peak_tflops: {bf16: 312.0}
memory_gib: 80
memory_gb_s: 2039
multiprocessors: 108
link_gb_s: 300
network_gb_s: 25
dollars_per_hour: null
sustained_tflops: null
software: phalanx
"""


class Told:
    """What `phalanx plan WORDS` says of a mistake, without a process of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capsys = patch, capsys
        patch.setenv("HYDRA_FULL_ERROR", "1")

    def __call__(self, *words: str) -> str:
        self._patch.setattr(sys, "argv", ["phalanx plan", *words])
        status = guarded(hydra_app(lambda _run, _overrides: None))
        assert status == 2
        return self._capsys.readouterr().err.removeprefix("phalanx: ").rstrip()


@pytest.fixture
def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Told:
    monkeypatch.chdir(tmp_path)
    for group in ("model", "cluster", "experiment"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    return Told(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model.heads=six"], "model.heads=six: takes int (attention heads per layer)"),
        (
            ["train.seed="],
            "train.seed=: takes int (random seed of the initial weights and the data order)",
        ),
        (["model.recipe.tokens=null"], "model.recipe.tokens=null: takes int (training ends"),
        (["engine.name=megatorn"], "takes megatron|deepspeed; nearest: engine.name=megatron"),
        (["train.on_bad_loss=x"], "train.on_bad_loss=x: takes stop|skip"),
        (["layout=tp2,pp2"], "nearest: --multirun layout=tp2,pp2"),
        (["layout=[tp2"], "layout=[tp2: cannot be read; nearest, if it is a text: "),
        (["+x=3"], "x: there is no such setting; `phalanx help settings` lists all"),
        (["~layout"], "layout.tensor: has no value: ranks that share each matmul [int]"),
        (
            ["corpus.sources.mine.path=x"],
            "corpus.sources.mine: a name of your own is new there, and is added with +; "
            "nearest: +corpus.sources.mine.path=x",
        ),
        (
            ["+corpus.sources.mine.path=x"],
            "corpus.sources.mine.weight: has no value: 0 or more; a source's share of the "
            "samples is its weight over the sum of all [number]; nearest: "
            "+corpus.sources.mine.weight=VALUE",
        ),
        (["model=gpt3_12b"], "model=gpt3_12b: there is no such file; nearest: model=gpt3_13b"),
        (["experiment=x"], "there is no such file; known: experiment="),
    ],
)
def test_settings(told: Told, words: list[str], line: str) -> None:
    said = told(*words)
    assert line in said
    assert len(said.splitlines()) == 1


def test_all_that_are_mistyped_are_named(told: Told) -> None:
    said = told("model.hedas=3", "layout=tp2", "layout.tensr=2", "+train.sed=3")
    assert said.splitlines() == [
        "model.hedas: there is no such setting; nearest: model.heads",
        "  layout.tensr: there is no such setting; nearest: layout.tensor",
        "  train.sed: there is no such setting; nearest: train.seed",
    ]


def test_a_long_list_is_cut_and_begins_with_the_nearest(told: Told) -> None:
    (Path("conf") / "model" / "nosuchthing.yaml").write_text("defaults: [gpt3_nano, _self_]\n")
    assert told("--config-dir", "conf", "model=nosuch").endswith("nearest: model=nosuchthing")
    said = told("layout=x")
    assert said.startswith("layout=x: there is no such file; known: layout=")
    assert said.endswith(" and 8 more")
    assert "./" not in said


def test_a_file_to_begin_with_that_lacks_ours(told: Told) -> None:
    path = Path("conf") / "my_run.yaml"
    path.write_text("train:\n  steps: 5\n")
    said = told("--config-dir", "conf", "--config-name", "my_run")
    assert said.splitlines() == [
        "--config-name my_run: conf/my_run.yaml does not begin with ours, which has a value for "
        "every setting; nearest: as its first line",
        "  defaults: [config, _self_]",
    ]
    assert not Path("outputs").exists()
    path.write_text(f"{said.splitlines()[1].strip()}\n" + path.read_text())
    assert "train.sed: " in told("--config-dir", "conf", "--config-name", "my_run", "train.sed=1")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--config-dir", "cnf"], "--config-dir cnf: there is no such folder"),
        (["--config-name", "x"], "--config-name x: in which folder? nearest: --config-dir ."),
        (
            ["--config-dir", "conf", "--config-name", "my_rnu"],
            "--config-name my_rnu: there is no conf/my_rnu.yaml; nearest: my_run",
        ),
        (
            ["--config-dir", "conf", "--config-name", "broken"],
            "conf/broken.yaml:3: expected ',' or",
        ),
        (["--config-dir", "conf", "--config-name", "list"], "conf/list.yaml: holds no settings"),
    ],
)
def test_folders_and_files(told: Told, words: list[str], line: str) -> None:
    (Path("conf") / "my_run.yaml").write_text("defaults: [config, _self_]\n")
    (Path("conf") / "broken.yaml").write_text("defaults: [config, _self_]\ntrain: {steps\n")
    (Path("conf") / "list.yaml").write_text("- 1\n")
    assert line in told(*words)


def test_a_cluster_that_lacks_figures(told: Told) -> None:
    path = Path("conf") / "cluster" / "mine.yaml"
    kept = [line for line in FIGURES.splitlines() if "link" not in line and "nodes" not in line]
    path.write_text("\n".join(kept) + "\n")
    said = told("--config-dir", "conf", "cluster=mine")
    assert said.splitlines() == [
        "conf/cluster/mine.yaml: does not say nodes, link_gb_s; add",
        "  nodes: VALUE  # machines of the cluster to use",
        "  link_gb_s: null  # from a GPU to the others of its node, GB/s one way",
        "or begin the file with one of ours, and say what differs: defaults: [dgx_a100, _self_]",
    ]
    added = [line.replace("VALUE", "2") for line in said.splitlines()[1:3]]
    path.write_text("\n".join([*kept, *(line.strip() for line in added)]) + "\n")
    assert "x: there is no such setting" in told("--config-dir", "conf", "cluster=mine", "+x=1")
    path.write_text("defaults: [dgx_a100, _self_]\nname: mine\n")
    assert "x: there is no such setting" in told("--config-dir", "conf", "cluster=mine", "+x=1")


def test_a_file_of_a_group_with_a_mistyped_key(told: Told) -> None:
    path = Path("conf") / "cluster" / "mine.yaml"
    path.write_text(FIGURES.replace("link_gb_s", "link_gbs"))
    assert "cluster.link_gbs: there is no such setting; nearest: cluster.link_gb_s" in told(
        "--config-dir", "conf", "cluster=mine"
    )


def test_files_of_groups_that_cannot_be_read(told: Told) -> None:
    (Path("conf") / "model" / "mine.yaml").write_text("layers: {4\n")
    assert "conf/model/mine.yaml:2: expected ',' or" in told("--config-dir", "conf", "model=mine")
    (Path("conf") / "experiment" / "mine.yaml").write_text("train:\n  steps: 5\n")
    assert told("--config-dir", "conf", "experiment=mine").splitlines() == [
        "conf/experiment/mine.yaml: fills settings of other names; nearest: as its first line",
        "  # @package _global_",
    ]
    (Path("conf") / "model" / "mine.yaml").write_text("defaults: [gpt3_12b, _self_]\n")
    assert "model=gpt3_12b: there is no such file; nearest: model=gpt3_13b" in told(
        "--config-dir", "conf", "model=mine"
    )
