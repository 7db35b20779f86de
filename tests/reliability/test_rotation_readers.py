"""Clients that log in without a pause while their credential is rotated again and again: none is ever refused.

The grace is over when each client has had what it needs of it: it has read the secret anew, and ended what it did with
the value that it had before. Normally ten rotations; a hundred with `SECURECFG_EXHAUSTIVE`, as by `make soak`.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from psycopg import connect
from psycopg.sql import SQL, Identifier

from securecfg.rotation.document import NS, Rules
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import State
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from tests.rotation.postgresql_server import ADMIN as ROOT
from tests.rotation.postgresql_server import ADMIN_PASSWORD as ROOT_PASSWORD
from tests.rotation.postgresql_server import postgresql_server
from tests.rotation.redis_server import ADMIN, ADMIN_PASSWORD, digest, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.vault.vault import Vault
    from tests.vault.world import World

ROTATIONS = 100 if "SECURECFG_EXHAUSTIVE" in os.environ else 10
GRACE_S = 60
READ_AGAIN = 3
"""After how many logins a client reads the secret again, as one with a pool of connections does."""

_PATH = "db/shop"
_CLIENTS = 2
_FIRST = "canary-first-password"
_PATIENCE_S = 60.0


class _SharedClock:
    """A clock that moves when it is told to, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ns = 1_900_000_000 * NS

    def now_ns(self) -> int:
        with self._lock:
            self._ns += 1_000
            return self._ns

    def wait(self, seconds: float) -> None:
        with self._lock:
            self._ns += int(seconds * NS)


class _Client:
    """Somebody who reads a secret, logs in with it a few times, and reads it again.

    Attributes:
        rounds: How often it has read the secret and used what it had read.
        logins: How often it was let in.
        versions: Which versions it was let in with.
        failure: Why it was not; None where it always was.
    """

    def __init__(self, vault: Vault, log_in: Callable[[str, str], None]) -> None:
        self.rounds = self.logins = 0
        self.versions: set[object] = set()
        self.failure: Exception | None = None
        self._vault, self._log_in = vault, log_in
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._is_over.is_set():
                value = self._vault.read(_PATH)
                username, password = (str(value.field(name).reveal()) for name in ("username", "password"))
                for _ in range(READ_AGAIN):
                    self._log_in(username, password)
                    self.logins += 1
                self.versions.add(value.version)
                self.rounds += 1
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is what must not happen
            self.failure = failure


class _Target(NamedTuple):
    """What is rotated.

    Attributes:
        rotator: The name of its rotator.
        options: What that is told.
        username: Of the first login.
        log_in: Logs in, and does what the login is for.
    """

    rotator: str
    options: Mapping[str, str]
    username: str
    log_in: Callable[[str, str], None]


def _rotate_under_load(world: World, target: _Target, admin_password: str) -> None:
    clock = _SharedClock()
    vault = world.open(clock=clock)
    vault.write(_PATH, {"username": target.username, "password": _FIRST})
    vault.write("db/admin", admin_password)
    Rotations(vault).set(_PATH, Rules(target.rotator, target.options, grace_s=GRACE_S))
    runner = Runner(vault, leases=Leases("runner"), jitter=lambda: 0.5)
    clients = [_Client(world.open(clock=clock), target.log_in) for _ in range(_CLIENTS)]
    for client in clients:
        client.begin()
    try:
        _wait_for_all(clients)
        for _ in range(ROTATIONS):
            stored = runner.advance(runner.steps.find(_PATH), "asked")
            assert stored.rotation.progress is not None
            assert stored.rotation.progress.state is State.CURRENT, stored.rotation.progress.reason
            # One round that may have begun before, and one that began after.
            _wait_for_all(clients)
            clock.wait(GRACE_S)
            after = runner.advance(stored).rotation
            assert after.progress is not None
            assert after.progress.state is State.RETIRED, after.progress.reason
            _wait_for_all(clients, rounds=1)
    finally:
        for client in clients:
            client.end()
    assert [client.failure for client in clients] == [None] * _CLIENTS
    print({"rotations": ROTATIONS, "logins": sum(client.logins for client in clients), "refused": 0})
    seen = set.union(*(client.versions for client in clients))
    assert seen == set(range(1, ROTATIONS + 2))
    assert vault.history(_PATH)[0].version == ROTATIONS + 1


def _wait_for_all(clients: list[_Client], rounds: int = 2) -> None:
    """Wait until each client has ended some more rounds."""
    before = [client.rounds for client in clients]
    until = time.monotonic() + _PATIENCE_S
    while any(client.rounds < count + rounds for client, count in zip(clients, before, strict=True)):
        for client in clients:
            assert client.failure is None, "a client was refused"
        assert time.monotonic() < until, "a client stands still"
        time.sleep(0.001)


@pytest.mark.timeout(1_200)
@pytest.mark.usefixtures("vault")
def test_two_postgresql_roles_take_turns_and_no_query_fails(world: World) -> None:
    with postgresql_server() as server:
        server.ask("CREATE TABLE goods (name text); CREATE ROLE shop NOLOGIN; GRANT SELECT ON goods TO shop")
        for role in ("shop_a", "shop_b"):
            server.ask(SQL("CREATE ROLE {} LOGIN IN ROLE shop").format(Identifier(role)).as_string())
        server.ask(f"ALTER ROLE shop_a PASSWORD '{_FIRST}'")

        def log_in(username: str, password: str) -> None:
            described = f"host=127.0.0.1 port={server.port} dbname=postgres sslmode=disable"
            with connect(described, user=username, password=password) as connection:
                connection.execute("SELECT name FROM goods")

        options = {"host": "127.0.0.1", "port": str(server.port), "users": "shop_a,shop_b", "admin": ROOT}
        options |= {"admin-password": "${secret:db/admin}", "probe": "SELECT name FROM goods"}
        _rotate_under_load(world, _Target("postgresql", options, "shop_a", log_in), ROOT_PASSWORD)


@pytest.mark.timeout(1_200)
@pytest.mark.usefixtures("vault")
def test_a_redis_user_has_two_passwords_and_no_login_fails(world: World) -> None:
    with redis_server() as server:
        server.ask("ACL", "SETUSER", "shop", "on", "-@all", "+ping", "+acl|whoami", f"#{digest(_FIRST)}")

        def log_in(username: str, password: str) -> None:
            assert server.accepts(username, password), "the login was refused"

        options = {"hosts": f"127.0.0.1:{server.port}", "persist": "acl-save", "admin-user": ADMIN}
        options |= {"admin-password": "${secret:db/admin}", "username": "shop"}
        _rotate_under_load(world, _Target("redis", options, "shop", log_in), ADMIN_PASSWORD)
