"""`quality.html`: what a data set looks like and what was found, on one self-contained page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syndiff import __version__
from syndiff.io.atomic import write_text
from syndiff.page.html import filled
from syndiff.page.pictures import grey_png
from syndiff.quality.examine import Examined, examined
from syndiff.quality.findings import SPOILS, Finding, findings, histogram_outliers
from syndiff.quality.pairs import MOST_PICTURES, pictures
from syndiff.quality.seen import BINS, Seen
from syndiff.reporting import SILENT, Reporter

MOST_SCANS = 48  # shown as pictures, of each modality
WIDE, HIGH = 360, 150  # of a chart, in its own units


def examine(
    folder: Path, page: Path, modalities: Sequence[str] = (), report: Reporter = SILENT
) -> list[Finding]:
    """Look at a data set and write the page.

    Args:
        folder: a prepared folder, or a folder of raw scans.
        page: the HTML file to write.
        modalities: those to look for among raw scans.
        report: receives phases and progress.

    Returns:
        What was found; those that would spoil training first.

    Raises:
        UserError: the folder cannot be used, or the page cannot be written.
    """
    data = examined(Path(folder), modalities, report)
    found = findings(data)
    report.phase("drawing the page")
    write_text(Path(page), render(data, found))
    return found


def _coded(text: str) -> str:
    """A text whose names in backticks are shown as code; all else is escaped."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def render(data: Examined, found: Sequence[Finding]) -> str:
    """The page as HTML text."""
    return filled(
        "syndiff.quality",
        "quality.html.j2",
        {
            "number": lambda value, digits=2: "–" if value is None else f"{value:.{digits}f}",
            "coded": _coded,
        },
        folder=data.folder.name,
        prepared=data.manifest is not None,
        version=__version__,
        findings=found,
        spoils=sum(f.level == SPOILS for f in found),
        spoils_level=SPOILS,
        people=_people(data),
        geometry=[_geometry(m, data.of(m)) for m in data.modalities if data.of(m)],
        charts=[_chart(m, data.of(m)) for m in data.modalities if data.of(m)],
        wide=WIDE,
        high=HIGH,
        pairs=data.pairs,
        pictures=_pair_pictures(data),
        scans=[
            {
                "modality": m,
                "shown": [
                    {"name": s.subject, "png": grey_png(s.picture, _top(s))}
                    for s in data.of(m)[:MOST_SCANS]
                ],
                "count": len(data.of(m)),
            }
            for m in data.modalities
        ],
    )


def _pair_pictures(data: Examined) -> list[dict[str, Any]]:
    if data.manifest is None:
        return []
    return [{"pair": pair, **pictures(data.manifest, pair)} for pair in data.pairs[:MOST_PICTURES]]


def _top(scan: Seen) -> float:
    return float(np.quantile(np.nan_to_num(scan.picture), 0.998))


def _people(data: Examined) -> list[dict[str, Any]]:
    """One row per split and modality."""
    splits = list(dict.fromkeys(s.split for s in data.scans))
    rows = []
    for split in splits:
        for m in data.modalities:
            of = [s for s in data.scans if s.split == split and s.modality == m]
            rows.append(
                {
                    "split": split or "all",
                    "modality": m,
                    "people": len({s.person for s in of}),
                    "scans": len(of),
                    "slices": sum(s.count for s in of),
                }
            )
    return rows


def _geometry(modality: str, scans: Sequence[Seen]) -> dict[str, str]:
    """Orientation, voxel size and field of view of a modality's files, in words."""
    known = [s.geometry for s in scans if s.geometry]
    if not known:
        return {
            "modality": modality,
            "axes": "not known",
            "oblique": "–",
            "voxels": "–",
            "field": "–",
        }
    axes = Counter(g.axes for g in known)
    return {
        "modality": modality,
        "axes": ", ".join(f"{code} {count}" for code, count in axes.most_common()),
        "oblique": f"{max(g.oblique_deg for g in known):.0f}°",
        "voxels": _ranges([g.spacing_mm for g in known], 3),
        "field": _ranges([g.extent_mm for g in known], 0),
    }


def _ranges(values: Sequence[Sequence[float]], digits: int) -> str:
    """ "0.9 x 0.9 x 1–3": the range along each axis."""
    table = np.array(values)
    parts = []
    for column in table.T:
        low, high = (f"{v:.{digits}f}" for v in (column.min(), column.max()))
        if digits:
            low, high = (text.rstrip("0").rstrip(".") for text in (low, high))
        parts.append(low if low == high else f"{low}–{high}")
    return " × ".join(parts)


def _chart(modality: str, scans: Sequence[Seen]) -> dict[str, Any]:
    """The histograms of a modality as lines of an SVG; outliers are drawn last and named."""
    outliers = histogram_outliers(scans)
    table = np.array([s.histogram for s in scans])
    top = max(float(np.quantile(table.max(axis=1), 0.9)) * 1.15, 1e-6)
    x = np.arange(BINS) * WIDE / (BINS - 1)

    def points(histogram: Any) -> str:
        y = HIGH * (1 - np.minimum(histogram / top, 1))
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    return {
        "modality": modality,
        "lines": [points(s.histogram) for s in scans if s.name not in outliers],
        "outliers": [
            {"name": s.name, "points": points(s.histogram)} for s in scans if s.name in outliers
        ],
    }
