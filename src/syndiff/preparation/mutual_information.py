"""Mutual information between two scans (Mattes), and its maximisation, with SimpleITK.

Samples are taken only from the head. The step length of the gradient ascent is estimated in mm of
displacement. A fixed step of 2.0 would mean 2 mm for a shift, but a change of 2.0 for the entries
of a matrix; close to the optimum it displaced scans by up to 36 mm.

All matrices are (4, 4), reference world → moving world, RAS+ in mm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.io.volume import Volume, to_slices
from syndiff.preparation.resampling import Matrix, centre_mm, seen_share

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ (NIfTI, here) ↔ LPS+ (ITK)
BINS, SAMPLES, SEED = 32, 60_000, 1  # more samples cost time without measurable gain
MOST_SAMPLES = 0.5  # largest fraction of the voxels, for small scans
VOXEL_MM = 1.5  # finer voxels are averaged, because they cost time and add noise
SIGMA = 0.7  # smoothing in mm per unit of the shrink factor
# Up to this shrink factor, gradients are central differences at the samples: faster than ITK's
# Gaussian filter over the whole image, and the search ends at more mutual information. On coarser
# grids, where voxels are as large as structures, the filter finds the way more surely.
FINE = 2
HEAD_MARGIN_MM = 6.0  # samples come from the head and this much around it
LEAST_SEEN = 0.2  # least fraction of the reference's head that must be in both fields of view


@contextmanager
def one_thread() -> Iterator[Any]:
    """SimpleITK with one thread, so that results are reproducible.

    With several threads the order of sums varies, and with it the result.
    `method.SetNumberOfThreads(1)` is not enough: two runs differed by 2e-8.
    """
    import SimpleITK as sitk  # noqa: N813

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@dataclass(frozen=True)
class Comparison:
    """Two scans as SimpleITK holds them, ready to be compared at many maps.

    Attributes:
        sitk: the module, within `one_thread`.
        reference, mask: the fixed scan and its head (x, y, z).
        moving: the other scan.
    """

    sitk: Any
    reference: Volume
    mask: NDArray[np.bool_]
    moving: Volume
    fixed: Any
    floating: Any
    head: Any
    fraction: float

    @classmethod
    def of(
        cls, sitk: Any, reference: Volume, mask: NDArray[np.bool_], moving: Volume
    ) -> Comparison:
        """Bring two scans into SimpleITK's form."""
        fixed, floating = _to_image(reference, sitk), _to_image(moving, sitk)
        fraction = min(MOST_SAMPLES, SAMPLES / fixed.GetNumberOfPixels())
        head = _head_image(reference, mask, sitk)
        return cls(sitk, reference, mask, moving, fixed, floating, head, fraction)

    def with_moving(self, moving: Volume) -> Comparison:
        """The same reference, compared with another scan."""
        return replace(self, moving=moving, floating=_to_image(moving, self.sitk))

    def worth(self, matrix: Matrix) -> float:
        """Mutual information in nats over the head, times the fraction of the head in view.

        Without this factor, a map that leaves only a rim of the heads overlapping would win.

        Returns:
            The product; -inf if the scans do not overlap.
        """
        seen = seen_share(self.moving, self.reference, matrix, self.mask)
        if seen < LEAST_SEEN:
            return float("-inf")
        method = self._method((1,))
        method.SetInitialTransform(self._transform(matrix, "affine"), inPlace=False)
        try:
            return -seen * float(method.MetricEvaluate(self.fixed, self.floating))
        except RuntimeError:  # no overlap
            return float("-inf")

    def improve(self, matrix: Matrix, kind: str, levels: Sequence[int]) -> Matrix:
        """Maximise the mutual information, starting from a map.

        Args:
            matrix: the start; it must be rigid if `kind` is "rigid".
            kind: "rigid" or "affine".
            levels: shrink factors, coarse to fine.

        Raises:
            RuntimeError: from ITK, for scans that do not overlap or have no gradient.
        """
        transform = self._transform(matrix, kind)
        method = self._method(levels)
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(self.fixed, self.floating)
        return _matrix(transform)

    def _transform(self, matrix: Matrix, kind: str) -> Any:
        """An ITK transform of a map, that turns about the centre of the reference's head."""
        own = {"rigid": self.sitk.Euler3DTransform, "affine": lambda: self.sitk.AffineTransform(3)}
        transform = own[kind]()
        lps = LPS @ matrix @ LPS
        centre = LPS[:3, :3] @ centre_mm(self.reference, self.mask)
        transform.SetCenter([float(c) for c in centre])
        if kind == "rigid":
            transform.SetMatrix([float(v) for v in lps[:3, :3].ravel()], 1e-6)
        else:
            transform.SetMatrix([float(v) for v in lps[:3, :3].ravel()])
        shift = lps[:3, :3] @ centre + lps[:3, 3] - centre
        transform.SetTranslation([float(v) for v in shift])
        return transform

    def _method(self, levels: Sequence[int]) -> Any:
        """Mattes' mutual information on fixed random samples, maximised over pyramid levels."""
        method = self.sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(self.fraction, SEED)
        method.SetMetricFixedMask(self.head)
        method.SetInterpolator(self.sitk.sitkLinear)
        method.MetricUseFixedImageGradientFilterOff()  # this metric does not use it
        if max(levels) <= FINE:
            method.MetricUseMovingImageGradientFilterOff()
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0,
            minStep=1e-3,
            numberOfIterations=200,
            relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-8,
            estimateLearningRate=method.EachIteration,  # so that a step moves voxels by mm
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel(list(levels))
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
    """A SimpleITK image of a volume."""
    low, high = np.percentile(volume.array, [0.1, 99.9])  # outliers would widen the bins
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
