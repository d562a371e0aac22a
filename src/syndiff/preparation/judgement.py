"""Checks that compare a subject with the cohort: scans that are not pairs, different anatomy.

Two aligned scans of one person share about as much information as the two scans of any other
person. Scans of two people, of a mirrored head, or with a wrong alignment share clearly less: 0.14
to 0.49 nats, compared with 0.83 to 0.89 nats for pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from syndiff.preparation.measure import judged_apart
from syndiff.preparation.slices import PROFILE_MM
from syndiff.preparation.source import Source
from syndiff.reporting import SILENT, Reporter

Records = Mapping[str, Mapping[str, Mapping[str, Any]]]  # subject → modality → record
LESS, SPREADS = 0.2, 4.0  # of the usual information, of its spread: no pair shares so much less
DEEPER_MM = 30.0  # more of the body below the top of the head than in the other modality
LARGER = 0.25  # relative difference of the areas of tissue


def judged(
    records: Mapping[str, dict[str, dict[str, Any]]], source: Source, report: Reporter = SILENT
) -> dict[str, dict[str, dict[str, Any]]]:
    """The records of the first pass, after each pair was compared with the cohort.

    A subject is measured again if the comparison separates other scans than its records do:
    records may come from an earlier preparation, with another cohort.

    Args:
        records: of the first pass, of all subjects.
        source: where subjects are measured again.
        report: receives the warnings: scans that are no pairs, and modalities that show different
            anatomy.
    """
    wrong, result = misfits(records), dict(records)
    for subject, of in records.items():
        if set(wrong.get(subject, {})) != set(judged_apart(of)):
            result[subject] = source.apart(subject, wrong.get(subject, {}))
    tell_unpaired(result, report)
    tell_profiles(result, report)
    return result


def misfits(records: Records) -> dict[str, dict[str, str]]:
    """Scans that share clearly less information with their reference than other subjects' scans.

    Args:
        records: of the first pass, of all subjects.

    Returns:
        subject → modality → reason why the scan is no pair with the subject's reference.
    """
    shared: dict[tuple[str, str], dict[str, float]] = {}
    for subject, of in records.items():
        for modality, record in of.items():
            onto, registration = record.get("registered_onto"), record.get("registration")
            own = "unpaired_because" in record and not record.get("judged_by_cohort")
            if onto is None or registration is None or own:
                continue
            information = registration["mutual_information_after"]
            if information is not None:
                shared.setdefault((onto, modality), {})[subject] = information
    found: dict[str, dict[str, str]] = {}
    for (onto, modality), of_subject in shared.items():
        values = np.sort(list(of_subject.values()))
        usual = float(values[len(values) // 2])  # the upper median: the larger one of two
        apart = np.sort(np.abs(values - usual))
        spread = 1.4826 * float(apart[(len(apart) - 1) // 2])  # the lower median: 0 for two
        least = usual - max(LESS * usual, SPREADS * spread)
        for subject, information in of_subject.items():
            if information < least:
                found.setdefault(subject, {})[modality] = (
                    f"{modality} shares {information:.2f} nats of information with {onto} where "
                    f"scans of other subjects share {usual:.2f}: another person, a mirrored scan "
                    "or a wrong registration?"
                )
    return found


def tell_unpaired(records: Records, report: Reporter = SILENT) -> None:
    """Warn of each scan that is no pair, with the reason."""
    for subject, of in records.items():
        for modality, record in of.items():
            if why := record.get("unpaired_because"):
                report.warn(
                    f"{subject}: {record['registered_onto']} and {modality} are not taken as a "
                    f"pair: {why}"
                )


def tell_profiles(records: Records, report: Reporter = SILENT) -> None:
    """Warn where the chosen slices of two modalities show different parts of the body."""
    profiles: dict[str, list[list[float]]] = {}
    for of in records.values():
        for modality, record in of.items():
            if profile := record.get("area_profile_mm2"):
                profiles.setdefault(modality, []).append(profile)
    usual = {m: _usual(several) for m, several in profiles.items()}
    for i, (a, one) in enumerate(usual.items()):
        for b, other in list(usual.items())[i + 1 :]:
            deep = {a: len(one) * PROFILE_MM, b: len(other) * PROFILE_MM}
            common = min(len(one), len(other))
            area = one[:common], other[:common]
            differ = float(np.abs(area[0] - area[1]).sum() / np.maximum(*area).sum())
            if abs(deep[a] - deep[b]) > DEEPER_MM:
                report.warn(
                    f"the slices of {a} reach {deep[a]:.0f} mm down from the top of the head, "
                    f"those of {b} {deep[b]:.0f} mm: the two show different anatomy; `max_slices` "
                    "keeps the uppermost ones"
                )
            elif differ > LARGER:
                report.warn(
                    f"the slices of {a} and {b} differ in their areas of tissue by {differ:.0%} "
                    "at the same depth below the top of the head: do they show the same anatomy?"
                )


def _usual(profiles: list[list[float]]) -> np.ndarray:
    """Median of the profiles that are at least as deep as the median depth, up to that depth."""
    depth = int(np.median([len(profile) for profile in profiles]))
    deep = [profile[:depth] for profile in profiles if len(profile) >= depth]
    return np.median(np.array(deep), axis=0)
