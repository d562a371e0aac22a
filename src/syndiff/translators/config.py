"""What a translator's config.json may hold: one model per kind, checked before anything is built.

A configuration may come from an untrusted source. This module limits its numbers to ranges.
`weights.py` compares the size of the network with the weights.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from syndiff.errors import ModelError
from syndiff.io.checked import Checked, Count, ModalityName, Notes, Sha256, Text, checked
from syndiff.networks.denoisers import DENOISERS
from syndiff.preparation.manifest_model import Accelerated, Intensity, Quantiles, Size, SpacingMm
from syndiff.preparation.orientation import CODES

MOST_SOURCES = 16
MOST_LEVELS = 10  # each halves the image
LONGEST_CHAIN = 100_000  # steps
FIELD_MM = (4.0, 4000.0)  # the side of a slice: from a mouse's head to more than a person

Width = Annotated[int, Field(ge=1, le=4096)]
Depth = Annotated[int, Field(ge=1, le=64)]
Channels = Annotated[int, Field(ge=1, le=MOST_SOURCES + 1)]
Steps = Annotated[int, Field(ge=1, le=LONGEST_CHAIN)]
Multipliers = Annotated[
    list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=MOST_LEVELS)
]
Levels = Annotated[
    list[Annotated[int, Field(ge=0, lt=MOST_LEVELS)]], Field(max_length=MOST_LEVELS)
]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Beta = Annotated[float, Field(ge=0, le=1000)]
Upsampling = Literal["transposed", "resize"]


class NCSNppArguments(Checked):
    """See `networks.ncsnpp.NCSNpp`."""

    in_channels: Channels = 2
    out_channels: Channels = 1
    channels: Width = 64
    multipliers: Multipliers = Field(default=[1, 1, 2, 2, 4, 4])
    blocks: Depth = 2
    attention_levels: Levels = Field(default=[4])
    time_dim: Annotated[int, Field(ge=2, le=4096)] = 64
    latent_dim: Width = 100
    latent_embedding: Width = 256
    latent_layers: Depth = 4
    dropout: Dropout = 0.0


class NamedDenoiser(BaseModel):
    """Another denoiser of `networks.denoisers`: its name and the fields of its settings."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    name: Text
    in_channels: Channels

    @model_validator(mode="after")
    def _known(self) -> NamedDenoiser:
        if self.name not in DENOISERS:
            raise ValueError(f"one of {', '.join(DENOISERS)}")
        known = {field.name for field in fields(DENOISERS[self.name].settings)}
        for key, value in (self.model_extra or {}).items():
            parts = value if isinstance(value, list) else [value]
            numbers = [part for part in parts if not isinstance(part, str)]
            small = all(isinstance(n, int | float) and 0 <= n <= 4096 for n in numbers)
            if key not in known or len(parts) > MOST_LEVELS or not small:
                raise ValueError(f"{key}: a number or a few of the network's settings")
        return self


