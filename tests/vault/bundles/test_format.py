"""Bundles that are not what they should be: cut off, altered, forged, or of another form."""

from __future__ import annotations

import struct
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securecfg.audit import parse_checkpoint, sign_checkpoint
from securecfg.audit.note import encode_base64, parse_note, sign_note
from securecfg.crypto import KeyBytes, padme
from securecfg.errors import (
    IntegrityError,
    NotABundle,
    SignatureInvalid,
    Tampered,
    Unsupported,
    UnsupportedFormat,
    ValueTooLarge,
    WrongKey,
)
from securecfg.octets import U16, U32, Malformed, var8, var32
from securecfg.vault.bundles import sealing as bundle_sealing
from securecfg.vault.bundles.format import (
    BUNDLE_BYTES_MAX,
    Base,
    Evidence,
    Index,
    Messages,
    PublishedScope,
    PublishedSecret,
    PublishedVersion,
    padded_index_length,
    parse_front,
    sealed_length,
    trailer_to_bytes,
    verify_front,
)
from tests.vault.bundles.published import make_publisher
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.vault.bundles.published import Publisher
    from tests.vault.world import World

FRONT = struct.Struct(">4sHBB16sH")


@pytest.fixture
def publisher(world: World) -> Publisher:
    publisher = make_publisher(world)
    publisher.publish()
    return publisher


def refused(publisher: Publisher, raw: bytes) -> Exception:
    """Return what opening a file with these bytes raises, for somebody who knows the vault."""
    publisher.file.write_bytes(raw)
    with pytest.raises((IntegrityError, Unsupported, WrongKey, ValueTooLarge)) as error:
        publisher.open(issuer=str(publisher.vault.log.vkey))
    return error.value


@pytest.mark.no_cover
def test_a_byte_that_was_altered_anywhere_is_found(publisher: Publisher) -> None:
    raw = publisher.file.read_bytes()
    vkey = publisher.vault.log.vkey
    for place in range(len(raw)):
        altered = bytearray(raw)
        altered[place] ^= 1 << place % 8
        with pytest.raises((NotABundle, SignatureInvalid, UnsupportedFormat)):
            verify_front(parse_front(bytes(altered)), vkey)


def test_a_file_that_is_cut_off_anywhere_is_refused(publisher: Publisher) -> None:
    raw = publisher.file.read_bytes()
    for length in range(len(raw)):
        with pytest.raises(NotABundle):
            parse_front(raw[:length])


@pytest.mark.parametrize("rest", [b"\x00", b"\n", bytes(4), bytes(4_096)])
def test_a_file_that_goes_on_is_refused(publisher: Publisher, rest: bytes) -> None:
    assert isinstance(refused(publisher, publisher.file.read_bytes() + rest), NotABundle)


def test_a_file_that_is_too_large_is_not_read(publisher: Publisher) -> None:
    with open(publisher.file, "r+b") as file:
        file.truncate(BUNDLE_BYTES_MAX + 1)
    with pytest.raises(ValueTooLarge):
        publisher.open()


@pytest.mark.parametrize(
    ("number", "suite", "flags", "count", "error"),
    [
        (0, 1, 0, 1, UnsupportedFormat),
        (2, 1, 0, 1, UnsupportedFormat),
        (1, 2, 0, 1, UnsupportedFormat),
        (1, 1, 1, 1, UnsupportedFormat),
        (1, 1, 0, 0, NotABundle),
        (1, 1, 0, 3, NotABundle),
        (1, 1, 0, 256, NotABundle),
        (1, 1, 0, 128, NotABundle),
        (1, 1, 0, 65_535, NotABundle),
    ],
)
def test_fields_of_the_head_that_are_out_of_range_are_refused(
    publisher: Publisher, number: int, suite: int, flags: int, count: int, error: type[Exception]
) -> None:
    raw = publisher.file.read_bytes()
    front = FRONT.pack(b"SCFP", number, suite, flags, raw[8:24], count)
    assert type(refused(publisher, front + raw[FRONT.size :])) is error


