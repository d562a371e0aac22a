"""Is a scan like those of a translator's training? Fingerprints of virtual heads, and error rates.

python -m experiments.fingerprints OUT measure [COHORT …]   fingerprints of cohorts, into OUT
python -m experiments.fingerprints OUT store      those of the training cohort → the demo's card
python -m experiments.fingerprints OUT judge      false alarms and misses of the demo's card

The training cohort is that of the shipped translator: `syndiff phantom raw --subjects 36
--modalities T1,T2 --seed 1000`, of which the first 32 are for training.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from syndiff.inference.likeness import Likeness, nearest
from syndiff.io.atomic import read_json, write_json
from syndiff.phantom.cohort import make_subject
from syndiff.phantom.signal import INDEX
from syndiff.preparation.fingerprint import NAMES, fingerprint
from syndiff.preparation.intensity import foreground_mask

MODALITIES = ("T1", "T2", "PD", "FLAIR", "CT")
CARD = Path(__file__).parents[1] / "src/syndiff/demo/T1_to_T2/config.json"
TRAINING = {"seed": 1000, "subjects": 32}
# Held-out heads: other seeds, voxel sizes, lesions and noise than the training's.
HELD_OUT: dict[str, dict[str, Any]] = {
    "4mm": {"seed": 2, "subjects": 50, "spacing_mm": 4.0},
    "2mm": {"seed": 0, "subjects": 10},
    "lesions": {"seed": 3, "subjects": 15, "spacing_mm": 4.0, "lesions": 20},
    "noise": {"seed": 4, "subjects": 15, "spacing_mm": 4.0, "noise": 0.04},
    "shading": {"seed": 5, "subjects": 15, "spacing_mm": 4.0, "bias": 0.4},
}


def cohort(
    subjects: int, seed: int, *, foreign: bool = True, **options: Any
) -> dict[str, list[list[float]]]:
    """Kind of scan → one fingerprint for each virtual person, as a T1 translator would see it.

    `foreign` adds what no scanner gives: stripped heads, labels, masks, CT in other units.
    """
    spacing = (float(options.get("spacing_mm", 2.0)),) * 3
    found: dict[str, list[list[float]]] = {}
    for index in range(1, subjects + 1):
        person = make_subject(index, MODALITIES, seed, **options)
        brain = np.isin(person.labels, [INDEX[t] for t in ("grey_matter", "white_matter", "csf")])
        scans = dict(person.scans)
        if foreign:
            scans |= {
                "T1, stripped": np.where(brain, person.scans["T1"], 0),
                "labels": person.labels.astype(np.float32),
                "mask": (person.labels > 0).astype(np.float32),
                "brain mask": brain.astype(np.float32),
            }
            scans["CT, raised to 0"] = scans["CT"] - scans["CT"].min()
        for kind, array in scans.items():
            unit = "HU" if kind == "CT" else "a.u."
            inside = foreground_mask(array, unit)
            found.setdefault(kind, []).append(fingerprint(array, inside, spacing, unit))
            if foreign and kind == "CT":  # given to an MR translator, it is judged as MR values
                row = fingerprint(array, foreground_mask(array, "a.u."), spacing, "a.u.")
                found.setdefault("CT as MR", []).append(row)
    return found


def main() -> None:
    out, what = Path(sys.argv[1]), sys.argv[2]
    path = out / "training.json"
    if what == "measure":
        for name in sys.argv[3:] or [*HELD_OUT, "training"]:
            options = HELD_OUT.get(name, {**TRAINING, "foreign": False})
            write_json(out / f"{name}.json", cohort(**options))
    elif what == "store":
        card, rows = read_json(CARD, "card"), read_json(path, "fingerprints")
        scans = {m: rows[m] for m in MODALITIES}
        card["fingerprints"] = {"names": list(NAMES), "scans": scans}
        CARD.write_text(written(card), "utf-8")
    else:
        judge(out)


def written(card: dict[str, Any]) -> str:
    """A card as JSON, each row of numbers on one line."""
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    return re.sub(r"\[\s+(-?[\d.][^\[\]{}\"]*?)\s+\]", _on_one_line, text)


def _on_one_line(rows: re.Match[str]) -> str:
    return f"[{' '.join(rows[1].split())}]"


def judge(out: Path) -> None:
    """Print how many of each kind are doubted, and what they are taken for."""
    known = Likeness.of_card(read_json(CARD, "card")["fingerprints"])
    for name in (n for n in HELD_OUT if (out / f"{n}.json").exists()):
        for kind, rows in read_json(out / f"{name}.json", "fingerprints").items():
            doubted = [not known["T1"].accepts(row) for row in rows]
            names = Counter(nearest(known, row) for row in rows)
            scores = [known["T1"].distance(row) for row in rows]
            print(
                f"{name:8} {kind:16} {sum(doubted):3}/{len(rows)} doubted, distance "
                f"{min(scores):.2f} to {max(scores):.2f}, limit {known['T1'].limit:.2f}, "
                f"nearest {dict(names)}"
            )


if __name__ == "__main__":
    main()
