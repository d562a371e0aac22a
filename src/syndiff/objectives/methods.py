"""The methods that can be trained, by name: SynDiff and the seven that its paper compares with.

To add one, write its objective (CONTRIBUTING.md says how) and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from syndiff.errors import OptionError
from syndiff.objectives import (
    attgan,
    cyclegan,
    ddpm,
    munit,
    sagan,
    syndiff,
    unit,
    unit_ddpm,
)
from syndiff.objectives.base import Objective


@dataclass(frozen=True)
class Method:
    """What training needs to know of a method.

    Attributes:
        name: as in `--method`.
        title: as SynDiff's paper writes it.
        paper: where it comes from.
        objective: the class.
        settings: its hyper-parameters' class; the default values are the paper's.
        small: settings for two CPU cores and 64×64.
        training: fields of `TrainSettings` that SynDiff's paper gives for it.
        stochastic: whether its translations depend on a seed.
        several_sources: whether it takes several source modalities.
        pairs: whether it can use pairs.
        unconditional: whether it can do without a source.
    """

    name: str
    title: str
    paper: str
    objective: type[Objective]
    settings: type[Any]
    small: Any
    training: Mapping[str, Any]
    stochastic: bool
    several_sources: bool = True
    pairs: bool = False
    unconditional: bool = False

    def build(
        self, settings: Any, source_channels: int = 1, supervised: bool = False
    ) -> Objective:
        """The objective with freshly drawn weights.

        Raises:
            OptionError: it cannot take several sources or none, or pairs.
        """
        if source_channels > 1 and not self.several_sources:
            raise OptionError(f"{source_channels} sources with {self.name}", "one")
        if not source_channels and not self.unconditional:
            raise OptionError(f"no source with {self.name}", "one")
        if supervised and not self.pairs:
            raise OptionError(f"pairs with {self.name}", "--pairing unpaired")
        options: dict[str, Any] = (
            {"source_channels": source_channels} if source_channels != 1 else {}
        )
        if supervised:
            options["supervised"] = True
        return self.objective(settings, **options)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "syndiff", "SynDiff", "Özbey et al., IEEE TMI 2023",
            syndiff.SynDiff, syndiff.SynDiffSettings, None, {}, True,
            pairs=True, unconditional=True,
        ),
        Method(
            "cyclegan", "cGAN", "Zhu et al., ICCV 2017; Dar et al., IEEE TMI 2019",
            cyclegan.CycleGAN, cyclegan.CycleGANSettings, cyclegan.SMALL, cyclegan.TRAINING, False,
        ),
        Method(
            "unit", "UNIT", "Liu et al., NeurIPS 2017",
            unit.UNIT, unit.UNITSettings, unit.SMALL, unit.TRAINING, False,
        ),
        Method(
            "munit", "MUNIT", "Huang et al., ECCV 2018",
            munit.MUNIT, munit.MUNITSettings, munit.SMALL, munit.TRAINING, True,
        ),
        Method(
            "attgan", "AttGAN", "Oktay et al., 2018",
            attgan.AttGAN, attgan.AttGANSettings, attgan.SMALL, attgan.TRAINING, False,
        ),
        Method(
            "sagan", "SAGAN", "Zhang et al., ICML 2019",
            sagan.SAGAN, sagan.SAGANSettings, sagan.SMALL, sagan.TRAINING, False,
        ),
        Method(
            "ddpm", "DDPM", "Nichol and Dhariwal, ICML 2021",
            ddpm.DDPM, ddpm.DDPMSettings, ddpm.SMALL, ddpm.TRAINING, True,
            several_sources=False,
        ),
        Method(
            "unit_ddpm", "UNIT-DDPM", "Sasaki et al., 2021",
            unit_ddpm.UnitDDPM, unit_ddpm.UnitDDPMSettings, unit_ddpm.SMALL, unit_ddpm.TRAINING,
            True, several_sources=False,
        ),
    )
}  # fmt: skip


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        OptionError: there is none.
    """
    if name not in METHODS:
        raise OptionError(f"the method {name!r}", f"one of {', '.join(METHODS)}")
    return METHODS[name]


def method_of(settings: Any) -> Method:
    """The method whose hyper-parameters these are."""
    return next(m for m in METHODS.values() if type(settings) is m.settings)
