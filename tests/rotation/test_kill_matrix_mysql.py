"""Passwords of MariaDB users at a real server, cut off wherever a rotation can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rotation.databases import DatabaseKillMatrix
from tests.rotation.mariadb_server import MysqlUsers, mariadb_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rotation.mariadb_server import MariadbServer


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as server:
        yield server


class TestOwnPassword(DatabaseKillMatrix):
    users, kind = MysqlUsers, "own"
    has_administrator = False


class TestOneUser(DatabaseKillMatrix):
    users, kind = MysqlUsers, "admin"


class TestTwoUsers(DatabaseKillMatrix):
    users, kind = MysqlUsers, "users"
