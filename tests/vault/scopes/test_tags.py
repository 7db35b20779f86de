"""The tags by which a member tells which scopes are for his roles, and nobody else which are for the same role."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.crypto import generate_key
from securecfg.errors import WrongKey
from securecfg.keys import Slot, WrapContext
from securecfg.keys.role_keys import RoleKey, RolePublic
from securecfg.store import Put, Space, open_sqlite
from securecfg.vault.state.replica import SLOT_IDS
from tests.vault.scope_world import scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from pathlib import Path

VAULT, OTHER = bytes(range(16)), bytes(range(16, 32))


def slot_for(key: RolePublic, vault_id: bytes = VAULT, slot_id: bytes = OTHER) -> Slot:
    return Slot(key.kind, slot_id, key.wrap(generate_key(), WrapContext(vault_id, slot_id)))


def test_a_slot_fits_its_role_in_its_place_alone() -> None:
    key, other = RoleKey("a", generate_key()), RoleKey("a", generate_key())
    slot = slot_for(RolePublic(key.public_key))
    assert key.fits(slot, VAULT)
    assert not other.fits(slot, VAULT)
    assert not key.fits(slot, OTHER)
    assert not key.fits(slot._replace(slot_id=VAULT), VAULT)
    assert not key.fits(slot._replace(kind=11), VAULT)


def test_tags_of_one_role_have_nothing_in_common() -> None:
    key = RolePublic(RoleKey("a", generate_key()).public_key)
    places = [(VAULT, VAULT), (VAULT, OTHER), (OTHER, VAULT), (OTHER, OTHER)]
    tags = {slot_for(key, *place).wrapped[2:10] for place in places}
    assert len(tags) == len(places)


def test_an_altered_tag_opens_nothing() -> None:
    key = RoleKey("a", generate_key())
    slot = slot_for(key)
    context = WrapContext(VAULT, slot.slot_id)
    assert len(key.unwrap(slot.wrapped, context)) == 32
    for at in range(2, 12):
        altered = slot.wrapped[:at] + bytes((slot.wrapped[at] ^ 1,)) + slot.wrapped[at + 1 :]
        with pytest.raises(WrongKey):
            key.unwrap(altered, context)
    with pytest.raises(WrongKey):
        key.unwrap(slot.wrapped[:2] + slot.wrapped[10:], context)


def test_the_public_key_of_a_role_is_told_to_nobody_who_opens_another_one(tmp_path: Path) -> None:
    world = scope_world(tmp_path)
    scopes = world.scopes()
    scopes.create("shop", read=["pay", "web"], write=["pay"])
    web = world.as_member("web")
    (opened,) = [part.opened for _, part in web.parts()]
    public = scopes.doorway()
    assert public is not None
    raw = scopes._registry().roles["pay"]
    documents = [
        opened.system_document(path, None) for path, _ in opened.entries(b"\x01", b"\x02") if path != b"\x01charter"
    ]
    keyring = opened.replica.keyring
    told = repr(documents).encode() + b"".join(entry.key for entry in keyring.keys)
    told += b"".join(info.public_key for info in keyring.slots)
    assert raw[:64] not in told
    assert raw[:64].hex().encode() not in told
    world.close()


def test_a_scope_whose_tags_were_altered_is_passed_over_and_all_others_open(tmp_path: Path) -> None:
    world = scope_world(tmp_path)
    scopes = world.scopes()
    for path in ("one", "two"):
        scopes.create(path, read=["pay"], write=["pay"])
        world.as_member("pay").write(f"{path}/a", path)
    world.close()
    store = open_sqlite(world.path)
    partition = store.partition(1)
    for id_, row in partition.scan(Space.META, SLOT_IDS.start, SLOT_IDS.stop - 1, 256):
        partition.stage([Put(Space.META, id_, row[:20] + bytes((row[20] ^ 1,)) + row[21:])])
    store.close()
    member = world.as_member("pay")
    assert [scope for scope, _ in member.parts()] == ["two/"]
    assert text_of(member, "two/a") == "two"
    world.close()
