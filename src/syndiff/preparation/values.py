"""Interpretation of a scan's values, used by `prepare` and `translate`.

MR magnitude images are 0 in air and positive in tissue; CT is in Hounsfield units. Other values
are converted by the following rules, with a note to the user, or refused.

MR
    from -5 % of the brightest up   interpolation's ringing (and one voxel in a thousand below):
                                    set to 0, not noted
    one value far below the rest    padding or a mask (-32768): set to 0, noted
    lowest values in the air        z-scored, scaled to [-1, 1] or offset: shifted so that air is
                                    0, noted; the mean over the head is divided by later, so that
                                    the scale between the scan and its original does not matter
    other negative values           refused: the scan's zero is unknown
    Hounsfield units                refused: a CT
CT
    padding below -1024             raised to -1024, air
    exactly 0 around the head       a masked background: set to -1024, noted
    no air, or no negative values   refused, unless the user says that these are HU
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.errors import VolumeError
from syndiff.preparation.intensity import HU_WINDOW, Unit

Array = NDArray[np.float32]
RINGING = 0.05  # of the 99.9th percentile: how far below 0 an MR may reach
PADDED = 0.01  # share of the voxels that padding has at least
AIR_LEVEL = 0.15  # of the range of values: air at most this far above the lowest
PEDESTAL = 0.25  # of the tissue's median: air above it is doubted
AIR_HU, SOFT_HU = (-1100.0, -900.0), (-200.0, 200.0)
MOST_HU = 65535.0


@dataclass(frozen=True)
class Values:
    """A scan's values in the convention of its modality.

    Attributes:
        array: (x, y, z) float32; 0 in air for MR, HU for CT.
        notes: sentences on the conversions that were applied.
    """

    array: Array
    notes: tuple[str, ...] = ()


def understood(array: NDArray[np.float32], unit: Unit, *, certain: bool = False) -> Values:
    """Convert a scan's values to the convention of its modality.

    Args:
        array: (x, y, z) acquired values.
        unit: "HU" for CT, else "a.u.".
        certain: the user states that the values of a CT are HU although no air is in view.

    Raises:
        VolumeError: the values are of another kind, or their meaning is ambiguous.
    """
    return _hounsfield(array, certain) if unit == "HU" else _magnitude(array)


def refuse_other_kind(stated: str, unit: Unit) -> None:
    """Refuse a CT where an MR is asked for, and the other way round.

    Args:
        stated: "MR" or "CT" as the file's header says; empty if it says nothing.
        unit: "HU" for CT, else "a.u.".

    Raises:
        VolumeError: the header says another kind.
    """
    wanted = "CT" if unit == "HU" else "MR"
    if stated and stated != wanted:
        raise VolumeError(
            f"its header says that it is of modality {stated}", f"a scan of {wanted}"
        )


def looks_like_hounsfield(array: Array) -> bool:
    """Whether values are spread as HU: air near -1000, soft tissue around 0."""
    return (
        float(array.max()) <= MOST_HU
        and _share(array, AIR_HU) >= 0.05
        and _share(array, SOFT_HU) >= 0.03
    )


def field_doubts(array: Array, mask: NDArray[np.bool_], unit: Unit) -> list[str]:
    """Warnings that the head was probably not segmented correctly from the air around it.

    Args:
        array: (x, y, z) values as `understood` returns them.
        mask: (x, y, z) the segmented head.
        unit: "HU" for CT, else "a.u.".
    """
    doubts = []
    corners = _corners(mask)
    if corners.mean() > 0.5 and mask.mean() > 0.8:
        cause = (
            "air that is not dark, as in MP2RAGE's uniform images or over a pedestal: mask the "
            "air or subtract its level"
            if unit == "a.u."
            else "a background that is not air: set it to -1024"
        )
        doubts.append(f"the head seems to fill the whole field of view ({cause})")
    elif unit == "a.u." and mask.any() and (~mask).mean() > 0.02:
        air, tissue = float(np.median(array[~mask])), float(np.median(array[mask]))
        if air > PEDESTAL * tissue:
            doubts.append(
                f"its air lies at {air:.4g} where tissue lies at {tissue:.4g} (medians): subtract "
                "the air's level, or mask the air"
            )
    return doubts


def _magnitude(array: Array) -> Values:
    """MR values with air at 0."""
    low = float(array.min())
    if low >= 0:
        return Values(array)
    if looks_like_hounsfield(array):
        raise VolumeError(
            f"values from {low:g} to {array.max():g} look like Hounsfield units",
            "MR values, 0 in air",
            "call its modality CT (or CTA, NCCT, …); if it is an MR all the same, add 1024 to it",
        )
    array, notes = _without_padding(array)
    zero, top = (float(q) for q in np.percentile(array, [0.1, 99.9]))  # not of one odd voxel
    if zero >= -RINGING * top:
        return Values(np.maximum(array, np.float32(0)), notes)
    air = float(np.median(_sides(array)))
    if air - zero > AIR_LEVEL * (top - zero):
        raise VolumeError(
            f"values from {array.min():.4g} to {array.max():.4g} with {air:.4g} around the head, "
            "so that its zero is unknown",
            "MR values, 0 in air",
            "take the scan from before it was normalised, or set what lies around the head to "
            "its lowest value",
        )
    shifted = np.maximum(array - np.float32(zero), np.float32(0))
    note = (
        f"its values are negative ({array.min():.4g} to {array.max():.4g}; z-scored, scaled or "
        f"offset): {zero:.4g}, the level of air, is taken as 0"
    )
    return Values(shifted, (*notes, note))


def _without_padding(array: Array) -> tuple[Array, tuple[str, ...]]:
    """MR values with padding (one frequent value far below all others) replaced by 0."""
    low = float(array.min())
    padded = array == low
    rest = array[~padded]
    if padded.mean() < PADDED or not rest.size:
        return array, ()
    lowest, top = float(rest.min()), float(np.percentile(rest, 99.9))
    if lowest - low <= max(top - lowest, abs(lowest)):
        return array, ()
    filled = np.where(padded, np.float32(min(lowest, 0.0)), array)
    return filled, (f"{low:g} in {padded.mean():.0%} of its voxels is taken as background",)


def _hounsfield(array: Array, certain: bool) -> Values:
    """CT values with -1024 in air."""
    low, high = float(array.min()), float(array.max())
    if not certain and (low > -500 or high < 0 or high > MOST_HU):
        raise _no_hounsfield(array)
    notes: tuple[str, ...] = ()
    air = np.float32(HU_WINDOW[0])
    values = np.maximum(np.asarray(array, dtype=np.float32), air)
    outside = _zero_background(values)
    if outside is not None:
        values = np.where(outside, air, values)
        notes = (f"0 around the head ({outside.mean():.0%} of its voxels) is taken as air, -1024",)
    return Values(values, notes)


def _no_hounsfield(array: Array) -> VolumeError:
    """The error for CT values that are not in HU; the scale is never guessed."""
    low, high = float(array.min()), float(array.max())
    offset = (
        low >= -1
        and _share(array, (-1, 150)) >= 0.05  # air near 0
        and _share(array, (1024 + SOFT_HU[0], 1024 + SOFT_HU[1])) >= 0.03
    )
    if offset:
        remedy = "they look like HU + 1024: subtract 1024"
    elif low < 0:
        remedy = (
            "if these are HU without air in view, set a rim of the scan to -1024, or prepare it "
            "with `units` HU; a masked background belongs at -1024"
        )
    else:
        remedy = "convert them, or subtract 1024 if the file stores HU + 1024"
    return VolumeError(
        f"CT values from {low:g} to {high:g}",
        "Hounsfield units (air near -1000, water 0)",
        remedy,
    )


def _zero_background(values: Array) -> NDArray[np.bool_] | None:
    """Voxels of exactly 0 that surround a masked CT; None where there is no such mask."""
    zero = values == 0
    if _sides(zero).mean() < 0.5:
        return None
    labels, _ = ndimage.label(zero)
    touching = np.unique(_sides(labels))
    return np.isin(labels, touching[touching > 0])


def _share(array: Array, between: tuple[float, float]) -> float:
    return float(((array >= between[0]) & (array <= between[1])).mean())


def _sides(array: NDArray[Any]) -> NDArray[Any]:
    """The values on the four sides of the field of view: first and last x and y."""
    return np.concatenate(
        [array[0].ravel(), array[-1].ravel(), array[:, 0].ravel(), array[:, -1].ravel()]
    )


def _corners(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(4,) the fraction of each in-plane corner (a twentieth of each side) that a mask fills."""
    nx, ny = (max(1, n // 20) for n in mask.shape[:2])
    ends_x, ends_y = (slice(nx), slice(-nx, None)), (slice(ny), slice(-ny, None))
    return np.array([float(mask[x, y].mean()) for x in ends_x for y in ends_y])
