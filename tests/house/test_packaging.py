"""The wheel: what is in it, that it runs by itself, and that nobody else owns its names."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.cli import ROOT

PACKAGES = {"configs", "corpus", "evals", "launcher", "models", "parallel", "slurm"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # Built from a copy: setuptools leaves a build folder beside what it builds.
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    pip += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(pip, check=True)
    return next(folder.glob("*.whl"))


def test_holds_the_packages_and_every_config(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == PACKAGES
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs <= names
    assert "slurm/job.sbatch.j2" in names


def test_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False, symlinks=True)
    site = next((environment / "lib").glob("python*/site-packages"))
    # The dependencies are those of this environment, which a .pth file does not follow further:
    # the editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    zipfile.ZipFile(wheel).extractall(site)
    empty = tmp_path / "empty"
    empty.mkdir()
    code = "import sys; sys.argv[0] = 'phalanx'; from launcher.cli import main; main()"
    command = [str(environment / "bin" / "python"), "-c", code]
    shown = subprocess.run(
        [*command, "train", "--cfg", "job"], cwd=empty, capture_output=True, text=True
    )
    assert "gpt3_nano" in shown.stdout, shown.stderr
    refused = subprocess.run(
        [*command, "train", "layout.tensor=3"], cwd=empty, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "layout.tensor=3" in refused.stderr


def test_no_other_distribution_owns_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["phalanx"])) == {"phalanx"}
