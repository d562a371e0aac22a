"""What training needs to know about a method. Each method's file ends with its entry, METHOD."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from syndiff.errors import OptionError
from syndiff.objectives.base import Objective

# Exceptions that layers raise when they are given invalid sizes.
IMPOSSIBLE = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One entry of the table of methods.

    Attributes:
        name: value of the argument `method`.
        title: name of the method in SynDiff's paper.
        paper: publication of the method.
        objective: class of the objective.
        settings: class of the hyper-parameters; the default values are the paper's.
        small: settings for two CPU cores and 64×64; None where the preset itself has them.
        training: fields of `TrainSettings` that SynDiff's paper gives for the method.
        stochastic: whether translations depend on a seed.
        several_sources: whether the method takes several source modalities.
        pairs: whether the method can train on pairs.
        unconditional: whether the method can train without a source.
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
        """The objective with newly initialised weights.

        Args:
            settings: hyper-parameters, an instance of the class `settings`.
            source_channels: number of source modalities.
            supervised: whether every sample is paired.

        Raises:
            OptionError: the method does not support several sources, no source or pairs; or the
                networks cannot be built with these sizes.
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
        if supervised and "supervised" in inspect.signature(self.objective).parameters:
            options["supervised"] = True  # others have a use for all that they build
        try:
            return self.objective(settings, **options)
        except IMPOSSIBLE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise OptionError(
                f"{self.name}'s networks cannot be built with these sizes ({reason})",
                remedy="leave out what was set, or choose sizes near the preset's",
            ) from error
