"""The rotator `mysql`, at a real server of MariaDB."""

from __future__ import annotations

import getpass
import socket
import threading
import time
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pymysql
import pytest
from cryptography.x509 import IPAddress

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    TargetUnavailable,
)
from securecfg.rotation import ChecksPrivileges, Run, Strategy, open_rotator
from securecfg.rotation.mysql_session import quoted
from securecfg.rotation.rotators.mysql import from_options
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import RotatorConformance, begin, plain, propose, propose_and_apply, swap
from tests.keys.certificates import make_certificates
from tests.rotation.mariadb_server import mariadb_server
from tests.rotation.tcp_relay import TcpRelay
from tests.rotation.unprivileged import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.mariadb_server import MariadbServer

PASSWORD = "canary-password-of-a-user"
_HOSTILE = "x'; DROP USER root@localhost; -- \\' \" ` %s \N{SNOWMAN}"
_NUMBERS = count()


class _Users:
    """Users that a test has for itself, and a rotator's way to them."""

    is_remote = True

    def __init__(self, server: MariadbServer, relay: TcpRelay, kind: str) -> None:
        self.server = server
        self.relay = relay
        number = next(_NUMBERS)
        self.users = [f"app{number}_a", f"app{number}_b"]
        self.manager = f"manager{number}"
        server.ask(
            *(_create(user) for user in (*self.users, self.manager)), f"GRANT CREATE USER ON *.* TO {self.manager}"
        )
        options: dict[str, str | Secret[str] | Secret[bytes]] = {"host": "127.0.0.1", "port": str(relay.port)}
        if "admin" in kind or "users" in kind:
            options |= {"admin": self.manager, "admin-password": Secret(PASSWORD)}
            options |= {"users": ",".join(self.users)} if "users" in kind else {"username": self.users[0]}
        self.options: Options = options
        self.current: Fields = {
            "username": Secret(self.users[0]),
            "password": Secret(PASSWORD),
            "engine": Secret("mysql"),
        }
        if "url" in kind:
            self.current = {"": Secret(f"mysql+pymysql://{self.users[0]}:{PASSWORD}@db.internal:3307?charset=utf8mb4")}

    def make(self, **options: str | Secret[str]) -> Rotator:
        return from_options({**self.options, **options})

    def accepts(self, value: Fields, /) -> bool:
        text = plain(value)
        if "" in text:
            parts = urlsplit(str(text[""]))
            return self.server.login(parts.username or "", parts.password or "")
        return self.server.login(str(text["username"]), str(text["password"]))

    def cut_off(self) -> None:
        self.relay.cut_off()

    def restore(self) -> None:
        self.relay.restore()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file of an authority, and that of the server, which is called by its address only."""
    return make_certificates(tmp_path_factory.mktemp("tls"), [IPAddress(ip_address("127.0.0.1"))])


@pytest.fixture(scope="module")
def server(certificates: tuple[Path, Path]) -> Iterator[MariadbServer]:
    with mariadb_server(certificate=certificates[1].read_bytes()) as server:
        yield server


@pytest.fixture
def relay(server: MariadbServer) -> Iterator[TcpRelay]:
    with TcpRelay(server.port) as relay:
        yield relay


@pytest.fixture
def own(server: MariadbServer, relay: TcpRelay) -> _Users:
    """A user that changes its own password."""
    return _Users(server, relay, "own")


@pytest.fixture
def administered(server: MariadbServer, relay: TcpRelay) -> _Users:
    return _Users(server, relay, "admin")


@pytest.fixture
def two(server: MariadbServer, relay: TcpRelay) -> _Users:
    """Two users that take turns."""
    return _Users(server, relay, "users")


class TestMysql(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture(params=["own", "admin-url", "users", "users-url"])
    def target(self, request: pytest.FixtureRequest, server: MariadbServer, relay: TcpRelay) -> _Users:
        return _Users(server, relay, request.param)


def _create(user: str, password: str = PASSWORD) -> str:
    return f"CREATE USER {quoted(user)}@'%' IDENTIFIED BY {quoted(password)}"


def _login(username: str, password: str, **fields: str) -> Fields:
    return {name: Secret(text) for name, text in {"username": username, "password": password, **fields}.items()}


def _run(current: Fields | None = None, pending: Fields | None = None, timeout_s: float = 10.0) -> Run:
    return Run("a1" * 16, datetime.now(UTC), timeout_s, current, None, pending)


def _pending(run: Run) -> Fields:
    assert run.pending is not None
    return run.pending


def test_is_found_by_its_name() -> None:
    rotator = open_rotator("mysql", {"host": "db.internal"})
    assert rotator.target == "mysql db.internal:3306"
    assert rotator.strategy is Strategy.SINGLE_SLOT
    assert isinstance(rotator, ChecksPrivileges)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"host": "a,b"},
        {"host": "h", "port": "0"},
        {"host": "h", "tls": "off"},
        {"host": "/run/mysqld.sock", "tls": "verified"},
        {"host": "localhost", "tls-ca": "/etc/ca.pem"},
        {"host": "h", "users": "one,two"},
        {"host": "h", "users": "one,one"},
        {"host": "h", "admin": "a", "admin-password": Secret("p")},
        {"host": "h", "admin": "a", "admin-password": "p", "username": "u"},
        {"host": "h", "username": "u" * 129},
        {"host": "h", "account-host": ""},
        {"host": "h", "account-host": "a@b"},
        {"host": "h", "account-host": "x" * 256},
        {"host": "h", "account-host": "\udc80"},
        {"host": "h", "probe": "\0"},
        {"host": "h", "dual-password": "yes"},
    ],
)
def test_refuses_options_that_make_no_sense(options: Options) -> None:
    with pytest.raises(InvalidRotation):
        from_options(options)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"username": Secret(b"\xff"), "password": Secret("p")},
        {"username": Secret("u"), "password": Secret(b"\xff")},
        {"username": Secret("u\0"), "password": Secret("p")},
        {"username": Secret("u" * 129), "password": Secret("p")},
        {"": Secret("postgresql://u:canary@h/d")},
        {"": Secret("mysql://u@h/d")},
        {"": Secret("mysql://u:canary@h/d?user=canary")},
    ],
)
def test_refuses_a_value_that_is_no_login(value: Fields) -> None:
    rotator = from_options({"host": "127.0.0.1", "port": "1"})
    for call in (
        lambda: rotator.propose(_run(value)),
        lambda: rotator.apply(_run(None, value)),
        lambda: rotator.verify(value, _run()),
    ):
        with pytest.raises(InvalidRotation) as caught:
            call()
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("kind", ["admin", "users"])
def test_an_administrator_changes_nobody_else(kind: str, server: MariadbServer, relay: TcpRelay) -> None:
    users = _Users(server, relay, kind)
    server.ask(_create(name := f"victim{next(_NUMBERS)}"))
    victim = _login(name, "canary-new")
    for run in (_run(victim, victim), _run(None, victim), _run(users.current, victim)):
        with pytest.raises(InvalidRotation):
            users.make().apply(run)
    if kind == "users":
        with pytest.raises(InvalidRotation):
            users.make().retire(_run(users.current)._replace(previous=victim))
    assert server.login(name, PASSWORD)


def test_a_candidate_for_the_user_in_use_is_not_applied(two: _Users) -> None:
    with pytest.raises(InvalidRotation):
        two.make().apply(_run(two.current, _login(two.users[0], "canary-new")))
    assert two.accepts(two.current)


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"])
@pytest.mark.parametrize("kind", ["own", "admin", "users"])
def test_hostile_names_and_passwords_are_only_that(
    kind: str, mode: str, server: MariadbServer, relay: TcpRelay
) -> None:
    users = _Users(server, relay, kind)
    names = [f"{next(_NUMBERS)}{_HOSTILE}" for _ in range(2)]
    server.ask("SET SESSION sql_mode = ''", *map(_create, names))
    server.ask(f"SET GLOBAL sql_mode = '{mode}'")
    try:
        options = {"users": ",".join(names)} if kind == "users" else {"username": names[0]}
        rotator = from_options({**users.options, **options})
        current = _login(names[0], PASSWORD)
        for hostile in (_HOSTILE, "\\", "'", "\\' OR 1=1 -- ", " \t\n", "*" + "0" * 40):
            candidate = _login(names[1] if kind == "users" else names[0], hostile)
            rotator.apply(_run(current, candidate))
            rotator.verify(candidate, _run(None, candidate))
            assert server.login(str(plain(candidate)["username"]), hostile)
            current = current if kind == "users" else candidate
    finally:
        server.ask("SET GLOBAL sql_mode = DEFAULT")


def test_the_log_of_the_server_holds_no_password(administered: _Users, own: _Users) -> None:
    for users in (administered, own):
        run = propose_and_apply(users.make(), users)
        log = users.server.log.read_text(errors="replace")
        assert str(plain(run.pending)["password"]) not in log


@pytest.mark.parametrize("password", ["", "\0", "a\0b", "\udc80"])
def test_what_cannot_be_a_password_is_refused(password: str, administered: _Users) -> None:
    value = _login(administered.users[0], password)
    with pytest.raises(CredentialRefused):
        administered.make().verify(value, _run())
    with pytest.raises(CandidateRejected):
        administered.make().apply(_run(administered.current, value))


def test_a_password_that_the_server_will_not_have_is_rejected(own: _Users, administered: _Users) -> None:
    own.server.ask("INSTALL SONAME 'simple_password_check'")
    try:
        for users in (own, administered):
            with pytest.raises(CandidateRejected):
                users.make().apply(_run(users.current, _login(users.users[0], "canary-too-simple")))
            assert users.accepts(users.current)
            strong = _login(users.users[0], "Canary-4711-strong")
            users.make().apply(_run(users.current, strong))
            assert users.accepts(strong)
    finally:
        own.server.ask("UNINSTALL SONAME 'simple_password_check'")


def test_an_administrator_who_may_not_change_it_lacks_a_privilege(administered: _Users) -> None:
    administered.server.ask(f"REVOKE CREATE USER ON *.* FROM {administered.manager}")
    rotator = administered.make()
    assert isinstance(rotator, ChecksPrivileges)
    [missing] = rotator.check(_run())
    assert f"GRANT CREATE USER ON *.* TO '{administered.manager}'@'%'" in missing
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(administered)))
    assert administered.accepts(administered.current)


def test_an_administrator_who_is_refused_is_told_apart(two: _Users) -> None:
    rotator = two.make(**{"admin-password": Secret("canary-wrong")})
    run = propose(rotator, begin(two))
    with pytest.raises(CredentialRefused):
        rotator.apply(run)
    with pytest.raises(CredentialRefused):
        rotator.retire(swap(run))


def test_a_user_whose_password_nobody_knows_is_refused(own: _Users) -> None:
    with pytest.raises(CredentialRefused) as caught:
        own.make().apply(propose(own.make(), _run(_login(own.users[0], "canary-wrong"))))
    assert "admin" in caught.value.hint


def test_a_user_that_there_is_not_is_not_made(two: _Users) -> None:
    two.server.ask(f"DROP USER {two.users[1]}", f"GRANT SELECT ON mysql.* TO {two.manager}")
    rotator = two.make()
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(two)))
    assert (two.users[1],) not in two.server.ask("SELECT user FROM mysql.user")
    assert isinstance(rotator, ChecksPrivileges)
    [missing] = rotator.check(begin(two))
    assert f"CREATE USER '{two.users[1]}'@'%'" in missing


def test_an_account_of_another_host_is_not_taken_for_this_one(own: _Users, administered: _Users) -> None:
    for users in (own, administered):
        with pytest.raises(PrivilegeMissing):
            users.make(**{"account-host": "10.0.0.%"}).verify(users.current, _run())
        with pytest.raises(PrivilegeMissing):
            users.make(**{"account-host": "10.0.0.%"}).apply(propose(users.make(), begin(users)))
        assert users.accepts(users.current)


def test_a_locked_user_is_refused(own: _Users) -> None:
    own.server.ask(f"ALTER USER {own.users[0]} ACCOUNT LOCK")
    with pytest.raises(CredentialRefused):
        own.make().verify(own.current, _run())


def test_users_that_are_not_alike_are_not_swapped(two: _Users) -> None:
    rotator = two.make()
    run = propose_and_apply(rotator, two)
    rotator.verify(_pending(run), run)
    two.server.ask(f"GRANT SELECT ON mysql.db TO {two.users[0]}")
    with pytest.raises(PrivilegeMissing):
        rotator.verify(_pending(run), run)
    two.server.ask(f"GRANT SELECT ON mysql.db TO {two.users[1]}")
    rotator.verify(_pending(run), run)


@pytest.mark.parametrize(
    "probe",
    ["SELECT * FROM mysql.user", "SELECT 1; SELECT 2", "CREATE DATABASE x", "DROP USER root@localhost", "not sql"],
)
def test_a_login_that_cannot_run_the_probe_lacks_a_privilege(probe: str, own: _Users) -> None:
    with pytest.raises(PrivilegeMissing) as caught:
        own.make(probe=probe).verify(own.current, _run())
    assert "error" in caught.value.hint


def test_a_login_is_tried_in_its_own_database(own: _Users) -> None:
    own.make().verify({**own.current, "dbname": Secret("information_schema")}, _run())
    for database in ("mysql", "no_such_database", "x'; --"):
        with pytest.raises(PrivilegeMissing):
            own.make().verify({**own.current, "dbname": Secret(database)}, _run())


def test_a_server_that_only_reads_is_unavailable(administered: _Users) -> None:
    rotator = administered.make()
    administered.server.ask("SET GLOBAL read_only = ON")
    try:
        with pytest.raises(TargetUnavailable):
            rotator.apply(propose(rotator, begin(administered)))
    finally:
        administered.server.ask("SET GLOBAL read_only = OFF")


def test_connections_that_are_open_stay(two: _Users) -> None:
    connection = pymysql.connect(
        host="127.0.0.1", port=two.server.port, user=two.users[0], password=PASSWORD, ssl_disabled=True
    )
    with connection, connection.cursor() as cursor:
        two.make().retire(swap(propose_and_apply(two.make(), two)))
        assert not two.accepts(two.current)
        assert cursor.execute("SELECT 1") == 1


def test_speaks_over_a_socket(own: _Users) -> None:
    rotator = from_options({"host": str(own.server.socket)})
    run = propose_and_apply(rotator, own)
    rotator.verify(_pending(run), run)
    # A server may take the word of the kernel for who that is, and any password.
    with pytest.raises(InvalidRotation):
        rotator.verify(_login(getpass.getuser(), "canary-password"), _run())


def test_a_lost_answer_leaves_it_open_what_was_done(own: _Users, administered: _Users) -> None:
    for users in (own, administered):
        rotator = users.make()
        run = propose(rotator, begin(users))
        users.relay.cut_after(b"SET PASSWORD" if users is own else b"ALTER USER")
        with pytest.raises(TargetUnavailable):
            rotator.apply(run)
        rotator.apply(run)
        rotator.verify(_pending(run), run)


def test_a_server_that_says_nothing_costs_no_more_than_the_time_limit(own: _Users) -> None:
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        own.make(probe="SELECT SLEEP(60)").verify(own.current, _run(timeout_s=0.4))
    own.relay.be_silent()
    with pytest.raises(TargetUnavailable):
        own.make().verify(own.current, _run(timeout_s=0.2))
    assert time.monotonic() - started < 1.6


def test_a_server_proves_by_its_certificate_that_it_is_this_one(own: _Users, certificates: tuple[Path, Path]) -> None:
    authority = str(certificates[0])
    rotator = own.make(**{"tls": "verified", "tls-ca": authority})
    run = propose_and_apply(rotator, own)
    rotator.verify(_pending(run), run)
    for options in ({"tls": "verified"}, {"tls": "verified", "tls-ca": authority, "host": "localhost"}):
        with pytest.raises(TargetUnavailable) as caught:
            own.make(**options).verify(_pending(run), run)
        assert "certificate" in caught.value.hint
    with pytest.raises(InvalidRotation):
        own.make(**{"tls": "verified", "tls-ca": "/no/such/file"}).verify(_pending(run), run)


def _greet(*answers: bytes) -> tuple[socket.socket, list[bytes]]:
    """Return a listener that sends each of some answers, and what it hears after each."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.settimeout(5)
            for answer in answers:
                client.sendall(answer)
                heard.append(client.recv(1_000))

    threading.Thread(target=serve, daemon=True).start()
    return listener, heard


