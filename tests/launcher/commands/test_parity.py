"""`phalanx parity`: two layouts and engines side by side, told apart where they differ."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from configs.errors import RunError
from configs.schema import Precision
from launcher.commands.parity import judge, split_arguments
from launcher.run.run_dir import RunFolder
from tests.cli import TINY, phalanx

ONE = [*TINY, "layout=single", "layout.micro_batch=2", "parity.steps=2"]


def test_against_is_taken_out_of_the_arguments() -> None:
    given = ["layout=tp2", "against=pp2", "train.seed=3", "against.engine=deepspeed", "--help"]
    assert split_arguments(given) == (
        ["layout=tp2", "train.seed=3", "--help"],
        ["layout=pp2", "engine=deepspeed"],
    )


def test_another_layout_under_the_other_engine_is_the_same_run(tmp_path: Path) -> None:
    against = ["against=tp2_pp2", "against.engine=deepspeed", "against.layout.micro_batch=4"]
    result = phalanx("parity", *ONE, *against, run_dir=tmp_path / "both")
    assert result.status == 0, result.errors
    assert "run: layout 1x1, 1 rank, micro-batch 2, ZeRO 0, engine megatron" in result.output
    assert "against: layout 2x2, 4 ranks, micro-batch 4, ZeRO 0, engine deepspeed" in result.output
    assert "no tensor differs; the largest difference: " in result.output
    again = phalanx("parity", *ONE, *against, run_dir=tmp_path / "both")
    assert (again.status, "holds runs already" in again.errors) == (2, True)


def test_different_runs_are_told_apart(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    done = phalanx("train", *ONE[:-1], "train.steps=6", "train.seed=5", run_dir=other)
    assert done.status == 0, done.errors
    # Only steps that both saved can be compared tensor by tensor: all, as parity runs them.
    for run in (trained, other):
        assert (run / "checkpoints" / "step_00000002").exists()
    report = io.StringIO()
    sides = []
    for name, source in (("run", trained), ("against", other)):
        folder = RunFolder(Path(shutil.copytree(source, tmp_path / name, symlinks=True)))
        lines = folder.metrics.read_text(encoding="utf-8").splitlines()
        # Steps 2, 4 and 6 have checkpoints.
        kept = [line for line in lines if any(f'"step": {step},' in line for step in (2, 4, 6))]
        folder.metrics.write_text("\n".join(kept) + "\n", encoding="utf-8")
        sides.append(folder)
    with pytest.raises(RunError, match=r"first the gradient .* of embedding\.word_embeddings"):
        judge(sides[0], sides[1], Precision.float32, Console(file=report, width=100))
    assert "first tensor that differs: gradient" in report.getvalue()
    assert " no " in report.getvalue()


@pytest.mark.parametrize(
    ("against", "says"),
    [
        ([], "there is nothing to compare with; nearest: against=tp2_pp2"),
        (["against=tp3"], "layout=tp3: there is no such file; nearest: layout=tp"),
        (["against.train.seed=3"], "against.train.seed=3: parity compares the same training"),
        (["against.layout.tensor=3"], "do not split 3 ways"),
    ],
    ids=["nothing", "unknown", "another training", "impossible"],
)
def test_what_cannot_be_compared_is_refused(against: list[str], says: str) -> None:
    result = phalanx("parity", *ONE, *against)
    assert result.status == 2, result.output
    assert says in result.errors
