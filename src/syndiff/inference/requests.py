"""Apply a model to a volume or a file; the result stays in memory or is written to disk.

The command line, the translation of folders and Python callers all use `translate`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from syndiff import __version__
from syndiff.dicom.options import AS_STORED, DicomOptions
from syndiff.errors import OptionError
from syndiff.inference.archive import is_series_folder, save_series, translate_series
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.inference.spread import STATISTICS, beside
from syndiff.inference.translation import Translation, translate_volume
from syndiff.io.digest import sha256_of, sha256_of_scan
from syndiff.io.marks import sidecar
from syndiff.io.outputs import check_outputs, expected_image_bytes
from syndiff.io.pairs import write_pair
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.settings import accelerations
from syndiff.reporting import SILENT, Reporter
from syndiff.translators import (
    CONFIG,
    SHIPPED,
    WEIGHTS,
    Translator,
    load_translator,
    locate,
    only_for,
    other_direction,
    read_config,
)

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume


@dataclass(frozen=True)
class Model:
    """A translator folder in memory, ready to translate many volumes.

    Attributes:
        translator: the networks and their configuration.
        back: the translator of the other direction, if it lies beside the folder; else None.
        weights_sha256: SHA-256 of the folder's weights, in hexadecimal digits.
        config_sha256: the same of its configuration.
        only_for: the data that a shipped translator is limited to; empty if there is no limit.
    """

    translator: Translator
    back: Translator | None
    weights_sha256: str
    config_sha256: str
    only_for: str = ""

    @classmethod
    def read(cls, path: str | Path) -> Model:
        """Read a translator folder, or the shipped translator "demo".

        Raises:
            ModelError: `path` is not a translator folder, or the folder is damaged.
        """
        translator = load_translator(path)
        folder = locate(path)
        weights, config = sha256_of(folder / translator.weights), sha256_of(folder / CONFIG)
        back = other_direction(path, translator)
        return cls(translator, back, weights, config, only_for(path))

    def for_precision(self, precision: str) -> Model:
        """The same model in this precision; see `Translator.for_precision`."""
        back = self.back.for_precision(precision) if self.back else None
        return replace(self, translator=self.translator.for_precision(precision), back=back)

    def record(self) -> dict[str, Any]:
        """The model's entry in the side-car of an image, as plain values."""
        return {
            "name": self.translator.name,
            "method": self.translator.config.get("method"),
            "weights_sha256": self.weights_sha256,
            "config_sha256": self.config_sha256,
            "only_for": self.only_for or None,
            "training": self.translator.config.get("training", {}),
        }

    def __repr__(self) -> str:
        translator = self.translator
        return f"Model({translator.source or 'noise'} → {translator.target})"


def load_model(path: str | Path) -> Model:
    """Read a translator folder, or the shipped translator "demo", to translate many volumes.

    Raises:
        ModelError: `path` is not a translator folder, or the folder is damaged.
    """
    return Model.read(path)


def translate(
    model: str | Path | Model,
    source: str | Path | Volume,
    options: TranslationOptions = DEFAULTS,
    *,
    also: Mapping[str, str | Path | Volume] | None = None,
    dicom: DicomOptions = AS_STORED,
    lock: AbstractContextManager[Any] | None = None,
    report: Reporter = SILENT,
) -> Translation:
    """Translate a volume or an image file; the result is returned and not written.

    Args:
        model: translator folder, "demo", or a model in memory.
        source: volume or file of the source modality; of the first one, if there are several.
        options: how the volume is translated.
        also: modality → volume or file of the other source modalities, on the same grid.
        dicom: which series of a DICOM folder `source` means, and how it is read.
        lock: held while the network runs, so that only one of several threads runs it.
        report: receives phases, the number of finished slices, and warnings about the result.

    Returns:
        The translated volume on the grid of `source`, with the check of the anatomy, warnings
        and the record for the side-car.

    Raises:
        UserError: the model, a volume or an option cannot be used.
    """
    model = model if isinstance(model, Model) else Model.read(model)
    report.phase("reading")
    volume = _volume(source, dicom)
    others = {modality: _volume(scan) for modality, scan in (also or {}).items()}
    limit = f"this translator is only for {model.only_for}" if model.only_for else ""
    if limit:
        report.warn(limit)
    with lock or nullcontext():
        started = time.monotonic()
        made = translate_volume(
            model.translator, volume, options, also=others, back=model.back, report=report
        )
        seconds = round(time.monotonic() - started, 2)
    origin = {"translator": model.record(), "versions": versions(), "seconds": seconds}
    warnings = (*([limit] if limit else []), *made.warnings)
    record = {**made.record, **origin, "warnings": list(warnings)}
    return replace(made, warnings=warnings, record=record)


