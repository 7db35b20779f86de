"""Hostile droppers, and whoever may write the file: what they open, and what of theirs is taken in."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.crypto import (
    HYBRID_PUBLIC_BYTES,
    KIND_BYTES,
    KIND_FIELDS,
    KIND_TEXT,
    KeyBytes,
    Label,
    generate_key,
    hybrid_public_key,
    open_sealed,
    seal_to,
)
from securecfg.errors import AnchorMissing, RollbackSuspected, ScopeSealed, StoreFailed, Tampered, WrongKey
from securecfg.files import create_private
from securecfg.keys.identity import (
    UNPROTECTED,
    IdentityFile,
    PrivateHalf,
    format_identity,
    format_identity_file,
    generate_identity,
    opening_key_of,
    read_identity_file,
    signing_key_of,
)
from securecfg.keys.role_keys import RoleKey
from securecfg.keys.value_grants import value_public_key
from securecfg.octets import U64, Malformed
from securecfg.store import ID_LIMIT, Delete, Put, Space
from securecfg.vault.drops.collecting import Collection
from securecfg.vault.drops.dropping import DropState
from securecfg.vault.drops.orders import (
    ORDER_PATH,
    Admission,
    DropOrder,
    Found,
    SignedOrder,
    open_order,
    order_of,
    order_row_of,
    parse_order,
)
from securecfg.vault.drops.rows import VALUE_BYTES_MAX, Drop, Place, open_drop, receipt_of, row_id_at, seal_drop
from securecfg.vault.scopes.charters import DROP, LIST, NO_SLOT, READ, WRITE, Charter, Party
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.trust.signatories import own_signatory
from tests.vault.drops.drop_world import (
    SCOPE,
    box_world,
    collected,
    forged_row,
    put_rows,
    role_key,
    rows_waiting,
    signer,
)
from tests.vault.scopes.test_attacks import opens
from tests.vault.world import text_of

if TYPE_CHECKING:
    from securecfg.audit import Record
    from securecfg.vault import Vault
    from tests.vault.scope_world import ScopeWorld

world = box_world


def refusals(vault: Vault) -> list[Record]:
    """Return what the log says of values that were refused."""
    return [entry.record for entry in vault.log.records() if entry.record.event is Event.DROP_REFUSED]


# --- what a dropper opens ---------------------------------------------------------------------------------------------


@pytest.mark.no_cover
def test_no_key_of_a_dropper_opens_a_row_but_its_order(world: ScopeWorld) -> None:
    world.as_member("pay").write("pay/key", "of pay")
    web = world.as_member("web")
    web.drop("pay/own", "dropped by web itself")
    private = read_identity_file(world.folder / "web.identity").private
    assert private is not None
    key = role_key(world, "web")
    keys = [bytes(key.seed), bytes(key._opening_key), bytes(private.content), bytes(opening_key_of(private.content))]
    vault = world.admin().opened
    scope_id = vault.store.partition(SCOPE).get(Space.META, 1)[12:28]  # type: ignore[index]  # the header
    opened = []
    for store in (vault.store.partition(SCOPE), vault.store):
        for space in Space:
            for number, row in store.scan(space, 0, ID_LIMIT - 1, 10_000):
                if store is vault.store and space is Space.GRANT:
                    continue  # its own membership
                place = Place(scope_id, int.from_bytes(row[2:6]), number).to_bytes()
                contexts = [b"", number.to_bytes(8), scope_id + U64.pack(number)]
                contexts += [label.encode() + end for label in Label for end in (b"\0" + scope_id, place)]
                opened += [
                    (space, number)
                    for one in keys
                    for start in (0, 2, 6, 22)
                    for ctx in contexts
                    if opens(one, row[start:], ctx)
                ]
    assert opened == [(Space.GRANT, order_row_of(key.public_key, scope_id))]


def test_the_way_in_which_waiting_rows_are_tried_opens_them_with_the_right_key(world: ScopeWorld) -> None:
    world.as_member("pay")
    world.as_member("web").drop("pay/own", "x")
    ((row_id, row),) = rows_waiting(world)
    reader = world.open(None, key=f"identity:{world.folder / 'pay'}.identity", read_only=True).scope("pay")
    private = grants_of(reader.opened).private_key(0)
    place = Place(reader.opened.replica.vault_id, 0, row_id)
    assert opens(private, row[6:], Label.DROP.encode() + place.to_bytes())


def test_nothing_that_a_dropper_says_is_readable_in_any_file(world: ScopeWorld) -> None:
    for name in ("canary-path", "canary-other"):
        world.as_member("web").drop(f"pay/{name}", "canary-value", metadata={"canary-key": "canary-text"})
    for folder in (world.folder, os.environ["XDG_STATE_HOME"]):
        for parent, _, files in os.walk(folder):
            for file in files:
                with open(os.path.join(parent, file), "rb") as content:  # noqa: PTH118 - of `walk`
                    raw = content.read()
                assert b"canary" not in raw, file
                assert file.endswith(".identity") or b"svc:web" not in raw, file
    assert len(rows_waiting(world)) == 2


# --- rows that do not count -------------------------------------------------------------------------------------------

FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "another path": ({"path": "web/x"}, "path"),
    "a path beside": ({"path": "pay"}, "path"),
    "a path above": ({"path": "pay/../web/x"}, "path"),
    "the scope itself": ({"path": "pay/"}, "path"),
    "a document of the scope": ({"path": "\x01roles"}, "path"),
    "a document below": ({"path": "pay/\x01roles"}, "path"),
    "an invisible character": ({"path": "pay/a\u200bb"}, "path"),
    "a field": ({"path": "pay/a#b"}, "path"),
    "a long path": ({"path": "pay/" + "x" * 1_100}, "path"),
    "another role": ({"role": "pay"}, "role"),
    "no role": ({"role": ""}, "role"),
    "the administrator": ({"role": "administrator"}, "role"),
    "somebody else": ({"member": "svc:pay"}, "member"),
    "nobody": ({"member": ""}, "member"),
    "text that is none": ({"content": KeyBytes(b"\xff")}, "malformed"),
    "fields that are none": ({"kind": KIND_FIELDS}, "malformed"),
    "metadata that are none": ({"metadata": b"{"}, "malformed"),
    "metadata of numbers": ({"metadata": b'{"a":1}'}, "malformed"),
    "metadata that are a list": ({"metadata": b'["a"]'}, "malformed"),
    "metadata spelled otherwise": ({"metadata": b'{"a": "b"}'}, "malformed"),
    "metadata that nest": ({"metadata": b"[" * 16_000}, "malformed"),
    "metadata that are too large": ({"metadata": b'{"a":"' + b"b" * 17_000 + b'"}'}, "invalid-metadata"),
    "a content type that is none": ({"content_type": "\u00e9"}, "malformed"),
    "a content type that would move a cursor": ({"content_type": "\x1b[2J"}, "malformed"),
    "a value that is too large": ({"content": KeyBytes(b"x" * (VALUE_BYTES_MAX + 1)), "kind": KIND_BYTES}, "malformed"),
    "a kind that there is not": ({"kind": 3}, "unreadable"),
    "another scope": ({"scope_id": bytes(16)}, "unreadable"),
    "another place": ({"put_at": (1 << 62) + 5}, "unreadable"),
    "an epoch that there is not": ({"epoch": 7, "public_key": value_public_key(b"s" * 32, b"v" * 16, 7)}, "unreadable"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_row_makes_no_version_and_is_removed_with_a_record(world: ScopeWorld, name: str) -> None:
    changes, reason = FORGERIES[name]
    number, row = forged_row(world, **changes)
    put_rows(world, [(number, row)])
    pay = world.as_member("pay")
    assert pay.list() == []
    assert rows_waiting(world) == []
    (record,) = refusals(pay)
    assert (record.obj["reason"], record.subject.id) == (reason, "svc:pay")
    if reason == "unreadable":
        assert record.obj["count"] == 1
    else:
        assert record.request_id == receipt_of(row)
        assert pay.find_drop(receipt_of(row)).state is DropState.REFUSED
    assert "forged" not in str(record.obj).replace("pay/forged", "")


def test_what_a_row_claims_is_recorded_where_it_could_be_true(world: ScopeWorld) -> None:
    put_rows(world, [forged_row(world, member="svc:pay")])
    (record,) = refusals(world.as_member("pay"))
    assert record.obj == {"reason": "member", "path": "pay/forged", "role": "web", "principals": ["svc:pay"]}


def test_who_is_no_member_drops_nothing_with_the_key_of_the_role(world: ScopeWorld) -> None:
    _, seed = generate_identity("svc:mallory")
    for member, sign in (
        ("svc:audit", signer(world, "audit")),
        ("svc:mallory", signing_key_of(seed).sign),
        ("svc:web", signer(world, "audit")),
        ("svc:web", lambda _: bytes(64)),
    ):
        put_rows(world, [forged_row(world, member=member, sign=sign)])
        pay = world.as_member("pay")
        assert pay.list() == []
        assert refusals(pay)[-1].obj["reason"] == "member"


def test_a_member_drops_nothing_with_the_key_of_another_role(world: ScopeWorld) -> None:
    for key in (RoleKey("web", generate_key()), role_key(world, "pay")):
        put_rows(world, [forged_row(world, role_key=key)])
        pay = world.as_member("pay")
        assert pay.list() == []
        assert refusals(pay)[-1].obj["reason"] == "role"


def test_a_member_who_was_removed_drops_nothing_with_what_it_kept(world: ScopeWorld) -> None:
    world.person("web", "web2")
    row = forged_row(world)
    world.admin().administration.remove_member("web", "svc:web")
    put_rows(world, [row])
    pay = world.as_member("pay")
    assert pay.list() == []
    assert refusals(pay)[-1].obj["reason"] == "member"


def test_a_role_that_was_revoked_drops_nothing_more_and_what_waited_is_refused(world: ScopeWorld) -> None:
    waiting = world.as_member("web").drop("pay/key", "x")
    world.scopes().revoke("pay", "web", "drop")
    put_rows(world, [forged_row(world)])
    pay = world.as_member("pay")
    assert pay.list() == []
    assert [record.obj["reason"] for record in refusals(pay)] == ["role", "role"]
    assert pay.find_drop(waiting.id).reason == "role"


# --- rows that are put back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["nothing", "written", "deleted", "destroyed", "moved"])
def test_a_row_that_is_put_back_makes_no_second_version(world: ScopeWorld, then: str) -> None:
    web = world.as_member("web")
    web.drop("pay/key", "1")
    first = rows_waiting(world)
    pay = world.as_member("pay")
    web.drop("pay/key", "2")
    both = first + rows_waiting(world)
    pay = world.as_member("pay")
    if then == "written":
        pay.write("pay/key", "3")
    elif then == "deleted":
        pay.delete("pay/key")
    elif then == "destroyed":
        pay.destroy("pay/key", 2)
    elif then == "moved":
        pay.move("pay/key", "pay/elsewhere")
    before = [(path, [info.version for info in pay.history(path)]) for path in pay.list()]
    put_rows(world, both)
    pay = world.as_member("pay")
    assert [(path, [info.version for info in pay.history(path)]) for path in pay.list()] == before
    assert [record.obj["reason"] for record in refusals(pay)] == ["replayed"] * 2
    assert rows_waiting(world) == []


def test_each_member_and_each_path_has_a_time_of_its_own(world: ScopeWorld) -> None:
    world.person("web", "web2")
    world.as_member("web")
    late = forged_row(world, time_ms=world.clock.now_ns() // 1_000_000 + 5_000)
    put_rows(world, [late])
    world.as_member("pay")
    world.as_member("web2").drop("pay/forged", "by web2")
    world.as_member("web").drop("pay/other", "by web")
    pay = world.as_member("pay")
    assert text_of(pay, "pay/forged") == "by web2"
    assert text_of(pay, "pay/other") == "by web"


# --- rubbish ----------------------------------------------------------------------------------------------------------


def test_an_altered_or_cut_row_makes_no_version(world: ScopeWorld) -> None:
    number, row = forged_row(world)
    bad = [row[:at] for at in (0, 1, 2, 6, 100, 1_142, len(row) - 1)]
    bad += [row + b"\0", row + bytes(2_048), bytes(len(row)), row[:2] + bytes(300_000)]
    flipped = (0, 1, 2, 5, 6, 500, 1_130, 1_142, 2_000, len(row) - 1)
    bad += [row[:at] + bytes((row[at] ^ 1,)) + row[at + 1 :] for at in flipped]
    put_rows(world, [(number + at, other) for at, other in enumerate(bad)])
    pay = world.as_member("pay")
    assert pay.list() == []
    assert rows_waiting(world) == []
    assert [record.obj for record in refusals(pay)] == [{"reason": "unreadable", "count": len(bad)}]


def test_a_flood_of_rows_floods_no_log(world: ScopeWorld) -> None:
    put_rows(world, [((1 << 62) + at, os.urandom(50)) for at in range(300)])
    pay = collected(world)
    done = Collection(pay.authority).run()
    assert (len(rows_waiting(world)), done.is_done) == (0, True)
    assert sum(record.obj["count"] for record in refusals(pay)) == 300
    assert len(refusals(pay)) <= 8
    now = world.clock.now_ns() // 1_000_000
    key, sign = role_key(world, "web"), lambda _message: bytes(64)
    put_rows(world, [forged_row(world, role_key=key, sign=sign, time_ms=now + at) for at in range(40)])
    told = len(refusals(pay))
    done = Collection(pay.authority).run()
    assert (done.refused, rows_waiting(world)) == ({"member": 40}, [])
    assert len(refusals(pay)) - told == 17


def test_a_row_in_a_place_of_something_else_is_left_alone(world: ScopeWorld) -> None:
    store = world.admin().opened.store.partition(SCOPE)
    row = forged_row(world)[1]
    before = store.scan(Space.GRANT, 0, (1 << 62) - 1, 100)
    store.stage([Put(Space.GRANT, 77_000, row)])
    assert world.as_member("pay").list() == []
    assert store.scan(Space.GRANT, 0, (1 << 62) - 1, 100) == sorted([*before, (77_000, row)])


def test_what_a_collector_cannot_open_yet_stays(world: ScopeWorld) -> None:
    """A new role that reads what comes and not what was: what waits is for those who read it."""
    world.as_member("web").drop("pay/early", "x")
    world.clock.advance(timedelta(seconds=1))
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    scopes.grant("pay", "audit", "write")
    audit = world.as_member("audit")
    assert audit.list() == []
    assert len(rows_waiting(world)) == 1
    assert refusals(audit) == []
    assert world.as_member("pay").list() == ["pay/early"]


def test_what_nobody_can_open_any_more_does_not_stay_for_ever(world: ScopeWorld) -> None:
    """The only reader of a value key is gone: what waits under it, true or made up, would hold up split and merge."""
    world.as_member("web").drop("pay/early", "x")
    world.clock.advance(timedelta(seconds=1))
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    scopes.grant("pay", "audit", "write")
    scopes.revoke("pay", "pay", "list")
    audit = world.as_member("audit")
    assert audit.list() == []
    assert rows_waiting(world) == []
    assert [(record.obj["reason"], record.obj["count"]) for record in refusals(audit)] == [("unreadable", 1)]


# --- value keys that somebody holds who may not read any more ---------------------------------------------------------


def test_what_is_dropped_under_a_key_that_was_replaced_is_refused(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    scopes.revoke("pay", "audit", "read")
    old = forged_row(world, epoch=0, time_ms=world.clock.now_ns() // 1_000_000 + 1)
    put_rows(world, [old])
    pay = world.as_member("pay")
    assert pay.list() == []
    assert refusals(pay)[-1].obj["reason"] == "key"


def older_order(world: ScopeWorld) -> tuple[int, bytes]:
    """Replace the key of values, and return the row of the order before."""
    store = world.admin().opened.store.partition(SCOPE)
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    world.as_member("web")
    row_id = order_row_of(role_key(world, "web").public_key, charter_of(world.admin().scope("pay").opened).scope_id)
    row = store.get(Space.GRANT, row_id)
    assert row is not None
    scopes.revoke("pay", "audit", "read")
    return row_id, row


def test_an_older_order_that_is_put_back_is_noticed(world: ScopeWorld) -> None:
    row_id, row = older_order(world)
    web = world.as_member("web")
    put_rows(world, [(row_id, row)])
    with pytest.raises(RollbackSuspected, match="drop order of the scope went back"):
        web.drop("pay/x", "x")
    with pytest.raises(RollbackSuspected):
        world.as_member("web")
    assert rows_waiting(world) == []


def test_what_was_dropped_by_an_older_order_on_another_machine_is_refused(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row_id, row = older_order(world)
    put_rows(world, [(row_id, row)])
    with monkeypatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        world.as_member("web").drop("pay/x", "x")
    pay = world.as_member("pay")
    assert pay.list() == []
    assert refusals(pay)[-1].obj["reason"] == "key"


def test_an_order_that_this_machine_has_not_seen_is_refused_where_that_is_required(
    world: ScopeWorld,
) -> None:
    key = f"identity:{world.folder / 'web'}.identity"
    world.as_member("web")
    world.open(None, key=key, anchor="required").drop("pay/x", "x")
    scope_id = charter_of(world.admin().scope("pay").opened).scope_id
    (note,) = notes(scope_id)
    note.unlink()
    with pytest.raises(AnchorMissing, match="no drop order"):
        world.open(None, key=key, anchor="required")
    note.write_bytes(b"securecfg-drops-1 garbage\n")
    with pytest.raises(StoreFailed, match="cannot be read"):
        world.as_member("web")


def notes(scope_id: bytes) -> list[Path]:
    """Return the notes of this machine of what it drops into a scope."""
    return list(Path(os.environ["XDG_STATE_HOME"], "securecfg", "drops").glob(f"{scope_id.hex()}-*"))


def test_an_order_that_administrators_did_not_sign_is_passed_over(world: ScopeWorld) -> None:
    opened = world.admin().scope("pay").opened
    charter, web = charter_of(opened), role_key(world, "web")
    genuine = order_of(charter, opened.replica.keyring)
    boss = RoleKey("administrator", generate_key())
    own = value_public_key(generate_key(), charter.scope_id, 0)
    row = opened.store.get(Space.GRANT, order_row_of(web.public_key, charter.scope_id)) or b""
    door = world.as_member("web")._own.get("pay/x")._door  # type: ignore[attr-defined]  # of a drop vault
    assert open_order(web, (charter.vault_id, charter.scope_id), row, door.trust).admissions == []
    forged = genuine._replace(public_key=own, serial=99)
    (signatures,) = own_signatory(boss).sign([forged.message], "forged")
    (of_web,) = own_signatory(web).sign([forged.message], "forged")
    for bad in (
        SignedOrder(forged, signatures).seal(web.public_key).row,
        SignedOrder(forged, of_web).seal(web.public_key).row,
        SignedOrder(forged, ()).seal(web.public_key).row,
        SignedOrder(genuine, signatures).seal(web.public_key).row,
        row[:-1],
        b"",
        b"\x4f",
        b"\x4f\x01",
        b"\x4f\x01\x00",
        row[:50] + bytes((row[50] ^ 1,)) + row[51:],
    ):
        put_rows(world, [(order_row_of(web.public_key, charter.scope_id), bad)])
        with pytest.raises(Tampered):
            open_order(web, (charter.vault_id, charter.scope_id), bad, door.trust)
        with pytest.raises(WrongKey):
            world.as_member("web")
    put_rows(world, [(order_row_of(web.public_key, charter.scope_id), row)])
    web_again = world.as_member("web")
    put_rows(world, [(order_row_of(web.public_key, charter.scope_id), row[:-1])])
    with pytest.raises(Tampered):
        web_again.drop("pay/x", "x")
    opened.store.stage([Delete(Space.GRANT, order_row_of(web.public_key, charter.scope_id))])
    with pytest.raises(ScopeSealed, match="any more"):
        web_again.drop("pay/x", "x")


def test_the_order_of_another_scope_or_role_is_none_of_this(world: ScopeWorld) -> None:
    world.scopes().create("other", read=["audit"], write=["audit"], drop=["web"])
    opened = world.admin().opened
    web = role_key(world, "web")
    ids = [charter_of(world.admin().scope(name).opened).scope_id for name in ("pay", "other")]
    rows = [opened.store.partition(1 + at).get(Space.GRANT, order_row_of(web.public_key, ids[at])) for at in (0, 1)]
    put_rows(world, [(order_row_of(web.public_key, ids[0]), rows[1] or b"")])
    dropper = world.as_member("web")
    dropper.drop("other/x", "x")
    with pytest.raises(ScopeSealed):
        dropper.drop("pay/x", "x")


def test_nobody_is_let_in_whom_administrators_have_not_certified(world: ScopeWorld) -> None:
    """A member of the role seals an order to the others that asks them to let somebody in."""
    opened = world.admin().scope("pay").opened
    web = role_key(world, "web")
    mallory, seed = generate_identity("svc:mallory")
    order = genuine_order(world)
    signature = (web.signing_key, web.signer.sign(b"whatever"))
    asked = [Admission(format_identity(mallory), (signature,)), Admission("garbage", ()), Admission("", (signature,))]
    row = order.seal(web.public_key, asked)
    opened.store.stage([row])
    world.as_member("web").drop("pay/x", "x")
    file = IdentityFile(mallory, PrivateHalf(UNPROTECTED, seed))
    create_private(world.folder / "mallory.identity", format_identity_file(file).encode())
    with pytest.raises(WrongKey):
        world.as_member("mallory")


def genuine_order(world: ScopeWorld) -> SignedOrder:
    """Return the order in force, as administrators signed it."""
    return parse_order(world.admin().scope("pay").opened.system_bytes(ORDER_PATH) or b"")


# --- parsers ----------------------------------------------------------------------------------------------------------


def test_every_cut_of_what_is_in_a_row_is_refused() -> None:
    seed = KeyBytes(b"s" * 32)
    role = RoleKey("web", KeyBytes(b"r" * 32))
    private = opening_key_of(seed)
    public = hybrid_public_key(private)
    place = Place(b"i" * 16, 3, row_id_at(1_800_000_000_000, 5))
    drop = Drop("pay/x", KIND_TEXT, KeyBytes(b"v"), "t", b'{"a":"b"}', 5, "svc:web", "web")
    row = seal_drop(drop, place, public, role.signer.sign, role.signer.sign)
    signed = open_drop(private, place, row)
    assert signed.drop == drop
    assert signed.is_signed_by_role(role.signing_key)
    assert signed.is_signed_by_member(role.signing_key)
    assert not signed._replace(by_role=signed.by_member).is_signed_by_role(role.signing_key)
    assert place.time_ms == 1_800_000_000_000
    info = Label.DROP.encode() + place.to_bytes()
    plain = open_sealed(private, row[6:], info)
    content = len(plain.rstrip(b"\0"))
    for size in [*range(0, content, 3), 2_047]:
        for bad in (plain[:size], plain[:size].ljust(len(plain), b"\xff"), plain + bytes(2_048)):
            with pytest.raises(Tampered):
                open_drop(private, place, row[:6] + seal_to(public, KeyBytes(bad), info))
    for other in (place._replace(epoch=4), place._replace(row_id=9), place._replace(scope_id=bytes(16))):
        with pytest.raises(Tampered):
            open_drop(private, other, row)


def test_every_altered_order_is_refused() -> None:
    boss = RoleKey("administrator", KeyBytes(b"b" * 32))
    web = RoleKey("web", KeyBytes(b"w" * 32))
    order = DropOrder(b"v" * 16, b"s" * 16, 4, "pay/", ("pay/eu/",), 2, bytes(HYBRID_PUBLIC_BYTES))
    (signatures,) = own_signatory(boss).sign([order.message], "")
    trust = own_signatory(boss).trust
    row = SignedOrder(order, signatures).seal(web.public_key).row
    assert open_order(web, (b"v" * 16, b"s" * 16), row, trust) == Found(order, [], (trust,))
    for ids in ((b"x" * 16, b"s" * 16), (b"v" * 16, b"x" * 16)):
        with pytest.raises(Tampered):
            open_order(web, ids, row, trust)
    with pytest.raises(Tampered):
        open_order(boss, (b"v" * 16, b"s" * 16), row, trust)
    with pytest.raises(Tampered, match="not signed"):
        open_order(web, (b"v" * 16, b"s" * 16), row, own_signatory(web).trust)
    with pytest.raises(Tampered, match="not signed"):
        open_order(web, (b"v" * 16, b"s" * 16), row, trust._replace(threshold=2))
    for changed in (
        order._replace(serial=5),
        order._replace(epoch=3),
        order._replace(path="web/"),
        order._replace(public_key=b"k" * HYBRID_PUBLIC_BYTES),
    ):
        bad = SignedOrder(changed, signatures).seal(web.public_key).row
        with pytest.raises(Tampered, match="not signed"):
            open_order(web, (b"v" * 16, b"s" * 16), bad, trust)


@pytest.mark.parametrize(
    ("rights", "slot_id", "is_sound"),
    [
        (DROP, NO_SLOT, True),
        (LIST | DROP, b"2" * 16, True),
        (LIST | READ | WRITE | DROP, b"2" * 16, True),
        (DROP, b"2" * 16, False),
        (LIST, NO_SLOT, False),
        (LIST | DROP, NO_SLOT, False),
        (READ | DROP, b"2" * 16, False),
        (WRITE, b"2" * 16, False),
        (0, NO_SLOT, False),
        (0, b"2" * 16, False),
        (16, NO_SLOT, False),
        (DROP | 16, NO_SLOT, False),
        (LIST | DROP, b"1" * 16, False),
    ],
)
def test_a_charter_gives_a_slot_to_whom_it_gives_more_than_to_drop(
    rights: int, slot_id: bytes, *, is_sound: bool
) -> None:
    parties = (Party("administrator", LIST | WRITE, b"1" * 16, b"k" * 32), Party("web", rights, slot_id, b"w" * 32))
    charter = Charter(b"v" * 16, b"s" * 16, 1, bytes(32), "pay/", False, b"d" * 32, b"k" * 32, parties)
    if is_sound:
        assert Charter.parse(charter.to_bytes()) == charter
    else:
        with pytest.raises(Malformed):
            Charter.parse(charter.to_bytes())


def test_several_roles_may_only_drop() -> None:
    parties = tuple(Party(name, DROP, NO_SLOT, name.encode() * 32) for name in "abc")
    charter = Charter(b"v" * 16, b"s" * 16, 1, bytes(32), "pay/", False, b"d" * 32, b"k" * 32, parties)
    assert Charter.parse(charter.to_bytes()) == charter
    assert not charter.has_collector