def test_lengths_that_lead_outside_are_refused(publisher: Publisher) -> None:
    raw = publisher.file.read_bytes()
    at = FRONT.size + len(parse_front(raw).slots[0])
    for length in (0, 1, 1 << 32, (1 << 64) - 1):
        with pytest.raises(NotABundle):
            parse_front(raw[:at] + length.to_bytes(8) + raw[at + 8 :])


def test_the_slot_of_another_bundle_does_not_open_in_this_one(publisher: Publisher) -> None:
    first = publisher.file.read_bytes()
    publisher.publish(replace=True)
    second = publisher.file.read_bytes()
    size = len(parse_front(first).slots[0])
    mixed = second[: FRONT.size] + first[FRONT.size : FRONT.size + size] + second[FRONT.size + size :]
    assert isinstance(refused(publisher, mixed), SignatureInvalid)
    # Also where somebody holds the vault's signing key.
    assert isinstance(refused(publisher, signed_again(publisher, mixed)), WrongKey)


def signed_again(publisher: Publisher, raw: bytes, key: Ed25519PrivateKey | None = None) -> bytes:
    """Return a file whose body was altered, with a statement by the vault's key or another one."""
    front = parse_front(raw)
    tail = sum(4 + len(part) for part in (front.statement, front.proof, front.hand_overs))
    opened = publisher.vault.opened.replica
    vkey, signer = publisher.vault.log.vkey, opened.signer if key is None else key
    serial = int(parse_note(front.statement).text.splitlines()[2].split()[1])
    return raw[:-tail] + trailer_to_bytes(front.digest, vkey, (serial, ()), Evidence(front.proof, ()), signer)


def test_a_content_that_is_signed_and_does_not_open_is_refused(publisher: Publisher) -> None:
    raw = bytearray(publisher.file.read_bytes())
    at = FRONT.size + len(parse_front(bytes(raw)).slots[0]) + 8
    length = int.from_bytes(raw[at - 8 : at])
    raw[at + length - 1] ^= 1
    assert isinstance(refused(publisher, signed_again(publisher, bytes(raw))), Tampered)


@pytest.mark.parametrize("more", [1, 64, 4_096])
def test_an_index_with_more_zeros_than_fit_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(
        bundle_sealing, "padded_index_length", lambda length, before: padded_index_length(length, before) + more
    )
    publisher.publish(replace=True)
    with pytest.raises(Tampered):
        publisher.open()


def test_a_value_that_does_not_open_is_not_given_out(publisher: Publisher) -> None:
    raw = bytearray(publisher.file.read_bytes())
    at = FRONT.size + len(parse_front(bytes(raw)).slots[0]) + 8
    raw[at + 60] ^= 1
    publisher.file.write_bytes(signed_again(publisher, bytes(raw)))
    bundle = publisher.open()
    secrets = bundle.bundle.inventory.secrets
    first = min((version.start, path, version.number) for path in secrets for version in secrets[path].versions)
    with pytest.raises(Tampered):
        bundle.read(first[1], at=first[2])
    assert isinstance(bundle.read_many([(first[1], first[2])])[0], Tampered)


def test_a_statement_by_another_key_is_refused(publisher: Publisher) -> None:
    raw = publisher.file.read_bytes()
    forged = signed_again(publisher, raw, Ed25519PrivateKey.generate())
    assert isinstance(refused(publisher, forged), SignatureInvalid)


def test_a_proof_that_is_not_of_the_record_is_refused(publisher: Publisher) -> None:
    raw = publisher.file.read_bytes()
    front = parse_front(raw)
    checkpoint = front.proof.partition(b"\n\n")[2]
    origin = publisher.vault.log.vkey.name
    forged = sign_checkpoint(parse_checkpoint(checkpoint), Ed25519PrivateKey.generate())
    assert forged.startswith(origin.encode())
    proofs = (
        publisher.vault.log.prove(1),
        b"",
        front.proof[:-1],
        front.proof.replace(b"index ", b"index 1", 1),
        front.proof.partition(b"\n\n")[0] + b"\n\n" + forged,
    )
    for proof in proofs:
        assert isinstance(refused(publisher, with_trailer(publisher, raw, proof=proof)), SignatureInvalid)


