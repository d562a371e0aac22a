"""The page as a person sees it, in a headless Chromium: pictures, link, keys, and no requests."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from syndiff.view import exported, read_case, served, site

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))), None,
)  # fmt: skip
DRAWN_BY_CPU = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader"]  # fmt: skip
PATIENCE_MS = 120_000  # a busy machine draws slowly

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=DRAWN_BY_CPU)
        yield chromium
        chromium.close()


class Opened:
    """A page that is ready, what it asked for, and what went wrong in it."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1000, "height": 700}, **options})
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._hear)
        self.page.goto(url)
        self.page.wait_for_selector("body[data-ready]", timeout=PATIENCE_MS)
        assert self.page.evaluate("document.body.dataset.ready") == "yes", self.problems

    def _hear(self, message: Any) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.problems.append(message.text)

    @property
    def loaded(self) -> set[str]:
        """What was asked for besides what the page itself holds."""
        return {url for url in self.requests if not url.startswith(("data:", "blob:"))}

    def seen(self, role: str) -> np.ndarray:
        """(y, x) the grey values of an image's picture on the screen."""
        shot = self.page.locator(f"[data-role={role}] .picture").screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("L"), np.float32)

    def crosshairs(self) -> np.ndarray:
        """(images, 3) where each image's crosshair stands, in mm."""
        return np.array(
            self.page.evaluate(
                "syndiffView.panes.map(({nv}) =>"
                " Array.from(nv.frac2mm(nv.scene.crosshairPos, 0, true)).slice(0, 3))"
            )
        )


@pytest.fixture(scope="module")
def opened(browser: Any, scans: dict[str, Path], tmp_path_factory: Any) -> Opened:
    case = read_case(scans["source"], scans["synthetic"], scans["acquired"])
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(exported(case), encoding="utf-8")
    return Opened(browser, file.as_uri())


def test_exported_page_shows_every_image_and_loads_nothing(opened: Opened) -> None:
    for role in ("source", "synthetic", "acquired"):
        picture = opened.seen(role)
        assert (picture > 60).mean() > 0.02, f"nothing is drawn of {role}"
    assert opened.loaded == {opened.page.url}
    assert opened.problems == []
    assert opened.page.locator("#mark").is_visible()


def test_a_click_in_one_image_moves_all_crosshairs(opened: Opened) -> None:
    opened.page.keyboard.press("2")  # axial: the whole picture is one slice
    before = opened.crosshairs()
    box = opened.page.locator("[data-role=source] canvas").bounding_box()
    opened.page.mouse.click(box["x"] + box["width"] * 0.42, box["y"] + box["height"] * 0.45)
    opened.page.wait_for_function(
        "before => Math.abs(syndiffView.panes[0].nv.frac2mm("
        "syndiffView.panes[0].nv.scene.crosshairPos, 0, true)[0] - before) > 1",
        arg=float(before[0, 0]), timeout=PATIENCE_MS,
    )  # fmt: skip
    after = opened.crosshairs()
    assert after[0, 0] > before[0, 0], "the patient's right is on the left"
    assert np.abs(after - after[0]).max() < 0.1
    opened.page.keyboard.press("ArrowUp")  # to the middle of the next voxel
    after = opened.crosshairs()
    opened.page.keyboard.press("ArrowUp")
    moved = opened.crosshairs()
    assert moved[0, 1] - after[0, 1] == pytest.approx(2, abs=0.1)  # one voxel to the front
    assert np.abs(moved - moved[0]).max() < 0.1
    opened.page.keyboard.press("1")


def test_values_under_the_crosshair_are_those_of_the_files(opened: Opened) -> None:
    mm = opened.crosshairs()[0]
    said = opened.page.locator("#values dd").all_inner_texts()
    expected = [f + 2.5 * mm[0] for f in (200, 300, 280)]
    for text, value in zip(said, expected, strict=False):
        assert float(text.split()[0]) == pytest.approx(value, abs=2.5 * 2)  # within a voxel


def test_keys_change_comparison_map_and_windows(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("e")
    assert page.locator("#bar").is_visible()
    assert "% of the mean signal" in page.locator("#bar").inner_text()
    page.keyboard.press("m")
    page.keyboard.press("m")
    assert page.locator("#stage").get_attribute("data-mode") == "wipe"
    assert page.locator("#wipe-line").is_visible()
    line = page.locator("#wipe-line").bounding_box()["x"]
    page.keyboard.press("]")
    assert page.locator("#wipe-line").bounding_box()["x"] > line
    low = page.locator("[data-role=synthetic] input").nth(1).input_value()
    page.keyboard.press("w")
    assert page.locator("[data-role=synthetic] input").nth(1).input_value() != low
    assert page.locator("#mark").is_visible()
    page.keyboard.press("r")
    page.keyboard.press("e")
    assert page.locator("#stage").get_attribute("data-mode") == "side"
    assert opened.problems == []


def test_one_over_the_other_lies_on_one_place(opened: Opened) -> None:
    """Images of two grids are drawn in one frame: the head's edge is where it was."""
    opened.page.keyboard.press("2")
    edges = []
    for above in ("1", "2"):
        opened.page.keyboard.press("m")
        opened.page.select_option("#above", above)
        opened.page.evaluate("document.getElementById('mix-value').value = 100")
        opened.page.locator("#mix-value").dispatch_event("input")
        role = ("source", "synthetic", "acquired")[int(above)]
        columns = np.flatnonzero((opened.seen(role) > 60).mean(axis=0) > 0.05)
        edges.append((columns[0], columns[-1]))
        opened.page.keyboard.press("r")
        opened.page.keyboard.press("2")
    width = edges[0][1] - edges[0][0]
    assert np.abs(np.subtract(*edges)).max() < 0.1 * width


def test_served_page_asks_its_own_server_only(browser: Any, scans: dict[str, Path]) -> None:
    with served(site(read_case(scans["source"], scans["synthetic"]))) as where:
        phone = {"width": 390, "height": 800}
        opened = Opened(browser, where.url, viewport=phone, color_scheme="light")
        assert all(url.startswith(where.url) for url in opened.loaded)
        assert (opened.seen("source") > 60).mean() > 0.02
        assert (opened.seen("synthetic") > 60).mean() > 0.02
        assert opened.problems == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert opened.page.locator("#mark").is_visible()
        opened.page.close()
