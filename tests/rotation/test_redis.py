"""The rotator `redis`, at real servers."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.x509 import DNSName

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    ExtraMissing,
    InvalidRotation,
    PrivilegeMissing,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation import ChecksPrivileges, open_rotator
from securecfg.rotation.redis_session import open_session
from securecfg.rotation.rotators.redis import from_options
from securecfg.rotation.servers import Server
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import RotatorConformance, plain, propose, swap
from tests.keys.certificates import make_certificates
from tests.rotation.databases import TWICE, unanswered
from tests.rotation.redis_server import ADMIN, ADMIN_PASSWORD, ADMIN_RULES, USER_RULES, RedisUser, digest, redis_server
from tests.rotation.tcp_relay import TcpRelay
from tests.rotation.unprivileged import folder_of_identity, free_port, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.redis_server import RedisServer


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    with redis_server() as first, redis_server() as second:
        yield [first, second]


@pytest.fixture(scope="module")
def relays(servers: list[RedisServer]) -> Iterator[list[TcpRelay]]:
    with TcpRelay(servers[0].port) as first, TcpRelay(servers[1].port) as second:
        yield [first, second]


@pytest.fixture
def user(servers: list[RedisServer], relays: list[TcpRelay]) -> Iterator[RedisUser]:
    yield RedisUser(servers[:1], relays[:1])
    relays[0].restore()


@pytest.fixture
def twice(servers: list[RedisServer], relays: list[TcpRelay]) -> Iterator[RedisUser]:
    yield RedisUser(servers, relays)
    relays[1].restore()


class TestRedis(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture(params=["by an administrator", "by itself", "at two servers"])
    def target(
        self, request: pytest.FixtureRequest, servers: list[RedisServer], relays: list[TcpRelay]
    ) -> Iterator[RedisUser]:
        number = 2 if request.param == "at two servers" else 1
        user = RedisUser(servers[:number], relays[:number], administers=request.param != "by itself")
        yield user
        user.restore()


# --- what a server is told ---


def test_is_found_by_its_name(user: RedisUser) -> None:
    rotator = open_rotator("redis", user.options)
    assert rotator.target == f"redis 127.0.0.1:{user.relays[0].port}"
    assert isinstance(rotator, ChecksPrivileges)


@contextmanager
def _saying(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Give a server that says one thing after the other, whatever it is told, and hangs up; and what it was told."""
    told: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):  # who asks may hang up first
                for answer in answers:
                    told.append(client.recv(65_536))
                    client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", told
        thread.join(5)


OK = b"+OK\r\n"
A_USER = b"*4\r\n$5\r\nflags\r\n*0\r\n$9\r\npasswords\r\n*0\r\n"


def test_tells_no_server_a_password(user: RedisUser) -> None:
    """Its digest is what is sent: a server hides what `ACL SETUSER` is told from `MONITOR`, and a relay does not."""
    with _saying(OK, A_USER, OK + OK) as (host, told):
        rotator = from_options({**user.options, "hosts": host})
        run = propose(rotator, user.run())
        rotator.apply(run)
    password = str(plain(run.pending)["password"])
    assert f"#{digest(password)}".encode() in told[-1]
    assert told[-1].endswith(b"SAVE\r\n"), "both commands are sent at once"
    assert password.encode() not in b"".join(told)


@pytest.mark.parametrize(
    "answer",
    [b"*0\r\n", b"*1\r\n:1\r\n", b":1\r\n", OK, A_USER.replace(b"flags", b"other"), b"*2\r\n*0\r\n:1\r\n", b""],
)
def test_what_is_no_description_of_a_user_is_taken_for_none(user: RedisUser, answer: bytes) -> None:
    with _saying(OK, answer) as (host, told):
        rotator = from_options({**user.options, "hosts": host})
        with pytest.raises(TargetUnavailable):
            rotator.apply(propose(rotator, user.run()))
    assert b"SETUSER" not in b"".join(told)