def with_trailer(publisher: Publisher, raw: bytes, **changes: bytes) -> bytes:
    """Return a file with another proof or other hand-overs, signed by the vault all the same."""
    front = parse_front(raw)
    tail = sum(4 + len(part) for part in (front.statement, front.proof, front.hand_overs))
    told = var32(changes.get("proof", front.proof)) + var32(changes.get("hand_overs", front.hand_overs))
    lines = parse_note(front.statement).text.splitlines()
    lines[4] = f"evidence {encode_base64(sha256(told).digest())}"
    text = changes.get("text", "".join(f"{line}\n" for line in lines).encode()).decode()
    statement = sign_note(text, publisher.vault.log.vkey.name, publisher.vault.opened.replica.signer)
    return raw[:-tail] + var32(statement + changes.get("more", b"")) + told


@pytest.mark.parametrize("hand_overs", [b"", b"{}", b"[ ]", b"[1]", b'[{"epoch":1}]', b"[]\n", b"\xff"])
def test_hand_overs_that_are_none_are_refused(publisher: Publisher, hand_overs: bytes) -> None:
    raw = with_trailer(publisher, publisher.file.read_bytes(), hand_overs=hand_overs)
    assert isinstance(refused(publisher, raw), SignatureInvalid)


def test_a_statement_of_another_form_is_refused(publisher: Publisher) -> None:
    raw = publisher.file.read_bytes()
    text = parse_note(parse_front(raw).statement).text
    wrong = (
        text.replace("securecfg-bundle/1", "securecfg-bundle/2"),
        text.replace("record ", "record 0"),
        text.replace("body ", "body  "),
        text.replace("+", "-", 1),
        text + "more\n",
    )
    for each in wrong:
        assert isinstance(refused(publisher, with_trailer(publisher, raw, text=each.encode())), SignatureInvalid)


def test_a_second_signature_is_refused(publisher: Publisher) -> None:
    raw = publisher.file.read_bytes()
    line = sign_note("x\n", "somebody", Ed25519PrivateKey.generate()).partition(b"\n\n")[2]
    assert isinstance(refused(publisher, with_trailer(publisher, raw, more=line)), SignatureInvalid)
    publisher.file.write_bytes(with_trailer(publisher, raw))
    assert text_of(publisher.open(), "app/a") == "two"


