"""Registration: the map from one scan to another scan of the same person.

Affine, by mutual information (Mattes) as in the paper's Sec. IV-A. The result is a matrix (4, 4)
from world coordinates of the reference to world coordinates of the moving scan, both RAS+ in mm.
Resampling uses this matrix, and the manifest records it.

The search tries several starts: the positions in the headers, and the shifts that match the
centres or the crowns of the heads (a neck in only one field of view moves the centre of the head).
The best of header positions, rigid map and affine map is kept. The result is then checked. Two
scans that do not fit are not a pair, and are not paired by their headers instead. Errors that a
single pair does not show are found by comparing the cohort: see `judgement.misfits`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.io.volume import Volume, same_grid
from syndiff.preparation.intensity import foreground_mask
from syndiff.preparation.mutual_information import Comparison, one_thread
from syndiff.preparation.resampling import (
    Matrix,
    centre_mm,
    field_of_view,
    median_move_mm,
    resample,
)

START_LEVELS, RIGID_LEVELS, AFFINE_LEVELS = (4,), (2, 1), (2, 1)  # shrink factors
SAME_START_MM = 5.0  # starts nearer than this converge to the same map
CROWN_MM = 100.0  # the crown is this uppermost part of a head, in view with or without the neck
CROWN_STEP_MM = 2.0  # the crown's centre needs no finer sampling
FEWEST_SLICES = 4  # along any axis; thinner scans cannot be registered
MARGIN = 0.005  # least gain of mutual information, in nats, that justifies interpolation
FAR_MM, STRETCH = 60.0, 0.25  # distance of the crowns and scaling beyond which the search failed
LEAST_OVERLAP = 0.7  # Dice coefficient of the two heads within both fields of view
MIRRORED = 1.1  # gain factor of mutual information from which a scan counts as mirrored
PROMISING = 0.85  # least factor on a coarse grid for a mirrored scan to be registered finely
AXES = ("left and right", "front and back", "top and bottom")
NOTEWORTHY_MM = 15.0  # displacement from which the user is told to look at the result


@dataclass(frozen=True)
class Alignment:
    """A scan on its reference's grid, and the result of its registration.

    Attributes:
        volume: the moving scan's values on the reference's grid.
        covered: (x, y, z) the voxels of the reference inside the moving scan's field of view.
        matrix: reference world → moving world, RAS+ in mm; the identity if the headers are used.
        method: "affine"; "header" if the positions in the headers were used; "same grid" if
            nothing was interpolated.
        before, after: mutual information in nats by the headers, and by `matrix`; None if it was
            not measured or cannot be measured.
        moved_mm: median displacement of the head between header positions and `matrix`.
        overlap: Dice coefficient of the two heads within both fields of view; None without a
            search.
        problem: the reason why the two scans are not a pair; empty if they are a pair.
        notes: sentences for the user.
    """

    volume: Volume
    covered: NDArray[np.bool_]
    matrix: Matrix
    method: str
    before: float | None = None
    after: float | None = None
    moved_mm: float = 0.0
    overlap: float | None = None
    problem: str = ""
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "method": self.method,
            "reference_to_scan_world_mm": [[round(float(v), 8) for v in r] for r in self.matrix],
            "mutual_information_before": _rounded(self.before),
            "mutual_information_after": _rounded(self.after),
            "moved_mm": round(self.moved_mm, 3),
            "head_overlap_dice": _rounded(self.overlap),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        matrix: reference world → moving world, RAS+ in mm; the identity if no map is better.
        before, after: mutual information in nats by the headers (None if the scans do not overlap
            there), and by `matrix`.
        mirrored: the directions that are exchanged in the moving scan; empty if it is not
            mirrored.
    """

    matrix: Matrix
    before: float | None
    after: float
    mirrored: str = ""


