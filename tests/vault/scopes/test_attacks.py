"""Hostile members: code that holds the file, one role's keys and everything that these open, and keeps to no rule."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT, XAES256GCM, ChunkedValueKey, KeyBytes, generate_key, open_sealed
from securecfg.crypto.padding import padded_length
from securecfg.errors import (
    AnchorMissing,
    Conflict,
    HeadMoved,
    IntegrityError,
    RollbackSuspected,
    ScopeSealed,
    SecurecfgError,
    SignaturesMissing,
    Tampered,
    ValueTooLarge,
    WrongKey,
)
from securecfg.keys import Identity, Purpose, open_provider, root_row_of
from securecfg.keys.identity import read_identity_file
from securecfg.keys.providers.identity import IdentityProvider
from securecfg.keys.role_keys import (
    Certificate,
    RoleKey,
    membership_info,
    membership_row_of,
    parse_membership,
    seal_membership,
)
from securecfg.keys.trust import Trust
from securecfg.keys.value_grants import grant_row_of, seal_grant, value_public_key
from securecfg.octets import Cursor, Malformed
from securecfg.store import ID_LIMIT, Delete, Put, Space, open_sqlite
from securecfg.vault.commits.epochs import plan_key_change, seal_root_to_all
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.publishing import Plan, Publication
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.paths import CHARTER_PATH
from securecfg.vault.scopes.changes import ScopeChanges
from securecfg.vault.scopes.charters import (
    LIST,
    READ,
    VOUCHER_ID,
    WRITE,
    Charter,
    Party,
    SignedCharter,
    keys_digest,
    parse_charter,
    parse_voucher,
)
from securecfg.vault.scopes.founding import Founding, found_scope
from securecfg.vault.scopes.memberships import find_roles
from securecfg.vault.scopes.opening import charter_of, grants_of, slot_ids
from securecfg.vault.scopes.registry import read_own_keys
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.scopes.seats import Seat
from securecfg.vault.session import Identity as Who
from securecfg.vault.state.replica import Replica
from securecfg.vault.trust.certificates import CERTIFICATES_PATH
from securecfg.vault.trust.signatories import HeldKeys, own_signatory
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.scope_world import accepted_by, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from securecfg.keys.trust import Signatures
    from securecfg.vault import Vault
    from securecfg.vault.opened import OpenVault
    from tests.vault.scope_world import ScopeWorld


def make_world(folder: Path) -> ScopeWorld:
    """Two scopes; in that of payments `audit` may list and nothing else."""
    world = scope_world(folder)
    scopes = world.scopes()
    scopes.create("web", read=["web"], write=["web"])
    scopes.create("pay", read=["pay"])
    scopes.grant("pay", "audit", "list")
    world.as_member("web").write("web/key", "of web")
    world.admin().write("pay/key", "of pay")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def role_key(world: ScopeWorld, name: str) -> RoleKey:
    """Return a role's key as a member comes to it."""
    with open_sqlite_closing(world.path) as store:
        vault_id = world.admin().opened.replica.vault_id
        provider = open_provider(f"identity:{world.folder / name}.identity")
        ((key, _),) = find_roles(store, vault_id, provider)  # type: ignore[arg-type]  # an identity's
        return key


class open_sqlite_closing:  # noqa: N801 - used as a function
    def __init__(self, path: Path) -> None:
        self._store = open_sqlite(path)

    def __enter__(self) -> Any:  # noqa: ANN401 - a store
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()


def lawless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process publish whatever it wants, signed with the key that it has."""
    monkeypatch.setattr(Replica, "may_change", True)
    monkeypatch.setattr(Seat, "may_write", True)
    monkeypatch.setattr(Seat, "signer", property(lambda self: self._signer))


# --- what a key opens -------------------------------------------------------------------------------------------------


def every_key(vault: Vault) -> dict[str, bytes]:
    """Return every key that the holder of a role's key comes to in its scopes."""
    replica = vault.opened.replica
    keys = {"root": bytes(replica.root)}
    for entry in replica.keyring.keys:
        keys[f"{entry.purpose} {entry.epoch}"] = bytes(entry.key)
    grants = grants_of(vault.opened)
    for entry in replica.keyring.keys:
        if entry.purpose == Purpose.VALUE and grants.is_granted(entry.epoch):
            keys[f"seed {entry.epoch}"] = bytes(grants.seed(entry.epoch))
            keys[f"private {entry.epoch}"] = bytes(grants.private_key(entry.epoch))
    for page in range(1, 4):
        try:
            keys[f"dek {page}"] = bytes(vault.opened.data_key(page))
        except SecurecfgError:
            continue
    return keys


