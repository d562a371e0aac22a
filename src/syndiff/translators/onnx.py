"""Exported translators: networks that onnxruntime runs, or that only other software runs.

`syndiff.export` writes them. Their configuration is that of the original translator.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from syndiff.errors import ModelError, OptionError
from syndiff.translators.base import Translator
from syndiff.translators.explicit import Explicit, Noise, explicit_noise

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class ExportedTranslator(Translator):
    """What the exported formats share; `config["export"]` describes the exported function."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.export: dict[str, Any] = self.config["export"]
        self.stochastic = bool(self.export["stochastic"])

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ExportedTranslator:
        return cls(config)

    @property
    def size_multiple(self) -> int:
        return int(self.export["size_multiple"])

    @property
    def parameter_count(self) -> int:
        return int(self.export["parameters"])

    @property
    def sampling_steps(self) -> int:
        return int(self.export["steps"])

    def chain_steps(self, wanted: int = 0) -> int:
        if wanted not in (0, self.sampling_steps):
            raise OptionError(f"{wanted} sampling steps", f"{self.sampling_steps}, as exported")
        return self.sampling_steps

    def estimate(self, source: Tensor, noise: Noise) -> Tensor:
        raise OptionError("`sampling` regression with an exported translator", "chain")

    def explicit(self, steps: int = 0) -> Explicit:
        raise ModelError(
            f"{self.name} is an exported translator already", "the one it was made from"
        )


class OnnxTranslator(ExportedTranslator):
    """Runs `model.onnx` on the CPU, with the noise that the original would draw."""

    kind = "onnx"
    weights = "model.onnx"
    session: InferenceSession

    def load_weights(self, folder: Path) -> None:
        self.session = open_session(folder / self.weights)
        names, expected = {i.name for i in self.session.get_inputs()}, set(self.export["inputs"])
        if names != expected:
            raise ModelError(
                f"{folder / self.weights} takes {', '.join(sorted(names))}",
                ", ".join(sorted(expected)),
            )

    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        self.chain_steps(steps)
        if self.export["part"] == "step":
            raise ModelError(
                f"{self.name} is one reverse step, to be called by other software",
                remedy="exporting with `part` chain makes one that translates",
            )
        draws = explicit_noise(
            noise, self.export["draws"], self.export["steps"], *source.shape[-2:]
        )
        return self.run({"source": source} | draws)

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Call the exported function; inputs by name, see `config["export"]["inputs"]`."""
        arrays = {name: np.ascontiguousarray(t.cpu().numpy()) for name, t in inputs.items()}
        (image,) = self.session.run(None, arrays)
        return torch.from_numpy(image).to(inputs["source"].device)


class TorchProgramTranslator(ExportedTranslator):
    """A folder with a program of `torch.export`: described, never run.

    `torch.export.load` unpickles parts of the file, so that a `.pt2` from an untrusted source
    could run any code. syndiff therefore never opens one.
    """

    kind = "torch_program"
    weights = "model.pt2"

    def load_weights(self, folder: Path) -> None:
        if not (folder / self.weights).is_file():
            raise FileNotFoundError(folder / self.weights)

    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        raise ModelError(
            f"{self.name} is a program for torch.export.load, to be called by other software",
            remedy="exporting with `format` onnx makes one that syndiff runs",
        )


def open_session(path: Path) -> InferenceSession:
    """An onnxruntime session on the CPU with as many threads as torch has.

    Raises:
        FileNotFoundError: the file does not exist.
        ModelError: onnxruntime is not installed, or the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"{path} needs onnxruntime, which is not installed",
            remedy="pip install 'syndiff[export]'",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only; they are raised as exceptions too
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no other base
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise ModelError(f"{path} is damaged ({reason})", remedy="export it again") from error
