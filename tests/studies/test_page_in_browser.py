"""The page in headless Chromium: it stands without a network, obeys the keyboard, and can be read by all."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.studies.pages import GPU, HOSTILE, QUICKSTART, run_of, written
from tlc_jax.studies.page.page_file import page_text
from tlc_jax.studies.page.page_server import PageServer
from tlc_jax.studies.page.page_sources import read_sources

pytestmark = [pytest.mark.browser, pytest.mark.slow]
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PAGES = ("gpu", "several", "hostile", "young", "point", "points")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of the page of a name, written when it is first asked for."""

    def sources(folder: Path) -> dict[str, Callable[[], list[Path]]]:
        return {
            "gpu": lambda: [GPU],
            "several": lambda: [QUICKSTART, run_of(folder / "a", [2.0, 1.9]), run_of(folder / "b", [1.0])],
            "hostile": lambda: [run_of(folder / HOSTILE.replace("/", "\u2215"), [2.0, 1.5], python=HOSTILE)],
            "young": lambda: [run_of(folder / "young", [])],
            "point": lambda: [run_of(folder / "point", [1.5])],
            "points": lambda: [run_of(folder / "long", list(np.linspace(3, 1, 100_000)), seconds=0.1)],
        }

    made = dict[str, Path]()

    def page(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            text, _ = written(folder, *sources(folder)[name]())
            made[name] = folder / "page.html"
            print(f"{name}: {len(text.encode()):,} bytes")
        return made[name]

    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        if CHROMIUM is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("there is no Chromium: install it, or run `playwright install chromium`")
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, pages: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page; in the end, nothing was logged, nothing failed, and no request has left the file."""
    troubles, contexts = list[str](), list[Any]()

    def open_page(name: str, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        url = pages(name).as_uri()
        page.on(
            "request", lambda request: request.url.partition("#")[0] == url or troubles.append(request.url)
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_pages_stand(name: str, width: int, opened: Callable[..., Any]) -> None:
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the screen"
    plots = page.locator(".live svg[aria-label]")
    assert plots.count() == {"gpu": 3, "several": 4, "young": 0}.get(name, 1)
    for plot in plots.all():
        box = plot.bounding_box()
        assert box["width"] <= width
        assert plot.locator("text", has_text=re.compile("(lower|higher) is better")).count() == 1
    if name == "points":
        assert "Of 100,000 evaluations" in page.inner_text("main")


def test_sliders_obey_the_keyboard(opened: Callable[..., Any]) -> None:
    page = opened("gpu")
    head, ring = page.locator(".answer .head"), page.locator("figure[data-plot=files] circle[r='8']")
    before, where = head.inner_text(), ring.bounding_box()
    sliders = page.locator("input[type=range]")
    page.keyboard.press("Tab")
    assert sliders.nth(0).evaluate("each => each === document.activeElement")
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    fewer = head.inner_text()
    assert before == "For 40 s of training and files of up to 7.89 MB, train 3x256 and keep it at 8 bits."
    assert fewer == "For 40 s of training and files of up to 3.84 MB, train 2x128 and keep it at 8 bits."
    assert sliders.nth(1).get_attribute("aria-valuetext") == "3.84 MB"
    assert ring.bounding_box() != where
    sliders.nth(0).press("Home")
    assert head.inner_text().startswith("For 5 s of training")
    assert "after 5 s" in page.locator("figure[data-plot=sizes] svg[aria-label]").first.get_attribute(
        "aria-label"
    )
    page.reload()
    assert head.inner_text().startswith("For 5 s of training"), "as before"


def test_every_choice_of_the_sliders_is_that_of_the_data(opened: Callable[..., Any]) -> None:
    page = opened("gpu")
    part = json.loads(page.locator("#data").text_content())["parts"][0]
    time, limit = page.locator("input[type=range]").all()
    for k, choices in enumerate(part["choices"]):
        time.fill(str(k))
        for n, stop in enumerate(part["limits"]):
            limit.fill(str(n))
            wanted = [each for each in choices if each["limit"] <= stop["value"]][-1]
            assert page.locator(".answer .head").text_content() == wanted["head"].replace(
                "{limit}", stop["label"]
            )


def test_curves_are_switched_by_the_keyboard(opened: Callable[..., Any]) -> None:
    page = opened("gpu")
    plot = page.locator("figure[data-plot=curves] .live svg").first
    assert "training time" in plot.text_content()
    page.locator("input[type=radio]:checked").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "document.querySelector('figure[data-plot=curves] .live').textContent.includes('operations')"
    )


def test_the_pointer_names_a_point_and_its_command(opened: Callable[..., Any]) -> None:
    page = opened("gpu")
    dot = page.locator("figure[data-plot=files] circle[r='8']")
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    line = page.locator("figure[data-plot=files] .point")
    said = line.inner_text()
    assert "3x256, 8 bits · 0.2091 nats per byte · 7.65 MB, after 40 s, 1 training" in said
    assert "python -m tlc_jax.study --config study_translation:gpu --workdir W --sizes 3x256 --bits 8" in said
    assert "3x256, 8 bits" in page.locator("figure[data-plot=files] g[data-mark=tip]").text_content()


def test_on_a_narrow_page_the_point_is_named_below_alone(opened: Callable[..., Any]) -> None:
    page = opened("gpu", 360)
    dot = page.locator("figure[data-plot=files] circle[r='8']")
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator("figure[data-plot=files] .point").inner_text().startswith("3x256, 8 bits")
    assert page.locator("g[data-mark=tip]").count() == 0


def test_tables_are_sorted_and_copied(opened: Callable[..., Any]) -> None:
    page = opened("gpu", permissions=["clipboard-read", "clipboard-write"])
    details = page.locator("figure[data-plot=files] details")
    details.locator("summary").click()
    details.get_by_role("button", name="bytes").click()
    column = details.locator("tbody tr td:nth-child(4)")
    numbers = [float(text) for text in column.all_text_contents()]
    assert len(numbers) == 96
    assert numbers == sorted(numbers)
    assert details.locator("th[aria-sort=ascending]").count() == 1
    details.get_by_role("button", name="time").click()
    times = details.locator("tbody tr td:nth-child(3)").all_text_contents()
    assert list(dict.fromkeys(times)) == ["5 s", "10 s", "20 s", "40 s"]
    details.get_by_role("button", name="bytes").click()
    details.get_by_role("button", name="Copy the table").click()
    details.get_by_text("Copied").wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(lines) == 97
    assert [float(line.split("\t")[3]) for line in lines[1:]] == numbers


@pytest.mark.parametrize(
    ("name", "scheme", "rules"),
    [("gpu", "light", {}), ("several", "light", {}), ("gpu", "dark", {"runOnly": ["color-contrast"]})],
)
def test_axe_has_nothing_serious_to_say(
    name: str, scheme: str, rules: dict[str, Any], opened: Callable[..., Any]
) -> None:
    page = opened(name, color_scheme=scheme, bypass_csp=True)  # axe is a script from outside
    for details in page.locator(".finding details").all():
        details.locator("summary").first.click()
    page.locator("figure details summary").last.click()
    axe = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js")
    page.evaluate(axe.read_text(encoding="utf-8"))
    result = page.evaluate("rules => axe.run(rules)", rules)
    serious = [
        (each["id"], each["impact"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"])
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert result["passes"]
    assert not serious


@pytest.mark.parametrize("how", ["print", "without scripts"])
def test_paper_and_readers_without_scripts_see_pictures(how: str, opened: Callable[..., Any]) -> None:
    page = opened("gpu", java_script_enabled=how == "print")
    if how == "print":
        page.emulate_media(media="print")
    pictures = page.locator(".replaced svg")
    assert pictures.count() >= 4
    assert all(picture.is_visible() for picture in pictures.all())
    assert not page.locator(".controls").is_visible()
    assert page.locator(".answer .head").inner_text().startswith("For 40 s of training")


def test_a_served_page_is_loaded_again_when_it_changes(browser: Any, pages: Callable[[str], Path]) -> None:
    folder = pages("point").parent / "point"

    def show(server: PageServer) -> None:
        made = page_text(read_sources([str(folder)]), pages("point"))
        server.show(made.served.encode(), made.version)

    server = PageServer(0)
    page = browser.new_page()
    try:
        show(server)
        page.goto(server.url)
        assert "point reaches 1.5 nats per byte" in page.inner_text("main")
        text = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(text.replace("1.5}", "1.25}"))
        show(server)
        page.get_by_text("point reaches 1.25 nats per byte").wait_for(timeout=10_000)
    finally:
        page.close()
        server.close()
