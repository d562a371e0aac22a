"""MkDocs' hook: the repository's own files as pages of the site, and links to them.

Pages of docs/ link to files outside of it (`../README.md`, `../examples/node.yaml`), as one reads
them in the repository. Here such a Markdown file becomes a page, another file a file of the
site, and the links follow. A link to nothing is left as it is, for MkDocs to refuse.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def on_files(files: Files, config: Any) -> Files:
    """Add what is linked to, and the pages at the repository's root."""
    sources = {ROOT / name for name in PAGES}
    texts = [*sources, *(ROOT / "docs").rglob("*.md")]
    for text in texts:
        sources |= {found for _, found in linked(text) if found.is_file()}
    for source in sorted(sources):
        if ROOT / "docs" not in source.parents:
            files.append(File.generated(config, str(placed(source)), abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links lead to where the site has the files."""
    source = Path(page.file.abs_src_path)
    here = PurePosixPath(page.file.src_uri).parent
    places = dict(linked(source))

    def follow(match: re.Match[str]) -> str:
        target = places[match[1]]
        if not target.exists():
            return match[1]
        return PurePosixPath(os.path.relpath(placed(target), here)).as_posix()

    return LINK.sub(follow, markdown)


def linked(source: Path) -> Iterator[tuple[str, Path]]:
    """The links of a Markdown file to files, as they are written and as they are meant."""
    for link in LINK.findall(source.read_text(encoding="utf-8")):
        yield link, (source.parent / link).resolve()


def placed(source: Path) -> PurePosixPath:
    """The place of a file among the sources of the site; README would become its front page."""
    if source == ROOT / "README.md":
        return PurePosixPath("about.md")
    docs = ROOT / "docs"
    return PurePosixPath(source.relative_to(docs if docs in source.parents else ROOT).as_posix())
