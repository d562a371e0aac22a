"""Candidates for a term that binds a one-shot translation to its source's anatomy.

Each is SynDiff with one more term for the generators; `structure.py` trains and compares them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff import losses
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Fakes
from syndiff.objectives.syndiff import SynDiff


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
        features = 4 * settings.one_shot.channels
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
        z = draw.normal(len(x), self.settings.generator.latent_dim)
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
    "paper_mind": Mind,  # and with the structure term
}
SCREENED = [
    n
    for n, c in CANDIDATES.items()
    if not n.startswith("paper") and c not in (Acquired, AcquiredMind)
]


def slopes(x: Tensor) -> Tensor:
    """(b, 2, h, w): central differences, each pixel's vector divided by its softened length."""
    dy, dx = torch.gradient(x, dim=(2, 3))
    g = torch.cat([dy, dx], 1)
    return g / (g.square().sum(1, keepdim=True) + 0.05**2).sqrt()


def edges(x: Tensor) -> Tensor:
    """(b, 1, h, w): softened gradient magnitude, mean 0 and variance 1."""
    smooth = F.avg_pool2d(F.pad(x, [1] * 4, mode="replicate"), 3, 1)
    dy, dx = torch.gradient(smooth, dim=(2, 3))
    e = (dy.square() + dx.square() + 1e-4).sqrt()
    e = e / (F.avg_pool2d(e, 7, 1, 3) + 0.02)
    e = e - e.mean((2, 3), keepdim=True)
    return e / (e.square().mean((2, 3), keepdim=True) + 1e-4).sqrt()