def test_a_connection_that_was_lost_is_not_made_again_without_a_login(user: RedisUser) -> None:
    with (
        _saying(OK, b"") as (host, _),
        open_session(
            Server("redis", *_split(host), is_verified=False), "web", "canary", time.monotonic() + 2
        ) as session,
    ):
        for _attempt in range(2):
            with pytest.raises(TargetUnavailable):
                session.ask("PING")


def _split(host: str) -> tuple[str, int]:
    name, _, port = host.partition(":")
    return name, int(port)


def test_a_user_logs_in_by_whichever_password_is_accepted(servers: list[RedisServer], relays: list[TcpRelay]) -> None:
    """An answer was lost, or the server was restored: what is current may be the one that it does not know."""
    user = RedisUser(servers[:1], relays[:1], administers=False)
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    assert run.pending is not None
    for value in (run.pending, user.current):
        password = str(plain(value)["password"])
        servers[0].ask("ACL", "SETUSER", user.name, "resetpass", f"#{digest(password)}")
        rotator.apply(run)
        assert user.accepts(run.pending)
    servers[0].ask("ACL", "SETUSER", user.name, "resetpass")
    with pytest.raises(CredentialRefused):
        rotator.apply(run)


def test_leaves_everything_else_of_a_user_alone(user: RedisUser) -> None:
    [server] = user.servers
    server.ask("ACL", "SETUSER", user.name, "#" + digest("of-somebody-else"))
    before = server.ask("ACL", "GETUSER", user.name)
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    rotator.apply(run)
    rotator.retire(swap(run))
    after = server.ask("ACL", "GETUSER", user.name)
    assert {**before, "passwords": []} == {**after, "passwords": []}
    assert server.digests(user.name) == {digest("of-somebody-else"), digest(str(plain(run.pending)["password"]))}


def test_a_user_that_is_switched_off_stays_so(user: RedisUser) -> None:
    [server] = user.servers
    server.ask("ACL", "SETUSER", user.name, "off")
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    rotator.apply(run)
    assert "off" in server.ask("ACL", "GETUSER", user.name)["flags"]
    with pytest.raises(CredentialRefused):
        rotator.verify(run.pending or {}, run)
    assert "switched off" in " ".join(rotator.check(user.run()))


# --- what a server keeps ---


def test_both_changes_outlive_a_restart(user: RedisUser) -> None:
    [server] = user.servers
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    rotator.apply(run)
    server.kill()
    server.start()
    assert user.accepts(run.pending or {})
    assert user.accepts(user.current)
    rotator.retire(swap(run))
    server.kill()
    server.start()
    assert user.accepts(run.pending or {})
    assert not user.accepts(user.current)


def test_a_change_that_was_made_and_not_saved_is_saved_by_the_next_attempt(user: RedisUser) -> None:
    [server] = user.servers
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    server.ask("ACL", "SETUSER", user.name, "#" + digest(str(plain(run.pending)["password"])))
    rotator.apply(run)
    server.kill()
    server.start()
    assert user.accepts(run.pending or {})


def test_saves_in_the_configuration_where_there_is_no_file_of_users() -> None:
    with redis_server(has_file=False) as server, TcpRelay(server.port) as relay:
        user = RedisUser([server], [relay])
        server.ask("ACL", "SETUSER", ADMIN, "+config|rewrite")
        rotator = from_options({**user.options, "persist": "config-rewrite"})
        assert rotator.check(user.run()) == []
        run = propose(rotator, user.run())
        rotator.apply(run)
        rotator.retire(swap(run))
        server.kill()
        server.start()
        assert user.accepts(run.pending or {})
        assert not user.accepts(user.current)


@pytest.mark.parametrize("save", ["acl-save", "config-rewrite"])
def test_a_password_that_a_server_does_not_keep_is_taken_back(save: str) -> None:
    with redis_server(has_file=False) as server, TcpRelay(server.port) as relay:
        user = RedisUser([server], [relay])
        rotator = from_options({**user.options, "persist": save})
        run = propose(rotator, user.run())
        with pytest.raises(PrivilegeMissing) as caught:
            rotator.apply(run)
        assert caught.value.code == "privilege-missing"
        assert server.digests(user.name) == {digest(user.password)}
        assert len(rotator.check(user.run())) == 1


