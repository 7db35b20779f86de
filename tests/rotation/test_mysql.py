"""The rotator `mysql`, at a real server of MariaDB."""

from __future__ import annotations

import getpass
import socket
import threading
import time
from typing import TYPE_CHECKING

import pymysql
import pytest

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    TargetUnavailable,
)
from securecfg.rotation import ChecksPrivileges, Strategy, open_rotator
from securecfg.rotation.rotators.mysql import from_options
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import begin, plain, propose, propose_and_apply, swap
from tests.rotation.databases import NUMBERS, PASSWORD, DatabaseConformance
from tests.rotation.mariadb_server import MysqlUsers, mariadb_server
from tests.rotation.targets import login, pending_of, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.rotation import Options, Rotator
    from tests.rotation.mariadb_server import MariadbServer
    from tests.rotation.tcp_relay import TcpRelay

_HOSTILE = "x'; DROP USER root@localhost; -- \\' \" ` %s \N{SNOWMAN}"


@pytest.fixture(scope="module")
def server(certificates: tuple[Path, Path]) -> Iterator[MariadbServer]:
    with mariadb_server(certificate=certificates[1].read_bytes()) as server:
        yield server


@pytest.fixture
def users_of(server: MariadbServer, relay: TcpRelay) -> Callable[[str], MysqlUsers]:
    return lambda kind: MysqlUsers(server, kind, relay, engine="mysql")


class TestMysql(DatabaseConformance):
    large_probe = "SELECT REPEAT('x', 1000000) FROM information_schema.collations LIMIT 200"
    slow_probe = "SELECT SLEEP(60)"

    def make(self, options: Options) -> Rotator:
        return from_options(options)


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


def test_refuses_the_login_of_another_kind_of_database() -> None:
    with pytest.raises(InvalidRotation):
        from_options({"host": "127.0.0.1", "port": "1"}).propose(run_of({"": Secret("postgresql://u:canary@h/d")}))


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"])
@pytest.mark.parametrize("kind", ["own", "admin", "users"])
def test_hostile_names_and_passwords_are_only_that(
    kind: str, mode: str, server: MariadbServer, users_of: Callable[[str], MysqlUsers]
) -> None:
    users = users_of(kind)
    names = [f"{next(NUMBERS)}{_HOSTILE}" for _ in range(2)]
    for name in names:
        users.create(name)
    server.ask(f"SET GLOBAL sql_mode = '{mode}'")
    try:
        options = {"users": ",".join(names)} if kind == "users" else {"username": names[0]}
        rotator = from_options({**users.options, **options})
        current = login(names[0], PASSWORD)
        for hostile in (_HOSTILE, "\\", "'", "\\' OR 1=1 -- ", " \t\n", "*" + "0" * 40):
            candidate = login(names[1] if kind == "users" else names[0], hostile)
            rotator.apply(run_of(current, candidate))
            rotator.verify(candidate, run_of(current, candidate))
            assert server.login(str(plain(candidate)["username"]), hostile)
            current = current if kind == "users" else candidate
    finally:
        server.ask("SET GLOBAL sql_mode = DEFAULT")


def test_the_log_of_the_server_holds_no_password(administered: MysqlUsers, own: MysqlUsers) -> None:
    for users in (administered, own):
        run = propose_and_apply(users.make(), users)
        log = users.server.log.read_text(errors="replace")
        assert str(plain(run.pending)["password"]) not in log


def test_a_password_that_the_server_will_not_have_is_rejected(own: MysqlUsers, administered: MysqlUsers) -> None:
    own.server.ask("INSTALL SONAME 'simple_password_check'")
    try:
        for users in (own, administered):
            with pytest.raises(CandidateRejected):
                users.make().apply(run_of(users.current, login(users.users[0], "canary-too-simple")))
            assert users.accepts(users.current)
            strong = login(users.users[0], "Canary-4711-strong")
            users.make().apply(run_of(users.current, strong))
            assert users.accepts(strong)
    finally:
        own.server.ask("UNINSTALL SONAME 'simple_password_check'")


def test_an_administrator_who_may_not_change_it_lacks_a_privilege(administered: MysqlUsers) -> None:
    administered.server.ask(f"REVOKE CREATE USER ON *.* FROM {administered.manager}")
    rotator = administered.make()
    assert isinstance(rotator, ChecksPrivileges)
    [missing] = rotator.check(run_of())
    assert f"GRANT CREATE USER ON *.* TO '{administered.manager}'@'%'" in missing
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(administered)))
    assert administered.accepts(administered.current)


def test_a_user_that_there_is_not_is_not_made(two: MysqlUsers) -> None:
    two.server.ask(f"DROP USER {two.users[1]}", f"GRANT SELECT ON mysql.* TO {two.manager}")
    rotator = two.make()
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(two)))
    assert (two.users[1],) not in two.server.ask("SELECT user FROM mysql.user")
    assert isinstance(rotator, ChecksPrivileges)
    [missing] = rotator.check(begin(two))
    assert f"CREATE USER '{two.users[1]}'@'%'" in missing


def test_an_account_of_another_host_is_not_taken_for_this_one(own: MysqlUsers, administered: MysqlUsers) -> None:
    for users in (own, administered):
        with pytest.raises(PrivilegeMissing):
            users.make(**{"account-host": "10.0.0.%"}).verify(users.current, run_of())
        with pytest.raises(PrivilegeMissing):
            users.make(**{"account-host": "10.0.0.%"}).apply(propose(users.make(), begin(users)))
        assert users.accepts(users.current)


