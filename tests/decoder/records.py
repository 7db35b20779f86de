"""Leaves, sealers, records and epochs: audit-log.md sections 2, 3, 4 and 7; parts: format.md section 6.5."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.decoder.ciphers import audit_key_id, derive, gcm_open, hpke_open, same
from tests.decoder.octets import Octets, u64
from tests.decoder.refusals import EpochRefused, PartRefused, SealerRefused, demand, refusing
from tests.decoder.tree import unbase64

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Record = dict[str, Any]
INTEGER_LIMIT = 2**53


@dataclass(frozen=True, slots=True)
class Leaf:
    """A sealed record."""

    index: int
    sealer_id: bytes
    counter: int
    deltas: tuple[bytes, ...]
    aad: bytes
    commitment: bytes
    sealed: bytes


def parse_leaf(index: int, row: bytes) -> Leaf:
    """Read a leaf: section 2."""
    demand(len(row) <= 65_535, "a leaf over 65,535 bytes")
    octets = Octets(row)
    octets.start(0x4C)
    sealer_id, counter, count = octets.take(16), octets.u64(), octets.u8()
    demand(count <= 64, f"{count} deltas")
    deltas = tuple(octets.take(32) for _ in range(count))
    return Leaf(index, sealer_id, counter, deltas, row[: octets.at], octets.take(32), octets.rest())


def open_sealer(row: bytes, vault_id: bytes, audit_keys: Sequence[bytes]) -> bytes:
    """Open a sealer with the audit key that it names: section 3."""
    with refusing(SealerRefused):
        octets = Octets(row)
        octets.start(0x53)
        key_id, message = octets.take(8), octets.take(1120 + 48)
        octets.end()
        info = b"securecfg/1/sealer\0" + vault_id + key_id
        for private in audit_keys:
            if audit_key_id(private) == key_id:
                return hpke_open(private, message, info)
        reason = "sealed to a key that the keyring does not hold"
        raise SealerRefused(reason)


def open_leaf(leaf: Leaf, sealer_key: bytes, vault_id: bytes) -> Record:
    """Open a leaf and read its record: sections 2 and 4."""
    rest = vault_id + leaf.sealer_id + u64(leaf.counter) + u64(leaf.index)
    material = derive(derive(sealer_key, "securecfg/1/leaf", rest, 32), "securecfg/1/leaf-key", b"", 64)
    demand(same(material[32:], leaf.commitment), "another commitment")
    plain = Octets(gcm_open(material[:32], leaf.sealed, leaf.aad))
    encoded = plain.var32()
    plain.padding(64, least=256)
    return parse_record(encoded)


def parse_record(encoded: bytes) -> Record:
    """Read a record, and refuse every spelling but the one."""
    demand(len(encoded) <= 32_764, "a record over 32,764 bytes")
    record: Record = json.loads(encoded.decode(), parse_float=_refuse, parse_constant=_refuse)
    demand(isinstance(record, dict), "not an object")
    spelled = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    demand(spelled == encoded, "another spelling than the canonical one")
    _verify_leaves_of_json(record)
    _verify_record(record)
    return record


def _refuse(number: str) -> None:
    demand(False, f"number {number}")


def _verify_leaves_of_json(value: object) -> None:
    if isinstance(value, dict):
        for member in value.values():
            _verify_leaves_of_json(member)
    elif isinstance(value, list):
        for item in value:
            _verify_leaves_of_json(item)
    elif isinstance(value, int):
        demand(-INTEGER_LIMIT < value < INTEGER_LIMIT, "an integer out of range")
    elif isinstance(value, str):
        demand(len(value) <= 4_096, "text over 4,096 characters")


# Event: fields that must be there; fields that may be. A mark says what is not text.
CATALOGUE = {
    "vault.created": ("vkey", ""),
    "vault.adopted": ("size# old_size#", "lineage reason"),
    "vault.restored": ("backup part# size#", "lineage reason"),
    "backup.begun": ("backup part# recipients[]", ""),
    "backup.finished": ("backup part# size# digest", ""),
    "bundle.published": ("role count# expires digest recipients[]", ""),
    "bundle.merged": ("bundle# count#", "file"),
    "bundle.read": ("bundle# path ver# at", "count#"),
    "bundle.denied": ("bundle# action at", "path ver# count#"),
    "secret.read": ("path ver#", ""),
    "secret.read.counted": ("path ver#", ""),
    "secret.written": ("path ver#", "expires role"),
    "secret.deleted": ("path", "ver#"),
    "secret.undeleted": ("path ver#", ""),
    "secret.destroyed": ("path ver#", ""),
    "secret.moved": ("path to", ""),
    "secret.labelled": ("path label", "ver#"),
    "secret.rolledback": ("path ver# source_ver#", ""),
    "batch.written": ("count#", "change items[] parts[] source to"),
    "access.denied": ("action", "path ver# to"),
    "access.denied.counted": ("action", "path ver# to"),
    "access.error": ("action", "path ver# to reason"),
    "policy.applied": ("rev#", "digest files[]"),
    "policy.rolledback": ("rev# source_rev#", "digest"),
    "role.changed": ("role", "members[] added[] removed[] fingerprint old_fingerprint"),
    "key.slot.added": ("slot kind", "label principals[]"),
    "key.slot.removed": ("slot", "kind label"),
    "key.rotated": ("kind epoch#", "count# slot"),
    "key.retired": ("kind epoch#", ""),
    "key.limited": ("kind", "max_age_s# max_uses#"),
    "key.compromised": ("epoch#", "reason removed[]"),
    "audit.read": ("", "first# last#"),
    "audit.exported": ("size# format", "first# last#"),
    "audit.epoch": ("epoch# vkey old_sig new_sig", ""),
    "import.planned": ("import count#", "files[]"),
    "import.applied": ("import count#", "files[]"),
    "import.undone": ("import", "count# files[]"),
    "import.confirmed": ("import", "count# files[]"),
    "exposure.marked": ("path ver# commit", "days# file"),
    "exposure.closed": ("path ver#", ""),
    "config.signature_bad": ("file", "reason signer"),
    "recovery": ("reason", "count#"),
    "clock.behind": ("behind_s#", ""),
    "scope.created": ("path number# digest", ""),
    "scope.changed": ("path rev# digest", "role added[] removed[] excluded[]"),
    "scope.begun": ("path number# digest", ""),
    "scope.abandoned": ("path number# digest", "reason"),
    "scope.discarded": ("path number# digest kind", "reason"),
    "scope.merged": ("path number# digest size#", ""),
    "scope.introduced": ("count# digest", "recipients[]"),
    "breakglass.opened": ("path role reason", ""),
    "drop.refused": ("reason", "path role principals[] count#"),
    "scope.adopted": ("path size# old_size#", "lineage reason"),
    "mount.added": ("path store", ""),
    "mount.removed": ("path store", "count#"),
    "mount.read": ("path version store served", "age_s#"),
    "mount.read.counted": ("path version store served", "age_s#"),
    "mount.changing": ("path action store", "label"),
    "mount.changed": ("path action store", "version label"),
    "mount.failed": ("path action store reason", "label"),
    "sync.finished": ("path to count#", ""),
}
DECISIONS = {
    "access.denied": "deny",
    "access.denied.counted": "deny",
    "bundle.denied": "deny",
    "config.signature_bad": "deny",
    "drop.refused": "deny",
    "access.error": "error",
}
MEMBERS = {
    "v": int, "t": str, "ev": str, "dec": str, "sub": dict, "src": dict, "obj": dict, "why": list, "pol": str,
    "ctx": dict, "req": str, "n": int, "note": str,
}  # fmt: skip
SUBJECT = {"id": str, "auth": str, "roles": list, "slot": str, "via": str}
SOURCE = {"pid": int, "prog": str, "host": str}
MARKS: dict[str, type] = {"#": int, "[": list}


def _verify_record(record: Record) -> None:
    demand(record.get("v") == 1, "a record of another version")
    for members, known, needed in (
        (record, MEMBERS, {"v", "t", "ev", "dec", "sub", "src"}),
        (record.get("sub", {}), SUBJECT, {"id", "auth"}),
        (record.get("src", {}), SOURCE, {"pid"}),
    ):
        demand(needed <= set(members) <= set(known), "a member that is missing, or that no record has")
        demand(all(type(value) is known[name] for name, value in members.items()), "a member of another type")
        demand(all(value or name == "pid" for name, value in members.items()), "a member that is empty")
    moment = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", record["t"], re.ASCII)
    demand(moment is not None, "another form of time")
    demand(record["sub"]["auth"] in {"proved", "asserted"}, "another kind of authentication")
    demand(re.fullmatch(r"(sha256:[0-9a-f]{64})?", record.get("pol", "")) is not None, "another form of digest")
    demand(re.fullmatch(r"[0-9a-f]{32}", record.get("req", "0" * 32)) is not None, "another form of request id")
    event = record["ev"]
    demand(event in CATALOGUE, "an event that is not in the catalogue")
    demand(record["dec"] == DECISIONS.get(event, "allow"), "a decision that does not follow from the event")
    demand(("n" in record) == event.endswith(".counted"), "a count without a counted event, or the reverse")
    _verify_object(event, record.get("obj", {}))


def _verify_object(event: str, obj: Mapping[str, Any]) -> None:
    must, may = (
        {field.rstrip("#[]"): MARKS.get(field[-1:].replace("]", "["), str) for field in fields.split()}
        for fields in CATALOGUE[event]
    )
    demand(set(must) <= set(obj) <= set(must) | set(may), f"an object that does not belong to {event}")
    demand(all(type(value) is (must | may)[name] for name, value in obj.items()), f"another type in {event}")
    demand(all(value >= 0 for value in obj.values() if type(value) is int), f"a number below 0 in {event}")


def open_parts(record: Record, read: Callable[[bytes], bytes]) -> list[tuple[str, int]] | None:
    """List what a batch wrote, out of the record or of its parts; none if it is no batch."""
    if record["ev"] != "batch.written":
        return None
    obj = record["obj"]
    items: list[Any] = list(obj.get("items", []))
    with refusing(PartRefused):
        demand(("items" in obj) != ("parts" in obj), "not either items or parts")
        for digest, key in obj.get("parts", []):
            row = read(unbase64(digest))
            octets = Octets(row)
            octets.start(0x50)
            plain = Octets(gcm_open(unbase64(key), octets.rest(), row[:2]))
            items += json.loads(plain.var32())
            plain.padding(4_096)
        demand(len(items) == obj["count"], f"{len(items)} items, counted {obj['count']}")
        demand(all(type(path) is str and type(version) is int for path, version in items), "not a path and a version")
    return [(path, version) for path, version in items]


def parse_verifier_key(text: str, name: str) -> bytes:
    """Read a C2SP verifier key of the log, and return the public key."""
    demand(text.startswith(name + "+"), "the verifier key of another log")
    key_id, _, encoded = text.removeprefix(name + "+").partition("+")
    material = unbase64(encoded)
    demand(len(material) == 33 and material[0] == 1, "not an Ed25519 key")
    demand(key_id == sha256(name.encode() + b"\n" + material).hexdigest()[:8], "another key id")
    return material[1:]


def verify_epochs(records: Sequence[Mapping[str, Any]], name: str, first_public_key: bytes) -> list[bytes]:
    """Follow the hand-overs, and return the key of each epoch: section 7, rules 1 and 2."""
    with refusing(EpochRefused):
        demand(bool(records) and records[0]["ev"] == "vault.created", "record 0 is not `vault.created`")
        demand(parse_verifier_key(records[0]["obj"]["vkey"], name) == first_public_key, "another key of epoch 0")
        keys = [first_public_key]
        for record in records[1:]:
            demand(record["ev"] != "vault.created", "created twice")
            if record["ev"] != "audit.epoch":
                continue
            obj = record["obj"]
            demand(obj["epoch"] == len(keys), f"epoch {obj['epoch']} follows epoch {len(keys) - 1}")
            new = parse_verifier_key(obj["vkey"], name)
            demand(new not in keys, "a key that another epoch had")
            statement = b"securecfg/1/audit-epoch\n" + str(len(keys)).encode() + b"\n" + new
            for key, signature in ((keys[-1], obj["old_sig"]), (new, obj["new_sig"])):
                Ed25519PublicKey.from_public_bytes(key).verify(unbase64(signature), statement)
            keys.append(new)
    return keys
