"""The words of syndiff, for `syndiff help TERM` and for docs/glossary.md.

Both come from glossary.toml. After a change there:

    python -c "from syndiff.cli.glossary import page; print(page(), end='')" > docs/glossary.md
"""

from __future__ import annotations

import textwrap
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from syndiff.errors import OptionError

PAGE = """# Glossary

The words of options, reports and documents, for those who work with MR images. The command line
says the same: `syndiff help TERM`. This page is made from `src/syndiff/cli/glossary.toml`.

"""


@dataclass(frozen=True)
class Term:
    """A word.

    Attributes:
        name: as it is written.
        says: what it means, in a few sentences.
        also: other words for it, and options and columns that it explains.
        see: names of related terms.
    """

    name: str
    says: str
    also: tuple[str, ...] = ()
    see: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.also)

    def lines(self, width: int = 79) -> list[str]:
        """For a terminal."""
        title = self.name + (f"  ({', '.join(self.also)})" if self.also else "")
        said = textwrap.wrap(
            self.says, width - 2, initial_indent="  ", subsequent_indent="  ",
            break_on_hyphens=False,
        )  # fmt: skip
        return [title, *said, *([f"  see also: {', '.join(self.see)}"] if self.see else [])]


@cache
def terms() -> tuple[Term, ...]:
    """All words, by the alphabet."""
    text = files("syndiff.cli").joinpath("glossary.toml").read_text(encoding="utf-8")
    found = [
        Term(
            name, " ".join(of["says"].split()), tuple(of.get("also", ())), tuple(of.get("see", ()))
        )
        for name, of in tomllib.loads(text).items()
    ]
    return tuple(sorted(found, key=lambda term: term.name.lower()))


def find(word: str) -> Term:
    """The term of a word, in any case, with blanks, dashes or underscores, singular or plural.

    Raises:
        OptionError: there is none; the message names the nearest.
    """
    known = {_plain(name): term for term in terms() for name in term.names}
    asked = _plain(word)
    for guess in (asked, asked.removesuffix("s"), f"{asked}s"):
        if guess in known:
            return known[guess]
    near = [known[name] for name in get_close_matches(asked, list(known), n=5, cutoff=0.7)]
    near += [term for name, term in known.items() if asked in name.split()]
    close = list(dict.fromkeys(repr(term.name) for term in near))
    remedy = f"did you mean {' or '.join(close[:3])}?" if close else "'syndiff help' lists them"
    raise OptionError(f"no word {word!r}", "a word of the glossary or a command", remedy)


def _plain(word: str) -> str:
    return " ".join(word.lower().lstrip("-").replace("-", " ").replace("_", " ").split())


def page() -> str:
    """docs/glossary.md."""
    parts = []
    for term in terms():
        also = f" *({', '.join(term.also)})*" if term.also else ""
        see = f" See also: {', '.join(term.see)}." if term.see else ""
        text = f"**{term.name}**{also}: {term.says}{see}"
        parts.append(textwrap.fill(text, 99, break_on_hyphens=False, break_long_words=False))
    return PAGE + "\n\n".join(parts) + "\n"
