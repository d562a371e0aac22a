"""SynDiff: unpaired translation by a cycle-consistent adversarial diffusion process.

Özbey, Dalmaz, Dar, Bedel, Özturk, Güngör, Çukur: Unsupervised Medical Image Translation with
Adversarial Diffusion Models, IEEE TMI 42(12), 2023.

Each modality m (the other one is o) has a one-shot pair (G_φ, D_φ) and a diffusive pair
(G_θ, D_θ). From an image x_0 of m, the one-shot generator guesses the image of o that was never
acquired. With that guess as condition, the diffusive generator learns to denoise x_t. After
training, the condition is an acquired image of o and only G_θ is needed.

    L_G = Σ_m  λ_2φ L_Gφ + λ_2θ L_Gθ + λ_1φ |x_0 - x̌_0|_1 + λ_1θ |x_0 - x̂_0|_1   (Eqs. 22, 23)
    L_D = Σ_m  λ_2φ L_Dφ + λ_2θ (L_Dθ + η |∇ D_θ|²)                               (Eqs. 12, 24)

| code                           | paper   | what                                                |
|--------------------------------|---------|-----------------------------------------------------|
| generators["one_shot_to_m"]    | G_φ^m   | o → m in one pass (Eq. 16)                          |
| generators["diffusive_m"]      | G_θ^m   | (x_t of m, condition of o, t, z) → x_0 (Eq. 19)     |
| discriminators["one_shot_m"]   | D_φ^m   | acquired m or G_φ^m's                               |
| discriminators["diffusive_m"]  | D_θ^m   | x_{t-k} of the data or of G_θ^m, given x_t and t    |
| guess                          | ỹ^o     | the other modality of this anatomy                  |
| round_trip                     | x̌_0^m   | guess translated back (Eq. 21)                      |
| denoised                       | x̂_0^m   | the diffusive estimate (Eq. 19)                     |
| x_prev, denoised_prev          | x_{t-k} | drawn from the data, drawn through G_θ (Eq. 20)     |

Extensions of the paper's discussion (Sec. VI). Several source modalities are channels of one
source image. A batch may hold pairs: G_θ is then conditioned on the acquired image of o instead of
the guess, and |guess - acquired o|_1 replaces the one-shot cycle; |x_0 - x̂_0|_1 thereby becomes a
pixel-wise loss. The variants of the paper's ablations (Sec. V-E) are settings, and unconditional
synthesis is training without a source: an image without channels. Networks and terms that a run
does not need are neither built nor computed:

| run                          | left out                                                         |
|------------------------------|------------------------------------------------------------------|
| several sources              | the diffusive pair towards the source: sources are not made      |
| every sample is one of pairs | the one-shot pairs: there is nothing to guess                    |
| no source                    | both of these                                                    |
| λ_2φ or λ_2θ is 0            | the discriminators of that module                                |
| λ_1φ is 0                    | the round trip                                                   |
| `diffusive` is false         | the diffusive pairs: the one-shot generators translate           |
| during `one_shot_first`      | whatever trains the diffusive module                             |
| after `one_shot_epochs`      | the losses of the one-shot module; G_φ still makes the guess     |

Departures. The discriminators are not given the source image as a condition, as in the official
code (the paper's notation suggests it for D_φ and then omits it). The gradient penalty may be
taken at every n-th step only. `spectral_norm` is the paper's own remedy for unstable training, off
by default. `detach_one_shot` cuts the gradient from the diffusive module to the one-shot module.
`structure` adds a term that the paper does not have; it is 0 in the presets `paper` and `github`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from syndiff import losses
from syndiff.diffusion.large_steps import Schedule
from syndiff.errors import OptionError
from syndiff.networks.compiled import uncompiled
from syndiff.networks.denoisers import (
    Denoiser,
    DenoiserSettings,
    build_denoiser,
    denoiser_arguments,
)
from syndiff.networks.ncsnpp import NCSNppSettings
from syndiff.networks.patchgan import PatchDiscriminator, PatchSettings
from syndiff.networks.resnet import ResNetSettings
from syndiff.networks.spectral import normalise_spectrally
from syndiff.networks.step_discriminator import StepDiscriminator, StepDiscriminatorSettings
from syndiff.objectives import old_names
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Fakes, Objective
from syndiff.objectives.method import Method
from syndiff.translators import AdversarialDiffusionTranslator, OneShotTranslator, Translator
from syndiff.translators.one_shot import generator, generator_arguments

LEAST = {
    "steps": 1, "gradient_penalty_interval": 1, "gradient_penalty": 0,
    "cycle_one_shot": 0, "cycle_diffusive": 0, "adversarial_one_shot": 0,
    "adversarial_diffusive": 0, "structure": 0, "structure_radius_mm": 0,
}  # fmt: skip


@dataclass(frozen=True)
class SynDiffSettings:
    """SynDiff's hyper-parameters; the values here are the `default` preset's.

    Attributes:
        steps: T/k, reverse steps of the diffusion process.
        beta_min, beta_max: bounds of the noise schedule (Eq. 10).
        cycle_one_shot, cycle_diffusive: λ_1φ and λ_1θ (Eq. 22).
        adversarial_one_shot, adversarial_diffusive: λ_2φ and λ_2θ (Eqs. 23, 24).
        gradient_penalty: η (Eq. 12).
        gradient_penalty_interval: steps between two penalties; 1 is the paper's.
        structure: weight of the structure term between an image and its one-shot translation.
        structure_radius_mm: its radius, see `losses.structure`; 0 is the term of earlier runs.
        diffusive: whether there is a diffusive module; otherwise the one-shot module translates.
        one_shot_epochs: n_ND, number of epochs after which the one-shot module is frozen; 0: from
            the start, negative: never.
        one_shot_first: share of the run in which the one-shot module is trained alone. Until then
            the translators are its generators; then rates and averages begin anew.
        one_shot_frozen: the one-shot module is frozen after its share (Table IX, in one run).
        detach_one_shot: the guess conditions G_θ as a constant. Otherwise λ_1θ trains G_φ as well,
            to keep x_0 readable in its guess, which hinders the change of contrast. The official
            code does not detach.
        generator: the diffusive generators' network, one of `networks.denoisers`.
        one_shot: the one-shot generators' network.
        step_discriminator: the diffusive discriminators' network.
        patch_discriminator: the one-shot discriminators' network.
        spectral_norm: spectral normalisation of all discriminators.

    Raises:
        OptionError: a setting is out of its range: a number of steps below 1, a negative weight
            or size, or not 0 <= beta_min < beta_max.
    """

    steps: int = 4
    beta_min: float = 0.1
    beta_max: float = 20.0
    cycle_one_shot: float = 0.5
    cycle_diffusive: float = 0.5
    adversarial_one_shot: float = 1.0
    adversarial_diffusive: float = 1.0
    gradient_penalty: float = 0.5
    gradient_penalty_interval: int = 10
    structure: float = 0.0
    structure_radius_mm: float = 0.0
    diffusive: bool = True
    one_shot_epochs: float = -1.0
    one_shot_first: float = 0.0
    one_shot_frozen: bool = False
    detach_one_shot: bool = False
    generator: DenoiserSettings = field(default_factory=NCSNppSettings)
    one_shot: ResNetSettings = field(default_factory=ResNetSettings)
    step_discriminator: StepDiscriminatorSettings = field(
        default_factory=StepDiscriminatorSettings
    )
    patch_discriminator: PatchSettings = field(default_factory=PatchSettings)
    spectral_norm: bool = False

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if not getattr(self, name) >= least:
                raise OptionError(f"{name}={getattr(self, name)}", f"{least} or more")
        if not 0 <= self.one_shot_first < 1:
            raise OptionError(f"one_shot_first={self.one_shot_first}", "a share from 0 to below 1")
        if not 0 <= self.beta_min < self.beta_max:  # NaN fails too
            raise OptionError(
                f"beta_min={self.beta_min} and beta_max={self.beta_max}",
                "0 or more, and the second one larger",
            )
        for network in filter(is_dataclass, vars(self).values()):
            for name, value in vars(network).items():
                sizes = value if isinstance(value, tuple) else (value,)
                if any(isinstance(size, int) and size < 0 for size in sizes):
                    raise OptionError(f"{name}={value}", "0 or more")

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of a diffusive generator with one source, as `config.json` keeps them."""
        return denoiser_arguments(self.generator, in_channels=2)

    @property
    def schedule(self) -> dict[str, Any]:
        return {"steps": self.steps, "beta_min": self.beta_min, "beta_max": self.beta_max}


