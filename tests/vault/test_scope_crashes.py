"""Wherever the making or changing of a sealed scope dies, everybody has exactly the old rights or the new ones."""

from __future__ import annotations

import itertools
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from securecfg.errors import ScopeSealed, SecurecfgError, StoreFailed
from securecfg.keys import open_provider
from securecfg.store import open_sqlite
from securecfg.vault.creation import open_rows
from securecfg.vault.opened import Options
from securecfg.vault.scopes import Scopes
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.store import Store


class DyingStore:
    """A store that stops changing anything after some changes, in any of its parts."""

    def __init__(self, store: Store, left: list[int]) -> None:
        self._store = store
        self._left = left

    def partition(self, number: int) -> Store:
        return cast("Store", DyingStore(self._store.partition(number), self._left))

    def commit(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - those of a store
        self._count()
        self._store.commit(*args, **options)

    def commit_parts(self, *args: Any) -> None:  # noqa: ANN401 - those of a store
        self._count()
        self._store.commit_parts(*args)

    def stage(self, *args: Any) -> None:  # noqa: ANN401 - those of a store
        self._count()
        self._store.stage(*args)

    def purge(self) -> None:
        self._count()
        self._store.purge()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any other method of a store
        return getattr(self._store, name)

    def _count(self) -> None:
        if not self._left[0]:
            message = "the machine has lost power"
            raise StoreFailed(message)
        self._left[0] -= 1


def dying(world: ScopeWorld, changes: int) -> Vault:
    """Return the vault as its administrator opens it, whose store fails once some changes are made."""
    store = cast("Store", DyingStore(open_sqlite(world.path), [changes]))
    opened, slot = open_rows(store, open_provider(world.key), world.path, world.clock, Options())
    vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    world.vaults.append(vault)
    return vault


CHANGES: dict[str, Callable[[Scopes], object]] = {
    "create": lambda scopes: scopes.create("new", read=["web"], write=["web"]),
    "grant-read": lambda scopes: scopes.grant("pay", "audit", "read"),
    "grant-write": lambda scopes: scopes.grant("pay", "pay", "write"),
    "revoke-list": lambda scopes: scopes.revoke("pay", "web", "list"),
    "revoke-read": lambda scopes: scopes.revoke("pay", "web", "read"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_wherever_a_change_dies_the_scope_is_as_before_or_as_after(tmp_path: Path, change: str) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin")
    scopes = origin.scopes()
    scopes.create("pay", read=["pay", "web"])
    for number in range(3):
        origin.admin().write(f"pay/{number}", str(number))
    origin.close()
    for changes in itertools.count():
        folder = tmp_path / str(changes)
        shutil.copytree(origin.folder, folder)
        world = ScopeWorld(folder, origin.clock)
        try:
            is_done = True
            try:
                CHANGES[change](Scopes(dying(world, changes).authority))
            except SecurecfgError:
                is_done = False
                world.clock.advance(timedelta(hours=2))
            verify_rights(world)
            if is_done:
                break
            CHANGES[change](world.scopes())
            assert is_made(world, change)
            verify_rights(world)
        except Exception as error:
            error.add_note(f"after {changes} changes")
            raise
        finally:
            world.close()
            shutil.rmtree(folder)
    assert changes >= 1


def is_made(world: ScopeWorld, change: str) -> bool:
    """Return whether a change is there."""
    if change == "create":
        return world.scopes().show("new").roles["web"] == ("list", "read", "write")
    roles = world.scopes().show("pay").roles
    return {
        "grant-read": "read" in roles.get("audit", ()),
        "grant-write": "write" in roles["pay"],
        "revoke-list": "web" not in roles,
        "revoke-read": roles.get("web") == ("list",),
    }[change]


def verify_rights(world: ScopeWorld) -> None:
    """Check that what the charter says is what everybody can do, and that nothing is lost or damaged."""
    roles = world.scopes().show("pay").roles
    assert {"administrator", "pay"} <= roles.keys()
    admin = world.admin()
    for part in (admin.scope("pay"), admin):
        assert verify_vault(part.opened).problems == []
    admin.write("pay/late", "written later")
    for role in ("pay", "web", "audit"):
        rights = roles.get(role, ())
        if not rights:
            with pytest.raises(SecurecfgError):
                world.as_member(role).read("pay/late")
            continue
        member = world.as_member(role)
        assert "pay/late" in member.list()
        if "read" in rights:
            assert text_of(member, "pay/late") == "written later"
        else:
            with pytest.raises(ScopeSealed):
                member.read("pay/late")
    pay = world.as_member("pay")
    assert [text_of(pay, f"pay/{number}") for number in range(3)] == ["0", "1", "2"]
