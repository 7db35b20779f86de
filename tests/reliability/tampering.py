"""A vault in memory with every kind of row, what can be done to its rows, and what a reader then sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import IntegrityError, SecurecfgError, UnsupportedFormat, WrongKey
from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.store import Space
from securecfg.store.memory import MemoryBacking, MemoryStore
from securecfg.vault.administration import found
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.creation import create_rows, open_rows
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity
from securecfg.vault.values import as_number
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.world import ADMIN, ManualClock, grant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.vault.state.anchor import Mark

Key = tuple[int, int]
HEAD: Key = (-1, 0)
REFUSALS = (IntegrityError, WrongKey, UnsupportedFormat)

# What a reader saw: the value of each version, or the code of the error instead.
Seen = dict[tuple[str, int], bytes | str]


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a store at one moment, the head under `HEAD`."""

    rows: dict[Key, bytes]

    @classmethod
    def of(cls, backing: MemoryBacking) -> Rows:
        """Copy a store."""
        return cls({**backing.part(0), HEAD: backing.heads.get(0, b"")})

    def opened(self) -> MemoryStore:
        """Return a store that holds a copy of them."""
        backing = MemoryBacking()
        backing.part(0).update((key, row) for key, row in self.rows.items() if key != HEAD)
        if HEAD in self.rows:
            backing.heads[0] = self.rows[HEAD]
        return MemoryStore(backing)

    def replaced(self, changes: dict[Key, bytes | None]) -> Rows:
        """Return other rows: some replaced, and those with None removed."""
        changed = {**self.rows, **{key: row or b"" for key, row in changes.items()}}
        return Rows({key: row for key, row in changed.items() if key not in changes or changes[key] is not None})


class Sample(NamedTuple):
    """A vault, what it looked like a while before, and what is in it."""

    key: str
    clock_ns: int
    rows: Rows
    older: Rows
    mark: Mark
    values: Seen


def make_sample(folder: Path, *, is_small: bool = False) -> Sample:
    """Make a vault in which every kind of row occurs; a small one has few of them."""
    generate_key_file(folder / "key")
    key = f"file:{folder / 'key'}"
    clock = ManualClock()
    backing = MemoryBacking()
    store = MemoryStore(backing)
    create_rows(store, [open_provider(key)], clock.now_ns())
    opened, slot = open_rows(store, open_provider(key), None, clock, Options())
    vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    found(opened, vault.authority.identity)
    grant(vault)
    vault.write("app/a", "first")
    vault.write("app/b", {"user": "u", "password": "p"})
    if not is_small:
        _fill(vault)
    compact(opened)
    older = Rows.of(backing)
    vault.write("app/a", "second", metadata={"m": "1"})
    vault.write("app/c", b"third")
    vault.delete("app/b")
    if not is_small:
        vault.write("app/large", b"L" * 300_000)
        vault.move("app/moved", "app/m")
        vault.destroy("app/many", 2)
    vault.authority.flush()
    rows = Rows.of(backing)
    sample = Sample(key, clock.ns, rows, older, opened.mark(), {})
    return sample._replace(values=see(sample, rows, versions_of(vault)))


def _fill(vault: Vault) -> None:
    with vault.batch() as batch:
        for number in range(70):
            batch.write("app/many", str(number))
        for number in range(110):
            batch.write(f"bulk/{number:03}", str(number))
    for _ in range(3):
        # Enough records for a full tile.
        handle = Vault(vault.opened, Identity(ADMIN))
        handle.read_many([(f"bulk/{number:03}", None) for number in range(110)])
    vault.write("app/large", b"l" * 200_000)
    vault.write("app/moved", "m")
    with vault.batch() as batch:
        for number in range(40):
            batch.write(f"app/second-segment/{number}" * 20, "s")


def versions_of(vault: Vault) -> list[tuple[str, int]]:
    """Return the path and number of every version that can be read."""
    places = []
    for path, _ in vault.opened.entries(b"\x02", None):
        name = path.decode()
        numbers = [as_number(info.version) for info in vault.history(name) if info.state == "live"]
        # Of a thousand alike, some.
        places += [(name, number) for number in (numbers[:2] + numbers[-2:] if len(numbers) > 4 else numbers)]
    return places


