"""Who gives slices of which side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from syndiff.training.slice_files import Slices
from syndiff.training.subjects import divide_people


def visits(*names: str) -> dict[str, Any]:
    """Subjects "p1_a", the visits a of the person p1."""
    return {n: (SimpleNamespace(subject=n, person=n.split("_")[0]),) for n in names}


def test_a_persons_visits_all_go_to_one_side() -> None:
    both = visits("p1_a", "p1_b", "p2_a", "p2_b")
    sources, targets = divide_people(both, both, shared=False)
    givers, takers = ({stack[0].person for stack in side} for side in (sources, targets))
    assert (givers, takers) == ({"p1"}, {"p2"})
    assert len(sources) == len(targets) == 2


def test_the_visits_of_a_person_count_once() -> None:
    volumes = tuple((np.zeros((2, 4, 4), np.float32),) for _ in range(3))
    slices = Slices(volumes, ("p1_a", "p1_b", "p2"), "T1", persons=("p1", "p1", "p2"))
    assert slices.people == 2
