"""The main job runs on any number of devices, and a layout that was chosen stays."""

from __future__ import annotations

import pytest

from configs.errors import InputError
from configs.schema import DeviceName, Run
from launcher.command_line.compose import compose_run
from launcher.run import resolve as resolving
from launcher.run.resolve import ResolvedRun, resolve


@pytest.fixture
def on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "choose_device", lambda _asked: DeviceName.cuda)


def with_gpus(count: int, monkeypatch: pytest.MonkeyPatch, run: Run) -> ResolvedRun:
    monkeypatch.setattr(resolving, "cuda_devices", lambda: count)
    return resolve(run, {})


@pytest.mark.usefixtures("on_gpus")
@pytest.mark.parametrize(
    ("gpus", "layout"),
    [(1, "1x1"), (2, "2x1"), (3, "2x1"), (4, "2x2"), (5, "2x2"), (6, "2x2"), (8, "2x2x1x2")],
)
def test_the_default_layout_suits_the_gpus_and_says_so(
    gpus: int, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = with_gpus(gpus, monkeypatch, compose_run([]))
    assert str(plan.layout) == layout
    assert plan.run.layout.data == plan.layout.data  # what the ranks will read
    if gpus % 4:
        (line,) = plan.notes
        assert f"{layout}, fitted to {gpus} rank" in line
    else:
        assert plan.notes == ()


@pytest.mark.usefixtures("on_gpus")
@pytest.mark.parametrize(
    "chosen", ["layout=tp2_pp2", "layout.tensor=4", "layout.pipeline=4", "layout.data=2"]
)
def test_a_chosen_layout_is_refused_and_not_replaced(
    chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="nearest: "):
        with_gpus(1, monkeypatch, compose_run([chosen]))


@pytest.mark.usefixtures("on_gpus")
def test_other_settings_of_the_layout_do_not_choose_its_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = with_gpus(1, monkeypatch, compose_run(["layout.micro_batch=2"]))
    assert (str(plan.layout), plan.layout.micro_batch) == ("1x1", 2)


def test_on_a_cpu_it_has_its_four_ranks() -> None:
    plan = resolve(compose_run(["device=cpu"]), {})
    assert str(plan.layout) == "2x2"
    assert plan.notes == ()


@pytest.mark.parametrize(("gpus", "layout"), [(None, "2x2"), (1, "1x1"), (4, "2x2")])
def test_the_default_layout_suits_layers_with_experts(
    gpus: int | None, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compose_run(["model=moe_nano"])
    if gpus is None:
        plan = resolve(run, {})
    else:
        monkeypatch.setattr(resolving, "choose_device", lambda _asked: DeviceName.cuda)
        plan = with_gpus(gpus, monkeypatch, run)
    assert str(plan.layout) == layout
    assert plan.layout.sequence_parallel == (plan.layout.tensor > 1)
    says = "sequence parallel" if plan.layout.tensor > 1 else "fitted to 1 rank"
    assert any(says in line for line in plan.notes)