def test_tells_before_the_first_rotation_that_a_password_will_not_outlive_a_restart(user: RedisUser) -> None:
    rotator = from_options({**user.options, "persist": "none"})
    [missing] = rotator.check(user.run())
    assert "outlive" in missing
    run = propose(rotator, user.run())
    rotator.apply(run)
    assert user.accepts(run.pending or {})


# --- several servers ---


def test_one_server_that_is_down_leaves_a_change_in_doubt(twice: RedisUser) -> None:
    up, down = twice.servers
    rotator = from_options({**twice.options, "hosts": f"127.0.0.1:{up.port},127.0.0.1:{down.port}"})
    run = propose(rotator, twice.run())
    down.kill()
    for attempt in (rotator.apply, lambda run: rotator.verify(run.pending or {}, run), rotator.check):
        with pytest.raises(TargetUnavailable) as caught:
            attempt(run)
        assert caught.value.code == "target-unavailable"
        assert str(down.port) in str(caught.value)
    assert digest(str(plain(run.pending)["password"])) in up.digests(twice.name)
    with pytest.raises(TargetUnavailable):
        rotator.retire(swap(run))
    assert up.digests(twice.name) == {digest(str(plain(run.pending)["password"]))}
    down.start()
    down.ask("ACL", "SETUSER", twice.name, *USER_RULES, "#" + digest(twice.password))
    with pytest.raises(CredentialRefused):
        rotator.verify(run.pending or {}, run)
    rotator.apply(run)
    rotator.verify(run.pending or {}, run)
    rotator.retire(swap(run))
    assert not down.accepts(twice.name, twice.password)


def test_a_server_that_refuses_is_told_before_one_that_is_down(twice: RedisUser) -> None:
    rotator = from_options(twice.options)
    twice.cut_off()
    with pytest.raises(CredentialRefused):
        rotator.verify({**twice.current, "password": Secret("wrong")}, twice.run())


def test_takes_no_password_away_where_the_new_one_is_not_known(twice: RedisUser) -> None:
    rotator = from_options(twice.options)
    run = propose(rotator, twice.run())
    from_options({**twice.options, "hosts": f"127.0.0.1:{twice.relays[0].port}"}).apply(run)
    with pytest.raises(CredentialRefused) as caught:
        rotator.retire(swap(run))
    assert caught.value.code == "credential-refused"
    assert twice.servers[1].accepts(twice.name, twice.password)


# --- a server that does not answer ---


def test_an_answer_that_is_lost_leaves_a_change_in_doubt(user: RedisUser) -> None:
    [server] = user.servers
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    user.relays[0].cut_after(b"SETUSER")
    with pytest.raises(TargetUnavailable):
        rotator.apply(run)
    rotator.apply(run)
    rotator.verify(run.pending or {}, run)
    server.kill()
    server.start()
    assert user.accepts(run.pending or {})


def test_a_server_that_is_silent_is_left_in_time(twice: RedisUser) -> None:
    twice.relays[1].be_silent()
    rotator = from_options(twice.options)
    run = propose(rotator, twice.run(timeout_s=0.4))
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        rotator.apply(run)
    assert time.monotonic() - started < 1.4