def _denoiser(network: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate a denoiser by its name, if it has one, else as NCSN++."""
    if isinstance(network, dict) and "name" in network:
        return NamedDenoiser.model_validate(network)
    return handler(network)


class UNetArguments(Checked):
    """See `networks.unet.UNet`."""

    in_channels: Channels = 2
    out_channels: Channels = 2
    channels: Width = 128
    multipliers: Multipliers = Field(default=[1, 1, 2, 2, 4, 4])
    blocks: Depth = 2
    attention_levels: Levels = Field(default=[4, 5])
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    dropout: Dropout = 0.0


class Generator(Checked):
    """Arguments that the one-shot generators share."""

    in_channels: Channels = 1
    out_channels: Channels = 1
    channels: Width = 64


class ResNetArguments(Generator):
    """See `networks.resnet.ResNetGenerator`."""

    name: Literal["resnet"]
    blocks: Depth = 6
    upsampling: Upsampling = "transposed"
    attention: Annotated[int, Field(ge=0, le=64)] = 0


class AttentionUNetArguments(Generator):
    """See `networks.attention_unet.AttentionUNet`."""

    name: Literal["attention_unet"]
    levels: Annotated[int, Field(ge=1, le=MOST_LEVELS)] = 5
    finest_gate: bool = True


class SharedLatentArguments(Generator):
    """See `networks.shared_latent.SharedLatentGenerator.build`."""

    name: Literal["shared_latent"]
    blocks: Depth = 4
    upsampling: Upsampling = "transposed"


class ContextUNetArguments(Checked):
    """See `networks.context_unet.ContextUNet`."""

    name: Literal["context_unet"]
    in_channels: Channels = 1
    out_channels: Channels = 1
    widths: Annotated[list[Width], Field(min_length=1, max_length=MOST_LEVELS)]
    folded: bool = False


OneShotArguments = Annotated[
    ResNetArguments | AttentionUNetArguments | SharedLatentArguments | ContextUNetArguments,
    Field(discriminator="name"),
]


class EncoderArguments(Checked):
    """See `networks.content_style.ContentEncoder`."""

    in_channels: Channels = 1
    channels: Width = 64
    blocks: Depth = 4


class DecoderArguments(Checked):
    """See `networks.content_style.StyleDecoder`."""

    out_channels: Channels = 1
    channels: Width = 64
    blocks: Depth = 4
    style_dim: Width = 8
    hidden: Width = 256


class StyleArguments(Checked):
    """The two networks of MUNIT's translator."""

    encoder: EncoderArguments
    decoder: DecoderArguments


class ScheduleArguments(Checked):
    """See `diffusion.large_steps.Schedule`."""

    steps: Steps = 4
    beta_min: Beta = 0.1
    beta_max: Annotated[float, Field(gt=0, le=1000)] = 20.0


class DiffusionArguments(Checked):
    """See `diffusion.small_steps.GaussianDiffusion`."""

    T: Steps = 1000


class Fingerprints(Checked):
    """Numbers of the training scans, see `syndiff.preparation.fingerprint`."""

    names: Annotated[list[Text], Field(min_length=1, max_length=64)]
    scans: dict[ModalityName, list[Annotated[list[float], Field(max_length=64)]]]
    of_any_scanner: bool = False  # so varied that a scan's own contrast tells more of its modality

    @model_validator(mode="after")
    def _as_many_numbers_as_names(self) -> Fingerprints:
        if any(len(row) != len(self.names) for rows in self.scans.values() for row in rows):
            raise ValueError(f"a fingerprint without {len(self.names)} numbers")
        return self


class Imported(Checked):
    """Origin of a translator that was imported from a checkpoint of the official code."""

    sha256: Sha256
    official_options: Notes
    notes: list[Text] = Field(default_factory=list)


class Card(Checked):
    """What a person should know before using a translator, in words."""

    trained_on: Text
    measured: list[Text]
    not_for: list[Text]
    licence: Text
    cite: list[Text]


class Config(Checked):
    """Fields that the configurations of all kinds share."""

    format: Literal[1]
    kind: str
    sources: Annotated[list[ModalityName], Field(max_length=MOST_SOURCES)]
    target: ModalityName
    spacing_mm: SpacingMm
    size: Size
    intensity: dict[ModalityName, Intensity]

    syndiff_version: Text = ""
    axes: Text = ""
    slice_orientation: Literal[CODES] = "AR"  # type: ignore[valid-type]
    tissue_quantiles: dict[ModalityName, list[Quantiles]] = Field(default_factory=dict)
    accelerate: dict[ModalityName, Accelerated] = Field(default_factory=dict)
    fingerprints: Fingerprints | None = None
    method: Text = ""
    training: Notes = Field(default_factory=dict)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    imported: Imported | None = None
    card: Card | None = None

    @model_validator(mode="after")
    def _belong_together(self) -> Config:
        used = [*self.sources, self.target]
        if len(set(used)) != len(used):
            raise ValueError("sources and a target that differ")
        if not set(used) <= set(self.intensity):
            raise ValueError("an intensity for each source and the target")
        if any(not FIELD_MM[0] <= n * self.spacing_mm <= FIELD_MM[1] for n in self.size):
            low, high = FIELD_MM
            raise ValueError(f"a size that with this spacing_mm makes {low:g} to {high:g} mm")
        return self

    def _takes(self, channels: int, beside: int) -> None:
        """Refuse a network whose input is not the sources and `beside` further channels."""
        if channels != len(self.sources) + beside:
            raise ValueError(f"in_channels {len(self.sources) + beside} for its sources")


class AdversarialDiffusion(Config):
    """A translator of SynDiff."""

    kind: Literal["adversarial_diffusion"]
    network: Annotated[NCSNppArguments, WrapValidator(_denoiser)]
    schedule: ScheduleArguments
    respaceable: bool = False

    @model_validator(mode="after")
    def _fits(self) -> AdversarialDiffusion:
        self._takes(self.network.in_channels, beside=1)
        return self


class GaussianDiffusion(Config):
    """A translator of DDPM."""

    kind: Literal["gaussian_diffusion"]
    network: UNetArguments
    diffusion: DiffusionArguments

    @model_validator(mode="after")
    def _fits(self) -> GaussianDiffusion:
        self._takes(self.network.in_channels, beside=1)
        return self


class ParallelDiffusion(Config):
    """A translator of UNIT-DDPM."""

    kind: Literal["parallel_diffusion"]
    network: UNetArguments
    diffusion: DiffusionArguments
    release_time: Steps

    @model_validator(mode="after")
    def _fits(self) -> ParallelDiffusion:
        self._takes(self.network.in_channels, beside=1)
        return self


class OneShot(Config):
    """A translator of one pass: of cGAN, AttGAN, SAGAN or UNIT."""

    kind: Literal["one_shot"]
    network: OneShotArguments

    @model_validator(mode="after")
    def _fits(self) -> OneShot:
        self._takes(self.network.in_channels, beside=0)
        return self


class Style(Config):
    """A translator of MUNIT."""

    kind: Literal["style"]
    network: StyleArguments

    @model_validator(mode="after")
    def _fits(self) -> Style:
        self._takes(self.network.encoder.in_channels, beside=0)
        return self


Symbol = Literal["batch", "height", "width"]
Side = Annotated[int, Field(ge=1, le=4096)] | Symbol
Shape = Annotated[list[Side], Field(max_length=6)]


class Export(Checked):
    """How an exported program is to be called, see `syndiff.export`."""

    part: Literal["chain", "step"]
    inputs: Annotated[dict[Text, Shape], Field(max_length=16)]
    draws: Annotated[dict[Text, Shape], Field(max_length=16)]
    steps: Annotated[int, Field(ge=0, le=LONGEST_CHAIN)]
    size_multiple: Annotated[int, Field(ge=1, le=1024)]
    stochastic: bool
    parameters: Count
    from_kind: Text
    from_weights_sha256: Sha256
    versions: Notes = Field(default_factory=dict)


MODELS: dict[str, type[Config]] = {
    "adversarial_diffusion": AdversarialDiffusion,
    "gaussian_diffusion": GaussianDiffusion,
    "one_shot": OneShot,
    "parallel_diffusion": ParallelDiffusion,
    "style": Style,
}
EXPORTED = ("onnx", "torch_program")


def checked_config(content: Any, path: Path, remedy: str) -> None:
    """Refuse a configuration that does not describe a translator of a known kind.

    Args:
        content: plain JSON values of config.json.
        path: of the file, for the message.
        remedy: what the user can do, for the message.

    Raises:
        ModelError: names the first field that is not valid.
    """
    kind = content.get("kind")
    if kind in EXPORTED:  # the configuration of what was exported, and how to call it
        checked(Export, content.get("export"), f"{path}, export", remedy, ModelError)
        original = content["export"]["from_kind"]
        content = {k: v for k, v in content.items() if k != "export"} | {"kind": original}
        kind = original
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join((*MODELS, *EXPORTED))
        found = "there is no kind" if kind is None else f"kind is {str(kind)[:60]!r}"
        raise ModelError(f"{path}: {found}", f"one of {known}", remedy)
    checked(model, content, path, remedy, ModelError)
