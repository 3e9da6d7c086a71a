"""What a batch script asks before and after its ranks, without a SLURM around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import InputError
from launcher.failure.record import Failure, FailureKind, leave_note
from launcher.run.run_dir import RunFolder
from launcher.start import slurm_job
from slurm import commands
from slurm.script import AGAIN, NOTHING
from tests.cli import TINY, phalanx

JOB = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1", "SLURM_JOB_NUM_NODES": "2"}
TWO_NODES = ["launch=slurm", "launch.submit=false", "device=cpu", "cluster.nodes=2"]
TWO_NODES += ["cluster.gpus_per_node=2", "layout=tp2_pp2"]


@pytest.fixture
def folder(own_cache: str, tmp_path: Path) -> RunFolder:
    prepared = phalanx("prepare", *TINY)
    assert prepared.status == 0, prepared.errors
    written = phalanx("train", *TINY, *TWO_NODES, run_dir=tmp_path / "run")
    assert written.status == 0, written.errors
    return RunFolder(tmp_path / "run")


def test_from_begin_to_end(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert slurm_job.begin(folder, JOB) == 0
    assert capsys.readouterr().out == "2\n"
    [start] = slurm_job.read_starts(folder)
    assert (start.job, start.restart, start.saved) == ("7", 1, 0)
    # Other nodes than were asked for, of a run that is not elastic.
    assert slurm_job.begin(folder, {**JOB, "SLURM_JOB_NUM_NODES": "1"}) == slurm_job.WRONG
    said = capsys.readouterr()
    assert said.out == ""
    assert "the job has 1 nodes, cluster.nodes=2; nearest: launch.elastic=true" in said.err
    # Nothing is known of the end: it restarts.
    assert slurm_job.end(folder, 1, JOB) == AGAIN
    # What would happen again is not restarted, by the kind of failure.
    for kind, status in (
        (FailureKind.killed, AGAIN),
        (FailureKind.disk, 1),
        (FailureKind.memory, 1),
        (FailureKind.settings, 2),
    ):
        leave_note(folder.logs, Failure(rank=0, message="so it was", kind=kind, node="n1"))
        assert slurm_job.end(folder, 1, JOB) == status, kind
    kinds = [json.loads(line)["kind"] for line in folder.failures.read_text().splitlines()]
    assert kinds == ["killed", "disk", "memory", "settings"]
    assert "what to do: mend the setting" in capsys.readouterr().err
    # A stop that was heeded is no failure, whatever else is lying there.
    folder.write_end(3, "SIGUSR1")
    assert slurm_job.end(folder, 1, JOB) == AGAIN
    folder.stop_file.touch()
    assert slurm_job.end(folder, 1, JOB) == 0
    assert slurm_job.begin(folder, JOB) == NOTHING
    folder.stop_file.unlink()
    folder.write_end(6, None)
    assert slurm_job.end(folder, 0, JOB) == 0
    assert slurm_job.begin(folder, JOB) == NOTHING


def test_in_a_container_without_slurms_commands_it_begins_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm_job.begin(folder, JOB) == 0
    leave_note(folder.logs, Failure(rank=0, message="ECC", kind=FailureKind.node, node="n1"))
    assert slurm_job.end(folder, 1, JOB) == AGAIN
    assert "n1 not left out: launch=slurm: there is no sinfo here" in capsys.readouterr().err


def test_a_node_is_left_out_where_others_are_there(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usable = ["n1", "n2", "n3"]
    monkeypatch.setattr(commands, "usable_nodes", lambda _partition: usable)
    assert slurm_job.begin(folder, JOB) == 0
    leave_note(folder.logs, Failure(rank=0, message="ECC", kind=FailureKind.node, node="n1"))
    assert slurm_job.end(folder, 1, JOB) == AGAIN
    assert folder.left_out.read_text() == "n1\n"
    usable.remove("n3")
    assert slurm_job.end(folder, 1, JOB) == AGAIN
    assert "n1 not left out: 1 other nodes are there, 2 needed" in capsys.readouterr().err
    assert not folder.left_out.exists()

    def gone(_partition: str | None) -> list[str]:
        raise InputError("launch=slurm: there is no sinfo here")

    monkeypatch.setattr(commands, "usable_nodes", gone)
    assert slurm_job.end(folder, 1, JOB) == AGAIN
