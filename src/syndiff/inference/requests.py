"""Translate files: a model and a volume on disk → a volume and its provenance on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from syndiff import __version__
from syndiff.anatomy.check import AnatomyCheck
from syndiff.errors import OptionError
from syndiff.inference.slices import CHAIN
from syndiff.inference.translation import Warn, translate_volume
from syndiff.io.atomic import write_json
from syndiff.io.marks import SYNTHETIC_MARK, sidecar
from syndiff.preparation.intensity import IntensityScale
from syndiff.translators import Translator, load_translator, locate, other_direction

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume


@dataclass(frozen=True)
class Model:
    """A translator folder that has been read, for many files.

    Attributes:
        translator: the networks and their configuration.
        back: the other direction's translator, if it lies beside the folder.
        weights_sha256: of the folder's weights.
    """

    translator: Translator
    back: Translator | None
    weights_sha256: str

    @classmethod
    def read(cls, path: str | Path) -> Model:
        """Read a translator folder, or "demo" for the shipped one.

        Raises:
            ModelError: it is none, or damaged.
        """
        translator = load_translator(path)
        weights = digest(locate(path) / translator.weights)
        return cls(translator, other_direction(path, translator), weights)

    def record(self) -> dict[str, Any]:
        """Where an image comes from, for its side-car."""
        return {
            "name": self.translator.name,
            "method": self.translator.config.get("method"),
            "weights_sha256": self.weights_sha256,
            "training": self.translator.config.get("training", {}),
        }


def translate_file(
    model: str | Path | Model,
    image: str | Path,
    output: str | Path,
    *,
    also: Mapping[str, str | Path] | None = None,
    check: bool = True,
    turn: AbstractContextManager[Any] | None = None,
    warn: Warn = lambda message: None,
    **options: Any,
) -> Volume:
    """Translate a file; `output` and its side-car JSON are written whole or not at all.

    Args:
        model: translator folder, "demo", or a model that has been read.
        image: volume of the source modality, see `io.formats.read`; of several the first.
        also: files of the other sources by modality, on the same grid.
        output: .nii.gz or .nii; the provenance goes beside it into the same name with .json.
        check: measure whether the anatomy stays where it is, for the side-car; on the way back
            with the other direction's translator if it lies beside `model`.
        turn: held while the network is at work, so that of several threads that translate files
            only one does.
        warn: told, in words, what may spoil the result.
        options: see `translate_volume`.

    Raises:
        UserError: the model, the image or the output name cannot be used.
    """
    from syndiff.io import formats as volumes

    volumes.check_output_name(output)
    files = {"": image} | dict(also or {})
    if Path(output).resolve() in [Path(file).resolve() for file in files.values()]:
        raise OptionError(f"the output {output} is the input", "another name")
    model = model if isinstance(model, Model) else Model.read(model)
    translator = model.translator
    source, *others = (volumes.read(file) for file in files.values())
    sources = dict(zip(also or {}, others, strict=True))
    doubts_found: list[str] = []

    def hear(message: str) -> None:
        doubts_found.append(message)
        warn(message)

    started = time.monotonic()
    found: list[AnatomyCheck] = []
    if check:
        options |= {"checked": found.append, "back": model.back}
    with turn or nullcontext():
        result = translate_volume(translator, source, also=sources, warn=hear, **options)
    for message in found[0].warnings("the result") if found else []:
        hear(message)
    mark = f"{SYNTHETIC_MARK}: {translator.target} from {translator.source}"
    result = replace(result, synthetic=mark)
    volumes.write(result, output)
    record = {
        "synthetic": True,
        "not_for": "diagnosis",
        "modality": translator.target,
        "source_modality": translator.source,
        "source_file": ", ".join(Path(file).name for file in files.values()),
        "unit": translator.config["intensity"][translator.target]["unit"],
        "translator": model.record(),
        "seed": options.get("seed", 0),
        "shared_noise": options.get("shared_noise", True),
        "sampling": asdict(options.get("sampling", CHAIN)),
        "precision": options.get("precision", "32"),
        "anatomy": found[0].to_dict() if found else None,
        "warnings": doubts_found,
        "versions": versions(),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_json(sidecar(output), record)
    return result


def versions() -> dict[str, str]:
    """Of the software that makes an image, for its side-car."""
    return {"syndiff": __version__, "torch": torch.__version__, "numpy": np.__version__}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(model: str | Path) -> list[tuple[str, str]]:
    """What a translator does and where it comes from, as (name, value) lines."""
    translator = load_translator(model)
    config = translator.config
    h, w = config["size"]
    training = config.get("training", {})
    target = IntensityScale.from_dict(config["intensity"][translator.target])
    top = float(target.restore(np.ones(1))[0])
    return [
        ("translates", f"{' and '.join(translator.sources) or 'noise'} → {translator.target}"),
        ("method", f"{config.get('method')} ({config['kind']})"),
        ("parameters", f"{translator.parameter_count / 1e6:.2f} M"),
        ("noise", "yes: --seed changes the result" if translator.stochastic else "none"),
        ("trained at", f"{translator.spacing_mm:g} mm pixels, {h}×{w}; others are resampled"),
        ("axes", str(config.get("axes", ""))),
        ("output", f"0 to {top:.4g} {target.unit}" if target.unit != "HU" else "HU"),
        ("training", ", ".join(f"{k} {v}" for k, v in training.items())),
        ("written by", f"syndiff {config.get('syndiff_version')}"),
        ("weights SHA-256", digest(locate(model) / translator.weights)),
    ]
