"""What surrounds the daemon: signals, systemd, health over HTTP, and metrics."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import Tampered, UsageError
from securecfg.rotation.daemon import Daemon, Health
from securecfg.rotation.health import HealthLimits, HealthServer
from securecfg.rotation.metrics import Metrics
from securecfg.rotation.runner import StepDetails
from securecfg.rotation.service import Interrupted, serve
from securecfg.rotation.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 10.0


class _Daemon(Daemon):
    """A daemon that says of itself what a test wants."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("the vault is opened"))
        self.said = Health(is_alive=True, is_ready=True, reason="", rotations={"idle": 3}, next_ns=None, working=0)
        self.ended = threading.Event()
        self.reloads = 0
        self.is_stubborn = False

    def health(self) -> Health:
        return self.said

    def run(self) -> None:
        self.ended.wait(PATIENCE_S)

    def stop(self) -> None:
        if not self.is_stubborn:
            self.ended.set()

    def reload(self) -> None:
        self.reloads += 1


@pytest.fixture
def daemon() -> Iterator[_Daemon]:
    daemon = _Daemon()
    yield daemon
    daemon.ended.set()


class _Systemd:
    """Listens where a service says how it is."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(PATIENCE_S)

    def hear(self) -> str:
        return self._socket.recv(4_096).decode()

    def hear_until(self, text: str) -> list[str]:
        heard: list[str] = []
        while not heard or text not in heard[-1]:
            heard.append(self.hear())
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Systemd]:
    named = f"@securecfg-{os.getpid()}-{time.monotonic_ns()}" if request.param == "abstract" else str(tmp_path / "s")
    listener = _Systemd(f"\0{named[1:]}" if named.startswith("@") else named)
    monkeypatch.setenv("NOTIFY_SOCKET", named)
    yield listener
    listener.close()


def _signal_when(heard: _Systemd, text: str, *signals: signal.Signals) -> threading.Thread:
    def send() -> None:
        heard.hear_until(text)
        for each in signals:
            os.kill(os.getpid(), each)
            time.sleep(0.05)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_says_that_it_is_ready_and_that_it_ends(daemon: _Daemon, systemd: _Systemd) -> None:
    thread = _signal_when(systemd, "READY=1", signal.SIGTERM)
    serve(daemon, Systemd())
    thread.join()
    assert systemd.hear() == "STOPPING=1"
    assert daemon.ended.is_set()


def test_looks_at_everything_anew_after_a_hangup(daemon: _Daemon, systemd: _Systemd) -> None:
    thread = _signal_when(systemd, "READY=1", signal.SIGHUP, signal.SIGINT)
    serve(daemon, Systemd())
    thread.join()
    assert daemon.reloads == 1
    heard = systemd.hear_until("STOPPING=1")
    assert heard[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard[1].startswith("READY=1")


def test_a_hangup_while_it_waits_begins_no_reload_that_nothing_would_end(daemon: _Daemon, systemd: _Systemd) -> None:
    daemon.said = daemon.said._replace(is_ready=False, reason="file-missing")
    thread = _signal_when(systemd, "STATUS=waiting: file-missing", signal.SIGHUP, signal.SIGTERM)
    serve(daemon, Systemd())
    thread.join()
    assert daemon.reloads == 1
    assert systemd.hear() == "STOPPING=1"


def test_gives_signs_of_life_only_while_it_is_alive(
    daemon: _Daemon, systemd: _Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")

    def watch() -> None:
        systemd.hear_until("WATCHDOG=1")
        daemon.said = daemon.said._replace(is_alive=False, is_ready=False, reason="starting")
        systemd.hear_until("STATUS=waiting: starting")
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    serve(daemon, Systemd())
    thread.join()
    assert systemd.hear() == "STOPPING=1"  # and no sign of life before it


def test_ends_at_once_where_it_is_asked_twice(daemon: _Daemon, systemd: _Systemd) -> None:
    daemon.is_stubborn = True
    thread = _signal_when(systemd, "READY=1", signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(Interrupted):
        serve(daemon, Systemd())
    thread.join()


def test_raises_what_ended_the_daemon() -> None:
    def open_altered() -> object:
        message = "a row was altered"
        raise Tampered(message)

    with pytest.raises(Tampered):
        serve(Daemon(open_altered), Systemd())  # type: ignore[arg-type]  # it opens nothing


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket"])
def test_tells_nobody_where_nobody_asks(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    Systemd().ready("well")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"), [("20000000", None, 20.0), ("x", None, 0.0), ("20000000", "1", 0.0), ("-5", None, 0.0)]
)
def test_takes_the_time_of_the_watchdog_that_is_its_own(
    usec: str, pid: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert Systemd().watchdog_s == seconds


# --- over HTTP --------------------------------------------------------------------------------------------------------


def _ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_answers_how_it_is(daemon: _Daemon) -> None:
    with HealthServer(daemon, None, "127.0.0.1", 0) as server:
        assert _ask(server.port, "/livez") == (200, "ok\n")
        assert _ask(server.port, "/readyz?verbose") == (200, "ok\n")
        assert _ask(server.port, "/livez", "HEAD") == (200, "")
        daemon.said = daemon.said._replace(is_ready=False, reason="store-failed")
        assert _ask(server.port, "/readyz") == (503, "store-failed\n")
        assert _ask(server.port, "/livez")[0] == 200
        daemon.said = daemon.said._replace(is_alive=False)
        assert _ask(server.port, "/livez")[0] == 503


def test_answers_over_ipv6() -> None:
    daemon = _Daemon()
    with HealthServer(daemon, None, "::1", 0) as server:
        connection = http.client.HTTPConnection("::1", server.port, timeout=PATIENCE_S)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize("path", ["/", "/metrics", "/../etc/passwd", "/livez/", "/%00"])
def test_knows_no_other_page(daemon: _Daemon, path: str) -> None:
    with HealthServer(daemon, None, "127.0.0.1", 0) as server:
        assert _ask(server.port, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_takes_nothing(daemon: _Daemon, method: str) -> None:
    with HealthServer(daemon, None, "127.0.0.1", 0) as server:
        assert _ask(server.port, "/livez", method)[0] == 501


@pytest.mark.parametrize("request_", [b"\x00\xff\n\n", b"GET\n\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"])
def test_stands_what_is_no_request(daemon: _Daemon, request_: bytes) -> None:
    with HealthServer(daemon, None, "127.0.0.1", 0) as server:
        # Who sends too much is not read to his end, and may see that as a connection that is cut off.
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(4_096)
        assert _ask(server.port, "/livez")[0] == 200


def _ask_until_answered(port: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert _ask(port, "/livez")[0] == 200
        except (http.client.HTTPException, OSError):
            assert time.monotonic() < until
        else:
            return


def _drip(port: int, content: bytes) -> bytes:
    """Send a byte at a time, without end, until the server has enough; return what it said."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.settimeout(0.01)
        until = time.monotonic() + PATIENCE_S
        for byte in itertools.chain(content, itertools.repeat(ord("a"))):
            assert time.monotonic() < until, "the server listens for ever"
            try:
                connection.sendall(bytes([byte]))
                part = connection.recv(4_096)
            except TimeoutError:
                continue
            except OSError:
                return said
            if not part:
                return said
            said += part
    raise AssertionError


