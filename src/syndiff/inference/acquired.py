"""The acquired scans that a translator is given: their order, their grid, their tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import GeometryError, OptionError, VolumeError
from syndiff.inference.frames import head_part
from syndiff.preparation.intensity import IntensityScale, foreground_mask
from syndiff.preparation.labels import refuse_labels
from syndiff.preparation.values import field_doubts, understood

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume


@dataclass(frozen=True)
class Acquired:
    """A source volume and what its normalisation needs.

    Attributes:
        modality: as the translator calls it.
        volume: in acquired units.
        scale: its intensity rule.
        mask: (x, y, z) the tissue.
        head: (x, y, z) the tissue of its uppermost part, see `head_part`.
        mean: what intensities are divided by, taken over the head.
        notes: what its values were taken to mean, and what is doubtful, in words.
    """

    modality: str
    volume: Volume
    scale: IntensityScale
    mask: NDArray[np.bool_]
    head: NDArray[np.bool_]
    mean: float
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, modality: str, volume: Volume, intensity: Mapping[str, Any], frame_mm: float
    ) -> Acquired:
        """Measure a volume.

        Args:
            modality: as the translator calls it.
            volume: in acquired units.
            intensity: the modality's entry in `config.json`.
            frame_mm: the shorter side of the training's frames.

        Raises:
            VolumeError: it holds no tissue, is a mask or a label map, or holds values of another
                kind: see `values`.
        """
        scale = IntensityScale.from_dict(dict(intensity))
        if scale.unit != "HU":
            refuse_labels(volume.array, volume.name, "give the scan that it belongs to")
        try:
            values = understood(volume.array, scale.unit)
        except VolumeError as error:
            raise VolumeError(
                f"{volume.name}: {error.found}", error.expected, error.remedy
            ) from error
        volume = volume.like(values.array)
        mask = foreground_mask(volume.array, scale.unit)
        if not mask.any():
            raise VolumeError(f"{volume.name} holds nothing that looks like tissue")
        # Found again close to the head: the threshold of air depends on how much air there is.
        part = tuple(head_part(mask, volume.spacing_mm, frame_mm))
        found = foreground_mask(volume.array[part], scale.unit)
        head = np.zeros_like(mask)
        head[part] = found if found.any() else mask[part]
        mean = scale.reference_mean(volume.array, head)
        notes = (*values.notes, *field_doubts(volume.array, mask, scale.unit))
        return cls(modality, volume, scale, mask, head, mean, notes)

    def normal(self, chosen: NDArray[Any]) -> NDArray[np.float32]:
        """The chosen axial slices, normalised; (n, y, x)."""
        from syndiff.io.volume import to_slices

        return self.scale.normalise(to_slices(self.volume)[chosen], self.mean)


def in_order(
    sources: Sequence[str], volume: Volume, also: Mapping[str, Volume]
) -> dict[str, Volume]:
    """Source modality → volume, in the order of a translator's sources.

    Args:
        sources: its source modalities.
        volume: of the first one.
        also: modality → volume of the others.

    Raises:
        OptionError: one is missing, or the translator knows no such source.
        GeometryError: one lies on another grid than the first.
    """
    from syndiff.io.volume import same_grid

    first, *others = sources
    if set(others) != set(also):
        need = " and ".join([f"{first} as INPUT", *(f"--also {m}=PATH" for m in others)])
        given = " and ".join(also) or "nothing"
        raise OptionError(f"{given} besides INPUT for a translator of {'+'.join(sources)}", need)
    for modality in others:
        if not same_grid(volume, also[modality]):
            raise GeometryError(
                f"{also[modality].name} ({modality}) lies on another grid than {volume.name}",
                "all sources on one grid",
                f"register and resample it onto {volume.name} first",
            )
    return {first: volume} | {m: also[m] for m in others}