def see(sample: Sample, rows: Rows, places: list[tuple[str, int]]) -> Seen:
    """Open a vault, compare it with the anchor and read every place; an error stands as its code.

    Raises:
        SecurecfgError: It does not open.
        AssertionError: An error is none of those that say that something was altered.
    """
    clock = ManualClock(sample.clock_ns)
    opened, slot = open_rows(rows.opened(), open_provider(sample.key), None, clock, Options())
    opened.verify_mark(sample.mark)
    vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    seen: Seen = {}
    for path, number in places:
        try:
            content = b"".join(vault.stream(path, at=number)[1])
        except REFUSALS as error:
            seen[path, number] = error.code
        else:
            seen[path, number] = content
    return seen


def is_noticed_by_reading(sample: Sample, rows: Rows) -> bool:
    """Return whether opening a vault and reading everything ends in a refusal somewhere.

    Raises:
        AssertionError: A value is another one than was written.
    """
    try:
        seen = see(sample, rows, list(sample.values))
    except REFUSALS:
        return True
    wrong = {place for place, value in seen.items() if isinstance(value, bytes) and value != sample.values[place]}
    assert not wrong, f"wrong values: {wrong}"
    return any(isinstance(value, str) for value in seen.values())


def is_noticed_by_verification(sample: Sample, rows: Rows) -> bool:
    """Return whether verifying the vault and its log finds something, leftovers included."""
    try:
        opened, _ = open_rows(
            rows.opened(), open_provider(sample.key), None, ManualClock(sample.clock_ns), Options(read_only=True)
        )
        vault = Vault(opened, Identity(ADMIN))
        vault.log.verify()
        for entry in vault.log._entries(0, None):
            vault.log.items(entry.record)
        result = verify_vault(opened)
    except SecurecfgError:
        return True
    return bool(result.problems or result.orphans)


def alterations(rows: Rows, older: Rows, key: Key) -> Iterator[tuple[str, Rows]]:
    """Yield everything that is done to one row, with its name."""
    row = rows.rows[key]
    for name, at in (("first", 0), ("second", 1), ("middle", len(row) // 2), ("last", len(row) - 1)):
        yield f"flip {name}", rows.replaced({key: row[:at] + bytes((row[at] ^ 1,)) + row[at + 1 :]})
    yield "truncate", rows.replaced({key: row[:-1]})
    yield "truncate to half", rows.replaced({key: row[: len(row) // 2]})
    yield "empty", rows.replaced({key: b""})
    yield "extend", rows.replaced({key: row + b"\x00"})
    yield "delete", rows.replaced({key: None})
    siblings = sorted(other for other in rows.rows if other[0] == key[0] and other != key)
    if siblings:
        sibling = next((other for other in siblings if other > key), siblings[0])
        yield "swap", rows.replaced({key: rows.rows[sibling], sibling: row})
        yield "overwrite with sibling", rows.replaced({key: rows.rows[sibling]})
    if older.rows.get(key, row) != row:
        yield "replay", rows.replaced({key: older.rows[key]})
    if key != HEAD:
        yield "duplicate", rows.replaced({(key[0], 2**62): row})


def name_of(key: Key) -> str:
    """Return what a row is called."""
    if key == HEAD:
        return "head"
    if key[0] == Space.META:
        return {1: "header", 2: "keyring", 3: "manifest"}.get(key[1], "slot")
    return Space(key[0]).name.lower()


def flip_bytes(sample: Sample, step: int) -> Counter[str]:
    """Flip bytes of every row and hold each outcome to the promise; return how many were noticed by what."""
    noticed: Counter[str] = Counter()
    for key, row in sorted(sample.rows.rows.items()):
        for at in range(key[1] % step, len(row), step):
            flipped = bytearray(row)
            flipped[at] ^= 1 << (at % 8)
            rows = sample.rows.replaced({key: bytes(flipped)})
            if is_noticed_by_reading(sample, rows):
                noticed[f"{name_of(key)} by reading"] += 1
            else:
                assert is_noticed_by_verification(sample, rows), f"byte {at} of {name_of(key)} {key}"
                noticed[f"{name_of(key)} by verification"] += 1
    return noticed
