"""Section 4.3 of the format."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import KEY_BYTES, ROOT_SCOPE, XAES256GCM, KeyBytes, KeyWrap, Label, expand, keyring_context
from securecfg.errors import InvalidMetadata, Tampered
from securecfg.keys import KeyEntry, Keyring, KeyState, Purpose, SlotInfo
from securecfg.keys.keyring import _encode

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = bytes(range(32))
VAULT = bytes(range(16))
OTHER_SCOPE = b"s" * 16
PUBLIC_KEY = bytes(range(256)) * 4 + bytes(192)
SLOT = SlotInfo(b"i" * 16, PUBLIC_KEY, 2_000, "passphrase", "Olga's", ("user:olga", "svc:web"))


def keyring() -> Keyring:
    return Keyring.generate(1_000, (SLOT,))


def seal_plaintext(plaintext: bytes, generation: int = 1) -> bytes:
    box = XAES256GCM(expand(ROOT, Label.KEYRING, VAULT, KEY_BYTES))
    return b"\x4b\x01" + generation.to_bytes(8) + box.seal(plaintext, keyring_context(VAULT, generation))


def entry(purpose: int = 1, epoch: int = 0, state: KeyState = KeyState.ACTIVE, size: int = 32) -> KeyEntry:
    return KeyEntry(purpose, ROOT_SCOPE, epoch, state, 1_000, KeyBytes(b"k" * size))


def test_a_new_keyring_has_one_active_key_of_each_purpose() -> None:
    keys = keyring().keys
    assert [(key.purpose, key.scope_id, key.epoch, key.state) for key in keys] == [
        (purpose, bytes(16), 0, KeyState.ACTIVE) for purpose in Purpose if purpose != Purpose.VALUE
    ]
    assert [len(key.key) for key in keys] == [32, 32, 96, 32]
    assert len({key.key for key in [*keys, *keyring().keys]}) == 8


def test_what_was_sealed_opens() -> None:
    before = keyring().with_new_epoch(Purpose.SCOPE, 3_000)
    row = before.seal(ROOT, VAULT, 7)
    after = Keyring.open(row, ROOT, VAULT, 7)
    assert (after.keys, after.slots) == (before.keys, before.slots)
    assert row[:10] == b"\x4b\x01" + (7).to_bytes(8)
    assert (len(row) - 10 - 40) % 512 == 0


texts = st.text(st.characters(codec="utf-8"), max_size=60)
infos = st.builds(
    SlotInfo,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16).map(lambda raw: raw * 76),
    st.integers(0, 2**64 - 1),
    texts,
    texts,
    st.lists(texts, max_size=5).map(tuple),
)


@given(st.lists(infos, max_size=5, unique_by=lambda info: info.slot_id))
def test_any_slot_list_survives(slots: list[SlotInfo]) -> None:
    assert Keyring.open(Keyring((), tuple(slots)).seal(ROOT, VAULT, 1), ROOT, VAULT, 1).slots == tuple(slots)


def test_no_byte_can_be_changed_unnoticed() -> None:
    row = keyring().seal(ROOT, VAULT, 1)
    for position in range(len(row)):
        altered = row[:position] + bytes((row[position] ^ 1,)) + row[position + 1 :]
        with pytest.raises(Tampered):
            Keyring.open(altered, ROOT, VAULT, 1)


def test_refuses_every_truncation_and_an_extension() -> None:
    row = keyring().seal(ROOT, VAULT, 1)
    for wrong in [*(row[:size] for size in range(len(row))), row + b"\x00"]:
        with pytest.raises(Tampered):
            Keyring.open(wrong, ROOT, VAULT, 1)


def test_refuses_another_root_vault_and_generation() -> None:
    row = keyring().seal(ROOT, VAULT, 1)
    for root, vault_id, generation in [(bytes(32), VAULT, 1), (ROOT, bytes(16), 1), (ROOT, VAULT, 2)]:
        with pytest.raises(Tampered):
            Keyring.open(row, root, vault_id, generation)


good = _encode((entry(),), (SLOT,))


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\x00",
        bytes(3),
        good[:60],
        b"\xff\xff" + good[2:],
        good[:-1] + b"\x01",
        good + bytes(512),
        good + bytes(64),
        _encode((entry(),), ()).replace(b"\x00\x00\x00\x00\x01\x00", b"\x00\x00\x00\x00\x03\x00", 1),
        _encode((entry(state=KeyState.DECRYPT_ONLY),), ()),
        _encode((entry(), entry(epoch=1)), ()),
        _encode((entry(), entry(state=KeyState.DECRYPT_ONLY)), ()),
        _encode((entry(size=31),), ()),
        _encode((entry(purpose=3),), ()),
        _encode((entry(size=0),), ()),
        _encode((), (SLOT, SLOT)),
        _encode((), (SLOT,)).replace(b"Olga", b"Ol\xffa"),
    ],
    ids=[
        "empty",
        "half a count",
        "no slots",
        "cut off",
        "fewer keys than counted",
        "padding",
        "more padding than is needed",
        "padded to another multiple",
        "unknown state",
        "no active key",
        "two active keys",
        "the same epoch twice",
        "short key",
        "audit key of another size",
        "empty key",
        "the same slot twice",
        "not UTF-8",
    ],
)
def test_refuses_content_that_no_writer_leaves(plaintext: bytes) -> None:
    with pytest.raises(Tampered):
        Keyring.open(seal_plaintext(plaintext), ROOT, VAULT, 1)


def test_a_key_of_an_unknown_purpose_is_kept() -> None:
    unknown = entry(purpose=200, size=77)
    before = Keyring((unknown,), ())
    assert Keyring.open(before.seal(ROOT, VAULT, 1), ROOT, VAULT, 1).keys == (unknown,)


def test_a_new_epoch_leaves_the_old_key_to_decrypt() -> None:
    before = keyring()
    after = before.with_new_epoch(Purpose.SCOPE, 3_000)
    old, new = after.find(Purpose.SCOPE, 0), after.find(Purpose.SCOPE, 1)
    assert (old.state, old.key) == (KeyState.DECRYPT_ONLY, before.active(Purpose.SCOPE).key)
    assert (new.state, new.created_ns) == (KeyState.ACTIVE, 3_000)
    assert after.active(Purpose.SCOPE) == new
    assert old.key != new.key
    assert before.active(Purpose.SCOPE).epoch == 0


def test_an_old_log_signing_key_is_forgotten() -> None:
    after = keyring().with_new_epoch(Purpose.LOG_SIGNING, 3_000)
    assert after.active(Purpose.LOG_SIGNING).epoch == 1
    with pytest.raises(Tampered):
        after.find(Purpose.LOG_SIGNING, 0)


def test_a_key_that_is_not_there_is_named_as_missing() -> None:
    looks: list[Callable[[], object]] = [
        lambda: keyring().active(Purpose.SCOPE, OTHER_SCOPE),
        lambda: keyring().find(Purpose.SCOPE, 1),
        lambda: keyring().scope(OTHER_SCOPE),
        lambda: keyring().scope(ROOT_SCOPE, 1),
        lambda: keyring().slot(bytes(16)),
    ]
    for look in looks:
        with pytest.raises(Tampered):
            look()


def test_scope_keys_are_derived_as_the_format_says() -> None:
    ring = keyring().with_new_epoch(Purpose.SCOPE, 3_000)
    for epoch in [0, 1]:
        key = ring.find(Purpose.SCOPE, epoch).key
        rest = bytes(16) + epoch.to_bytes(4)
        keys = ring.scope(ROOT_SCOPE, epoch)
        assert keys.epoch == epoch
        index = XAES256GCM(expand(key, "securecfg/1/idx", rest, 32))
        log = XAES256GCM(expand(key, "securecfg/1/log", rest, 32))
        wrap = KeyWrap(expand(key, "securecfg/1/val", rest, 64))
        assert index.open(keys.index.seal(b"canary", b""), b"") == b"canary"
        assert log.open(keys.log.seal(b"canary", b""), b"") == b"canary"
        assert wrap.wrap(bytes(32), b"") == keys.wrap.wrap(bytes(32), b"")
        assert keys.index is keys.index
        assert keys.log is keys.log
        assert keys.wrap is keys.wrap
    assert ring.scope() is ring.scope(ROOT_SCOPE, 1)


def test_slots_are_listed_and_unlisted() -> None:
    another = SlotInfo(b"j" * 16, PUBLIC_KEY, 3_000, "file")
    both = keyring().with_slot(another)
    assert both.slots == (SLOT, another)
    assert both.slot(another.slot_id) == another
    assert both.without_slot(SLOT.slot_id).slots == (another,)
    with pytest.raises(ValueError, match="twice"):
        both.with_slot(another)


@pytest.mark.parametrize(
    ("label", "principals"),
    [("x" * 256, ()), ("é" * 128, ()), ("", ("x" * 256,)), ("", tuple(str(number) for number in range(256)))],
    ids=["label", "label in UTF-8", "principal", "principals"],
)
def test_refuses_a_label_or_principals_that_do_not_fit(label: str, principals: tuple[str, ...]) -> None:
    info = SlotInfo(b"i" * 16, PUBLIC_KEY, 1, "file", label, principals)
    with pytest.raises(InvalidMetadata):
        Keyring.generate(1_000, (info,))


@pytest.mark.parametrize("size", [0, 32, 1_215, 1_217])
def test_refuses_a_public_key_of_another_size(size: int) -> None:
    info = SlotInfo(b"i" * 16, bytes(size), 1, "file")
    with pytest.raises(InvalidMetadata):
        Keyring.generate(1_000, (info,))


def test_shows_nothing_of_its_keys() -> None:
    ring = keyring()
    shown = repr(ring) + repr(ring.keys) + str(ring) + repr(ring.scope())
    for key in ring.keys:
        assert key.key.hex() not in shown
        assert repr(bytes(key.key)) not in shown


def test_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(keyring())
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(keyring())
