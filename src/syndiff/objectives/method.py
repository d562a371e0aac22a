"""What training needs to know of a method; each method's file ends with its own entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from syndiff.errors import OptionError
from syndiff.objectives.base import Objective

# What layers raise that are given sizes which no network has.
IMPOSSIBLE = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One line of the table of methods.

    Attributes:
        name: as the argument `method` has it.
        title: as SynDiff's paper writes it.
        paper: where it comes from.
        objective: the class.
        settings: its hyper-parameters' class; the default values are the paper's.
        small: settings for two CPU cores and 64×64; None where the preset itself has them.
        training: fields of `TrainSettings` that SynDiff's paper gives for it.
        stochastic: whether its translations depend on a seed.
        several_sources: whether it takes several source modalities.
        pairs: whether it can use pairs.
        unconditional: whether it can do without a source.
        renamed: earlier name of a hyper-parameter → its name now, dotted where it belongs to a
            network; read in old runs' settings and accepted from users.
        before: hyper-parameter → what it was in old runs, whose settings do not name it, where
            that is not the value it has now.
    """

    name: str
    title: str
    paper: str
    objective: type[Objective]
    settings: type[Any]
    stochastic: bool
    small: Any = None
    training: Mapping[str, Any] = field(default_factory=dict)
    several_sources: bool = True
    pairs: bool = False
    unconditional: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)

    def build(
        self, settings: Any, source_channels: int = 1, supervised: bool = False
    ) -> Objective:
        """The objective with freshly drawn weights.

        Raises:
            OptionError: it cannot take several sources or none, or pairs; or there is no network
                of such sizes.
        """
        if source_channels > 1 and not self.several_sources:
            raise OptionError(f"{source_channels} sources with {self.name}", "one")
        if not source_channels and not self.unconditional:
            raise OptionError(f"no source with {self.name}", "one")
        if supervised and not self.pairs:
            raise OptionError(f"pairs with {self.name}", "`pairing` unpaired")
        options: dict[str, Any] = (
            {"source_channels": source_channels} if source_channels != 1 else {}
        )
        if supervised:
            options["supervised"] = True
        try:
            return self.objective(settings, **options)
        except IMPOSSIBLE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise OptionError(
                f"{self.name}'s networks cannot be built with these sizes ({reason})",
                remedy="leave out what was set, or choose sizes near the preset's",
            ) from error
