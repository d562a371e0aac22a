"""From a request to its result: a model and a volume → a translation, in memory or on disk.

The command line, folders and Python all go through `translate`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from syndiff import __version__
from syndiff.errors import OptionError
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.inference.translation import Translation, translate_volume
from syndiff.io.digest import sha256_of, sha256_of_scan
from syndiff.io.marks import sidecar
from syndiff.io.outputs import check_outputs, expected_image_bytes
from syndiff.io.pairs import write_pair
from syndiff.preparation.intensity import IntensityScale
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
    """A translator folder that has been read, for many volumes.

    Attributes:
        translator: the networks and their configuration.
        back: the other direction's translator, if it lies beside the folder.
        weights_sha256: of the folder's weights.
        config_sha256: of its configuration.
        only_for: what a shipped translator is for, in words; empty where nothing limits it.
    """

    translator: Translator
    back: Translator | None
    weights_sha256: str
    config_sha256: str
    only_for: str = ""

    @classmethod
    def read(cls, path: str | Path) -> Model:
        """Read a translator folder, or "demo" for the shipped one.

        Raises:
            ModelError: it is none, or damaged.
        """
        translator = load_translator(path)
        folder = locate(path)
        weights, config = sha256_of(folder / translator.weights), sha256_of(folder / CONFIG)
        back = other_direction(path, translator)
        return cls(translator, back, weights, config, only_for(path))

    def for_precision(self, precision: str) -> Model:
        """The same for many volumes in this precision; see `Translator.for_precision`."""
        back = self.back.for_precision(precision) if self.back else None
        return replace(self, translator=self.translator.for_precision(precision), back=back)

    def record(self) -> dict[str, Any]:
        """Where an image comes from, for its side-car."""
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
    """Read a translator folder, or "demo" for the shipped one, to translate many volumes.

    Raises:
        ModelError: it is none, or damaged.
    """
    return Model.read(path)


def translate(
    model: str | Path | Model,
    source: str | Path | Volume,
    options: TranslationOptions = DEFAULTS,
    *,
    also: Mapping[str, str | Path | Volume] | None = None,
    turn: AbstractContextManager[Any] | None = None,
    report: Reporter = SILENT,
) -> Translation:
    """Translate a volume, or a file that holds one; nothing is written.

    Args:
        model: translator folder, "demo", or a model that has been read.
        source: the source modality, a volume or its file; with several sources the first.
        options: how.
        also: the other sources by modality, on the same grid.
        turn: held while the network is at work, so that of several threads that translate only
            one does.
        report: told phases, how many slices are done, and in words what may spoil the result.

    Raises:
        UserError: the model, a volume or an option cannot be used.
    """
    model = model if isinstance(model, Model) else Model.read(model)
    report.phase("reading")
    volume = _volume(source)
    others = {modality: _volume(scan) for modality, scan in (also or {}).items()}
    limit = f"this translator is only for {model.only_for}" if model.only_for else ""
    if limit:
        report.warn(limit)
    with turn or nullcontext():
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
    overwrite: bool = False,
    turn: AbstractContextManager[Any] | None = None,
    report: Reporter = SILENT,
) -> Translation:
    """Translate a file; `output` and its side-car JSON are written whole or not at all.

    Args:
        model, options, turn, report: see `translate`.
        image: volume of the source modality, see `io.formats.read`; of several the first.
        output: .nii.gz or .nii; the provenance goes beside it into the same name with .json.
        also: files of the other sources by modality, on the same grid.
        overwrite: replace an output or side-car that syndiff did not make, too.

    Raises:
        OptionError: the output or its side-car exists and is not one of ours.
        UserError: the model, the image or the output name cannot be used.
    """
    from syndiff.io.formats import check_output_name

    check_output_name(output)
    inputs = [Path(file) for file in (image, *(also or {}).values())]
    if Path(output).resolve() in [file.resolve() for file in inputs]:
        raise OptionError(f"the output {output} is the input", "another name")
    if sidecar(output).resolve() in [sidecar(file).resolve() for file in inputs]:
        raise OptionError(
            f"{sidecar(output).name} would say of the input, too, that it is synthetic",
            "an output whose name differs in more than its ending",
        )
    outputs = (output, sidecar(output))
    check_outputs(outputs, overwrite=overwrite, expected_bytes=expected_image_bytes(image))
    hashes = [sha256_of_scan(file) for file in inputs]  # first: a later change is noticed
    made = translate(model, image, options, also=also, turn=turn, report=report)
    made = replace(made, record={**made.record, "source_sha256": hashes})
    save(made, output, overwrite=overwrite)
    return made


def save(made: Translation, output: str | Path, *, overwrite: bool = False) -> None:
    """Write the image (.nii.gz or .nii) and its side-car JSON, which holds the image's hash.

    Args:
        made: what `translate` returned.
        output: name of the image; the side-car has the same with .json.
        overwrite: replace files that syndiff did not make, too.

    Raises:
        OptionError: the name ends otherwise, or a file exists that is not one of ours.
        UserError: a file cannot be written.
    """
    from syndiff.io.formats import check_output_name, write

    check_output_name(output)
    check_outputs((output, sidecar(output)), overwrite=overwrite)
    write_pair(Path(output), lambda path: write(made.volume, path), made.record)


def _volume(source: str | Path | Volume) -> Volume:
    from syndiff.io.formats import read

    return read(source) if isinstance(source, str | Path) else source


def versions() -> dict[str, str]:
    """Of the software that makes an image, for its side-car."""
    return {"syndiff": __version__, "torch": torch.__version__, "numpy": np.__version__}


def describe(model: str | Path) -> list[tuple[str, str]]:
    """What a translator does and where it comes from, as (name, value) lines."""
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
        ("axes", str(config.get("axes", ""))),
        ("output", f"0 to {top:.4g} {target.unit}" if target.unit != "HU" else "HU"),
        ("training", ", ".join(f"{k} {v}" for k, v in training.items())),
        ("written by", f"syndiff {config.get('syndiff_version')}"),
        ("weights SHA-256", sha256_of(locate(model) / translator.weights)),
    ]
    return lines + _card(config.get("card") or {})


def _card(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A model card's lines."""
    lines = []
    for name, value in card.items():
        texts = value if isinstance(value, list) else [value]
        lines += [(name.replace("_", " ") if i == 0 else "", t) for i, t in enumerate(texts)]
    return lines


def shipped() -> list[tuple[str, str]]:
    """The translators that travel with the package: name, and what each is in a line."""
    rows = []
    for name, folder in SHIPPED.items():
        config = read_config(folder)
        size_mb = (folder / WEIGHTS).stat().st_size / 1e6
        ends = f"{' and '.join(config['sources'])} → {config['target']}"
        rows.append((name, f"{ends}, {config['spacing_mm']:g} mm, {size_mb:.1f} MB"))
    return rows
