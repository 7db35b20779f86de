"""Wherever the making or changing of a sealed scope dies, everybody has exactly the old rights or the new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import ScopeSealed, SecurecfgError
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.verification import verify_vault
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.no_cover


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
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                CHANGES[change](Scopes(dying(world, crash.changes).authority))
            verify_rights(world)
            if attempt.is_done:
                break
            CHANGES[change](world.scopes())
            assert is_made(world, change)
            verify_rights(world)
    assert crash.changes >= 1


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
