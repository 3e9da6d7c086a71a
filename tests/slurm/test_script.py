"""The batch script: what is asked for, and that no shell can be fooled by a setting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.override import override
from launcher.run.resolve import ResolvedRun, resolve
from launcher.run.run_dir import RunFolder
from launcher.start.slurm import job_of
from slurm.script import render
from tests.cli import TINY, phalanx
from tests.runs import run_of

DGX = "model=gpt3_175b cluster=dgx_a100 cluster.nodes=128 layout=gpt3_175b precision=bf16"
DGX += " train.global_batch=1536 optimizer.ramp_tokens=0 launch=slurm"
SMALL = ["launch=slurm", "device=cpu", "cluster.nodes=2", "cluster.gpus_per_node=2"]
SMALL += ["train.steps=2"]


def planned(overrides: str) -> ResolvedRun:
    return resolve(run_of(overrides), {})


def script_of(overrides: str, path: Path) -> str:
    return render(job_of(planned(overrides), RunFolder(path)))


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH" in line]


def test_nodes_and_gpus_are_the_layouts(tmp_path: Path) -> None:
    script = script_of(f"{DGX} launch.time_limit=2-00", tmp_path)
    asked = directives(script)
    assert "--nodes=128" in asked
    assert "--gpus-per-node=8" in asked
    assert "--ntasks-per-node=1" in asked
    assert "--time=2-00" in asked
    assert "--signal=USR1@120" in asked  # to every task; B: would reach the batch shell only
    assert "--requeue" in asked
    assert "--nnodes=$nodes --nproc-per-node=8" in script


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("launch.account=nlp", "--account=nlp"),
        ("launch.partition=big", "--partition=big"),
        ("launch.qos=high", "--qos=high"),
        ("launch.reservation=mine", "--reservation=mine"),
        ("launch.constraint=a100", "--constraint=a100"),
        ("launch.exclude=node[3,5]", "--exclude=node[3,5]"),
        ("launch.cpus_per_task=96", "--cpus-per-task=96"),
        ("launch.gpus_by=gres", "--gres=gpu:8"),
        ("launch.signal=USR2", "--signal=USR2@120"),
        ("launch.grace_s=600", "--signal=USR1@600"),
        ("launch.directives=[--mem=0]", "--mem=0"),
        ("launch.chain=array launch.jobs=4", "--array=1-4%1"),
        ("launch.chain=dependency", "--no-requeue"),
    ],
)
def test_what_a_site_wants_is_a_setting(setting: str, line: str, tmp_path: Path) -> None:
    assert line in directives(script_of(f"{DGX} {setting}", tmp_path))


def test_an_elastic_job_takes_what_there_is(tmp_path: Path) -> None:
    asked = directives(script_of(f"{DGX} launch.elastic=true launch.min_nodes=96", tmp_path))
    assert "--nodes=96-128" in asked
    assert "--ntasks-per-node=1" not in asked


def test_what_is_not_said_is_left_to_the_cluster(tmp_path: Path) -> None:
    asked = " ".join(directives(script_of(f"{DGX} launch.gpus_by=none", tmp_path)))
    for name in ("account", "partition", "qos", "time", "gpus", "gres", "cpus-per-task"):
        assert f"--{name}" not in asked


def test_the_shell_reads_it_and_paths_stay_whole(tmp_path: Path) -> None:
    folder = tmp_path / "a run $(touch gone) `x`"
    script = script_of(f"{DGX} launch.setup=[hostname]", folder)
    assert "\nhostname\n" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    # What srun is given, as the shells read it: one for the script, one on each node.
    words = script[script.index("  bash -c ") : script.index('" &')] + '"'
    words = words.replace("exec ", "printf '%s\\n' ", 1)
    said = subprocess.run(
        ["bash", "-c", words],
        env={"PATH": "/usr/bin:/bin", "SLURM_PROCID": "5"},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.splitlines()
    assert str(folder) in said
    assert override("run_dir", str(folder)) in said
    assert "--node-rank=5" in said
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("runs/13b", "/runs/13b/logs/slurm-%j.out"),
        ("a run", '"{}/a run/logs/slurm-%j.out"'),
        ('a "run"; #1', '"{}/a \\"run\\"; #1/logs/slurm-%j.out"'),
        ("100%j", "/100%%j/logs/slurm-%j.out"),
    ],
)
def test_a_path_is_one_word_to_sbatch(name: str, line: str, tmp_path: Path) -> None:
    [out] = [each for each in directives(script_of(DGX, tmp_path / name)) if "--output" in each]
    expected = line.format(tmp_path) if "{}" in line else f"{tmp_path}{line}"
    assert out == f"--output={expected}"


def test_no_setting_adds_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds neither line breaks nor backslashes"):
        script_of(DGX, tmp_path / "a\n#SBATCH --wrap=evil")


@pytest.fixture(scope="module")
def prepared(own_cache: str) -> None:
    """The text is prepared before a job, never by it."""
    result = phalanx("prepare", *TINY)
    assert result.status == 0, result.errors


def test_only_written_where_it_is_not_to_be_submitted(prepared: None, tmp_path: Path) -> None:
    result = phalanx("train", *TINY, *SMALL, "launch.submit=false", run_dir=tmp_path / "run")
    assert result.status == 0, result.errors
    script = (tmp_path / "run" / "job.sbatch").read_text()
    assert script in result.output
    assert "written, not submitted" in result.output


@pytest.mark.parametrize("launch", ["slurm", "torchrun"])
def test_looked_at_before_the_text_is_prepared(launch: str, tmp_path: Path) -> None:
    text = tmp_path / "new.txt"
    text.write_text("Nobody has prepared this text. " * 2000)
    settings = [*TINY, *SMALL, f"corpus.text={text}", f"launch={launch}", "launch.address=node1"]
    result = phalanx("train", *settings, "launch.submit=false", run_dir=tmp_path / "run")
    assert result.status == 0, result.errors
    assert "missing  corpus" in result.output
    assert "first: phalanx prepare" in result.output
    assert ("#SBATCH" if launch == "slurm" else "node 1: ") in result.output
    if launch == "slurm":
        assert result.output.endswith(", once its corpus is prepared (see above)\n")
        stands = phalanx("status", run_dir=tmp_path / "run")
        assert "end      not started\n" in stands.output
    refused = phalanx("train", *settings, run_dir=tmp_path / "other")
    assert refused.status == 2
    assert "is not prepared, and a job is no place for that" in refused.errors
    assert not (tmp_path / "other").exists()


def test_a_job_has_to_know_its_nodes(tmp_path: Path) -> None:
    result = phalanx("train", *TINY, "launch=slurm", "device=cpu", run_dir=tmp_path / "run")
    assert result.status == 2
    assert "cluster.gpus_per_node=null" in result.errors
    assert "nearest: cluster.gpus_per_node=4" in result.errors


def test_a_container_has_a_python_of_its_own(tmp_path: Path) -> None:
    """With pyxis only what srun starts is inside; a wrapper takes the other commands inside too."""
    asked = f"{DGX} launch.python=python3"
    script = script_of(asked, tmp_path)
    inside = script.split("bash -c", 1)[1]
    assert inside.lstrip().startswith('"exec python3 -P -m launcher.start.torchrun_node')
    assert f"$({sys.executable} -P -m launcher.start.slurm_job begin" in script
    wrapped = script_of(f"{asked} launch.wrapper=[apptainer,exec,phalanx.sif]", tmp_path)
    for command in ("launcher.start.slurm_job begin", "launcher.start.torchrun_node"):
        assert f"apptainer exec phalanx.sif python3 -P -m {command}" in wrapped
