"""An image and its side-car: written as one, so that neither ever speaks for another's values.

The side-car holds the image's SHA-256. A process that is killed leaves the old pair, the new pair,
or an image without its side-car, which nobody takes for a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from syndiff.errors import UserError
from syndiff.io.atomic import read_json, whole_file, write_json
from syndiff.io.digest import sha256_of
from syndiff.io.locks import clear_leftovers, one_at_a_time
from syndiff.io.marks import sidecar

IMAGE_HASH = "sha256"


def write_pair(image: Path, write: Callable[[Path], Any], record: Mapping[str, Any]) -> None:
    """Write an image and its side-car; two processes never mix theirs.

    Args:
        image: its name; the side-car has the same with .json.
        write: writes the image to the path that it is given.
        record: what the side-car says; the image's hash is added.

    Raises:
        UserError: a file cannot be written, or another process is writing it.
    """
    side = sidecar(image)
    with one_at_a_time(image):
        clear_leftovers(image.parent, (image.name, side.name))
        with whole_file(image) as temporary:
            write(temporary)
            content = {**record, IMAGE_HASH: sha256_of(temporary)}
            with suppress(FileNotFoundError):
                side.unlink()  # of the image that goes now
        write_json(side, content)


def record_of(image: Path) -> dict[str, Any] | None:
    """What the side-car of an image says; None unless it is this very image's."""
    if not image.is_file():
        return None
    try:
        record = read_json(sidecar(image), "side-car")
        belongs = isinstance(record, dict) and record.get(IMAGE_HASH) == sha256_of(image)
    except UserError:
        return None
    return record if belongs else None