def test_what_is_refused_leaves_no_trace_in_the_state(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    raw = publisher.file.read_bytes()
    publisher.file.write_bytes(raw[:-1] + b"x")
    with pytest.raises(IntegrityError):
        publisher.open()
    assert [path.name for path in (tmp_path / "state").rglob("*") if path.is_file()] in ([], ["lock"])


# --- the index --------------------------------------------------------------------------------------------------------

numbers = st.integers(1, (1 << 32) - 1)
longs = st.integers(0, (1 << 64) - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
keys = st.binary(min_size=32, max_size=32).map(KeyBytes)


@st.composite
def versions(draw: st.DrawFn, number: int, depth_max: int) -> PublishedVersion:
    depth = draw(st.integers(0, depth_max))
    of_value = (draw(st.integers(0, 255)), draw(longs), draw(longs))
    place = (depth, draw(numbers), draw(longs), draw(longs), draw(longs))
    told = (draw(texts), draw(texts), draw(st.binary(max_size=40)))
    return PublishedVersion(number, *of_value, *place, *told, draw(keys) if depth else None)


@st.composite
def secrets(draw: st.DrawFn, depth_max: int) -> PublishedSecret:
    kept = sorted(draw(st.sets(numbers, min_size=1, max_size=3)), reverse=True)
    labels = {f"{draw(texts)}.{number}": number for number in kept} | {"current": kept[0]}
    found = tuple(draw(versions(number, depth_max)) for number in kept)
    return PublishedSecret(draw(st.booleans()), dict(sorted(labels.items())), found)


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    id_, digest = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
    bases = draw(st.lists(st.builds(Base, id_, digest), max_size=2).map(tuple))
    paths = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
    found = draw(st.dictionaries(paths, secrets(len(bases)), max_size=3))
    audit_key = draw(st.binary(min_size=1_216, max_size=1_216))
    scopes = tuple(PublishedScope(f"s{number}/", draw(id_), audit_key) for number in range(draw(st.integers(0, 2))))
    return Index(draw(texts), draw(longs), draw(longs), draw(texts), audit_key, bases, found, scopes)


@given(indexes(), st.integers(0, 100))
def test_an_index_is_read_as_it_was_written(index: Index, padding: int) -> None:
    assert Index.parse(index.to_bytes() + bytes(padding)) == index


@given(indexes(), st.data())
def test_an_index_that_was_altered_is_another_one_or_refused(index: Index, data: st.DataObject) -> None:
    raw = bytearray(index.to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(Malformed):
        assert Index.parse(bytes(raw)) != index


@pytest.mark.parametrize("paths", [("a",), ("b/", "a/"), ("a/", "a/"), ("a/", "a/b/"), ("a/", "a.b/", "a/c/")])
def test_scopes_that_cannot_be_are_refused(paths: Sequence[str]) -> None:
    scopes = tuple(PublishedScope(path, bytes(16), bytes(1_216)) for path in paths)
    with pytest.raises(Malformed):
        Index.parse(Index("web", 0, 0, "", bytes(1_216), (), {}, scopes).to_bytes())


def index_of(labels: Sequence[tuple[str, int]], numbers: Sequence[int]) -> bytes:
    """Return an index with one secret, with these labels and versions in this order."""
    version = PublishedVersion(1, 0, 0, 0, 0, 1, 0, 0, 0, "", "", b"")
    secret = PublishedSecret(True, {}, tuple(version._replace(number=number) for number in numbers))
    raw = Index("web", 0, 0, "", bytes(1_216), (), {"app/a": secret}).to_bytes()
    at = raw.index(b"app/a") + 6
    named = b"".join(var8(name.encode()) + U32.pack(number) for name, number in labels)
    return raw[:at] + U16.pack(len(labels)) + named + raw[at + 2 :]


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ([], [1]),
        ([("canary", 1)], [1]),
        ([("current", 2)], [1]),
        ([("canary", 3), ("current", 1)], [1]),
        ([("current", 1), ("current", 1)], [1]),
        ([("canary", 1), ("canary", 2), ("current", 2)], [2, 1]),
        ([("current", 2), ("canary", 1)], [2, 1]),
        ([("canary", 1), ("current", 2)], [1, 2]),
        ([("current", 1)], [1, 1]),
        ([("current", 2)], [2, 1]),
        ([("current", 1)], []),
    ],
)
def test_labels_and_versions_that_do_not_fit_are_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, labels: Sequence[tuple[str, int]], numbers: Sequence[int]
) -> None:
    assert Index.parse(index_of([("canary", 1), ("current", 2)], [2, 1])).secrets["app/a"].labels["current"] == 2
    raw = index_of(labels, numbers)
    with pytest.raises(Malformed):
        Index.parse(raw)
    monkeypatch.setattr(Index, "to_bytes", lambda _: raw)
    publisher.publish(replace=True)
    with pytest.raises(Tampered):
        publisher.open()


@given(st.binary(max_size=1_500))
def test_bytes_that_are_no_index_are_malformed(raw: bytes) -> None:
    try:
        Index.parse(raw)
    except Malformed:
        return
    assert len(raw) > 1_216


@given(st.integers(0, 400_000), st.integers(0, 2_000_000))
def test_the_index_is_filled_to_a_length_of_padme(length: int, before: int) -> None:
    filled = padded_index_length(length, before)
    total = before + sealed_length(filled)
    assert filled >= length
    assert total == padme(total) >= 4_096


@given(st.binary(max_size=600_000))
def test_a_message_has_the_length_that_is_said(content: bytes) -> None:
    messages, key = Messages(bytes(16), bytes(16)), KeyBytes(bytes(32))
    sealed = messages.seal(key, 1, (content,))
    assert len(sealed) == sealed_length(len(content))
    assert messages.open(key, 1, memoryview(sealed)) == content
    with pytest.raises(Tampered):
        messages.open(key, 2, memoryview(sealed))
