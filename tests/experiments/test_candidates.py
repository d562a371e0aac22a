"""The candidates of the study of structure terms do what their docstrings say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from experiments.candidates import CANDIDATES, SCREENED, PerImage

from syndiff.objectives.base import Batch, Draw
from tests.helpers.pictures import picture
from tests.helpers.tiny import TINY

SETTINGS = replace(TINY, structure=0.0)
PER_IMAGE = [n for n in SCREENED if issubclass(CANDIDATES[n], PerImage)]


@pytest.mark.parametrize("name", [n for n in PER_IMAGE if n != "identity_start"])
def test_a_moved_image_costs_more_than_an_inverted_one(name: str) -> None:
    """What depends on the head's outline alone is compared with the same contrast."""
    candidate = CANDIDATES[name](SETTINGS)
    other = picture() if name == "foreground" else -picture()
    in_place = candidate.term(picture(), other)  # type: ignore[attr-defined]
    moved = candidate.term(picture(), other.roll(3, dims=-1))  # type: ignore[attr-defined]
    assert float(moved) > float(in_place) + 1e-3


@pytest.mark.parametrize("diffusive", [True, False])
@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_trains(name: str, diffusive: bool) -> None:
    if not diffusive and name in ("acquired", "acquired_mind"):
        pytest.skip("they need the diffusive module")
    torch.manual_seed(0)
    objective = CANDIDATES[name](SETTINGS)
    objective.diffusive = diffusive
    batch = Batch(torch.rand(1, 1, 32, 32) * 2 - 1, torch.rand(1, 1, 32, 32) * 2 - 1)
    draw = Draw(0, 1)
    fakes = objective.generate(batch, draw)
    terms = objective.discriminator_losses(batch, fakes.detached(), draw)
    assert all(torch.isfinite(t) for t in terms.values())
    terms = objective.generator_losses(batch, fakes, draw)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert any(key.startswith("bind") for key in terms) == (name not in ("none", "paper"))


def test_the_identity_start_fades() -> None:
    objective = CANDIDATES["identity_start"](SETTINGS)
    batch = Batch(picture(), -picture())
    fakes = objective.generate(batch, Draw(0, 0))
    with torch.no_grad():
        values = [objective.bind(batch, fakes, Draw(0, step)) for step in (0, 100, 200)]
    assert float(values[1]["bind_source"]) == pytest.approx(float(values[0]["bind_source"]) / 2)
    assert values[2] == {}
