"""Who failed first, of what, and what follows: from what the ranks left behind."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError, RunError
from launcher.failure.heartbeat import RankStatus, kept_on_this_node
from launcher.failure.record import (
    Failure,
    FailureKind,
    kind_of,
    leave_note,
    note_for_others,
    oom_kills,
)
from launcher.failure.report import Report, judge, nodes_to_leave_out, report_of, screen
from launcher.run.run_dir import RunFolder
from parallel.layout import Layout

LOST = RuntimeError("[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:45")
LAYOUT = Layout(tensor=2, pipeline=2)


def failure(rank: int, error: BaseException, at: float) -> Failure:
    return replace(Failure.of(rank, error, "gloo:all_reduce"), time=at, node=f"node{rank // 2}")


def judged(notes: list[Failure], codes: dict[int, int] | None = None) -> Report:
    report = judge(notes, codes or {}, LAYOUT.world_size, ["node0", "node1"])
    assert report is not None
    return report


def test_the_cause_is_told_not_the_consequence() -> None:
    notes = [failure(0, LOST, 1.0), failure(1, LOST, 1.1), failure(2, ValueError("bad row"), 1.2)]
    report = judged(notes, {0: 1, 1: 1, 2: 1})
    assert isinstance(report.error, RunError)
    assert report.line == "rank 2: ValueError: bad row"
    assert report.kind is FailureKind.code
    assert report.node == "node1"
    text = screen(report, LAYOUT, Path("logs"))
    assert "first    rank 2 (tensor 0, data 0, stage 1) on node1: starting" in text
    assert "waiting  rank 0 (tensor 0, data 0, stage 0) on node0" in text
    assert "in gloo:all_reduce" in text
    assert "no word  of rank 3" in text
    assert "rank_2.log" in text


def test_wrong_input_found_by_a_rank_is_wrong_input() -> None:
    notes = [failure(1, LOST, 0.5), failure(0, InputError("checkpoint=x: is damaged"), 1.0)]
    report = judged(notes, {0: 2, 1: 1})
    assert isinstance(report.error, InputError)
    assert report.line == "checkpoint=x: is damaged"
    assert not report.consequence.again


def waited(rank: int) -> Failure:
    note = failure(rank, RuntimeError(), 2.0)
    return replace(note, lost_peer=True, waited_s=15.0, place="training, step 11")


def test_a_hang_is_told_by_the_rank_that_does_not_wait() -> None:
    report = judged([waited(0), waited(1), waited(3)], {0: 1})
    assert report.line == "rank 2 did not answer: rank 0 waited 15 s (training, step 11)"
    assert report.kind is FailureKind.hang
    assert report.node == "node1"
    # The agent kills it in the end; that is a consequence.
    killed = replace(failure(2, RuntimeError("was ended by SIGKILL"), 9.0), kind=FailureKind.killed)
    again = judged([waited(0), waited(1), waited(3), killed])
    assert again.line == report.line
    assert again.first == killed
    two = judged([waited(0), waited(3)], {2: -9})
    assert two.line.startswith("ranks 1, 2 did not answer")
    all_four = judged([waited(rank) for rank in range(4)])
    assert "all ranks waited for each other" in all_four.line
    # The backend's own limit came before ours.
    gloo = RuntimeError("[unbound_buffer.cc:78] Timed out waiting 12000ms for recv operation")
    nccl = RuntimeError("Watchdog caught collective operation timeout: ran for 12000 milliseconds")
    for error in (gloo, nccl):
        by_backend = judged([failure(rank, error, 2.0) for rank in (0, 1, 3)])
        assert (
            by_backend.line == "rank 2 did not answer: rank 0 waited 12 s (starting, before a step)"
        )


def test_ranks_that_left_no_word() -> None:
    report = judged([failure(0, LOST, 1.0), failure(1, LOST, 1.1)])
    assert report.line == (
        "ranks 2, 3 left no message; the first to lose its connection was rank 0"
    )
    assert "no word  of ranks 2, 3 on node1" in screen(report, LAYOUT, Path("logs"))
    assert report.kind is FailureKind.lost
    assert report.node == "node1"
    assert "exit status 7" in judged([], {4: 7}).line
    assert judge([], {}, 4) is None


def test_what_a_killed_launcher_left_goes_with_the_next() -> None:
    with kept_on_this_node() as statuses:
        nobody = statuses.with_name(statuses.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))
        nobody.mkdir()
        with kept_on_this_node() as others:
            assert others != statuses
            assert statuses.exists()
        assert not nobody.exists()


def test_an_agent_speaks_for_the_ranks_that_cannot(tmp_path: Path) -> None:
    with kept_on_this_node() as statuses:
        for rank in range(3):
            place = RankStatus()
            place.open(rank)
            place.note("training", 40 + rank)
        leave_note(tmp_path, failure(0, LOST, 1.0))
        note_for_others(tmp_path, {1: -signal.SIGKILL}, statuses, oom_kills())
    assert not statuses.exists()
    (tmp_path / "logs").mkdir()
    for note in tmp_path.glob("failure_rank_*.json"):
        note.rename(tmp_path / "logs" / note.name)
    reported = report_of(RunFolder(tmp_path), LAYOUT)
    assert reported is not None
    report, text = reported
    assert report.line == "rank 1 was ended by SIGKILL"
    assert report.first is not None
    assert report.first.place == "training, step 41"
    assert (tmp_path / "failure.txt").read_text() == text + "\n"
    assert json.loads((tmp_path / "failures.jsonl").read_text())["kind"] == "killed"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("step 12: loss nan, gradient norm inf", FailureKind.loss),
        ("OSError: [Errno 28] No space left on device", FailureKind.disk),
        ("the checkpoint of step 4 was not saved: the disk of /x is full", FailureKind.disk),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", FailureKind.memory),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory", FailureKind.memory),
        ("AcceleratorError: CUDA error: uncorrectable ECC error encountered", FailureKind.node),
        (
            "before the first step: rank 3 on n7: cuda computes wrongly: 4 for a sum",
            FailureKind.node,
        ),
        (
            "before the first step: rank 8 on n2: Triton needs a C compiler, and CC=icx is no "
            "program; nearest: unset CC",
            FailureKind.node,
        ),
        ("AcceleratorError: CUDA error: device-side assert triggered", FailureKind.code),
        ("KeyError: 'x'", FailureKind.code),
    ],
)
def test_kinds_by_words(message: str, kind: FailureKind) -> None:
    assert kind_of(message) is kind


def test_the_node_that_a_preflight_names_is_at_fault() -> None:
    words = "before the first step: rank 3 on n7: cuda computes wrongly: 4 for a sum of squares"
    assert judged([failure(0, RunError(words), 1.0)]).node == "n7"


def test_nodes_are_left_out_when_they_have_earned_it(tmp_path: Path) -> None:
    def fail(kind: str, node: str) -> None:
        with (tmp_path / "failures.jsonl").open("a") as file:
            file.write(json.dumps({"kind": kind, "node": node}) + "\n")

    assert nodes_to_leave_out(RunFolder(tmp_path)) == []
    for kind, node in (("killed", "a"), ("hang", "b"), ("code", "c"), ("code", "c"), ("lost", "")):
        fail(kind, node)
    assert nodes_to_leave_out(RunFolder(tmp_path)) == []
    fail("node", "d")
    fail("hang", "b")
    assert nodes_to_leave_out(RunFolder(tmp_path)) == ["d", "b"]
