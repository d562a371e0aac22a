"""The virtual cohorts of the studies, made and prepared once per study folder."""

from __future__ import annotations

from pathlib import Path

from syndiff.preparation.kspace import Acceleration
from syndiff.preparation.manifest import Manifest
from syndiff.preparation.recipe import prepare
from syndiff.reporting import SILENT, Reporter
from syndiff.studies.definitions import Cohort
from syndiff.studies.plan import Options, people_of

SPACING_MM = {"brain": 3.0, "pelvis": 4.0}  # of the scans, for slices of 64 pixels
TINY_SPACING_MM = {"brain": 7.0, "pelvis": 8.0}
SEED = 18  # of the people; the seeds of a study are those of the trainings


def prepared_cohort(
    cohort: Cohort, folder: Path, options: Options, report: Reporter = SILENT
) -> Manifest:
    """Make and prepare a cohort, or continue where that was interrupted.

    Args:
        cohort: which.
        folder: of all cohorts.
        options: sizes and numbers.
        report: told the phases.

    Returns:
        The manifest of folder/NAME.

    Raises:
        UserError: the folder cannot be written to, or holds something else.
    """
    people = people_of(options, cohort.people)
    raw = _scans(cohort, folder, options, sum(people.values()), report)
    report.phase(f"preparing {cohort.words}")
    return prepare(
        raw,
        folder / cohort.name,
        modalities=cohort.modalities,
        split=people,
        size=options.size,
        max_slices=options.max_slices or None,
        register=False,  # virtual scans of a person lie on one grid
        accelerate={m: Acceleration.parse(text) for m, text in cohort.accelerate.items()},
        report=report,
    )


def _scans(
    cohort: Cohort, folder: Path, options: Options, subjects: int, report: Reporter
) -> Path:
    """The cohort's scans; those of a pelvis serve two cohorts."""
    from syndiff.phantom.cohort import write_cohort
    from syndiff.phantom.pelvis import Settings, write_pelves

    spacing = (TINY_SPACING_MM if options.tiny else SPACING_MM)[cohort.anatomy]
    spacing *= 1.0 if options.tiny else min(1.0, 64 / options.size)
    report.phase(f"making {subjects} {cohort.words}")
    if cohort.anatomy == "pelvis":
        raw = folder / "raw_pelvis"
        settings = Settings(seed=SEED, spacing_mm=spacing)
        write_pelves(
            raw, subjects=subjects, modalities=cohort.modalities, settings=settings, report=report
        )
        return raw
    raw = folder / f"raw_{cohort.name}"
    write_cohort(
        raw,
        subjects=subjects,
        modalities=cohort.modalities,
        seed=SEED,
        spacing_mm=spacing,
        lesions=cohort.lesions,
        report=report,
    )
    return raw
