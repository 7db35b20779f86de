"""A vault with sealed scopes, secrets to be rotated in them, and people who hold nothing but their identities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.policy import Document
from securecfg.rotation.document import Rules, all_rotations
from securecfg.rotation.lease import Leases
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from securecfg.rotation.steps import Steps
from securecfg.testing.account import Account
from tests.vault.copies import copy_of
from tests.vault.scope_world import ScopeWorld

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.rotation.document import Rotation, Stored
    from securecfg.vault.vault import Vault

PATH = "pay/db"
FIRST = "first-password-4711"
ROLES = ("pay", "web", "audit")
RULES = Rules("account", grace_s=60, is_hard_cut=True)
_GRANTS = """
[roles.{0}]
members = ["svc:{0}"]
[[roles.{0}.grants]]
actions = ["read", "list", "write", "delete", "rotate"]
paths = ["**"]
[[roles.{0}.grants]]
actions = ["audit.read"]
"""


class SealedWorld(ScopeWorld):
    """In whose policy every role may do everything, so that only the scopes keep them apart.

    `pay` reads and writes the scope pay/, `audit` reads it, and `web` reads and writes web/.
    """

    __slots__ = ("account", "elapsed", "names")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.account = Account(FIRST)
        self.elapsed = 0.0
        self.names = 0

    def rotations(self, vault: Vault) -> Rotations:
        return Rotations(vault, find=self.account.rotator)

    def runner(self, part: Vault) -> Runner:
        """Return a runner of its own, as another process would have it."""
        self.names += 1
        leases = Leases(f"holder-{self.names}", lambda: self.elapsed)
        return Runner(part, leases=leases, jitter=lambda: 0.5, find=self.account.rotator)

    def lead_on(self, runner: Runner, why: str = "", path: str = PATH) -> Rotation:
        """Lead a rotation on until it is over; time passes as it must."""
        stored = runner.steps.find(path)
        for _ in range(50):
            stored, why = runner.advance(stored, why), ""
            progress = stored.rotation.progress
            assert progress is not None
            if progress.is_over or progress.failed_in is not None:
                return stored.rotation
            self.wait(max((progress.not_before_ns - self.clock.ns) / 1e9, 0.001))
        raise AssertionError(stored)

    def wait(self, seconds: float) -> None:
        """Let time pass, on every clock."""
        self.elapsed += seconds
        self.clock.ns += int(seconds * 1_000_000_000)


def _make(folder: Path) -> SealedWorld:
    world = SealedWorld(folder)
    vault = world.create()
    text = "".join(_GRANTS.format(role) for role in ROLES)
    vault.administration.apply_policy([Document("grants.toml", "grants", text)])
    for role in ROLES:
        world.person(role)
    world.scopes().create("pay", read=["pay", "audit"], write=["pay"])
    world.scopes().create("web", read=["web"], write=["web"])
    vault.write("db/admin", "of the administrator")
    member = world.as_member("pay")
    member.write(PATH, {"username": "shop", "password": FIRST})
    return world


@pytest.fixture
def sealed_world(tmp_path: Path) -> Iterator[SealedWorld]:
    """A module that wants it as its `world` says so: `world = sealed_world`."""
    world = copy_of(_make, tmp_path / "world")
    yield world
    world.close()


def password(vault: Vault, at: int | str | None = None) -> str:
    return str(vault.read(PATH, at=at).field("password").reveal())


def make_due(part: Vault, path: str = PATH) -> None:
    """Say that a rotation is due now, as its schedule would."""
    steps = Steps(part.authority)
    stored = steps.find(path)
    due_ns = part.opened.clock.now_ns()
    obj = {"path": path, "rotator": stored.rotation.rules.rotator, "action": "due"}
    steps.change(stored, lambda _: stored.rotation._replace(due_ns=due_ns), obj)


def all_stored(part: Vault) -> list[Stored]:
    """Return what is stored of rotations in one part."""
    part.opened.refresh()
    return list(all_rotations(part.opened))
