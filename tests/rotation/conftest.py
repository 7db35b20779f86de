"""A vault with one credential, and the account at a target that it is for."""

from __future__ import annotations

from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography.x509 import IPAddress

from securecfg.rotation.document import Rules
from securecfg.rotation.lease import Leases
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from securecfg.testing.account import Account
from tests.keys.certificates import make_certificates
from tests.rotation.tcp_relay import TcpRelay
from tests.vault.copies import copy_of
from tests.vault.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.rotation import Options, Rotator, Strategy
    from securecfg.rotation.document import Rotation
    from securecfg.rotation.machine import Progress
    from securecfg.vault.vault import Vault
    from tests.rotation.databases import DatabaseUsers
    from tests.rotation.mariadb_server import MariadbServer
    from tests.rotation.postgresql_server import PostgresqlServer

PATH = "app/db"
FIRST = "first-password-4711"


class RotationWorld(World):
    """A vault with a rotated credential."""

    __slots__ = ("account", "elapsed", "names")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.account = Account(FIRST)
        self.elapsed = 0.0
        self.names = 0

    def begin(self, strategy: Strategy | None = None, **rules: object) -> Vault:
        """Return the vault, whose credential is rotated when that is asked for."""
        vault = self.open()
        if strategy is not None:
            self.account = Account(FIRST, strategy)
        given = {"grace_s": 60, "is_hard_cut": True, **rules}
        self.rotations(vault).set(PATH, Rules("account", **given))  # type: ignore[arg-type]  # by their names
        return vault

    def rotations(self, vault: Vault) -> Rotations:
        return Rotations(vault, find=self.account.rotator)

    def runner(self, vault: Vault, find: Callable[[str, Options], Rotator] | None = None) -> Runner:
        """Return a runner of its own, as another process would have it."""
        self.names += 1
        leases = Leases(f"holder-{self.names}", lambda: self.elapsed)
        return Runner(vault, leases=leases, jitter=lambda: 0.5, find=find or self.account.rotator)

    def advance(self, runner: Runner, why: str = "") -> Rotation:
        return runner.advance(runner.steps.find(PATH), why).rotation

    def lead_on(self, runner: Runner, why: str = "") -> Progress:
        """Lead the rotation on until it is over or has failed; time passes as it must."""
        for _ in range(100):
            progress, why = progress_of(self.advance(runner, why)), ""
            if progress.is_over or progress.failed_in is not None:
                return progress
            self.wait(max((progress.not_before_ns - self.clock.ns) / 1e9, 0.001))
        raise AssertionError(progress)

    def wait(self, seconds: float) -> None:
        """Let time pass, on every clock."""
        self.elapsed += seconds
        self.clock.ns += int(seconds * 1_000_000_000)


def progress_of(rotation: Rotation) -> Progress:
    """Return how far a rotation is that has begun."""
    assert rotation.progress is not None
    return rotation.progress


def _make(folder: Path) -> RotationWorld:
    world = RotationWorld(folder)
    with world.create() as vault:
        vault.write(PATH, {"username": "shop", "password": FIRST})
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RotationWorld]:
    world = copy_of(_make, tmp_path)
    yield world
    world.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file of an authority, and that of a server, which is called by its address only."""
    return make_certificates(tmp_path_factory.mktemp("tls"), [IPAddress(ip_address("127.0.0.1"))])


@pytest.fixture
def relay(server: PostgresqlServer | MariadbServer) -> Iterator[TcpRelay]:
    """A relay before the database that a module of tests has a server of."""
    with TcpRelay(server.port) as relay:
        yield relay


@pytest.fixture
def own(users_of: Callable[[str], DatabaseUsers]) -> DatabaseUsers:
    """A user of that database who changes its own password."""
    return users_of("own")


@pytest.fixture
def administered(users_of: Callable[[str], DatabaseUsers]) -> DatabaseUsers:
    """A user whose password somebody else changes."""
    return users_of("admin")


@pytest.fixture
def two(users_of: Callable[[str], DatabaseUsers]) -> DatabaseUsers:
    """Two users that take turns."""
    return users_of("users")


NEEDED = {
    "test_awsiam.py": ("boto3", "moto"),
    "test_deployment.py": ("kubernetes", "prometheus_client"),
    "test_kill_matrix_issued.py": ("jwt",),
    "test_kill_matrix_mysql.py": ("pymysql",),
    "test_kill_matrix_postgresql.py": ("psycopg",),
    "test_kill_matrix_redis.py": ("redis",),
    "test_mysql.py": ("pymysql",),
    "test_operations.py": ("prometheus_client",),
    "test_postgresql.py": ("psycopg",),
    "test_redis.py": ("redis",),
    "test_service.py": ("prometheus_client",),
    "test_schedule.py": ("cronsim",),
    "test_signing_key.py": ("jwt",),
    "test_simulation.py": ("cronsim",),
    "test_tracing.py": ("opentelemetry",),
}
"""The packages of extras that whole modules of tests need, and import at their beginning."""


class _Left(pytest.Module):
    """A module of tests that lacks a package."""

    def collect(self) -> list[pytest.Item]:
        missing = next(name for name in NEEDED[self.path.name] if find_spec(name) is None)
        pytest.skip(f"needs the package `{missing}`", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if all(find_spec(name) is not None for name in NEEDED.get(module_path.name, ())):
        return None
    module: pytest.Module = _Left.from_parent(parent, path=module_path)
    return module