def test_an_address_that_does_not_answer_leaves_time_for_the_next_one(
    user: RedisUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = user.relays[0].port
    rotator = from_options({**user.options, "hosts": f"{TWICE}:{port}", "tls": "insecure-disabled"})
    with unanswered(port, monkeypatch):
        rotator.verify(user.current, user.run(timeout_s=2.0))


def test_what_is_checked_takes_no_longer_than_the_time_limit(user: RedisUser) -> None:
    rotator = from_options(user.options)
    assert rotator.check(user.run()) == []
    user.relays[0].delay(0.08)  # what the administrator asks takes 0.8 s, and what the user asks half of that
    with pytest.raises(TargetUnavailable):
        rotator.check(user.run(timeout_s=1.0))


@pytest.mark.parametrize("tls", ["insecure-disabled", "verified"])
def test_a_server_that_sends_byte_by_byte_is_left_in_time(user: RedisUser, tls: str) -> None:
    is_over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        client, _ = listener.accept()
        with client, suppress(OSError):  # who asks hangs up first
            # A record of TLS that is never whole, and to Redis an answer that is never whole.
            client.sendall(b"\x16\x03\x03\x40\x00" if tls == "verified" else b"$900\r\n")
            while not is_over.wait(0.05):
                client.sendall(b"a")

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    options = {**user.options, "hosts": f"127.0.0.1:{listener.getsockname()[1]}", "tls": tls}
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        from_options(options).verify(user.current, user.run(timeout_s=0.3))
    assert time.monotonic() - started < 1.3
    is_over.set()
    listener.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":x\r\n",
        b"$-5\r\n",
        b"*1\r\n" * 5_000,
        b"\xff\xfe\r\n",
        b"-LOADING canary\r\n",
        b"-MASTERDOWN canary\r\n",
        b"-ERR max number of clients reached\r\n",
        b"+OK\r\n-OOM canary\r\n",
        b"+OK\r\n-READONLY canary\r\n",
        b"",
    ],
)
def test_an_answer_that_is_none_is_told_from_a_refusal(user: RedisUser, answer: bytes) -> None:
    with pytest.raises(TargetUnavailable) as caught:
        _verify_at(answer, user)
    assert "canary" not in str(caught.value) + caught.value.hint
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "answer", [b"-WRONGPASS canary\r\n", b"-NOAUTH canary\r\n", b"-ERR invalid password\r\n", b"+OK\r\n$5\r\nother\r\n"]
)
def test_a_login_that_is_refused_is_told_so(user: RedisUser, answer: bytes) -> None:
    with pytest.raises(CredentialRefused) as caught:
        _verify_at(answer, user)
    assert "canary" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("answer", [b"+OK\r\n-NOPERM canary\r\n", b"-ERR unknown command 'canary'\r\n"])
def test_a_command_that_is_refused_is_a_missing_privilege(user: RedisUser, answer: bytes) -> None:
    with pytest.raises(PrivilegeMissing) as caught:
        _verify_at(answer, user)
    assert "canary" not in str(caught.value) + caught.value.hint


def _verify_at(answer: bytes, user: RedisUser) -> None:
    login, is_let_in, rest = answer.partition(OK)
    with _saying(*((OK, rest) if is_let_in else (login,))) as (host, _):
        from_options({**user.options, "hosts": host}).verify(user.current, user.run(timeout_s=2))


# --- privileges ---


@pytest.mark.parametrize("rule", ["acl|getuser", "acl|setuser", "acl|save"])
def test_a_privilege_that_the_administrator_lacks_is_missed_before_and_named(user: RedisUser, rule: str) -> None:
    [server] = user.servers
    rotator = from_options(user.options)
    assert rotator.check(user.run()) == []
    server.ask("ACL", "SETUSER", ADMIN, f"-{rule}")
    try:
        [missing] = rotator.check(user.run())
        assert f"+{rule}" in missing
        run = propose(rotator, user.run())
        with pytest.raises(PrivilegeMissing) as caught:
            rotator.apply(run)
        assert rule.replace("|", " ").upper() in str(caught.value)
        assert server.digests(user.name) == {digest(user.password)}
    finally:
        server.ask("ACL", "SETUSER", ADMIN, f"+{rule}")


def test_changes_without_the_privileges_that_only_a_check_needs(user: RedisUser) -> None:
    [server] = user.servers
    server.ask("ACL", "SETUSER", ADMIN, "-acl|dryrun", "-config|get")
    try:
        rotator = from_options(user.options)
        assert rotator.check(user.run()) == []
        rotator.apply(propose(rotator, user.run()))
    finally:
        server.ask("ACL", "SETUSER", ADMIN, *ADMIN_RULES)


def test_a_check_changes_nothing(user: RedisUser) -> None:
    [server] = user.servers
    before, file = server.ask("ACL", "LIST"), (server.folder / "users.acl").read_text()
    from_options(user.options).check(user.run())
    assert server.ask("ACL", "LIST") == before
    assert (server.folder / "users.acl").read_text() == file


