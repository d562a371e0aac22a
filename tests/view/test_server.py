"""Who gets an answer from the server of a page: the browsers of this machine, with the address."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from syndiff.errors import UserError
from syndiff.view.server import HERE, Served, served

CONTENT = {"": ("text/html", b"page"), "image-0.nii.gz": ("application/gzip", b"image")}


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with served(CONTENT) as found:
        yield found


def ask(
    page: Served, path: str, host: str | None = None, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(HERE, page.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"{HERE}:{page.port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def test_what_the_page_needs_is_served_with_a_strict_policy(page: Served) -> None:
    base = urlsplit(page.url).path
    status, headers, body = ask(page, base)
    assert (status, body) == (200, b"page")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert ask(page, f"{base}image-0.nii.gz")[2] == b"image"
    assert ask(page, base, method="HEAD")[2] == b""


def test_two_pages_have_two_addresses(page: Served) -> None:
    with served(CONTENT) as other:
        assert urlsplit(page.url).path != urlsplit(other.url).path
        assert len(urlsplit(page.url).path) > 30


@pytest.mark.parametrize(
    "path",
    [
        "/", "/image-0.nii.gz", "/wrong/", "/wrong/image-0.nii.gz", "//", "/%2e%2e/", "*",
        "TOKEN", "TOKENx/", "TOKEN/../../etc/passwd", "TOKEN/%2e%2e/%2e%2e/etc/passwd",
        "TOKEN//etc/passwd", "TOKEN/view.py", "TOKEN/\\..\\..\\server.py", "TOKEN/é",
    ],
)  # fmt: skip
def test_everything_else_is_not_found(page: Served, path: str) -> None:
    token = urlsplit(page.url).path.rstrip("/")
    raw = path.replace("TOKEN", token).encode()
    with socket.create_connection((HERE, page.port), timeout=10) as connection:
        host = f"{HERE}:{page.port}".encode()
        connection.sendall(b"GET " + raw + b" HTTP/1.0\r\nHost: " + host + b"\r\n\r\n")
        answer = connection.makefile("rb").readline()
    assert 400 <= int(answer.split()[1]) < 500


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:PORT", "127.0.0.1", "[::1]:PORT"]
)
def test_another_host_is_refused(page: Served, host: str) -> None:
    said = host.replace("PORT", str(page.port))
    assert ask(page, urlsplit(page.url).path, host=said)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_sent(page: Served, method: str) -> None:
    assert ask(page, urlsplit(page.url).path, method=method)[0] in (405, 501)


def test_it_listens_on_this_machine_alone(page: Served) -> None:
    assert urlsplit(page.url).hostname == "127.0.0.1"
    with socket.socket() as other:  # another of this machine's addresses is still free
        other.bind(("127.0.0.2", page.port))


def test_a_port_that_is_taken_is_said_in_a_line(page: Served) -> None:
    with pytest.raises(UserError, match=str(page.port)), served(CONTENT, page.port):
        pass
    with served(CONTENT) as gone:
        pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HERE, gone.port), timeout=2)
