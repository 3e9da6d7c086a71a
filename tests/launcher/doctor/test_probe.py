"""The probe: rehearsed on a CPU, and what is read of one that crashes, hangs or talks nonsense."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launcher.doctor.ask import ask, read
from launcher.doctor.finding import Finding
from launcher.doctor.probe import in_one_line
from tests.cli import ROOT

MULTIPLY = '{"what": "multiply", "found": "right", "means": "in float32", "good": true}'
AFTER = "what comes after was not tried"


@pytest.fixture(autouse=True)
def _ours_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_rehearsal_on_a_cpu() -> None:
    findings = ask("cpu", within_s=240)
    assert [finding.what for finding in findings][:4] == [
        "CUDA",
        "multiply",
        "compile",
        "all-reduce",
    ]
    of = {finding.what: finding for finding in findings}
    assert of["compile"] == Finding("compile", "right", "a kernel by Inductor, with g++", True)
    assert of["all-reduce"] == Finding("all-reduce", "right", "over gloo, 2 ranks", True)
    assert not [finding for finding in findings if finding.good is False]


def test_cuda_that_does_not_start_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    [finding] = ask("cuda")
    assert (finding.what, finding.found, finding.good) == ("CUDA", "failed", False)
    assert ": " in finding.means  # the kind of the error, and what torch says
    assert AFTER not in finding.means


def played(code: str, within_s: float = 60) -> list[Finding]:
    """What is read of a probe that does this."""
    return ask("cuda", ("-c", f"import os, sys, time\n{code}"), within_s)


def test_a_crash_names_the_check_and_keeps_what_came_before() -> None:
    found = played(
        f"print('{MULTIPLY}')\n"
        """print('{"begins": "all-reduce"}', flush=True)\n"""
        "print('\\nsome noise\\nterminate called', file=sys.stderr, flush=True)\n"
        "os.kill(os.getpid(), 11)"
    )
    assert found == [
        Finding("multiply", "right", "in float32", True),
        Finding("all-reduce", "failed", f"ended by SIGSEGV: terminate called; {AFTER}", False),
    ]


def test_torch_that_cannot_be_imported() -> None:
    said = "ImportError: libcudart.so.13: cannot open shared object file"
    [finding] = played(
        f"""print('{{"begins": "torch"}}', flush=True)\nraise {said[:11]}("{said[13:]}")"""
    )
    assert finding.what == "torch"
    assert finding.means == f"ended with exit status 1: {said}; {AFTER}"


def test_a_probe_that_hangs_is_ended_with_its_ranks(tmp_path: Path) -> None:
    rank = tmp_path / "rank"
    before = time.monotonic()
    found = played(
        """print('{"begins": "compile"}', flush=True)\n"""
        "pid = os.fork()\n"
        f"if pid: open({str(rank)!r}, 'w').write(str(pid))\n"
        "time.sleep(100)",
        within_s=2,
    )
    assert time.monotonic() - before < 50
    assert found == [Finding("compile", "failed", f"no answer within 2 s; {AFTER}", False)]
    with pytest.raises(ProcessLookupError):
        _until_gone(int(rank.read_text()))


def test_a_rank_that_outlives_a_crash_does_not_hide_it() -> None:
    found = played(
        """print('{"begins": "all-reduce"}', flush=True)\n"""
        "if os.fork(): os.kill(os.getpid(), 6)\n"
        "time.sleep(100)",
        within_s=2,
    )
    assert found == [Finding("all-reduce", "failed", f"ended by SIGABRT; {AFTER}", False)]


def _until_gone(process: int) -> None:
    for _ in range(200):
        os.kill(process, 0)
        time.sleep(0.05)


def test_garbage_between_the_lines_is_passed_over() -> None:
    output = "\n".join(
        [
            "NCCL version 2.29.7+cuda13.0",
            "[1, 2",
            "17",
            '["begins", "x"]',
            '{"begins": 3}',
            '{"what": "multiply", "found": "right", "means": "", "good": "yes"}',
            MULTIPLY,
            '{"ends": true}',
            '{"begins": "late"}',
        ]
    )
    assert read(output, "ended") == [Finding("multiply", "right", "in float32", True)]


def test_an_end_that_is_not_said_is_no_end() -> None:
    assert read("", "ended with exit status 0") == [
        Finding("the probe", "failed", f"ended with exit status 0; {AFTER}", False)
    ]


def test_an_error_of_many_lines_is_one() -> None:
    error = RuntimeError(
        "backend='inductor' raised:\n\nRuntimeError: Failed to find C compiler.\n\nSet TORCHDYNAMO"
    )
    assert in_one_line(error) == (
        "RuntimeError: backend='inductor' raised: RuntimeError: Failed to find C compiler."
    )
    assert in_one_line(AssertionError()) == "AssertionError"


@pytest.mark.parametrize(
    ("fault", "found", "means", "good"),
    [
        (None, "installed", "gives", True),
        ("not installed", "not installed", "gives", None),
        ("OSError: of another torch", "installed", "passed over: OSError: of another torch", None),
    ],
)
def test_a_package_is_judged_as_a_run_does(
    fault: str | None, found: str, means: str, good: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launcher.doctor import checks

    monkeypatch.setitem(checks.PACKAGES, "apex", (lambda: fault, "gives"))
    assert list(checks.imports("apex")("cpu")) == [Finding("apex", found, means, good)]
