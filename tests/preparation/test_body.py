"""The body in a CT: couches, sheets and head rests go, limbs stay."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from syndiff.phantom import make_pelvis
from syndiff.phantom.pelvis import Settings
from syndiff.phantom.pelvis_signal import INDEX
from syndiff.preparation.body import body_mask, stored_hu, without_couch

MM = (3.0, 3.0, 3.0)


def scene(*, couch: str = "", arm: bool = False, noise: float = 15.0) -> tuple[np.ndarray, ...]:
    """(HU, body) of an oval trunk of 240 × 160 mm, maybe with an arm, on a couch that touches."""
    x, y, _ = np.meshgrid(*(3.0 * (np.arange(n) - n / 2) for n in (110, 80, 16)), indexing="ij")
    body = (x / 120) ** 2 + (y / 80) ** 2 < 1
    if arm:
        body |= (x - 145) ** 2 + (y - 5) ** 2 < 18**2
    hu = np.where(body, 40.0, -1000.0)
    hu[(x / 40) ** 2 + ((y - 20) / 20) ** 2 < 1] = -850.0  # gas, which belongs to the body
    if couch == "flat":
        hu[(np.abs(y + 82) < 1.6) | (np.abs(y + 112) < 1.6)] = 120.0
    if couch == "curved":
        rest = np.abs(np.hypot(x, y - 318) - 400) < 1.6
        hu[rest & (y < -20)] = 150.0
    hu += np.random.default_rng(0).normal(0, noise, hu.shape)
    return hu.astype(np.float32), body


@pytest.mark.parametrize("couch", ["", "flat", "curved"])
@pytest.mark.parametrize("arm", [False, True])
def test_body_without_couch(couch: str, arm: bool) -> None:
    hu, body = scene(couch=couch, arm=arm)
    found = body_mask(hu, MM)
    dice = 2 * (found & body).sum() / (found.sum() + body.sum())
    assert dice > 0.985  # a voxel around an oval of 80 by 53 voxels is 2 %
    assert found[55, 47].all()  # gas inside
    out, words = without_couch(hu, MM)
    if not couch:
        assert out is hu
        assert not words
        return
    assert "couch" in words
    assert (out[~found] == -1024).all()
    np.testing.assert_array_equal(out[found], hu[found])


def test_a_pelvis_is_found_to_the_skin() -> None:
    person = make_pelvis(1, ("CT",), Settings(spacing_mm=4.0))
    found = body_mask(person.scans["CT"], (4.0, 4.0, 4.0))
    outside = [INDEX[n] for n in ("background", "couch_shell", "couch_foam")]
    body = ~np.isin(person.labels, outside)
    assert 2 * (found & body).sum() / (found.sum() + body.sum()) > 0.98
    left = without_couch(person.scans["CT"], (4.0, 4.0, 4.0))[0]
    assert (left[person.labels == INDEX["couch_foam"]] == -1024).mean() > 0.999


@pytest.mark.parametrize("fill", [-1000.0, -1024.0])
def test_without_a_body_nothing_is_removed(fill: float) -> None:
    empty = np.full((20, 20, 5), fill, np.float32)
    assert not body_mask(empty, MM).any()
    assert without_couch(empty, MM)[0] is empty


def test_pixel_sizes_do_not_matter() -> None:
    hu, _ = scene(couch="flat", noise=0.0)
    fine = np.repeat(np.repeat(hu, 3, axis=0), 3, axis=1)
    coarse_mask, fine_mask = body_mask(hu, MM), body_mask(fine, (1.0, 1.0, 3.0))
    repeated = np.repeat(np.repeat(coarse_mask, 3, axis=0), 3, axis=1)
    assert (repeated ^ fine_mask).sum() < 0.02 * fine_mask.sum()


def test_stored_hu_are_whole_and_air_outside() -> None:
    hu, body = scene()
    source = np.roll(body, 2, axis=0)  # the outlines differ a little
    made = stored_hu(hu, source, MM)
    assert not (made % 1).any()
    assert made.min() >= -1024
    away = ~(source | body_mask(hu, MM))
    assert (made[away] == -1024).all()
    assert np.abs(made - np.maximum(hu, -1024))[~away].max() <= 0.5


@pytest.mark.real_data
def test_the_couch_of_a_scan() -> None:
    from syndiff.io.formats import read

    scan = read(Path(os.environ["SYNDIFF_TEST_DATA"]) / "torso" / "ct.nii.gz")
    out, words = without_couch(scan.array, scan.spacing_mm)
    assert "couch" in words
    found = body_mask(scan.array, scan.spacing_mm)
    assert (out[:, :2] == -1024).all()  # the couch's rows
    assert 0.3 < found.mean() < 0.8