def _packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes((number,)) + body


# Protocol 10, a version, a thread, eight bytes of a salt, what the server can do without TLS, and the rest of the salt.
_HELLO = _packet(
    0,
    b"\x0a8.0.0\0"
    + bytes(4)
    + b"s" * 8
    + b"\0"
    + b"\xff\xf7"
    + b"\x2d\x02\0"
    + b"\xff\x81"
    + b"\x15"
    + bytes(10)
    + b"t" * 12
    + b"\0mysql_native_password\0",
)


def test_no_password_is_sent_in_the_clear() -> None:
    listener, heard = _greet(_HELLO, _packet(2, b"\xfemysql_clear_password\0"))
    with listener:
        rotator = from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1])})
        with pytest.raises(InvalidRotation):
            rotator.verify(_login("u", "canary-password"), _run())
    assert b"canary-password" not in b"".join(heard)


def test_a_server_without_tls_is_told_nothing_where_it_has_to_prove_itself() -> None:
    listener, heard = _greet(_HELLO)
    with listener:
        rotator = from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1]), "tls": "verified"})
        with pytest.raises(TargetUnavailable):
            rotator.verify(_login("user-that-is-told", "canary-password"), _run(timeout_s=2))
    assert b"user-that-is-told" not in b"".join(heard)


def test_a_port_where_nobody_listens_or_something_else_does_is_unavailable() -> None:
    with pytest.raises(TargetUnavailable):
        from_options({"host": "127.0.0.1", "port": str(free_port())}).verify(_login("u", "canary-password"), _run())
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\0\0\0\x0a", _packet(0, b"\x0aabc"), _packet(0, b"")):
        listener, _ = _greet(answer)
        rotator = from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1])})
        with listener, pytest.raises(TargetUnavailable):
            rotator.verify(_login("u", "canary-password"), _run(timeout_s=0.3))
