"""What a run shows at its end: only what can be predicted of its device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import DeviceName
from launcher.training.callbacks.prediction import PredictionCallback
from parallel.layout import Layout
from tests.launcher.training.callbacks.test_metrics import RECORD
from tests.pool import RankPool
from tests.runs import run_of


def lines_at_the_end(device: DeviceName, cluster: str, steps: int = 3) -> list[str]:
    """A job: of a start of so many steps."""
    prediction = PredictionCallback(
        run_of(f"cluster={cluster}"), Layout(micro_batch=1), device, 1, steps
    )
    for step in range(1, steps + 1):
        prediction.before_step(step)
        prediction.after_step(replace(RECORD, step=step))
    return prediction.lines()


@pytest.mark.parametrize(
    ("device", "cluster", "timed"),
    [(DeviceName.cpu, "local", False), (DeviceName.cuda, "dgx_a100", True)],
)
def test_a_steps_time_is_predicted_where_it_is_known(
    ranks: RankPool, device: DeviceName, cluster: str, timed: bool
) -> None:
    (lines,) = ranks.run(1, lines_at_the_end, device, cluster)
    assert any(line.startswith("step time, s") for line in lines) == timed
    for name in ("memory, GiB", "collectives a step", "their bytes"):
        (line,) = (line for line in lines if line.startswith(name))
        assert len(line) <= 60


def test_a_start_of_one_step_has_no_settled_traffic(ranks: RankPool) -> None:
    (lines,) = ranks.run(1, lines_at_the_end, DeviceName.cpu, "local", 1)
    assert [line.split(",")[0] for line in lines] == [
        *("predicted beside measured", lines[1], "memory"),
    ]