class SynDiff(Objective):
    """The paper's algorithm: `generate` is Fig. 2, the losses are Eqs. 11, 12, 17, 18, 22.

    Args:
        settings: hyper-parameters.
        source_channels: number of source modalities; 0 for unconditional synthesis.
        supervised: every sample of every batch is paired.

    Attributes:
        diffuses: modalities that have a diffusive pair.

    Raises:
        OptionError: the settings leave a module without a loss.
    """

    phases = ("the one-shot module", "the diffusive module")

    def __init__(
        self, settings: SynDiffSettings, source_channels: int = 1, supervised: bool = False
    ) -> None:
        super().__init__()
        self.settings = s = settings
        self.channels = {"source": source_channels, "target": 1}
        self.supervised = supervised or not source_channels  # then there is nothing to guess
        self.makes = ("target", "source") if source_channels == 1 else ("target",)
        self.diffuses = self.makes if s.diffusive else ()
        self.first_phase = s.one_shot_first if self.diffuses and self.has_one_shot() else 0.0
        self._check_losses()
        self.schedule = Schedule(**s.schedule)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for m, _ in DIRECTIONS:
            if not self.supervised:
                self.generators[f"one_shot_to_{m}"] = generator(self._one_shot_network(m))
            if m in self.diffuses:
                self.generators[f"diffusive_{m}"] = build_denoiser(self._network(m))
            if s.adversarial_one_shot and self.has_one_shot():
                self.discriminators[f"one_shot_{m}"] = PatchDiscriminator(
                    self.channels[m], **asdict(s.patch_discriminator)
                )
            if s.adversarial_diffusive and m in self.diffuses:
                self.discriminators[f"diffusive_{m}"] = StepDiscriminator(
                    **asdict(s.step_discriminator)
                )
        if s.spectral_norm:
            normalise_spectrally(self.discriminators)

    def has_one_shot(self) -> bool:
        """Whether the one-shot module is trained at some step."""
        return not self.supervised and self.settings.one_shot_epochs != 0

    def one_shot_learns(self, step: int) -> bool:
        """Whether the one-shot module is trained at this step."""
        epochs = self.settings.one_shot_epochs
        ended = 0 <= epochs * self.steps_per_epoch <= step
        frozen = self.settings.one_shot_frozen and self.first_phase and self.in_last_phase(step)
        return self.has_one_shot() and not ended and not frozen

    def _diffuses_at(self, step: int) -> tuple[str, ...]:
        """The modalities whose diffusive pair is trained at this step."""
        return self.diffuses if self.in_last_phase(step) else ()

    def _check_losses(self) -> None:
        """Raise OptionError unless every module has a loss."""
        s, one_shot = self.settings, self.has_one_shot()
        if not self.diffuses and not one_shot:
            raise OptionError("diffusive=false", "a one-shot module that is trained, unpaired")
        if self.diffuses and not (s.cycle_diffusive or s.adversarial_diffusive):
            raise OptionError("no loss for the diffusive module", "a weight above 0")
        if one_shot and not (s.cycle_one_shot or s.adversarial_one_shot or s.structure):
            raise OptionError("no loss for the one-shot module", "a weight above 0")

    def _network(self, m: str) -> dict[str, Any]:
        """Arguments of G_θ^m: x_t and the other modality are its input channels."""
        in_channels = 1 + self.channels[dict(DIRECTIONS)[m]]
        return denoiser_arguments(self.settings.generator, in_channels)

    def _one_shot_network(self, m: str) -> dict[str, Any]:
        """Name and arguments of G_φ^m."""
        made_from = dict(DIRECTIONS)[m]
        return generator_arguments(
            self.settings.one_shot, self.channels[made_from], self.channels[m]
        )

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        fakes, learning = Fakes(), self.one_shot_learns(draw.step)
        diffuses = self._diffuses_at(draw.step)
        for m, o in DIRECTIONS:
            made: dict[str, Tensor] = {}
            condition = batch[o]  # the acquired image, where there are pairs
            if not self.supervised and (learning or m in diffuses):
                made = self._guess(m, o, batch, learning)
                guess = made["guess"].detach() if self.settings.detach_one_shot else made["guess"]
                condition = batch.acquired(o, otherwise=guess)
            if m in diffuses:
                made |= self._denoise(m, batch[m], condition, draw)
            for name, value in made.items():
                fakes[name][m] = value
        return fakes

    def _guess(self, m: str, o: str, batch: Batch, learning: bool) -> dict[str, Tensor]:
        """The one-shot module's images of modality o, and of m again."""
        G = self.generators
        with nullcontext() if learning else torch.no_grad():
            made = {"guess": G[f"one_shot_to_{o}"](batch[m])}  # Eq. 16
        if learning and self.settings.cycle_one_shot and not batch.paired.all():
            made["round_trip"] = G[f"one_shot_to_{m}"](made["guess"])  # Eq. 21
        return made

    def _denoise(self, m: str, x_0: Tensor, condition: Tensor, draw: Draw) -> dict[str, Tensor]:
        """One reverse step of the diffusive module, from an x_t of the data."""
        t = draw.integers(self.settings.steps, len(x_0))  # t ~ U{k, 2k, …, T}, Eq. 11
        x_prev, x_t = self.schedule.diffuse(  # Eqs. 8, 9
            x_0, t, draw.normal(*x_0.shape), draw.normal(*x_0.shape)
        )
        z = draw.normal(len(x_0), self.settings.generator.latent_dim)
        denoised = self.generators[f"diffusive_{m}"](x_t, condition, t, z)  # Eq. 19
        made = {"t": t, "x_prev": x_prev, "x_t": x_t, "denoised": denoised}
        if self.settings.adversarial_diffusive:
            made["denoised_prev"] = self.schedule.sample_posterior(  # Eqs. 15, 20
                denoised, x_t, t, draw.normal(*x_0.shape)
            )
        return made

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        learning, diffuses = self.one_shot_learns(draw.step), self._diffuses_at(draw.step)
        penalised = s.gradient_penalty > 0 and draw.step % s.gradient_penalty_interval == 0
        for m, o in DIRECTIONS:
            if f"diffusive_{m}" in D and m in diffuses:
                x_t, t = fakes["x_t"][m], fakes["t"][m]
                x_prev = fakes["x_prev"][m].requires_grad_(penalised)
                with losses.full_precision(x_prev, penalised):
                    network = D[f"diffusive_{m}"]
                    real = (uncompiled(network) if penalised else network)(x_prev, x_t, t)
                    if penalised:
                        weight = s.adversarial_diffusive * s.gradient_penalty
                        terms[f"penalty_{m}"] = weight * losses.gradient_penalty(real, x_prev)
                fake = D[f"diffusive_{m}"](fakes["denoised_prev"][m], x_t, t)
                terms[f"diffusive_{m}"] = (
                    s.adversarial_diffusive * losses.adversarial_discriminator(real, fake)
                )  # Eq. 12, the penalty included
            if f"one_shot_{m}" in D and learning:
                logits = D[f"one_shot_{m}"](batch[m]), D[f"one_shot_{m}"](fakes["guess"][o])
                terms[f"one_shot_{m}"] = s.adversarial_one_shot * losses.adversarial_discriminator(
                    *logits
                )  # Eq. 18
        return terms  # their sum is Eq. 24

    def at_chance(self) -> dict[str, float]:
        s = self.settings
        weights = {"diffusive": s.adversarial_diffusive, "one_shot": s.adversarial_one_shot}
        return {
            f"{kind}_{m}": weight * losses.SOFTPLUS_AT_CHANCE
            for kind, weight in weights.items()
            for m, _ in DIRECTIONS
            if f"{kind}_{m}" in self.discriminators
        }

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        learning, diffuses = self.one_shot_learns(draw.step), self._diffuses_at(draw.step)
        for m, o in DIRECTIONS:
            if f"diffusive_{m}" in D and m in diffuses:
                x_t, t = fakes["x_t"][m], fakes["t"][m]
                logits = D[f"diffusive_{m}"](fakes["denoised_prev"][m], x_t, t)
                terms[f"diffusive_{m}"] = s.adversarial_diffusive * losses.adversarial_generator(
                    logits
                )  # Eq. 11
            if f"one_shot_{o}" in D and learning:
                logits = D[f"one_shot_{o}"](fakes["guess"][m])
                terms[f"one_shot_{o}"] = s.adversarial_one_shot * losses.adversarial_generator(
                    logits
                )  # Eq. 17
            if s.cycle_one_shot and learning:
                terms |= self._one_shot_distances(batch, fakes, m, o)
            if s.cycle_diffusive and m in diffuses:
                terms[f"cycle_diffusive_{m}"] = s.cycle_diffusive * losses.cycle(
                    fakes["denoised"][m], batch[m]
                )  # Eq. 22; with an acquired condition this is a pixel-wise loss
            if s.structure and learning:
                terms[f"structure_{m}"] = s.structure * losses.structure(
                    *losses.by_channel(batch[m], fakes["guess"][m]),
                    s.structure_radius_mm,
                    self.spacing_mm,
                )
        return terms  # their sum is Eq. 23

    def _one_shot_distances(self, batch: Batch, fakes: Fakes, m: str, o: str) -> dict[str, Tensor]:
        """The one-shot cycle of the unpaired samples, the pixel-wise loss of the paired ones."""
        weight, paired, terms = self.settings.cycle_one_shot, batch.paired, {}
        if not paired.all():
            terms[f"cycle_one_shot_{m}"] = weight * losses.distance(
                fakes["round_trip"][m], batch[m], ~paired
            )  # Eq. 22
        if paired.any():
            terms[f"pixel_{o}"] = weight * losses.distance(
                fakes["guess"][m], batch[o], paired
            )  # Sec. VI
        return terms

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        card = {**card, "method": "syndiff", "settings": asdict(self.settings)}
        if not self.diffuses or not self.is_final(card.get("training", {}).get("steps", 0)):
            network = self._one_shot_network(to)
            return OneShotTranslator(generators[f"one_shot_to_{to}"], {**card, "network": network})
        of_diffusion = {
            "network": self._network(to),
            "schedule": self.settings.schedule,
            # By ℓ1 alone it estimates x_0 from any x_t, so that steps of other sizes are possible.
            "respaceable": not self.settings.adversarial_diffusive,
        }
        return AdversarialDiffusionTranslator(
            cast(Denoiser, generators[f"diffusive_{to}"]), self.schedule, {**card, **of_diffusion}
        )


METHOD = Method(
    name="syndiff",
    title="SynDiff",
    paper="Özbey et al., IEEE TMI 2023",
    objective=SynDiff,
    settings=SynDiffSettings,
    stochastic=True,
    pairs=True,
    unconditional=True,
    renamed=old_names.SYNDIFF,
)
