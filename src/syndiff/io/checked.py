"""Validation of JSON files by pydantic models; every file that is read counts as untrusted.

Each kind of JSON file has a model, which lies in the module that uses the file. The model states
types, ranges, names and sizes. Content that does not fit gives a one-line error. Keys that the
model does not know are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from syndiff.errors import UserError

LONGEST_TEXT = 4096
LONGEST_NAME = 255  # bytes of a file name on common file systems
DEEPEST, LARGEST = 12, 100_000  # nesting and number of values in `Notes`, which have no model


class Checked(BaseModel):
    """A strict model: it converts no types and refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=BaseModel)


def checked(
    model: type[Kind],
    content: Any,
    path: str | Path,
    remedy: str = "",
    error: type[UserError] = UserError,
) -> Kind:
    """Validate the content of a file against its model.

    Args:
        model: the pydantic model of the content.
        content: plain JSON values.
        path: the file's path, for the message.
        remedy: what the user should do if the content does not fit.
        error: the class of the error that is raised.

    Returns:
        The content as an instance of `model`.

    Raises:
        UserError: (or `error`) the content does not fit; the message names the first key that
            does not.
    """
    try:
        return model.model_validate(content)
    except ValidationError as problem:
        found, expected = in_words(problem)
        raise error(f"{path}: {found}", expected, remedy) from None
    except RecursionError:
        raise error(f"{path} is nested too deeply", "", remedy) from None


def in_words(problem: ValidationError) -> tuple[str, str]:
    """Describe the first validation error: what was found, and what was expected."""
    first, *others = problem.errors(include_url=False)
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "missing":
        return f"there is no {where}{more}", ""
    if first["type"] == "extra_forbidden":
        return f"the key {where} is unknown{more}", "only keys that this version writes"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    expected = re.sub(r"^Input should (be |have )?", "", message)
    expected = {"a finite number": "a number"}.get(expected, expected)
    value = repr(first["input"])
    value = value if len(value) <= 60 else value[:57] + "…"
    return (f"{where} is {value}{more}" if where else f"it holds {value}"), expected


def _plain_word(name: str) -> str:
    """Check that a name can be the name of a file or of a folder."""
    if not name or name != name.strip() or name in (".", "..") or not name.isprintable():
        raise ValueError("a name")
    if any(c in name for c in "/\\") or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise ValueError("a name without folders")
    return name


def _modality(name: str) -> str:
    if any(c in _plain_word(name) for c in " \t+") or name.startswith("."):
        raise ValueError("a plain word such as T1")
    return name


def _relative(path: str) -> str:
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError("a path inside the folder")
    return path


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a text in one line")
    return text


def _small(value: Any) -> Any:
    """Check that plain values are at most `LARGEST` in number and `DEEPEST` levels deep."""
    left = LARGEST

    def count(part: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if depth > DEEPEST or left < 0:
            raise ValueError(f"at most {LARGEST} values, nested at most {DEEPEST} deep")
        inner = part.values() if isinstance(part, Mapping) else part
        if isinstance(inner, str) or not hasattr(inner, "__iter__"):
            return
        for each in inner:
            count(each, depth + 1)

    count(value, 0)
    return value


Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_printable)]
FileName = Annotated[str, AfterValidator(_plain_word)]
ModalityName = Annotated[str, Field(max_length=64), AfterValidator(_modality)]
RelativePath = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_relative)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Notes = Annotated[dict[str, JsonValue], AfterValidator(_small)]  # stored and shown, never used
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


def inside(folder: Path, name: str, error: type[UserError] = UserError) -> Path:
    """The path of the file `name` in a folder.

    Raises:
        UserError: (or `error`) `name` or a symbolic link leads out of the folder, or the symbolic
            links form a circle.
    """
    path, home = folder / name, folder.resolve()
    try:
        within = path.resolve(strict=False).is_relative_to(home)
    except (OSError, RuntimeError, ValueError):  # a circle of links, or a NUL in the name
        within = False
    if not within:
        raise error(
            f"{path} leads out of its folder or nowhere",
            f"a file inside {folder}",
            "copy the file there instead of linking it",
        )
    return path
