"""What the command line tells people: groups, examples, units, the next command, words."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from syndiff import cli
from syndiff.cli import completion
from syndiff.cli.command import check_number
from syndiff.cli.glossary import find, page, terms
from syndiff.cli.guide import GROUPS, GUIDE, OPTIONS, unit_and_example
from syndiff.cli.outcome import Outcome, plain, tell, unused
from syndiff.cli.pages import EVERYWHERE
from syndiff.errors import OptionError
from syndiff.translators import SHIPPED

ROOT = Path(__file__).parents[2]
APPLICATION: Any = typer.main.get_command(cli.app)
COMMANDS: dict[str, Any] = APPLICATION.commands


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def page_of(name: str) -> str:
    context = APPLICATION.make_context("syndiff", [name, "x"], resilient_parsing=True)
    return str(COMMANDS[name].get_help(typer.Context(COMMANDS[name], context, info_name=name)))


def is_choice(parameter: Any) -> bool:
    return bool(parameter.type_descriptor.is_choice)


def valued() -> list[tuple[str, Any]]:
    """Command and option, for options that take a value of no named choice."""
    return [
        (name, parameter)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.is_flag
        if not is_choice(parameter)
    ]


def test_every_command_has_an_entry() -> None:
    assert set(GUIDE) == set(COMMANDS)
    for name, entry in GUIDE.items():
        assert entry.group in GROUPS
        assert entry.examples, name
        assert set(entry.common) <= {p.name for p in COMMANDS[name].params}


@pytest.mark.parametrize("name", GUIDE)
def test_examples_are_understood(name: str) -> None:
    for example in GUIDE[name].examples:
        program, command, *words = shlex.split(example)
        assert (program, command) == ("syndiff", name)
        assert not COMMANDS[name].make_context(name, words, resilient_parsing=False).args


def test_every_option_has_a_unit_and_an_example() -> None:
    for name, parameter in valued():
        unit, example = unit_and_example(name, parameter.name)
        assert unit, f"{name} {parameter.name}"
        assert example, f"{name} {parameter.name}"
        option, words = max(parameter.opts, key=len), shlex.split(example)
        required = [
            f"{max(p.opts, key=len)}=T1" for p in COMMANDS[name].params if _asked(p, parameter)
        ]
        places = ["x" for p in COMMANDS[name].params if p.param_type_name == "argument"]
        given = COMMANDS[name].make_context(name, [option, *words, *required, *places])
        check_number(parameter.name, given.params[parameter.name])


def _asked(parameter: Any, other: Any) -> bool:
    is_option = parameter.param_type_name == "option"
    return is_option and parameter.required and parameter is not other


def test_no_entry_is_left_over() -> None:
    names = {p.name for c in COMMANDS.values() for p in c.params}
    known = names | {f"{name}.{p.name}" for name, c in COMMANDS.items() for p in c.params}
    assert set(OPTIONS) <= known


@pytest.mark.parametrize("name", GUIDE)
def test_pages_show_groups_units_and_examples(name: str) -> None:
    shown = page_of(name)
    assert GUIDE[name].examples[0] in shown
    assert "Options of every command:" in shown
    for parameter in COMMANDS[name].params:
        option = max(parameter.opts, key=len)
        if parameter.param_type_name == "argument":
            assert str(parameter.metavar) in shown
        elif not parameter.is_flag and not is_choice(parameter):
            assert f"{option} {unit_and_example(name, parameter.name)[0]}" in shown
        else:
            assert option in shown
    common, _, advanced = shown.partition("Advanced options:")
    for option in GUIDE[name].common:
        (parameter,) = (p for p in COMMANDS[name].params if p.name == option)
        line = re.compile(rf"^  {max(parameter.opts, key=len)}(?![\w-])", flags=re.MULTILINE)
        assert line.search(common)
        assert not line.search(advanced)


def test_commands_stand_in_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"{group}:") for group in GROUPS]
    assert places == sorted(places)
    for name, entry in GUIDE.items():
        within = shown[shown.index(f"{entry.group}:") :].split("\n\n")[0]
        assert re.search(rf"^  {name} ", within, flags=re.MULTILINE)
    assert "..." not in shown.partition("\n")[2]  # nothing is cut off


def test_alone_it_says_what_to_type_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch) == 0
    shown = capsys.readouterr().out
    first = re.search(r"^  (syndiff .*)$", shown, flags=re.MULTILINE)
    assert first
    assert first[1] == next(iter(GUIDE.values())).examples[0]
    for name in ("translate", "prepare"):
        assert GUIDE[name].examples[0] in shown


@pytest.fixture
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """`phantom` says what it would say, and makes nothing."""
    monkeypatch.setattr("syndiff.phantom.write_cohort", lambda *_, **more: ["sub-001"])


@pytest.mark.usefixtures("no_images")
def test_next_names_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What a command names is understood by the command that it names; --quiet leaves it out."""
    raw = tmp_path / "my raw"
    assert call(monkeypatch, "phantom", raw) == 0
    *_, last = capsys.readouterr().out.splitlines()
    label, _, command = last.partition(": ")
    assert label == "next"
    assert shlex.split(command)[:4] == ["syndiff", "prepare", str(raw), str(tmp_path / "data")]
    _, name, *words = shlex.split(command)
    assert COMMANDS[name].make_context(name, words).params["raw"] == raw
    assert call(monkeypatch, "phantom", raw, "--quiet") == 0
    assert "next:" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_images")
