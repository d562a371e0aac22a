"""A digest of the data that a run was trained on; it changes with any value of the data."""

from __future__ import annotations

import hashlib
import json

from syndiff.io.digest import sha256_of
from syndiff.preparation.manifest import Manifest

BLOCK = 1 << 20  # bytes read at a time


def data_identity(manifest: Manifest, *others: Manifest) -> str:
    """The SHA-256 of everything that training uses of prepared data, in hexadecimal.

    It covers sizes, intensity rules, subjects, splits, grids, and every value of every slice. It
    does not depend on where the folder lies or when it was prepared.

    Raises:
        DataError: a slice file cannot be read.
    """
    content = {
        "size": manifest.size,
        "spacing_mm": manifest.spacing_mm,
        "intensity": {m: scale.to_dict() for m, scale in sorted(manifest.intensity.items())},
        "scans": sorted(
            [
                scan.split,
                scan.modality,
                scan.subject,
                scan.reference,
                list(scan.slice_indices),
                scan.foreground_mean,
                scan.grid.to_dict(),
                sha256_of(scan.slices_path),
            ]
            for scan in manifest.all_scans()
        ),
    }
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if not others:
        return found
    each = [found, *(data_identity(other) for other in others)]
    return hashlib.sha256(" ".join(each).encode()).hexdigest()
