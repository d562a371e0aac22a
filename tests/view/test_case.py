"""What is read for a page, and how it is told to the page."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from syndiff.errors import DataError, OptionError
from syndiff.io.volume import Volume
from syndiff.view import Case, exported, read_case, site
from syndiff.view.case import HU_WINDOWS, Image, error_map, windows
from syndiff.view.page import MARK, check_page, nifti_bytes, quantised
from tests.helpers.lopsided import AFFINE, SHAPE, head


def nifti_of(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def image(role: str, volume: Volume, unit: str = "a.u.") -> Image:
    return Image(role, role, role, volume, unit, (), role == "synthetic")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def case(scans: dict[str, Path]) -> Case:
    return read_case(scans["source"], scans["synthetic"], scans["acquired"])


def test_images_keep_their_roles_and_grids(case: Case) -> None:
    assert [i.role for i in case.images] == ["source", "synthetic", "acquired"]
    assert [i.synthetic for i in case.images] == [False, True, False]
    assert [o.key for o in case.overlays] == ["error"]
    np.testing.assert_allclose(case.images[2].volume.affine[:3, 3], AFFINE[:3, 3] + (3, -4, 5))


def test_an_image_alone_that_carries_the_mark_is_synthetic(scans: dict[str, Path]) -> None:
    (only,) = read_case(scans["synthetic"]).images
    assert only.synthetic
    assert only.role == "synthetic"


def test_error_of_ct_is_a_difference_in_hu() -> None:
    acquired = Volume(np.where(head(AFFINE, SHAPE, bright=200) > 0, 40.0, -1000.0), AFFINE)
    made = acquired.like(acquired.array + 12)
    found = error_map(image("synthetic", made, "HU"), image("acquired", acquired, "HU"))
    assert found.unit == "HU"
    inside = acquired.array > 0
    assert set(np.unique(found.volume.array)) == {0, 12}
    assert (found.volume.array[inside] == 12).mean() > 0.5  # smoothing takes corners away
    assert found.high == 12


def test_error_of_mr_knows_no_scale() -> None:
    volume = Volume(head(AFFINE, SHAPE, bright=200), AFFINE)
    made = image("synthetic", volume.like(volume.array * 3))
    assert np.abs(error_map(made, image("acquired", volume)).volume.array).max() < 1e-3


def test_error_follows_the_affine_to_another_grid() -> None:
    moved = AFFINE.copy()
    moved[:3, 3] += (2, 4, -3)  # one, two and one voxels: nothing lies between voxels
    here, there = (Volume(head(a, SHAPE, bright=200), a) for a in (AFFINE, moved))
    found = error_map(image("synthetic", here), image("acquired", there))
    assert np.abs(found.volume.array[4:-4, 4:-4, 4:-4]).max() < 1e-3
    assert "resampled" in found.note


def test_windows_of_ct_are_in_hu_and_of_mr_inside_the_values() -> None:
    ct = windows(np.zeros(SHAPE, np.float32), "HU")
    assert {w.name: (w.low, w.high) for w in ct} == HU_WINDOWS
    array = head(AFFINE, SHAPE, bright=200)
    for window in windows(array, "a.u."):
        assert array.min() <= window.low < window.high <= array.max()


def test_a_map_needs_a_synthetic_image(scans: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="synthetic"):
        read_case(scans["source"], trust=scans["source"])


def test_whole_numbers_are_exact_and_others_within_half_a_step() -> None:
    whole = np.array([[[-1024, 3071, 0.0]]], np.float32)
    assert quantised(whole)[1:] == (1.0, 0.0)
    np.testing.assert_array_equal(nifti_of(nifti_bytes(Volume(whole, AFFINE))).get_fdata(), whole)
    values = np.random.default_rng(0).normal(3e3, 400, SHAPE).astype(np.float32)
    found = nifti_of(nifti_bytes(Volume(values, AFFINE)))
    step = np.ptp(values) / 65_534
    assert np.abs(found.get_fdata() - values).max() <= 0.51 * step
    np.testing.assert_allclose(found.affine, AFFINE)


class Loads(HTMLParser):
    """What a page would fetch, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.policy, self.scripts = "", []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self._in_script = tag == "script" and "type" not in given

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


def test_exported_page_holds_all_and_may_load_nothing(case: Case) -> None:
    page = exported(case)
    found = Loads()
    found.feed(page)
    assert found.fetched == ["data:,"]
    assert "'unsafe-inline'" not in found.policy
    assert "default-src 'none'" in found.policy
    assert not re.search(r"https?:|\*", found.policy)
    for script in found.scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in found.policy
    assert len(found.scripts) == 2
    assert MARK in page
    assert not re.search(r"url\(|@import", site(case)["view.css"][1].decode())


def test_title_of_a_hostile_name_stays_text(case: Case) -> None:
    name = "</script><script>alert(1)</script>@volumes@<!--"
    hostile = Case(name, case.images, notes=(name,))
    page = exported(hostile)
    assert "<script>alert" not in page
    told = re.search(r'id="case">(.*?)</script>', page, re.DOTALL)
    assert told
    assert json.loads(told[1])["title"] == name


def test_page_replaces_only_pages(tmp_path: Path, case: Case) -> None:
    page, other = tmp_path / "page.html", tmp_path / "other.html"
    page.write_text(exported(case)[:200])
    other.write_text("<!doctype html><p>mine</p>")
    check_page(page, overwrite=False)
    check_page(other, overwrite=True)
    with pytest.raises(OptionError, match="did not make"):
        check_page(other, overwrite=False)
    with pytest.raises(OptionError, match="html"):
        check_page(tmp_path / "page.nii.gz", overwrite=True)
