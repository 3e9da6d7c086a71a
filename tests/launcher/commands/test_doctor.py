"""`phalanx doctor`: its table and its exit status, with what a probe on CUDA would answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import InputError, RunError
from launcher.commands import doctor
from launcher.doctor.ask import read
from parallel import hardware
from tests.cli import phalanx
from tests.runs import run_of

RECORDED = """\
{"begins": "torch"}
{"begins": "CUDA"}
{"what": "CUDA", "found": "13.0, 8 GPUs", "means": "driver 580.95.05", "good": true}
{"begins": "GPUs"}
{"what": "GPUs", "found": "8 x NVIDIA H100 80GB HBM3", "means": "79 GiB each, compute capability 9.0", "good": true}
{"begins": "links"}
{"what": "links", "found": "NVLink (NV18) between all pairs", "means": "", "good": null}
{"begins": "all-reduce"}
{"what": "all-reduce", "found": "failed", "means": "RuntimeError: no space in /dev/shm", "good": false}
{"begins": "transformer_engine"}
{"what": "transformer_engine", "found": "2.11.0", "means": "Megatron-core's layers on CUDA", "good": true}
{"ends": true}
"""  # noqa: E501


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with eight GPUs, a torch for CUDA, and all that Triton needs."""
    for module in (doctor, hardware):
        monkeypatch.setattr(module, "cuda_devices", lambda: 8)
        monkeypatch.setattr(module, "torch_is_built_for_cuda", lambda: True)
    monkeypatch.setattr(doctor, "lacking_for_triton", lambda: None)
    monkeypatch.setattr(doctor, "ask", lambda _device: read(RECORDED, ""))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("on_cuda")
def test_what_cuda_needs_and_does_not_work_is_exit_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(RunError) as failed:
        doctor.doctor(run_of("device=cuda"), [])
    assert str(failed.value) == ("device=cuda will not work here: all-reduce; the table says why")
    lines = capsys.readouterr().out.splitlines()
    assert "ok CUDA" in " ".join(line[:7] for line in lines)
    [links] = [line for line in lines if "links" in line]
    assert links.startswith("-  links")
    assert links.endswith("NVLink (NV18) between all pairs")
    at = next(number for number, line in enumerate(lines) if line.startswith("no all-reduce"))
    assert "no space in /dev/shm" in "".join(lines[at : at + 2])
    # Tried, so what the package's metadata says is not said again.
    assert len([line for line in lines if "transformer_engine" in line]) == 1


@pytest.mark.usefixtures("on_cuda")
def test_auto_says_the_same_and_does_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.doctor(run_of(""), [])
    said = capsys.readouterr()
    assert "no all-reduce" in said.out
    assert said.err == "phalanx: trying CUDA, for 120 seconds at most\n"


@pytest.mark.usefixtures("on_cuda")
def test_a_cpu_that_is_asked_for_tries_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "ask", lambda _device: pytest.fail("the probe was started"))
    doctor.doctor(run_of("device=cpu"), [])
    assert "phalanx doctor device=cuda" in capsys.readouterr().out


@pytest.mark.usefixtures("on_cuda")
def test_a_missing_compiler_is_told_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "lacking_for_triton", lambda: "Triton needs a C compiler")
    with pytest.raises(RunError, match="all-reduce, compiler for Triton; the table"):
        doctor.doctor(run_of("device=cuda"), [])
    assert "no compiler for Triton" in capsys.readouterr().out


@pytest.mark.usefixtures("on_cuda")
def test_a_torch_for_cpu_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (doctor, hardware):
        monkeypatch.setattr(module, "torch_is_built_for_cuda", lambda: False)
    with pytest.raises(RunError, match="will not work here: CUDA"):
        doctor.doctor(run_of("device=cuda"), [])


def test_no_device_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cuda_devices", lambda: 0)
    with pytest.raises(InputError, match="no CUDA device here; nearest: device=cpu"):
        doctor.doctor(run_of("device=cuda"), [])


@pytest.mark.skipif(hardware.cuda_devices() > 0, reason="there is a CUDA device here")
def test_no_device_as_a_user_sees_it() -> None:
    result = phalanx("doctor", "device=cuda")
    assert result.status == 2
    assert result.output == ""
    assert result.errors == "phalanx: device=cuda: no CUDA device here; nearest: device=cpu\n"
