"""The structure term on noisy virtual heads, where the truth without noise is known."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from syndiff import losses
from syndiff.phantom.fields import Grid
from syndiff.phantom.signal import INDEX, scan, signal_table, tissues_of
from syndiff.phantom.tissues import invent, view
from tests.helpers.methods import METHODS
from tests.helpers.pictures import picture
from tests.helpers.runs import run_of, settings
from tests.helpers.tiny import write_prepared

RADIUS_MM = 2.0
NOISE = 0.05  # of the brain's mean signal
PEOPLE = 2


@lru_cache(maxsize=2)
def heads(spacing_mm: float) -> dict[str, Tensor]:
    """T1 and T2 without noise, and the noise of either: (people, 1, h, w), images in [-1, 1]."""
    whole = view(spacing_mm)
    height = whole.origin_mm[2] + spacing_mm * (whole.shape[2] // 2)
    plane = Grid((*whole.origin_mm[:2], height), spacing_mm, (*whole.shape[:2], 1))
    found: dict[str, list[Tensor]] = {}
    for number in range(PEOPLE):
        rng = np.random.default_rng(number)
        person = invent(rng, plane, rng)
        weight = person.maps[..., INDEX["grey_matter"]] + person.maps[..., INDEX["white_matter"]]
        for name in ("T1", "T2"):
            image = scan(person.maps, person.textures, signal_table(name, tissues_of(rng)))
            image = image / ((image * weight).sum() / weight.sum())
            real, imaginary = NOISE * rng.standard_normal((2, *image.shape))
            noisy = np.hypot(image + real, imaginary)
            peak = np.percentile(noisy, 99.9) / 2
            for key, values in (
                (name, image / peak - 1),
                (f"{name} noise", (noisy - image) / peak),
            ):
                found.setdefault(key, []).append(torch.from_numpy(values[:, :, 0].T)[None].float())
    return {key: torch.stack(images).clamp(max=1) for key, images in found.items()}


def costs(spacing_mm: float, radius_mm: float) -> dict[str, float]:
    """What the term says of several images beside a noisy T1, by name; means over the people."""
    of = heads(spacing_mm)
    truth, own = of["T2"], of["T2 noise"]
    copied, shift = of["T1 noise"], {"shifts": 1, "dims": 3}
    images = {
        "truth": truth,
        "truth and its own noise": truth + own,
        "truth and T1's noise": truth + copied,
        "shifted": truth.roll(**shift),
        "shifted, with T1's noise": truth.roll(**shift) + copied,
        "another person": truth.roll(1, 0),
        "another person, with T1's noise": truth.roll(1, 0) + copied,
        "nothing but T1's noise": truth.mean().expand_as(truth) + copied,
    }
    source = (of["T1"] + copied).clamp(-1, 1)
    return {
        name: float(losses.structure(source, image.clamp(-1, 1), radius_mm, spacing_mm))
        for name, image in images.items()
    }


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
def test_the_right_anatomy_costs_least_and_a_shift_more_than_noise_saves(
    spacing_mm: float,
) -> None:
    found = costs(spacing_mm, RADIUS_MM)
    assert min(found, key=found.__getitem__) == "truth"
    assert found["truth and T1's noise"] > found["truth"]
    assert found["shifted, with T1's noise"] > found["shifted"]  # noise saves nothing anywhere
    for other in ("another person", "another person, with T1's noise", "nothing but T1's noise"):
        assert found[other] > found["shifted, with T1's noise"]


def test_noise_is_measured_and_anatomy_is_not() -> None:
    white = 0.1 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    # A quartile of n values of density f has the deviation sqrt(0.25 · 0.75 / n) / f.
    assert losses.noise_level(white).item() == pytest.approx(0.1, rel=0.05)
    assert losses.noise_level(heads(1.0)["T1"]).max() < 0.01
    assert losses.noise_level(torch.full((1, 1, 8, 8), -1.0)).item() == 0  # nothing but air


def test_with_a_radius_contrast_does_not_matter_and_place_does() -> None:
    values = [
        float(losses.structure(picture(), -picture(shift=s), RADIUS_MM, 1.0)) for s in (0, 1, 2)
    ]
    assert values[0] < 1e-6
    assert values == sorted(values)


def test_only_the_radius_in_pixels_counts() -> None:
    pair = picture(), -picture(shift=1)
    cost = float(losses.structure(*pair, 2.0, 1.0))
    assert float(losses.structure(*pair, 4.0, 2.0)) == cost
    assert float(losses.structure(*pair, 4.0, 1.0)) != cost


def test_the_gradient_pulls_back_and_is_finite_where_nothing_is() -> None:
    translation = (-picture(shift=1)).requires_grad_(True)
    losses.structure(picture(), translation, RADIUS_MM, 1.0).backward()
    assert translation.grad is not None
    assert translation.grad.isfinite().all()
    assert translation.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["syndiff", "ddpm", "unit_ddpm"])
def test_training_tells_the_pixel_size_to_every_method_that_has_the_term(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[tuple[float, float]] = set()
    ours = losses.structure

    def spy(image: Tensor, translation: Tensor, radius_mm: float, spacing_mm: float) -> Tensor:
        if image.device.type != "meta":  # where memory is estimated, sizes count and not mm
            asked.add((radius_mm, spacing_mm))
        return ours(image, translation, radius_mm, spacing_mm)

    monkeypatch.setattr(losses, "structure", spy)
    data = write_prepared(tmp_path / "data", {"train1": "T1 T2", "train2": "T1 T2"})
    objective = replace(METHODS[name][1], structure=1.0, structure_radius_mm=6.0)
    run_of(data, tmp_path / "run", settings=settings(objective=objective, max_steps=1))
    assert asked == {(6.0, 4.0)}  # the spacing of these data
