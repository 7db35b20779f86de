"""A backup opened by the text of format.md, section 13, alone."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.decoder.ciphers import chunked_open, context, derive, hpke_open, same, siv_open
from tests.decoder.decoder import DEK, GRANT, HEAD, LOG, META, TILE, Rows
from tests.decoder.keys import NO_SCOPE, Slot, parse_slot
from tests.decoder.octets import Octets, u8, u16, u32, u64
from tests.decoder.refusals import BackupRefused, ChainRefused, SlotRefused, demand, refusing
from tests.decoder.tree import leaf_hash, tiles_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.decoder.keys import Key

ROWS, INVENTORY, END = 1, 2, 3
ROW_OF_CHUNKS = 16 * (16_384 + 16)
SPACES = range(11)


class Recipient(NamedTuple):
    slot: Slot
    row: bytes
    sealed_key: bytes


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part, cut where its lengths say: section 13.1."""

    header: bytes
    vault_id: bytes
    chain_id: bytes
    number: int
    previous: bytes
    recipients: tuple[Recipient, ...]
    messages: dict[int, bytes]
    digest: bytes


class Line(NamedTuple):
    vault_id: bytes
    path: str
    head_digest: bytes
    part: int
    grants_digest: bytes
    grants_part: int
    groups: dict[tuple[int, int], list[int]]
    marks: list[tuple[int, range, bytes]]


@dataclass(frozen=True, slots=True)
class State:
    """What a part says: section 13.2."""

    taken: int
    root: bytes
    heads: dict[int, bytes]
    rows: list[tuple[int, int, int, bytes]]
    inventory: dict[int, Line]


def decode_backup(folder: Path, key: Key, part: int = 0, partition: int = 0) -> tuple[Rows, State]:
    """Return the rows of the vault, or of a partition, in the state of a part, or of the last one: section 13.4."""
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))
    with refusing(ChainRefused):
        demand(names == [f"{number:06}.part" for number in range(1, len(names) + 1)], "a gap")
    files = [parse_part((folder / name).read_bytes()) for name in names][: part or None]
    first = files[0]
    for number, file in enumerate(files, start=1):
        with refusing(ChainRefused):
            demand((file.vault_id, file.chain_id, file.number) == (first.vault_id, first.chain_id, number), "another")
            demand([each.row for each in file.recipients] == [each.row for each in first.recipients], "other slots")
    slot_key = _unlock(first, key)
    states = [_open(file, slot_key) for file in files]
    for number, file in enumerate(files, start=1):
        with refusing(ChainRefused):
            demand(file.previous == (files[number - 2].digest if number > 1 else bytes(32)), "another one before")
    return _merge(states, partition), states[-1]


def parse_part(data: bytes) -> PartFile:
    """Cut a file: section 13.1."""
    octets = Octets(data)
    with refusing(BackupRefused, "header"):
        demand(octets.take(4) == b"SCFB" and octets.u16() == 1 and octets.u8() == 1 and octets.u8() == 0, "another")
        vault_id, chain_id, number = octets.take(16), octets.take(16), octets.u32()
        octets.u64()
        previous = octets.take(32)
        recipients = []
        for _ in range(octets.u16()):
            row = octets.str16()
            recipients.append(Recipient(parse_slot(row), row, octets.take(1168)))
        header = data[: octets.at]
        demand(data[-4:] == b"SCFE", "no end")
        lengths = Octets(data[-28:-4])
        messages = {message: octets.take(lengths.u64()) for message in (ROWS, INVENTORY, END)}
        demand(octets.at == len(data) - 28, "other lengths")
    return PartFile(
        header, vault_id, chain_id, number, previous, tuple(recipients), messages, sha256(data).digest()
    )  # fmt: skip


def _unlock(file: PartFile, key: Key) -> tuple[bytes, bytes]:
    """Return the id of the slot that a key opens, and its key: section 4.2, with chain_id for vault_id."""
    for slot, _, _ in file.recipients:
        if slot.kind != key.kind:
            continue
        fields = slot.slot_id + u8(slot.kind) + u16(len(slot.params)) + slot.params
        aad = context(0x10, file.chain_id, NO_SCOPE, 0, fields)
        material = derive(key.kek(slot.params, file.chain_id), "securecfg/1/slot", aad, 96)
        if same(material[64:], slot.commitment):
            return slot.slot_id, siv_open(material[:64], slot.sealed, aad)
    reason = "no slot that this key opens"
    raise SlotRefused(reason)


