"""In-plane grids: there and back again, and no pixel to the side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndiff.errors import GeometryError
from syndiff.preparation.geometry import SliceGrid

sides = st.integers(1, 40)
spacings = st.floats(0.4, 4.0)
shapes = st.tuples(sides, sides)


def blob(shape: tuple[int, int], centre: tuple[float, float], width_px: float) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return np.exp(-distance / (2 * width_px**2))[None].astype(np.float32)


def centroid(image: np.ndarray) -> tuple[float, float]:
    y, x = np.indices(image.shape)
    total = image.sum(dtype=np.float64)
    return float((y * image).sum() / total), float((x * image).sum() / total)


@given(shapes, spacings, st.tuples(st.integers(0, 12), st.integers(0, 12)))
def test_padding_is_undone_exactly(shape, spacing_mm, more) -> None:
    larger = (shape[0] + more[0], shape[1] + more[1])
    grid = SliceGrid(shape, (spacing_mm, spacing_mm), larger, spacing_mm)
    slices = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    there = grid.forward(slices)
    assert there.shape == (2, *larger)
    assert not grid.resamples
    np.testing.assert_array_equal(grid.inverse(there), slices)


@given(shapes, shapes, spacings, st.tuples(st.integers(-5, 5), st.integers(-5, 5)))
def test_cropping_loses_only_what_it_cuts(shape, size, spacing_mm, shift) -> None:
    grid = SliceGrid(shape, (spacing_mm, spacing_mm), size, spacing_mm, shift)
    slices = 1 + np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    back = grid.inverse(grid.forward(slices))
    kept = back != 0
    np.testing.assert_array_equal(back[kept], slices[kept])
    inside = [0 <= round(grid.training_index(0, y)) < size[0] for y in range(shape[0])]
    across = [0 <= round(grid.training_index(1, x)) < size[1] for x in range(shape[1])]
    np.testing.assert_array_equal(kept[0], np.outer(inside, across))


@given(
    st.tuples(st.integers(50, 81), st.integers(50, 81)),
    st.tuples(st.floats(0.8, 1.6), st.floats(0.8, 1.6)),
    st.floats(0.8, 1.6),
    st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
)
def test_resampling_keeps_the_place_both_ways(shape, native_mm, spacing_mm, move_mm) -> None:
    size = tuple(
        int(np.ceil(n * s / spacing_mm)) + k
        for n, s, k in zip(shape, native_mm, (2, 3), strict=True)
    )
    grid = SliceGrid(shape, native_mm, size, spacing_mm)
    centre = tuple((n - 1) / 2 + m / s for n, m, s in zip(shape, move_mm, native_mm, strict=True))
    y, x = np.ogrid[: shape[0], : shape[1]]
    radius2 = ((y - centre[0]) * native_mm[0]) ** 2 + ((x - centre[1]) * native_mm[1]) ** 2
    image = np.exp(-radius2 / (2 * 5.0**2))[None].astype(np.float32)  # 5 mm wide

    there = grid.forward(image)
    found = centroid(there[0])
    for axis in (0, 1):
        assert abs(found[axis] - grid.training_index(axis, centre[axis])) < 0.02
        assert grid.native_index(axis, grid.training_index(axis, 3.7)) == pytest.approx(3.7)
    back = grid.inverse(there)
    assert np.abs(np.subtract(centroid(back[0]), centroid(image[0]))).max() < 0.02
    assert np.abs(back - image).max() < 0.06


@given(shapes, shapes, st.tuples(spacings, spacings), spacings)
def test_values_stay_in_range(shape, size, native_mm, spacing_mm) -> None:
    grid = SliceGrid(shape, native_mm, size, spacing_mm)
    slices = np.random.default_rng(1).random((2, *shape), dtype=np.float32)
    there = grid.forward(slices)
    assert there.dtype == np.float32
    assert np.isfinite(there).all()
    assert there.min() >= 0
    assert there.max() <= slices.max() + 1e-6


def test_coarsening_does_not_alias() -> None:
    stripes = np.tile([0.0, 1.0], 32)[None, None].repeat(64, axis=1).astype(np.float32)  # 1 64 64
    grid = SliceGrid((64, 64), (1.0, 1.0), (16, 16), 3.3)
    inner = grid.forward(stripes)[0, 4:-4, 4:-4]
    assert np.abs(inner - 0.5).max() < 0.1
    assert grid.coarsens


def test_shift_moves_the_content() -> None:
    image = blob((21, 21), (10, 10), 2.0)
    grid = SliceGrid((21, 21), (1.0, 1.0), (31, 31), 1.0, shift=(4, -3))
    assert centroid(grid.forward(image)[0]) == pytest.approx((19, 12), abs=1e-3)
    np.testing.assert_array_equal(grid.inverse(grid.forward(image)), image)


def test_dictionary_round_trip() -> None:
    grid = SliceGrid((20, 30), (1.0, 2.0), (64, 64), 1.5, (1, 0))
    assert SliceGrid.from_dict(grid.to_dict()) == grid


def test_wrong_shapes_and_spacings_are_refused() -> None:
    with pytest.raises(GeometryError, match="positive"):
        SliceGrid((20, 30), (1.0, 0.0), (64, 64), 1.5)
    with pytest.raises(GeometryError, match=r"\(n, 20, 30\)"):
        SliceGrid((20, 30), (1.0, 1.0), (64, 64), 1.5).forward(np.zeros((2, 30, 20)))