def test_json_is_alone_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "phantom", tmp_path / "raw", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["command"] == "phantom"
    assert said["written"] == {"cohort": str(tmp_path / "raw")}
    assert said["figures"]["subjects"] == 1
    assert said["exit_code"] == 0


def test_json_keeps_prints_and_errors_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def chatty(model: Any) -> list[tuple[str, str]]:
        print("a library talks")
        cli.models.warn("look here")
        return [("translates", "T1 → T2"), ("card", "one"), ("", "two")]

    monkeypatch.setattr("syndiff.inference.describe", chatty)
    assert call(monkeypatch, "info", "demo", "--json") == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == ["a library talks", "warning: look here"]
    said = json.loads(out)
    assert said["figures"] == {"translates": "T1 → T2", "card": "one\ntwo"}
    assert said["warnings"] == ["look here"]
    assert call(monkeypatch, "info", "nothing", "--json") == 2
    assert capsys.readouterr().out == ""


def test_json_holds_plain_values_only() -> None:
    import numpy as np

    value = {"a": np.float32(0.5), 1: (Path("x"), float("nan")), "b": [True, None, np.int64(3)]}
    assert plain(value) == {"a": 0.5, "1": ["x", None], "b": [True, None, 3]}


def test_a_next_command_stays_on_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tell(Outcome(next=["info", Path("a\nb c")]), quiet=False)
    assert capsys.readouterr().out.count("\n") == 1
    (tmp_path / "data").mkdir()
    assert unused(tmp_path / "data") == tmp_path / "data_2"


# ---- words

# Everyday words of options and their values; all others must stand in the glossary.
EVERYDAY = {
    *(
        "across",
        "add",
        "allow",
        "also",
        "at",
        "bad",
        "check",
        "compare",
        "count",
        "file",
        "max",
        "minutes",
    ),
    *("from", "seconds", "to"),
    *("of", "out", "overwrite", "people", "skip", "steps", "translate", "volume", "what"),
}


def words_of_options() -> set[str]:
    found = set()
    for _, parameter in ((n, p) for n, c in COMMANDS.items() for p in c.params):
        if parameter.param_type_name != "option" or parameter.name in EVERYWHERE:
            continue
        found |= {max(parameter.opts, key=len).lstrip("-")}
    return found


