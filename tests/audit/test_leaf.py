from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.audit import audit_public_key, create_sealer, parse_delta_hashes, parse_leaf
from securecfg.audit.leaf import MAX_RECORD_BYTES, Leaf, derive_leaf_key, open_leaf, seal_leaf
from securecfg.audit.opening import RecordOpener
from securecfg.audit.sealer import ROW_BYTES, audit_key_id, open_sealer, sealer_id_of
from securecfg.errors import LogTampered, Tampered, ValueTooLarge, VaultClosed
from tests.audit.sample import AUDIT_KEY, VAULT_ID, SampleLog, record

KEY = bytes(range(32))
SEALER_ID = b"i" * 16
OTHER_AUDIT_KEY = bytes(96)


def sealed(plain: bytes = b"{}", deltas: int = 0) -> bytes:
    return seal_leaf(KEY, SEALER_ID, 5, plain, [bytes([n]) * 32 for n in range(deltas)])


class TestLeaves:
    @given(st.binary(max_size=MAX_RECORD_BYTES), st.integers(0, 64))
    @settings(max_examples=50, deadline=None)
    def test_open_to_what_was_sealed(self, plain: bytes, deltas: int) -> None:
        leaf = parse_leaf(sealed(plain, deltas), 0)
        assert open_leaf(leaf, KEY, 0) == plain
        assert (leaf.sealer_id, leaf.counter, len(leaf.delta_hashes)) == (SEALER_ID, 5, deltas)
        assert parse_delta_hashes(sealed(plain, deltas), 0) == leaf.delta_hashes

    def test_have_the_layout_that_the_format_gives(self) -> None:
        raw = sealed(b"x" * 300, 2)
        assert raw[:2] == b"\x4c\x01"
        assert raw[2:18] == SEALER_ID
        assert raw[18:27] == (5).to_bytes(8) + b"\x02"
        assert raw[27:91] == bytes(32) + b"\x01" * 32
        assert len(raw) == 91 + 32 + 320 + 16

    @pytest.mark.parametrize("size", [0, 1, 100, 252])
    def test_hide_the_size_of_short_records(self, size: int) -> None:
        assert len(sealed(bytes(size))) == 27 + 32 + 256 + 16

    def test_fit_into_an_entry_bundle_at_their_largest(self) -> None:
        assert len(sealed(bytes(MAX_RECORD_BYTES), 64)) <= 65_535

    def test_refuse_what_does_not_fit(self) -> None:
        with pytest.raises(ValueTooLarge):
            sealed(bytes(MAX_RECORD_BYTES + 1))
        with pytest.raises(ValueTooLarge):
            sealed(deltas=65)

    def test_are_refused_when_any_byte_is_altered(self) -> None:
        raw = sealed(deltas=1)
        for position in range(len(raw)):
            altered = bytearray(raw)
            altered[position] ^= 1
            with pytest.raises(LogTampered) as caught:
                open_leaf(parse_leaf(bytes(altered), 3), KEY, 3)
            assert caught.value.index == 3

    def test_are_refused_at_any_other_length(self) -> None:
        raw = sealed(deltas=1)
        for length in range(len(raw)):
            with pytest.raises(LogTampered):
                open_leaf(parse_leaf(raw[:length], 0), KEY, 0)
        with pytest.raises(LogTampered):
            open_leaf(parse_leaf(raw + bytes(64), 0), KEY, 0)

    @given(st.binary(max_size=600))
    def test_of_any_bytes_are_refused(self, raw: bytes) -> None:
        with pytest.raises(LogTampered):
            open_leaf(parse_leaf(raw, 0), KEY, 0)

    def test_too_large_are_refused_before_they_are_opened(self) -> None:
        with pytest.raises(LogTampered):
            parse_leaf(sealed() + bytes(1 << 20), 0)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            sealed(deltas=1)[:27],
            sealed(deltas=1)[:-1],
            sealed(deltas=1) + bytes(1),
            sealed() + bytes(1 << 20),
            b"\x4d" + sealed(deltas=1)[1:],
            sealed(deltas=1)[:1] + b"\x02" + sealed(deltas=1)[2:],
            sealed(deltas=1)[:26] + b"\x41" + sealed(deltas=1)[27:],
        ],
    )
    def test_of_another_layout_name_no_deltas(self, raw: bytes) -> None:
        for parse in (parse_leaf, parse_delta_hashes):
            with pytest.raises(LogTampered) as caught:
                parse(raw, 3)
            assert caught.value.index == 3

    @pytest.mark.parametrize(
        "plaintext",
        [
            (5).to_bytes(4) + b"abcde" + b"\x01" + bytes(246),
            (2**32 - 1).to_bytes(4) + bytes(252),
            (5).to_bytes(4) + b"abcde" + bytes(311),
            (400).to_bytes(4) + bytes(252),
        ],
    )
    def test_with_padding_of_another_form_are_refused(self, plaintext: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        from securecfg.crypto.derive import Label, expand

        leaf = parse_leaf(sealed(), 0)
        keys = expand(KEY, Label.LEAF_KEY, b"", 64)
        forged = AESGCM(keys[:32]).encrypt(bytes(12), plaintext, leaf.header)
        with pytest.raises(LogTampered):
            open_leaf(Leaf(leaf.header, leaf.sealer_id, leaf.counter, (), leaf.commitment, forged), KEY, 0)

    def test_have_keys_of_their_own(self) -> None:
        keys = {
            derive_leaf_key(key, vault, sealer, counter, index)
            for key in (KEY, bytes(32))
            for vault in (VAULT_ID, bytes(16))
            for sealer in (SEALER_ID, bytes(16))
            for counter in (0, 1)
            for index in (0, 1)
        }
        assert len(keys) == 32

    def test_do_not_open_with_the_key_of_another(self) -> None:
        with pytest.raises(LogTampered, match="cannot be opened"):
            open_leaf(parse_leaf(sealed(), 0), bytes(32), 0)


class TestSealers:
    def test_open_for_the_audit_key_only(self) -> None:
        sealer = create_sealer(VAULT_ID, audit_public_key(AUDIT_KEY))
        key = open_sealer(sealer.row, AUDIT_KEY, VAULT_ID)
        leaf = parse_leaf(sealer.seal(b"text", 7), 7)
        assert open_leaf(leaf, derive_leaf_key(key, VAULT_ID, sealer.id, 0, 7), 7) == b"text"
        for private_key, vault_id in ((OTHER_AUDIT_KEY, VAULT_ID), (AUDIT_KEY, bytes(16))):
            with pytest.raises(Tampered):
                open_sealer(sealer.row, private_key, vault_id)

    def test_have_the_layout_that_the_format_gives(self) -> None:
        public = audit_public_key(AUDIT_KEY)
        sealer = create_sealer(VAULT_ID, public)
        assert (len(public), len(sealer.row)) == (1_216, ROW_BYTES)
        assert sealer.row[:10] == b"\x53\x01" + audit_key_id(public)
        assert sealer.id == sealer_id_of(sealer.row)

    def test_are_refused_when_any_byte_is_altered(self) -> None:
        row = create_sealer(VAULT_ID, audit_public_key(AUDIT_KEY)).row
        for position in [*range(12), 500, 1_098, 1_129, 1_130, len(row) - 1]:
            altered = bytearray(row)
            altered[position] ^= 1
            with pytest.raises(Tampered):
                open_sealer(bytes(altered), AUDIT_KEY, VAULT_ID)
        for other in (b"", row[:-1], row + b"x"):
            with pytest.raises(Tampered):
                open_sealer(other, AUDIT_KEY, VAULT_ID)
        # An X25519 point of small order, which must not yield a key.
        with pytest.raises(Tampered):
            open_sealer(row[:1_098] + bytes(32) + row[1_130:], AUDIT_KEY, VAULT_ID)

    def test_never_use_a_counter_twice(self) -> None:
        sealer = create_sealer(VAULT_ID, audit_public_key(AUDIT_KEY))
        counters = [parse_leaf(sealer.seal(b"", 3), 3).counter for _ in range(3)]
        with pytest.raises(ValueTooLarge):
            sealer.seal(bytes(MAX_RECORD_BYTES + 1), 3)
        assert [*counters, parse_leaf(sealer.seal(b"", 3), 3).counter] == [0, 1, 2, 4]

    def test_seal_nothing_once_wiped(self) -> None:
        sealer = create_sealer(VAULT_ID, audit_public_key(AUDIT_KEY))
        key = sealer._key
        sealer.wipe()
        assert key == bytes(32)
        with pytest.raises(VaultClosed):
            sealer.seal(b"", 0)
        sealer.wipe()

    @pytest.mark.parametrize("size", [0, 95, 97])
    def test_do_not_open_for_keys_of_another_length(self, size: int) -> None:
        with pytest.raises(Tampered):
            audit_public_key(bytes(size))

    @pytest.mark.parametrize("public", [b"", bytes(1_215), b"\xff" * 1_216])
    def test_are_not_made_for_what_is_no_key(self, public: bytes) -> None:
        with pytest.raises(Tampered):
            create_sealer(VAULT_ID, public)

    def test_are_not_made_for_an_id_of_another_length(self) -> None:
        with pytest.raises(Tampered):
            create_sealer(bytes(15), audit_public_key(AUDIT_KEY))


class TestOpening:
    def test_needs_the_row_of_the_sealer(self) -> None:
        log = SampleLog()
        log.append(record())
        stored = log.sealer.row
        opener = RecordOpener([AUDIT_KEY], VAULT_ID, lambda _: None)
        with pytest.raises(LogTampered, match="missing") as caught:
            opener.open_row(log.leaves[0], 0)
        assert caught.value.index == 0
        with pytest.raises(LogTampered, match="altered"):
            RecordOpener([AUDIT_KEY], VAULT_ID, lambda _: stored + b"x").open_row(log.leaves[0], 0)
        with pytest.raises(LogTampered, match="does not open"):
            RecordOpener([OTHER_AUDIT_KEY], VAULT_ID, log.sealers.get).open_row(log.leaves[0], 0)

    def test_gives_the_record_of_any_session(self) -> None:
        log = SampleLog()
        log.append(record())
        log.new_session()
        log.append(record(at_s=1), record(at_s=2))
        assert [log.opener.open_row(leaf, n) for n, leaf in enumerate(log.leaves)] == log.records

    def test_fails_at_another_index(self) -> None:
        log = SampleLog()
        log.append(record(), record(at_s=1))
        with pytest.raises(LogTampered):
            log.opener.open_row(log.leaves[0], 1)
