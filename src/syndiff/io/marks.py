"""The mark of synthetic images: how it is read again, and who refuses what carries it.

A synthetic file says what it is in three places: the header's `descrip`, a comment among the
header's extensions, and the side-car JSON beside it. One of them is enough, so that a copy, a
new name or a lost side-car hides nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syndiff.errors import VolumeError

if TYPE_CHECKING:  # the reader of volumes imports this module
    from syndiff.io.volume import Volume

SYNTHETIC_MARK = "SYNTHETIC image (syndiff), not for diagnosis"
MARK_BEGINNING = "SYNTHETIC image (syndiff)"


def sidecar(path: str | Path) -> Path:
    """The JSON beside a volume: scan.nii.gz → scan.json."""
    path = Path(path)
    stem = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
    return path.with_name(f"{stem}.json")


def synthetic_mark(header: Any, path: Path | None = None) -> str:
    """The words that mark a file as synthetic; empty for an acquired one.

    Args:
        header: nibabel's, None if there is none.
        path: of the file, for the side-car beside it.
    """
    for text in _texts(header):
        if text.startswith(MARK_BEGINNING):
            return text
    return SYNTHETIC_MARK if path is not None and says_synthetic(sidecar(path)) else ""


def says_synthetic(side: Path) -> bool:
    """Whether a side-car calls its image synthetic; False where it is absent or unreadable."""
    try:
        content = json.loads(side.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("synthetic") is True


def refuse_synthetic(volume: Volume, allowed: bool = False) -> None:
    """Refuse a synthetic volume where an acquired one is asked for.

    Args:
        volume: as it was read.
        allowed: the user's `allow_synthetic`.

    Raises:
        VolumeError: it carries a mark, and that was not allowed.
    """
    if volume.synthetic and not allowed:
        raise VolumeError(
            f"{volume.name} is a synthetic image (its mark: {volume.synthetic})",
            "an acquired scan",
            "`allow_synthetic` takes it nevertheless, and the records say so",
        )


def _texts(header: Any) -> list[str]:
    """What a header says in words: its description first, then its comments."""
    if header is None or "descrip" not in header:
        return []  # MGH files keep no description
    found = [bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("utf-8", "replace")]
    for extension in getattr(header, "extensions", ()):
        content = extension.get_content()
        if isinstance(content, bytes):
            found.append(content.rstrip(b"\0").decode("utf-8", "replace"))
        elif isinstance(content, str):
            found.append(content.rstrip("\0"))
    return [text.strip() for text in reversed(found)]  # the comment is not cut to 79 characters
