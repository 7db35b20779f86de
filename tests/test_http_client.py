"""Connections to servers that are asked without a client of their vendor's."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from securecfg import http_client
from securecfg.errors import (
    BackendLoginRefused,
    BackendNotReached,
    BackendUnavailable,
    SettingMissing,
)
from securecfg.http_client import Answer, HttpClient, Place, Request, Stream, is_endpoint
from securecfg.testing.faulty_proxy import Answer as Given
from securecfg.testing.faulty_proxy import CutOff, FaultyProxy, Reset, SlowBody
from tests.keys.certificates import make_certificates
from tests.keys.key_service import closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED = Request("POST", "/v1/x?y=1", {"X-Token": "canary-token"}, b"content")
HOST = "vault.test"


class Server(ThreadingHTTPServer):
    """Answers with what it was sent, and counts the connections."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.connections = 0
        self.is_hasty = False
        self.pieces: list[bytes] = []
        self.goes_on = threading.Event()
        self.heads: list[tuple[str, str]] = []

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]  # as the base class has them

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heads.append((self.request_version, self.headers["Host"]))
        self.send_response(200)
        if self.server.pieces:
            self.end_headers()
            for piece in self.server.pieces:
                self.wfile.write(piece)
                self.server.goes_on.wait(10)
            self.close_connection = True
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.server.is_hasty  # without having said so


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server() as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.goes_on.set()
        server.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", server.server_port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)


def client(*endpoints: str, **others: str) -> HttpClient:
    return HttpClient("the server of a test", Place(endpoints, **others), "name its authority")


def at(server: Server, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_port}"


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_connection_serves_many_requests(server: Server) -> None:
    asks = client(at(server))
    for _ in range(5):
        answer = asks.ask(ASKED)
        assert (answer.status, answer.body) == (200, b"content")
    assert server.connections == 1


def test_a_connection_that_was_closed_meanwhile_gets_no_request(server: Server) -> None:
    server.is_hasty = True
    asks = client(at(server))
    for _ in range(5):
        assert asks.ask(ASKED).body == b"content"
        [kept] = asks._connections._idle
        while kept.is_open():
            time.sleep(0.01)
    assert server.connections == 5


def test_an_endpoint_may_have_a_folder(proxy: FaultyProxy) -> None:
    client(f"{proxy.url}/folder/").ask(ASKED)
    assert proxy.exchanges[0].path == "/folder/v1/x?y=1"


def test_the_next_endpoint_is_asked_where_one_cannot_be_reached_and_remembered(server: Server) -> None:
    asks = client(f"http://127.0.0.1:{closed_port()}", at(server))
    assert asks.ask(ASKED).body == b"content"
    assert asks._connections.endpoint == 1


def test_where_nothing_was_sent_it_was_not_reached_and_where_it_may_have_arrived_it_is_in_doubt(
    proxy: FaultyProxy,
) -> None:
    with pytest.raises(BackendNotReached, match="cannot be reached"):
        client(f"http://127.0.0.1:{closed_port()}").ask(ASKED)
    proxy.fail(Reset())
    with pytest.raises(BackendUnavailable) as refused:
        client(proxy.url).ask(ASKED)
    assert type(refused.value) is BackendUnavailable
    assert refused.value.__context__ is None


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(status: int, proxy: FaultyProxy) -> None:
    proxy.fail(Given(status, b"", {"Location": f"{proxy.url}/canary"}))
    asks = client(proxy.url)
    for call in (asks.ask, asks.stream):
        with pytest.raises(BackendNotReached) as refused:
            call(ASKED)
        assert "canary" not in refused.value.message
    assert [exchange.path for exchange in proxy.exchanges] == ["/v1/x?y=1"] * 2


def test_a_body_that_breaks_off_is_no_answer(proxy: FaultyProxy) -> None:
    proxy.fail_next(CutOff())
    asks = client(proxy.url)
    with pytest.raises(BackendUnavailable):
        asks.ask(ASKED)
    assert asks.ask(ASKED).body == b"content"


