"""THIRD_PARTY.md: the licences of everything that syndiff needs, from the packages' own metadata.

    .venv/bin/python .ci/licences.py > THIRD_PARTY.md

Read is what is installed in the environment that runs this script. The extra `dicom` is not part
of the tested environment; what is known of it stands in DICOM.
"""

from __future__ import annotations

import importlib.metadata as metadata
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

GROUPS = {"": "always", "node": "`node`", "export": "`export`", "docs": "`docs`", "dev": "`dev`"}
DICOM = """\
| pylibjpeg | MIT | `dicom` |
| pylibjpeg-libjpeg | **GPL-3.0** (JPEG, JPEG-LS) | `dicom` |
| pylibjpeg-openjpeg | MIT (JPEG 2000) | `dicom` |
| pylibjpeg-rle | MIT | `dicom` |"""
HEAD = """\
# Third-party licences

Made by `make licences` from the metadata of the installed packages, in the versions of
`constraints.txt`. syndiff itself is under Apache-2.0. "Needed" says which extra brings a package:
`always` is `pip install syndiff`, the others are `pip install 'syndiff[…]'`. CUDA builds of torch
bring NVIDIA's libraries, which have licences of their own.

The extra `dicom` brings one package under the GPL: whoever passes it on has to follow the GPL.
Without this extra uncompressed DICOM is read, and nothing here is under the GPL.

| package | licence | needed |
|---|---|---|"""


def needed(name: str, extras: frozenset[str], seen: dict[tuple[str, str], None]) -> Iterator[str]:
    """The packages that a package needs with these extras, itself included."""
    new = [extra for extra in sorted({"", *extras}) if (name, extra) not in seen]
    seen.update(dict.fromkeys((name, extra) for extra in new))
    if new:
        yield name
    for line in metadata.requires(name) or [] if new else []:
        requirement = Requirement(line)
        marker = requirement.marker
        if not marker or any(marker.evaluate({"extra": extra}) for extra in new):
            extras_of_it = frozenset(requirement.extras)
            yield from needed(canonicalize_name(requirement.name), extras_of_it, seen)


def licence(name: str) -> str:
    """What a package says of its licence, in a few words."""
    found = metadata.metadata(name)
    if found.get("License-Expression"):
        return str(found["License-Expression"])
    classes = [
        line.rpartition(" :: ")[2]
        for line in found.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    text = str(found.get("License") or "").strip().partition("\n")[0]
    return "; ".join(classes) or text or "not stated; see the package"


def main() -> None:
    """Print the page."""
    groups: dict[str, str] = {}
    for extra, words in GROUPS.items():
        for name in needed("syndiff", frozenset({extra}), {}):
            groups.setdefault(name, words)
    rows = [
        f"| {name} | {licence(name)} | {words} |"
        for name, words in sorted(groups.items())
        if name != "syndiff"
    ]
    print("\n".join([HEAD, *rows, DICOM]))


if __name__ == "__main__":
    main()
