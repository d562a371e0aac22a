"""Source scans of a translation: their order, and the measurements that normalise them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import GeometryError, OptionError, VolumeError
from syndiff.preparation.body import without_couch
from syndiff.preparation.head import upper_tissue
from syndiff.preparation.intensity import IntensityScale, foreground_mask
from syndiff.preparation.kspace import Acceleration
from syndiff.preparation.labels import refuse_labels
from syndiff.preparation.values import field_doubts, refuse_other_kind, understood

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume

HEAD_OF_FRAME = 0.7  # height of the part that places the frames, relative to a frame's side


@dataclass(frozen=True)
class Acquired:
    """A source volume and the measurements that normalise it.

    Attributes:
        modality: the translator's name of the modality.
        volume: the volume in acquired units (HU for CT).
        scale: the modality's intensity rule.
        mask: (x, y, z) the tissue.
        head: (x, y, z) the tissue by which frames are placed.
        mean: by which intensities are divided: over the head, see `preparation.head`.
        notes: sentences on how the values were interpreted and on what is doubtful.
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
        cls,
        modality: str,
        volume: Volume,
        intensity: Mapping[str, Any],
        frame_mm: float,
        acceleration: Acceleration | None = None,
    ) -> Acquired:
        """Measure a volume.

        Args:
            modality: the translator's name of the modality.
            volume: the volume in acquired units.
            intensity: the modality's entry in `config.json`.
            frame_mm: the shorter side of the training slices in mm.
            acceleration: how the volume is undersampled; None for one that is taken as it is.

        Raises:
            VolumeError: the volume holds no tissue, is a mask or a label map, or its values are
                not those of the modality, see `preparation.values`.
        """
        scale = IntensityScale.from_dict(dict(intensity))
        if scale.unit != "HU":
            refuse_labels(volume.array, volume.name, "give the scan that it belongs to")
        try:
            refuse_other_kind(volume.stored.modality, scale.unit)
            values = understood(volume.array, scale.unit)
        except VolumeError as error:
            raise VolumeError(
                f"{volume.name}: {error.found}", error.expected, error.remedy
            ) from error
        array, couch = values.array, ""
        if scale.unit == "HU":  # as `prepare` does it
            array, couch = without_couch(array, volume.spacing_mm)
        volume = volume.like(array)
        if acceleration is not None:
            from syndiff.io.volume import from_slices, to_slices

            volume = volume.like(from_slices(acceleration.undersampled(to_slices(volume))))
        mask = foreground_mask(volume.array, scale.unit)
        if not mask.any():
            raise VolumeError(f"{volume.name} holds nothing that looks like tissue")
        placed = HEAD_OF_FRAME * frame_mm
        head = upper_tissue(volume.array, mask, volume.spacing_mm, scale.unit, placed)
        # As `prepare` takes it (preparation/measure.py), whatever the size of the frames.
        bright = upper_tissue(volume.array, mask, volume.spacing_mm, scale.unit)
        mean = scale.reference_mean(volume.array, bright)
        notes = (
            *values.notes,
            *([couch] if couch else []),
            *field_doubts(volume.array, mask, scale.unit),
        )
        return cls(modality, volume, scale, mask, head, mean, notes)

    def normal(self, chosen: NDArray[Any]) -> NDArray[np.float32]:
        """The axial slices of the indices `chosen` (n,), normalised: (n, y, x)."""
        from syndiff.io.volume import to_slices

        return self.scale.normalise(to_slices(self.volume)[chosen], self.mean)


def in_order(
    sources: Sequence[str], volume: Volume, also: Mapping[str, Volume]
) -> dict[str, Volume]:
    """Source modality → volume, in the order of a translator's sources.

    Args:
        sources: the translator's source modalities.
        volume: the volume of the first source modality.
        also: modality → volume of the other source modalities.

    Raises:
        OptionError: a source modality is missing, or the translator does not have it.
        GeometryError: a volume lies on another grid than the first.
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