def test_a_body_is_not_read_for_ever(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = client(proxy.url)
    assert asks.ask(ASKED._replace(body_bytes_max=7)).body == b"content"
    with pytest.raises(BackendUnavailable):
        asks.ask(ASKED._replace(body_bytes_max=6))
    monkeypatch.setattr(http_client, "BODY_S", 0.1)
    proxy.fail(SlowBody(0.05))
    with pytest.raises(BackendUnavailable):
        asks.ask(ASKED)


def answer_with(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def send_response(self: Echo, code: int) -> None:
        self.send_response_only(code)
        self.send_header(name, value)

    monkeypatch.setattr(Echo, "send_response", send_response)


def test_an_answer_in_chunks_is_whole(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with("Transfer-Encoding", "chunked", monkeypatch)
    server.goes_on.set()
    server.pieces = [b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"]
    assert client(at(server)).ask(ASKED).body == b"onetwo"
    for cut in (b"9\r\ntwo", b""):
        server.pieces = [b"3\r\none\r\n", cut]
        with pytest.raises(BackendUnavailable):
            client(at(server)).ask(ASKED)


def test_a_body_that_ends_in_good_order_too_early_is_no_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with("Content-Length", "9", monkeypatch)
    server.goes_on.set()
    server.pieces = [b"[]"]
    with pytest.raises(BackendUnavailable):
        client(at(server)).ask(ASKED)


def test_a_server_may_say_when_to_come_back(proxy: FaultyProxy) -> None:
    proxy.fail(Given(429, b"", {"Retry-After": "7"}))
    assert client(proxy.url).ask(ASKED).retry_after_s == 7


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("https://a.test:2379", True),
        ("https://a.test/folder", True),
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:8500", True),
        ("http://a.test", False),
        ("http://127.0.0.1.a.test", False),
        ("https://", False),
        ("https://user:canary@a.test", False),
        ("https://a.test?x=canary", False),
        ("https://a.test#canary", False),
        ("https://a.test:port", False),
        ("https://a.test:0", False),
        ("https://a.test:99999", False),
        ("https://[::1", False),
        ("ftp://127.0.0.1", False),
        ("unix:///run/x.sock", False),
        ("127.0.0.1:8500", False),
        ("", False),
    ],
)
def test_an_endpoint_is_tls_or_this_machine_and_names_nobody(address: str, is_one: bool) -> None:
    assert is_endpoint(address) is is_one


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    names = [x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName(HOST)]
    return make_certificates(tmp_path_factory.mktemp("tls"), names)


def tls_of(files: tuple[Path, Path], *, is_mutual: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[0] if is_mutual else None)
    context.load_cert_chain(files[1])
    context.verify_mode = ssl.CERT_REQUIRED if is_mutual else ssl.CERT_NONE
    return context


def test_a_certificate_is_checked(files: tuple[Path, Path]) -> None:
    authority = str(files[0])
    with running(tls_of(files)) as server:
        assert client(at(server, "https"), authority=authority).ask(ASKED).body == b"content"
        with pytest.raises(BackendNotReached, match="certificate") as refused:
            client(at(server, "https")).ask(ASKED)
        assert refused.value.hint == "name its authority"
        named = client(at(server, "https"), authority=authority, server_name=HOST)
        assert named.ask(ASKED).body == b"content"
        with pytest.raises(BackendNotReached, match="certificate"):
            client(at(server, "https"), authority=authority, server_name="other.test").ask(ASKED)
        with pytest.raises(BackendNotReached, match="certificate"):
            client(at(server, "https"), authority=str(files[0].parent)).ask(ASKED)  # a folder without hashed names


def test_plain_text_where_tls_is_expected_is_not_reached(server: Server) -> None:
    with pytest.raises(BackendNotReached):
        client(at(server, "https")).ask(ASKED)


def test_a_client_shows_its_certificate(files: tuple[Path, Path]) -> None:
    authority, certificate = map(str, files)
    with running(tls_of(files, is_mutual=True)) as server:
        shown = client(at(server, "https"), authority=authority, certificate=certificate)
        assert shown.ask(ASKED).body == b"content"
        shown = client(at(server, "https"), authority=authority, certificate=certificate, key=certificate)
        assert shown.ask(ASKED).body == b"content"
        with pytest.raises((BackendLoginRefused, BackendUnavailable)):  # a reset may overtake the reason
            client(at(server, "https"), authority=authority).ask(ASKED)


def test_the_reason_for_which_a_certificate_is_refused_is_a_login() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] canary")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    refused = client("https://a.test")._lost(error)
    assert isinstance(refused, BackendLoginRefused)
    assert "canary" not in str(refused) + refused.hint


def test_files_that_cannot_be_read_are_named_by_what_they_are(files: tuple[Path, Path], tmp_path: Path) -> None:
    authority, certificate = map(str, files)
    text = tmp_path / "canary.pem"
    text.write_text("canary")
    for wrong in (str(tmp_path / "none"), str(text)):
        with pytest.raises(SettingMissing, match="authority") as refused:
            client("https://127.0.0.1:1", authority=wrong).ask(ASKED)
        assert "canary" not in str(refused.value)
        with pytest.raises(BackendLoginRefused, match="certificate"):
            client("https://127.0.0.1:1", authority=authority, certificate=wrong).ask(ASKED)
    key = load_pem_private_key(files[1].read_bytes().partition(b"-----BEGIN CERTIFICATE")[0], None)
    text.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary"))  # nobody is asked
    )
    with pytest.raises(BackendLoginRefused, match="certificate"):
        client("https://127.0.0.1:1", authority=authority, certificate=certificate, key=str(text)).ask(ASKED)


