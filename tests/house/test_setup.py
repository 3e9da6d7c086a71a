"""`make setup`: which torch it takes, from where, and by which pins."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli import ROOT

MAKE = shutil.which("make") or "make"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make reads, where nothing is installed yet."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-cuda.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def made(checkout: Path, *words: str, dry: bool = True) -> subprocess.CompletedProcess[str]:
    """`make setup` on a machine whose PATH has only the folder bin."""
    cat = checkout / "bin" / "cat"
    if not cat.exists():
        cat.symlink_to(shutil.which("cat") or "/bin/cat")
    return subprocess.run(
        [MAKE, *(["-n"] if dry else []), "setup", *words],
        cwd=checkout,
        env={"PATH": str(checkout / "bin")},
        capture_output=True,
        text=True,
    )


def installs(said: str) -> list[str]:
    return [line.split(" install ")[1] for line in said.splitlines() if " install " in line]


def program(checkout: Path, name: str) -> None:
    (checkout / "bin" / name).write_text("#!/bin/sh\n")
    (checkout / "bin" / name).chmod(0o755)


def test_without_a_gpu_it_is_the_cpus(checkout: Path) -> None:
    said = made(checkout, "NVIDIA=").stdout
    assert "phalanx: torch for cpu, because no NVIDIA GPU is here; TORCH=cuda takes the" in said
    build, torch, needed, ours = installs(said)
    # Without what it needs: pip would ask this index for all of it too.
    assert torch.rstrip(",:)") == (
        "--no-deps --constraint constraints.txt "
        "--extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0"
    )
    assert needed == "--constraint constraints.txt torch==2.13.0 numpy"
    assert build.startswith("--constraint constraints.txt pip ")
    assert ours.endswith('--editable ".[dev]"')
    assert "torch.version.cuda" not in said


@pytest.mark.parametrize("device", ["/dev/nvidia0", "/usr/bin/nvidia-smi"])
def test_with_a_gpu_it_is_cudas(checkout: Path, device: str) -> None:
    said = made(checkout, f"NVIDIA={device}", "NVCC=").stdout
    assert f"phalanx: torch for cuda, because {device} is here; TORCH=cpu takes the" in said
    _, torch, ours = installs(said)
    assert torch.split() == ["--constraint", "constraints-cuda.txt", "torch==2.13.0", "numpy"]
    assert ours.endswith('--editable ".[dev]"')
    assert "without Transformer Engine" in said
    assert "torch.version.cuda" in said  # that it is CUDA's is looked at


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")
def test_the_drivers_tool_is_found_on_the_path(checkout: Path) -> None:
    assert "torch for cpu" in made(checkout).stdout
    program(checkout, "nvidia-smi")
    assert f"torch for cuda, because {checkout}/bin/nvidia-smi is here" in made(checkout).stdout


def test_with_cudas_toolkit_transformer_engine_comes_too(checkout: Path) -> None:
    program(checkout, "nvcc")
    said = made(checkout, "TORCH=cuda", f"CUDA_HOME={checkout}/none").stdout
    assert installs(said)[2].endswith('--no-build-isolation --editable ".[dev,cuda]"')
    assert "without Transformer Engine" not in said
    assert "torch for cuda, as you say; TORCH=cpu takes the other" in said


def test_what_is_said_goes_before_what_is_found(checkout: Path) -> None:
    assert "torch for cpu, as you say" in made(checkout, "NVIDIA=/dev/nvidia0", "TORCH=cpu").stdout
    other = "TORCH_FROM=--extra-index-url https://download.pytorch.org/whl/cu126"
    said = made(checkout, "TORCH=cuda", other).stdout
    assert "--extra-index-url https://download.pytorch.org/whl/cu126 torch==2.13.0" in said


def test_another_build_is_refused(checkout: Path) -> None:
    refused = made(checkout, "TORCH=rocm")
    assert refused.returncode != 0
    assert "TORCH=rocm: cpu or cuda" in refused.stderr


def test_another_build_than_the_installed_one_is_not_taken_for_it(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".ready").write_text("cpu\n")
    assert made(checkout, "NVIDIA=/dev/nvidia0", dry=False).returncode == 0  # on a GPU's node
    assert made(checkout, "TORCH=cpu", dry=False).returncode == 0
    refused = made(checkout, "TORCH=cuda", dry=False)
    assert refused.returncode != 0
    assert "TORCH=cuda, but .venv has torch for cpu; nearest: make clean" in refused.stdout


@pytest.mark.parametrize(("cuda", "status"), [("13.0", 0), (None, 2)])
def test_a_torch_that_is_not_cudas_ends_it(checkout: Path, cuda: str | None, status: int) -> None:
    """With a pip that installs nothing, and a Python whose torch is built so."""
    tools = checkout / ".venv" / "bin"
    tools.mkdir(parents=True)
    (checkout / "torch.py").write_text(
        f"class version:\n    cuda = {cuda!r}\n\n__version__ = '2.13.0+cpu'\n"
    )
    for name, does in (
        ("pip", "exit 0"),
        ("python", f'PYTHONPATH={checkout} exec {sys.executable} "$@"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    made_it = made(checkout, "TORCH=cuda", "NVCC=", "PYTHON=:", dry=False)
    assert made_it.returncode == status, made_it.stderr
    if cuda:
        assert (checkout / ".venv" / ".ready").read_text() == "cuda\n"
        assert "phalanx: installed" in made_it.stdout
    else:
        assert "phalanx: pip took torch 2.13.0+cpu, which is not for CUDA" in made_it.stderr
        assert not (checkout / ".venv" / ".ready").exists()


PIN = re.compile(r"^([\w.-]+)==([\w.]+)$", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    found = PIN.findall((ROOT / name).read_text())
    return {re.sub(r"[-_.]+", "-", package.lower()): version for package, version in found}


def test_cudas_pins_add_to_the_others_and_change_none() -> None:
    text = (ROOT / "constraints-cuda.txt").read_text()
    assert "\n-c constraints.txt\n" in text
    assert not pins("constraints-cuda.txt").keys() & pins("constraints.txt").keys()


def test_what_is_asked_for_is_pinned_and_the_pins_satisfy_it() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["cuda"]]
    pinned = pins("constraints.txt") | pins("constraints-cuda.txt")
    for requirement in map(Requirement, asked):
        name = re.sub(r"[-_.]+", "-", requirement.name.lower())
        assert requirement.specifier.contains(pinned[name]), requirement
    assert f"torch=={pinned['torch']} " in (ROOT / "Makefile").read_text()
    # Transformer Engine refuses parts of another version.
    engine = {version for name, version in pinned.items() if name.startswith("transformer-engine")}
    assert len(engine) == 1
