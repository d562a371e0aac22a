"""Registration: where a point of one scan lies in another scan of the same person.

Affine, by mutual information (Mattes) as in the paper's Sec. IV-A, with SimpleITK. The result is a
matrix (4, 4) from world coordinates of the reference to world coordinates of the moving scan, both
RAS+ in mm: what resampling needs, and what the manifest records.

Rigid first, then affine, on samples from the head alone, by gradient steps whose length is
estimated in mm. A fixed step of "2.0" is mm for a shift but 2.0 for the entries of a matrix: near
the goal it threw scans up to 36 mm off. Headers, rigid and affine then compete.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.io.volume import Volume, same_grid, to_slices

Matrix = NDArray[np.float64]  # (4, 4)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ (NIfTI, here) ↔ LPS+ (ITK)
BINS, SAMPLES, SEED = 32, 60_000, 1  # more samples cost time and gain nothing measurable
MOST_SAMPLES = 0.5  # of the voxels of small scans
RIGID_LEVELS, AFFINE_LEVELS = (4, 2, 1), (2, 1)  # shrink factors, coarse to fine
VOXEL_MM = 1.5  # finer voxels are averaged: they cost time and add noise
SIGMA = 0.7  # smoothing in mm per unit of the shrink factor
HEAD_MARGIN_MM = 6.0  # samples come from the head and this much around it
FEWEST_SLICES = 4  # along any axis: thinner scans hold too little to register
MARGIN = 0.005  # nats of mutual information: less is no reason to interpolate
FAR_MM, STRETCH = 100.0, 0.25  # beyond these a result is a failure, not an alignment
NOTEWORTHY_MM = 15.0  # a move that a person should look at


@dataclass(frozen=True)
class Alignment:
    """A scan on its reference's grid, and how it came there.

    Attributes:
        volume: the moving scan's values on the reference's grid.
        covered: (x, y, z) which voxels of the reference the moving scan has seen.
        matrix: reference world → moving world, RAS+ mm; the identity where headers are trusted.
        method: "affine"; "header" where the files' own positions were kept; "same grid" where
            nothing was interpolated.
        before, after: mutual information in nats by headers alone, and by `matrix`.
        moved_mm: median over the head of the distance between both.
        notes: what a person should know, in words.
    """

    volume: Volume
    covered: NDArray[np.bool_]
    matrix: Matrix
    method: str
    before: float | None = None
    after: float | None = None
    moved_mm: float = 0.0
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "method": self.method,
            "reference_to_scan_world_mm": [[round(float(v), 8) for v in r] for r in self.matrix],
            "mutual_information_before": None if self.before is None else round(self.before, 6),
            "mutual_information_after": None if self.after is None else round(self.after, 6),
            "moved_mm": round(self.moved_mm, 3),
            "notes": list(self.notes),
        }


def align(
    reference: Volume, mask: NDArray[np.bool_], moving: Volume, fill: float, *, search: bool
) -> Alignment:
    """Bring a scan onto the reference's grid.

    Args:
        reference: whose grid is taken.
        mask: (x, y, z) the reference's head.
        moving: another scan of the same person.
        fill: value outside the moving scan.
        search: register; otherwise only the positions that the files state are used.
    """
    matrix, before, after = np.eye(4), None, None
    notes: tuple[str, ...] = ()
    if search:
        matrix, before, after, notes = _accepted(reference, mask, moving)
    moved_mm = median_move_mm(matrix, reference, mask)
    if moved_mm > NOTEWORTHY_MM:
        notes = (*notes, f"moved by {moved_mm:.0f} mm (median over the head): look at the result")
    if moved_mm == 0.0 and same_grid(reference, moving):
        everywhere = np.ones(reference.array.shape, dtype=bool)
        volume = reference.like(moving.array)
        return Alignment(volume, everywhere, matrix, "same grid", before, after, 0.0, notes)
    volume = reference.like(resample(moving, reference, matrix, fill))
    covered = field_of_view(moving, reference, matrix)
    method = "affine" if moved_mm > 0.0 else "header"
    return Alignment(volume, covered, matrix, method, before, after, moved_mm, notes)


def register(
    reference: Volume, mask: NDArray[np.bool_], moving: Volume
) -> tuple[Matrix, float, float]:
    """The rigid or affine map of greatest mutual information; the same at every call.

    Args:
        reference: fixed scan.
        mask: (x, y, z) its head.
        moving: the other scan.

    Returns:
        (reference world → moving world in RAS+ mm, mutual information in nats by the headers, and
        by the map). The identity if no map is better than the headers.

    Raises:
        RuntimeError: from ITK, for scans that do not overlap or hold no gradient.
    """
    import SimpleITK as sitk  # noqa: N813

    with _one_thread(sitk):
        return _search(reference, mask, moving, sitk)


def _search(
    reference: Volume, mask: NDArray[np.bool_], moving: Volume, sitk: Any
) -> tuple[Matrix, float, float]:
    """What `register` promises."""
    fixed, floating = _to_image(reference, sitk), _to_image(moving, sitk)
    head = _head_image(reference, mask, sitk)
    fraction = min(MOST_SAMPLES, SAMPLES / fixed.GetNumberOfPixels())

    def worth(transform: Any) -> float:
        method = _method((1,), head, fraction, sitk)
        method.SetInitialTransform(transform, inPlace=False)
        try:
            return -float(method.MetricEvaluate(fixed, floating))
        except RuntimeError:  # no overlap
            return float("-inf")

    def improve(transform: Any, levels: tuple[int, ...]) -> Any:
        method = _method(levels, head, fraction, sitk)
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(fixed, floating)
        return transform

    moments = sitk.Euler3DTransform(
        sitk.CenteredTransformInitializer(
            fixed,
            floating,
            sitk.Euler3DTransform(),
            sitk.CenteredTransformInitializerFilter.MOMENTS,
        )
    )
    headers = sitk.Euler3DTransform()
    headers.SetCenter(moments.GetCenter())
    # Moments are far off where one scan shows more neck than the other: the better start wins.
    before = worth(headers)
    start = moments if worth(moments) > before else headers
    rigid = improve(sitk.Euler3DTransform(start), RIGID_LEVELS)
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    improve(affine, AFFINE_LEVELS)
    best = max((headers, rigid, affine), key=worth)  # the earlier, simpler one at a tie
    return _matrix(best), before, worth(best)


def resample(
    moving: Volume, reference: Volume, matrix: Matrix, fill: float = 0.0
) -> NDArray[np.float32]:
    """The moving scan on the reference's grid, by linear interpolation.

    Where the reference's voxels are coarser, the moving scan is smoothed first, so that detail
    which they cannot hold does not alias.

    Returns:
        The reference's (x, y, z) float32; `fill` outside the moving scan's field of view.
    """
    to_moving = _voxel_map(moving, reference, matrix)
    steps = np.sqrt((to_moving[:3, :3] ** 2).sum(axis=1))  # moving voxels per reference voxel
    sigma = 0.5 * np.sqrt(np.maximum(steps**2 - 1.0, 0.0))
    values = moving.array
    if sigma.max() > 0.25:
        sigma = np.where(sigma > 0.25, sigma, 0.0)
        values = ndimage.gaussian_filter(values, sigma, mode="nearest")
    padded = np.pad(values, 1, mode="edge")  # outer half voxels are continued
    moved = ndimage.affine_transform(
        padded,
        to_moving[:3, :3],
        to_moving[:3, 3] + 1.0,
        reference.array.shape,
        np.float32,
        order=1,
        mode="nearest",
    )
    return np.where(field_of_view(moving, reference, matrix), moved, np.float32(fill))


def field_of_view(moving: Volume, reference: Volume, matrix: Matrix) -> NDArray[np.bool_]:
    """Which voxels (x, y, z) of the reference lie inside the moving scan."""
    to_moving = _voxel_map(moving, reference, matrix)
    x, y, z = np.ogrid[tuple(slice(n) for n in reference.array.shape)]
    inside = np.ones(reference.array.shape, dtype=bool)
    for row, length in zip(to_moving, moving.array.shape, strict=False):
        index = row[0] * x + row[1] * y + row[2] * z + row[3]
        inside &= (index >= -0.5 - 1e-4) & (index <= length - 0.5 + 1e-4)
    return inside


def median_move_mm(matrix: Matrix, volume: Volume, mask: NDArray[np.bool_]) -> float:
    """Median distance over the mask between a point of the volume and where `matrix` maps it."""
    voxels = np.argwhere(mask)
    if not len(voxels):
        return 0.0
    points = np.c_[voxels, np.ones(len(voxels))] @ volume.affine.T
    shifts = points @ (matrix - np.eye(4)).T
    return float(np.median(np.linalg.norm(shifts[:, :3], axis=1)))


def _accepted(
    reference: Volume, mask: NDArray[np.bool_], moving: Volume
) -> tuple[Matrix, float | None, float | None, tuple[str, ...]]:
    """The registration where it is one; else the identity, and why."""
    trusted = "the positions in the files' headers are used"
    if min(*reference.array.shape, *moving.array.shape) < FEWEST_SLICES:
        return np.eye(4), None, None, (f"fewer than {FEWEST_SLICES} slices; {trusted}",)
    try:
        matrix, before, after = register(reference, mask, moving)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1][:120]
        return np.eye(4), None, None, (f"registration failed ({reason}); {trusted}",)
    stretch = np.abs(np.linalg.svd(matrix[:3, :3], compute_uv=False) - 1.0).max()
    if not np.isfinite(matrix).all() or median_move_mm(matrix, reference, mask) > FAR_MM:
        return np.eye(4), before, None, (f"registration went astray; {trusted}",)
    if stretch > STRETCH:
        return np.eye(4), before, None, (f"registration stretched by {stretch:.0%}; {trusted}",)
    if after - before < MARGIN:
        return np.eye(4), before, after, ()
    return matrix, before, after, ()


@contextmanager
def _one_thread(sitk: Any) -> Iterator[None]:
    """ITK with one thread, then as before: sums in another order end in another matrix.

    `method.SetNumberOfThreads(1)` is not enough: two runs differed by 2e-8.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _method(levels: tuple[int, ...], head: Any, fraction: float, sitk: Any) -> Any:
    """Mattes' mutual information on fixed random samples, maximised over pyramid levels."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(fraction, SEED)
    method.SetMetricFixedMask(head)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0,
        minStep=1e-3,
        numberOfIterations=200,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
        estimateLearningRate=method.EachIteration,  # so that a step moves voxels by mm
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([SIGMA * level for level in levels])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    return method


def _head_image(reference: Volume, mask: NDArray[np.bool_], sitk: Any) -> Any:
    """A SimpleITK mask of the head and a margin of air, whose edge shows where the head ends."""
    steps = [2 * round(HEAD_MARGIN_MM / spacing) + 1 for spacing in reference.spacing_mm]
    wide = ndimage.maximum_filter(mask, steps)
    image = sitk.GetImageFromArray(np.ascontiguousarray(to_slices(wide), dtype=np.uint8))
    _place(image, reference)
    return image


def _to_image(volume: Volume, sitk: Any) -> Any:
    """A SimpleITK image of a volume; only checked arrays ever reach SimpleITK."""
    low, high = np.percentile(volume.array, [0.1, 99.9])  # hot voxels must not eat the bins
    array = to_slices(np.clip(volume.array, low, high))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32))
    _place(image, volume)
    factors = [max(1, round(VOXEL_MM / spacing)) for spacing in volume.spacing_mm]
    return sitk.BinShrink(image, factors)


def _place(image: Any, volume: Volume) -> None:
    """Give a SimpleITK image (LPS) the position of a volume (RAS+)."""
    affine = LPS @ volume.affine
    spacing = np.asarray(volume.spacing_mm)
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(o) for o in affine[:3, 3]])
    image.SetDirection([float(d) for d in (affine[:3, :3] / spacing).ravel()])


def _matrix(transform: Any) -> Matrix:
    """A linear ITK transform (LPS) as a matrix in RAS+."""
    origin = np.asarray(transform.TransformPoint((0.0, 0.0, 0.0)))
    ends = [np.asarray(transform.TransformPoint(tuple(axis))) for axis in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([end - origin for end in ends], axis=1)
    matrix[:3, 3] = origin
    return np.asarray(LPS @ matrix @ LPS)


def _voxel_map(moving: Volume, reference: Volume, matrix: Matrix) -> Matrix:
    """Voxel indices of the reference → voxel indices of the moving scan."""
    return np.asarray(np.linalg.inv(moving.affine) @ matrix @ reference.affine)