def translate_file(
    model: str | Path | Model,
    image: str | Path,
    output: str | Path,
    options: TranslationOptions = DEFAULTS,
    *,
    also: Mapping[str, str | Path] | None = None,
    dicom: DicomOptions = AS_STORED,
    record: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    lock: AbstractContextManager[Any] | None = None,
    report: Reporter = SILENT,
) -> Translation:
    """Translate an image file; write the result and its side-car JSON, each atomically.

    Args:
        model, options, dicom, lock, report: see `translate`.
        image: file of the (first) source modality, or a DICOM folder, see `io.formats.read`.
        output: the image to write (.nii.gz or .nii); for a DICOM source also a folder, for a
            derived series. The side-car lies beside it, with the suffix .json.
        also: modality → file of the other source modalities, on the same grid.
        record: further entries of the side-car (of NIfTI), plain values.
        overwrite: allow replacing an output or side-car that syndiff did not make.

    Returns:
        The translation that was written.

    Raises:
        OptionError: the output or its side-car exists, and syndiff did not make it.
        UserError: the model, the image or the output name cannot be used.
    """
    from syndiff.io.formats import check_output_name

    if is_series_folder(output, image):
        _refuse_samples(options)
        return translate_series(
            model, Path(image), Path(output), options,
            also=also, dicom=dicom, overwrite=overwrite, lock=lock, report=report,
        )  # fmt: skip
    check_output_name(output)
    inputs = [Path(file) for file in (image, *(also or {}).values())]
    # Not Path.resolve: it raises where links go in a circle, and the reader says so in a line.
    if os.path.realpath(output) in [os.path.realpath(file) for file in inputs]:
        raise OptionError(f"the output {output} is the input", "another name")
    side = os.path.realpath(sidecar(output))
    if side in [os.path.realpath(sidecar(file)) for file in inputs]:
        raise OptionError(
            f"{sidecar(output).name} would say of the input, too, that it is synthetic",
            "an output whose name differs in more than its ending",
        )
    check_outputs(
        files_of(output, options), overwrite=overwrite, expected_bytes=bytes_of(image, options)
    )
    hashes = [sha256_of_scan(file) for file in inputs]  # first: a later change is noticed
    made = translate(model, image, options, also=also, dicom=dicom, lock=lock, report=report)
    made = replace(made, record={**made.record, **(record or {}), "source_sha256": hashes})
    save(made, output, overwrite=overwrite)
    return made


def save(made: Translation, output: str | Path, *, overwrite: bool = False) -> None:
    """Write the image of a translation and its side-car JSON, which holds the image's hash.

    Args:
        made: the translation that `translate` returned.
        output: the image to write (.nii.gz or .nii), or a folder for the derived series of a
            DICOM source; the side-car gets the suffix .json.
        overwrite: allow replacing files that syndiff did not make.

    Raises:
        OptionError: `output` has another suffix, or a file exists that syndiff did not make.
        UserError: a file cannot be written.
    """
    from syndiff.io.formats import check_output_name, write

    if is_series_folder(output, made.volume):
        _refuse_samples(made.options)
        save_series(made, Path(output), overwrite=overwrite)
        return
    check_output_name(output)
    check_outputs(files_of(output, made.options), overwrite=overwrite)
    names = beside(output) if made.beside else {}
    for statistic, volume in made.beside.items():  # before the result, which says that all is done
        about = {"statistic": statistic, "of": Path(output).name, "anatomy": None}
        write_pair(names[statistic], partial(write, volume), {**made.record, **about})
    record = {**made.record, "beside": {s: file.name for s, file in names.items()}}
    write_pair(Path(output), partial(write, made.volume), record if names else made.record)