def test_no_key_that_a_role_comes_to_opens_a_row_of_another_scope(world: ScopeWorld) -> None:
    web = world.as_member("web")
    keys = [*every_key(web.scope("web")).values(), bytes(role_key(world, "web").seed)]
    keys += [bytes(role_key(world, "web")._opening_key)]
    other = world.admin().opened.store.partition(charter_number(world, "pay"))
    contexts = [b"", other.get(Space.META, 1) or b"", world.admin().opened.replica.vault_id]
    tried = opened = 0
    for space in Space:
        for number, row in other.scan(space, 0, ID_LIMIT - 1, 10_000):
            for key, start, ctx in itertools.product(keys, (0, 2, 6, 10, 14, 22), contexts):
                tried += 1
                opened += opens(key, row[start:], ctx + number.to_bytes(8))
                opened += opens(key, row[start:], ctx)
    assert tried > 5_000
    assert opened == 0


def opens(key: bytes, sealed: bytes, ctx: bytes) -> bool:
    """Return whether a key opens bytes in any of the ways that the format has."""
    ways: list[Callable[[], object]] = []
    if len(key) == 32:
        ways = [
            lambda: XAES256GCM(key).open(sealed, ctx),
            lambda: AESGCM(key).decrypt(bytes(12), sealed, ctx),
            lambda: AESGCM(key).decrypt(bytes(12), sealed[32:], ctx),
        ]
    if len(key) == 64:
        ways.append(lambda: AESSIV(key).decrypt(sealed, [ctx]))
    if len(key) == 96:
        ways.append(lambda: open_sealed(key, sealed, ctx))
    for way in ways:
        try:
            way()
        except (InvalidTag, IntegrityError, ValueError):
            continue
        return True
    return False


def test_the_ways_in_which_rows_are_tried_open_what_they_should(world: ScopeWorld) -> None:
    key = generate_key()
    assert opens(key, XAES256GCM(key).seal(b"x", b"ctx"), b"ctx")
    assert opens(bytes(64), AESSIV(bytes(64)).encrypt(bytes(32), [b"ctx"]), b"ctx")
    pay = world.as_member("pay")
    row = pay.opened.store.get(Space.GRANT, grant_row_of(258, 0)) or b""
    assert len(row) > 1_000 or pay.opened.store.scan(Space.GRANT, 0, 10_000, 10)


def charter_number(world: ScopeWorld, path: str) -> int:
    registry = world.admin().opened.scopes()
    assert registry is not None
    return registry.scopes[f"{path}/"].number


def test_the_root_opens_no_value_of_a_sealed_scope(world: ScopeWorld) -> None:
    with world.scopes()._inside("pay") as inside:
        opened = inside.opened
        entry = opened.entry(b"pay/key")
        assert entry is not None
        with pytest.raises(ScopeSealed):
            opened.open_inline(opened.locate(b"pay/key", entry, 0))
        with pytest.raises(ScopeSealed):
            grants_of(opened).seed(0)


def test_a_role_opens_no_slot_of_another_scope(world: ScopeWorld) -> None:
    key = role_key(world, "web")
    store = world.admin().opened.store.partition(charter_number(world, "pay"))
    from securecfg.keys import unlock
    from securecfg.vault.state.replica import read_header

    with pytest.raises(WrongKey):
        unlock(*read_header(store), key)


