"""What a run's translators say of themselves and of the data, besides their networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syndiff.objectives.base import Objective
from syndiff.preparation.manifest import Manifest
from syndiff.training.presets import TrainSettings
from syndiff.translators import Translator

CARDS = "cards.json"  # what each translator of a run says of its data, by its name


class Cards:
    """Metadata of each direction's translator besides its network."""

    def __init__(
        self,
        manifest: Manifest,
        sources: Sequence[str],
        target: str,
        settings: TrainSettings,
        preset: str,
        data: Mapping[str, Any],
    ) -> None:
        self.manifest, self.settings, self.preset, self.data = manifest, settings, preset, data
        self.modalities = {"source": tuple(sources), "target": (target,)}

    def card(self, to: str, step: int) -> dict[str, Any]:
        """Metadata of the translator towards `to` ("source" or "target") after `step` steps."""
        m = self.manifest
        here = "target" if to == "source" else "source"
        used = (*self.modalities[here], *self.modalities[to])
        held = m.content.get("accelerate") or {}
        accelerated = {name: held[name] for name in used if name in held}
        return {
            **({"accelerate": accelerated} if accelerated else {}),
            "sources": list(self.modalities[here]),
            "target": self.modalities[to][0],
            "spacing_mm": m.spacing_mm,
            "size": list(m.size),
            "axes": "RAS+; slices (z, y, x), z ascending to superior",
            "intensity": {name: m.intensity[name].to_dict() for name in used},
            "tissue_quantiles": {
                name: [list(s.tissue_quantiles) for s in m.scans("train", name)] for name in used
            },
            "fingerprints": m.fingerprints() or None,
            "training": {
                "preset": self.preset,
                "steps": step,
                "batch_size": self.settings.batch_size,
                "seed": self.settings.seed,
                "pairing": self.settings.pairing,
                **self.data,
            },
        }

    def all(self, makes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of all directions, by their names, before the first step."""
        return {self.name(to): self.card(to, 0) for to in makes}

    def name(self, to: str) -> str:
        """What the translator towards "source" or "target" is called: "T1_to_T2"."""
        here = "target" if to == "source" else "source"
        ends = "+".join(self.modalities[here]), self.modalities[to][0]
        return "_to_".join(ends) if ends[0] else ends[1]

    def translators(self, objective: Objective, generators: Any, step: int) -> list[Translator]:
        """All translators of the objective, the requested direction first."""
        return [
            objective.translator(generators, to, self.card(to, step)) for to in objective.makes
        ]
