"""Whether discriminators and generators learn from each other, in a word.

A discriminator at chance tells the generators nothing; one that is always right leaves them little
to follow. The limits are rules of thumb: at 98 % of chance SynDiff's discriminators taught nothing
(docs/experiments.md); a tenth of chance means 93 % certainty for either kind of image.
"""

from __future__ import annotations

from collections.abc import Mapping

LOST, AHEAD = 0.97, 0.10  # parts of the loss at chance
BALANCED = "in balance"


def balance(losses: Mapping[str, float], at_chance: Mapping[str, float]) -> dict[str, float]:
    """Each discriminator's loss as a part of its loss at chance.

    Args:
        losses: means by "discriminators/TERM", weights included.
        at_chance: TERM → the same at chance (`Objective.at_chance`).
    """
    found = {term: losses.get(f"discriminators/{term}") for term in at_chance}
    return {
        term: value / at_chance[term]
        for term, value in found.items()
        if value is not None and at_chance[term] > 0
    }


def in_words(parts: Mapping[str, float]) -> str:
    """A word for the log; empty where a method has no discriminators."""
    if not parts:
        return ""
    lost = [term for term, part in parts.items() if part > LOST]
    ahead = [term for term, part in parts.items() if part < AHEAD]
    said = []
    if lost:
        said.append(f"D at chance: {', '.join(lost)}")
    if ahead:
        said.append(f"D far ahead of G: {', '.join(ahead)}")
    return "; ".join(said) or f"D and G {BALANCED}"
