"""What a node does: its title and port, whom it serves, where results go, what it translates.

A node is described by a YAML file or by the same names as options of `syndiff node`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from syndiff.errors import OptionError, UserError
from syndiff.io.atomic import read_text
from syndiff.io.checked import in_words

LONGEST_TITLE = 16  # characters, DICOM PS3.5, VR AE
ANY = "*"
LARGEST_CONFIG = 1_000_000  # bytes
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _title(text: str) -> str:
    """An application entity title.

    Raises:
        ValueError: it is empty, too long, or holds characters that a title may not hold.
    """
    if not 1 <= len(text.strip()) <= LONGEST_TITLE:
        raise ValueError(f"an AE title of 1 to {LONGEST_TITLE} characters")
    if not re.fullmatch(r"[ -\[\]-~]+", text):
        raise ValueError("an AE title of ASCII characters without a backslash")
    return text.strip()


@dataclass(frozen=True)
class Destination:
    """Where results go.

    Attributes:
        title: application entity title of the receiver.
        host: name or address.
        port: TCP port.
    """

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"

    @classmethod
    def read(cls, text: str) -> Destination:
        """ "PACS@10.0.0.5:104" as a destination.

        Raises:
            ValueError: it is written otherwise.
        """
        title, at, place = text.rpartition("@")
        host, colon, port = place.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")  # of an IPv6 address
        if not (at and colon and host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError("AET@host:port, for example PACS@10.0.0.5:104")
        return cls(_title(title), host, int(port))


@dataclass(frozen=True)
class Peer:
    """Who may send to the node.

    Attributes:
        title: application entity title; "*" for any.
        networks: the addresses from which it may call.
    """

    title: str
    networks: tuple[Network, ...]

    @classmethod
    def read(cls, text: str) -> Peer:
        """ "PACS@10.0.0.5", "PACS@archive.example" or "PACS@10.0.0.0/24" as a peer.

        Raises:
            ValueError: it is written otherwise, or the name has no address.
        """
        title, at, host = text.rpartition("@")
        if not (at and host):
            raise ValueError("AET@host, for example PACS@10.0.0.5 or PACS@10.0.0.0/24")
        return cls(title if title == ANY else _title(title), _networks(host))

    def may(self, title: str, address: str) -> bool:
        """Whether a call with this title from this address is this peer's."""
        try:
            place = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(place, "ipv4_mapped", None) or place
        known = self.title in (ANY, title.strip())
        return known and any(mapped in network for network in self.networks)

    @property
    def local(self) -> bool:
        """Whether it can only call from this machine."""
        return all(network.is_loopback for network in self.networks)


