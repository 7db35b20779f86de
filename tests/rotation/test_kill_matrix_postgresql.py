"""Passwords of PostgreSQL roles at a real server, cut off wherever a rotation can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rotation.databases import DatabaseKillMatrix
from tests.rotation.postgresql_server import PostgresqlRoles, postgresql_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rotation.postgresql_server import PostgresqlServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as server:
        yield server


class TestOwnPassword(DatabaseKillMatrix):
    users, kind = PostgresqlRoles, "own"
    has_administrator = False


class TestOneUser(DatabaseKillMatrix):
    users, kind = PostgresqlRoles, "admin"


class TestTwoUsers(DatabaseKillMatrix):
    users, kind = PostgresqlRoles, "users"
