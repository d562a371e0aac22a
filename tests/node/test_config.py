"""A node's configuration: what it takes, and what it refuses in one line."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from syndiff import cli
from syndiff.errors import OptionError
from syndiff.node.config import LOCAL, Destination, Peer, checked_config, read_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "node.yaml"
LEAST = {"send_to": ["PACS@127.0.0.1:4242"], "models": [{"model": "brain-t1-t2"}]}


def test_the_example_is_a_configuration() -> None:
    config = checked_config(read_config(EXAMPLE), EXAMPLE)
    assert len(config.models) == 2
    assert config.peers[0].may("PACS", "10.0.0.5")


def test_alone_it_serves_this_machine_only() -> None:
    config = checked_config(LEAST)
    assert config.address == "127.0.0.1"
    assert config.peers == [LOCAL]
    assert LOCAL.may("ANYBODY", "127.0.0.1")
    assert LOCAL.may("ANYBODY", "::ffff:127.0.0.1")
    assert not LOCAL.may("ANYBODY", "10.0.0.5")
    assert not LOCAL.may("ANYBODY", "no address")


def test_a_peer_is_a_title_and_where_it_calls_from() -> None:
    peer = Peer.read("MR1@10.1.0.0/16")
    assert peer.may("MR1 ", "10.1.255.3")
    assert not peer.may("MR2", "10.1.255.3")
    assert not peer.may("MR1", "10.2.0.1")


def test_a_destination_is_read_as_it_is_written() -> None:
    for text in ("PACS@10.0.0.5:104", "A B@host.example:11112"):
        assert str(Destination.read(text)) == text
    assert Destination.read("PACS@[::1]:104").host == "::1"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sendto": []}, ["the key sendto", "perhaps send_to"]),
        ({"models": [{"model": "a", "descripton": "T1"}]}, ["descripton", "perhaps description"]),
        ({"send_to": []}, ["no `send_to`", "AET@host:port"]),
        ({"models": []}, ["no `models`"]),
        ({"aet": "A" * 17}, ["A" * 17, "1 to 16 characters"]),
        ({"aet": "  "}, ["1 to 16 characters"]),
        ({"aet": "A\\B"}, ["without a backslash"]),
        ({"send_to": ["PACS@host"]}, ["send_to.0", "AET@host:port"]),
        ({"send_to": ["PACS@host:99999"]}, ["AET@host:port"]),
        ({"accept": ["PACS"]}, ["accept.0", "AET@host"]),
        ({"port": 0}, ["port is 0"]),
        ({"port": "11112"}, ["port is '11112'"]),
        ({"quiet_seconds": float("nan")}, ["quiet_seconds"]),
        ({"address": "0.0.0.0"}, ["`address` 0.0.0.0 without `accept`"]),
        ({"address": "here", "accept": ["A@127.0.0.1"]}, ["`address` here", "an IP address"]),
        ({"accept": ["A@10.0.0.5"]}, ["`accept` A@10.0.0.5", "0.0.0.0"]),
        ({"models": [{"model": "a", "description": "("}]}, ["a regular expression"]),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(values: dict, words: list[str]) -> None:
    with pytest.raises(OptionError) as found:
        checked_config(LEAST | values, Path("node.yaml"))
    message = str(found.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def call(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["syndiff", "node", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "brain-t1-t2"], "no --send-to; expected AET@host:port"),
        (["--model", "brain-t1-t3", "--send-to", "A@h:1"], "did you mean 'brain-t1-t2'?"),
        (["--model", "brain-t1-t2", "--send-to", "A@h:1", "--aet", "A" * 17], "1 to 16"),
        (["--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["--config", "list.yaml"], "holds no names and values"),
        (["--config", "broken.yaml"], "is no YAML in line 3"),
    ],
)
def test_the_command_line_says_it_too(
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("- 1\n")
    Path("broken.yaml").write_text("aet: A\nport: [\n")
    assert call(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "syndiff-node").exists()


def test_a_port_in_use_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["--model", "demo", "--send-to", "A@127.0.0.1:1", "--port", port]
        assert call(monkeypatch, *words, "--folder", tmp_path / "node") == 2
    error = capsys.readouterr().err
    assert f"--port {port} of 127.0.0.1 cannot be used (Address already in use)" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "node").exists()
