"""The kit itself: it rehearses on a CPU, loses nothing in a crash, and no other test sees a GPU."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from configs.schema import DeviceName
from tests.cli import ROOT, environment, phalanx
from tests.gpu import jobs
from tests.gpu.kit import BUDGETS_S, Check, Kit
from tests.gpu.page import TITLES
from tests.gpu.profiles import read_profile
from tests.pool import RankPool

# What the hardware's detection sees where there is a GPU and torch is built for it.
WITH_A_GPU = """
import sys
from pathlib import Path
from parallel import hardware
class Devices(type(Path())):
    def glob(self, pattern):
        return [Path("/dev/nvidia0")] if str(self) == "/dev" else super().glob(pattern)
hardware.Path = Devices
hardware.torch_is_built_for_cuda = lambda: True
"""
AUTO = (
    WITH_A_GPU
    + """
from configs.schema import DeviceName
print(hardware.choose_device(DeviceName.auto))
"""
)


def pytest_says(*options: str) -> subprocess.CompletedProcess[str]:
    """A session of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu", *options],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        check=False,
    )


def test_rehearses_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "kit.json"
    done = pytest_says("-m", "gpu", "--rehearse", f"--kit-out={out}")
    assert done.returncode == 0, done.stdout[-8000:]
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["rehearsal"]
    assert found["counts"]["passed"] > 40
    assert {check["status"] for check in found["checks"]} == {"passed", "skipped"}
    passed = {check["group"] for check in found["checks"] if check["status"] == "passed"}
    assert passed == BUDGETS_S.keys() - {"speed"}
    for check in found["checks"]:
        assert check["numbers"] if check["status"] == "passed" else check["reason"]
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "Rehearsal on a CPU: proves nothing of a GPU" in page
    assert "flash-attn needs CUDA" in page
    assert "http" not in page.replace('http-equiv="', "")


def test_without_a_gpu_it_says_so() -> None:
    done = pytest_says("-m", "gpu")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    said = (done.stdout + done.stderr).strip()
    assert said == "ERROR: -m gpu: no CUDA device that this torch can use; nearest: --rehearse"


def test_no_other_test_sees_a_gpu() -> None:
    assert phalanx.python("-c", AUTO).output == "cpu\n"
    bare = {name: it for name, it in environment().items() if name != "CUDA_VISIBLE_DEVICES"}
    seen = subprocess.run(
        [sys.executable, "-c", AUTO], env=bare, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert seen.stdout == "cuda\n"  # or the above shows nothing
    doctor = (
        WITH_A_GPU + "import launcher.cli; sys.argv = ['phalanx', 'doctor']; launcher.cli.main()"
    )
    assert "device=auto" in (said := phalanx.python("-c", doctor).output)
    assert "through gloo, on CPU" in said


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/**/conftest.py")), ids=str)
def test_a_gpu_is_hidden_before_torch_could_see_it(path: Path) -> None:
    """What pytest imports before it configures itself."""
    code = f"import runpy, sys; runpy.run_path({str(path)!r}); sys.exit('torch' in sys.modules)"
    assert phalanx.python("-c", code).status == 0


def test_a_crash_loses_nothing(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "kit.json", DeviceName.cpu)
    kit.checks = {name: Check("runs", name) for name in ("one", "<two>", "three")}
    kit.checks["one"].status = "passed"
    kit.checks["one"].note("loss", math.nan, 1e-3)
    kit.checks["<two>"].status = "running"
    kit.write()
    found = json.loads(kit.path.read_text(encoding="utf-8"))
    assert [check["status"] for check in found["checks"]] == ["passed", "running", "not run"]
    assert found["checks"][0]["numbers"] == [{"what": "loss", "value": "nan", "allowed": 1e-3}]
    page = kit.path.with_suffix(".html").read_text(encoding="utf-8")
    assert "1 passed, 1 running, 1 not run" in page
    assert "&lt;two&gt;" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit.html", "kit.json"]


def test_a_number_beyond_what_is_allowed_fails_and_is_kept() -> None:
    check = Check("runs", "one")
    check.within("near", 1e-4, 1e-3)
    for wrong in (2e-3, math.nan, math.inf):
        with pytest.raises(AssertionError, match=r"far: .*, allowed are 0\.001"):
            check.within("far", wrong, 1e-3)
    assert [number["what"] for number in check.numbers] == ["near", "far", "far", "far"]


def test_a_rank_that_is_gone_is_named_and_the_pool_begins_anew() -> None:
    pool = RankPool(2)
    try:
        with pytest.raises(AssertionError, match="ranks 1 did not answer or are gone"):
            pool.run(2, jobs.one_is_gone)
        assert pool.run(1, jobs.one_is_gone) == [0]
    finally:
        pool.stop()


def test_fifteen_minutes() -> None:
    assert sum(BUDGETS_S.values()) <= 15 * 60
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert files - {"kit"} == BUDGETS_S.keys() == TITLES.keys()


def test_a_profile_of_cuda_is_read(tmp_path: Path) -> None:
    """The events that Kineto writes: 20 us of NCCL in two kernels, a matmul beside 6 of them."""
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 1},
        {"ph": "X", "cat": "kernel", "name": "ncclDevKernel_AllReduce", "ts": 10, "dur": 10},
        {"ph": "X", "cat": "kernel", "name": "ncclDevKernel_AllReduce", "ts": 15, "dur": 15},
        {"ph": "X", "cat": "kernel", "name": "nvjet_tst_128x64", "ts": 4, "dur": 12},
        {"ph": "X", "cat": "kernel", "name": "vectorized_elementwise_kernel", "ts": 16, "dur": 9},
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 40, "dur": 1},
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 41, "dur": 1},
        {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pageable)", "ts": 42},
        {"ph": "M", "name": "process_name"},
    ]
    path = tmp_path / "rank_0.json"
    path.write_text(json.dumps({"traceEvents": events}))
    found = read_profile(path)
    assert (found.operations, found.nccl_us, found.beside_us) == (1, 20.0, 6.0)
    assert found.waits == {"cudaStreamSynchronize": 1, "Memcpy DtoH (Device -> Pageable)": 1}
