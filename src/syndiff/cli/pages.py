"""The pages of help: groups of commands and options, units, examples; plain text, 80 columns.

Typer's own grouping needs its boxes, which neither a pipe nor 40 columns show well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperGroup

from syndiff.cli.guide import ADVANCED, GROUPS, GUIDE, Entry, unit_and_example

EVERYWHERE = ("quiet", "as_json", "help")  # options of every command
SECTIONS = ("Arguments", "Common options", "Advanced options", "Options of every command")
ALONE = """syndiff makes a missing image (T1 → T2, MRI → CT) from one that was acquired.
For research, not for diagnosis. What to type first:
"""
AFTER = """More:

  syndiff COMMAND --help   what a command does, with examples and units
  syndiff help TERM        what a word means, such as offset or preset
  syndiff --help           all commands"""


def entry_of(command: str) -> Entry:
    """The entry of a command, an empty one where nobody has written it yet."""
    return GUIDE.get(command, Entry(ADVANCED, ()))


def section_of(command: str, parameter: Any) -> str:
    """One of `SECTIONS`."""
    arguments, common, advanced, everywhere = SECTIONS
    if parameter.param_type_name == "argument":
        return arguments
    if parameter.name in EVERYWHERE:
        return everywhere
    asked = getattr(parameter, "required", False) or parameter.name in entry_of(command).common
    return common if asked else advanced


def name_units(command: str, parameters: list[Any]) -> None:
    """Give each parameter the name of its unit or kind: --spacing-mm MM."""
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.metavar = parameter.metavar or str(parameter.name).upper()
        elif parameter.metavar is None and not parameter.is_flag:
            parameter.metavar = unit_and_example(command, parameter.name)[0] or None


def write_options(command: Any, context: Any, formatter: Any) -> None:
    """Arguments and options in `SECTIONS`, each option with a value as example."""
    rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        rows[section_of(command.name, parameter)].append(_in_words(command, parameter, *record))
    for section, found in rows.items():
        if found:
            with formatter.section(section):
                formatter.write_dl(found, col_max=28)


def _in_words(command: Any, parameter: Any, option: str, text: str) -> tuple[str, str]:
    """An option's line: ranges in words, then a value as example."""
    if parameter.param_type_name == "argument":
        return option.partition(" <")[0], text.removesuffix("  [required]")
    text, bracket, notes = text.partition("  [")
    said = [_range(note) for note in notes.removesuffix("]").split("; ")] if bracket else []
    example = unit_and_example(command.name, parameter.name)[1]
    if example and example != str(parameter.default):
        said.append(f"e.g. {example}")
    return option, f"{text}  [{'; '.join(said)}]" if said else text


def _range(note: str) -> str:
    """ "x>=0" → "0 or more"; "1<=x<=2" → "1 to 2"."""
    least, _, rest = note.partition("<=x<=")
    if rest:
        return f"{least} to {rest}" if len(rest) < 18 else f"{least} or more"
    return f"{note[3:]} or more" if note.startswith("x>=") else note


def write_examples(command: str, formatter: Any) -> None:
    examples = entry_of(command).examples
    if not examples:
        return
    with formatter.section("Examples" if len(examples) > 1 else "Example"):
        for example in examples:
            indent = " " * formatter.current_indent
            formatter.write(f"{indent}{example}\n")


class Commands(TyperGroup):
    """The application's page: commands in groups; no command says what to type first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the guide's order; one without an entry comes last."""
        order = {name: place for place, name in enumerate(GUIDE)}
        return sorted(self.commands, key=lambda name: order.get(name, len(order)))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group in GROUPS:
            names = [name for name in self.list_commands(ctx) if entry_of(name).group == group]
            rows = [(name, summary(self.commands[name])) for name in names]
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows)


def summary(command: Any) -> str:
    """The first paragraph of a command's help on one line."""
    return " ".join((command.help or "").split("\n\n")[0].split()).rstrip(".")


def first_steps(commands: Mapping[str, Any]) -> str:
    """What `syndiff` alone says: how each command of the first group is typed.

    Args:
        commands: of the application, by name.
    """
    lines = [ALONE]
    for name, entry in GUIDE.items():
        if entry.start and name in commands:
            lines += [f"  {entry.examples[0]}", f"      {entry.start}\n"]
    return "\n".join([*lines, AFTER])