def test_a_wrong_login_of_the_administrator_is_refused(user: RedisUser) -> None:
    rotator = from_options({**user.options, "admin-password": Secret("canary-wrong")})
    run = propose(rotator, user.run())
    for call in (rotator.apply, rotator.check):
        with pytest.raises(CredentialRefused):
            call(run)


def test_a_user_that_may_not_change_passwords_cannot_change_its_own(user: RedisUser) -> None:
    rotator = from_options({"hosts": user.options["hosts"], "persist": "acl-save"})
    assert "getuser" in " ".join(rotator.check(user.run()))
    with pytest.raises(PrivilegeMissing):
        rotator.apply(propose(rotator, user.run()))


@pytest.mark.parametrize(
    ("probe", "is_allowed"),
    [
        ("PING", True),
        ("GET app:x", True),
        ("PING;GET app:x", True),
        ("GET other:x", False),
        ("PING;DBSIZE", False),
        ("GET app:hash", True),
    ],
)
def test_a_probe_is_what_the_user_must_be_able_to_run(user: RedisUser, probe: str, is_allowed: bool) -> None:
    user.servers[0].ask("HSET", "app:hash", "field", "canary")
    rotator = from_options({**user.options, "probe": probe})
    if is_allowed:
        rotator.verify(user.current, user.run())
        return
    with pytest.raises(PrivilegeMissing) as caught:
        rotator.verify(user.current, user.run())
    assert "other:x" not in str(caught.value)
    assert "with what the secret holds" in rotator.check(user.run())[0]


def test_a_user_that_may_not_ask_who_it_is_lacks_a_privilege(user: RedisUser) -> None:
    user.servers[0].ask("ACL", "SETUSER", user.name, "-acl|whoami")
    with pytest.raises(PrivilegeMissing) as caught:
        from_options(user.options).verify(user.current, user.run())
    assert "ACL WHOAMI" in str(caught.value)


# --- users that are not changed ---


def test_makes_no_user_that_there_is_not(user: RedisUser) -> None:
    [server] = user.servers
    current: Fields = {"username": Secret("nobody-here"), "password": Secret("canary")}
    run = user.run()._replace(current=current)
    rotator = from_options({**user.options, "username": "nobody-here"})
    assert "the user" in rotator.check(run)[0]
    with pytest.raises(InvalidRotation) as caught:
        rotator.apply(propose(rotator, run))
    assert caught.value.code == "invalid-rotation"
    assert "nobody-here" not in server.ask("ACL", "USERS")


def test_gives_no_password_to_a_user_that_needs_none(user: RedisUser) -> None:
    [server] = user.servers
    server.ask("ACL", "SETUSER", user.name, "nopass")
    rotator = from_options(user.options)
    assert "nopass" in rotator.check(user.run())[0]
    with pytest.raises(InvalidRotation):
        rotator.apply(propose(rotator, user.run()))
    assert "nopass" in server.ask("ACL", "GETUSER", user.name)["flags"]


@pytest.mark.parametrize("administers", [True, False])
def test_changes_no_other_user_than_the_current_one(servers: list[RedisServer], administers: bool) -> None:
    user = RedisUser(servers[:1], administers=administers)
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    other = {**(run.pending or {}), "username": Secret(ADMIN)}
    with pytest.raises(InvalidRotation):
        rotator.apply(run._replace(pending=other))
    swapped = swap(run)
    rotator.apply(run)
    rotator.retire(swapped._replace(previous={**user.current, "username": Secret(ADMIN)}))
    assert user.accepts(user.current)


@pytest.mark.parametrize("name", ["default", ADMIN])
def test_does_not_change_those_it_depends_on(user: RedisUser, name: str) -> None:
    rotator = from_options(user.options)
    run = user.run()._replace(current={**user.current, "username": Secret(name)})
    pending = {**run.current, "password": Secret("canary-new")} if run.current else {}
    with pytest.raises(InvalidRotation):
        rotator.apply(run._replace(pending=pending))