# --- proxies ----------------------------------------------------------------------------------------------------------


def test_a_proxy_is_asked_for_a_tunnel_to_another_machine(
    files: tuple[Path, Path], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyProxy("127.0.0.1", server.server_port, tls=tls_of(files)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        asks = client(f"https://{HOST}", authority=str(files[0]))
        assert asks.ask(ASKED).body == b"content"
        assert [exchange.path for exchange in proxy.exchanges] == ["/v1/x?y=1"]
        monkeypatch.setenv("https_proxy", proxy.url.removeprefix("http://"))
        assert client(f"https://{HOST}", authority=str(files[0])).ask(ASKED).body == b"content"
        monkeypatch.setenv("no_proxy", HOST)
        with pytest.raises(BackendNotReached):
            client(f"https://{HOST}", authority=str(files[0])).ask(ASKED)


def test_a_proxy_is_not_told_what_is_for_this_machine(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyProxy("127.0.0.1", closed_port()) as proxy, running(tls_of(files)) as server:
        for variable in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        assert client(at(server, "https"), authority=str(files[0])).ask(ASKED).body == b"content"
        with running() as plain:
            assert client(at(plain)).ask(ASKED).body == b"content"
        assert proxy.exchanges == []


def test_a_proxy_that_refuses_is_not_reached(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyProxy("127.0.0.1", server.server_port) as proxy:  # it knows no tunnels
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(BackendNotReached):
            client(f"https://{HOST}").ask(ASKED)


@pytest.mark.parametrize("proxy", ["https://user:canary@p.test", "socks5://p.test", "http://", "http://p.test:canary"])
def test_a_proxy_of_another_kind_is_refused_without_being_shown(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(SettingMissing) as refused:
        client(f"https://{HOST}").ask(ASKED)
    assert "canary" not in refused.value.message + refused.value.hint


def test_who_a_proxy_lets_through_is_told_to_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:p%40ss@p.test:3128")
    connection = client(f"https://{HOST}:8501")._connection_to(urlsplit(f"https://{HOST}:8501"))
    assert (connection.host, connection.port) == ("p.test", 3128)
    assert connection._tunnel_headers == {"Proxy-Authorization": "Basic dXNlcjpwQHNz"}  # type: ignore[attr-defined]  # of the base class


# --- streams ----------------------------------------------------------------------------------------------------------


def opened(asks: HttpClient) -> Stream:
    stream = asks.stream(ASKED)
    assert isinstance(stream, Stream)
    return stream


def read(stream: Stream, size: int) -> bytes:
    pieces = b""
    while len(pieces) < size:
        piece = stream.read(10)
        assert piece
        pieces += piece
    return pieces


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_stream_gives_what_comes_when_it_comes(is_tls: bool, files: tuple[Path, Path]) -> None:
    with running(tls_of(files) if is_tls else None) as server:
        server.pieces = [b"one\n", b"t" * 100_000, b"three\n"]
        stream = opened(client(at(server, "https" if is_tls else "http"), authority=str(files[0])))
        assert read(stream, 4) == b"one\n"
        started = time.monotonic()
        assert stream.read(0.05) is None
        assert stream.read(0.05) is None
        assert time.monotonic() - started >= 0.1
        server.goes_on.set()
        assert read(stream, 100_006) == b"t" * 100_000 + b"three\n"
        assert stream.read(10) == b""
        stream.close()
        assert server.heads == [("HTTP/1.0", f"127.0.0.1:{server.server_port}")]


def test_a_stream_that_is_lost_is_told_from_one_that_ends(proxy: FaultyProxy, server: Server) -> None:
    server.pieces = [b"one\n", b"two\n"]
    proxy.fail_next(Given(503, b"no"))
    assert client(proxy.url).stream(ASKED) == Answer(503, b"no", {"content-length": "2"})
    proxy.fail_next(Given(200, b"all"))  # whose connection stays open
    assert read(opened(client(proxy.url)), 3) == b"all"
    stream = opened(client(at(server)))
    read(stream, 4)
    stream._socket.shutdown(2)
    assert stream.read(1) == b""
    stream.close()
    with pytest.raises(BackendUnavailable):
        stream.read(1)