def is_known(word: str) -> bool:
    try:
        find(word)
    except OptionError:
        return False
    return True


def test_every_uncommon_word_of_an_option_is_explained() -> None:
    unknown = [
        option
        for option in words_of_options()
        if not is_known(option)
        and not all(part in EVERYDAY or is_known(part) for part in option.split("-"))
    ]
    assert not unknown


def test_words_of_reports_and_logs_are_explained() -> None:
    from syndiff.evaluation.metrics import METRICS
    from syndiff.evaluation.profiles import PROFILES
    from syndiff.objectives.syndiff import SynDiffSettings
    from syndiff.training.presets import PRESETS
    from syndiff.translators.sampling import WAYS

    for word in (*METRICS, *WAYS, *PROFILES, "source_offset_px", "foreground_dice"):
        assert is_known(word) or word == "paper", word
    for word in ("way_back_error", "offset_px", "D and G", "verdict", "baseline", "side-car"):
        assert is_known(word), word
    says = " ".join(term.says for term in terms())
    for name in (*PRESETS, "gradient_penalty", "PL", "soft"):
        assert f"`{name}`" in says or name in says
    assert hasattr(SynDiffSettings(), "gradient_penalty")  # the example of --set


def test_the_page_is_made_from_the_words() -> None:
    assert (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8") == page()


def test_words_are_found_however_they_are_written() -> None:
    for word in ("Way-Back", "way_back_error", "--ema-decay", "ema", "r1", "presets", "offset px"):
        assert find(word)
    for term in terms():
        assert all(find(name) is term for name in term.names)  # no word means two things
        for other in term.see:
            assert find(other).name == other


@pytest.mark.parametrize(
    ("word", "words"),
    [("ofset", "'offset'"), ("wayback", "'way back'"), ("qwxyz", "'syndiff help' lists")],
)
def test_a_word_that_is_nearly_known(word: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        find(word)


def test_help_explains_words_and_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked, words in (
        (("offset",), "displaced"),
        (("way", "back"), "source returns"),
        (("--set",), "hyper-parameter"),
        (("train",), "Usage: syndiff train"),
        ((), "recompute"),
    ):
        assert call(monkeypatch, "help", *asked) == 0
        assert words in capsys.readouterr().out


# ---- the tab key


def test_the_tab_key_offers_translators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "m.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert completion.folders_of_models("") == [*SHIPPED, "mine", "more/"]
    assert completion.folders_of_models("brain-t1-t") == ["brain-t1-t2"]
    assert completion.folders_of_models("nowhere/") == []
    assert completion.named_models("a=mi") == ["a=mine"]
    assert completion.devices("cu") == ["cuda", "cuda:0"]


def complete(monkeypatch: pytest.MonkeyPatch, capsys: Any, line: str) -> list[str]:
    monkeypatch.setenv("_SYNDIFF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    call(monkeypatch)
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("syndiff tr", ["translate", "train"]),
        ("syndiff translate dem", ["demo"]),
        ("syndiff train a b --preset s", ["small"]),
        ("syndiff train a b --struc", ["--structure"]),
        ("syndiff help expec", ["expectation"]),
    ],
)
def test_the_tab_key_knows_commands_options_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, line: str, offered: list[str]
) -> None:
    assert complete(monkeypatch, capsys, line) == offered


def test_the_hint_to_go_on_is_a_whole_command() -> None:
    from syndiff.cli.training import _again

    words = _again(Path("my data"), Path("run"), {"devices": "2", "compile": True})
    given = COMMANDS["train"].make_context("train", words[2:]).params
    assert (given["data"], given["run"], given["resume"]) == (Path("my data"), Path("run"), True)
    assert (given["devices"], given["compiled"]) == ("2", True)


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    from syndiff.cli.console import _progress

    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    assert _progress().console.no_color
    monkeypatch.delenv("NO_COLOR")
    assert not _progress().console.no_color
