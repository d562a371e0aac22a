"""What binds a translator to its source's anatomy? Candidate terms, judged where truth is known.

  python -m experiments.structure OUT screen          each candidate on the one-shot modules alone
  python -m experiments.structure OUT repeat A,B,none two more seeds of these
  python -m experiments.structure OUT final A,none    all of SynDiff, with seed 0 or the one given
  python -m experiments.structure OUT table           what has been measured so far

Virtual subjects with lesions are trained on unpaired, and the T1 → T2 translators are scored on
subjects that no training saw, whose labels are known: PSNR, SSIM, offset, Dice of tissues found in
the synthetic image, contrast of lesions. Every run is one file in OUT/runs, so an interrupted call
can be repeated. The networks are smaller than those of the preset `small` and a batch is one slice
of each modality; everything else is the preset's. The terms act on the one-shot translators, whose
anatomy the diffusive ones inherit, so these alone are screened: it costs a quarter.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.candidates import CANDIDATES, SCREENED, Candidate
from experiments.truth import SCORES, Truth, data, picture
from numpy.typing import NDArray
from torch import Tensor, nn

from syndiff.inference import TranslationOptions, translate_slices
from syndiff.io.atomic import read_json, write_json
from syndiff.objectives.base import Batch, Draw
from syndiff.objectives.methods import METHODS
from syndiff.preparation.manifest import Manifest
from syndiff.training.data import training_batches
from syndiff.training.hyperparameters import changed
from syndiff.training.module import frozen
from syndiff.training.presets import preset

NETWORKS: dict[str, Any] = {
    "channels": 16,
    "one_shot_channels": 16,
    "one_shot_blocks": 2,
    "step_stem": 12,
    "step_widths": (16, 32, 64, 64),
    "patch_channels": 32,
}
SCREEN_STEPS, FINAL_STEPS, SEEDS = (1500, 3000), (1500, 3000), (1, 2)


def train(name: str, seed: int, budgets: tuple[int, ...], out: Path, part: str) -> None:
    """Train a candidate to its longest budget; score it at each."""
    manifest = data(out)
    settings = preset("paper" if name.startswith("paper") else "small")
    objective_settings = _sized(settings.objective, NETWORKS | {"structure": 0.0})
    if name.startswith("paper"):
        small = _sized(preset("small").objective, NETWORKS)
        objective_settings = replace(
            objective_settings,
            generator=replace(
                objective_settings.generator,
                multipliers=small.generator.multipliers,
                blocks=small.generator.blocks,
                attention_levels=small.generator.attention_levels,
                latent_embedding=small.generator.latent_embedding,
            ),
            step_discriminator=small.step_discriminator,
            patch_discriminator=small.patch_discriminator,
        )
    torch.manual_seed(seed)
    objective = CANDIDATES[name](objective_settings)
    objective.diffusive = part == "final"
    batches = training_batches(
        manifest,
        ("T1",),
        "T2",
        pairing="unpaired",
        shared=settings.shared_subjects,
        batch_size=1,
        seed=seed,
        augment=settings.augment,
    )
    players = (
        (objective.discriminators, settings.discriminator_lr),
        (objective.generators, settings.generator_lr),
    )
    optimizers = [
        torch.optim.Adam(p.parameters(), lr, betas=settings.adam_betas, fused=True)
        for p, lr in players
    ]
    average = [p.detach().clone() for p in objective.generators.parameters()]
    started = time.perf_counter()
    for step in range(max(budgets)):
        descend(objective, batches[step], Draw(seed, step), optimizers)
        decay = min(settings.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, list(objective.generators.parameters()), 1 - decay)
        if step + 1 in budgets:
            seconds = (time.perf_counter() - started) / (step + 1)
            run = f"{part}_{name}_{seed}_{step + 1}"
            result = {"part": part, "candidate": name, "seed": seed, "steps": step + 1}
            result |= scored(objective, average, manifest, out, run) | {"step_s": seconds}
            write_json(out / "runs" / f"{run}.json", result)
            print(line(result), flush=True)


def _sized(settings: Any, values: dict[str, Any]) -> Any:
    for name, value in values.items():
        settings = changed(settings, name, value, METHODS["syndiff"])
    return settings


def descend(
    objective: Candidate, batch: Batch, draw: Draw, optimizers: list[torch.optim.Optimizer]
) -> None:
    """One step of both players, as the training module makes it."""
    fakes = objective.generate(batch, draw)
    for optimizer, player in zip(optimizers, ("discriminators", "generators"), strict=True):
        optimizer.zero_grad()
        if player == "discriminators":
            terms = objective.discriminator_losses(batch, fakes.detached(), draw)
            torch.stack(list(terms.values())).sum().backward()
        else:
            with frozen(objective.discriminators):
                terms = objective.generator_losses(batch, fakes, draw)
                torch.stack(list(terms.values())).sum().backward()
        optimizer.step()


def scored(
    objective: Candidate, average: list[Tensor], manifest: Manifest, out: Path, name: str
) -> dict[str, float]:
    """Scores of the averaged T1 → T2 translator on the test subjects."""
    live = [p.detach().clone() for p in objective.generators.parameters()]
    swap(objective, average)
    translator = objective.translator(objective.generators, "target", {"sources": ["T1"]})
    truth = Truth(manifest, out)
    if objective.diffusive:
        made = [
            translate_slices(translator, s.copy(), TranslationOptions(device="cpu"))
            for s in truth.sources
        ]
        translator.train()
    else:
        made = [one_pass(objective.generators["one_shot_to_target"], s) for s in truth.sources]
    swap(objective, live)
    picture(out / "pictures" / f"{name}.png", truth.sources[0], made[0], truth.targets[0])
    return truth.scores(made)


@torch.no_grad()
def one_pass(network: nn.Module, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    image = network(torch.from_numpy(slices.copy())[:, None] * 2 - 1)[:, 0]
    return ((image.clamp(-1, 1) + 1) / 2).numpy()


def swap(objective: Candidate, weights: list[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(list(objective.generators.parameters()), weights)


def line(r: dict[str, Any]) -> str:
    values = " | ".join(f"{r[c]:.3f}" for c in (*SCORES, "step_s"))
    return f"| {r['part']} | {r['candidate']} | {r['seed']} | {r['steps']} | {values} |"


def table(out: Path) -> None:
    """All runs, then mean and standard deviation over seeds where there are several."""
    runs = [read_json(path, "run") for path in sorted((out / "runs").glob("*.json"))]
    print("| part | candidate | seed | steps |", " | ".join((*SCORES, "step_s")), "|")
    for r in sorted(runs, key=lambda r: (r["part"], r["steps"], r["candidate"], r["seed"])):
        print(line(r))
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for r in runs:
        groups.setdefault((r["part"], r["steps"], r["candidate"]), []).append(r)
    for (part, steps, name), group in sorted(groups.items()):
        if len(group) > 1:
            cells = [f"{np.mean(v):.3f} ± {np.std(v, ddof=1):.3f}" for v in columns(group)]
            print(f"| {part} | {name} | mean of {len(group)} | {steps} |", " | ".join(cells), "|")
    truth = Truth(data(out), out)
    reference = truth.scores(truth.targets)
    copied = truth.scores([s.copy() for s in truth.sources])
    for name, r in (("acquired T2", reference), ("copy of T1", copied)):
        print(line(r | {"part": "", "candidate": name, "seed": "", "steps": "", "step_s": 0.0}))


def columns(group: list[dict[str, Any]]) -> list[list[float]]:
    return [[r[c] for r in group] for c in SCORES]


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    out, what = Path(arguments[0]), arguments[1]
    plans: dict[str, Callable[[], list[tuple[str, int, tuple[int, ...]]]]] = {
        "screen": lambda: [
            (n, 0, SCREEN_STEPS) for n in (arguments[2].split(",") if arguments[2:] else SCREENED)
        ],
        "repeat": lambda: [(n, s, SCREEN_STEPS) for s in SEEDS for n in arguments[2].split(",")],
        "final": lambda: [
            (n, int((arguments[3:] or ["0"])[0]), FINAL_STEPS) for n in arguments[2].split(",")
        ],
        "table": lambda: [],
    }
    part = "final" if what == "final" else "screen"
    for name, seed, budgets in plans[what]():
        if not (out / "runs" / f"{part}_{name}_{seed}_{max(budgets)}.json").exists():
            train(name, seed, budgets, out, part)
    if what == "table":
        table(out)


if __name__ == "__main__":
    main(sys.argv[1:])
