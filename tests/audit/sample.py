"""A log in memory, written through the public names only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.audit import (
    Checkpoint,
    Event,
    Record,
    Sealer,
    Source,
    Subject,
    Tree,
    audit_public_key,
    create_sealer,
    leaf_hash,
    origin_of,
    sign_checkpoint,
    vkey_of,
)
from securecfg.audit.epoch import create_hand_over
from securecfg.audit.opening import RecordOpener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.audit import VerifierKey

VAULT_ID = bytes(range(16))
ORIGIN = origin_of(VAULT_ID)
AUDIT_KEY = bytes(range(96))
START_NS = 1_763_640_000 * 10**9
STATE = b"s" * 32


def signing_key(epoch: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([epoch + 1]) * 32)


READ_OBJECT: Mapping[str, Any] = {"path": "db/main", "ver": 1}


def record(
    event: Event = Event.SECRET_READ,
    obj: Mapping[str, Any] = READ_OBJECT,
    *,
    at_s: int = 0,
    who: str = "svc:web",
    count: int | None = None,
    why: tuple[str, ...] = (),
    note: str = "",
    context: Mapping[str, Any] | None = None,
) -> Record:
    return Record(
        time_ns=START_NS + at_s * 10**9,
        event=event,
        subject=Subject(who),
        source=Source(7, "python"),
        obj=obj,
        count=count,
        why=why,
        note=note,
        context=context or {},
    )


@dataclass
class SampleLog:
    """Leaves, tiles and sealers as a store would hold them."""

    leaves: list[bytes] = field(default_factory=list)
    tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    sealers: dict[bytes, bytes] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    epoch: int = 0

    def __post_init__(self) -> None:
        self.sealer = self.new_session()

    @property
    def genesis(self) -> VerifierKey:
        return vkey_of(ORIGIN, signing_key(0))

    @property
    def vkey(self) -> VerifierKey:
        return vkey_of(ORIGIN, signing_key(self.epoch))

    @property
    def opener(self) -> RecordOpener:
        return RecordOpener([AUDIT_KEY], VAULT_ID, self.sealers.get)

    def tile(self, level: int, index: int) -> bytes | None:
        return self.tiles.get((level, index))

    def leaf(self, index: int) -> bytes:
        return self.leaves[index]

    def new_session(self) -> Sealer:
        self.sealer = create_sealer(VAULT_ID, audit_public_key(AUDIT_KEY))
        self.sealers[self.sealer.id] = self.sealer.row
        return self.sealer

    def append(self, *records: Record) -> None:
        for each in records:
            self.records.append(each)
            self.append_leaf(self.sealer.seal(each.to_bytes(), self.tree.size))

    def append_leaf(self, leaf: bytes) -> None:
        self.leaves.append(leaf)
        for tile in self.tree.append(leaf_hash(leaf)):
            self.tiles[tile.level, tile.index] = tile.hashes

    def hand_over(self) -> None:
        hand_over = create_hand_over(self.epoch + 1, ORIGIN, signing_key(self.epoch), signing_key(self.epoch + 1))
        self.append(record(Event.AUDIT_EPOCH, hand_over.to_object()))
        self.epoch += 1

    def checkpoint(self) -> bytes:
        return sign_checkpoint(Checkpoint(ORIGIN, self.tree.size, self.tree.root(), STATE), signing_key(self.epoch))


def sample_log(count: int) -> SampleLog:
    log = SampleLog()
    log.append(record(Event.VAULT_CREATED, {"vkey": str(log.genesis)}, who="user:alice"))
    log.append(*(record(at_s=number) for number in range(1, count)))
    return log


def plain_log(count: int) -> SampleLog:
    """A log of leaves that hold no records: where only hashes matter, and many are needed."""
    log = SampleLog()
    for number in range(count):
        log.append_leaf(f"leaf {number}".encode())
    return log