LOCAL = Peer(ANY, (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")))


def _networks(host: str) -> tuple[Network, ...]:
    try:
        return (ipaddress.ip_network(host, strict=False),)
    except ValueError:
        pass
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ValueError("a host that has an address") from error
    return tuple(ipaddress.ip_network(address.partition("%")[0]) for address in sorted(found))


def _readable(read: Any) -> AfterValidator:
    """A text that `read` understands; the text itself stays."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return text


class _Known(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Rule(_Known):
    """One model, and the series that it takes: those for which all that is given holds.

    Attributes:
        model: translator folder, or the name of a shipped one.
        modality: the DICOM modality.
        taken_for: what `syndiff series` takes the series for; left empty together with
            `description` it is the modality that the translator translates from.
        description: regular expression that is found in the series' description, in any case.
        but_not: regular expression; series with it in their description are passed over.
        least_slices: series with fewer slices are passed over.
        regular_grid: resample missing or unevenly spaced slices and gantry tilt.
        seed: of the noise.
    """

    model: str = Field(min_length=1)
    modality: Literal["", "MR", "CT"] = ""
    taken_for: str = ""
    description: Annotated[str, AfterValidator(_expression)] = ""
    but_not: Annotated[str, AfterValidator(_expression)] = ""
    least_slices: int = Field(2, ge=1, le=100_000)
    regular_grid: bool = False
    seed: int = Field(0, ge=0, lt=2**63)


class NodeConfig(_Known):
    """A node; the names are those of the YAML file.

    Attributes:
        aet: its own application entity title; calls to another one are refused.
        port: the TCP port on which it listens.
        address: the address on which it listens; 0.0.0.0 for all of the machine.
        folder: the queue on disk; it is made if need be.
        accept: who may send, AET@host or AET@network; none: any title from this machine.
        send_to: where results go, AET@host:port; each of them gets every result.
        models: the models, and which series each takes.
        quiet_seconds: how long nothing must have come of a study before it is translated.
        min_free_gb: objects are refused when the disk would have less free than this.
        again_after_hours: the same images are not translated again by the same model sooner, so
            that an archive that sends everything back makes no circle.
        device: auto, cpu, cuda, …
        batch_size: slices at a time.
    """

    aet: Annotated[str, AfterValidator(_title)] = "SYNDIFF"
    port: int = Field(11112, ge=1, le=65535)
    address: str = "127.0.0.1"
    folder: str = Field("syndiff-node", min_length=1)
    accept: list[Annotated[str, _readable(Peer.read)]] = []
    send_to: list[Annotated[str, _readable(Destination.read)]] = Field(min_length=1)
    models: list[Rule] = Field(min_length=1)
    quiet_seconds: float = Field(10, ge=0, le=86_400)
    min_free_gb: float = Field(2, ge=0, le=1e6)
    again_after_hours: float = Field(1, ge=0, le=1e5)
    device: str = Field("auto", min_length=1)
    batch_size: int = Field(8, ge=1, le=65_536)

    @property
    def destinations(self) -> list[Destination]:
        """`send_to`, each of them once."""
        return list(dict.fromkeys(map(Destination.read, self.send_to)))

    @property
    def peers(self) -> list[Peer]:
        """`accept`; any title from this machine if it is empty."""
        return [Peer.read(text) for text in self.accept] or [LOCAL]


def read_config(path: Path) -> dict[str, Any]:
    """What a node's YAML file says, not yet checked.

    Raises:
        UserError: it cannot be read, or is no YAML of names and values.
    """
    text = read_text(path, "configuration", most_bytes=LARGEST_CONFIG)
    remedy = "write `name: value` lines as docs/node.md shows"
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is no YAML{line}", remedy=remedy) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no names and values", remedy=remedy)
    return {str(key): value for key, value in content.items()}


def checked_config(content: Mapping[str, Any], path: Path | None = None) -> NodeConfig:
    """A node's configuration, checked as a whole.

    Args:
        content: of `read_config`, and what options add to it.
        path: the file, for messages; None where there is none.

    Raises:
        OptionError: a name is unknown, a value is missing or does not fit, or the node would be
            open to everybody, or closed to those who may send.
    """
    try:
        config = NodeConfig.model_validate(dict(content))
    except ValidationError as problem:
        raise _refusal(problem, path) from None
    try:
        here = ipaddress.ip_address(config.address)
    except ValueError:
        raise OptionError(
            f"`address` {config.address}", "an IP address of this machine, or 0.0.0.0 for all"
        ) from None
    if not here.is_loopback and not config.accept:
        raise OptionError(
            f"`address` {config.address} without `accept`",
            "AET@host of everybody who may send",
        )
    far = [text for text in config.accept if not Peer.read(text).local]
    if here.is_loopback and far:
        raise OptionError(
            f"`accept` {far[0]} with `address` {config.address}",
            "an address that others can reach, for example 0.0.0.0",
        )
    return config


def _refusal(problem: ValidationError, path: Path | None) -> UserError:
    """What does not fit, in one line; an unknown key with the nearest known one."""
    first = problem.errors(include_url=False)[0]
    where = f"{path}: " if path else ""
    if first["type"] == "extra_forbidden":
        inner = len(first["loc"]) > 1
        key, known = str(first["loc"][-1]), [*(Rule if inner else NodeConfig).model_fields]
        close = get_close_matches(key, known, n=1)
        expected = f"perhaps {close[0]}" if close else f"some of {', '.join(known)}"
        return OptionError(f"{where}the key {key}", expected)
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] in ("missing", "too_short") and name:
        wanted = {"send_to": "AET@host:port", "models": "a translator"}.get(name, "")
        return OptionError(f"{where}no `{name}`", wanted)
    found, expected = in_words(problem)
    return OptionError(f"{where}{found}", expected)
