"""Bundles and the records of their readers: docs/security/bundles.md, read from its pages alone."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.decoder.ciphers import chunked_open, context, derive, hpke_open, padme
from tests.decoder.identity import NO_SCOPE, plain
from tests.decoder.octets import Octets, u8, u32, u64
from tests.decoder.refusals import demand
from tests.decoder.tree import leaf_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.decoder.identity import Identity

SLOT = 1088 + 32 + 40 + 16
ROW = 16 * (16_384 + 16)


@dataclass(frozen=True, slots=True)
class Front:
    """Section 2, without a key."""

    bundle_id: bytes
    slots: list[bytes]
    content: bytes
    body: bytes
    vault_id: bytes
    serial: int
    scopes: list[bytes]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Section 2.2: what a recipient reads."""

    serial: int
    role: str
    expires: int
    audit_key: bytes
    values: dict[tuple[str, int], bytes]
    labels: dict[str, dict[str, int]]
    listed: set[str]


def read_front(raw: bytes) -> Front:
    """Take a bundle apart and check what vouches for it: sections 2.1 and 2.3."""
    octets = Octets(raw)
    demand(octets.take(8) == b"SCFP\0\1\1\0", "another magic, format, suite or flags")
    bundle_id = octets.take(16)
    count = octets.u16()
    demand(count in {1 << exponent for exponent in range(8)}, "a number of slots that is no power of two")
    slots = [octets.take(SLOT) for _ in range(count)]
    content = octets.take(octets.u64())
    demand(len(content) == padme(len(content)) >= 4_096, "a content of another length than Padmé's")
    body = raw[: octets.at]
    statement = octets.var32().decode()
    evidence = raw[octets.at :]
    proof, hand_overs = octets.var32().decode(), json.loads(octets.var32())
    octets.end()
    said = re.fullmatch(
        r"(securecfg-bundle/1\n(\S+)\nrecord (\d+)\n((?:scope [0-9a-f]{32} record \d+\n)*)body (\S+)\nevidence (\S+)\n)"
        r"\n\u2014 (\S+) (\S+)\n",
        statement,
    )
    demand(said is not None, "another form of the statement")
    assert said is not None
    demand(base64.b64decode(said[5]) == sha256(body).digest(), "another body")
    demand(base64.b64decode(said[6]) == sha256(evidence).digest(), "another evidence")
    key = said[2] if not hand_overs else hand_overs[-1]["vkey"]
    name, _, encoded = key.split("+", 2)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
    demand(said[7] == name, "a signature under another name")
    public.verify(base64.b64decode(said[8])[4:], said[1].encode())
    verify_proof(proof, public, int(said[3]))
    scopes = [bytes.fromhex(line.split(" ")[1]) for line in said[4].splitlines()]
    return Front(bundle_id, slots, content, body, bytes.fromhex(name.partition("/")[2]), int(said[3]), scopes)


def verify_proof(proof: str, public: Ed25519PublicKey, serial: int) -> None:
    """Check that a record is in the log: audit-log.md section 8, and RFC 9162 section 2.1.3.2."""
    head, _, note = proof.partition("\n\n")
    lines = head.split("\n")
    demand(lines[0] == "c2sp.org/tlog-proof@v1" and lines[2] == f"index {serial}", "a proof of another record")
    extra = Octets(base64.b64decode(lines[1].removeprefix("extra ")))
    demand(extra.u8() == 1, "another version of the proof")
    leaf = extra.take(extra.u16())
    extra.end()
    text, _, signature = note.partition("\n\n")
    public.verify(base64.b64decode(signature.split(" ")[2])[4:], f"{text}\n".encode())
    size, root = int(text.split("\n")[1]), base64.b64decode(text.split("\n")[2])
    index, last, hash_ = serial, size - 1, leaf_hash(leaf)
    for line in lines[3:]:
        other = base64.b64decode(line)
        if index & 1 or index == last:
            hash_ = sha256(b"\1" + other + hash_).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            hash_ = sha256(b"\1" + hash_ + other).digest()
        index, last = index >> 1, last >> 1
    demand(not last and hash_ == root, "a proof that does not lead to the root")


