"""Passwords of Redis users at real servers, cut off wherever a rotation can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.rotation.rotators.redis import from_options
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from tests.rotation.redis_server import RedisUser, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.rotation import Options, Rotator
    from tests.rotation.redis_server import RedisServer


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
    def target(self, servers: list[RedisServer]) -> RedisUser:
        return RedisUser(servers[:1])


class TestAtTwoServers(_Redis):
    @pytest.fixture
    def target(self, servers: list[RedisServer]) -> RedisUser:
        return RedisUser(servers)


class TestByItself(_Redis):
    has_administrator = False

    @pytest.fixture
    def target(self, servers: list[RedisServer]) -> RedisUser:
        return RedisUser(servers[:1], administers=False)
