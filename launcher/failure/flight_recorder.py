"""The collective a rank waits in, from torch's flight recorder, which gloo and NCCL both write.

PyTorch's "Flight Recorder" keeps the last collectives of every process group in memory; those not
retired are in progress.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from parallel.runtime import pair_allreduce

SIZE = "TORCH_FR_BUFFER_SIZE"  # how many collectives it keeps; unset or 0: none
DEFAULT_SIZE = "2000"  # what torch's documentation recommends
_DUMPS = ("_dump_nccl_trace_json", "_dump_fr_trace_json")
_AT_MOST = 3  # collectives listed


def turn_on() -> None:
    """Enables the recorder. Call it before the first process group is created."""
    os.environ.setdefault(SIZE, DEFAULT_SIZE)


def waits_in(logs: Path, rank: int, error: BaseException | None = None) -> str:
    """This rank's collectives in progress, and where its code is.

    Writes the recorder's buffer to logs/flight_recorder_rank_N.json.

    Args:
        error: the error that aborted the collective; the last collective is then listed.
    """
    found = list(_recorded())
    path = logs / f"flight_recorder_rank_{rank}.json"
    with suppress(OSError):  # a full disk must not hide the diagnosis
        path.write_text(json.dumps(found), encoding="utf-8")
    entries = [entry for dump in found for entry in dump["entries"]]
    under_way = [entry for entry in entries if not entry.get("retired", True)]
    exchanges = pair_allreduce.under_way()
    if error is not None and not under_way and not exchanges:
        under_way = entries[-1:]
    lines = _main_thread() if error is None else traceback.extract_tb(error.__traceback__)
    names = [*map(_name, under_way), *exchanges]
    return ", ".join([*names[-_AT_MOST:], *_innermost(lines)])


def _recorded() -> Iterator[dict[str, Any]]:
    module = getattr(torch._C, "_distributed_c10d", None)
    for name in _DUMPS:
        dump = getattr(module, name, None)
        if dump is None:
            continue
        try:
            recorded = json.loads(dump())
        except (RuntimeError, ValueError):  # a backend that was never initialized
            continue
        if recorded.get("entries"):
            yield recorded


def _name(entry: dict[str, Any]) -> str:
    name, group = entry["profiling_name"], entry["process_group"][1]
    number = entry["p2p_seq_id"] if entry.get("is_p2p") else entry["collective_seq_id"]
    of = "" if group in ("", "undefined") else f" of {group.lower()}"
    return f"{name}{of} (number {number})"


def _main_thread() -> traceback.StackSummary:
    main = threading.main_thread().ident
    return traceback.extract_stack(sys._current_frames().get(main) if main is not None else None)


def _innermost(lines: traceback.StackSummary) -> Iterator[str]:
    """The innermost line outside torch itself."""
    for line in reversed(lines):
        parts = Path(line.filename).parts
        if "torch" in parts or line.filename.startswith("<"):
            continue
        inside = parts.index("site-packages") + 1 if "site-packages" in parts else len(parts) - 2
        yield f"at {'/'.join(parts[inside:])}:{line.lineno}"
        return