def read_bundle(files: Sequence[bytes], identity: Identity) -> Bundle:
    """Open the last of some files, each of which may build on those before it: sections 2.2, 3 and 4."""
    front = read_front(files[-1])
    fingerprint = identity.fingerprint()
    info = b"securecfg/1/bundle\0" + front.bundle_id + fingerprint
    payload = next(filter(None, (_open(identity, slot, info) for slot in front.slots)), b"")
    demand(len(payload) == 40, "no slot for this identity")
    place = (front.vault_id, front.bundle_id)
    index = front.content[int.from_bytes(payload[32:], "big") :]
    octets = Octets(_message(_key(payload, front.bundle_id, 0), place, 0, index))
    role, _, expires, _ = octets.str8(), octets.u64(), octets.u64(), octets.str8()
    audit_key = octets.take(1_216)
    others = [(octets.str16().decode(), octets.take(16), octets.take(1_216)) for _ in range(octets.u8())]
    paths = [path for path, _, _ in others]
    demand(paths == sorted(set(paths)) and all(path.endswith("/") for path in paths), "parts in another order")
    demand([scope_id for _, scope_id, _ in others] == front.scopes, "other parts than the statement names")
    parts = [(place, front.content)]
    earlier = {sha256(other.body).digest(): other for other in map(read_front, files[:-1])}
    for _ in range(octets.u8()):
        bundle_id, digest = octets.take(16), octets.take(32)
        demand(digest in earlier and earlier[digest].bundle_id == bundle_id, "a bundle that is missing")
        parts.append(((front.vault_id, bundle_id), earlier[digest].content))
    found = Bundle(front.serial, role, expires, audit_key, {}, {}, set())
    for _ in range(octets.u32()):
        path = octets.str16().decode()
        if octets.u8():
            found.listed.add(path)
        labels = [(octets.str8(), octets.u32()) for _ in range(octets.u16())]
        found.labels[path] = dict(labels)
        demand([name for name, _ in labels] == sorted(found.labels[path]), "labels in another order, or twice")
        demand("current" in found.labels[path], "a secret without a current version")
        for _ in range(octets.u16()):
            version, _, _, _ = octets.u32(), octets.u8(), octets.u64(), octets.u64()
            depth, number, start, sealed, length = octets.u8(), octets.u32(), octets.u64(), octets.u64(), octets.u64()
            key = octets.take(32) if depth else _key(payload, front.bundle_id, number)
            _, _, _ = octets.str8(), octets.str8(), octets.str16()
            where, content = parts[depth]
            value = _message(key, where, number, content[start : start + sealed])
            demand(len(value) == length, "a value of another length")
            found.values[path, version] = value
        labelled = {(path, number) for number in found.labels[path].values()}
        demand(labelled == {each for each in found.values if each[0] == path}, "labels that point elsewhere")
    demand(not any(octets.rest()), "padding that is not zero")
    return found


def read_sessions(lines: bytes, audit_private: bytes, vault_id: bytes) -> list[list[dict[str, Any]]]:
    """Verify and open the sessions in a file, each with its start first: section 5."""
    sessions: dict[bytes, list[bytes]] = {}
    for line in lines.splitlines():
        raw = base64.b64decode(line)
        sessions.setdefault(raw[1:17], []).append(raw)
    return [_session(entries, audit_private, vault_id) for entries in sessions.values()]


def _session(entries: list[bytes], audit_private: bytes, vault_id: bytes) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    key, chain, public = b"", bytes(32), None
    for sequence, raw in enumerate(entries):
        octets = Octets(raw)
        kind, session_id = octets.u8(), octets.take(16)
        demand(octets.u64() == sequence, "an entry that is missing")
        signature, content = octets.take(64), octets.var32()
        octets.end()
        told_of = u8(kind) + session_id + u64(sequence) + content
        chain = sha256(b"securecfg/1/sink\0" + chain + told_of).digest()
        leaf = content
        if kind == 1:
            start = Octets(content)
            row = start.var32()
            leaf = start.rest()
            demand(sha256(row).digest()[:16] == session_id, "another sealer")
            key = hpke_open(audit_private, row[10:], b"securecfg/1/sealer\0" + vault_id + row[2:10])
        if kind != 3:
            told.append(json.loads(_leaf(leaf, key, vault_id, sequence)))
        if kind == 1:
            line = told[0]["identity"].split(" ")
            public = Ed25519PublicKey.from_public_bytes(plain(line[2])[1_216:])
        assert public is not None
        public.verify(signature, b"securecfg/1/sink\1" + chain)
    return told


def _leaf(raw: bytes, key: bytes, vault_id: bytes, index: int) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    octets = Octets(raw)
    octets.start(0x4C)
    sealer, counter, deltas = octets.take(16), octets.u64(), octets.u8()
    demand(not deltas, "a leaf with deltas")
    aad, commitment, sealed = raw[: octets.at], octets.take(32), octets.rest()
    leaf_key = derive(key, "securecfg/1/leaf", vault_id + sealer + u64(counter) + u64(index), 32)
    material = derive(leaf_key, "securecfg/1/leaf-key", b"", 64)
    demand(material[32:] == commitment, "another commitment")
    return Octets(AESGCM(material[:32]).decrypt(bytes(12), sealed, aad)).var32()


def _open(identity: Identity, slot: bytes, info: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return hpke_open(identity.private_keys()[:96], slot, info)
    except InvalidTag:
        return b""


def _key(payload: bytes, bundle_id: bytes, number: int) -> bytes:
    return derive(payload[:32], "securecfg/1/bundle", bundle_id + u32(number), 32)


def _message(key: bytes, place: tuple[bytes, bytes], number: int, sealed: bytes) -> bytes:
    vault_id, bundle_id = place
    rows = [sealed[: 56 + ROW], *(sealed[at : at + ROW] for at in range(56 + ROW, len(sealed), ROW))]
    return b"".join(chunked_open(key, rows, context(0x19, vault_id, NO_SCOPE, 0, bundle_id + u32(number))))
