"""Work in a folder that goes on with the options that it was begun with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.io.atomic import read_json, write_json
from syndiff.io.locks import in_use


def same_options(path: Path, options: dict[str, Any], what: str) -> dict[str, Any]:
    """Continue the work in a folder only with the options that it was started with.

    Args:
        path: of the record in that folder.
        options: what is asked for now.
        what: the work, in words: "a demonstration".

    Returns:
        The record, with what was decided since.

    Raises:
        OptionError: the folder holds something else.
    """
    if path.exists():
        record = dict(read_json(path, "record"))
        before = {name: record.get(name) for name in options}
        if before != options:
            raise OptionError(
                f"{path.parent} holds {what} with {before}",
                f"{options}",
                "choose another folder or delete it",
            )
        return record
    if in_use(path.parent):
        raise OptionError(f"{path.parent} is not empty", "a new folder")
    write_json(path, options)
    return dict(options)
