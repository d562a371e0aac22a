"""Export a translator for other software, to ONNX or to a program of torch.export.

The exported function takes the noise as an input and draws no random numbers, so the same inputs
always give the same image. The export folder also holds the translator's configuration. An ONNX
export is itself a translator, which `syndiff translate`, `info` and `evaluate` accept.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from syndiff import __version__
from syndiff.errors import ModelError, OptionError, UserError
from syndiff.export.trace import inputs_of, program_of, random_inputs, unrolled
from syndiff.io.atomic import PARTIAL, partial_of, write_json
from syndiff.io.digest import sha256_of
from syndiff.io.locks import clear_leftovers, one_at_a_time
from syndiff.io.outputs import check_folder
from syndiff.reporting import SILENT, Reporter
from syndiff.translators import (
    CONFIG,
    Explicit,
    OnnxTranslator,
    SliceNoise,
    TorchProgramTranslator,
    Translator,
    explicit_noise,
    load_translator,
    locate,
    read_config,
)

FORMATS = {"onnx": OnnxTranslator, "torch": TorchProgramTranslator}
PARTS = ("chain", "step")
TOLERANCE = 1e-4  # largest difference from torch, for images in [-1, 1]
LONGEST_CHAIN = 50  # steps; the noise inputs of a longer chain would be too large
BATCHES = (1, 3)  # batch sizes at which the export is compared with torch

Run = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        folder: the folder with `config.json` and the exported program.
        differences: description of batch and image size → largest absolute difference from torch,
            for images in [-1, 1].
    """

    folder: Path
    differences: Mapping[str, float]


def export(
    model: str | Path,
    out: str | Path,
    *,
    format: str = "onnx",
    part: str = "chain",
    sampling_steps: int = 0,
    overwrite: bool = False,
    report: Reporter = SILENT,
) -> Exported:
    """Export a translator into a new folder, and compare the result with torch.

    Args:
        model: translator folder, or "demo".
        out: the folder to make, with `config.json` and `model.onnx` or `model.pt2`.
        format: "onnx", or "torch" for a program of torch.export.
        part: "chain" (source and all noise → image) or "step" (one reverse step).
        sampling_steps: number of steps of a chain that can be respaced (DDPM); 0: the number of
            steps in training.
        overwrite: replace an existing export.
        report: receives the phases of the export.

    Returns:
        The folder and its differences from torch.

    Raises:
        ModelError: the translator cannot be exported, or the export differs from torch by more
            than 1e-4; nothing is left behind.
        OptionError: `out` exists and is not an export or `overwrite` is False, or the translator
            does not support an option.
        UserError: the folder cannot be written.
    """
    out = Path(out)
    if format not in FORMATS:
        raise OptionError(f"the format {format!r}", " or ".join(FORMATS))
    _restore(out)
    _check_place(out, overwrite)
    _require(format)
    translator = load_translator(model)
    explicit = translator.explicit(sampling_steps)
    _check_part(translator, explicit, part)
    differences: dict[str, float] = {}
    report.phase(f"tracing {translator.name}; large networks take minutes")
    with _whole_folder(out) as folder, torch.no_grad():
        write = {"onnx": _write_onnx, "torch": _write_program}[format]
        write(translator, explicit, part, folder / FORMATS[format].weights)
        origin = sha256_of(locate(model) / translator.weights)
        write_json(folder / CONFIG, _config(translator, explicit, format, part, origin))
        run = _runner(folder, format)
        report.phase("comparing with torch")
        for sizes, difference in _differences(translator, explicit, part, sampling_steps, run):
            differences[sizes] = difference
            if not difference <= TOLERANCE:  # also true for NaN
                raise ModelError(
                    f"the exported {translator.name} differs from torch by {difference:.1e}",
                    f"at most {TOLERANCE:.0e}",
                    "it was not written",
                )
    return Exported(out, differences)


