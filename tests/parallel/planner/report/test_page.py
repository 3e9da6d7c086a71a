"""The page in a real browser: what it draws, what it says, and that it asks nobody for anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from configs.schema import DeviceName
from parallel.layout import Layout
from parallel.planner.communication.traffic import CollectiveKind, Group, Traffic
from parallel.planner.plan import Plan
from parallel.planner.report.as_json import answer, search_answer, trace_answer
from parallel.planner.report.page import PASSES, page
from parallel.planner.search import Found, search
from parallel.rules import check
from tests.runs import run_of

LARGE = (
    "model=gpt3_175b cluster=dgx_a100 cluster.nodes=32 precision=bf16 layout=gpt3_175b "
    "optimizer.ramp_start=32"
)
MANY = (
    "model=gpt3_175b cluster=dgx_a100 cluster.nodes=1536 precision=bf16 optimizer.ramp_tokens=0 "
    "train.global_batch=12288"
)
SEARCHED = "model=gpt3_1.3b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0"
NO_FIT = "model=gpt3_13b cluster=dgx_a100_40 precision=bf16 optimizer.ramp_tokens=0"
ODD = "</script><b>odd & \u2028"

Opened = Callable[..., AbstractContextManager[Any]]


@dataclass(frozen=True)
class Written:
    plan: Plan
    report: dict[str, Any]
    found: Found | None
    path: Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        message = "no Chromium on the PATH: apt-get install chromium"
        if os.environ.get("PHALANX_NEEDS_CHROMIUM"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, Chromium starts only without its sandbox.
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    folder = tmp_path_factory.mktemp("pages")

    def written(
        name: str,
        overrides: str,
        layout: Layout,
        *,
        searched: bool = False,
        traced: bool = False,
        other: Layout | None = None,
        **more: str,
    ) -> Written:
        run = run_of(overrides)
        ranks = layout.world_size
        check(run, layout, ranks=ranks, device=DeviceName.cuda)
        plan = Plan.of(run, layout, DeviceName.cuda)
        report = {**answer(plan), **more}
        found = None
        if other is not None:
            report["beside"] = answer(Plan.of(run, other, DeviceName.cuda))
        if traced:
            report["trace"] = [_trace(plan)]
        if searched:
            found = search(run, ranks, DeviceName.cuda, plan.machine, plan.calibration)
            report["search"] = search_answer(found, 10)
        path = folder / f"{name}.html"
        path.write_text(page(plan, report, found), encoding="utf-8")
        return Written(plan, report, found, path)

    replicas = Layout(data=8, zero=1, micro_batch=16)
    deep = Layout(tensor=8, pipeline=96, data=16, sequence_parallel=True, zero=1)
    return {
        "large": written("large", LARGE, Layout.resolve(run_of(LARGE).layout, 256)),
        "many": written("many", MANY, deep, other=replace(deep, pipeline=48, data=32)),
        "searched": written("searched", SEARCHED, replicas, searched=True, model=ODD),
        "no_fit": written("no_fit", NO_FIT, Layout(data=8, zero=1), traced=True),
    }


def _trace(plan: Plan) -> dict[str, Any]:
    """A made-up trace of rank 0 that agrees in the parameters only; a real one needs torch."""
    seen = Traffic(group=Group.world, kind=CollectiveKind.barrier, count=7, bytes=0)
    trace = SimpleNamespace(
        rank=0,
        stage=0,
        parameters=plan.parameters[0],
        operations=1,
        peak_bytes=2**30,
        at_peak={},
        traffic=[seen],
    )
    return trace_answer(cast(Any, trace))


@pytest.fixture(scope="module")
def opened(browser: Any) -> Opened:
    """Opens a page, and makes sure that it complains of nothing and loads nothing."""

    @contextmanager
    def tab_of(written: Written, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        complaints: list[str] = []
        requests: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(written.path.as_uri())
        yield tab
        tab.close()
        assert complaints == []
        assert [url for url in requests if not url.startswith("data:")] == [written.path.as_uri()]

    return tab_of


def rows(tab: Any, where: str) -> list[list[str]]:
    """A table's cells, also of one that is folded away."""
    return tab.locator(f"#{where} tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )


def test_every_figure_has_its_marks(opened: Opened, pages: dict[str, Written]) -> None:
    large = pages["large"]
    stages = large.report["memory_gib"]["stages"]
    with opened(large) as tab:
        assert tab.locator("#ranks .cell").count() == 256
        parts = sum(v > 0 for stage in stages for name, v in stage.items() if name != "total")
        assert tab.locator("#memory .bar").count() == parts
        assert tab.locator("#memory .limit").count() == 1
        passes = tab.locator("#passes")
        assert passes.get_attribute("data-passes") == str(16 * 48 * 3 * 2)
        assert passes.get_attribute("data-drawn") == str(16 * 48 * 3 * 2)
        assert [row[0] for row in rows(tab, "schedule-table")] == [str(n) for n in range(16)]
        assert tab.locator("#search-section").is_hidden()
        assert tab.locator("#trace-section").is_hidden()


def test_it_says_what_the_plan_says(opened: Opened, pages: dict[str, Written]) -> None:
    report = pages["large"].report
    with opened(pages["large"]) as tab:
        peak = report["memory_gib"]["peak"]
        assert tab.locator("#verdict").inner_text() == f"Fits: {peak:.4g} GiB of 80 GiB on stage 0"
        assert "cluster dgx_a100, engine megatron, bf16" in tab.locator("#subtitle").inner_text()
        assert "layout 8x16x3x2: tensor 8 " in tab.locator("#layout").inner_text()
        numbers = tab.locator("#numbers dd").all_inner_texts()
        plain = [float(text.strip("$ s%").replace(",", "")) for text in numbers]
        names = ["step_time_s", "tflops_per_gpu", "mfu", "bubble_fraction", "tokens_per_s"]
        names += ["days", "gpu_hours", "dollars"]
        for name, shown in zip(names, plain, strict=True):
            if name in ("mfu", "bubble_fraction"):  # in percent, to one digit after the point
                assert shown == pytest.approx(report[name] * 100, abs=0.051)
            else:
                assert shown == pytest.approx(report[name], rel=1e-3)
        assert report["calibration"]["basis"] in tab.locator("#basis").inner_text()
        for shown_stage, stage in zip(
            rows(tab, "memory-table"), report["memory_gib"]["stages"], strict=True
        ):
            assert float(shown_stage[-1]) == pytest.approx(stage["total"], rel=1e-3)
        assert "of all 800" in tab.locator("#schedule-note").inner_text()


def test_the_interval_is_drawn_where_it_lies(opened: Opened, pages: dict[str, Written]) -> None:
    within = pages["large"].report["step_time_interval_s"]
    with opened(pages["large"]) as tab:
        assert tab.locator("#beside-section").is_hidden()
        bar, *ends = tab.locator("#times .within").all()
        assert len(ends) == 2
        left, right = (float(bar.get_attribute(name)) for name in ("x1", "x2"))
        middle = float(tab.locator("#times .time").get_attribute("cx"))
        zero = left - (right - left) * within["low"] / (within["high"] - within["low"])
        drawn = (middle - zero) / (right - zero) * within["high"]
        assert drawn == pytest.approx(pages["large"].report["step_time_s"], rel=1e-3)
        assert f"the {within['nearest_runs']} nearest" in tab.locator("#time-note").inner_text()


def test_two_layouts_stand_side_by_side(opened: Opened, pages: dict[str, Written]) -> None:
    report = pages["many"].report
    with opened(pages["many"]) as tab:
        assert tab.locator("#times .time").count() == 2
        shown = {row[0]: row[1:] for row in rows(tab, "beside")}
        assert shown["layout"] == [report["layout_name"], report["beside"]["layout_name"]]
        for name, field in (("step, s", "step_time_s"), ("days", "days")):
            numbers = [float(text.replace(",", "")) for text in shown[name]]
            assert numbers == pytest.approx([report[field], report["beside"][field]], rel=1e-3)
        alike = tab.locator("#beside tr:not(.differs) td:first-child").all_inner_texts()
        assert "ZeRO" in alike
        assert "layout" not in alike


def test_the_traffic_of_every_stage_is_there(opened: Opened, pages: dict[str, Written]) -> None:
    collectives = pages["large"].report["collectives"]
    with opened(pages["large"]) as tab:
        shown = rows(tab, "traffic")
    # Those between the ends are alike.
    assert [row[0] for row in shown if row[0]] == ["0", "1-14", "15"]
    assert [(row[1], row[2], row[3], row[5], row[7]) for row in shown] == [
        (c["group"], c["kind"], c["link"], f"{c['count']:,}", f"{c['bytes']:,}")
        for c in collectives
        if c["stage"] in (0, 1, 15)
    ]


def test_a_rank_is_told_to_mouse_and_keyboard(opened: Opened, pages: dict[str, Written]) -> None:
    report = pages["large"].report
    with opened(pages["large"]) as tab:
        tip, cells = tab.locator("#tip"), tab.locator("#ranks .cell")
        assert tip.is_hidden()
        cells.nth(2 * 16 + 9).hover()
        assert tip.inner_text().splitlines() == [
            "rank 41: tensor 1, pipeline 2, data 1",
            "node 5, its rank 1",
            "layers 4-5, 36-37, 68-69",
            f"{report['parameters']['per_rank'][2]:,} parameters",
            f"{report['memory_gib']['stages'][2]['total']:.4g} GiB",
        ]
        cells.first.focus()
        tab.keyboard.press("ArrowRight")
        assert "rank 1: tensor 1, pipeline 0, data 0" in tip.inner_text()
        tab.keyboard.press("Escape")
        assert tip.is_hidden()
        tab.locator("#memory .bar").first.hover()
        assert tip.inner_text().startswith("stage 0, parameters: ")


def test_the_schedule_zooms_in_its_box(opened: Opened, pages: dict[str, Written]) -> None:
    with opened(pages["large"]) as tab:
        passes, box, tip = tab.locator("#passes"), tab.locator("#schedule"), tab.locator("#tip")
        # Beside the stages' names; what is idle is told too.
        passes.hover(position={"x": 64, "y": 24})
        assert tip.inner_text().startswith("stage 0: forward, micro-batch 0, chunk 0\n0 to 0.0")
        passes.hover(position={"x": 64, "y": 24 + 15 * 22})
        assert tip.inner_text().startswith("stage 15 is idle\n0 to ")
        assert tab.locator("#zoom-out").is_disabled()
        for _ in range(3):
            tab.locator("#zoom-in").click()
        whole, part = 16 * 48 * 3 * 2, int(passes.get_attribute("data-drawn"))
        assert 0 < part < whole / 4
        assert box.evaluate("box => box.scrollWidth > 5 * box.clientWidth")
        assert tab.evaluate("document.documentElement.scrollWidth") == 1280
        box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
        _wait_until(tab, f"document.getElementById('passes').dataset.drawn != {part}")
        passes.hover(position={"x": 1100, "y": 24})
        assert "stage 0: backward, micro-batch 4" in tip.inner_text()
        tab.locator("#zoom-all").click()
        assert passes.get_attribute("data-drawn") == str(whole)


def test_thousands_of_ranks_are_drawn_in_part(opened: Opened, pages: dict[str, Written]) -> None:
    with opened(pages["many"]) as tab:
        assert tab.locator("#ranks .cell").count() == 96 * 64
        assert "data ranks 0 to 7 of 16 are drawn" in tab.locator("#ranks-note").inner_text()
        played = sum(map(len, pages["many"].plan.played.events))
        assert PASSES / 2 < int(tab.locator("#passes").get_attribute("data-passes")) < played
        assert "s are drawn" in tab.locator("#schedule-note").inner_text()


def test_the_search_is_drawn_and_text_is_never_markup(
    opened: Opened, pages: dict[str, Written]
) -> None:
    searched = pages["searched"]
    found, report = searched.found, searched.report
    assert found is not None
    with opened(searched) as tab:
        assert (tab.locator("h1").text_content() or "").startswith(f"{ODD} on 8")
        assert tab.locator("b").count() == 0
        assert tab.locator("#front .front").count() == len(found.front)
        assert tab.locator("#front .candidate").count() == len(found.ranked) - 1
        assert tab.locator("#front .limit").count() == 1
        line = tab.locator("#front .frontline").get_attribute("points")
        assert len(line.split()) == len(found.front)
        tab.locator("#front .winner").hover()
        assert tab.locator("#tip").inner_text().startswith("the fastest that fits: 1x1x1x8")
        best = rows(tab, "best")
        assert [row[1] for row in best] == [str(c.layout) for c in found.ranked[:10]]
        assert float(best[0][-2]) == pytest.approx(report["search"]["best"][0]["step_time_s"], 1e-3)


def test_what_does_not_fit_and_what_a_trace_says(opened: Opened, pages: dict[str, Written]) -> None:
    with opened(pages["no_fit"]) as tab:
        # One stage is never idle, but for what floats leave over.
        assert "0.0 %" in tab.locator("#numbers dd").all_inner_texts()
        verdict = tab.locator("#verdict").inner_text()
        peak = pages["no_fit"].report["memory_gib"]["peak"]
        assert verdict.startswith(f"Does not fit: {peak:.4g} GiB of 40 GiB on stage 0")
        assert tab.locator("#memory text.over").count() == 1
        shown = {row[2]: row[3:] for row in rows(tab, "trace")}
        held = f"{pages['no_fit'].plan.parameters[0]:,}"
        assert shown["parameters"] == [held, held, "same"]
        assert shown["world barrier, count"] == ["0", "7", "only in the trace"]
        assert shown["data all_gather, count"][1:] == ["0", "only in the plan"]


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("large", "light"), ("large", "dark"), ("searched", "dark"), ("no_fit", "light")],
)
def test_it_fits_the_window_and_is_readable(
    opened: Opened, pages: dict[str, Written], name: str, scheme: str
) -> None:
    with opened(pages[name], 1280, scheme) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == 1280
        # Narrowed while it is open, the figures are drawn anew.
        tab.set_viewport_size({"width": 390, "height": 900})
        _wait_until(tab, "document.querySelector('#memory svg').clientWidth < 390")
        _wait_until(tab, "document.documentElement.scrollWidth == 390")
        back = _colour(tab, "body", "backgroundColor")
        assert (sum(back) < 200) == (scheme == "dark")
        for text in ("h1", "p", "#verdict", "dt", "th", "summary", "#memory text", ".limit-name"):
            own = "fill" if text.endswith(("text", "-name")) else "color"
            behind = _colour(tab, text, "backgroundColor") if text == "#verdict" else back
            assert _contrast(_colour(tab, text, own), behind) >= 4.5, text


def _wait_until(tab: Any, holds: str) -> None:
    """Playwright's own `wait_for_function` makes a function, which the page's policy forbids."""
    for _ in range(200):
        if tab.evaluate(holds):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"never came true: {holds}")


def _colour(tab: Any, what: str, style: str) -> list[int]:
    text = tab.locator(what).first.evaluate(f"element => getComputedStyle(element).{style}")
    return [int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")]


def _contrast(one: list[int], other: list[int]) -> float:
    """WCAG 2.1's contrast ratio; 4.5 is enough for text."""

    def luminance(colour: list[int]) -> float:
        parts = [c / 255 for c in colour]
        red, green, blue = (p / 12.92 if p <= 0.04 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
