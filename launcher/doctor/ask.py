"""Starts the probe, and reads what it says for as long as it lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from launcher.doctor.finding import Finding

WITHIN_S = 120.0
PROBE = ("-P", "-m", "launcher.doctor.probe")


def ask(device: str, probe: Sequence[str] = PROBE, within_s: float = WITHIN_S) -> list[Finding]:
    """What the probe found on `device`; a probe that did not reach its end is a finding too."""
    with tempfile.TemporaryDirectory(prefix="phalanx-doctor-") as cache:
        process = subprocess.Popen(
            [sys.executable, *probe, device],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # so that its ranks end with it
            env={
                **os.environ,
                # Empty caches: what was compiled before would hide that the compiler is gone.
                "TORCHINDUCTOR_CACHE_DIR": os.path.join(cache, "inductor"),
                "TRITON_CACHE_DIR": os.path.join(cache, "triton"),
                "TORCHINDUCTOR_COMPILE_THREADS": "1",
            },
        )
        late = False
        try:
            output, errors = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            late = process.poll() is None  # else its ranks are left, and hold on to its output
            _end(process)
            output, errors = process.communicate()
        finally:
            _end(process)
    how = f"no answer within {within_s:.0f} s" if late else _how_it_ended(process.returncode)
    last = next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "")
    return read(output, f"{how}: {last}" if last else how)


def read(output: str, ended: str) -> list[Finding]:
    """The findings in a probe's output; `ended` says how it ended, for when it has not said so."""
    findings: list[Finding] = []
    at = "the probe"
    for line in output.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # not the probe's
        match record:
            case {"ends": True}:
                return findings
            case {"begins": str(name)}:
                at = name
            case {"what": str(what), "found": str(found), "means": str(means), "good": good} if (
                good is None or isinstance(good, bool)
            ):
                findings.append(Finding(what, found, means, good))
    return [*findings, Finding(at, "failed", f"{ended}; what comes after was not tried", False)]


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the probe and every process that it started, if any is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
