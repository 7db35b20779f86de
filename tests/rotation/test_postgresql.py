"""The rotator `postgresql`, at a real server."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from psycopg import connect

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    ExtraMissing,
    InvalidRotation,
    PrivilegeMissing,
    TargetUnavailable,
)
from securecfg.rotation import ChecksPrivileges, Strategy, open_rotator
from securecfg.rotation.rotators.postgresql import from_options
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import begin, plain, propose, propose_and_apply, swap
from tests.rotation.databases import NUMBERS, PASSWORD, DatabaseConformance
from tests.rotation.postgresql_server import ADMIN, ADMIN_PASSWORD, PostgresqlRoles, postgresql_server
from tests.rotation.targets import login, pending_of, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.postgresql_server import PostgresqlServer
    from tests.rotation.tcp_relay import TcpRelay

_HOSTILE = "x\"; DROP ROLE admin; --$1%s\\ \N{SNOWMAN}'"
_RULES = """
host all trusted all trust
host all spelled all password
host all former all md5
"""


@pytest.fixture(scope="module")
def server(certificates: tuple[Path, Path]) -> Iterator[PostgresqlServer]:
    # As strict as it can be with what it is not told: a password that is the name is refused.
    settings = {"shared_preload_libraries": "passwordcheck", "log_statement": "all", "log_connections": "on"}
    with postgresql_server(settings, _RULES, certificates[1].read_bytes()) as server:
        yield server


@pytest.fixture
def users_of(server: PostgresqlServer, relay: TcpRelay) -> Callable[[str], PostgresqlRoles]:
    return lambda kind: PostgresqlRoles(server, kind, relay, engine="postgres", dbname="postgres")


class TestPostgresql(DatabaseConformance):
    large_probe = "SELECT repeat('x', 1000000) FROM generate_series(1, 200)"
    slow_probe = "SELECT pg_sleep(60)"

    def make(self, options: Options) -> Rotator:
        return from_options(options)


def test_is_found_by_its_name() -> None:
    rotator = open_rotator("postgresql", {"host": "db.internal"})
    assert rotator.target == "postgresql db.internal:5432"
    assert rotator.strategy is Strategy.SINGLE_SLOT
    assert rotator.identity == {"username", "host", "port", "dbname"}
    assert isinstance(rotator, ChecksPrivileges)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"host": ""},
        {"host": "a,b"},
        {"host": "db internal"},
        {"host": "db' user='admin"},
        {"host": "-h"},
        {"host": "h\0"},
        {"host": "h" * 254},
        {"host": Secret("h")},
        {"host": "h", "port": "0"},
        {"host": "h", "port": "65536"},
        {"host": "h", "port": "5432,5433"},
        {"host": "h", "tls": "off"},
        {"host": "/run/postgresql", "tls": "verified"},
        {"host": "localhost", "tls-ca": "/etc/ca.pem"},
        {"host": "h", "users": "one"},
        {"host": "h", "users": "one,one"},
        {"host": "h", "users": "one,two,three"},
        {"host": "h", "users": "one,"},
        {"host": "h", "users": "one,two"},
        {"host": "h", "admin": "a"},
        {"host": "h", "admin-password": Secret("p")},
        {"host": "h", "admin": "a", "admin-password": "p", "username": "u"},
        {"host": "h", "admin": "a", "admin-password": Secret("p")},
        {"host": "h", "admin": "a", "admin-password": Secret("p"), "username": "a"},
        {"host": "h", "admin": "a", "admin-password": Secret("p"), "username": "u", "users": "one,two"},
        {"host": "h", "username": "u" * 64},
        {"host": "h", "username": "\udc80"},
        {"host": "h", "probe": " "},
        {"host": "h", "probe": "SELECT '\0'"},
        {"host": "h", "dbname": ""},
        {"host": "h", "length": "4"},
        {"host": "h", "sslmode": "disable"},
    ],
)
def test_refuses_options_that_make_no_sense(options: Options) -> None:
    with pytest.raises(InvalidRotation):
        from_options(options)


@pytest.mark.parametrize(
    "value",
    [{"username": Secret("u" * 64), "password": Secret("p")}, {"": Secret("mysql://u:canary@h/d")}],
)
def test_refuses_the_login_of_another_kind_of_database(value: Fields) -> None:
    with pytest.raises(InvalidRotation):
        from_options({"host": "127.0.0.1", "port": "1"}).propose(run_of(value))


def test_all_else_stays_in_a_url(own: PostgresqlRoles) -> None:
    url = f"postgresql+psycopg://{own.users[0]}:{PASSWORD}@db.internal:6432/postgres?sslmode=require"
    run = propose(own.make(alphabet="printable"), run_of({"": Secret(url)}))
    before, _, after = str(plain(run.pending)[""]).partition("@")
    assert after == "db.internal:6432/postgres?sslmode=require"
    assert before.startswith(f"postgresql+psycopg://{own.users[0]}:")
    own.make().apply(run)
    own.make().verify(pending_of(run), run)


def test_connections_that_are_open_stay(two: PostgresqlRoles) -> None:
    rotator = two.make()
    described = f"host=127.0.0.1 port={two.server.port} dbname=postgres user={two.users[0]} password={PASSWORD}"
    with connect(described, autocommit=True) as connection:
        rotator.retire(swap(propose_and_apply(rotator, two)))
        assert connection.execute("SELECT 1").fetchone() == (1,)


# --- who may be changed ----------------------------------------------------------------------------------------------


def test_a_long_name_is_not_cut_off_to_that_of_another(own: PostgresqlRoles) -> None:
    own.create("v" * 63)
    with pytest.raises(InvalidRotation):
        own.make().apply(run_of(login("v" * 64, PASSWORD), login("v" * 64, "canary-new")))
    assert own.server.login("v" * 63, PASSWORD)


@pytest.mark.parametrize("kind", ["own", "admin", "users"])
def test_hostile_names_and_passwords_are_only_that(
    kind: str, server: PostgresqlServer, users_of: Callable[[str], PostgresqlRoles]
) -> None:
    roles = users_of(kind)
    names = [f"{next(NUMBERS)}{_HOSTILE}", f"{next(NUMBERS)}{_HOSTILE}".replace(",", "")]
    for name in names:
        roles.create(name)
    options = {"users": ",".join(names)} if kind == "users" else {"username": names[0]}
    rotator = from_options({**roles.options, **options})
    current = login(names[0], PASSWORD)
    for hostile in (_HOSTILE, "'); DROP ROLE admin; --", "SCRAM-SHA-256$4096:abc$def:ghi", " \t\n", "md5" + "0" * 32):
        candidate = login(names[1] if kind == "users" else names[0], hostile)
        rotator.apply(run_of(current, candidate))
        rotator.verify(candidate, run_of(current, candidate))
        assert server.login(str(plain(candidate)["username"]), hostile)
        current = current if kind == "users" else candidate
    assert server.ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'admin'") == [(True,)]


def test_the_server_never_sees_a_password(administered: PostgresqlRoles, own: PostgresqlRoles) -> None:
    for roles in (administered, own):
        run = propose_and_apply(roles.make(), roles)
        log = roles.server.log.read_text()
        assert f'ALTER ROLE "{roles.users[0]}" PASSWORD \'SCRAM-SHA-256$' in log
        assert str(plain(run.pending)["password"]) not in log


# --- what servers answer ---------------------------------------------------------------------------------------------


def test_a_password_that_the_server_will_not_have_is_rejected(
    own: PostgresqlRoles, administered: PostgresqlRoles
) -> None:
    for roles in (own, administered):
        with pytest.raises(CandidateRejected) as caught:
            roles.make().apply(run_of(roles.current, login(roles.users[0], roles.users[0])))
        assert roles.users[0] not in str(caught.value)
        assert roles.accepts(roles.current)


def test_an_administrator_who_may_not_change_it_lacks_a_privilege(administered: PostgresqlRoles) -> None:
    administered.ask("ALTER ROLE {} NOCREATEROLE", administered.manager)
    rotator = administered.make()
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(administered)))
    assert administered.accepts(administered.current)


@pytest.mark.parametrize("change", ["NOLOGIN", "VALID UNTIL '2001-01-01'"])
def test_a_role_that_cannot_log_in_keeps_its_password(change: str, administered: PostgresqlRoles) -> None:
    [(before,)] = administered.server.ask(
        "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (administered.users[0],)
    )
    administered.ask("ALTER ROLE {} " + change, administered.users[0])
    rotator = administered.make()
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(administered)))
    with pytest.raises(CredentialRefused):
        rotator.verify(administered.current, begin(administered))
    assert administered.server.ask(
        "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (administered.users[0],)
    ) == [(before,)]


def test_a_role_that_there_is_not_is_not_made(two: PostgresqlRoles) -> None:
    two.ask("DROP ROLE {}", two.users[1])
    rotator = two.make()
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(two)))
    assert two.server.ask("SELECT 1 FROM pg_roles WHERE rolname = %s", (two.users[1],)) == []


def test_the_end_of_a_role_stays(administered: PostgresqlRoles) -> None:
    administered.ask("ALTER ROLE {} VALID UNTIL '2999-01-01'", administered.users[0])
    propose_and_apply(administered.make(), administered)
    [(until,)] = administered.server.ask(
        "SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = %s", (administered.users[0],)
    )
    assert until.startswith("2999-01-01")


def test_a_role_that_takes_another_by_itself_changes_its_own_password(own: PostgresqlRoles) -> None:
    owner = f"owner{next(NUMBERS)}"
    own.ask("CREATE ROLE {}", owner)
    own.ask("GRANT {0} TO {1}; ALTER ROLE {1} SET ROLE {0}", owner, own.users[0])
    run = propose_and_apply(own.make(), own)
    own.make().verify(pending_of(run), run)
    assert own.accepts(pending_of(run))


def test_a_server_that_lets_in_without_a_password_is_refused(server: PostgresqlServer, own: PostgresqlRoles) -> None:
    server.ask("CREATE ROLE trusted LOGIN; CREATE ROLE spelled LOGIN PASSWORD 'canary-password'")
    for user in ("trusted", "spelled"):
        with pytest.raises(InvalidRotation) as caught:
            own.make().verify(login(user, "canary-password"), run_of())
        assert "pg_hba.conf" in caught.value.hint


def test_a_password_that_is_stored_as_md5_is_stored_as_scram_from_then_on(
    server: PostgresqlServer, own: PostgresqlRoles
) -> None:
    server.ask("SET password_encryption = 'md5'; CREATE ROLE former LOGIN PASSWORD 'canary-password'")
    own.make().apply(propose(own.make(), run_of(login("former", "canary-password"))))
    [(stored,)] = server.ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'former'")
    assert stored.startswith("SCRAM-SHA-256$")


# --- what a login is for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "probe",
    [
        "SELECT * FROM pg_authid",
        "SELECT * FROM no_such_table",
        "CREATE TEMP TABLE x AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1/0",
        "DROP ROLE admin",
        "not sql",
    ],
)
def test_a_login_that_cannot_run_the_probe_lacks_a_privilege(probe: str, own: PostgresqlRoles) -> None:
    with pytest.raises(PrivilegeMissing) as caught:
        own.make(probe=probe).verify(own.current, run_of())
    assert "SQLSTATE" in caught.value.hint


def test_a_login_is_tried_in_its_own_database(own: PostgresqlRoles) -> None:
    own.make(dbname="template1").verify(own.current, run_of())
    for database in ("no-such-database", "x' user='admin", "postgresql://h/d"):
        with pytest.raises(PrivilegeMissing):
            own.make().verify({**own.current, "dbname": Secret(database)}, run_of())


def test_users_that_are_not_alike_are_not_swapped(two: PostgresqlRoles) -> None:
    rotator = two.make()
    run = propose_and_apply(rotator, two)
    group = f"group{next(NUMBERS)}"
    two.ask("CREATE ROLE {}", group)
    differences = {
        "attributes": ("ALTER ROLE {0} CREATEDB", "ALTER ROLE {0} NOCREATEDB"),
        "memberships": ("GRANT {1} TO {0}", "REVOKE {1} FROM {0}"),
        "settings": ("ALTER ROLE {0} SET search_path = public", "ALTER ROLE {0} RESET ALL"),
        "objects": ("GRANT CREATE ON SCHEMA public TO {0}", "REVOKE CREATE ON SCHEMA public FROM {0}"),
    }
    for words, (make, mend) in differences.items():
        two.ask(make, two.users[0], group)
        with pytest.raises(PrivilegeMissing) as caught:
            rotator.verify(pending_of(run), run)
        assert words in str(caught.value)
        two.ask(mend, two.users[0], group)
    rotator.verify(pending_of(run), run)


def test_says_before_the_first_rotation_what_is_missing(two: PostgresqlRoles) -> None:
    rotator = two.make()
    assert isinstance(rotator, ChecksPrivileges)
    assert rotator.check(begin(two)) == []
    two.ask("ALTER ROLE {} CREATEDB", two.users[0])
    [differing] = rotator.check(run_of())
    assert "attributes" in differing
    two.ask("ALTER ROLE {} NOLOGIN VALID UNTIL '2001-01-01'", two.users[1])
    two.ask("ALTER ROLE {} NOCREATEROLE", two.manager)
    text = "\n".join(rotator.check(begin(two)))
    assert f"ALTER ROLE {two.users[1]} LOGIN" in text
    assert f"ALTER ROLE {two.users[1]} VALID UNTIL 'infinity'" in text
    assert f"ALTER ROLE {two.manager} CREATEROLE" in text
    group = f"Group {next(NUMBERS)}"
    two.ask("CREATE ROLE {0}; GRANT {0} TO {1}", group, two.users[0])
    two.ask("DROP ROLE {}", two.users[1])
    assert f'CREATE ROLE {two.users[1]} LOGIN IN ROLE "{group}"' in "\n".join(rotator.check(begin(two)))


def test_says_that_the_database_of_the_administrator_is_missing(two: PostgresqlRoles) -> None:
    rotator = two.make(dbname="no_such_database")
    assert isinstance(rotator, ChecksPrivileges)
    [missing] = rotator.check(begin(two))
    assert "no such database" in missing


def test_says_of_a_role_that_changes_its_own_password_what_is_missing(own: PostgresqlRoles) -> None:
    rotator = own.make(probe="SELECT * FROM pg_authid")
    assert isinstance(rotator, ChecksPrivileges)
    [missing] = rotator.check(begin(own))
    assert "42501" in missing
    with pytest.raises(CredentialRefused):
        rotator.check(run_of(login(own.users[0], "canary-wrong")))


def test_a_superuser_is_no_matter_of_an_administrator(administered: PostgresqlRoles) -> None:
    administered.ask("ALTER ROLE {} SUPERUSER", administered.users[0])
    rotator = administered.make()
    assert isinstance(rotator, ChecksPrivileges)
    assert "may not change" in "\n".join(rotator.check(run_of()))
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, begin(administered)))


# --- how it is reached -----------------------------------------------------------------------------------------------


def test_speaks_over_a_socket_whatever_the_environment_says(
    own: PostgresqlRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGHOST": "h",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "admin",
        "PGPASSWORD": ADMIN_PASSWORD,
        "PGDATABASE": "no-such",
        "PGSSLMODE": "verify-full",
        "PGREQUIREAUTH": "none",
        "PGOPTIONS": "-c no.such.setting=1 --no-such",
        "PGTARGETSESSIONATTRS": "standby",
        "PGREQUIREPEER": "nobody-at-all",
    }.items():
        monkeypatch.setenv(name, value)
    rotator = from_options({"host": str(own.server.folder), "port": str(own.server.port)})
    run = propose(rotator, begin(own))
    rotator.apply(run)
    rotator.verify(pending_of(run), run)


def test_a_lost_answer_leaves_it_open_what_was_done(own: PostgresqlRoles, administered: PostgresqlRoles) -> None:
    for roles in (own, administered):
        rotator = roles.make()
        run = propose(rotator, begin(roles))
        roles.relay.cut_after(b"ALTER ROLE")
        with pytest.raises(TargetUnavailable):
            rotator.apply(run)
        for _ in range(100):
            # The server may still be at what it was told before, and refuses to do both at a time.
            with suppress(TargetUnavailable):
                rotator.apply(run)
                break
            time.sleep(0.02)
        rotator.verify(pending_of(run), run)


def test_a_server_that_says_nothing_costs_no_more_than_the_time_limit(own: PostgresqlRoles) -> None:
    own.relay.be_silent()
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        own.make().verify(own.current, run_of(timeout_s=0.2))
    assert time.monotonic() - started < 1.2


def test_a_probe_that_copies_is_no_query(own: PostgresqlRoles) -> None:
    started = time.monotonic()
    with pytest.raises(PrivilegeMissing):
        own.make(probe="COPY (SELECT 1) TO STDOUT").verify(own.current, run_of(timeout_s=5.0))
    assert time.monotonic() - started < 4


def test_a_query_without_an_end_costs_no_more_than_the_time_limit(own: PostgresqlRoles) -> None:
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        own.make(probe="SELECT pg_sleep(60)").verify(own.current, run_of(timeout_s=0.3))
    assert time.monotonic() - started < 1.3


def test_a_machine_without_an_address_or_a_port_where_something_else_listens_is_unavailable() -> None:
    value = login("u", "canary-password")
    with pytest.raises(TargetUnavailable):
        from_options({"host": "no-such-host.invalid"}).verify(value, run_of(timeout_s=2.0))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1_000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(TargetUnavailable):
            from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1])}).verify(value, run_of())


def test_a_file_of_authorities_that_is_not_there_is_named(own: PostgresqlRoles) -> None:
    with pytest.raises(TargetUnavailable) as caught:
        own.make(**{"tls": "verified", "tls-ca": "/no/such/file"}).verify(own.current, run_of())
    assert "tls-ca" in str(caught.value)


def test_a_server_without_tls_is_told_nothing_where_it_has_to_prove_itself() -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                heard.append(client.recv(1_000))
                client.sendall(b"N")
                heard.append(client.recv(1_000))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        rotator = from_options({"host": "127.0.0.1", "port": str(listener.getsockname()[1]), "tls": "verified"})
        with pytest.raises(TargetUnavailable):
            rotator.verify(login("u", "canary-password"), run_of())
        thread.join(5)
    assert len(heard[0]) == 8  # the question for TLS
    assert heard[1] == b""


def test_only_what_is_on_this_machine_is_spoken_to_in_the_clear() -> None:
    for host, is_verified in {
        "localhost": False,
        "127.0.0.2": False,
        "::1": False,
        "/run/postgresql": False,
        "db.internal": True,
        "10.0.0.1": True,
        "localhost.evil.example": True,
    }.items():
        assert from_options({"host": host})._server.is_verified == is_verified
    assert not from_options({"host": "db.internal", "tls": "insecure-disabled"})._server.is_verified


def test_a_full_server_is_unavailable(own: PostgresqlRoles) -> None:
    own.ask("ALTER ROLE {} CONNECTION LIMIT 0", own.users[0])
    with pytest.raises(TargetUnavailable):
        own.make().verify(own.current, run_of())


def test_a_library_that_is_too_old_is_named(own: PostgresqlRoles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecfg.rotation.postgresql_session.LIBPQ_MIN", 999_999)
    with pytest.raises(ExtraMissing) as caught:
        own.make().verify(own.current, run_of())
    assert "securecfg-vault[postgresql]" in caught.value.hint


def test_no_error_has_words_of_the_server(own: PostgresqlRoles) -> None:
    words = f"canary-words-{next(NUMBERS)}"
    with pytest.raises(PrivilegeMissing) as caught:
        own.make(probe=f"SELECT '{words}'::int").verify(own.current, run_of())
    error = caught.value
    assert words not in f"{error!r} {error} {error.hint} {error.__cause__!r} {error.__context__!r}"


def test_names_of_administrators_are_quoted_in_advice(two: PostgresqlRoles) -> None:
    rotator = from_options({**two.options, "admin": ADMIN, "admin-password": Secret(ADMIN_PASSWORD), "users": 'a"b,c'})
    first, second = rotator.check(run_of())
    assert 'CREATE ROLE "a""b" LOGIN' in first
    assert "CREATE ROLE c LOGIN" in second


def test_a_password_in_a_url_is_encoded() -> None:
    url = "postgresql://u:old@h/d"
    for _ in range(20):
        candidate = plain(
            propose(from_options({"host": "h", "alphabet": "printable"}), run_of({"": Secret(url)})).pending
        )
        password = urlsplit(str(candidate[""])).password or ""
        assert quote(password, safe="%") == password
