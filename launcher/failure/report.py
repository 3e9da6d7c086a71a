"""The report of a failure: which rank failed first, where and why, who waited, what to do.

When one rank dies the others lose their connections within milliseconds and fail too. A rank that
lost a connection is a consequence; one that raised anything else, was killed or left no note is a
cause. Imports no torch.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError, RunError
from configs.words import listed
from launcher.failure.record import Failure, FailureKind, read_notes, silent_ranks
from launcher.run.jsonl import append_line, read_lines
from launcher.run.run_dir import RunFolder
from parallel.layout import Layout

_WAITING_SHOWN = 16
_NAMED = 16


@dataclass(frozen=True, slots=True)
class Consequence:
    """The consequence of a kind of failure."""

    advice: str
    again: bool  # the job is requeued
    excludes: int | None = None  # the failures on one node after which the node is excluded


CONSEQUENCES = {
    FailureKind.settings: Consequence(
        "mend the setting; a start with the same ones fails again", False
    ),
    FailureKind.loss: Consequence(
        "train.on_bad_loss=skip goes back to a checkpoint and past the batches; or "
        "checkpoint=RUN/checkpoints/step_N with a lower optimizer.learning_rate",
        False,
    ),
    FailureKind.disk: Consequence(
        "make room, then start the run again: nothing saved is lost", False
    ),
    FailureKind.memory: Consequence(
        "phalanx plan says what the layout takes; a smaller layout.micro_batch, "
        "layout.recompute=full, or more ranks take less",
        False,
    ),
    FailureKind.node: Consequence("have the node looked at; the run goes on without it", True, 1),
    FailureKind.hang: Consequence(
        "the stacks and the flight recorder's memory in logs say where; a node that hangs "
        "again is left out",
        True,
        2,
    ),
    FailureKind.killed: Consequence(
        "look at what ends processes there: the kernel's log (dmesg) for memory, the cluster's "
        "limits, a person; a node where it happens again is left out",
        True,
        2,
    ),
    FailureKind.lost: Consequence(
        "look whether the node is still there; one that is lost again is left out", True, 2
    ),
    FailureKind.code: Consequence("the traceback is in the rank's log", True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The report of one failed start.

    Attributes:
        first: the rank that failed first; None if no rank that caused it left a note.
        node: the faulty node, if known.
        silent: ranks that left no note.
        notes: the notes of all ranks.
    """

    kind: FailureKind
    line: str
    first: Failure | None
    node: str
    silent: list[int]
    notes: list[Failure]

    @property
    def error(self) -> InputError | RunError:
        """The exception to raise: InputError for wrong settings, else RunError."""
        return InputError(self.line) if self.kind is FailureKind.settings else RunError(self.line)

    @property
    def consequence(self) -> Consequence:
        """The consequence of a failure of this kind."""
        return CONSEQUENCES[self.kind]


