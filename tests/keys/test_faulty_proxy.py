"""The proxy hands on what it is sent, and fails in exactly the way it is told to."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, FaultyProxy, Reset, Silence, SlowBody
from tests.keys.azure import VAULT_HOST
from tests.keys.certificates import make_tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("X-Seen", self.headers["X-Sent"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with FaultyProxy("127.0.0.1", server.server_port) as proxy:
            yield proxy
        server.shutdown()


def post(proxy: FaultyProxy, timeout_s: float = 20.0) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=timeout_s)
    try:
        connection.request("POST", "/path?q", b"content", {"X-Sent": "yes"})
        response = connection.getresponse()
        return response.status, response.headers["X-Seen"], response.read()
    finally:
        connection.close()


def test_hands_on_what_it_is_sent_and_remembers_it(proxy: FaultyProxy) -> None:
    assert post(proxy) == (201, "yes", b"content")
    [exchange] = proxy.exchanges
    assert (exchange.method, exchange.path, exchange.headers["x-sent"]) == ("POST", "/path?q", "yes")
    assert exchange.body == b"content"


def test_answers_without_asking_the_server(proxy: FaultyProxy) -> None:
    proxy.fail(Answer(503, b"no", {"X-Seen": "never"}))
    assert post(proxy) == (503, "never", b"no")


def test_breaks_off_the_connection_before_and_in_an_answer(proxy: FaultyProxy) -> None:
    proxy.fail_next(Reset(), CutOff())
    with pytest.raises(ConnectionResetError):
        post(proxy)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        post(proxy)
    assert post(proxy)[0] == 201


def test_says_nothing_until_it_closes(proxy: FaultyProxy) -> None:
    proxy.fail_next(Silence())
    with pytest.raises(TimeoutError):
        post(proxy, timeout_s=0.3)


@pytest.mark.parametrize("fault", [Delay(0.3), SlowBody(0.3 / len(b"content"))])
def test_takes_its_time(fault: Delay | SlowBody, proxy: FaultyProxy) -> None:
    proxy.fail(fault)
    started = time.monotonic()
    assert post(proxy) == (201, "yes", b"content")
    assert time.monotonic() - started >= 0.3


def tunnel(proxy: FaultyProxy, authority: Path | None) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=authority)
    connection = http.client.HTTPSConnection(proxy.url.removeprefix("http://"), timeout=20, context=context)
    connection.set_tunnel(VAULT_HOST, 443)
    return connection


def test_speaks_tls_in_a_tunnel_and_fails_there_too(proxy: FaultyProxy, tmp_path: Path) -> None:
    authority, proxy.tls = make_tls(tmp_path, [VAULT_HOST])
    connection = tunnel(proxy, authority)
    for number in range(2):
        connection.request("POST", f"/{number}", b"content", {"X-Sent": "yes"})
        response = connection.getresponse()
        assert (response.status, response.read()) == (201, b"content")
    assert [exchange.headers["host"] for exchange in proxy.exchanges] == [VAULT_HOST] * 2
    proxy.fail(Reset())
    with pytest.raises(OSError, match=r"reset|closed|EOF"):
        post_again(connection)
    connection.close()


def post_again(connection: http.client.HTTPSConnection) -> None:
    connection.request("POST", "/", b"content", {"X-Sent": "yes"})
    connection.getresponse()


def test_gives_no_tunnel_to_those_who_do_not_trust_it_nor_without_certificates(
    proxy: FaultyProxy, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="405"):
        post_again(tunnel(proxy, None))
    _, proxy.tls = make_tls(tmp_path, [VAULT_HOST])
    with pytest.raises(ssl.SSLCertVerificationError):
        post_again(tunnel(proxy, None))
    assert proxy.exchanges == []


class Endless(Echo):
    """Answers in chunks that come when it is let."""

    protocol_version = "HTTP/1.1"
    goes_on = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (b"one", b"two", b""):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.goes_on.wait(10)


@pytest.mark.parametrize("version", [10, 11])
def test_hands_on_an_answer_that_has_no_end_of_its_own_when_it_comes_and_breaks_it_off(version: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        Endless.goes_on.clear()
        with FaultyProxy("127.0.0.1", server.server_port) as proxy:
            for is_broken in (True, False):
                connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=20)
                connection._http_vsn, connection._http_vsn_str = version, f"HTTP/1.{version % 10}"  # type: ignore[attr-defined]  # it has no other way
                connection.request("POST", "/", b"content")
                response = connection.getresponse()
                assert response.read1(100) == b"one"
                if is_broken:
                    proxy.break_off()
                    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
                        assert response.read(100) == b"two"
                else:
                    Endless.goes_on.set()
                    assert response.read() == b"two"
                connection.close()
        server.shutdown()
