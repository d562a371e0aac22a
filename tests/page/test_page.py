"""What stands in a page is escaped, and its pictures need no other file."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.image import imread

from syndiff.page import html
from syndiff.page.html import filled
from syndiff.page.pictures import MIN_PIXELS, colour_uri, grey_png


class Folder:
    """In place of a package: one template."""

    def joinpath(self, name: str) -> Folder:
        return self

    def read_text(self, encoding: str) -> str:
        return "<p>{{ title }} {{ size | doubled }}</p>"


def test_values_are_escaped_and_none_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "files", lambda package: Folder())
    filters = {"doubled": lambda size: str(2 * size)}
    page = filled("syndiff.page", "page.html", filters, title="<script>", size=4)
    assert page == "<p>&lt;script&gt; 8</p>"
    with pytest.raises(UndefinedError):
        filled("syndiff.page", "page.html", filters, size=4)


def test_pictures_are_in_radiological_display_and_large_enough() -> None:
    image = np.zeros((8, 6))
    image[6:, :2] = 2.0  # anterior, at the patient's right: at the top left of the display
    for uri in (grey_png(image, 1.0), colour_uri(np.stack([image / 2] * 3, axis=2))):
        kind, _, content = uri.partition(",")
        assert kind == "data:image/png;base64"
        seen = imread(io.BytesIO(base64.b64decode(content)))[..., 0]
        assert min(seen.shape) >= MIN_PIXELS
        bright = np.argwhere(seen > 0.9).mean(axis=0) / seen.shape
        assert abs(bright[0] - 0.5) > 0.3  # in a corner
        assert abs(bright[1] - 0.5) > 0.3
        assert (seen > 0.5).mean() == pytest.approx(4 / 48, abs=0.05)
