"""Scores of image files from any software: two files, or two folders matched by name.

Both images must lie on one grid; their orientation in the file does not matter. CT is compared in
HU. MR has no unit: each image is divided by its own mean inside the mask, and 1 is then the 99.9th
percentile of the acquired one, as in preparation, unless the range of values is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import DataError, GeometryError, OptionError, UserError
from syndiff.evaluation import persons, profiles
from syndiff.evaluation.profiles import Profile
from syndiff.evaluation.results import add_hu, intensity_range, range_hu
from syndiff.evaluation.scoring import (
    Case,
    Evaluation,
    Mask,
    Slices,
    evaluate_predictions,
    summarise_model,
)
from syndiff.io.atomic import read_json
from syndiff.io.formats import READABLE, read, stem_of, suffix_of
from syndiff.io.outputs import check_outputs
from syndiff.io.volume import Volume, same_grid, to_slices
from syndiff.preparation.intensity import (
    PERCENTILE,
    IntensityScale,
    foreground_mask,
    foreground_mean,
    window_scale,
)
from syndiff.preparation.values import looks_like_hounsfield
from syndiff.reporting import SILENT, Reporter

NAME = "synthetic"  # of the one "model" in the evaluation
UNITS = ("auto", "HU", "a.u.")


@dataclass(frozen=True)
class Files:
    """The files of one subject: what was made, what was acquired, and its mask if there is one."""

    subject: str
    synthetic: Path
    acquired: Path
    mask: Path | None = None


@dataclass(frozen=True)
class Scored:
    """The result of `score`: the content of its file, and the scores with their pictures."""

    results: dict[str, Any]
    evaluation: Evaluation


def score(
    synthetic: Path,
    acquired: Path,
    *,
    mask: Path | None = None,
    profile: str = profiles.DEFAULT,
    unit: str = "auto",
    value_range: tuple[float, float] | None = None,
    report: Reporter = SILENT,
) -> Scored:
    """Score synthetic images against acquired ones.

    Args:
        synthetic, acquired: two files, or two folders whose files are matched by name, by
            `sub-…` in it, or by the folder of each.
        mask: a file or a folder of masks, matched in the same way: what is above 0 is compared.
            By default body or head are found in each acquired image.
        profile: name of the profile.
        unit: "HU", "a.u.", or "auto": HU if the first acquired image is spread like HU.
        value_range: (low, high), the values that become 0 and 1; for CT by default -1024 to 3000.
        report: receives the current subject.

    Raises:
        UserError: files cannot be read or matched, grids differ, or an option does not fit.
    """
    chosen = profiles.get_profile(profile)
    _check_options(unit, value_range)
    files = match(Path(synthetic), Path(acquired), Path(mask) if mask else None)
    first = read(files[0].acquired)
    found = _unit(first.array) if unit == "auto" else unit
    profiles.check_unit(chosen, found)
    if value_range is not None and chosen.unit == "HU":
        chosen = replace(chosen, low=value_range[0], high=value_range[1])
    scale = _scale(found, chosen, value_range)
    cases = [_case(one, scale, value_range) for one in files]
    evaluation = evaluate_predictions(
        cases,
        {NAME: lambda slices: slices},
        chosen,
        to_unit=scale.restore if chosen.unit == "HU" else None,
        beside=persons.beside(scale),
        report=report,
    )
    entry = summarise_model(evaluation, NAME)
    add_hu(entry, range_hu(scale, chosen))
    spacing = first.spacing_mm
    results = {
        "format": 1,
        "kind": "score",
        "unit": found,
        "profile": chosen.parameters(),
        "range": _range(scale, chosen, value_range),
        "mask": "given" if mask else "found in each acquired image",
        "subjects": evaluation.subjects,
        "spacing_mm": [round(value, 4) for value in spacing],
        "scores": entry,
        "warnings": _warnings(chosen, found, mask, evaluation),
        "provenance": {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in ("syndiff", "numpy", "scipy")},
        },
    }
    return Scored(results, evaluation)


def match(synthetic: Path, acquired: Path, mask: Path | None = None) -> list[Files]:
    """The files that belong together, sorted by subject.

    Raises:
        DataError: nothing matches, or an acquired image or a mask of a synthetic one is missing.
        OptionError: one of the two is a file and the other a folder.
    """
    for path in (synthetic, acquired, *([mask] if mask else [])):
        if not path.exists():
            raise DataError(f"no file or folder {path}")
    if synthetic.is_dir() != acquired.is_dir():
        raise OptionError(f"{synthetic} and {acquired}", "two files or two folders")
    if not synthetic.is_dir():
        return [Files(stem_of(acquired), synthetic, acquired, mask)]
    sides = [_images(folder) for folder in (synthetic, acquired)]
    masks = _images(mask) if mask is not None and mask.is_dir() else []
    for key in (_stem, _subject, _folder):
        made, real, held = (_by(key, side) for side in (*sides, masks))
        if made and real and made.keys() & real.keys() and not (masks and not held):
            return _joined(made, real, held or {}, mask)
    raise DataError(
        f"no file of {synthetic} has the name, the sub-… or the folder of one in {acquired}",
        "two folders whose files can be matched",
        "give both the same names",
    )


def _joined(
    made: Mapping[str, Path], real: Mapping[str, Path], masks: Mapping[str, Path],
    mask: Path | None,
) -> list[Files]:  # fmt: skip
    for what, held in (("acquired image", real), ("mask", masks)):
        missing = sorted(made.keys() - held.keys())
        if missing and held:
            raise DataError(f"no {what} for {missing[0]} ({len(missing)} in all)", "one for each")
    one = mask if mask is not None and not masks else None
    return [Files(name, made[name], real[name], masks.get(name, one)) for name in sorted(made)]


def _images(folder: Path) -> list[Path]:
    """The readable images below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and suffix_of(p) in READABLE)