HOSTILE = ["", " ", "a b", "a\x00b", "a\nb", "a\r\nFLUSHALL\r\n", "\ud800", "a\u2028b", "a\xa0b", "x" * 257]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_no_user_has_is_refused_before_a_server_is_asked(user: RedisUser, name: str) -> None:
    user.cut_off()
    rotator = from_options(user.options)
    current = {**user.current, "username": Secret(name)}
    run = user.run()._replace(current=current, pending=current)
    for call in (rotator.propose, rotator.apply, rotator.retire, rotator.check):
        with pytest.raises(InvalidRotation) as caught:
            call(run._replace(previous=current))
        assert not name.strip() or name not in str(caught.value)
    if len(name) < 257:
        with pytest.raises(CredentialRefused):
            rotator.verify(current, run)


@pytest.mark.parametrize("password", HOSTILE[:-1])
def test_a_password_that_no_client_can_be_given_is_rejected(user: RedisUser, password: str) -> None:
    rotator = from_options(user.options)
    run = user.run()._replace(pending={**user.current, "password": Secret(password)})
    with pytest.raises(CandidateRejected) as caught:
        rotator.apply(run)
    assert caught.value.code == "candidate-rejected"
    with pytest.raises(CredentialRefused):
        rotator.verify(run.pending or {}, run)
    assert user.servers[0].digests(user.name) == {digest(user.password)}


def test_a_password_with_spaces_is_replaced(user: RedisUser) -> None:
    """It was set by a person; Redis takes it."""
    [server] = user.servers
    server.ask("ACL", "SETUSER", user.name, ">a b\r\n\u00e9")
    current = {**user.current, "password": Secret("a b\r\n\u00e9")}
    rotator = from_options(user.options)
    run = propose(rotator, user.run()._replace(current=current))
    rotator.verify(current, run)
    rotator.apply(run)
    rotator.retire(swap(run))
    assert not server.accepts(user.name, "a b\r\n\u00e9")


@pytest.mark.parametrize("value", [{}, {"": Secret("x")}, {"username": Secret(b"web"), "password": Secret("x")}])
def test_a_value_without_a_user_is_no_value_to_rotate(user: RedisUser, value: Fields) -> None:
    rotator = from_options(user.options)
    for call in (rotator.propose, rotator.check):
        with pytest.raises(InvalidRotation):
            call(user.run()._replace(current=value))
    with pytest.raises(CredentialRefused):
        rotator.verify(value, user.run())


# --- TLS ---


def test_tls_is_verified() -> None:
    with folder_of_identity() as folder:
        authority, certificate = make_certificates(folder, [DNSName("localhost")])
        who = identity()
        if who:
            for each in (authority, certificate):
                shutil.chown(each, who["user"], who["group"])
        port = free_port()
        arguments = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(authority)]
        arguments += ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate)]
        with redis_server(*arguments) as server:
            user = RedisUser([server], [])
            options = {**user.options, "hosts": f"localhost:{port}", "tls": "verified", "tls-ca": str(authority)}
            from_options(options).verify(user.current, user.run())
            for wrong in ({"tls-ca": ""}, {"hosts": f"127.0.0.1:{port}"}, {"tls": "", "tls-ca": ""}):
                with pytest.raises(TargetUnavailable) as caught:
                    from_options({**options, **wrong}).verify(user.current, user.run())
                assert ("tls-ca" in caught.value.hint) == ("tls" not in wrong)


def test_asks_over_a_socket(user: RedisUser) -> None:
    rotator = from_options({**user.options, "hosts": user.servers[0].socket})
    run = propose(rotator, user.run())
    rotator.apply(run)
    rotator.verify(run.pending or {}, run)
    assert rotator.target.endswith("/socket")


@pytest.mark.parametrize(
    ("hosts", "tls", "expected"),
    [
        ("db.example", "", [True]),
        ("db.example:6390,127.0.0.1,[::1]:6380,localhost,/run/redis.sock", "", [True, False, False, False, False]),
        ("db.example,127.0.0.1,/run/redis.sock", "verified", [True, True, False]),
        ("db.example,10.0.0.7", "insecure-disabled", [False, False]),
        ("127.0.0.1.example", "", [True]),
    ],
)
def test_what_leaves_the_machine_goes_over_tls_unless_told(hosts: str, tls: str, expected: list[bool]) -> None:
    rotator = from_options({"hosts": hosts, "tls": tls, "persist": "none"})
    assert [server.is_verified for server in rotator._servers] == expected


