"""The page: files of this room and the images of a case, apart or in one file.

The images travel as gzipped NIfTI of 16 bits, which is half of float32 and exact for CT in whole
HU; other values are off by at most 1/131 070 of the image's range. Their headers hold the affine
and nothing else, so neither names nor paths leave their files.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from syndiff.errors import OptionError
from syndiff.io.outputs import check_outputs
from syndiff.io.volume import Volume, same_grid
from syndiff.view.case import Case

MARK = "SYNTHETIC, not for diagnosis"
STEPS = 65_534  # of a 16-bit integer, from -32 767 to 32 767
BEGINNING = "<!-- page of syndiff view -->"
STYLE, VIEWER, NIIVUE = "view.css", "view.js", "niivue.js"
SOURCES = {STYLE: STYLE, VIEWER: VIEWER, NIIVUE: "vendor/niivue.umd.js"}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".gz": "application/gzip",
}
# NiiVue keeps its letters and its light as data: and fetches them from there; nothing else loads.
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data: blob:; "
    "connect-src {connect}data: blob:; base-uri 'none'; form-action 'none'"
)


def check_page(path: Path, overwrite: bool) -> None:
    """Check that a page can be written, before any scan is read.

    Raises:
        OptionError: the name is not one of an HTML file, or it holds a file that is no such page.
        UserError: its folder cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"the page's name {path.name!r}", "a name ending in .html")
    check_outputs([path], overwrite=overwrite, ours=_is_page)


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return BEGINNING.encode() in file.read(64)


def site(case: Case) -> dict[str, tuple[str, bytes]]:
    """The page and what it loads: name → type and content; "" is the page itself."""
    found = {name: _typed(name, _source(name).encode()) for name in SOURCES}
    for name, volume in _volumes(case).items():
        found[name] = _typed(name, nifti_bytes(volume))
    page = _filled(
        case,
        policy=policy_of_site(),
        style=f'<link rel="stylesheet" href="{STYLE}">',
        scripts="\n".join(f'<script src="{name}"></script>' for name in (NIIVUE, VIEWER)),
        volumes="",
    )
    return found | {"": _typed("index.html", page.encode())}


def policy_of_site() -> str:
    """The content security policy of a served page: its own files, and nothing else."""
    return POLICY.format(script="'self'", style="'self'", connect="'self' ")


def exported(case: Case) -> str:
    """The page as one file that opens without a server and loads nothing."""
    style, niivue, viewer = (_source(name) for name in (STYLE, NIIVUE, VIEWER))
    volumes = [
        f'<script type="text/plain" id="{name}">{base64.b64encode(nifti_bytes(volume)).decode()}'
        "</script>"
        for name, volume in _volumes(case).items()
    ]
    allowed = " ".join(_hash(text) for text in (niivue, viewer))
    return _filled(
        case,
        policy=POLICY.format(script=allowed, style=_hash(style), connect=""),
        style=f"<style>{style}</style>",
        scripts=f"<script>{niivue}</script>\n<script>{viewer}</script>",
        volumes="\n".join(volumes),
    )


def nifti_bytes(volume: Volume) -> bytes:
    """A volume as gzipped NIfTI-1 of 16 bits, in RAS+ order, with its affine in mm."""
    values, slope, offset = quantised(volume.array)
    image = nib.Nifti1Image(values, volume.affine)
    image.set_sform(volume.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, offset)
    # nibabel would scale anew: the values are scaled already, so the raw bytes are written.
    header = image.header.copy()
    header["vox_offset"], header["magic"] = 352, b"n+1"
    raw = header.binaryblock + bytes(4) + values.tobytes(order="F")
    return gzip.compress(raw, compresslevel=6, mtime=0)


def quantised(array: NDArray[np.float32]) -> tuple[NDArray[np.int16], float, float]:
    """Values as 16-bit integers, with slope and offset: value = integer · slope + offset.

    Whole numbers that fit stay what they are.
    """
    low, high = float(array.min()), float(array.max())
    if low >= -STEPS // 2 and high <= STEPS // 2 and bool(np.all(array == np.rint(array))):
        return array.astype(np.int16), 1.0, 0.0
    # The header holds both as float32; the integers are made for what it will hold.
    slope = float(np.float32((high - low) / STEPS)) or 1.0
    offset = float(np.float32((high + low) / 2))
    scaled = np.rint((array.astype(np.float64) - offset) / slope)
    return np.clip(scaled, -STEPS // 2, STEPS // 2).astype(np.int16), slope, offset


def described(case: Case) -> dict[str, Any]:
    """What the page's program needs to know of a case, as plain values."""
    reference = case.images[0].volume
    images = [
        {
            "role": i.role,
            "title": i.title,
            "file": i.file,
            "unit": i.unit,
            "synthetic": i.synthetic,
            "volume": _image_name(k),
            "sameGrid": same_grid(i.volume, reference),
            "windows": [{"name": w.name, "low": w.low, "high": w.high} for w in i.windows],
        }
        for k, i in enumerate(case.images)
    ]
    overlays = [
        {
            "key": o.key,
            "title": o.title,
            "on": o.on,
            "unit": o.unit,
            "low": o.low,
            "high": o.high,
            "signed": o.signed,
            "note": o.note,
            "volume": _overlay_name(o.key),
        }
        for o in case.overlays
    ]
    return {
        "title": case.title, "images": images, "overlays": overlays, "notes": list(case.notes)
    }  # fmt: skip


def _volumes(case: Case) -> dict[str, Volume]:
    images = {_image_name(k): image.volume for k, image in enumerate(case.images)}
    return images | {_overlay_name(o.key): o.volume for o in case.overlays}


def _image_name(number: int) -> str:
    return f"image-{number}.nii.gz"


def _overlay_name(key: str) -> str:
    return f"map-{key}.nii.gz"


def _filled(case: Case, *, policy: str, style: str, scripts: str, volumes: str) -> str:
    # "<" inside the JSON could end its element, or begin a comment.
    told = json.dumps(described(case), ensure_ascii=False).replace("<", "\\u003c")
    parts = {
        "title": html.escape(case.title),
        "mark": MARK,
        "policy": policy,
        "style": style,
        "case": told,
        "volumes": volumes,
        "scripts": scripts,
    }
    return re.sub(r"@(\w+)@", lambda word: parts[word[1]], _source("view.html"))


def _source(name: str) -> str:
    room = files("syndiff.view")
    return room.joinpath(*SOURCES.get(name, name).split("/")).read_text(encoding="utf-8")


def _typed(name: str, content: bytes) -> tuple[str, bytes]:
    return TYPES[f".{name.rpartition('.')[2]}"], content


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
