"""What binds a translator to its source's anatomy? Candidate terms, judged where truth is known.

    python benchmarks/structure.py OUT screen          each candidate on the one-shot modules alone
    python benchmarks/structure.py OUT repeat A,B,none two more seeds of these
    python benchmarks/structure.py OUT final A,none    all of SynDiff, with seed 0 or the one given
    python benchmarks/structure.py OUT table           what has been measured so far

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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from syndiff import losses, volume
from syndiff.evaluation.metrics import get_profile, psnr, ssim
from syndiff.files import read_json, write_json
from syndiff.inference import translate_slices
from syndiff.objectives.base import Batch, Draw, Fakes
from syndiff.objectives.syndiff import DIRECTIONS, SynDiff
from syndiff.phantom import write_cohort
from syndiff.phantom.signal import INDEX
from syndiff.preparation.manifest import Manifest, Scan, read_manifest
from syndiff.preparation.recipe import prepare
from syndiff.training.data import Slices, UnpairedBatches, training_scans
from syndiff.training.module import frozen
from syndiff.training.presets import preset

try:
    from syndiff.anatomy.offset import median_offset
except ModuleNotFoundError:  # at the commit of the screening it stood elsewhere
    from syndiff.evaluation.offset import median_offset  # type: ignore[no-redef]

NETWORKS: dict[str, Any] = {
    "channels": 16,
    "one_shot_channels": 16,
    "one_shot_blocks": 2,
    "step_stem": 12,
    "step_widths": (16, 32, 64, 64),
    "patch_channels": 32,
}
EVERY = 3  # slices: a third of the test slices are scored
SCREEN_STEPS, FINAL_STEPS, SEEDS = (1500, 3000), (1500, 3000), (1, 2)
TISSUES = ("csf", "grey_matter", "white_matter")


class Candidate(SynDiff):
    """SynDiff with one more term between an image and its one-shot translation."""

    diffusive = True  # False: the one-shot modules alone

    def bind(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        """The candidate's own terms for the generators."""
        return {}

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        if self.diffusive:
            return super().generate(batch, draw)
        fakes = Fakes()
        for m, o in DIRECTIONS:
            fakes["guess"][m] = self.generators[f"one_shot_to_{o}"](batch[m])
            fakes["round_trip"][m] = self.generators[f"one_shot_to_{m}"](fakes["guess"][m])
        return fakes

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        if self.diffusive:
            return super().discriminator_losses(batch, fakes, draw)
        D = self.discriminators
        return {
            f"one_shot_{m}": losses.adversarial_discriminator(
                D[f"one_shot_{m}"](batch[m]), D[f"one_shot_{m}"](fakes["guess"][o])
            )
            for m, o in DIRECTIONS
        }

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        bound = self.bind(batch, fakes, draw)
        if self.diffusive:
            return super().generator_losses(batch, fakes, draw) | bound
        for m, o in DIRECTIONS:
            logits = self.discriminators[f"one_shot_{o}"](fakes["guess"][m])
            bound[f"one_shot_{o}"] = losses.adversarial_generator(logits)
            cycle = losses.cycle(fakes["round_trip"][m], batch[m])
            bound[f"cycle_{m}"] = self.settings.cycle_one_shot * cycle
        return bound


