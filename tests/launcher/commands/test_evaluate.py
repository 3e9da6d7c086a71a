"""`phalanx evaluate` and `phalanx scaling` as a user sees them."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from configs import load as config_files
from configs.errors import InputError
from evals.evaluation import Result
from evals.scaling import compute_of
from evals.scoring import Score
from launcher.command_line.compose import compose_run
from launcher.commands.scaling import scaling
from launcher.inference.evaluate import Progress
from models.shape import ModelShape
from tests.cli import phalanx

ASKED = ("evaluate.limit=4", "evaluate.tasks=[two_digit_addition]", "evaluate.shots=[0]")


def test_scores_answers_and_what_was_seen_in_training(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    done = phalanx("evaluate", *ASKED, "evaluate.contamination=true", "layout=tp2", run_dir=run)
    assert done.status == 0, done.errors
    assert re.search(
        r"two_digit_addition: \d+\.\d ± \d+\.\d with 0 shown; 1 of 1 tasks\n", done.output
    )
    assert "scores in percent (BLEU of translations) ± their standard errors\n" in done.output
    assert "zero-shot" in done.output
    out = run / "evaluations" / "step_00000006"
    (row,) = json.loads((out / "results.json").read_text())
    assert (row["task"], row["asked"], row["shots"], row["count"]) == (
        *("two_digit_addition", "0", 0, 4),
    )
    questions = [json.loads(line) for line in (out / "two_digit_addition-0.jsonl").open()]
    assert [set(each) for each in questions] == [{"question", "right", "said", "score"}] * 4
    (study,) = json.loads((out / "contamination" / "report.json").read_text())
    assert (study["clean"], study["dirty"]) == (4, 0)
    again = phalanx("evaluate", *ASKED, f"evaluate.out={out}", run_dir=run)
    assert again.status == 2
    assert "is there already" in again.errors


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["evaluate.tasks=[sums]"], "evaluate.tasks=sums: is not defined; known: two_digit_add"),
        (["evaluate.tasks=sums"], "takes list of text or null (names of the defined tasks"),
        (["evaluate.tasks=sums"], "; nearest: evaluate.tasks=[sums]"),
        (["evaluate.shots=[many]"], "evaluate.shots=many: is neither a number"),
        (["task=reading"], "tasks.reading.path=null: needs a file"),
        (["task=riding"], "nearest: task=reading"),
        (["evaluate.limit=0"], "evaluate.limit=0: has to be at least 1"),
    ],
)
def test_what_cannot_be_asked(trained: Path, settings: list[str], says: str) -> None:
    done = phalanx("evaluate", *settings, run_dir=trained)
    assert done.status == 2
    assert says in done.errors


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_of_a_terminal_and_a_line_a_task_elsewhere() -> None:
    for said in (Terminal(), io.StringIO()):
        progress = Progress(said)
        progress.begin(tasks=2, scores=2)
        for shots in (0, 1):
            score = Score(value=12.34, error=5.6, count=4)
            result = Result(
                task="sums", asked=str(shots), shots=shots, score=score, questions=[], answers=[]
            )
            progress.on_result(result)
        progress.close()
        text = said.getvalue()
        assert "sums: 12.3 ± 5.6 with 0 shown, 12.3 ± 5.6 with 1 shown; 1 of 2 tasks" in text
        assert text.count("\n") == (0 if said.isatty() else 1)
        assert ("\r" in text) is said.isatty()


def finished_run(folder: Path, model: str, loss: float) -> None:
    """What a run of that model leaves that has come to its end with that loss."""
    run = compose_run([f"model={model}", "device=cpu", "layout=single"])
    folder.mkdir(parents=True)
    config_files.save(run, folder / "config.yaml")
    (folder / "DONE").write_text("2\n")
    tokens = run.model.recipe.tokens
    rows = [
        {"step": 1, "loss": 2 * loss, "tokens": tokens // 2},
        {"step": 1, "eval_loss": 2 * loss},
        {"step": 2, "loss": loss, "tokens": tokens},
        {"step": 2, "eval_loss": loss},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_power_law_is_found_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def law(model: str) -> float:
        config = compose_run([f"model={model}"]).model
        return 3 * float(compute_of(ModelShape.of(config), config.recipe.tokens)) ** -0.05

    runs = tmp_path / "runs"
    sizes = [f"scaling_{width}" for width in (32, 48, 64, 96)]
    for model in sizes[:2]:
        finished_run(runs / model, model, law(model))
    asked = ["model=scaling_128", f"scaling.runs={runs}"]
    with pytest.raises(InputError, match="3 finished runs or more beside model=scaling_128, there"):
        scaling(compose_run(asked), [])
    for model in sizes[2:]:
        finished_run(runs / model, model, law(model))
    done = phalanx("scaling", *asked)
    assert done.status == 0, done.errors
    assert "not trained yet" in done.output
    report = json.loads((runs / "scaling.json").read_text())
    assert report["laws"]["compute"]["exponent"] == pytest.approx(0.05)
    assert report["predicted"]["loss"] == pytest.approx(law("scaling_128"))
    assert (runs / "scaling.png").read_bytes().startswith(b"\x89PNG")
    finished_run(runs / "scaling_128", "scaling_128", 1.1 * law("scaling_128"))
    scaling(compose_run(asked), [])
    assert "measured, +10.00 %, outside it" in capsys.readouterr().out
    assert json.loads((runs / "scaling.json").read_text())["laws"] == report["laws"]


def test_a_folder_that_is_not_there_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys; from launcher.cli import _answered; "
        f"status = _answered(['evaluate', 'checkpoint={tmp_path / 'nowhere'}']); "
        "assert status == 2 and 'torch' not in sys.modules"
    )
    done = phalanx.python("-c", script)
    assert done.errors == f"phalanx: checkpoint={tmp_path / 'nowhere'}: there is no such folder\n"
    assert done.status == 0