def _by(key: Callable[[Path], str], files: Sequence[Path]) -> dict[str, Path] | None:
    """Key → file; None where two files have one key or one has none."""
    found = {key(path): path for path in files}
    return found if len(found) == len(files) and "" not in found else None


def _stem(path: Path) -> str:
    return stem_of(path)


def _subject(path: Path) -> str:
    """ "sub-01_ses-2" of the last `sub-…` and `ses-…` in a path; empty without one."""
    words = [re.findall(rf"{word}-[A-Za-z0-9]+", str(path)) for word in ("sub", "ses")]
    return "_".join(found[-1] for found in words if found) if words[0] else ""


def _folder(path: Path) -> str:
    return path.parent.name


def _unit(array: NDArray[np.float32]) -> str:
    return "HU" if looks_like_hounsfield(array) else "a.u."


def _scale(unit: str, profile: Profile, value_range: tuple[float, float] | None) -> IntensityScale:
    """The rule between the files' values and [0, 1]."""
    if unit == "HU":
        fixed = (profile.low, profile.high) if profile.unit == "HU" else value_range
        return window_scale(fixed) if fixed else window_scale()
    return IntensityScale("robust", "a.u.", 1.0, 1.0)


def _case(files: Files, scale: IntensityScale, value_range: tuple[float, float] | None) -> Case:
    """One subject, read when it is its turn: its "source" is the synthetic image."""
    kept: dict[str, Mask] = {}

    def load() -> tuple[Slices, Slices]:
        acquired, synthetic = read(files.acquired), read(files.synthetic)
        _check_grid(synthetic, acquired, files)
        inside = _mask(files, acquired, scale)
        kept["mask"] = to_slices(inside)
        made, real = (
            _normal(volume.array, inside, scale, value_range) for volume in (synthetic, acquired)
        )
        if scale.unit != "HU" and value_range is None:
            top = float(np.percentile(real[inside], PERCENTILE))
            made, real = made / top, real / top
        return to_slices(made), to_slices(real)

    depth = read(files.acquired).array.shape[2]
    return Case(files.subject, tuple(range(depth)), load, mask=lambda: kept["mask"])


