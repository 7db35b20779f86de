"""Passwords of Redis users at real servers, cut off wherever a rotation can be."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.rotation.rotators.redis import from_options
from securecfg.rotation.values import text_of
from securecfg.secret import Secret
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from tests.rotation.redis_server import ADMIN, ADMIN_PASSWORD, ADMIN_RULES, digest, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.redis_server import RedisServer

PASSWORD = "canary-password-of-a-user"
_NUMBERS = count()
_RULES = ("on", "-@all", "+ping", "+acl|whoami")


class _User:
    """A user at one server or at two, and who may set what they accept."""

    is_remote = True

    def __init__(self, servers: list[RedisServer], *, has_administrator: bool = True) -> None:
        self._servers = servers
        self._name = f"web{next(_NUMBERS)}"
        rules = _RULES if has_administrator else (*_RULES, *ADMIN_RULES)
        for server in servers:
            server.ask("ACL", "SETUSER", self._name, *rules)
        self.options: Any = {"hosts": ",".join(f"127.0.0.1:{server.port}" for server in servers), "persist": "acl-save"}
        if has_administrator:
            self.options |= {"admin-user": ADMIN, "admin-password": Secret(ADMIN_PASSWORD), "username": self._name}
        self.current: Fields = {
            "username": Secret(self._name),
            "password": Secret(PASSWORD),
            "team": Secret("payments-team"),
        }
        self.hold(self.current)

    def accepts(self, value: Fields, /) -> bool:
        password = text_of(value, "password").reveal()
        return all(server.accepts(self._name, password) for server in self._servers)

    def hold(self, *values: Fields) -> None:
        digests = [digest(text_of(value, "password").reveal()) for value in values]
        for server in self._servers:
            server.ask("ACL", "SETUSER", self._name, "resetpass", *(f"#{each}" for each in digests))

    def cut_off(self) -> None:
        raise NotImplementedError

    def restore(self) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    with redis_server() as first, redis_server() as second:
        yield [first, second]


class _Redis(RotationKillMatrix):
    sample = 1
    most = 300

    def make(self, options: Options) -> Rotator:
        return from_options(options)


class TestByAnAdministrator(_Redis):
    @pytest.fixture
    def target(self, servers: list[RedisServer]) -> _User:
        return _User(servers[:1])


class TestAtTwoServers(_Redis):
    @pytest.fixture
    def target(self, servers: list[RedisServer]) -> _User:
        return _User(servers)


class TestByItself(_Redis):
    has_administrator = False

    @pytest.fixture
    def target(self, servers: list[RedisServer]) -> _User:
        return _User(servers[:1], has_administrator=False)