@pytest.mark.parametrize("content", [b"", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nA: b\r\nC: "])
def test_a_client_that_sends_a_byte_at_a_time_is_left(daemon: _Daemon, content: bytes) -> None:
    limits = HealthLimits(requests=1, request_s=0.3)
    with HealthServer(daemon, None, "127.0.0.1", 0, limits=limits) as server:
        assert _drip(server.port, content) == b""
        _ask_until_answered(server.port)


def test_a_request_is_no_longer_than_it_may_be(daemon: _Daemon) -> None:
    limits = HealthLimits(request_bytes=1_000)
    with HealthServer(daemon, None, "127.0.0.1", 0, limits=limits) as server:
        for count, is_answered in ((900, True), (1_001, False)):
            beginning = b"GET /livez HTTP/1.1\r\nA: "
            request = beginning + b"b" * (count - len(beginning) - 4) + b"\r\n\r\n"
            said = b""
            with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
                connection.sendall(request)
                said = connection.recv(4_096)
            assert said.startswith(b"HTTP/1.0 200") is is_answered


def test_does_not_keep_who_says_nothing_from_others_for_ever(daemon: _Daemon) -> None:
    with HealthServer(daemon, None, "127.0.0.1", 0) as server:
        ports = [server.port] * HealthLimits().requests
        silent = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for port in ports]
        time.sleep(0.1)
        with pytest.raises((http.client.HTTPException, OSError)):
            _ask(server.port, "/livez")
        silent.pop().close()
        _ask_until_answered(server.port)
        for each in silent:
            each.close()


def test_says_where_nobody_can_listen(daemon: _Daemon) -> None:
    with HealthServer(daemon, None, "127.0.0.1", 0) as server, pytest.raises(UsageError):
        HealthServer(daemon, None, "127.0.0.1", server.port)


# --- metrics ----------------------------------------------------------------------------------------------------------

_NS = 1_000_000_000


class _Clock:
    ns = 1_800_000_000 * _NS

    def now_ns(self) -> int:
        return self.ns


def test_counts_steps_delays_and_failures(daemon: _Daemon) -> None:
    clock = _Clock()
    metrics = Metrics(clock)
    metrics.watch(daemon)
    daemon.said = daemon.said._replace(rotations={"idle": 3, "failed": 1}, next_ns=clock.ns + _NS, working=2)
    daemon.said = daemon.said._replace(hindered={"denied": 2})
    began = clock.ns - 2 * _NS
    metrics.observe(StepDetails("random", "idle", "begun", "", clock.ns, clock.ns - _NS // 4))
    metrics.observe(StepDetails("random", "tested", "current", "", began, began))
    metrics.observe(StepDetails("random", "previous", "retired", "", began, began))
    metrics.observe(StepDetails("random", "pending", "pending", "target-unavailable", began, began))
    metrics.observe(StepDetails("random", "set", "failed", "privilege-missing", began, began))
    with HealthServer(daemon, metrics, "127.0.0.1", 0) as server:
        status, text = _ask(server.port, "/metrics")
    assert status == 200
    lines = text.splitlines()
    for line in (
        'securecfg_rotation_steps_total{from="idle",rotator="random",to="begun"} 1.0',
        'securecfg_rotation_failures_total{reason="privilege-missing",rotator="random"} 1.0',
        'securecfg_rotation_finished_total{rotator="random"} 1.0',
        'securecfg_rotation_start_delay_seconds_bucket{le="0.5"} 1.0',
        'securecfg_rotation_start_delay_seconds_bucket{le="0.1"} 0.0',
        'securecfg_rotation_duration_seconds_bucket{le="5.0",rotator="random"} 1.0',
        'securecfg_rotations{state="failed"} 1.0',
        'securecfg_rotations{state="pending"} 0.0',
        'securecfg_rotations_hindered{code="denied"} 2.0',
        "securecfg_rotation_ready 1.0",
        "securecfg_rotation_working 2.0",
        "securecfg_rotation_next_due_timestamp_seconds 1.800000001e+09",
    ):
        assert line in lines, line
