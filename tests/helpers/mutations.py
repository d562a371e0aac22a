"""Damage: JSON texts that are near a sound one, and bytes that are."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

NUMBERS = [0, -1, 1, 2**31, 2**63, -(2**70), 1e308, -0.5, 1e-300]
TEXTS = ["", "..", "../x", "/etc/passwd", "\x00", "T1", "é" * 300, "\u202e"]
OTHERS = [None, True, False, [], {}, [[]], [0, 0], [-1, -1], {"a": 1}]
ODD = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value."""
    found = [path] if path else []
    keys = list(content) if isinstance(content, dict) else []
    keys = list(range(min(len(content), 3))) if isinstance(content, list) else keys
    for key in keys:
        found += places(content[key], (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn, content: Any) -> str:
    """JSON near `content`: one to three values odd, gone, doubled or renamed; or cut short."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(content) or [("new",)]))
        part = content
        try:
            for key in path[:-1]:
                part = part[key]
            way = draw(st.sampled_from(["odd", "gone", "renamed", "several"]))
            if way == "odd":
                part[path[-1]] = deepcopy(draw(ODD))  # a later change may go into it
            elif way == "several":
                part[path[-1]] = [
                    deepcopy(part[path[-1]]) for _ in range(draw(st.integers(0, 40)))
                ]
            elif way == "gone":
                del part[path[-1]]
            else:
                part[f"{path[-1]}_"] = part.pop(path[-1])
        except (TypeError, KeyError, IndexError):  # an earlier change has taken the place away
            continue
    text = json.dumps(content)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text