def _normal(
    array: NDArray[np.float32], inside: Mask, scale: IntensityScale,
    value_range: tuple[float, float] | None,
) -> NDArray[np.float32]:  # fmt: skip
    """Values over the range, not clipped; MR without a range ÷ its mean inside the mask."""
    if scale.window is not None or value_range is not None:
        low, high = scale.window or value_range  # type: ignore[misc]
        return (array - np.float32(low)) / np.float32(high - low)
    return array / np.float32(foreground_mean(array, inside))


def _mask(files: Files, acquired: Volume, scale: IntensityScale) -> Mask:
    """The mask of one subject on the acquired image's grid, (x, y, z)."""
    if files.mask is None:
        unit: Literal["HU", "a.u."] = "HU" if scale.unit == "HU" else "a.u."
        found = foreground_mask(acquired.array, unit)
        what = f"no body or head found in {files.acquired}"
    else:
        volume = read(files.mask)
        if not same_grid(volume, acquired):
            raise GeometryError(
                f"the mask {files.mask} has another grid than {files.acquired}", "one grid"
            )
        found, what = volume.array > 0, f"the mask {files.mask} is empty"
    if not found.any():
        raise DataError(what, "a mask that holds tissue")
    return found


def _check_grid(synthetic: Volume, acquired: Volume, files: Files) -> None:
    if same_grid(synthetic, acquired):
        return
    shapes = " and ".join("x".join(map(str, v.array.shape)) for v in (synthetic, acquired))
    raise GeometryError(
        f"{files.synthetic} and {files.acquired} lie on different grids ({shapes} voxels)",
        "one grid: the same shape and the same place in the world",
        "resample one of them first; the scores would measure the grid otherwise",
    )


def _check_options(unit: str, value_range: tuple[float, float] | None) -> None:
    if unit not in UNITS:
        raise OptionError(f"the `unit` {unit!r}", f"one of {', '.join(UNITS)}")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise OptionError(f"the `value_range` {value_range}", "two values, the lower one first")


def _range(
    scale: IntensityScale, profile: Profile, value_range: tuple[float, float] | None
) -> dict[str, Any]:
    found = intensity_range(scale, profile)
    if scale.unit == "HU":
        return found
    if value_range is not None:
        low, high = value_range
        return found | {"values": [low, high], "words": f"{low:g} becomes 0 and {high:g} 1"}
    words = (
        f"each image ÷ its own mean inside the mask; 1 is the acquired image's {PERCENTILE:g}th "
        "percentile there"
    )
    return found | {"values": None, "words": f"{words}; {found['words']}"}


def _warnings(profile: Profile, unit: str, mask: Path | None, evaluation: Evaluation) -> list[str]:
    """What a reader of the scores must know."""
    found = []
    if unit == "HU" and profile.normalise != "none":
        found.append(
            f"the profile {profile.name} normalises each image by itself, which hides a wrong "
            "level of HU: use subject or synthrad2023 for CT"
        )
    if mask is not None and profile.mask == "none":
        found.append(f"the profile {profile.name} compares whole slices: the mask is not used")
    if len(evaluation.subjects) == 1:
        found.append("one subject: the scores say little about other people")
    return found


def check_files(paths: Sequence[Path], overwrite: bool) -> None:
    """Check that result files can be written; earlier ones of ours may be replaced.

    Raises:
        OptionError: a file exists that holds no scores.
    """
    check_outputs(paths, overwrite=overwrite, ours=_is_ours)


def _is_ours(path: Path) -> bool:
    if path.suffix == ".html":
        return "<title>Synthetic CT: commissioning report" in path.read_text(errors="replace")
    try:
        content = read_json(path, "scores")
    except UserError:
        return False
    return isinstance(content, dict) and content.get("kind") == "score"
