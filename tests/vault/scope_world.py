"""A vault with sealed scopes and people who hold nothing but their identities."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from securecfg.errors import SecurecfgError
from securecfg.files import create_private
from securecfg.keys import IdentityProvider
from securecfg.keys.identity import UNPROTECTED, IdentityFile, PrivateHalf, format_identity_file, generate_identity
from securecfg.policy import Document
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.world import World, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from securecfg.vault import Vault
    from securecfg.vault.scopes.scoped import ScopedVault

ROLES = ("pay", "web", "audit")
EVERYTHING = """
[roles.{0}]
members = ["svc:{0}"]
[[roles.{0}.grants]]
actions = ["read", "list", "write", "delete", "destroy", "undelete"]
paths = ["**"]
[[roles.{0}.grants]]
actions = ["audit.read"]
"""


class ScopeWorld(World):
    """A world in whose policy every role may do everything, so that only the scopes keep them apart."""

    def person(self, role: str, name: str = "") -> Path:
        """Return the identity file of a member of a role, who is one from now on."""
        principal = f"svc:{name or role}"
        file = self.folder / f"{name or role}.identity"
        identity, seed = generate_identity(principal)
        create_private(file, format_identity_file(IdentityFile(identity, PrivateHalf(UNPROTECTED, seed))).encode())
        self.admin().administration.add_member(role, principal, identity=identity)
        return file

    def admin(self) -> Vault:
        """Return the vault as its administrator opens it, by the root."""
        return self.open()

    def scopes(self) -> Scopes:
        """Return what the administrator does with scopes."""
        return Scopes(self.admin().authority)

    def moves(self) -> ScopeMoves:
        """Return what the administrator does with scopes and what is in them."""
        return ScopeMoves(self.admin().authority)

    def identity(self, name: str) -> IdentityProvider:
        """Return a member's identity, for the administrator to read with."""
        return IdentityProvider(self.folder / f"{name}.identity")

    def as_member(self, name: str) -> ScopedVault:
        """Return what an identity opens, which has no key of the vault."""
        return cast("ScopedVault", self.open(None, key=f"identity:{self.folder / name}.identity"))


def scope_world(folder: Path, roles: Iterable[str] = ROLES) -> ScopeWorld:
    """Return a world with a vault and one member of each role."""
    world = ScopeWorld(folder)
    vault = world.create()
    text = "".join(EVERYTHING.format(role) for role in roles)
    vault.administration.apply_policy([Document("grants.toml", "grants", text)])
    for role in roles:
        world.person(role)
    return world


@pytest.fixture
def bare_world(tmp_path: Path) -> Iterator[ScopeWorld]:
    """A world without scopes. A module that wants it as its `world` says so: `world = bare_world`."""
    world = copy_of(scope_world, tmp_path)
    yield world
    world.close()


def make_pay_world(folder: Path) -> ScopeWorld:
    """A world with one scope and a secret in it, in a folder of its own; for a module as `bare_world`."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay"])
    world.admin().write("pay/key", "of pay")
    return world


@pytest.fixture
def pay_world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_pay_world, tmp_path / "world")
    yield world
    world.close()


def accepted_by(world: ScopeWorld, name: str, path: str) -> str:
    """Return a value as somebody reads it, or the code of the error."""
    try:
        return text_of(world.as_member(name), path)
    except SecurecfgError as error:
        return error.code


def verify_parts(world: ScopeWorld) -> None:
    """Check that nothing is damaged, and that no row is left that nothing leads to, in any part."""
    for _, part in world.admin().parts():
        report = verify_vault(part.opened)
        assert (report.problems, report.orphans) == ([], {})
