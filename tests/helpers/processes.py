"""One process of a run on several devices.

Called as `python -m tests.helpers.processes ARGUMENTS OF syndiff`.

It is `syndiff` with each method's smallest networks as preset `small`. Several command lines, with
`then` between them, run one after the other in the same processes. At the end of training each
process leaves its state, the reported losses and the bytes it sent for gradients in RUN/rank0.pt,
RUN/rank1.pt …

A run in a folder "killed" loses process 1 at step 4, unless it is resumed; in a run in a folder
"spoilt", process 1 meets a slice that is not finite at step 2.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from functools import partialmethod
from typing import Any

from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from syndiff.networks import compiled
from syndiff.objectives.methods import METHODS
from syndiff.training import presets, processes
from syndiff.training.data import Batches
from syndiff.training.module import TranslationModule
from syndiff.training.presets import TrainSettings
from syndiff.training.watch import Watch, save_state
from tests.helpers.methods import METHODS as SMALLEST
from tests.helpers.tiny import TINY

SETTINGS = TrainSettings(
    # Each sample's logit is its own: what a batch holds besides makes no difference.
    objective=replace(
        TINY, step_discriminator=replace(TINY.step_discriminator, deviation_group=1)
    ),
    max_steps=6,
    batch_size=2,
    validate_every=3,
    generator_lr=1e-3,
    discriminator_lr=1e-3,
    final_lr=None,
)
EXCHANGED: list[int] = []


def leave_states() -> None:
    """At the end of training, what each process has."""
    losses: list[dict[str, float]] = []
    take_means, on_train_end = TranslationModule.take_means, Watch.on_train_end

    def taken(module: TranslationModule) -> dict[str, float]:
        losses.append(take_means(module))
        return losses[-1]

    def ended(watch: Watch, trainer: Any, module: Any) -> None:
        state = module.state() | {"losses": list(losses), "exchanged": sum(EXCHANGED)}
        save_state(watch.run / f"rank{trainer.global_rank}.pt", state)
        losses.clear()
        EXCHANGED.clear()
        on_train_end(watch, trainer, module)

    TranslationModule.take_means, Watch.on_train_end = taken, ended  # type: ignore[method-assign]


def count_exchange() -> None:
    """Bytes that each process sends for gradients, in buckets that several fit of a network."""
    made = DistributedDataParallel.__init__
    DistributedDataParallel.__init__ = partialmethod(made, bucket_cap_mb=0.004)  # type: ignore[method-assign,assignment]

    def exchanged(group: Any, bucket: Any) -> Any:
        EXCHANGED.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    processes.allreduce_hook = exchanged


def go_wrong(run: str, resumed: bool) -> None:
    """As the run's name says."""
    batch_of = Batches.__getitem__

    def item(batches: Batches, step: int) -> Any:
        batch = batch_of(batches, step)
        if batches.rank == 1 and run == "killed" and step == 4 and not resumed:
            os.kill(os.getpid(), signal.SIGKILL)
        if batches.rank == 1 and run == "spoilt" and step == 2:
            batch.source[0, 0, 3, 3] = float("inf")
        return batch

    Batches.__getitem__ = item  # type: ignore[method-assign]


def main() -> int:
    """The first exit code that is not 0."""
    from syndiff.cli import main as syndiff

    presets.PRESETS["small"] = SETTINGS
    for name, (_, settings) in SMALLEST.items():
        METHODS[name] = replace(METHODS[name], small=settings)
    leave_states()
    count_exchange()
    compiled.BACKEND = "aot_eager"  # traced as ever, without waiting for a compiler
    script, *words = sys.argv
    lines = " ".join(words).split(" then ")
    code = 0
    original = Batches.__getitem__
    for line in lines:
        sys.argv = [script, *line.split()]
        Batches.__getitem__ = original  # type: ignore[method-assign]
        go_wrong(os.path.basename(sys.argv[3]), "--resume" in sys.argv)
        try:
            syndiff()
        except SystemExit as end:
            code = code or int(end.code or 0)
    return code


if __name__ == "__main__":
    sys.exit(main())
