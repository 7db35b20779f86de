"""As many roles in a sealed scope as it has slots: none of its changes is too large for one publication."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.crypto import generate_key
from securecfg.errors import Conflict, ScopeSealed
from securecfg.keys import FIRST_SLOT_ROW, MOST_SLOTS
from securecfg.keys.role_keys import RoleKey, RolePublic
from securecfg.keys.value_grants import grant_row_of, slot_of_grant
from securecfg.store import Space
from securecfg.vault.authority import Authority
from securecfg.vault.commits.joint import PartChange
from securecfg.vault.commits.publisher import Publisher
from securecfg.vault.scopes.changes import ScopeChanges
from securecfg.vault.scopes.charters import LIST, READ
from securecfg.vault.scopes.completion import complete_grants
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.session import Identity
from securecfg.vault.trust.signatories import own_signatory
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import ADMIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.vault.drafts import Content
    from securecfg.vault.opened import OpenVault

pytestmark = pytest.mark.no_cover

Keys = dict[str, RoleKey]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScopeWorld, Keys]:
    """Return a shared scope with as many roles as there may be, all of them readers, and their keys."""
    world = scope_world(tmp_path_factory.mktemp("full"), ["pay"])
    scopes = world.scopes()
    scopes.create("pay", read=["pay"], write=["pay"], is_shared=True)
    keys = {f"r{number}": RoleKey(f"r{number}", generate_key()) for number in range(MOST_SLOTS - 2)}
    inside, around = changes_of(scopes), PartChange(world.admin().opened)
    for name, key in keys.items():
        inside.grant(name, RolePublic(key.public_key), LIST | READ, settle_nothing, around)
    one_more = RolePublic(RoleKey("one-more", generate_key()).public_key)
    with pytest.raises(Conflict):
        inside.grant("one-more", one_more, LIST, settle_nothing, around)
    inside.opened.close()
    world.close()
    return world, keys


@pytest.fixture
def world(full: tuple[ScopeWorld, Keys], tmp_path: Path) -> Iterator[ScopeWorld]:
    """Return a copy of it."""
    shutil.copytree(full[0].folder, tmp_path / "copy")
    world = ScopeWorld(tmp_path / "copy", full[0].clock)
    yield world
    world.close()


def settle_nothing() -> dict[bytes, Content]:
    """Have nothing to do between the signatures and the change, and no document to bring."""
    return {}


def changes_of(scopes: Scopes) -> ScopeChanges:
    door = scopes.doorway()
    assert door is not None
    found = door.open(1)
    assert found is not None
    own = door.keys[0]
    return ScopeChanges(found[0], Identity(ADMIN, slot=found[1].hex()), own, own_signatory(own), {})


def open_as(world: ScopeWorld, key: RoleKey) -> OpenVault:
    """Return the scope as a role opens it."""
    door = world.scopes().doorway()
    assert door is not None
    found = door._replace(keys=[key]).open(1)
    assert found is not None
    return found[0]


def readers_of_today(world: ScopeWorld, keys: Keys) -> set[str]:
    """Return the roles that open the scope and read what is written in it now."""
    door = world.scopes().doorway()
    assert door is not None
    readers = set()
    for name, key in keys.items():
        found = door._replace(keys=[key]).open(1)
        if found is not None:
            if grants_of(found[0]).is_granted(grants_of(found[0]).active):
                readers.add(name)
            found[0].close()
    return readers


def rows_of_epoch(opened: OpenVault, epoch: int) -> list[bytes]:
    """Return all that is granted of an epoch."""
    first = grant_row_of(FIRST_SLOT_ROW, epoch)
    return [row for _, row in opened.store.scan(Space.GRANT, first, first + MOST_SLOTS, MOST_SLOTS + 1)]


@pytest.mark.parametrize("right", ["read", "list"])
def test_a_role_departs_and_all_others_read_on(world: ScopeWorld, full: tuple[ScopeWorld, Keys], right: str) -> None:
    some = {name: key for name, key in full[1].items() if int(name[1:]) in range(9, MOST_SLOTS, 60)}
    inside = changes_of(world.scopes())
    root = bytes(inside.opened.replica.root)
    inside.revoke("r9", right)
    assert (bytes(inside.opened.replica.root) == root) == (right == "read")
    granted = {slot_of_grant(row) for row in rows_of_epoch(inside.opened, grants_of(inside.opened).active)}
    assert granted == {party.slot_id for party in charter_of(inside.opened).parties if party.rights & READ}
    assert len(granted) == MOST_SLOTS - 1
    inside.opened.close()
    assert readers_of_today(world, some) == some.keys() - {"r9"}


def test_of_two_who_revoke_the_same_role_at_once_neither_spoils_what_the_other_grants(
    world: ScopeWorld, full: tuple[ScopeWorld, Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: key for name, key in full[1].items() if int(name[1:]) in range(9, MOST_SLOTS, 30)}
    first, second = (changes_of(world.scopes()) for _ in range(2))
    commit, others = Publisher._commit, [second]

    def overtaken(publisher: Publisher, *arguments: Any) -> bool:  # noqa: ANN401 - those of the method
        if others and publisher is first.opened.publisher:
            others.pop().revoke("r9", "list")
        return commit(publisher, *arguments)

    monkeypatch.setattr(Publisher, "_commit", overtaken)
    first.revoke("r9", "list")
    assert others == []
    for changes in (first, second):
        changes.opened.close()
    assert readers_of_today(world, some) == some.keys() - {"r9"}
    for name in some.keys() - {"r9"}:
        opened = open_as(world, some[name])
        assert grants_of(opened).seed(grants_of(opened).active)
        opened.close()


def test_wherever_a_departure_dies_the_other_readers_bring_it_to_an_end(
    full: tuple[ScopeWorld, Keys], tmp_path: Path
) -> None:
    origin, keys = full
    some = {name: keys[name] for name in ("r0", "r9", "r250")}
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                inside = changes_of(Scopes(dying(world, crash.changes).authority))
                inside.revoke("r9", "list")
            assert "r0" in readers_of_today(world, some)
            if attempt.is_done:
                break
            first = open_as(world, keys["r0"])
            is_gone = "r9" not in {party.role for party in charter_of(first).parties}
            while complete_grants(Authority(first, Identity("svc:r0")), [keys["r0"]]):
                pass
            first.close()
            assert readers_of_today(world, some) == some.keys() - ({"r9"} if is_gone else set())
            inside = changes_of(world.scopes())
            inside.revoke("r9", "list")
            inside.opened.close()
            assert readers_of_today(world, some) == some.keys() - {"r9"}
    assert crash.changes >= 2


def test_what_was_granted_to_a_slot_is_deleted_with_the_right_however_much_it_is(
    world: ScopeWorld, full: tuple[ScopeWorld, Keys]
) -> None:
    keys = full[1]
    inside = changes_of(world.scopes())
    inside.revoke("r1", "read")
    for number in range(20):
        inside.revoke(f"r{number + 20}", "read")
    around = PartChange(world.admin().opened)
    inside.grant("r1", RolePublic(keys["r1"].public_key), LIST | READ, settle_nothing, around)
    opened = open_as(world, keys["r1"])
    assert all(grants_of(opened).is_granted(epoch) for epoch in range(22))
    opened.close()
    inside.revoke("r1", "read")
    inside.opened.close()
    opened = open_as(world, keys["r1"])
    assert not any(grants_of(opened).is_granted(epoch) for epoch in range(23))
    with pytest.raises(ScopeSealed):
        grants_of(opened).seed(0)
    opened.close()
