"""Presets: complete, documented training configurations, never silent mixtures.

| preset    | what                                                                  |
|-----------|-----------------------------------------------------------------------|
| `default` | this package's recipe, for 256×256 on a GPU                           |
| `small`   | the same recipe, small networks, for two CPU cores and 64×64          |
| `paper`   | the values that the paper's text gives                                |
| `github`  | the values that the official README's command gives                   |

Where paper and official code differ, and why, is in docs/presets.md. These are SynDiff's; the
other methods have `paper`, `default` and `small`, made from what SynDiff's paper says of each
(`method_preset`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from syndiff.errors import OptionError
from syndiff.networks.ncsnpp import NCSNppSettings
from syndiff.networks.patchgan import PatchSettings
from syndiff.networks.resnet import ResNetSettings
from syndiff.networks.step_discriminator import StepDiscriminatorSettings
from syndiff.objectives.method import Method
from syndiff.objectives.methods import method_named
from syndiff.objectives.syndiff import SynDiffSettings
from syndiff.training.hyperparameters import changed, read_like
from syndiff.training.stored import check_ranges


@dataclass(frozen=True)
class TrainSettings:
    """How an objective is trained.

    Attributes:
        objective: the method's own settings.
        epochs: passes over the longer modality, unless `max_steps` is given.
        max_steps: batches to train for; 0 means by `epochs`.
        batch_size: slices of each modality per step.
        accumulate: number of parts in which a batch is processed, one after the other. It needs
            less memory and one more forward pass of the generators. The gradients are the same,
            except for minibatch deviation, which sees one part only.
        recompute: activation checkpointing: the generators' blocks run again in the backward pass.
            It needs less memory; the gradients are the same.
        generator_lr, discriminator_lr: Adam's learning rates.
        final_lr: learning rate at the end of the cosine decay of both; None keeps them constant.
        linear_decay_epochs: instead of the cosine, both fall linearly to 0 over so many last
            epochs; 0 is off.
        adam_betas: of both optimizers.
        ema_decay: of the generators' moving average; 0 switches it off.
        ema_warmup: the decay at step n is at most (1 + n) / (ema_warmup + n).
        pairing: "unpaired"; "paired" trains supervised on the subjects that have both modalities
            on one grid; "mixed" on these and on the others, in proportion to their slices.
        shared_subjects: every unpaired training subject serves both modalities, drawn
            independently; otherwise no person serves both.
        augment: mirror left and right and shift by a few pixels, at random.
        validate_every: steps between two validations.
        decay_minutes: the decay ends after so many minutes of training, if the steps do not end it
            sooner; 0: by steps alone. A run with it depends on the speed of its machine.
        pair_share: share of pairs among the samples of mixed training; 0: by their number.
        keep_checkpoints: the average of every validation is kept, not only the best ones.
        seed: seed of all random numbers.
    """

    objective: Any = field(default_factory=SynDiffSettings)
    epochs: int = 50
    max_steps: int = 0
    batch_size: int = 1
    accumulate: int = 1
    recompute: bool = False
    generator_lr: float = 1.6e-4
    discriminator_lr: float = 1e-4
    final_lr: float | None = 1e-5
    linear_decay_epochs: int = 0
    adam_betas: tuple[float, float] = (0.5, 0.9)
    ema_decay: float = 0.999
    ema_warmup: int = 10
    pairing: str = "unpaired"
    shared_subjects: bool = True
    augment: bool = True
    validate_every: int = 500
    decay_minutes: float = 0.0
    pair_share: float = 0.0
    keep_checkpoints: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["objective"], values["pairing"]  # judged by the method and by the data
        check_ranges(values | {"adam_betas": list(self.adam_betas)})


_FULL = SynDiffSettings()

_SMALL = SynDiffSettings(
    generator=NCSNppSettings(
        channels=32,
        multipliers=(1, 2, 2),
        blocks=1,
        attention_levels=(2,),
        time_dim=32,
        latent_dim=32,
        latent_embedding=64,
        latent_layers=3,
    ),
    one_shot=ResNetSettings(channels=24, blocks=3, upsampling="resize"),
    step_discriminator=StepDiscriminatorSettings(stem=24, widths=(32, 64, 96, 96), time_dim=64),
    patch_discriminator=PatchSettings(channels=48, halvings=2),
    # A strong one-shot cycle would hinder the change of contrast; the diffusive ℓ1 may be strong.
    cycle_one_shot=2.0,
    cycle_diffusive=5.0,
    structure=5.0,
    structure_radius_mm=2.0,
    detach_one_shot=True,
    one_shot_first=0.75,
    one_shot_frozen=True,
)

PRESETS: dict[str, TrainSettings] = {
    "default": TrainSettings(
        objective=replace(
            _FULL,
            one_shot=ResNetSettings(upsampling="resize"),
            structure=5.0,
            structure_radius_mm=2.0,
            detach_one_shot=True,
            one_shot_first=0.75,
            one_shot_frozen=True,
        ),
        batch_size=4,
    ),
    "small": TrainSettings(
        objective=_SMALL,
        epochs=100,
        batch_size=2,
        generator_lr=5e-4,
        discriminator_lr=1e-3,  # at 4e-4 the patch discriminators hardly exceeded chance
        final_lr=2e-5,
        ema_decay=0.998,
        validate_every=250,
    ),
    "paper": TrainSettings(
        objective=replace(
            _FULL,
            generator=NCSNppSettings(time_dim=32, latent_dim=256, latent_layers=3),
            gradient_penalty_interval=1,
        ),
        epochs=50,
        generator_lr=1e-4,
        discriminator_lr=1e-4,
        final_lr=None,
        ema_decay=0.0,
        augment=False,
    ),
    "github": TrainSettings(
        objective=_FULL,
        epochs=500,
        generator_lr=1.6e-4,
        discriminator_lr=1e-4,
        final_lr=1e-5,
        ema_warmup=0,
        augment=False,
    ),
}


def preset(name: str, method: str = "syndiff") -> TrainSettings:
    """The preset of that name for a method.

    Raises:
        OptionError: there is no such preset or method.
    """
    if name not in PRESETS:
        raise OptionError(f"the preset {name!r}", f"one of {', '.join(PRESETS)}")
    chosen = method_named(method)
    return PRESETS[name] if chosen.name == "syndiff" else method_preset(name, chosen)


def method_preset(name: str, method: Method) -> TrainSettings:
    """A preset of one of the competing methods.

    `paper` is what SynDiff's paper says of the method. `default` keeps the method's objective and
    rates, with the data and moving average of SynDiff's `default`. `small` also takes the networks
    and rates for two CPU cores. So runs of one preset differ in the method alone.

    Raises:
        OptionError: the preset is `github`, which only SynDiff has.
    """
    if name == "github":
        raise OptionError(f"the preset github with {method.name}", "paper, default or small")
    if name == "small":
        return replace(PRESETS["small"], objective=method.small)
    like = replace(PRESETS[name], final_lr=None, **method.training)
    return replace(like, objective=method.settings())


def choose(
    name: str,
    networks: str = "",
    *,
    method: str = "syndiff",
    assignments: Sequence[str] = (),
    base: TrainSettings | None = None,
    **changes: Any,
) -> TrainSettings:
    """A preset with some values changed; None leaves a value as it is.

    Args:
        name: of the preset.
        networks: "small" or "full" networks instead of the preset's; SynDiff only.
        method: name of the method.
        assignments: "NAME=VALUE" of the method's hyper-parameters, or of `TrainSettings`.
        base: what to change instead of the preset.
        changes: fields of `TrainSettings`, or of the method's hyper-parameters.

    Raises:
        OptionError: an unknown preset, method, network size or hyper-parameter.
    """
    settings = base or preset(name, method)
    objective = settings.objective
    if networks:
        objective = _resized(objective, networks, method)
    kept = {key: value for key, value in changes.items() if value is not None}
    of_training = {field.name for field in fields(TrainSettings)}
    of_objective = {key: kept.pop(key) for key in list(kept) if key not in of_training}
    of_method = method_named(method)
    for key, value in of_objective.items():
        objective = changed(objective, key, value, of_method)
    for assignment in assignments:
        key, mark, text = assignment.partition("=")
        if not mark:
            raise OptionError(f"`assignments` {assignment}", "NAME=VALUE")
        key = key.strip().replace("-", "_")
        if key in of_training - {"objective"}:
            kept[key] = assigned(settings, key, text.strip())
        else:
            objective = changed(objective, key, text.strip(), of_method)
    return replace(settings, objective=objective, **kept)


def assigned(settings: TrainSettings, name: str, value: Any) -> Any:
    """A value for a field of the settings, from text or from plain data.

    Raises:
        OptionError: it does not fit.
    """
    present = getattr(settings, name)
    if name == "final_lr":
        if value is None or str(value).lower() in ("none", "null"):
            return None
        present = 0.0
    try:
        return read_like(present, value)
    except (ValueError, TypeError) as error:
        raise OptionError(f"`{name}` {value}", f"such as {present}") from error


def _resized(objective: Any, networks: str, method: str) -> Any:
    """The objective with networks of another size, and the same one-shot up-sampling."""
    sizes = {"small": _SMALL, "full": _FULL}
    if networks not in sizes:
        raise OptionError(f"`networks` {networks}", "small or full")
    if method != "syndiff":
        raise OptionError(f"`networks` with {method}", "`preset` small, or `assignments`")
    size = sizes[networks]
    return replace(
        objective,
        generator=size.generator,
        one_shot=replace(size.one_shot, upsampling=objective.one_shot.upsampling),
        step_discriminator=size.step_discriminator,
        patch_discriminator=size.patch_discriminator,
    )