def judge(
    notes: list[Failure], codes: Mapping[int, int], ranks: int, nodes: Sequence[str] = ()
) -> Report | None:
    """Determines which rank failed first, and why; None if there is no sign of a failure.

    Args:
        notes: left by ranks, and by agents for killed ranks of their node.
        codes: exit statuses by rank, of those that ended before the launcher stopped the others.
        ranks: the number of ranks in the run.
        nodes: the ranks' nodes in order, if known.
    """
    if not notes and not codes:
        return None
    silent = silent_ranks(notes, ranks)
    causes = sorted((n for n in notes if not n.lost_peer), key=lambda n: n.time)
    wrong = [note for note in causes if note.of_input]

    def report(kind: FailureKind, line: str, first: Failure | None) -> Report:
        at_fault = first.node if first is not None else ""
        if first is None and silent and nodes:
            at_fault = nodes[silent[0] * len(nodes) // ranks]
        if kind is FailureKind.node and (said := re.search(r"rank \d+ on ([^\s:]+): ", line)):
            at_fault = said[1]
        return Report(kind=kind, line=line, first=first, node=at_fault, silent=silent, notes=notes)

    if wrong:
        return report(FailureKind.settings, wrong[0].message, wrong[0])
    # Ranks that timed out were waiting for another, even if others were killed because of it.
    if any(note.waited_s for note in notes):
        return report(FailureKind.hang, *_hang(notes, silent))
    if causes:
        return report(causes[0].kind, _line(causes[0]), causes[0])
    if silent and notes:
        at_first = min(notes, key=lambda note: note.time)
        line = f"{_names(silent)} left no message; the first to lose its connection was rank "
        return report(FailureKind.lost, f"{line}{at_first.rank}", None)
    if notes:
        at_first = min(notes, key=lambda note: note.time)
        line = f"rank {at_first.rank} lost its connection: {at_first.message}"
        return report(FailureKind.lost, line, at_first)
    rank, code = min(codes.items())
    return report(
        FailureKind.lost, f"rank {rank} ended with exit status {code} and left no message", None
    )


def _line(failure: Failure) -> str:
    between = " " if failure.ended_by else ": "
    return f"rank {failure.rank}{between}{failure.message}"


def _hang(notes: list[Failure], silent: list[int]) -> tuple[str, Failure | None]:
    """The ranks that did not respond are those that neither waited nor lost a peer."""
    waited = min((note for note in notes if note.waited_s), key=lambda note: note.time)
    others = [note for note in notes if not note.lost_peer]  # suspended or killed
    ranks = sorted({*silent, *(note.rank for note in others)})
    waits = f"waited {waited.waited_s:g} s ({waited.place})"
    if not ranks:
        return f"all ranks waited for each other, rank {waited.rank} {waits}", waited
    first = next((note for note in others if note.rank == ranks[0]), None)
    return f"{_names(ranks)} did not answer: rank {waited.rank} {waits}", first


def _names(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {listed(ranks, _NAMED)}"


def screen(report: Report, layout: Layout, logs: Path) -> str:
    """The full report as text, one line per item."""
    return "\n".join(_screen(report, layout, logs))


def _screen(report: Report, layout: Layout, logs: Path) -> Iterator[str]:
    yield report.line
    first = report.first
    if first is not None:
        yield f"  first    {_position(first, layout)}"
        if first.traceback and report.kind is FailureKind.code:
            yield f"           {_innermost(first.traceback)}"
    waiting = sorted((n for n in report.notes if n.lost_peer), key=lambda n: n.rank)
    for note in waiting[:_WAITING_SHOWN]:
        yield f"  waiting  {_position(note, layout)}; {_how_it_ended(note)}"
        if note.waits_in:
            yield f"           {'' if note.waits_in.startswith('at ') else 'in '}{note.waits_in}"
    if len(waiting) > _WAITING_SHOWN:
        yield f"           and {len(waiting) - _WAITING_SHOWN} more"
    if report.silent:
        at_fault = f" on {report.node}" if first is None and report.node else ""
        yield f"  no word  of {_names(report.silent)}{at_fault}"
    yield f"  what to do: {report.consequence.advice}"
    rank = first.rank if first is not None else min((n.rank for n in waiting), default=0)
    yield f"  more     {logs / f'rank_{rank}.log'}"


def _how_it_ended(note: Failure) -> str:
    if note.waited_s:
        return f"gave up after {note.waited_s:g} s"
    return f"was ended by {note.ended_by}" if note.ended_by else "lost its connection"


def _position(note: Failure, layout: Layout) -> str:
    at = layout.coordinates(note.rank)
    context = f"context {at.context}, " if layout.context > 1 else ""
    if layout.expert > 1:
        context += f"expert {layout.expert_coordinates(note.rank).expert}, "
    stage = f"tensor {at.tensor}, {context}data {at.data}, stage {at.pipeline}"
    where = f" on {note.node}" if note.node else ""
    return f"rank {note.rank} ({stage}){where}: {note.place}"


def _innermost(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("File ")]
    return lines[-1] if lines else ""


def report_of(
    folder: RunFolder,
    layout: Layout,
    codes: Mapping[int, int] | None = None,
    nodes: Sequence[str] = (),
) -> tuple[Report, str] | None:
    """The report of the start that just failed and its text, written to the run directory too.

    Arguments as in `judge`.
    """
    report = judge(read_notes(folder.logs), codes or {}, layout.world_size, nodes)
    if report is None:
        return None
    text = screen(report, layout, folder.logs)
    first = report.first
    line = {
        "time": time.time(),
        "kind": report.kind,
        "error": report.line,
        "rank": None if first is None else first.rank,
        "node": report.node,
        "place": "" if first is None else first.place,
    }
    with contextlib.suppress(OSError):  # the disk itself may have failed
        folder.failure.write_text(text + "\n", encoding="utf-8")
        append_line(folder.failures, line)
    return report, text


def nodes_to_leave_out(folder: RunFolder) -> list[str]:
    """The nodes to exclude, from all failures of the run so far."""
    at_fault: dict[tuple[str, FailureKind], int] = {}
    bad: list[str] = []
    for said in read_lines(folder.failures):
        node, kind = said["node"], FailureKind(said["kind"])
        at_fault[node, kind] = at_fault.get((node, kind), 0) + 1
        limit = CONSEQUENCES[kind].excludes
        if node and node not in bad and limit is not None and at_fault[node, kind] >= limit:
            bad.append(node)
    return bad
