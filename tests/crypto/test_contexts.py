"""Sections 1 and 3 of the format, sentence by sentence."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import (
    ContextType,
    Label,
    backup_context,
    context,
    dek_context,
    delta_context,
    expand,
    history_context,
    keyring_context,
    manifest_context,
    segment_context,
    slot_context,
    value_context,
)
from securecfg.crypto.derive import hkdf_expand

FORMAT = Path(__file__).resolve().parents[2] / "docs" / "security" / "format.md"
VAULT = bytes(range(16))
SCOPE = bytes(range(16, 32))

ids = st.binary(min_size=16, max_size=16)
u8 = st.integers(0, 2**8 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
contexts = st.one_of(
    st.tuples(st.just(slot_context), ids, ids, u8, st.binary(max_size=40)),
    st.tuples(st.just(keyring_context), ids, u64),
    st.tuples(st.just(manifest_context), ids, ids, u32, u64),
    st.tuples(st.just(segment_context), ids, ids, u32, u64),
    st.tuples(st.just(history_context), ids, ids, u32, u64, u32),
    st.tuples(st.just(delta_context), ids, ids, u32),
    st.tuples(st.just(dek_context), ids, ids, u32, u64),
    st.tuples(st.just(value_context), ids, ids, st.tuples(u64, u32), u64, u8),
    st.tuples(st.just(backup_context), ids, ids, u32, u8, st.binary(min_size=32, max_size=32)),
)


@given(first=contexts, second=contexts)
def test_two_records_have_the_same_context_only_if_they_are_the_same(
    first: tuple[object, ...], second: tuple[object, ...]
) -> None:
    def build(call: tuple[object, ...]) -> bytes:
        function, *arguments = call
        assert callable(function)
        return bytes(function(*arguments))

    assert (build(first) == build(second)) == (first == second)


def test_no_context_is_the_beginning_of_another() -> None:
    zero = (VAULT, SCOPE, 0)
    built = [
        slot_context(VAULT, SCOPE, 1, b""),
        slot_context(VAULT, SCOPE, 1, bytes(22)),
        keyring_context(VAULT, 0),
        manifest_context(*zero, 0),
        segment_context(*zero, 0),
        history_context(*zero, 0, 0),
        delta_context(*zero),
        dek_context(*zero, 0),
        value_context(VAULT, SCOPE, (0, 0), 0, 0),
    ]
    for one, other in itertools.permutations(built, 2):
        assert not other.startswith(one)


def test_a_context_is_laid_out_as_the_format_says() -> None:
    front = b"securecfg/1\x00"
    assert context(ContextType.DELTA, VAULT, SCOPE, 7, b"xy") == (
        front + b"\x15\x01" + VAULT + SCOPE + b"\x00\x00\x00\x07" + b"xy"
    )
    assert dek_context(VAULT, SCOPE, 7, 8) == context(ContextType.DEK, VAULT, SCOPE, 7, (8).to_bytes(8))
    assert value_context(VAULT, SCOPE, (8, 9), 10, 2) == context(
        ContextType.VALUE, VAULT, SCOPE, 0, (8).to_bytes(8) + (9).to_bytes(4) + (10).to_bytes(8) + b"\x02"
    )
    assert history_context(VAULT, SCOPE, 7, 8) == context(
        ContextType.HISTORY, VAULT, SCOPE, 7, (8).to_bytes(8) + b"\xff\xff\xff\xff"
    )
    assert slot_context(VAULT, SCOPE, 3, b"abc") == context(
        ContextType.SLOT, VAULT, bytes(16), 0, SCOPE + b"\x03\x00\x03abc"
    )
    assert keyring_context(VAULT, 5) == context(ContextType.KEYRING, VAULT, bytes(16), 0, (5).to_bytes(8))
    assert manifest_context(VAULT, SCOPE, 1, 5) == context(ContextType.MANIFEST, VAULT, SCOPE, 1, (5).to_bytes(8))
    assert segment_context(VAULT, SCOPE, 1, 5) == context(ContextType.SEGMENT, VAULT, SCOPE, 1, (5).to_bytes(8))


@pytest.mark.parametrize("wrong", [b"", bytes(15), bytes(17), bytes(32)])
def test_refuses_an_id_of_another_size(wrong: bytes) -> None:
    for vault_id, scope_id in [(wrong, SCOPE), (VAULT, wrong)]:
        with pytest.raises(ValueError, match="16 bytes"):
            context(ContextType.DELTA, vault_id, scope_id, 0, b"")
        with pytest.raises(ValueError, match="16 bytes"):
            dek_context(vault_id, scope_id, 0, 1)
        with pytest.raises(ValueError, match="16 bytes"):
            history_context(vault_id, scope_id, 0, 1)
        with pytest.raises(ValueError, match="16 bytes"):
            value_context(vault_id, scope_id, (1, 1), 0, 1)
        with pytest.raises(ValueError, match="16 bytes"):
            slot_context(vault_id, scope_id, 1, b"")
    with pytest.raises(ValueError, match="16 bytes"):
        keyring_context(wrong, 1)


def test_with_its_zero_byte_no_label_is_the_beginning_of_another() -> None:
    for one, other in itertools.permutations(Label, 2):
        assert not f"{other}\x00".startswith(f"{one}\x00")
        assert "\x00" not in one


def test_every_label_is_in_the_registry_of_the_format() -> None:
    text = FORMAT.read_text()
    for label in Label:
        assert f"`{label}`" in text, label


@given(key=st.binary(min_size=32, max_size=32), rest=st.binary(max_size=80), length=st.integers(1, 200))
def test_expand_is_hkdf_expand_of_label_zero_and_rest(key: bytes, rest: bytes, length: int) -> None:
    assert expand(key, Label.SLOT, rest, length) == hkdf_expand(key, b"securecfg/1/slot\x00" + rest, length)


@given(length=st.integers(1, 400))
def test_a_shorter_output_is_the_beginning_of_a_longer_one(length: int) -> None:
    assert hkdf_expand(bytes(32), b"info", 400).startswith(hkdf_expand(bytes(32), b"info", length))


@pytest.mark.parametrize("length", [-1, 0, 255 * 64 + 1, 2**40])
def test_expand_refuses_lengths_that_hkdf_does_not_have(length: int) -> None:
    with pytest.raises(ValueError, match="16320"):
        expand(bytes(32), Label.DEK, b"", length)


def test_expand_gives_the_most_that_hkdf_has() -> None:
    output = expand(bytes(32), Label.DEK, b"", 255 * 64)
    assert len(output) == 255 * 64
    assert len({output[start : start + 64] for start in range(0, len(output), 64)}) == 255