def align(
    reference: Volume,
    mask: NDArray[np.bool_],
    moving: Volume,
    fill: float,
    *,
    search: bool,
    moving_mask: NDArray[np.bool_] | None = None,
) -> Alignment:
    """Register a scan to a reference and resample it onto the reference's grid.

    Args:
        reference: the reference scan.
        mask: (x, y, z) the reference's head.
        moving: another scan of the same person.
        fill: value outside the moving scan's field of view.
        search: search for the best map; otherwise the positions in the headers are used.
        moving_mask: (x, y, z) the moving scan's head; segmented if not given.
    """
    if moving_mask is None:
        moving_mask = foreground_mask(moving.array)
    found, problem = Found(np.eye(4), None, float("nan")), ""
    if search:
        found, problem = _searched(reference, mask, moving, moving_mask)
    matrix = np.eye(4) if problem else found.matrix
    moved_mm = median_move_mm(matrix, reference, mask)
    covered = field_of_view(moving, reference, matrix)
    overlap = None
    if search and not problem:
        overlap = head_overlap(reference, mask, moving, moving_mask, matrix)
        problem = _misplaced(overlap, found)
    notes = () if problem or moved_mm <= NOTEWORTHY_MM else (_moved(moved_mm),)
    after = found.after if np.isfinite(found.after) else None
    if moved_mm == 0.0 and same_grid(reference, moving):
        volume, method = reference.like(moving.array), "same grid"
        covered = np.ones_like(covered)
    else:
        volume = reference.like(resample(moving, reference, matrix, fill))
        method = "affine" if moved_mm > 0.0 else "header"
    return Alignment(
        volume, covered, matrix, method, found.before, after, moved_mm, overlap, problem, notes
    )


def register(
    reference: Volume,
    mask: NDArray[np.bool_],
    moving: Volume,
    moving_mask: NDArray[np.bool_],
) -> Found:
    """Search for the rigid or affine map with the greatest mutual information; deterministic.

    Args:
        reference: the fixed scan.
        mask: (x, y, z) the reference's head.
        moving: the moving scan.
        moving_mask: (x, y, z) the moving scan's head.

    Raises:
        RuntimeError: from ITK, for scans that do not overlap or have no gradient.
    """
    with one_thread() as sitk:
        pair = Comparison.of(sitk, reference, mask, moving)
        before = pair.worth(np.eye(4))
        start = _best_start(pair, moving_mask, before)
        rigid = pair.improve(start, "rigid", RIGID_LEVELS)
        affine = pair.improve(rigid, "affine", AFFINE_LEVELS)
        worths = [before, pair.worth(rigid), pair.worth(affine)]
        best = int(np.argmax(worths))  # the earlier, simpler one at a tie
        after = worths[best]
        mirrored = _mirrored(pair, rigid, max(worths[:2]))
    matrix = (np.eye(4), rigid, affine)[best]
    if after - before < MARGIN:
        matrix, after = np.eye(4), before
    return Found(matrix, before if np.isfinite(before) else None, after, mirrored)


def head_overlap(
    reference: Volume,
    mask: NDArray[np.bool_],
    moving: Volume,
    moving_mask: NDArray[np.bool_],
    matrix: Matrix,
) -> float:
    """Dice coefficient of the two heads within both fields of view; 0 if they do not overlap.

    Args:
        reference, moving: the scans.
        mask, moving_mask: (x, y, z) the head in each.
        matrix: reference world → moving world.
    """
    covered = field_of_view(moving, reference, matrix)
    heads = resample(moving.like(moving_mask), reference, matrix) > 0.5
    here = mask & covered
    both = int(here.sum() + heads.sum())
    return 2.0 * int((here & heads).sum()) / both if both else 0.0


def _searched(
    reference: Volume,
    mask: NDArray[np.bool_],
    moving: Volume,
    moving_mask: NDArray[np.bool_],
) -> tuple[Found, str]:
    """The result of a search, and the reason why it failed (empty if it succeeded)."""
    nothing = Found(np.eye(4), None, float("nan"))
    if min(*reference.array.shape, *moving.array.shape) < FEWEST_SLICES:
        thin = f"fewer than {FEWEST_SLICES} slices cannot be registered"
        return nothing, "" if same_grid(reference, moving) else thin
    try:
        found = register(reference, mask, moving, moving_mask)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1][:120]
        return nothing, f"registration failed ({reason})"
    if not np.isfinite(found.matrix).all():
        return nothing, "registration failed (no finite map)"
    stretch = np.abs(np.linalg.svd(found.matrix[:3, :3], compute_uv=False) - 1.0).max()
    if stretch > STRETCH:
        return found, f"registration stretched the scan by {stretch:.0%}"
    apart = _apart_mm(found.matrix, reference, mask, moving, moving_mask)
    if apart > FAR_MM:
        return found, f"registration left the heads {apart:.0f} mm apart"
    return found, ""


