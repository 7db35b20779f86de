"""Section 4.2 of the format, and steps 2 and 3 of section 8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import FORMAT_LIMIT, Argon2Costs
from securecfg.errors import (
    KeyProviderRefused,
    NotAVault,
    Tampered,
    UnsupportedFormat,
    WrongKey,
)
from securecfg.keys import (
    FileProvider,
    Header,
    KeyringProvider,
    PassphraseProvider,
    RecoveryProvider,
    Slot,
    WrapContext,
    build_header,
    generate_key_file,
    generate_recovery_code,
    seal_slot,
    seal_under_kek,
    unlock,
)
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.keys import KeyProvider

    Remembered = Callable[[str], PassphraseProvider]

ROOT_FOLDER = Path(__file__).resolve().parents[2]
ROOT = bytes(range(32))
VAULT = bytes(range(16))
CANARY = "correct horse canary staple"


def header_for(rows: Mapping[int, bytes], root: bytes = ROOT) -> Header:
    row = build_header(root, rows, vault_id=VAULT, generation=1, first_log_key=bytes(32), created_ns=1)
    return Header.parse(row)


def slot_with(params: bytes) -> bytes:
    context = WrapContext(VAULT, b"s" * 16)
    return Slot(1, b"s" * 16, seal_under_kek(bytes(32), 1, params, ROOT, context)).to_bytes()


@pytest.fixture
def rows(remembered: Remembered) -> dict[int, bytes]:
    return {256: seal_slot(VAULT, remembered(CANARY), ROOT).to_bytes()}


def test_a_slot_is_laid_out_as_the_format_says(remembered: Remembered) -> None:
    slot = seal_slot(VAULT, remembered(CANARY), ROOT)
    row = slot.to_bytes()
    assert len(row) == 256
    assert row[:2] == b"\x01\x01"
    assert row[2:18] == slot.slot_id
    assert row[18:20] == b"\x00\x16"
    assert row[36:42] == b"\x00\x00\x00\x40\x01\x01"
    assert row[42 + 80 :] == bytes(256 - 42 - 80)
    assert Slot.parse(row) == slot


def test_any_slot_opens_the_vault(remembered: Remembered, tmp_path: Path) -> None:
    generate_key_file(tmp_path / "key")
    providers: list[KeyProvider] = [
        remembered("another"),
        remembered(CANARY),
        FileProvider(tmp_path / "key"),
        RecoveryProvider(generate_recovery_code()),
    ]
    slots = [seal_slot(VAULT, provider, ROOT) for provider in providers]
    rows = {256 + 3 * number: slot.to_bytes() for number, slot in enumerate(slots)}
    header = header_for(rows)
    for provider, slot in zip(providers, slots, strict=True):
        unlocked = unlock(header, rows, provider)
        assert (unlocked.root, unlocked.slot_id) == (ROOT, slot.slot_id)


def test_a_wrong_key_another_vault_and_an_altered_slot_look_the_same(
    rows: dict[int, bytes], remembered: Remembered
) -> None:
    other_vault = {256: seal_slot(b"x" * 16, remembered(CANARY), ROOT).to_bytes()}
    altered = {256: rows[256][:60] + bytes((rows[256][60] ^ 1,)) + rows[256][61:]}
    seen = set()
    malformed = {256: slot_with(bytes(16) + Argon2Costs(64, 0, 1).to_bytes())}
    for tried, provider in [
        (rows, remembered("wrong")),
        (malformed, remembered(CANARY)),
        (other_vault, remembered(CANARY)),
        (altered, remembered(CANARY)),
    ]:
        with pytest.raises(WrongKey) as refused:
            unlock(header_for(tried), tried, provider)
        seen.add((refused.value.message, refused.value.hint))
    assert len(seen) == 1


def test_no_byte_of_a_slot_can_be_changed_unnoticed(rows: dict[int, bytes], remembered: Remembered) -> None:
    header = header_for(rows)
    provider = remembered(CANARY)
    for position in range(256):
        altered = rows[256][:position] + bytes((rows[256][position] ^ 1,)) + rows[256][position + 1 :]
        with pytest.raises((WrongKey, KeyProviderRefused, NotAVault, UnsupportedFormat)):
            unlock(header, {256: altered}, provider)


def test_a_slot_that_was_added_or_removed_is_noticed(rows: dict[int, bytes], remembered: Remembered) -> None:
    header = header_for(rows)
    intruder = {**rows, 257: seal_slot(VAULT, remembered("intruder"), ROOT).to_bytes()}
    for provider in [remembered(CANARY), remembered("intruder")]:
        with pytest.raises(Tampered):
            unlock(header, intruder, provider)
    with pytest.raises(Tampered):
        unlock(header_for(intruder), rows, remembered(CANARY))


def test_a_slot_that_holds_another_root_key_is_noticed(remembered: Remembered) -> None:
    rows = {256: seal_slot(VAULT, remembered(CANARY), bytes(32)).to_bytes()}
    with pytest.raises(Tampered):
        unlock(header_for(rows), rows, remembered(CANARY))


def test_without_a_slot_of_its_kind_a_key_is_wrong(rows: dict[int, bytes], tmp_path: Path) -> None:
    # The key file does not even have to exist: other kinds of slots are not tried.
    with pytest.raises(WrongKey) as refused:
        unlock(header_for(rows), rows, FileProvider(tmp_path / "absent"))
    assert "`file:`" in refused.value.message
    with pytest.raises(WrongKey):
        unlock(header_for({}), {}, KeyringProvider())


@pytest.mark.parametrize(
    "costs",
    [
        Argon2Costs(FORMAT_LIMIT.memory_kib + 1, 1, 1),
        Argon2Costs(2**32 - 1, 255, 255),
        Argon2Costs(64, 17, 1),
        Argon2Costs(1024, 1, 17),
    ],
)
def test_refuses_costs_above_the_limits_before_it_derives(costs: Argon2Costs) -> None:
    rows = {256: slot_with(bytes(16) + costs.to_bytes())}
    revealed: list[str] = []
    passphrase = Secret.deferred(lambda: revealed.append("!") or CANARY)  # type: ignore[func-returns-value]  # notes that it was called
    with pytest.raises(KeyProviderRefused) as refused:
        unlock(header_for(rows), rows, PassphraseProvider(passphrase))
    assert "Argon2id" in refused.value.message
    assert not revealed


def test_refuses_costs_above_the_limit_of_its_caller(rows: dict[int, bytes]) -> None:
    for limit in [Argon2Costs(63, 1, 1), Argon2Costs(64, 0, 1), Argon2Costs(64, 1, 0)]:
        with pytest.raises(KeyProviderRefused):
            unlock(header_for(rows), rows, PassphraseProvider(Secret(CANARY), limit=limit))
    unlock(header_for(rows), rows, PassphraseProvider(Secret(CANARY), limit=Argon2Costs(64, 1, 1)))


def test_no_limit_of_a_caller_is_above_that_of_the_format() -> None:
    rows = {256: slot_with(bytes(16) + Argon2Costs(64, 17, 1).to_bytes())}
    provider = PassphraseProvider(Secret(CANARY), limit=Argon2Costs(2**32 - 1, 255, 255))
    with pytest.raises(KeyProviderRefused):
        unlock(header_for(rows), rows, provider)


def test_a_slot_that_is_refused_does_not_keep_another_from_opening(
    rows: dict[int, bytes], remembered: Remembered
) -> None:
    hostile = slot_with(bytes(16) + Argon2Costs(2**32 - 1, 1, 1).to_bytes())
    for tried in [{256: hostile, 257: rows[256]}, {256: rows[256], 257: hostile}]:
        assert unlock(header_for(tried), tried, remembered(CANARY)).root == ROOT
        with pytest.raises(KeyProviderRefused):
            unlock(header_for(tried), tried, remembered("wrong"))


@pytest.mark.parametrize(
    "params",
    [
        b"",
        bytes(21),
        bytes(23),
        bytes(16) + Argon2Costs(64, 0, 1).to_bytes(),
        bytes(16) + Argon2Costs(64, 1, 0).to_bytes(),
        bytes(16) + Argon2Costs(7, 1, 1).to_bytes(),
    ],
    ids=["none", "one byte short", "one byte long", "no passes", "no lanes", "no memory"],
)
def test_parameters_that_no_passphrase_has_look_like_a_wrong_key(params: bytes, remembered: Remembered) -> None:
    rows = {256: slot_with(params)}
    with pytest.raises(WrongKey):
        unlock(header_for(rows), rows, remembered(CANARY))


@pytest.mark.parametrize("size", [0, 1, 18, 255, 257, 511, 4_095, 4_352, 100_000, 102_400])
def test_a_slot_of_another_size_is_no_slot(size: int) -> None:
    with pytest.raises(NotAVault):
        Slot.parse((b"\x01\x01" + bytes(size))[:size])


@pytest.mark.parametrize(
    ("params", "size"), [(0, 256), (156, 256), (157, 512), (412, 512), (413, 768), (3_741, 4_096), (3_996, 4_096)]
)
def test_a_slot_is_as_long_as_its_parameters_need(params: int, size: int) -> None:
    row = slot_with(bytes(params))
    assert len(row) == size
    assert Slot.parse(row).to_bytes() == row


@pytest.mark.parametrize("params", [0, 156, 157, 3_740])
def test_a_slot_with_more_padding_than_it_needs_is_no_slot(params: int) -> None:
    with pytest.raises(NotAVault):
        Slot.parse(slot_with(bytes(params)) + bytes(256))


@pytest.mark.parametrize(
    "row",
    [
        b"\x01\x01" + bytes(16) + b"\xff\xff" + bytes(236),
        b"\x01\x01" + bytes(16) + b"\x00\x9f" + bytes(236),
        b"\x01\x01" + bytes(253) + b"\x01",
        b"\x01\x01" + bytes(98) + b"\x01" + bytes(155),
        b"\x01\x01" + bytes(16) + b"\x0f\x9d" + bytes(4_076),
    ],
    ids=[
        "parameters past the end",
        "sealed part past the end",
        "last byte of the padding",
        "first byte of the padding",
        "sealed part past the end of the largest slot",
    ],
)
def test_a_slot_whose_parts_do_not_fit_is_no_slot(row: bytes) -> None:
    with pytest.raises(NotAVault):
        Slot.parse(row)


@pytest.mark.parametrize("suite", [0, 2, 255])
def test_a_slot_of_another_suite_is_unsupported(suite: int) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        Slot.parse(bytes((1, suite)) + bytes(254))
    assert refused.value.hint


@pytest.mark.parametrize("kind", [0, 5, 14, 200, 255])
@pytest.mark.parametrize("size", [256, 512, 4_096])
def test_a_slot_of_an_unknown_kind_is_kept_and_not_tried(
    kind: int, size: int, rows: dict[int, bytes], remembered: Remembered
) -> None:
    params = os.urandom(size - 100)
    rows |= {257: bytes((kind, 1)) + os.urandom(16) + len(params).to_bytes(2) + params + os.urandom(80)}
    assert unlock(header_for(rows), rows, remembered(CANARY)).root == ROOT


@given(st.integers(0, 600), st.binary(max_size=600), st.integers(1, 3))
def test_random_bytes_give_a_slot_or_a_named_error(announced: int, content: bytes, units: int) -> None:
    row = (b"\x01\x01" + bytes(16) + announced.to_bytes(2) + content).ljust(256 * units, b"\x00")[: 256 * units]
    try:
        slot = Slot.parse(row)
    except NotAVault:
        return
    assert slot.to_bytes() == row


def test_parameters_that_do_not_fit_into_a_slot_are_the_providers_mistake() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        slot_with(bytes(3_997))


def test_what_is_unlocked_shows_the_slot_and_not_the_key(rows: dict[int, bytes], remembered: Remembered) -> None:
    unlocked = unlock(header_for(rows), rows, remembered(CANARY))
    assert repr(unlocked.slot_id) in repr(unlocked)
    assert repr(ROOT)[2:-1] not in repr(unlocked)
    assert ROOT.hex() not in repr(unlocked)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_encryption_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal_under_kek(bytes(size), 1, b"", ROOT, WrapContext(VAULT, bytes(16)))


def test_too_little_memory_is_said() -> None:
    # In a process of its own, which cannot have the gibibyte that the slot asks for.
    program = """
import resource
from securecfg.crypto import Argon2Costs
from securecfg.errors import KeyProviderUnavailable
from securecfg.keys import PassphraseProvider, WrapContext
from securecfg.secret import Secret

provider = PassphraseProvider(Secret("canary"), costs=Argon2Costs(1 << 20, 1, 1))
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
try:
    provider.wrap(bytes(32), WrapContext(bytes(16), bytes(16)))
except KeyProviderUnavailable as error:
    print(error.message)
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT_FOLDER, capture_output=True, text=True, check=True)
    assert "not enough memory for 1024 MiB" in run.stdout
