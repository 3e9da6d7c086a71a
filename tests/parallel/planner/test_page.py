"""The page in a real browser: what it draws, what it says, and that it asks nobody for anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.schema import DeviceName
from parallel.layout import Layout
from parallel.planner.answer import answer, search_answer
from parallel.planner.page import page
from parallel.planner.plan import Plan
from parallel.planner.search import search
from tests.runs import run_of

SEARCHED = "model=gpt3_1.3b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0"
LARGE = (
    "model=gpt3_175b cluster=dgx_a100 cluster.nodes=64 precision=bf16 layout=gpt3_175b "
    "optimizer.ramp_tokens=0 train.global_batch=1536"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        message = "no Chromium here: apt-get install chromium"
        if os.environ.get("PHALANX_NEEDS_CHROMIUM"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """A large plan and a searched one: the file, and what it was made of."""
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    run = run_of(LARGE)
    plan = Plan.of(run, Layout.resolve(run.layout, 512), DeviceName.cuda)
    made["large"] = (plan, answer(plan))
    run = run_of(SEARCHED)
    plan = Plan.of(run, Layout(data=8, zero=1), DeviceName.cuda)
    found = search(run, 8, DeviceName.cuda, plan.machine, plan.calibration)
    told = {**answer(plan), "search": search_answer(found, 10), "model": "</script><b>odd"}
    made["searched"] = (plan, told)
    for name, (each, told) in made.items():
        (folder / f"{name}.html").write_text(page(each, told), encoding="utf-8")
    return {name: (folder / f"{name}.html", told) for name, (_, told) in made.items()}


def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> Any:
    """The page, having made sure that it complains of nothing and loads nothing."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(path.as_uri())
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    return tab


def test_every_figure_has_its_marks(browser: Any, pages: dict[str, Any]) -> None:
    path, told = pages["large"]
    tab = opened(browser, path)
    assert tab.locator("#ranks .cell").count() == 16 * 8
    stages = told["memory_gib"]["stages"]
    parts = sum(v > 0 for stage in stages for name, v in stage.items() if name != "total")
    assert tab.locator("#memory .bar").count() == parts
    assert tab.locator("#memory .limit").count() == 1
    assert tab.locator("#schedule .pass").count() == 16 * 48 * 3 * 2
    assert tab.locator("#traffic tbody tr").count() == sum(
        each["stage"] in (0, 8, 15) for each in told["collectives"]
    )
    assert tab.locator("#search-section").is_hidden()
    tab.close()


def test_it_says_what_the_plan_says(browser: Any, pages: dict[str, Any]) -> None:
    path, told = pages["large"]
    tab = opened(browser, path)
    peak = told["memory_gib"]["peak"]
    assert tab.locator("#verdict").inner_text() == f"Fits: {peak:.3g} of 80 GiB on stage 0"
    assert f"{told['step_time_s']:.3g} s" in tab.locator("#numbers").inner_text()
    assert told["calibration"]["basis"] in tab.locator("#basis").inner_text()
    tab.locator("#ranks .cell").first.hover()
    tip = tab.locator("#tip")
    assert tip.is_visible()
    assert "rank 0: tensor 0, pipeline 0, data 0" in tip.inner_text()
    assert f"{told['parameters']['per_rank'][0]:,} parameters" in tip.inner_text()
    tab.close()


def test_the_search_is_drawn_and_text_is_never_markup(browser: Any, pages: dict[str, Any]) -> None:
    path, told = pages["searched"]
    tab = opened(browser, path)
    assert tab.locator("h1").inner_text().startswith("</script><b>odd on 8")
    assert tab.locator("#front .front").count() == len(told["search"]["front"])
    assert tab.locator("#front .winner").count() == 1
    assert tab.locator("#best tbody tr").count() == 10
    tab.locator("#front .winner").hover()
    assert "the fastest that fits" in tab.locator("#tip").inner_text()
    tab.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (390, "dark")])
@pytest.mark.parametrize("name", ["large", "searched"])
def test_it_fits_the_window(
    browser: Any, pages: dict[str, Any], name: str, width: int, scheme: str
) -> None:
    tab = opened(browser, pages[name][0], width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(20, 24, 28)") == (scheme == "dark")
    tab.close()
