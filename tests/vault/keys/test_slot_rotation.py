"""Slots that are wrapped anew under the key that opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from securecfg.audit import Event
from securecfg.crypto import DEFAULT_COSTS, Argon2Costs, KeyBytes
from securecfg.errors import AccessDenied, Conflict, KeyProviderRefused, SecretNotFound, WrongKey
from securecfg.keys import (
    FileProvider,
    IdentityProvider,
    KeyProvider,
    PassphraseProvider,
    Slot,
    WrapContext,
    generate_key_file,
    open_provider,
    parse_params,
)
from securecfg.keys.stretching import costs_of
from securecfg.secret import Secret
from securecfg.vault.keys.slots import Slots
from securecfg.vault.keys.usage import look_at_keys
from tests.decoder import Passphrase, decode
from tests.vault.test_identities import identity_file, recorded
from tests.vault.world import ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vault.world import World

CHEAP = Argon2Costs(memory_kib=64, passes=1, lanes=1)
PASSPHRASE = "canary-passphrase"


def by_heart(costs: Argon2Costs = DEFAULT_COSTS, passphrase: str = PASSPHRASE) -> PassphraseProvider:
    return PassphraseProvider(Secret(passphrase), costs=costs)


@pytest.fixture
def slots(vault: Vault) -> Slots:
    """Slot 2 takes a passphrase that is cheap to guess."""
    slots = Slots(vault.authority)
    slots.add(by_heart(CHEAP), label="by heart", principals=[ADMIN])
    return slots


def row(vault: Vault, number: int) -> bytes:
    return vault.opened.replica.slots[255 + number]


def test_a_passphrase_is_stretched_at_the_costs_of_today(world: World, vault: Vault, slots: Slots) -> None:
    before = Slot.parse(row(vault, 2))
    listed = slots.list()
    assert costs_of(before.wrapped) == CHEAP
    assert slots.rewrap(2, by_heart())
    after = Slot.parse(row(vault, 2))
    assert costs_of(after.wrapped) == DEFAULT_COSTS
    assert parse_params(after.wrapped)[:16] != parse_params(before.wrapped)[:16]
    assert (after.kind, after.slot_id) == (before.kind, before.slot_id)
    assert slots.list() == listed
    with Vault.open(world.path, key=by_heart(), principal=ADMIN) as opened:
        assert opened.write("a", "1") == 1
    assert decode(world.path, Passphrase(PASSPHRASE)).opened_slot == before.slot_id


def test_the_old_bytes_are_gone_from_the_file(world: World, vault: Vault, slots: Slots) -> None:
    old = Slot.parse(row(vault, 2)).wrapped
    vault.close()
    assert old in world.path.read_bytes()
    with world.open() as opened:
        Slots(opened.authority).rewrap(2, by_heart(CHEAP))
        assert not opened.opened.is_destruction_pending
        files = [path.read_bytes() for path in world.folder.glob("a.vault*")]
        assert not any(old in content for content in files)


def test_who_has_the_vault_open_by_that_slot_goes_on(world: World, vault: Vault, slots: Slots) -> None:
    from securecfg.vault.keys.changes import KeyChanges

    with Vault.open(world.path, key=by_heart(), principal=ADMIN) as other:
        slots.rewrap(2, by_heart())
        KeyChanges(vault.authority).rotate_root()
        assert other.write("a", "1") == 1


def test_it_is_recorded(vault: Vault, slots: Slots) -> None:
    slots.rewrap(2, by_heart(CHEAP))
    entry = [entry for entry in vault.log.records() if entry.record.event is Event.KEY_ROTATED][-1]
    generation = vault.opened.replica.header.generation
    assert dict(entry.record.obj) == {"kind": "slot", "epoch": generation, "slot": slots.list()[1].slot_id}
    assert recorded(vault)[-1].id == ADMIN


def test_a_slot_of_an_identity_is_sealed_anew_with_the_public_half_alone_refused(world: World, vault: Vault) -> None:
    private, public = identity_file(world.folder, "svc:web")
    slots = Slots(vault.authority)
    slots.add(IdentityProvider(public))
    before = row(vault, 2)
    with pytest.raises(KeyProviderRefused):
        slots.rewrap(2, IdentityProvider(public))
    assert slots.rewrap(2, IdentityProvider(private))
    assert row(vault, 2) != before
    with Vault.open(world.path, key=IdentityProvider(private)) as opened:
        assert opened.principal == "svc:web"


def test_where_nothing_changes_nothing_is_published(world: World, vault: Vault) -> None:
    size = vault.opened.replica.checkpoint.size
    assert Slots(vault.authority).rewrap(1, FileProvider(world.folder / "key")) is False
    assert vault.opened.replica.checkpoint.size == size


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_another_key_changes_nothing(world: World, vault: Vault, slots: Slots) -> None:
    generate_key_file(world.folder / "other")
    before = dict(vault.opened.replica.slots)
    cases: list[tuple[int, KeyProvider]] = [
        (2, by_heart(passphrase="another")),
        (2, FileProvider(world.folder / "key")),
        (1, by_heart()),
        (1, FileProvider(world.folder / "other")),
    ]
    for number, provider in cases:
        with pytest.raises(WrongKey):
            slots.rewrap(number, provider)
    assert vault.opened.replica.slots == before


@pytest.mark.parametrize("number", [3, 255, 256, 257, 258, 600])
def test_a_slot_that_is_not_there_is_not_found(slots: Slots, number: int) -> None:
    with pytest.raises(SecretNotFound):
        slots.rewrap(number, by_heart())
    with pytest.raises(SecretNotFound):
        slots.remove(number)


def test_nobody_does_it_without_the_right(vault: Vault, slots: Slots) -> None:
    with vault.acting("user:olga") as olga, pytest.raises(AccessDenied):
        Slots(olga.authority).rewrap(2, by_heart())


class Forgetful:
    """A key that gives out what it was given before, and forgets what it is given next."""

    scheme = "passphrase"
    kind = 1

    def __init__(self, inner: KeyProvider) -> None:
        self._inner = inner

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        return self._inner.wrap(KeyBytes(bytes(32)), context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        return self._inner.unwrap(wrapped, context)


class Inventive(Forgetful):
    """A key that gives out another slot key than it was given."""

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        return self._inner.wrap(key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        return bytes(32)


def test_a_slot_is_kept_where_the_new_one_would_not_open(world: World, vault: Vault, slots: Slots) -> None:
    with pytest.raises(KeyProviderRefused, match="has just wrapped"):
        slots.rewrap(2, Forgetful(by_heart(CHEAP)))
    with pytest.raises(WrongKey):
        slots.rewrap(2, Inventive(by_heart(CHEAP)))
    with Vault.open(world.path, key=by_heart(), principal=ADMIN) as opened:
        assert opened.principal == ADMIN


class Slow(Forgetful):
    """A key during whose use somebody else changes the slot."""

    def __init__(self, inner: KeyProvider, slots: Slots) -> None:
        super().__init__(inner)
        self._slots = slots

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        self._slots.rewrap(2, self._inner)
        return self._inner.wrap(key, context)


def test_a_slot_that_was_changed_meanwhile_is_left_alone(vault: Vault, slots: Slots) -> None:
    with pytest.raises(Conflict, match="changed meanwhile"):
        slots.rewrap(2, Slow(by_heart(CHEAP), slots))
    assert slots.test(by_heart(CHEAP)) == 2


# --- costs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "is_below"),
    [
        (DEFAULT_COSTS, False),
        (Argon2Costs(64 * 1024, 3, 1), False),
        (Argon2Costs(64 * 1024, 2, 4), True),
        (Argon2Costs(64 * 1024 - 1, 16, 4), True),
        (Argon2Costs(256 * 1024, 1, 4), False),
        (Argon2Costs(128 * 1024, 1, 4), True),
    ],
)
def test_what_costs_less_to_guess_than_a_new_slot(costs: Argon2Costs, is_below: bool) -> None:
    assert costs.is_below(DEFAULT_COSTS) is is_below


@pytest.mark.parametrize("read", ["list", "usage", "test"])
def test_what_another_thread_takes_up_meanwhile_is_no_tampering(
    world: World, vault: Vault, slots: Slots, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    other = Slots(world.open().authority)
    generate_key_file(world.folder / "third")
    slots.add(open_provider(f"file:{world.folder / 'third'}"))
    monkeypatch.setattr(Slot, "parse", staticmethod(overtaken(Slot.parse, lambda: other.remove(3), vault)))
    if read == "list":
        assert [slot.number for slot in slots.list()] == [1, 2, 3]
    elif read == "usage":
        subjects = [each.subject for each in look_at_keys(vault.authority, ())]
        assert sum(subject.startswith("slot:") for subject in subjects) == 3
    else:
        assert slots.test(by_heart()) == 2
    assert [slot.number for slot in slots.list()] == [1, 2]


def overtaken(parse: Callable[[bytes], Slot], act: Callable[[], None], vault: Vault) -> Callable[[bytes], Slot]:
    """Return a function before whose first call another process acts, and another thread takes that up."""
    turns = iter(range(1))

    def parse_later(row: bytes) -> Slot:
        if next(turns, None) is not None:
            act()
            vault.opened.refresh()
        return parse(row)

    return parse_later
