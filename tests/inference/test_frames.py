"""The result depends on the patient, not on the field of view; for every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from syndiff.inference import TranslationOptions, translate_volume
from syndiff.inference.acquired import Acquired
from syndiff.inference.frames import Axis, Frames
from syndiff.io import formats
from syndiff.io.volume import Volume
from syndiff.preparation.head import HEAD_MM, upper_part
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.measure import MeasureOptions, measured
from tests.helpers.methods import METHODS, translator_of

CPU = TranslationOptions(device="cpu", check=False)
SPACING = 5.0
SLICE_MM = 9.0  # a head of 20 slices is as high as an adult's


def scan(neck: int = 0) -> np.ndarray:
    """(x, y, z) a head of 20 × 24 × 20 voxels that fills its box; its neck below.

    Noise and marks everywhere; what is below the head is as bright as the head.
    """
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (20, 24, 20)], indexing="ij")
    rng = np.random.default_rng(0)
    tissue = np.where(x**2 + y**2 + (0.5 * z) ** 2 < 1.0, 500 + 60 * rng.random(x.shape), 0.0)
    tissue[(x - 0.2) ** 2 + y**2 + z**2 < 0.1] = 900
    below = np.zeros((20, 24, neck))
    below[7:13, 8:16] = 480 + 60 * rng.random((6, 8, neck))
    return np.concatenate([below, tissue], axis=2)


def in_air(head: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> Volume:
    """The head in a field of view with so many voxels of air on either side."""
    array = np.pad(head, list(zip(before, after, strict=True)))
    affine = np.diag([SPACING, SPACING, SLICE_MM, 1.0])
    affine[:3, 3] = -affine.diagonal()[:3] * before
    return Volume(array.astype(np.float32), affine)


def made(translator: object, head: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]):
    """The translated head, cut out of its field of view; the neck left out."""
    source = in_air(head, before, after)
    result = translate_volume(translator, source, CPU).volume  # type: ignore[arg-type]
    assert result.array.shape == source.array.shape
    np.testing.assert_array_equal(result.affine, source.affine)
    low = head.shape[2] - 20 + before[2]
    x, y, z = (
        slice(n, n + size) for n, size in zip((*before[:2], low), (20, 24, 20), strict=True)
    )
    return result.array[x, y, z]


@pytest.mark.parametrize("name", METHODS)
def test_the_field_of_view_does_not_matter(name: str) -> None:
    """Air beside, before, behind, above; odd sizes; a neck: less than 1 % inside the head."""
    translator = translator_of(name)  # frames of 32 pixels of 4 mm
    usual = made(translator, scan(), (4, 4, 2), (4, 4, 2))
    scale = np.abs(usual).mean()
    assert usual.std() > 0.02 * scale
    for head, before, after in (
        (scan(), (20, 4, 2), (4, 4, 2)),
        (scan(), (4, 33, 2), (17, 4, 9)),
        (scan(), (5, 4, 3), (4, 7, 2)),
        (scan(neck=9), (4, 4, 2), (4, 4, 2)),
    ):
        changed = made(translator, head, before, after)
        assert np.abs(changed - usual).mean() < 0.01 * scale


@pytest.mark.parametrize("frame_mm", [60.0, 250.0])
def test_training_and_translation_divide_by_the_same_mean(tmp_path: Path, frame_mm: float) -> None:
    """Over the same part of the head, whatever the frames' size and however bright a neck."""
    head = scan(neck=9)
    head[:, :, :9] *= 3
    volume = in_air(head, (4, 4, 2), (4, 4, 2))
    formats.write(volume, tmp_path / "T1.nii", "made by a test")
    options = MeasureOptions(("T1",), "robust", False, False, None)
    records = measured("a", "train", {"T1": Path("T1.nii")}, tmp_path, tmp_path / "w", options)
    scale = IntensityScale("robust", "a.u.", 2.0, 100.0)
    mean = Acquired.of("T1", volume, scale.to_dict(), frame_mm).mean
    assert records["T1"]["reference_mean"] == pytest.approx(mean, rel=1e-6)
    without = Acquired.of("T1", in_air(scan(), (4, 4, 2), (4, 4, 2)), scale.to_dict(), frame_mm)
    assert mean == pytest.approx(without.mean, rel=0.01)
    assert HEAD_MM == 20 * SLICE_MM  # or this test says nothing


def test_the_upper_part_ends_above_the_neck() -> None:
    mask = scan(neck=20) > 0
    x, y, z = upper_part(mask, (SPACING,) * 3, 70.0)
    assert (z.start, z.stop) == (40 - 14, 40)  # 70 mm from the top
    assert mask[x, y].sum() == mask.sum()


@pytest.mark.parametrize(
    ("head", "beyond", "frames", "pixels"),
    [(20, 10, 1, 32), (32, 16, 1, 32), (33, 17, 2, 56), (20, 17, 3, 80), (60, 30, 3, 80)],
)
def test_as_few_frames_as_cover_the_tissue(
    head: float, beyond: float, frames: int, pixels: int
) -> None:
    axis = Axis.around(head, beyond, 32)
    assert axis.count + 2 * axis.first == frames
    assert axis.pixels == pixels
    middle = pixels / 2
    wanted = axis.needed(middle - head / 2, middle + head / 2)
    assert len(wanted) == axis.count  # the head asks for no other frame
    assert len(axis.needed(middle - beyond, middle + beyond)) == frames


@pytest.mark.parametrize("native", [4.0, 3.1, 6.0])
def test_a_network_that_copies_returns_the_slices(native: float) -> None:
    """Through several overlapping frames, wherever the head lies and whatever does not fit."""
    y, x = np.mgrid[0:90, 0:120]
    tissue = np.zeros((2, 90, 120), bool)
    tissue[0] = (y - 30) ** 2 + (x - 50) ** 2 < 12**2
    tissue[1] = (abs(y - 40) < 35) & (abs(x - 60) < 50)  # shoulders, wider than a frame
    smooth = (0.5 + 0.3 * np.sin(x / 9) * np.cos(y / 11)).astype(np.float32) * tissue
    box = ((18, 42), (38, 62))
    frames = Frames.around(tissue, box, (native, native), 4.0, (32, 32))
    canvas = frames.forward(smooth.astype(np.float32))
    seen: list[tuple[int, ...]] = []

    def copy(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        seen.extend(int(n) for n in chosen)
        assert images.shape[1:] == (1, 32, 32)
        return images[:, 0]

    back = frames.translate(canvas[:, None], np.arange(2), copy)
    np.testing.assert_allclose(back, canvas, atol=1e-6)
    assert seen.count(0) == frames.axes[0].count * frames.axes[1].count  # the head's own
    assert seen.count(1) > seen.count(0)
    again = frames.inverse(back)
    inner = tissue & np.roll(tissue, 3, 1) & np.roll(tissue, -3, 1)
    inner &= np.roll(tissue, 3, 2) & np.roll(tissue, -3, 2)
    exact = native == 4.0
    np.testing.assert_allclose(again[inner], smooth[inner], atol=1e-6 if exact else 0.05)


def test_blending_is_smooth() -> None:
    """A step between what neighbouring frames make is spread over their whole overlap."""
    axis = Axis.around(40, 20, 32)
    weights: Callable[[], np.ndarray] = axis.weights
    overlap = axis.size - axis.stride
    both = weights()[-overlap:] + weights()[:overlap]
    np.testing.assert_allclose(both, 1, atol=1e-6)
    assert np.abs(np.diff(weights())).max() < 2 / overlap