def test_a_locked_user_is_refused(own: MysqlUsers) -> None:
    own.server.ask(f"ALTER USER {own.users[0]} ACCOUNT LOCK")
    with pytest.raises(CredentialRefused):
        own.make().verify(own.current, run_of())


def test_users_that_are_not_alike_are_not_swapped(two: MysqlUsers) -> None:
    rotator = two.make()
    run = propose_and_apply(rotator, two)
    rotator.verify(pending_of(run), run)
    two.server.ask(f"GRANT SELECT ON mysql.db TO {two.users[0]}")
    with pytest.raises(PrivilegeMissing):
        rotator.verify(pending_of(run), run)
    two.server.ask(f"GRANT SELECT ON mysql.db TO {two.users[1]}")
    rotator.verify(pending_of(run), run)


@pytest.mark.parametrize(
    "probe",
    ["SELECT * FROM mysql.user", "SELECT 1; SELECT 2", "CREATE DATABASE x", "DROP USER root@localhost", "not sql"],
)
def test_a_login_that_cannot_run_the_probe_lacks_a_privilege(probe: str, own: MysqlUsers) -> None:
    with pytest.raises(PrivilegeMissing) as caught:
        own.make(probe=probe).verify(own.current, run_of())
    assert "error" in caught.value.hint


def test_a_login_is_tried_in_its_own_database(own: MysqlUsers) -> None:
    own.make().verify({**own.current, "dbname": Secret("information_schema")}, run_of())
    for database in ("mysql", "no_such_database", "x'; --"):
        with pytest.raises(PrivilegeMissing):
            own.make().verify({**own.current, "dbname": Secret(database)}, run_of())


def test_a_server_that_only_reads_is_unavailable(administered: MysqlUsers) -> None:
    rotator = administered.make()
    administered.server.ask("SET GLOBAL read_only = ON")
    try:
        with pytest.raises(TargetUnavailable):
            rotator.apply(propose(rotator, begin(administered)))
    finally:
        administered.server.ask("SET GLOBAL read_only = OFF")


def test_connections_that_are_open_stay(two: MysqlUsers) -> None:
    connection = pymysql.connect(
        host="127.0.0.1", port=two.server.port, user=two.users[0], password=PASSWORD, ssl_disabled=True
    )
    with connection, connection.cursor() as cursor:
        two.make().retire(swap(propose_and_apply(two.make(), two)))
        assert not two.accepts(two.current)
        assert cursor.execute("SELECT 1") == 1


def test_speaks_over_a_socket(own: MysqlUsers) -> None:
    rotator = from_options({"host": str(own.server.socket)})
    run = propose_and_apply(rotator, own)
    rotator.verify(pending_of(run), run)
    # A server may take the word of the kernel for who that is, and any password.
    with pytest.raises(InvalidRotation):
        rotator.verify(login(getpass.getuser(), "canary-password"), run_of())


def test_a_lost_answer_leaves_it_open_what_was_done(own: MysqlUsers, administered: MysqlUsers) -> None:
    for users in (own, administered):
        rotator = users.make()
        run = propose(rotator, begin(users))
        users.relay.cut_after(b"SET PASSWORD" if users is own else b"ALTER USER")
        with pytest.raises(TargetUnavailable):
            rotator.apply(run)
        rotator.apply(run)
        rotator.verify(pending_of(run), run)


def test_a_server_that_says_nothing_costs_no_more_than_the_time_limit(own: MysqlUsers) -> None:
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        own.make(probe="SELECT SLEEP(60)").verify(own.current, run_of(timeout_s=0.4))
    own.relay.be_silent()
    with pytest.raises(TargetUnavailable):
        own.make().verify(own.current, run_of(timeout_s=0.2))
    assert time.monotonic() - started < 1.6


def test_a_file_of_authorities_that_is_not_there_is_named(own: MysqlUsers) -> None:
    with pytest.raises(InvalidRotation) as caught:
        own.make(**{"tls": "verified", "tls-ca": "/no/such/file"}).verify(own.current, run_of())
    assert "tls-ca" in str(caught.value)


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
            rotator.verify(login("u", "canary-password"), run_of())
    assert b"canary-password" not in b"".join(heard)


def test_a_server_that_asks_for_a_file_gets_none_and_is_unavailable(tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("canary-of-a-file")
    done = b"\0\0\0\2\0\0\0"
    listener, heard = _greet(_HELLO, _packet(2, done), _packet(1, done), _packet(1, b"\xfb" + bytes(file)))
    rotator = from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1])})
    with listener, pytest.raises(TargetUnavailable):
        rotator.verify(login("u", "canary-password"), run_of(timeout_s=2))
    assert b"sql_mode" in heard[2]
    assert b"canary" not in b"".join(heard)


def test_a_server_without_tls_is_told_nothing_where_it_has_to_prove_itself() -> None:
    listener, heard = _greet(_HELLO)
    with listener:
        rotator = from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1]), "tls": "verified"})
        with pytest.raises(TargetUnavailable):
            rotator.verify(login("user-that-is-told", "canary-password"), run_of(timeout_s=2))
    assert b"user-that-is-told" not in b"".join(heard)


def test_a_port_where_something_else_listens_is_unavailable() -> None:
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\0\0\0\x0a", _packet(0, b"\x0aabc"), _packet(0, b"")):
        listener, _ = _greet(answer)
        rotator = from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1])})
        with listener, pytest.raises(TargetUnavailable):
            rotator.verify(login("u", "canary-password"), run_of(timeout_s=0.3))
