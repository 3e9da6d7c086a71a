"""experts.jsonl has each due step once, and its picture is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from launcher.training.callbacks.callback import StepRecord
from launcher.training.callbacks.metrics import MetricsFile
from launcher.training.figures.experts import ExpertLoads
from models.training.router_state import Routing
from tests.launcher.training.callbacks.test_metrics import RECORD


def record_of(step: int, dropped: float = 0.0) -> StepRecord:
    routing = Routing(
        load=[[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25]],
        balance_loss=[1.2, 1.0],
        z_loss=[3.0, 5.0],
        entropy=[1.0, 1.2],
        dropped=[dropped, 0.0],
    )
    return replace(RECORD, step=step, tokens=128 * step, routing=routing)


def loads(folder: Path, after_step: int = 0) -> ExpertLoads:
    paths = folder / "experts.jsonl", folder / "experts.png"
    return ExpertLoads(*paths, "a $title", every=2, after_step=after_step)


def rows_of(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "experts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_due_steps_are_rows_and_steps_that_run_again_are_not_twice(tmp_path: Path) -> None:
    first = loads(tmp_path)
    for step in range(1, 8):
        first.after_step(record_of(step))
    assert [row["step"] for row in rows_of(tmp_path)] == [2, 4, 6]
    assert rows_of(tmp_path)[0]["load"] == record_of(1).routing.load  # type: ignore[union-attr]
    again = loads(tmp_path, after_step=4)
    again.after_step(record_of(6))
    assert [row["step"] for row in rows_of(tmp_path)] == [2, 4, 6]
    again.on_rollback(2)
    assert [row["step"] for row in rows_of(tmp_path)] == [2]


def test_the_picture_has_a_panel_more_where_tokens_were_dropped(tmp_path: Path) -> None:
    widths = []
    for dropped in (0.0, 0.1):
        callback = loads(tmp_path)
        callback.after_step(record_of(8, dropped))
        callback.at_end()
        with Image.open(tmp_path / "experts.png") as picture:
            assert len(set(picture.convert("RGB").getdata())) > 100
            widths.append(picture.width)
    assert widths[1] > widths[0]


def test_without_a_row_there_is_no_picture(tmp_path: Path) -> None:
    loads(tmp_path).at_end()
    assert not (tmp_path / "experts.png").exists()


def test_metrics_have_means_over_the_layers(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", after_step=0)
    metrics.after_step(record_of(1, dropped=0.5))
    metrics.at_end()
    [row] = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {key: row[key] for key in ("balance_loss", "router_z_loss", "router_entropy")}
    assert found == {"balance_loss": 1.1, "router_z_loss": 4.0, "router_entropy": 1.1}
    assert row["dropped"] == 0.25
    assert row["largest_load"] == 2.0
    assert "routing" not in row
