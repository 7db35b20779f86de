from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securecfg.audit.note import (
    MAX_NOTE_BYTES,
    VerifierKey,
    decode_base64,
    encode_base64,
    open_note,
    parse_note,
    parse_vkey,
    sign_note,
    verify_signature,
    vkey_of,
)
from securecfg.errors import SignatureInvalid, UsageError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
VKEY = vkey_of("log.example", KEY)

# From c2sp.org/signed-note, section "Example".
PUBLISHED_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PUBLISHED_NOTE = (
    "This is an example message.\n\n\N{EM DASH} example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()


def line(name: str = "log.example", signature: bytes = bytes(68)) -> bytes:
    return f"\N{EM DASH} {name} {encode_base64(signature)}\n".encode()


class TestSignedNotes:
    def test_of_the_specification_verify(self) -> None:
        key = parse_vkey(PUBLISHED_VKEY)
        assert open_note(PUBLISHED_NOTE, [key]) == ("This is an example message.\n", key)
        assert str(key) == PUBLISHED_VKEY

    def test_are_opened_by_the_key_that_signed(self) -> None:
        note = sign_note("a\n\nb\n", "log.example", KEY)
        assert open_note(note, [vkey_of("log.example", OTHER), VKEY]) == ("a\n\nb\n", VKEY)

    def test_may_carry_signatures_of_strangers(self) -> None:
        note = sign_note("text\n", "log.example", KEY)
        assert open_note(note + line("witness.example", bytes(80)), [VKEY])[1] == VKEY
        assert open_note(note + line("log.example", bytes(5)), [VKEY])[1] == VKEY
        assert len(parse_note(note + line() * 63).signatures) == 64

    def test_may_be_signed_twice(self) -> None:
        note = sign_note("text\n", "log.example", KEY)
        second = sign_note("text\n", "log.example", OTHER).split(b"\n\n")[1]
        keys = [vkey_of("log.example", OTHER), VKEY]
        assert open_note(note + second, keys)[1] == VKEY

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\n",
            b"\n\n",
            b"text\n",
            b"text\n\n",
            b"text\n\nno signature\n",
            b"text\n\n" + line()[:-1],
            b"text\n" + line(),
            b"text\n\n" + line() + b"\n",
            b"text\n\n" + line().replace(b" log", b"  log"),
            b"text\n\n" + line("a+b"),
            b"text\n\n" + line("a\N{NO-BREAK SPACE}b"),
            b"text\n\n" + line(""),
            b"text\n\n" + line(signature=bytes(4)),
            b"text\n\n" + line(signature=b""),
            b"text\n\n" + line().replace(b"AAA=", b"AAB="),
            b"text\n\n" + line().replace(b"AAA=", b"AAA"),
            b"text\n\n" + line().replace(b"AAA=", b"A-A="),
            b"text\n\n" + line().replace("\N{EM DASH}".encode(), b"-"),
            b"te\rxt\n\n" + line(),
            b"te\x00xt\n\n" + line(),
            b"text\n\n" + line() + line().replace(b" log", b"\tlog"),
            b"te\xffxt\n\n" + line(),
            b"text\n\n" + line() * 65,
            b"x" * MAX_NOTE_BYTES + b"\n\n" + line(),
        ],
    )
    def test_that_are_malformed_are_refused(self, raw: bytes) -> None:
        with pytest.raises(SignatureInvalid):
            parse_note(raw)
        with pytest.raises(SignatureInvalid):
            open_note(raw, [VKEY])

    def test_without_a_trusted_signer_are_refused(self) -> None:
        note = sign_note("text\n", "log.example", KEY)
        for keys in ([], [vkey_of("log.example", OTHER)], [vkey_of("other.example", KEY)]):
            with pytest.raises(SignatureInvalid, match="not signed by a trusted key"):
                open_note(note, keys)

    def test_are_refused_whole_when_a_trusted_signature_is_wrong(self) -> None:
        good = sign_note("text\n", "log.example", KEY)
        forged = line(signature=vkey_of("log.example", OTHER).key_id + bytes(64))
        with pytest.raises(SignatureInvalid, match="does not verify"):
            open_note(good + forged, [VKEY, vkey_of("log.example", OTHER)])
        short = line(signature=VKEY.key_id + bytes(10))
        with pytest.raises(SignatureInvalid, match="does not verify"):
            open_note(b"text\n\n" + short, [VKEY])

    @given(st.integers(0, 10_000))
    def test_lose_their_signature_with_any_bit(self, position: int) -> None:
        note = bytearray(sign_note("text\nmore\n", "log.example", KEY))
        note[position // 8 % len(note)] ^= 1 << position % 8
        with pytest.raises(SignatureInvalid):
            open_note(bytes(note), [VKEY])

    @given(st.binary(max_size=300))
    def test_of_any_bytes_parse_or_are_refused(self, raw: bytes) -> None:
        with pytest.raises(SignatureInvalid):
            open_note(raw, [VKEY])

    @pytest.mark.parametrize("text", ["", "text", "te\x07xt\n", "te\rxt\n"])
    def test_are_not_made_of_other_text(self, text: str) -> None:
        with pytest.raises(UsageError):
            sign_note(text, "log.example", KEY)

    @pytest.mark.parametrize("name", ["", "a b", "a+b", "a\N{EM SPACE}b"])
    def test_are_not_made_under_another_name(self, name: str) -> None:
        with pytest.raises(UsageError):
            sign_note("text\n", name, KEY)


class TestVerifierKeys:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "+",
            "++",
            "name",
            "name+00000000",
            str(VKEY) + "=",
            str(VKEY) + "\n",
            " " + str(VKEY),
            str(VKEY)[:-1],
            str(VKEY).replace("log.", "lag."),
            str(VKEY).replace(VKEY.key_id.hex(), "00000000"),
            str(VKEY).replace(VKEY.key_id.hex(), VKEY.key_id.hex().upper()),
            f"log.example+{VKEY.key_id.hex()}+{encode_base64(bytes([2]) + VKEY.public_key)}",
            f"log.example+{VKEY.key_id.hex()}+{encode_base64(bytes([1]) + VKEY.public_key[:31])}",
            "x" * 5_000 + str(VKEY),
            "\ud800" + str(VKEY),
        ],
    )
    def test_that_are_malformed_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_vkey(text)

    def test_are_equal_where_name_and_bytes_are(self) -> None:
        key = VerifierKey("a", bytes(32))
        assert {key, VerifierKey("a", bytes(32))} == {key}
        assert key != VerifierKey("b", bytes(32))
        assert key != str(key)

    def test_have_32_bytes(self) -> None:
        with pytest.raises(UsageError):
            VerifierKey("log.example", bytes(31))

    def test_that_are_no_point_verify_nothing(self) -> None:
        with pytest.raises(SignatureInvalid):
            verify_signature(b"\xff" * 32, bytes(64), b"")
        with pytest.raises(SignatureInvalid):
            verify_signature(b"", bytes(64), b"")


class TestBase64:
    @given(st.binary(max_size=100))
    def test_has_one_spelling(self, raw: bytes) -> None:
        assert decode_base64(encode_base64(raw)) == raw

    @pytest.mark.parametrize("text", ["A", "AA", "AB==", "AA==\n", " AA==", "A A=", "AA=A", "ä===", "_-==", "AA==="])
    def test_has_no_other(self, text: str) -> None:
        with pytest.raises(ValueError, match="base64"):
            decode_base64(text)