def _misplaced(overlap: float, found: Found) -> str:
    """The reason why two registered scans do not fit, as far as this pair shows it; else empty."""
    if overlap < LEAST_OVERLAP:
        return f"the two heads overlap only to a Dice of {overlap:.2f} after registration"
    if found.mirrored:
        return f"one of the two is mirrored against its header: {found.mirrored} are exchanged"
    return ""


def _moved(moved_mm: float) -> str:
    return (
        f"registration moved it by {moved_mm:.0f} mm (median over the head) from where its header "
        "places it: look at the result"
    )


def _apart_mm(
    matrix: Matrix,
    reference: Volume,
    mask: NDArray[np.bool_],
    moving: Volume,
    moving_mask: NDArray[np.bool_],
) -> float:
    """Distance in mm between the crowns of the two heads after mapping by `matrix`."""
    mapped = matrix @ np.append(_crown_mm(reference, mask), 1.0)
    return float(np.linalg.norm(mapped[:3] - _crown_mm(moving, moving_mask)))


def _best_start(pair: Comparison, moving_mask: NDArray[np.bool_], headers: float) -> Matrix:
    """The start that leads to the greatest mutual information on a coarse grid.

    Args:
        pair: the two scans.
        moving_mask: (x, y, z) the moving scan's head.
        headers: `Comparison.worth` of the positions in the headers.
    """
    centres = centre_mm(pair.moving, moving_mask) - centre_mm(pair.reference, pair.mask)
    crowns = _crown_mm(pair.moving, moving_mask) - _crown_mm(pair.reference, pair.mask)
    ranked = [(headers, np.zeros(3))]
    ranked += [(pair.worth(_shift(by)), by) for by in (centres, crowns)]
    ranked.sort(key=lambda start: -start[0])  # stable: headers first at a tie
    kept: list[NDArray[np.float64]] = []
    for worth, by in ranked:
        near = any(np.linalg.norm(by - other) < SAME_START_MM for other in kept)
        if np.isfinite(worth) and not near:
            kept.append(by)
    if not kept:
        raise RuntimeError("the two heads do not overlap")
    improved = [pair.improve(_shift(by), "rigid", START_LEVELS) for by in kept]
    return max((*improved, *map(_shift, kept)), key=pair.worth)


def _mirrored(pair: Comparison, rigid: Matrix, worth: float) -> str:
    """The directions that are exchanged in the moving scan; empty if it is not mirrored.

    The scan counts as mirrored if its mirror image has clearly more mutual information.

    Args:
        pair: the two scans.
        rigid: reference world → moving world, without mirroring.
        worth: the mutual information of `rigid`.
    """
    centre = np.append(centre_mm(pair.reference, pair.mask), 1.0)
    best, name = MIRRORED * worth, ""
    for axis, directions in enumerate(AXES):
        moving = pair.moving.like(np.flip(pair.moving.array, axis))
        flip = np.eye(4)
        flip[axis, axis], flip[axis, 3] = -1.0, moving.array.shape[axis] - 1
        world = moving.affine @ flip @ np.linalg.inv(moving.affine)
        # The head's centre stays where it is in the mirrored scan. The map of the scan as it is
        # may have turned it to fit somehow, so the search also starts without a turn.
        turned, upright = rigid.copy(), np.eye(4)
        for start in (turned, upright):
            start[:3, 3] += (world @ rigid @ centre - start @ centre)[:3]
        other = pair.with_moving(moving)
        try:
            tries = (other.improve(start, "rigid", START_LEVELS) for start in (turned, upright))
            coarse = max(tries, key=other.worth)
            if other.worth(coarse) < PROMISING * worth:
                continue
            found = other.worth(other.improve(coarse, "rigid", RIGID_LEVELS))
        except RuntimeError:
            continue
        if found > best:
            best, name = found, directions
    return name


def _crown_mm(volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(3,) the centre of gravity of the upper part of a head, in world coordinates."""
    steps = [max(1, round(CROWN_STEP_MM / spacing)) for spacing in volume.spacing_mm]
    thinned = mask[:: steps[0], :: steps[1], :: steps[2]]
    points = np.argwhere(thinned) * steps @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    upper = points[points[:, 2] > points[:, 2].max() - CROWN_MM]
    return np.asarray(upper.mean(axis=0))


def _shift(by: NDArray[np.float64]) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return matrix


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