# --- options ---


@pytest.mark.parametrize(
    "changed",
    [
        {"hosts": None},
        {"hosts": ""},
        {"hosts": "a,,b"},
        {"hosts": "a, b"},
        {"hosts": "a,a:6379"},
        {"hosts": "a:0"},
        {"hosts": "a:65536"},
        {"hosts": "a:x"},
        {"hosts": "a:"},
        {"hosts": "a:\u0661"},
        {"hosts": "[::1"},
        {"hosts": "[::1]x"},
        {"hosts": "redis://a"},
        {"hosts": "user@a"},
        {"hosts": "a\x00b"},
        {"hosts": ",".join(f"h{number}" for number in range(65))},
        {"hosts": Secret("a")},
        {"persist": None},
        {"persist": "perhaps"},
        {"tls": "no"},
        {"tls-ca": "/etc/ca.pem"},
        {"admin-user": "a b", "admin-password": Secret("x")},
        {"admin-user": "rotator", "admin-password": None},
        {"username": None},
        {"username": "web", "admin-password": None},
        {"username": "default"},
        {"username": "two words"},
        {"username": "web", "admin-user": "web"},
        {"admin-password": "plain"},
        {"admin-user": Secret("rotator")},
        {"probe": ""},
        {"probe": "SET a b"},
        {"probe": "ping"},
        {"probe": "PING;"},
        {"probe": "PING;FLUSHALL"},
        {"probe": "GET a\x00"},
        {"alphabet": "abcdefghijklmnop qrstuvwxyz"},
        {"length": "3"},
        {"password": Secret("x")},
    ],
)
def test_refuses_options_that_make_no_sense(changed: dict[str, Any]) -> None:
    right: dict[str, Any] = {"hosts": "127.0.0.1", "persist": "none", "username": "web"}
    right["admin-password"] = Secret("canary")
    from_options(right)
    options = {**right, **changed}
    with pytest.raises(InvalidRotation) as caught:
        from_options({name: value for name, value in options.items() if value is not None})
    assert caught.value.code == "invalid-rotation"


def test_an_administrator_changes_nobody_else(user: RedisUser, twice: RedisUser) -> None:
    rotator = from_options(user.options)
    mine, theirs = user.run(), {**user.current, "username": Secret(twice.name)}
    digests = user.servers[0].ask("ACL", "GETUSER", twice.name)
    for call in (
        lambda: rotator.propose(mine._replace(current=theirs)),
        lambda: rotator.apply(mine._replace(current=theirs, pending=theirs)),
        lambda: rotator.apply(mine._replace(current=None, pending=theirs)),
        lambda: rotator.retire(mine._replace(current=theirs, previous=twice.current)),
    ):
        with pytest.raises(InvalidRotation):
            call()
    assert user.servers[0].ask("ACL", "GETUSER", twice.name) == digests
    assert user.accepts(user.current)


def test_says_which_package_is_missing(user: RedisUser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "securecfg.rotation.redis_session", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ExtraMissing) as caught:
        from_options(user.options).verify(user.current, user.run())
    assert "redis" in caught.value.hint


def test_no_error_shows_a_password(user: RedisUser) -> None:
    rotator = from_options(user.options)
    run = propose(rotator, user.run())
    said = [repr(rotator), rotator.target, repr(rotator._administrator)]
    calls: tuple[Callable[[], None], ...] = (
        lambda: from_options({**user.options, "admin-password": Secret("canary-wrong")}).apply(run),
        lambda: rotator.verify(run.pending or {}, run),
        lambda: rotator.retire(swap(run)),
    )
    for call in calls:
        with pytest.raises(SecurecfgError) as caught:
            call()
        error = caught.value
        said += [str(error), error.hint, repr(error), repr(error.__cause__), repr(error.__context__)]
    shown = "".join(said)
    for text in ("canary-wrong", ADMIN_PASSWORD, user.password, str(plain(run.pending)["password"])):
        assert text not in shown
