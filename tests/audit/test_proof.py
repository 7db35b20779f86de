from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.audit import parse_leaf
from securecfg.audit.note import encode_base64
from securecfg.audit.proof import MAX_PROOF_BYTES, create_proof, open_proof
from securecfg.errors import LogTampered
from tests.audit.sample import SampleLog, sample_log

LOG = sample_log(300)
CHECKPOINT = LOG.checkpoint()
KEYS = [LOG.vkey]


def key_of(index: int) -> bytes:
    return LOG.opener.leaf_key(parse_leaf(LOG.leaves[index], index), index)


SEALED = create_proof(LOG, 7, CHECKPOINT)
DISCLOSED = create_proof(LOG, 7, CHECKPOINT, key_of(7))


class TestAProof:
    @pytest.mark.parametrize("index", [0, 1, 255, 256, 299])
    def test_shows_that_a_record_is_in_the_log(self, index: int) -> None:
        proved = open_proof(create_proof(LOG, index, CHECKPOINT), KEYS)
        assert (proved.index, proved.checkpoint.size, proved.record) == (index, 300, None)
        assert proved.leaf == parse_leaf(LOG.leaves[index], index)

    @pytest.mark.parametrize("index", [0, 1, 255, 256, 299])
    def test_may_disclose_that_record(self, index: int) -> None:
        assert open_proof(create_proof(LOG, index, CHECKPOINT, key_of(index)), KEYS).record == LOG.records[index]

    def test_of_the_only_record_has_no_path(self) -> None:
        log = sample_log(1)
        proof = create_proof(log, 0, log.checkpoint())
        assert proof.split(b"\n")[2:4] == [b"index 0", b""]
        assert open_proof(proof, [log.vkey]).index == 0

    def test_has_the_form_of_the_specification(self) -> None:
        lines = SEALED.decode().split("\n")
        assert lines[0] == "c2sp.org/tlog-proof@v1"
        assert lines[1].startswith("extra ")
        assert lines[2] == "index 7"
        assert all(re.fullmatch("[A-Za-z0-9+/]{43}=", line) for line in lines[3:12])
        assert SEALED.endswith(b"\n\n" + CHECKPOINT)

    def test_is_not_made_for_a_record_that_is_not_there(self) -> None:
        with pytest.raises(LogTampered):
            create_proof(LOG, 300, CHECKPOINT)

    def test_is_not_made_from_a_tampered_log(self) -> None:
        log = sample_log(20)
        log.leaves[3] = log.leaves[4]
        with pytest.raises(LogTampered):
            create_proof(log, 3, log.checkpoint())
        with pytest.raises(LogTampered):
            create_proof(log, 5, log.checkpoint())

    def test_is_not_made_with_the_key_of_another_record(self) -> None:
        with pytest.raises(LogTampered):
            create_proof(LOG, 7, CHECKPOINT, key_of(8))


def with_extra(extra: bytes) -> bytes:
    return re.sub(rb"extra [^\n]*", f"extra {encode_base64(extra)}".encode(), SEALED, count=1)


LEAF = LOG.leaves[7]
GOOD_EXTRA = b"\x01" + len(LEAF).to_bytes(2) + LEAF


class TestAnAlteredProof:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\n\n",
            SEALED[:-1],
            SEALED + b"\n",
            SEALED[1:],
            b"\n" + SEALED,
            SEALED.replace(b"@v1", b"@v2"),
            SEALED.replace(b"\n", b"\r\n"),
            SEALED.replace(b"index 7", b"index 8"),
            SEALED.replace(b"index 7", b"index 07"),
            SEALED.replace(b"index 7", b"index -7"),
            SEALED.replace(b"index 7", b"index 300"),
            SEALED.replace(b"index 7", b"index 9223372036854775808"),
            SEALED.replace(b"index 7", b"index " + b"9" * 5_000),
            SEALED.replace(b"index 7", b"index \xff"),
            SEALED.replace(b"index 7\n", b"index 7\n\n"),
            SEALED.replace(b"index 7\n", b""),
            SEALED.replace(b"index 7\n", b"index 7\n" + b"A" * 43 + b"=\n"),
            SEALED.replace(b"index 7\n", b"index 7\n" + (b"A" * 43 + b"=\n") * 64),
            SEALED.replace(b"index 7\n", b"index 7\n" + b"A" * 42 + b"B=\n"),
            re.sub(rb"extra [^\n]*\n", b"", SEALED),
            re.sub(rb"extra [^\n]*", b"extra ====", SEALED),
            re.sub(rb"(index 7\n)[^\n]*\n", rb"\1", SEALED),
            with_extra(b""),
            with_extra(b"\x01"),
            with_extra(b"\x02" + GOOD_EXTRA[1:]),
            with_extra(GOOD_EXTRA[:-1]),
            with_extra(GOOD_EXTRA + b"x"),
            with_extra(GOOD_EXTRA + bytes(31)),
            with_extra(GOOD_EXTRA + bytes(32)),
            with_extra(GOOD_EXTRA + key_of(8)),
            with_extra(GOOD_EXTRA + bytes(33)),
            with_extra(b"\x01" + len(LEAF).to_bytes(2) + LOG.leaves[8]),
            with_extra(b"\x01\x00\x00"),
            SEALED.partition(b"\n\n")[0] + b"\n\n" + SampleLog(epoch=1).checkpoint(),
            SEALED.partition(b"\n\n")[0],
            SEALED + b" " * MAX_PROOF_BYTES,
        ],
    )
    def test_is_refused(self, raw: bytes) -> None:
        assert raw not in {SEALED, DISCLOSED}
        with pytest.raises(LogTampered):
            open_proof(raw, KEYS)

    @given(st.integers(0, 8 * len(DISCLOSED) - 1))
    @settings(max_examples=300, deadline=None)
    def test_is_refused_with_any_bit_flipped(self, position: int) -> None:
        raw = bytearray(DISCLOSED)
        raw[position // 8] ^= 1 << position % 8
        with pytest.raises(LogTampered):
            open_proof(bytes(raw), KEYS)

    @given(st.binary(max_size=200))
    def test_of_any_bytes_is_refused(self, raw: bytes) -> None:
        with pytest.raises(LogTampered):
            open_proof(b"c2sp.org/tlog-proof@v1\n" + raw, KEYS)

    def test_is_refused_under_another_key(self) -> None:
        with pytest.raises(LogTampered, match="cannot be trusted"):
            open_proof(SEALED, [SampleLog(epoch=1).vkey])
        with pytest.raises(LogTampered):
            open_proof(SEALED, [])
