"""How fast a log is verified: every leaf hashed again, every tile compared, the checkpoint's signature checked.

Run with `python -m benchmarks --only audit_verify`. Beside it the floor (hashing the same leaves and as many nodes,
nothing else) and the rate with every record opened and checked.
"""

from __future__ import annotations

from hashlib import sha256
from secrets import token_bytes
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.rows import alone, interleave, over_floor, repeated
from securecfg.audit import (
    Checkpoint,
    Event,
    Record,
    Source,
    Subject,
    Tree,
    audit_public_key,
    create_sealer,
    leaf_hash,
    open_checkpoint,
    origin_of,
    sign_checkpoint,
    vkey_of,
)
from securecfg.audit.opening import RecordOpener
from securecfg.audit.verify import History, verify_tree
from securecfg.crypto import HYBRID_PRIVATE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Bench, Contender, Row

RECORDS = 100_000
OPENED = 10_000
VAULT_ID = bytes(16)
TO_REACH = 300_000


class SealedLog:
    """Records of the usual size, sealed and signed, in memory."""

    def __init__(self, count: int) -> None:
        signing_key = Ed25519PrivateKey.generate()
        audit_key = token_bytes(HYBRID_PRIVATE_BYTES)
        sealer = create_sealer(VAULT_ID, audit_public_key(audit_key))
        self.vkey = vkey_of(origin_of(VAULT_ID), signing_key)
        self.opener = RecordOpener([audit_key], VAULT_ID, lambda _: sealer.row)
        self.leaves: list[bytes] = []
        self.tiles: dict[tuple[int, int], bytes] = {}
        tree = Tree()
        for index in range(count):
            leaf = sealer.seal(self._record(index).to_bytes(), index)
            self.leaves.append(leaf)
            for tile in tree.append(leaf_hash(leaf)):
                self.tiles[tile.level, tile.index] = tile.hashes
        self.checkpoint = sign_checkpoint(Checkpoint(self.vkey.name, count, tree.root(), bytes(32)), signing_key)

    def _record(self, index: int) -> Record:
        event, obj = (
            (Event.SECRET_READ, {"path": f"payments/service-{index % 500}/api_key", "ver": 3})
            if index
            else (Event.VAULT_CREATED, {"vkey": str(self.vkey)})
        )
        return Record(
            time_ns=1_763_640_000 * 10**9 + index,
            event=event,
            subject=Subject("svc:web", roles=("web",), slot="a1"),
            source=Source(4_711, "shop"),
            obj=obj,
            why=("web-reads-payments",),
        )

    def floor(self) -> None:
        for leaf in self.leaves:
            sha256(b"\x00" + leaf).digest()
        node = bytes(64)
        for _ in self.leaves:
            sha256(b"\x01" + node).digest()

    def verify(self) -> None:
        checkpoint = open_checkpoint(self.checkpoint, [self.vkey])
        verify_tree(checkpoint, self.leaves, lambda level, index: self.tiles.get((level, index)))

    def open(self) -> None:
        history = History(self.vkey)
        for leaf in self.leaves[:OPENED]:
            history.add(leaf, self.opener)


def rows(bench: Bench) -> Iterator[Row]:
    count = min(RECORDS, bench.scale)
    log = SealedLog(count)
    contenders: dict[str, Contender] = {
        "floor": repeated(log.floor, 1),
        "verify": repeated(log.verify, 1),
        "open": repeated(log.open, 1),
    }
    found = interleave(contenders, bench.rounds)
    rates = {
        name: tuple((min(count, OPENED) if name == "open" else count) / each for each in series)
        for name, series in found.items()
    }
    yield alone(f"audit verify, {count:,} records: tree, tiles and signature", rates["verify"], "/s", TO_REACH)
    yield over_floor("audit verify", found["verify"], ("hashing alone", found["floor"]))
    yield alone("audit verify with every record opened and checked", rates["open"], "/s")