def files_of(output: str | Path, options: TranslationOptions) -> list[Path]:
    """Every file that a translation with these options writes."""
    images = [Path(output), *(beside(output).values() if options.samples else ())]
    return [file for image in images for file in (image, sidecar(image))]


def bytes_of(image: str | Path, options: TranslationOptions) -> int:
    """How large the images are that a translation with these options writes, about."""
    return expected_image_bytes(image) * (1 + len(STATISTICS) * bool(options.samples))


def _refuse_samples(options: TranslationOptions) -> None:
    if options.samples:
        raise OptionError(
            "`samples` with a derived DICOM series as output", "an output .nii.gz or .nii"
        )


def _volume(source: str | Path | Volume, dicom: DicomOptions = AS_STORED) -> Volume:
    from syndiff.io.formats import read

    return read(source, options=dicom) if isinstance(source, str | Path) else source


def versions() -> dict[str, str]:
    """Versions of the software that makes an image, for the side-car."""
    return {"syndiff": __version__, "torch": torch.__version__, "numpy": np.__version__}


def describe(model: str | Path) -> list[tuple[str, str]]:
    """The properties of a translator, as (name, value) lines for display.

    Raises:
        ModelError: `model` is not a translator folder, or the folder is damaged.
    """
    translator = load_translator(model)
    config = translator.config
    h, w = config["size"]
    training = config.get("training", {})
    target = IntensityScale.from_dict(config["intensity"][translator.target])
    top = float(target.restore(np.ones(1))[0])
    lines = [
        ("translates", f"{' and '.join(translator.sources) or 'noise'} → {translator.target}"),
        *([("only for", limit)] if (limit := only_for(model)) else []),
        ("method", f"{config.get('method')} ({config['kind']})"),
        ("parameters", f"{translator.parameter_count / 1e6:.2f} M"),
        ("noise", "yes: the seed changes the result" if translator.stochastic else "none"),
        ("trained at", f"{translator.spacing_mm:g} mm pixels, {h}×{w}; others are resampled"),
        *(
            (f"{m} scans", f"accelerated {a.words}: acquired so, or translated with --accelerate")
            for m, a in accelerations(config, translator.sources).items()
        ),
        ("axes", str(config.get("axes", ""))),
        ("output", f"0 to {top:.4g} {target.unit}" if target.unit != "HU" else "HU"),
        ("training", ", ".join(f"{k} {v}" for k, v in training.items())),
        ("written by", f"syndiff {config.get('syndiff_version')}"),
        ("weights SHA-256", sha256_of(locate(model) / translator.weights)),
    ]
    return lines + _card(config.get("card") or {})


def _card(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A model card as (name, value) lines."""
    lines = []
    for name, value in card.items():
        texts = value if isinstance(value, list) else [value]
        lines += [(name.replace("_", " ") if i == 0 else "", t) for i, t in enumerate(texts)]
    return lines


def shipped() -> list[tuple[str, str]]:
    """The translators that are part of the package: (name, description in one line)."""
    rows = []
    for name, folder in SHIPPED.items():
        config = read_config(folder)
        size_mb = (folder / WEIGHTS).stat().st_size / 1e6
        ends = f"{' and '.join(config['sources'])} → {config['target']}"
        rows.append((name, f"{ends}, {config['spacing_mm']:g} mm, {size_mb:.1f} MB"))
    return rows
