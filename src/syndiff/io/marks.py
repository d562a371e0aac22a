"""The mark of synthetic images: how it is read, and the check that refuses marked images.

A synthetic image carries its mark in three places: the header field `descrip`, a comment among the
header's extensions, and the side-car JSON beside the image. One of the three is enough, so an
image is still recognised after it was copied or renamed, or after its side-car was lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from syndiff.errors import UserError, VolumeError
from syndiff.io.atomic import read_json

if TYPE_CHECKING:  # avoids a circular import: the reader of volumes imports this module
    from syndiff.io.volume import Volume

SYNTHETIC_MARK = "SYNTHETIC image (syndiff), not for diagnosis"
MARK_BEGINNING = "SYNTHETIC image (syndiff)"


def sidecar(path: str | Path) -> Path:
    """The path of a volume's side-car JSON: scan.nii.gz → scan.json."""
    path = Path(path)
    stem = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
    return path.with_name(f"{stem}.json")


def synthetic_mark(header: Any, path: Path | None = None) -> str:
    """The text that marks an image file as synthetic; empty for an acquired image.

    Args:
        header: the image's nibabel header; None if there is none.
        path: the image file, beside which the side-car is looked for; None to skip the side-car.
    """
    for text in _texts(header):
        if text.startswith(MARK_BEGINNING):
            return text
    return SYNTHETIC_MARK if path is not None and says_synthetic(sidecar(path)) else ""


def says_synthetic(side: Path) -> bool:
    """Whether a side-car calls its image synthetic; False where it is absent or unreadable."""
    try:
        content = read_json(side, "side-car")
    except UserError:
        return False
    return isinstance(content, dict) and content.get("synthetic") is True


def refuse_synthetic(volume: Volume, allowed: bool = False) -> None:
    """Refuse a synthetic volume where an acquired one is asked for.

    Args:
        volume: the volume as it was read.
        allowed: the value of the option `allow_synthetic`.

    Raises:
        VolumeError: the volume carries the mark, and `allowed` is False.
    """
    if volume.synthetic and not allowed:
        raise VolumeError(
            f"{volume.name} is a synthetic image (its mark: {volume.synthetic})",
            "an acquired scan",
            "`allow_synthetic` takes it nevertheless, and the records say so",
        )


def _texts(header: Any) -> list[str]:
    """The texts of a header: its comments, the last one first, and then its description."""
    if header is None or "descrip" not in header:
        return []  # MGH headers have no description
    found = [bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("utf-8", "replace")]
    for extension in getattr(header, "extensions", ()):
        content = extension.get_content()
        if isinstance(content, bytes):
            found.append(content.rstrip(b"\0").decode("utf-8", "replace"))
        elif isinstance(content, str):
            found.append(content.rstrip("\0"))
    # Comments come before the description, which is cut to 79 characters.
    return [text.strip() for text in reversed(found)]