def _open(file: PartFile, slot: tuple[bytes, bytes]) -> State:
    slot_id, slot_key = slot
    with refusing(BackupRefused):
        sealed = next(each.sealed_key for each in file.recipients if each.slot.slot_id == slot_id)
        private = derive(slot_key, "securecfg/1/slot-key", file.chain_id + slot_id, 96)
        part_key = hpke_open(private, sealed, b"securecfg/1/backup\0" + file.chain_id + slot_id + u32(file.number))
        end = Octets(_message(file, END, part_key))
        taken, root, inventory_key, count = end.u64(), end.take(32), end.take(32), end.u64()
        rows_digest, inventory_digest = end.take(32), end.take(32)
        heads = [(end.u32(), end.var32()) for _ in range(end.u32())]
        end.end()
        demand(same(sha256(file.messages[ROWS]).digest(), rows_digest), "other rows")
        demand(same(sha256(file.messages[INVENTORY]).digest(), inventory_digest), "another inventory")
        rows = list(_rows(_message(file, ROWS, part_key)))
        demand(len(rows) == count, f"{len(rows)} rows instead of {count}")
        inventory = _inventory(_message(file, INVENTORY, inventory_key))
        named = [(number, line.head_digest) for number, line in inventory.items() if line.part == file.number]
        demand(named == [(number, sha256(head).digest()) for number, head in heads], "other heads")
        demand(next(iter(inventory)) == 0 and inventory[0].vault_id == file.vault_id, "another vault")
    return State(taken, root, dict(heads), rows, inventory)


def _message(file: PartFile, number: int, parent: bytes) -> bytes:
    key = derive(parent, "securecfg/1/backup", file.vault_id + file.chain_id + u32(file.number), 32)
    fields = file.chain_id + u32(file.number) + u8(number) + sha256(file.header).digest()
    info = context(0x18, file.vault_id, NO_SCOPE, 0, fields)
    sealed = file.messages[number]
    cuts = [0, *range(56 + ROW_OF_CHUNKS, len(sealed) + 1, ROW_OF_CHUNKS), len(sealed)]
    pieces = [sealed[start:end] for start, end in pairwise(cuts)]
    return b"".join(chunked_open(key, pieces, info))


def _rows(plain: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    octets = Octets(plain)
    partition = 0
    while octets.at < len(plain):
        space, number = octets.u8(), octets.u64()
        row = octets.var32()
        if space == 0xFF:
            demand(not row and number < 2**31, "another mark")
            partition = number
            continue
        demand(space in SPACES and space != TILE, f"a row of space {space}")
        yield partition, space, number, row


def _inventory(plain: bytes) -> dict[int, Line]:
    octets = Octets(plain)
    found: dict[int, Line] = {}
    for _ in range(octets.u32()):
        number = octets.u32()
        demand(number > max(found, default=-1), "partitions that do not ascend")
        fields = octets.take(16), octets.str16().decode(), octets.take(32), octets.u32(), octets.take(32), octets.u32()
        marks: list[tuple[int, range, bytes]] = []
        found[number] = Line(*fields, _groups(octets, marks if number else None), marks)
    octets.end()
    return found


def _groups(octets: Octets, marks: list[tuple[int, range, bytes]] | None) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for _ in range(octets.u16()):
        group = (octets.u8(), octets.u32())
        demand(group not in found and (group[0] == DEK or group[1] == 0), "a group that cannot be")
        demand(group[0] in SPACES and group[0] not in {META, TILE, GRANT}, "a space that has no groups")
        ids: list[int] = []
        at = 0
        for _ in range(octets.u64()):
            gap, length = _leb128(octets), _leb128(octets)
            demand(length > 0 and (gap > 0 or not ids), "a run that should be one with that before")
            run = range(at + gap, at + gap + length)
            ids += run
            at += gap + length
            if marks is not None:
                marks += [(group[0], run[first : first + 64], octets.take(8)) for first in range(0, length, 64)]
        found[group] = ids
    return found


def _leb128(octets: Octets) -> int:
    number = shift = 0
    while True:
        byte = octets.u8()
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            demand(byte > 0 or shift == 7, "a needless byte")
            return number
        demand(shift < 70, "a number of more than ten bytes")


def _merge(states: Sequence[State], partition: int) -> Rows:
    """Take each row from the newest part that has it, and META and GRANT from the parts that are named for them."""
    line = states[-1].inventory[partition]
    with refusing(ChainRefused):
        head = states[line.part - 1].heads.get(partition, b"")
        demand(sha256(head).digest() == line.head_digest, "another head")
    rows: Rows = {space: {} for space in SPACES} | {HEAD: {1: head}}
    for number, state in enumerate(states, start=1):
        for place, space, id_, row in state.rows:
            if place == partition and number == {META: line.part, GRANT: line.grants_part}.get(space, number):
                rows[space][id_] = row
    grants = sha256(b"".join(u64(id_) + u32(len(row)) + row for id_, row in sorted(rows[GRANT].items()))).digest()
    wanted: dict[int, set[int]] = {}
    for (space, _), ids in line.groups.items():
        wanted.setdefault(space, set()).update(ids)
    with refusing(ChainRefused):
        demand(grants == line.grants_digest, "other grants")
        for space in SPACES:
            if space not in {META, GRANT}:
                known = {id_: row for id_, row in rows[space].items() if id_ in wanted.get(space, set())}
                demand(set(known) == wanted.get(space, set()), "a row that no part has")
                rows[space] = known
        for space, run, mark in line.marks:
            digests = b"".join(sha256(rows[space][id_]).digest() for id_ in run)
            demand(sha256(digests).digest()[:8] == mark, "a row that is another one than was there")
    rows[TILE] = tiles_of([leaf_hash(row) for _, row in sorted(rows[LOG].items())])
    return rows
