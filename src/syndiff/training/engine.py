"""Lightning's trainer, without the features that this package implements itself."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from syndiff.errors import OptionError
from syndiff.training.processes import launched

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}


def build_trainer(run: Path, devices: str, nodes: int, precision: str) -> L.Trainer:
    """The trainer of a run.

    Args:
        run: folder of the run, for its logs.
        devices, nodes, precision: see `syndiff.training.run.train`.

    Raises:
        OptionError: the devices are not available, or the number of started processes differs.
    """
    accelerator, count, nodes = _places(devices, nodes)
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise OptionError("no CUDA device is available here", remedy="use `devices` cpu")
    # Lightning's hints (workers, logging interval, devices) do not apply to this training loop.
    for name in ("lightning.pytorch", "lightning.fabric.utilities"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    if accelerator not in ("auto", "cpu", "cuda", "mps"):
        raise OptionError(f"`devices` {devices}", "auto, cpu, cuda or a number")
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=count,
            num_nodes=nodes,
            # A backward pass of the generators or of the discriminators leaves the parameters of
            # the other group without gradients.
            strategy="ddp_find_unused_parameters_true" if count * nodes > 1 else "auto",
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
            max_epochs=1,  # Lightning's one epoch is the rest of the run
            logger=_logger(run),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise OptionError(f"`devices` {devices} cannot be used: {error}") from error


def _places(devices: str, nodes: int) -> tuple[str, int, int]:
    """Accelerator, devices per node, and nodes.

    Raises:
        OptionError: the number of started processes differs from what is asked for.
    """
    count = int(devices) if devices.isdigit() else 0
    here, there = launched() or (count or 1, 1)
    if (count or here, nodes or there) != (here, there):
        raise OptionError(
            f"`devices` {devices} and `nodes` {nodes or there}",
            f"`devices` {here} and `nodes` {there}, for which there are processes",
            "torchrun or srun starts as many as are wanted",
        )
    return ("auto" if count else devices), here, there


def _logger(run: Path) -> Any:
    """TensorBoard's, or a CSV file where TensorBoard is not installed."""
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    try:
        return TensorBoardLogger(run, name="logs", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        return CSVLogger(run, name="logs", version="")
