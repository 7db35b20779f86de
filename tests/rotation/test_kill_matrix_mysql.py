"""Passwords of MariaDB users at a real server, cut off wherever a rotation can be."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from securecfg.rotation.mysql_session import quoted
from securecfg.rotation.rotators.mysql import from_options
from securecfg.rotation.values import text_of
from securecfg.secret import Secret
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from tests.rotation.mariadb_server import mariadb_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.mariadb_server import MariadbServer

PASSWORD = "canary-password-of-a-user"
NOBODY_KNOWS = "canary-password-that-is-stored-nowhere"
_NUMBERS = count()


class _Users:
    """Two users of a test's own, the first of which has the current password, and who may set what is accepted."""

    is_remote = True

    def __init__(self, server: MariadbServer, number_of_users: int) -> None:
        self._server = server
        number = next(_NUMBERS)
        self._users = [f"app{number}_{letter}" for letter in "ab"]
        manager = f"manager{number}"
        server.ask(*(f"CREATE USER {user} IDENTIFIED BY {quoted(PASSWORD)}" for user in (*self._users, manager)))
        server.ask(f"GRANT CREATE USER ON *.* TO {manager}")
        options: dict[str, str | Secret[str] | Secret[bytes]] = {"host": "127.0.0.1", "port": str(server.port)}
        if number_of_users:
            options |= {"admin": manager, "admin-password": Secret(PASSWORD)}
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
        passwords = dict.fromkeys(self._users, NOBODY_KNOWS)
        for value in values:
            passwords[text_of(value, "username").reveal()] = text_of(value, "password").reveal()
        commands = [f"ALTER USER {user} IDENTIFIED BY {quoted(password)}" for user, password in passwords.items()]
        self._server.ask(*commands)

    def cut_off(self) -> None:
        raise NotImplementedError

    def restore(self) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as server:
        yield server


class _Mysql(RotationKillMatrix):
    sample = 1
    most = 300
    number_of_users = 1

    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self, server: MariadbServer) -> _Users:
        return _Users(server, self.number_of_users)


class TestOwnPassword(_Mysql):
    number_of_users = 0
    has_administrator = False


class TestOneUser(_Mysql):
    pass


class TestTwoUsers(_Mysql):
    number_of_users = 2
