"""Passwords of PostgreSQL roles at a real server, cut off wherever a rotation can be."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from psycopg.sql import SQL, Identifier, Literal

from securecfg.rotation.rotators.postgresql import from_options
from securecfg.rotation.values import text_of
from securecfg.secret import Secret
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from tests.rotation.postgresql_server import ADMIN, ADMIN_PASSWORD, postgresql_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.postgresql_server import PostgresqlServer

PASSWORD = "canary-password-of-a-role"
_NUMBERS = count()


class _Roles:
    """Two roles of a test's own, the first of which has a password, and who may set what the server accepts."""

    is_remote = True

    def __init__(self, server: PostgresqlServer, number_of_users: int) -> None:
        self._server = server
        number = next(_NUMBERS)
        self._users = [f"app{number}_{letter}" for letter in "ab"]
        for user in self._users:
            server.ask(SQL("CREATE ROLE {} LOGIN").format(Identifier(user)).as_string())
        options: dict[str, str | Secret[str] | Secret[bytes]] = {"host": "127.0.0.1", "port": str(server.port)}
        if number_of_users:
            options |= {"admin": ADMIN, "admin-password": Secret(ADMIN_PASSWORD)}
            options |= {"users": ",".join(self._users)} if number_of_users == 2 else {"username": self._users[0]}
        self.options: Options = options
        self.current: Fields = {
            "username": Secret(self._users[0]),
            "password": Secret(PASSWORD),
            "team": Secret("payments-team"),
        }
        self.hold(self.current)

    def accepts(self, value: Fields, /) -> bool:
        return self._server.login(text_of(value, "username").reveal(), text_of(value, "password").reveal())

    def hold(self, *values: Fields) -> None:
        passwords: dict[str, str | None] = dict.fromkeys(self._users)
        for value in values:
            passwords[text_of(value, "username").reveal()] = text_of(value, "password").reveal()
        for user, password in passwords.items():
            command = SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(user), Literal(password))
            self._server.ask(command.as_string())

    def cut_off(self) -> None:
        raise NotImplementedError

    def restore(self) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as server:
        yield server


class _Postgresql(RotationKillMatrix):
    sample = 1
    most = 300
    number_of_users = 1

    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self, server: PostgresqlServer) -> _Roles:
        return _Roles(server, self.number_of_users)


class TestOwnPassword(_Postgresql):
    number_of_users = 0
    has_administrator = False


class TestOneUser(_Postgresql):
    pass


class TestTwoUsers(_Postgresql):
    number_of_users = 2
