"""A DICOM series in, a derived DICOM series out: back into the archive that it came from.

The translation is the one of `requests.translate`; only what is written differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syndiff import __version__
from syndiff.dicom.options import DicomOptions
from syndiff.errors import OptionError
from syndiff.inference.options import TranslationOptions
from syndiff.inference.translation import Translation
from syndiff.io.atomic import write_json
from syndiff.io.outputs import check_folder, check_outputs
from syndiff.reporting import Reporter

if TYPE_CHECKING:  # the modules with volumes and models are imported when they are needed
    from syndiff.dicom.datasets import Derivation
    from syndiff.inference.requests import Model
    from syndiff.io.volume import Volume

BYTES_PER_FILE = 4_000  # of the tags of one image


def is_series_folder(output: str | Path, source: str | Path | Volume) -> bool:
    """Whether an output name means a folder for a derived series: no image's name, DICOM in."""
    from syndiff.io.formats import format_at, format_of

    if format_of(output) is not None:
        return False
    if isinstance(source, str | Path):
        kind = format_at(source)
        return kind is not None and kind.name == "DICOM"
    return source.stored.called != "" and source.stored.header is not None


def series_sidecar(folder: Path) -> Path:
    """The side-car of a derived series, beside its folder: OUT → OUT.json."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.json")


def translate_series(
    model: str | Path | Model,
    image: Path,
    folder: Path,
    options: TranslationOptions,
    *,
    also: Mapping[str, str | Path] | None,
    dicom: DicomOptions,
    overwrite: bool,
    lock: AbstractContextManager[Any] | None,
    report: Reporter,
) -> Translation:
    """Translate a DICOM series; write the derived series, then the side-car JSON beside it.

    Args:
        model, options, also, dicom, lock, report: see `requests.translate`.
        image: the DICOM folder, .zip or file.
        folder: the folder to make; one that holds nothing but an earlier derived series of ours is
            replaced.
        overwrite: allow replacing a side-car that syndiff did not make.

    Raises:
        OptionError: the folder holds other files, or lies inside the source's folder.
        UserError: the model or the series cannot be used, or the folder cannot be written.
    """
    from syndiff.dicom.files import sources_of
    from syndiff.dicom.reading import read
    from syndiff.dicom.writing import source_series
    from syndiff.inference.requests import Model, translate

    here, there = folder.resolve(), image.resolve()
    if here == there or there in here.parents:
        raise OptionError(f"the output {folder} lies in the input {image}", "another folder")
    files = sources_of(image)
    size = sum(file.path.stat().st_size for file in files if not file.member)
    _check(folder, overwrite, size + BYTES_PER_FILE * len(files))
    model = model if isinstance(model, Model) else Model.read(model)
    report.phase("reading")
    volumes = {name: _read(path) for name, path in (also or {}).items()}
    source = read(image, dicom, report)
    source_series(source)
    made = translate(model, source, options, also=volumes, lock=lock, report=report)
    save_series(made, folder, also=list(volumes.values()), overwrite=overwrite, report=report)
    return made


def save_series(
    made: Translation,
    folder: Path,
    *,
    also: Sequence[Volume] = (),
    overwrite: bool = False,
    uid: Callable[[], str] | None = None,
    report: Reporter | None = None,
) -> None:
    """Write a translation of a DICOM series as a derived series with its side-car.

    Args:
        made: the translation.
        folder: the folder to make.
        also: the further sources, which the images reference if they are DICOM.
        overwrite: allow replacing a side-car that syndiff did not make.
        uid: makes the UIDs of the series and of its images; None: new ones.
        report: receives the number of files written.

    Raises:
        OptionError: the folder or the side-car holds something that syndiff did not make.
        UserError: the folder cannot be written.
    """
    from syndiff.dicom.writing import new_uid, write_series
    from syndiff.reporting import SILENT

    _check(folder, overwrite)
    write_series(
        made.volume, folder, _derivation(made), also,
        uid=uid or new_uid, report=report or SILENT,
    )  # fmt: skip
    write_json(series_sidecar(folder), dict(made.record))


def _check(folder: Path, overwrite: bool, expected_bytes: int = 0) -> None:
    from syndiff.dicom.writing import check_series_folder

    check_series_folder(folder)
    check_outputs((series_sidecar(folder),), overwrite=overwrite)
    check_folder(folder, expected_bytes)


def _read(path: str | Path) -> Volume:
    from syndiff.io.formats import read

    return read(path)


def _derivation(made: Translation) -> Derivation:
    from syndiff.dicom.datasets import Derivation

    record = made.record
    model = record.get("translator", {})
    return Derivation(
        source=str(record.get("source_modality")),
        target=str(record.get("modality")),
        unit=str(record.get("unit")),
        model=f"{model.get('name')} ({model.get('method')})",
        digest=str(model.get("weights_sha256")),
        version=__version__,
    )