def _check_place(out: Path, overwrite: bool) -> None:
    """Raise OptionError if `out` exists, unless it is an export that may be overwritten."""
    if out.exists():
        if not _is_export(out):
            raise OptionError(f"{out} exists", "a new folder for the export")
        if not overwrite:
            remedy = "`overwrite` replaces the export that it holds"
            raise OptionError(f"{out} exists", "a new folder for the export", remedy)
    check_folder(out.absolute().parent)


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an export and no other files."""
    names = {FORMATS[name].weights for name in FORMATS} | {CONFIG}
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - names:
        return False
    try:
        return "export" in read_config(folder)
    except UserError:
        return False


def _require(format: str) -> None:
    """Raise OptionError if packages that the format needs are not installed."""
    needed = ("onnx", "onnxscript", "onnxruntime") if format == "onnx" else ()
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise OptionError(
            f"exporting to ONNX needs {', '.join(missing)}, not installed here",
            remedy="pip install 'syndiff[export]'",
        )


def _check_part(translator: Translator, explicit: Explicit, part: str) -> None:
    if part not in PARTS:
        raise OptionError(f"the part {part!r}", " or ".join(PARTS))
    if part == "step" and not explicit.steps:
        raise OptionError(
            f"{translator.name} makes its image in one pass, without steps",
            "`part` chain",
        )
    if part == "chain" and explicit.steps > LONGEST_CHAIN:
        raise OptionError(
            f"a chain of {explicit.steps} steps",
            f"at most {LONGEST_CHAIN}",
            "give `sampling_steps` if it can be respaced, or export one step with `part` step",
        )


def _write_onnx(translator: Translator, explicit: Explicit, part: str, file: Path) -> None:
    from syndiff.export.graph import chain_of, graph_of, now

    if not explicit.steps:
        inputs = inputs_of(translator, explicit, part)
        program = program_of(translator, explicit.function, inputs, 0)
        model = graph_of(program, inputs, "image")
    else:
        inputs = inputs_of(translator, explicit, "step")
        program = program_of(translator, explicit.function, inputs, explicit.steps)
        if part == "step":
            model = graph_of(program, inputs, "x_prev")
        else:
            inner = {now(n) if n in explicit.draws else n: s for n, s in inputs.items()}
            step = graph_of(program, inner, "x_prev")
            model = chain_of(step, inputs_of(translator, explicit, "chain"), explicit.steps)
    file.write_bytes(model.SerializeToString())


def _write_program(translator: Translator, explicit: Explicit, part: str, file: Path) -> None:
    chain = part == "chain" and explicit.steps
    function = unrolled(explicit) if chain else explicit.function
    inputs = inputs_of(translator, explicit, part)
    torch.export.save(program_of(translator, function, inputs, explicit.steps), file)


def _config(
    translator: Translator, explicit: Explicit, format: str, part: str, origin: str
) -> dict[str, object]:
    """The translator's configuration, with an entry on the inputs of the exported function."""
    inputs = inputs_of(translator, explicit, part)
    return translator.config | {
        "kind": FORMATS[format].kind,
        "export": {
            "part": part,
            "inputs": {name: list(shape) for name, shape in inputs.items()},
            "draws": {name: list(shape) for name, shape in explicit.draws.items()},
            "steps": explicit.steps,
            "size_multiple": translator.size_multiple,
            "stochastic": translator.stochastic,
            "parameters": translator.parameter_count,
            "from_kind": translator.kind,
            "from_weights_sha256": origin,
            "versions": {"syndiff": __version__, "torch": torch.__version__},
        },
    }


def _runner(folder: Path, format: str) -> Run:
    """Load the exported file as a function of its inputs by name."""
    if format == "onnx":
        return cast(OnnxTranslator, load_translator(folder)).run
    # Loading may execute code of the file, which is safe here: this process just wrote the file.
    program = torch.export.load(folder / TorchProgramTranslator.weights).module()
    return lambda inputs: program(*inputs.values())


def _differences(
    translator: Translator, explicit: Explicit, part: str, steps: int, run: Run
) -> Iterator[tuple[str, float]]:
    """Yield (description of batch and image size, largest absolute difference from torch)."""
    multiple = translator.size_multiple
    trained = tuple(n + -n % multiple for n in translator.config["size"])
    for batch in BATCHES:
        for height, width in ((2 * multiple, 3 * multiple), trained):
            sizes = {"batch": batch, "height": height, "width": width}
            inputs = random_inputs(inputs_of(translator, explicit, part), explicit.steps, sizes)
            if part == "step":
                expected = explicit.function(*inputs.values())
            else:  # comparing with the translator also checks the order of its random draws
                source, places = inputs["source"], range(batch)
                expected = translator(source, SliceNoise(0, places, shared=False), steps)
                noise = SliceNoise(0, places, shared=False)
                draws = explicit_noise(noise, explicit.draws, explicit.steps, height, width)
                inputs = {"source": source} | draws
            difference = (run(inputs) - expected).abs().max().item()
            yield f"batch {batch}, {height}×{width} pixels", difference


def _restore(out: Path) -> None:
    """An export that was killed while it replaced an earlier one: that one is there again."""
    kept = sorted(out.parent.glob(f"{PARTIAL}*-old-{glob.escape(out.name)}"))
    if kept and not out.exists():
        with suppress(OSError):
            os.replace(kept[-1], out)


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; rename it if the block succeeds.

    Raises:
        UserError: another process is writing it, or it cannot be written.
    """
    with one_at_a_time(out, wait_s=0):
        clear_leftovers(out.absolute().parent, [out.name])
        yield from _whole(out)


def _whole(out: Path) -> Iterator[Path]:
    temporary, old = partial_of(out, str(os.getpid())), partial_of(out, f"{os.getpid()}-old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():  # an earlier export, as `_check_place` made sure
            os.replace(out, old)
        os.replace(temporary, out)
    except OSError as error:
        raise UserError(
            f"{out} could not be written: {error.strerror or error}",
            remedy="free some space or choose a folder that you may write to",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