# --- forged changes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pay", "audit"])
def test_a_write_by_somebody_who_is_no_writer_is_accepted_by_nobody(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    open_before = world.as_member("pay")
    text_of(open_before, "pay/key")
    attacker = world.as_member(name)
    with monkeypatch.context() as patched:
        lawless(patched)
        attacker.write("pay/key", "forged")
    assert accepted_by(world, "pay", "pay/key") == "tampered"
    with pytest.raises(Tampered, match="no writer of the scope"):
        open_before.read("pay/key")
    with pytest.raises(Tampered):
        world.admin().read("pay/key")


def test_a_write_without_a_new_voucher_is_accepted_by_nobody(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker = world.as_member("pay")
    with monkeypatch.context() as patched:
        patched.setattr(Replica, "may_change", True)
        patched.setattr(Seat, "may_write", True)
        patched.setattr(Seat, "signer", None)
        attacker.write("pay/key", "forged")
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_nothing_of_a_state_that_is_refused_stays_in_an_open_handle(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = world.as_member("pay")
    assert text_of(victim, "pay/key") == "of pay"
    store = world.admin().opened.store.partition(charter_number(world, "pay"))
    head, voucher = store.head() or b"", store.get(Space.META, VOUCHER_ID) or b""
    kept = store.scan(Space.HISTORY, 0, ID_LIMIT - 1, 10_000)
    with monkeypatch.context() as patched:
        lawless(patched)
        attacker = world.as_member("audit").scope("pay").opened
        assert attacker.replica.seat is not None
        attacker.replica.seat.sign_with(Ed25519PrivateKey.generate())
        forged = Content(KIND_TEXT, 6, lambda: (b"forged",))

        def plan(publication: Publication) -> Plan:
            drafted = Drafts(attacker, publication).write(
                b"pay/key", forged, NewVersion("svc:pay", world.clock.now_ns())
            )
            record = world.admin().authority.session().record(Event.SECRET_WRITTEN, {"path": "pay/key", "ver": 2})
            drafted.records = [record]
            return drafted

        attacker.publisher.publish(plan)
    with pytest.raises(Tampered):
        victim.read("pay/key")
    rows = [Put(Space.META, VOUCHER_ID, voucher), *(Put(Space.HISTORY, number, row) for number, row in kept)]
    store.commit(rows, expect=store.head(), head=head)
    assert text_of(victim, "pay/key") == "of pay"
    assert [info.version for info in victim.history("pay/key")] == [1]


@pytest.mark.parametrize("at", [*range(0, 171, 7), 170])
def test_a_voucher_is_whole_or_nothing(world: ScopeWorld, at: int) -> None:
    store = world.admin().opened.store.partition(charter_number(world, "pay"))
    row = bytearray(store.get(Space.META, VOUCHER_ID) or b"")
    row[at] ^= 1
    store.stage([Put(Space.META, VOUCHER_ID, bytes(row))])
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_a_missing_or_older_voucher_is_noticed(world: ScopeWorld) -> None:
    store = world.admin().opened.store.partition(charter_number(world, "pay"))
    older = store.get(Space.META, VOUCHER_ID) or b""
    world.admin().write("pay/key", "newer")
    for row in (older, b"", older[:-1], older + b"x"):
        store.stage([Put(Space.META, VOUCHER_ID, row)])
        assert accepted_by(world, "pay", "pay/key") == "tampered"
    store.stage([Delete(Space.META, VOUCHER_ID)])
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def forged_charter(opened: OpenVault, key: RoleKey, parties: tuple[Party, ...], keys: bytes = b"") -> SignedCharter:
    before = charter_of(opened)
    charter = before._replace(serial=before.serial + 1, previous=before.digest, parties=parties)
    if keys:
        charter = charter._replace(keys=keys)
    return signed_by(charter, key)


def signed_by(charter: Charter, *keys: RoleKey) -> SignedCharter:
    """Return a charter that some sign, whoever believes them."""
    trust = Trust(tuple(key.signing_key for key in keys), len(keys))
    (signatures,) = HeldKeys(trust, {key.signing_key: key.signer.sign for key in keys}).sign(
        [charter.message], "a charter"
    )
    return SignedCharter(charter, signatures)


def test_a_charter_that_no_administrator_signed_is_accepted_by_nobody(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker, key = world.as_member("pay"), role_key(world, "pay")
    opened = attacker.opened
    promoted = tuple(
        party._replace(rights=LIST | READ | WRITE) if party.role == "pay" else party
        for party in charter_of(opened).parties
    )
    changes = ScopeChanges(opened, attacker.authority.identity, key, own_signatory(key), {})
    signed = forged_charter(opened, key, promoted)
    from securecfg.vault.scopes.founding import charter_content

    def plan(publication: Publication) -> Plan:
        plan = Plan(charter=signed)
        plan.join(Drafts(opened, publication).write(CHARTER_PATH, charter_content(signed), changes._new_version()))
        obj = {"path": "pay/", "rev": signed.charter.serial, "digest": signed.charter.digest.hex()}
        plan.records = [attacker.authority.session().record(Event.SCOPE_CHANGED, obj)]
        return plan

    with monkeypatch.context() as patched:
        lawless(patched)
        with pytest.raises(Tampered):
            opened.publisher.publish(plan)
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_a_writer_cannot_put_a_key_of_his_own_among_those_that_values_are_sealed_to(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "audit", "write")
    audit = world.as_member("audit").scope("pay")
    opened, replica = audit.opened, audit.opened.replica
    seed = generate_key()

    def plan(publication: Publication) -> Plan:
        keyring = replica.keyring.with_value_key(value_public_key(seed, replica.vault_id, 1), 1)
        return plan_key_change(opened, publication, replica.slots, keyring)

    with pytest.raises(Tampered, match="administrators signed"):
        opened.publisher.publish(plan)
    assert accepted_by(world, "pay", "pay/key") == "tampered"
    with pytest.raises(Tampered):
        world.admin().write("pay/key", "sealed to the attacker")


def test_a_writer_cannot_let_somebody_in(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "audit", "write")
    audit = world.as_member("audit").scope("pay")
    from securecfg.vault.keys.slots import Slots

    key = RoleKey("mine", generate_key())
    with pytest.raises(SecurecfgError):
        Slots(audit.authority).add(key)  # the policy of the scope does not let it
    opened, replica = audit.opened, audit.opened.replica
    from securecfg.keys import SlotInfo, seal_slot

    new = seal_slot(replica.vault_id, key)

    def plan(publication: Publication) -> Plan:
        slots = replica.slots | new.rows(300, replica.vault_id, replica.root)
        keyring = replica.keyring.with_slot(SlotInfo(new.slot.slot_id, new.public_key, 1, "role", "mine"))
        return plan_key_change(opened, publication, slots, keyring)

    with pytest.raises(Tampered, match="administrators signed"):
        opened.publisher.publish(plan)
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_a_grant_that_is_not_the_seed_of_the_keyring_is_no_grant(world: ScopeWorld) -> None:
    store = world.admin().opened.store.partition(charter_number(world, "pay"))
    pay = world.as_member("pay")
    replica = pay.opened.replica
    slot_id = bytes.fromhex(pay.authority.identity.slot)
    row = next(number for number, known in slot_ids(replica.slots).items() if known == slot_id)
    public_key = replica.keyring.slot(slot_id).public_key
    number = grant_row_of(row, 0)
    honest = store.get(Space.GRANT, number) or b""
    forged = seal_grant(public_key, replica.vault_id, slot_id, 0, generate_key())
    for bad in (forged, honest[:-1], honest + b"x", b"", honest[:-1] + bytes((honest[-1] ^ 1,))):
        store.stage([Put(Space.GRANT, number, bad)])
        assert accepted_by(world, "pay", "pay/key") == "tampered"
    store.stage([Put(Space.GRANT, number, bytes(len(honest)))])  # as of a slot that was here before
    assert accepted_by(world, "pay", "pay/key") == "scope-sealed"
    store.stage([Delete(Space.GRANT, number)])
    assert accepted_by(world, "pay", "pay/key") == "scope-sealed"
    store.stage([Put(Space.GRANT, number, honest)])
    assert accepted_by(world, "pay", "pay/key") == "of pay"


def test_nothing_is_written_under_a_seed_that_somebody_else_granted(world: ScopeWorld) -> None:
    web = world.as_member("web")
    replica = web.opened.replica
    slot_id = bytes.fromhex(web.authority.identity.slot)
    row = next(number for number, known in slot_ids(replica.slots).items() if known == slot_id)
    forged = seal_grant(replica.keyring.slot(slot_id).public_key, replica.vault_id, slot_id, 0, generate_key())
    web.opened.store.stage([Put(Space.GRANT, grant_row_of(row, 0), forged)])
    with pytest.raises(Tampered, match="grant"):
        world.as_member("web").write("web/key", "for nobody else to read")


def test_the_index_of_a_scope_is_compacted_by_its_writers_only(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay = world.as_member("pay")
    with pytest.raises(ScopeSealed):
        compact(pay.opened)
    with monkeypatch.context() as patched:
        patched.setattr(Replica, "may_change", True)
        patched.setattr(Seat, "signer", None)
        compact(pay.opened)
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_the_root_of_a_scope_is_changed_by_its_writers_only(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    pay = world.as_member("pay").scope("pay")
    opened, replica = pay.opened, pay.opened.replica

    def plan(publication: Publication) -> Plan:
        root = generate_key()
        slots = seal_root_to_all(replica.vault_id, root, replica.slots, replica.keyring)
        return plan_key_change(opened, publication, slots, replica.keyring, root)

    with pytest.raises(ScopeSealed):
        opened.publisher.publish(plan)
    with monkeypatch.context() as patched:
        patched.setattr(Replica, "may_change", True)
        patched.setattr(Seat, "signer", None)
        with pytest.raises(Tampered):
            opened.publisher.publish(plan)
    assert accepted_by(world, "pay", "pay/key") == "tampered"


# --- values under keys that somebody knows ----------------------------------------------------------------------------


def put_value(vault: Vault, path: bytes, content: bytes) -> None:
    """Put another value in the place of one, under its own data key, as whoever has opened it once can."""
    opened = vault.opened
    entry = opened.entry(path)
    assert entry is not None
    located = opened.locate(path, entry, 0)
    key = opened.value_key(located)
    plaintext = struct.pack(">QB", len(content), KIND_TEXT) + content
    padded = plaintext.ljust(padded_length(len(plaintext)), b"\0")
    row = key._head + key._aead.encrypt(bytes(12), padded, key._head)
    opened.store.stage([Put(Space.VALUE, located.version.value_id, row)])


def test_whoever_knows_a_data_key_cannot_put_another_value_in_its_place(world: ScopeWorld) -> None:
    pay = world.as_member("pay").scope("pay")
    put_value(pay, b"pay/key", b"forged")
    assert accepted_by(world, "pay", "pay/key") == "tampered"
    assert verify_vault(pay.opened).problems


def test_whoever_knows_a_data_key_cannot_put_other_chunks_in_their_place(world: ScopeWorld) -> None:
    web = world.as_member("web").scope("web")
    web.write("web/large", b"x" * 1_200_000)
    opened = web.opened
    entry = opened.entry(b"web/large")
    assert entry is not None
    version = opened.locate(b"web/large", entry, 0).version
    key = ChunkedValueKey(opened.data_key(version.dek_id), opened.value_context(entry.rec_id, version))
    rows = key.seal(0, 1_200_000, [b"y" * 1_200_000])
    opened.store.stage([Put(Space.VALUE, version.value_id + 1 + at, row) for at, row in enumerate(rows)])
    reader = world.as_member("web")
    with pytest.raises(Tampered):
        reader.read("web/large")
    with pytest.raises(Tampered):
        list(reader.stream("web/large")[1])


@pytest.mark.parametrize("path", [ROLES_PATH, CHARTER_PATH, CERTIFICATES_PATH])
def test_who_may_only_list_cannot_rewrite_the_documents_of_a_scope(world: ScopeWorld, path: bytes) -> None:
    audit = world.as_member("audit").scope("pay")
    put_value(audit, path, b'{"admin":["svc:audit"]}')
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_a_value_of_more_than_a_scope_takes_is_refused(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecfg.vault.state.data_keys.SEALED_LIMIT_BYTES", 1_000_000)
    with pytest.raises(ValueTooLarge, match="sealed scope"):
        world.as_member("web").write("web/large", b"x" * 1_200_000)


# --- other places -----------------------------------------------------------------------------------------------------


def test_a_scope_in_the_place_of_another_is_refused_by_the_root(world: ScopeWorld) -> None:
    one, other = charter_number(world, "pay"), charter_number(world, "web")
    world.close()
    with closing(sqlite3.connect(world.path)) as database:
        for table, column in (("p", "n"), ("g", "i")):
            for old, new in ((one, 99), (other, one), (99, other)):
                database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))  # noqa: S608 - ours
        database.commit()
    with pytest.raises(Tampered, match="another scope"):
        world.admin().write("pay/key", "into the wrong scope")
    with pytest.raises(Tampered, match="another scope"):
        world.scopes().grant("pay", "web", "read")


def test_a_scope_that_is_gone_is_missed(world: ScopeWorld) -> None:
    number = charter_number(world, "pay")
    world.close()
    with closing(sqlite3.connect(world.path)) as database:
        database.execute("DELETE FROM p WHERE n = ?", (number,))
        database.execute("DELETE FROM g WHERE i = ?", (number,))
        database.commit()
    with pytest.raises(Tampered, match="is not there"):
        list(world.admin().parts())


def test_a_second_making_changes_nothing_of_the_first(world: ScopeWorld) -> None:
    store = world.admin().opened.store.partition(charter_number(world, "pay"))
    before = [store.scan(space, 0, ID_LIMIT - 1, 1_000) for space in Space]
    boss = RoleKey("administrator", generate_key())
    founding = Founding(bytes(16), bytes(16), "pay/", False, {"pay": (LIST | READ, boss.public_key)}, {})
    with pytest.raises(HeadMoved):
        found_scope(lambda: store, founding, boss, own_signatory(boss), Who("user:ada"), clock=world.clock)
    assert [store.scan(space, 0, ID_LIMIT - 1, 1_000) for space in Space] == before


def test_what_a_machine_knows_nothing_of_is_refused_where_that_is_required(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(AnchorMissing):
        world.open(None, key=f"identity:{world.folder / 'pay.identity'}", anchor="required")
    world.admin()
    with pytest.raises(AnchorMissing):
        world.open(anchor="required").list("pay/")


# --- other administrators ---------------------------------------------------------------------------------------------


def plant_scope(world: ScopeWorld, member: Identity, role: str) -> None:
    """Put a scope into the file that somebody with a pen and no key has made up, and let a member into it."""
    boss = RoleKey("administrator", generate_key())
    key = RoleKey(role, generate_key())
    store = open_sqlite(world.path)
    vault_id = world.admin().opened.replica.vault_id
    founding = Founding(vault_id, bytes(range(16)), "pay/", False, {role: (LIST | READ | WRITE, key.public_key)}, {})
    signatories = own_signatory(boss)
    found_scope(lambda: store.partition(77), founding, boss, signatories, Who("user:mallory"), clock=world.clock)
    certificate = Certificate(role, key.public_key, signatories.trust)
    (signatures,) = signatories.sign([certificate.message(vault_id, member)], "a membership")
    row = seal_membership(key.seed, certificate._replace(signatures=signatures), vault_id, member)
    store.stage([Put(Space.GRANT, membership_row_of(member, key.public_key), row)])
    store.close()


def test_a_scope_of_other_administrators_is_not_taken_for_one_of_the_vault(world: ScopeWorld) -> None:
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    plant_scope(world, read_identity_file(world.folder / "pay.identity").identity, "pay")
    pay = world.as_member("pay")
    assert text_of(pay, "pay/key") == "of pay"
    assert pay.opened.replica.vault_id != bytes(range(16))


def test_where_nothing_is_known_two_sets_of_administrators_are_refused(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant_scope(world, read_identity_file(world.folder / "pay.identity").identity, "pay")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(Tampered, match="more than one set"):
        world.as_member("pay")


def test_a_vault_in_the_place_of_another_is_refused(world: ScopeWorld, tmp_path: Path) -> None:
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    world.close()
    (tmp_path / "other").mkdir()
    other = scope_world(tmp_path / "other")
    shutil.copy(world.folder / "pay.identity", other.folder / "copied.identity")
    member = read_identity_file(world.folder / "pay.identity").identity
    other.admin().administration.add_member("pay", "svc:pay", identity=member, replace=True)
    other.scopes().create("pay", read=["pay"])
    other.close()
    shutil.copy(other.path, world.path)
    with pytest.raises(RollbackSuspected, match="administrators are known"):
        world.as_member("pay")


def test_a_membership_that_is_for_somebody_else_or_altered_is_passed_over(world: ScopeWorld) -> None:
    store = open_sqlite(world.path)
    rows = store.scan(Space.GRANT, 0, ID_LIMIT - 1, 100)
    for number, row in rows:
        store.stage([Put(Space.GRANT, number, row[:40] + bytes((row[40] ^ 1,)) + row[41:])])
    assert accepted_by(world, "pay", "pay/key") == "wrong-key"
    store.stage([Put(Space.GRANT, number, row) for number, row in rows])
    store.stage(
        [Put(Space.GRANT, 5, b""), Put(Space.GRANT, 6, b"\x4d\x01"), Put(Space.GRANT, 7, b"\x4d\x01" + b"x" * 9)]
    )
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    store.close()


# --- parsers ----------------------------------------------------------------------------------------------------------


def a_charter() -> tuple[SignedCharter, Trust]:
    boss = RoleKey("administrator", KeyBytes(b"b" * 32))
    parties = (
        Party("administrator", LIST | WRITE, b"1" * 16, boss.signing_key),
        Party("pay", LIST | READ, b"2" * 16, b"k" * 32),
    )
    charter = Charter(b"v" * 16, b"s" * 16, 1, bytes(32), "pay/", False, b"d" * 32, boss.signing_key, parties)
    return signed_by(charter, boss), Trust((boss.signing_key,), 1)


def test_a_charter_comes_back_as_it_was_signed() -> None:
    signed, trust = a_charter()
    assert parse_charter(signed.to_bytes(), b"v" * 16, b"s" * 16, trust) == signed


def test_every_altered_or_cut_charter_is_refused() -> None:
    signed, trust = a_charter()
    raw = signed.to_bytes()
    for at in range(len(raw)):
        for bad in (raw[:at], raw[:at] + bytes((raw[at] ^ 0x81,)) + raw[at + 1 :]):
            with pytest.raises(Tampered):
                parse_charter(bad, b"v" * 16, b"s" * 16, trust)
    for bad in (raw + b"\0", b"", bytes(1_000_000)):
        with pytest.raises(Tampered):
            parse_charter(bad, b"v" * 16, b"s" * 16, trust)
    for ids in ((b"v" * 16, b"t" * 16), (b"w" * 16, b"s" * 16)):
        with pytest.raises(Tampered):
            parse_charter(raw, *ids, trust)


def test_a_charter_needs_as_many_signatures_as_are_asked_for() -> None:
    signed, trust = a_charter()
    second = RoleKey("administrator", KeyBytes(b"c" * 32))
    both = Trust((*trust.administrators, second.signing_key), 2)
    with pytest.raises(Tampered):
        signed.verify(both)
    with pytest.raises(Tampered):
        signed._replace(signatures=signed.signatures * 2).verify(both)
    twice = signed._replace(signatures=signed.signatures + signed_by(signed.charter, second).signatures)
    twice.verify(both)
    assert parse_charter(twice.to_bytes(), b"v" * 16, b"s" * 16, both) == twice
    with pytest.raises(Tampered):
        twice.verify(both._replace(threshold=0))
    with pytest.raises(Tampered):
        twice.verify(Trust((b"x" * 32,), 1))


def test_a_certificate_of_one_administrator_where_two_are_needed_lets_nobody_in(world: ScopeWorld) -> None:
    member = read_identity_file(world.folder / "pay.identity").identity
    one, two, stranger = (RoleKey("administrator", KeyBytes(letter * 32)) for letter in (b"b", b"c", b"d"))
    unsigned = Certificate("pay", bytes(1248), Trust((one.signing_key, two.signing_key), 2))
    vault_id, message = b"v" * 16, unsigned.message(b"v" * 16, member)
    first, second, third = ((key.signing_key, key.signer.sign(message)) for key in (one, two, stranger))
    for signatures in ((), (first,), (first, first), (first, third), (first, (second[0], first[1]))):
        assert not unsigned._replace(signatures=signatures).is_signed(vault_id, member)
    signed = unsigned._replace(signatures=(first, second))
    assert signed.is_signed(vault_id, member)
    other = read_identity_file(world.folder / "web.identity").identity
    assert not signed.is_signed(vault_id, other)
    assert not signed.is_signed(b"w" * 16, member)
    for changed in ({"role": "web"}, {"public_key": bytes(1247) + b"x"}, {"trust": signed.trust._replace(threshold=1)}):
        assert not signed._replace(**changed).is_signed(vault_id, member)


def test_a_membership_says_whose_signatures_it_has(world: ScopeWorld) -> None:
    key = RoleKey("pay", generate_key())
    trust = Trust((b"a" * 32, b"b" * 32), 2)
    certificate = Certificate("pay", key.public_key, trust, ((b"a" * 32, b"1" * 64), (b"b" * 32, b"2" * 64)))
    member = read_identity_file(world.folder / "pay.identity").identity
    row = seal_membership(key.seed, certificate, b"v" * 16, member)
    provider = open_provider(f"identity:{world.folder / 'pay.identity'}")
    assert isinstance(provider, IdentityProvider)
    plaintext = provider.open_for_owner(row[2:], membership_info(b"v" * 16))
    assert parse_membership(plaintext)[1] == certificate
    for bad in (plaintext[:-1], bytes(256), bytes(2) + plaintext[2:]):
        with pytest.raises(Tampered):
            parse_membership(KeyBytes(bad))


def test_a_threshold_that_cannot_be_reached_is_malformed() -> None:
    many = b"".join(bytes((number,)) * 32 for number in range(33))
    for raw in (
        b"\x00\x01" + b"a" * 32,
        b"\x02\x01" + b"a" * 32,
        b"\x02\x02" + b"a" * 64,
        b"\x01\x00",
        b"\x01\x21" + many,
    ):
        with pytest.raises(Malformed):
            Trust.read(Cursor(bytes(4) + raw))
    assert Trust.read(Cursor(bytes(4) + b"\x20\x20" + many[:-32])).threshold == 32


def test_what_was_signed_of_another_state_is_published_by_nobody(world: ScopeWorld) -> None:
    class Slow(HeldKeys):
        def sign(self, messages: Sequence[bytes], summary: str) -> list[Signatures]:
            if not moved:
                moved.append(True)
                world.scopes().grant("pay", "web", "list")
            return super().sign(messages, summary)

    moved: list[bool] = []
    admin = world.admin()
    keys = read_own_keys(admin.opened)
    assert keys is not None
    own = keys.current
    slow = Slow(own_signatory(own).trust, {own.signing_key: own.signer.sign})
    with pytest.raises(Conflict, match="at the same moment"):
        Scopes(admin.authority, slow).grant("pay", "pay", "write")
    roles = world.scopes().show("pay").roles
    assert (roles["pay"], roles["web"]) == (("list", "read"), ("list",))
    assert accepted_by(world, "pay", "pay/key") == "of pay"


def test_without_enough_signatures_nothing_is_changed(world: ScopeWorld) -> None:
    admin = world.admin()
    keys = read_own_keys(admin.opened)
    assert keys is not None
    nobody = HeldKeys(own_signatory(keys.current).trust, {})
    world.person("pay", "second")
    sizes = [part.opened.replica.checkpoint.size for _, part in world.admin().parts()]
    scopes = Scopes(admin.authority, nobody)
    for change in (scopes.grant, scopes.revoke):
        with pytest.raises(SignaturesMissing):
            change("pay", "audit", "write" if change == scopes.grant else "list")
    assert [part.opened.replica.checkpoint.size for _, part in world.admin().parts()] == sizes


def test_vouchers_of_another_size_are_refused() -> None:
    for row in (None, b"", b"\x56\x01", bytes(210), b"\x56\x01" + bytes(300)):
        with pytest.raises(Tampered):
            parse_voucher(row)


def test_the_digest_of_keys_covers_every_public_key(world: ScopeWorld) -> None:
    keyring = world.as_member("pay").opened.replica.keyring
    digest = keys_digest(keyring)
    info = keyring.slots[0]
    changed = info._replace(public_key=bytes(len(info.public_key)))
    assert keys_digest(type(keyring)(keyring.keys, (changed, *keyring.slots[1:]))) != digest
    assert keys_digest(keyring.with_value_key(value_public_key(b"s" * 32, b"v" * 16, 1), 1)) != digest
    assert keys_digest(keyring.with_new_epoch(Purpose.SCOPE, 1)) == digest


def test_a_writer_who_takes_away_the_slot_of_a_reader_shuts_out_nobody_else_and_an_administrator_mends_it(
    world: ScopeWorld,
) -> None:
    world.scopes().grant("web", "audit", "read")
    world.as_member("audit")
    part = world.as_member("web").scope("web")
    party = charter_of(part.opened).party("audit")
    assert party is not None

    def plan(publication: Publication) -> Plan:
        replica = part.opened.replica
        row = next(number for number, slot_id in slot_ids(replica.slots).items() if slot_id == party.slot_id)
        slots = {other: raw for other, raw in replica.slots.items() if other not in (row, root_row_of(row))}
        plan = plan_key_change(part.opened, publication, slots, replica.keyring)
        plan.deletes.append(Delete(Space.META, row))
        record = part.authority.session().record(Event.KEY_ROTATED, {"kind": "root", "epoch": 2})
        plan.records.append(record)
        return plan

    part.opened.publisher.publish(plan)
    assert accepted_by(world, "web", "web/key") == "of web"
    assert accepted_by(world, "audit", "web/key") == "scope-sealed"
    before = bytes(part.opened.replica.root)
    world.scopes().revoke("web", "audit", "list")
    assert "audit" not in world.scopes().show("web").roles
    assert bytes(world.as_member("web").scope("web").opened.replica.root) != before
    world.scopes().grant("web", "audit", "read")
    assert accepted_by(world, "web", "web/key") == "of web"
    assert accepted_by(world, "audit", "web/key") == "of web"