class PerImage(Candidate):
    """A term that is a function of an image and its translation alone."""

    weight: float

    def term(self, image: Tensor, translation: Tensor) -> Tensor:
        raise NotImplementedError

    def bind(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        return {
            f"bind_{m}": self.weight * self.term(batch[m], fakes["guess"][m])
            for m, _ in DIRECTIONS
        }


class Mind(PerImage):
    """Modality-independent neighbourhood descriptors (Heinrich et al., 2012)."""

    weight = 5.0

    def term(self, image: Tensor, translation: Tensor) -> Tensor:
        return losses.structure(image, translation)


class GradientField(PerImage):
    """Normalised gradient fields (Haber and Modersitzki, 2006): edges parallel, either sign."""

    weight = 3.0

    def term(self, image: Tensor, translation: Tensor) -> Tensor:
        a, b = slopes(image), slopes(translation)
        return 1 - ((a * b).sum(1).square()).mean()


class Foreground(PerImage):
    """The head covers the same pixels."""

    weight = 5.0

    def term(self, image: Tensor, translation: Tensor) -> Tensor:
        def soft_mask(x: Tensor) -> Tensor:
            return torch.sigmoid((F.avg_pool2d(x, 3, 1, 1) + 0.8) / 0.05)

        return F.l1_loss(soft_mask(translation), soft_mask(image))


class Registration(PerImage):
    """The squared displacement at which edge maps correlate best, as a soft maximum."""

    weight = 1.0
    reach, sharpness = 3, 40.0

    def term(self, image: Tensor, translation: Tensor) -> Tensor:
        r = self.reach
        fixed, moving = edges(image), F.pad(edges(translation), [r] * 4)
        h, w = image.shape[-2:]
        shifts = [(y, x) for y in range(2 * r + 1) for x in range(2 * r + 1)]
        correlation = torch.stack(
            [(fixed * moving[..., y : y + h, x : x + w]).mean((1, 2, 3)) for y, x in shifts], 1
        )
        length = torch.tensor([(y - r) ** 2 + (x - r) ** 2 for y, x in shifts])
        return (torch.softmax(self.sharpness * correlation, 1) * length).sum(1).mean()


class IdentityStart(PerImage):
    """For the first steps a translation is asked to equal its source."""

    weight, steps = 10.0, 200

    def term(self, image: Tensor, translation: Tensor) -> Tensor:
        return F.l1_loss(translation, image)

    def bind(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        fading = 1 - draw.step / self.steps
        if fading <= 0:
            return {}
        return {k: fading * v for k, v in super().bind(batch, fakes, draw).items()}


class Contrastive(Candidate):
    """A patch of the translation knows its own patch of the source among 63 others (CUT)."""

    weight, patches, temperature, width = 1.0, 64, 0.07, 32

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        features = 4 * settings.one_shot_channels
        for _, o in DIRECTIONS:
            self.generators[f"head_to_{o}"] = nn.Sequential(
                nn.Conv2d(features, self.width, 1), nn.ReLU(), nn.Conv2d(self.width, self.width, 1)
            )

    def bind(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        return {
            f"bind_{m}": self.weight * self.nce(m, o, batch, fakes, draw) for m, o in DIRECTIONS
        }

    def nce(self, m: str, o: str, batch: Batch, fakes: Fakes, draw: Draw) -> Tensor:
        encoder = self.generators[f"one_shot_to_{o}"].layers[:10]  # down to quarter resolution
        head = self.generators[f"head_to_{o}"]
        places = draw.integers(batch[m].shape[-1] * batch[m].shape[-2] // 16, self.patches)

        def features(x: Tensor) -> Tensor:
            return F.normalize(head(encoder(x)).flatten(2)[..., places], dim=1)  # b c n

        keys, queries = features(batch[m]), features(fakes["guess"][m])
        logits = torch.einsum("bcn,bcm->bnm", queries, keys) / self.temperature
        return F.cross_entropy(logits.flatten(0, 1), torch.arange(self.patches).repeat(len(keys)))


class Acquired(Candidate):
    """Acquired sources go through the diffusive generator from pure noise, and back."""

    def bind(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        terms = {}
        for m, o in DIRECTIONS:
            back = self.generators[f"one_shot_to_{o}"](self.made_of(m, batch[o], draw))
            terms[f"bind_{m}"] = self.settings.cycle_one_shot * losses.cycle(back, batch[o])
        return terms

    def made_of(self, m: str, x: Tensor, draw: Draw) -> Tensor:
        """The diffusive estimate of m from pure noise and an acquired x of the other modality."""
        last = torch.full((len(x),), self.settings.steps - 1)
        z = draw.normal(len(x), self.settings.latent_dim)
        return self.generators[f"diffusive_{m}"](draw.normal(*x.shape), x, last, z)


class AcquiredMind(Mind, Acquired):
    """MIND on the one-shot translation and on what the diffusive generator makes of acquired o."""

    def bind(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        terms = super().bind(batch, fakes, draw)
        for m, o in DIRECTIONS:
            made = self.made_of(m, batch[o], draw)
            terms[f"bind_acquired_{m}"] = self.weight * losses.structure(batch[o], made)
        return terms


CANDIDATES: dict[str, type[Candidate]] = {
    "none": Candidate,
    "mind": Mind,
    "gradient_field": GradientField,
    "foreground": Foreground,
    "registration": Registration,
    "identity_start": IdentityStart,
    "contrastive": Contrastive,
    "acquired": Acquired,
    "acquired_mind": AcquiredMind,
    "paper": Candidate,  # the preset `paper` in full, on the same networks
}
SCREENED = [n for n, c in CANDIDATES.items() if n != "paper" and c not in (Acquired, AcquiredMind)]


def slopes(x: Tensor) -> Tensor:
    """(b, 2, h, w): central differences, each pixel's vector divided by its softened length."""
    dy, dx = torch.gradient(x, dim=(2, 3))
    g = torch.cat([dy, dx], 1)
    return g / (g.square().sum(1, keepdim=True) + 0.05**2).sqrt()


def edges(x: Tensor) -> Tensor:
    """(b, 1, h, w): softened gradient magnitude, mean 0 and variance 1."""
    dy, dx = torch.gradient(F.avg_pool2d(x, 3, 1, 1), dim=(2, 3))
    e = (dy.square() + dx.square() + 1e-4).sqrt()
    e = e / (F.avg_pool2d(e, 7, 1, 3) + 0.02)
    e = e - e.mean((2, 3), keepdim=True)
    return e / (e.square().mean((2, 3), keepdim=True) + 1e-4).sqrt()


def data(out: Path) -> Manifest:
    """The cohort, prepared: 16 subjects to train on, 4 to test on, five lesions each."""
    if not (out / "data" / "manifest.json").exists():
        write_cohort(out / "raw", subjects=20, modalities=("T1", "T2"), seed=2000, lesions=5)
        prepare(
            out / "raw",
            out / "data",
            modalities=("T1", "T2"),
            split={"train": 16, "test": 4},
            size=64,
            spacing_mm=3.5,
            register=False,
            register_training=False,
        )
    return read_manifest(out / "data")


def train(name: str, seed: int, budgets: tuple[int, ...], out: Path, part: str) -> None:
    """Train a candidate to its longest budget; score it at each."""
    manifest = data(out)
    settings = preset("paper" if name == "paper" else "small")
    objective_settings = replace(settings.objective, structure=0.0, **NETWORKS)
    if name == "paper":
        small = preset("small").objective
        same = ("multipliers", "blocks", "attention_levels", "step_time_dim", "patch_halvings")
        same += ("latent_embedding",)
        objective_settings = replace(
            objective_settings, **{field: getattr(small, field) for field in same}
        )
    torch.manual_seed(seed)
    objective = CANDIDATES[name](objective_settings)
    objective.diffusive = part == "final"
    scans = training_scans(manifest, "T1", "T2", settings.shared_subjects)
    batches = UnpairedBatches(Slices.of(scans[0]), Slices.of(scans[1]), 1, seed, settings.augment)
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
        made = [translate_slices(translator, s.copy(), device="cpu") for s in truth.sources]
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


class Truth:
    """Test subjects with their labels on the training grid, and a classifier of tissues.

    Tissues are found in an image by its intensity alone, inside the known brain: the most probable
    tissue by histograms of the training subjects' acquired T2. So Dice measures where the
    synthetic image shows which tissue.
    """

    def __init__(self, manifest: Manifest, out: Path) -> None:
        self.out = out
        self.sources = [s.load()[::EVERY] for s in manifest.scans("test", "T1")]
        self.targets = [s.load()[::EVERY] for s in manifest.scans("test", "T2")]
        cache = out / "labels.npz"
        if not cache.exists():
            training = manifest.scans("train", "T2")
            images = np.concatenate([s.load().ravel() for s in training])
            labels = np.concatenate([self.labels_of(s).ravel() for s in training])
            tests = {s.subject: self.labels_of(s) for s in manifest.scans("test", "T2")}
            np.savez(cache, classifier=self.fit(images, labels), **tests)
        with np.load(cache) as stored:
            self.classifier = stored["classifier"]
            self.labels = [stored[s.subject][::EVERY] for s in manifest.scans("test", "T2")]

    def labels_of(self, scan: Scan) -> NDArray[np.int64]:
        """(n, h, w) index of the tissue that fills most of each pixel of the training grid."""
        name = scan.subject if scan.subject.startswith("sub-") else f"sub-{scan.subject}"
        path = self.out / f"raw/derivatives/labels/{name}/anat/{name}_dseg.nii.gz"
        labels = volume.read(path).array.transpose(2, 1, 0)[list(scan.slice_indices)]
        shares = [scan.grid.forward((labels == i).astype(np.float32)) for i in range(len(INDEX))]
        shares[0] += 1e-3  # outside the field of view
        return np.argmax(np.stack(shares), axis=0)

    @staticmethod
    def fit(images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """(64,) most probable of `TISSUES` for each interval of intensity."""
        counts = np.stack(
            [np.histogram(images[labels == INDEX[t]], 64, (0, 1))[0] for t in TISSUES]
        )
        smooth = np.apply_along_axis(np.convolve, 1, counts, np.ones(5) / 5, mode="same")
        return np.argmax(smooth, axis=0)

    def tissues(self, image: NDArray[Any]) -> NDArray[np.int64]:
        return self.classifier[np.minimum((image * 64).astype(int), 63)]

    def scores(self, made: list[NDArray[np.float32]]) -> dict[str, float]:
        profile = get_profile("paper")
        pairs = list(zip(np.concatenate(made), np.concatenate(self.targets), strict=True))
        result = {
            "psnr_db": float(np.mean([psnr(a, b, profile) for a, b in pairs])),
            "ssim": float(np.mean([ssim(a, b, profile) for a, b in pairs])),
            "offset_px": float(
                np.mean([median_offset(a, b) for a, b in zip(made, self.targets, strict=True)])
            ),
        }
        found, labels = (
            np.concatenate([self.tissues(m) for m in made]),
            np.concatenate(self.labels),
        )
        brain = np.isin(labels, [INDEX[t] for t in TISSUES])
        for number, tissue in enumerate(TISSUES):
            a, b = (found == number) & brain, labels == INDEX[tissue]
            result[f"dice_{tissue}"] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
        result["dice"] = float(np.mean([result[f"dice_{t}"] for t in TISSUES]))
        result["lesion"] = self.lesion_contrast(made) / self.lesion_contrast(self.targets)
        return result

    def lesion_contrast(self, images: list[NDArray[np.float32]]) -> float:
        """Mean of lesions minus mean of white matter, over all test subjects."""
        values, labels = np.concatenate(images), np.concatenate(self.labels)
        return float(
            values[labels == INDEX["lesion"]].mean()
            - values[labels == INDEX["white_matter"]].mean()
        )


def picture(path: Path, *stacks: NDArray[Any]) -> None:
    """Rows source, synthetic, reference; five heights."""
    from PIL import Image

    rows = [np.concatenate(list(s[np.linspace(2, len(s) - 3, 5).astype(int)]), 1) for s in stacks]
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.clip(np.concatenate(rows)[::-1], 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).resize((960, 576)).save(path)


COLUMNS = ("psnr_db", "ssim", "offset_px", "dice", *(f"dice_{t}" for t in TISSUES), "lesion")


def line(r: dict[str, Any]) -> str:
    values = " | ".join(f"{r[c]:.3f}" for c in (*COLUMNS, "step_s"))
    return f"| {r['part']} | {r['candidate']} | {r['seed']} | {r['steps']} | {values} |"


def table(out: Path) -> None:
    """All runs, then mean and standard deviation over seeds where there are several."""
    runs = [read_json(path, "run") for path in sorted((out / "runs").glob("*.json"))]
    print("| part | candidate | seed | steps |", " | ".join((*COLUMNS, "step_s")), "|")
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
    return [[r[c] for r in group] for c in COLUMNS]


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
