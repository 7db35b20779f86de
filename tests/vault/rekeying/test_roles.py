"""A role gets another key when somebody leaves it: who kept the old one reads nothing that is written later."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import ROOT_SCOPE, dek_context, open_granted_dek
from securecfg.errors import (
    Conflict,
    InvalidMetadata,
    ScopeSealed,
    SecretNotFound,
    SlotRemoved,
    Tampered,
    WrongKey,
)
from securecfg.keys import Keyring, Purpose, open_provider, root_row_of, unlock
from securecfg.keys.former_grants import FIRST_FORMER_ROW, LAST_FORMER_ROW, FormerGrants
from securecfg.keys.value_grants import ValueGrants
from securecfg.octets import Malformed
from securecfg.policy import Document
from securecfg.store import ID_LIMIT, Delete, Put, Space
from securecfg.vault.commits.epochs import plan_key_change
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.scopes.memberships import find_roles
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.scopes.slots import row_of
from securecfg.vault.state.replica import read_header
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.scope_world import EVERYTHING, ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import IdentityProvider
    from securecfg.keys.role_keys import RoleKey
    from securecfg.store import Store
    from securecfg.vault.commits.publishing import Plan, Publication


def filled(folder: Path) -> ScopeWorld:
    world = scope_world(folder)
    fill(world)
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(filled, tmp_path)
    yield world
    world.close()


def fill(world: ScopeWorld) -> None:
    """Make three scopes of a role with two members: one that it alone reads, one that is shared, one that it lists."""
    text = "".join(EVERYTHING.format(role) for role in ("pay", "web", "audit"))
    text = text.replace('["svc:pay"]', '["svc:pay", "svc:leaver"]')
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    world.person("pay", "leaver")
    scopes = world.scopes()
    scopes.create("pay", read=["pay"], write=["pay"])
    scopes.create("both", read=["pay", "web"], is_shared=True)
    scopes.create("names", read=["web"], list=["pay"])
    world.as_member("pay").write("pay/old", "old of pay")
    world.admin().write("both/old", "old of both")
    world.admin().write("names/old", "old of names")


def rotation(world: ScopeWorld) -> RoleRotation:
    return RoleRotation(world.admin().authority)


def leave(world: ScopeWorld) -> RoleKey:
    """Take a member out of the role, who keeps its key."""
    (key,) = keys_of(world, "leaver")
    world.admin().administration.remove_member("pay", "svc:leaver")
    return key


def keys_of(world: ScopeWorld, name: str) -> list[RoleKey]:
    provider: IdentityProvider = open_provider(f"identity:{world.folder / name}.identity")  # type: ignore[assignment]  # of that kind
    opened = world.admin().opened
    return [key for key, _ in find_roles(opened.store, opened.replica.vault_id, provider)]


def partition(world: ScopeWorld, path: str) -> Store:
    return world.admin().scope(path).opened.store


def formers(world: ScopeWorld, path: str) -> int:
    return len(partition(world, path).scan(Space.GRANT, FIRST_FORMER_ROW, LAST_FORMER_ROW, 10))


def memberships(world: ScopeWorld) -> int:
    return len(world.admin().opened.store.scan(Space.GRANT, 0, ID_LIMIT - 1, 100))


# --- who leaves -------------------------------------------------------------------------------------------------------


def test_who_left_opens_no_scope_with_the_key_that_he_kept(world: ScopeWorld) -> None:
    leaver = world.as_member("leaver")
    assert text_of(leaver, "pay/old") == "old of pay"
    root, vault_id = bytes(leaver.scope("pay").opened.replica.root), leaver.scope("pay").opened.replica.vault_id
    seed = grants_of(leaver.scope("pay").opened).seed(0)
    kept = leave(world)
    done = rotation(world).rotate_role("pay")
    assert (done.members, done.scopes) == (["svc:pay"], ["both/", "names/", "pay/"])
    world.as_member("pay").write("pay/new", "new of pay")
    with pytest.raises(SlotRemoved):
        leaver.read("pay/new")
    with pytest.raises(WrongKey):
        world.as_member("leaver")
    for path in done.scopes:
        store = partition(world, path)
        with pytest.raises(WrongKey):
            unlock(*read_header(store), kept)
    # Nor do the keys that he copied out of the scope open what is there now.
    store = partition(world, "pay")
    keyring = store.get(Space.META, 2) or b""
    with pytest.raises(Tampered):
        Keyring.open(keyring, root, vault_id, int.from_bytes(keyring[2:10]))
    wraps = ValueGrants(vault_id, world.as_member("pay").scope("pay").opened.replica.keyring, None, lambda _: None)  # type: ignore[arg-type]  # opens nothing
    wraps._seeds[0] = seed
    rows = [(number, row) for number, row in store.scan(Space.DEK, 0, ID_LIMIT - 1, 100) if row[0] != 1]
    assert len(rows) == 2
    for number, row in rows:
        assert int.from_bytes(row[2:6]) == 1
        for epoch in (0, 1):
            with pytest.raises(Tampered):
                open_granted_dek(
                    row, dek_context(vault_id, ROOT_SCOPE, epoch, number), wraps.wrap(0), wraps.private_key(0)
                )


def test_what_he_vouches_for_with_it_is_believed_by_nobody(world: ScopeWorld) -> None:
    kept = leave(world)
    rotation(world).rotate_role("pay")
    charter = charter_of(world.as_member("pay").scope("pay").opened)
    assert kept.signing_key not in charter.writers()
    assert all(party.signing_key != kept.signing_key for party in charter.parties)


def test_what_he_could_read_is_listed_until_it_has_another_value(world: ScopeWorld) -> None:
    leave(world)
    rotation(world).rotate_role("pay")
    admin = world.admin()
    told = {
        path: [each.path for each in find_exposed(admin.scope(path).authority)] for path in ("pay", "both", "names")
    }
    assert told == {"pay": ["pay/old"], "both": ["both/old"], "names": []}
    world.as_member("pay").write("pay/old", "another")
    assert find_exposed(world.admin().scope("pay").authority) == []


def test_a_member_that_is_removed_has_no_row_any_more(world: ScopeWorld) -> None:
    before = memberships(world)
    leave(world)
    assert memberships(world) == before - 1
    with pytest.raises(WrongKey):
        world.as_member("leaver")


# --- who stays --------------------------------------------------------------------------------------------------------


def test_who_stays_reads_what_was_and_what_comes(world: ScopeWorld) -> None:
    before = memberships(world)
    leave(world)
    done = rotation(world).rotate_role("pay")
    assert done.waiting == ["pay/"]
    pay = world.as_member("pay")
    pay.write("pay/new", "new of pay")
    world.admin().write("both/new", "new of both")
    assert [text_of(pay, path) for path in ("pay/old", "pay/new", "both/old", "both/new")] == [
        "old of pay",
        "new of pay",
        "old of both",
        "new of both",
    ]
    assert "names/old" in pay.list()
    with pytest.raises(ScopeSealed):
        pay.read("names/old")
    assert text_of(world.as_member("web"), "names/old") == "old of names"
    # Once a reader has brought everything over, nothing of the old key is left.
    scopes = rotation(world)
    for path in ("pay", "both"):
        assert scopes.rotate(path, resumes=True).waiting == 0
        assert formers(world, path) == 0
        assert verify_vault(world.admin().scope(path).opened).problems == []
    assert memberships(world) == before - 1
    assert text_of(world.as_member("pay"), "pay/old") == "old of pay"


def test_a_member_who_never_had_the_old_key_reads_when_another_one_has_come(world: ScopeWorld) -> None:
    leave(world)
    world.person("pay", "second")
    rotation(world).rotate_role("pay")
    second = world.as_member("second")
    with pytest.raises(ScopeSealed):
        second.read("pay/old")
    assert second.list("pay/") == ["pay/old"]
    world.as_member("pay")
    assert text_of(world.as_member("second"), "pay/old") == "old of pay"


def test_two_rotations_before_anybody_comes_lose_nothing(world: ScopeWorld) -> None:
    rotation(world).rotate_role("pay")
    world.as_member("web")
    rotation(world).rotate_role("pay")
    assert formers(world, "pay") == 2
    assert len(keys_of(world, "pay")) == 3
    assert text_of(world.as_member("pay"), "pay/old") == "old of pay"
    assert text_of(world.as_member("leaver"), "pay/old") == "old of pay"


def test_a_new_grant_is_made_to_the_new_key(world: ScopeWorld) -> None:
    leave(world)
    rotation(world).rotate_role("pay")
    world.scopes().create("later", read=["pay"])
    world.admin().write("later/a", "1")
    assert text_of(world.as_member("pay"), "later/a") == "1"


def test_rows_of_former_slots_that_somebody_made_up_give_nothing(world: ScopeWorld) -> None:
    leave(world)
    rotation(world).rotate_role("pay")
    store = partition(world, "pay")
    ((number, row),) = store.scan(Space.GRANT, FIRST_FORMER_ROW, LAST_FORMER_ROW, 10)
    former = FormerGrants.parse(row)
    assert FormerGrants.parse(former.to_bytes()) == former
    store.stage(
        [
            Put(Space.GRANT, number + 1, b"not one"),
            Put(Space.GRANT, number + 2, row[:-1] + bytes((row[-1] ^ 1,))),
            Put(Space.GRANT, number + 3, row + b"\x00"),
        ]
    )
    assert text_of(world.as_member("pay"), "pay/old") == "old of pay"


@pytest.mark.parametrize("row", [b"", b"\x46", b"\x46\x02" + bytes(20), b"\x46\x01\x00\x05abc"])
def test_refuses_malformed_rows_of_former_slots(row: bytes) -> None:
    with pytest.raises(Malformed):
        FormerGrants.parse(row)


def test_refuses_to_lose_what_nobody_who_stays_could_read(world: ScopeWorld) -> None:
    world.person("pay", "second")
    for name in ("leaver", "pay"):
        world.admin().administration.remove_member("pay", f"svc:{name}")
    with pytest.raises(Conflict, match="nobody else reads `pay/`"):
        rotation(world).rotate_role("pay")
    # The row of the last one who has the key has stayed, so he can let the others in.
    world.as_member("pay")
    done = rotation(world).rotate_role("pay")
    assert done.members == ["svc:second"]
    assert text_of(world.as_member("second"), "pay/old") == "old of pay"
    with pytest.raises(WrongKey):
        world.as_member("pay")


def test_a_rotation_that_was_begun_does_not_make_the_next_one_forget_who_has_the_key(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.person("pay", "second")
    with monkeypatch.context() as patched:
        patched.setattr(RoleRotation, "_in_each", lambda *_: [])
        patched.setattr(RoleRotation, "_finish_key", lambda *_: None)
        rotation(world).rotate_role("pay")
    for name in ("leaver", "pay"):
        world.admin().administration.remove_member("pay", f"svc:{name}")
    with pytest.raises(Conflict, match="nobody else reads `pay/`"):
        rotation(world).rotate_role("pay")


def test_where_others_read_a_role_may_lose_all_who_had_its_key(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "web", "read")
    world.as_member("pay")
    world.person("pay", "second")
    for name in ("leaver", "pay"):
        world.admin().administration.remove_member("pay", f"svc:{name}")
    rotation(world).rotate_role("pay")
    assert text_of(world.as_member("web"), "pay/old") == "old of pay"
    assert text_of(world.as_member("second"), "pay/old") == "old of pay"


def test_refuses_roles_without_a_key_or_a_member(world: ScopeWorld) -> None:
    with pytest.raises(SecretNotFound, match="no key"):
        rotation(world).rotate_role("audit")
    world.admin().administration.remove_member("web", "svc:web")
    with pytest.raises(InvalidMetadata, match="public key"):
        rotation(world).rotate_role("web")


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.no_cover
def test_wherever_it_dies_who_stays_reads_and_it_can_be_finished(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin")
    fill(origin)
    leave(origin)
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                RoleRotation(dying(world, crash.changes).authority).rotate_role("pay")
            with suppress(ScopeSealed):
                world.as_member("pay").write("pay/late", "meanwhile")
            done = rotation(world).rotate_role("pay", resumes=True)
            assert done.scopes == ["both/", "names/", "pay/"]
            pay = world.as_member("pay")
            assert [text_of(pay, path) for path in ("pay/old", "both/old")] == ["old of pay", "old of both"]
            pay.write("pay/after", "1")
            for path in ("pay", "both", "names"):
                part = world.admin().scope(path)
                charter, keyring = charter_of(part.opened), part.opened.replica.keyring
                party = charter.party("pay")
                assert party is not None
                assert party.signing_key in {key.signing_key for key in keys_of(world, "pay")}
                assert len(keyring.slots) == len(charter.parties)
                assert verify_vault(part.opened).problems == []
            if attempt.is_done:
                assert keyring.active(Purpose.SCOPE).epoch >= 1
                break
    assert crash.changes >= 10


def test_a_role_whose_slot_a_writer_took_away_gets_one_for_its_other_key(world: ScopeWorld) -> None:
    """Nobody else loses his slot over it, and what the role reads another reader gives it again."""
    scopes = world.scopes()
    scopes.grant("both", "audit", "read")
    scopes.grant("both", "audit", "write")
    part = world.as_member("audit").scope("both")
    party = charter_of(part.opened).party("pay")
    assert party is not None

    def plan(publication: Publication) -> Plan:
        replica = part.opened.replica
        row = row_of(replica.slots, party.slot_id)
        slots = {other: raw for other, raw in replica.slots.items() if other not in (row, root_row_of(row))}
        plan = plan_key_change(part.opened, publication, slots, replica.keyring)
        plan.deletes.append(Delete(Space.META, row))
        plan.records.append(part.authority.session().record(Event.KEY_ROTATED, {"kind": "root", "epoch": 2}))
        return plan

    part.opened.publisher.publish(plan)
    before = set(part.opened.replica.slots)
    rotation(world).rotate_role("pay")
    opened = world.admin().scope("both").opened
    assert before <= set(opened.replica.slots)
    for name in ("audit", "web", "pay"):
        assert text_of(world.as_member(name), "both/old") == "old of both"
    assert verify_vault(opened).problems == []
    exposed = find_exposed(world.admin().scope("both").authority)
    assert [(each.path, each.key) for each in exposed] == [("both/old", "a slot (role, pay)")]
