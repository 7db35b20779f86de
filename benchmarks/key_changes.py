"""Changing keys: data keys wrapped anew, whatever the size of the values, and a new root for all slots."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from benchmarks.rows import Row, alone, interleave, over_floor, per_second
from benchmarks.vaults import ADMIN, create, path_of, scale_vault
from securecfg import Vault
from securecfg.crypto import KeyWrap, generate_key
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.keys.changes import KeyChanges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Bench
    from benchmarks.vaults import Place

SECRETS = 100_000
LARGE_SECRETS = 5_000
LARGE_BYTES = 16 * 1024
FLOOR = 20_000
GOAL = 170_000


def rows(bench: Bench) -> Iterator[Row]:
    small = _copy(bench, scale_vault(bench, min(SECRETS, bench.scale)), "small")
    large = create(bench.folder / "large", 0)
    with Vault.open(large.vault, key=large.key, principal=ADMIN) as vault:
        with vault.batch() as batch:
            for number in range(bench.repeats(LARGE_SECRETS)):
                batch.write(path_of(number), b"x" * LARGE_BYTES)
        compact(vault.opened)
    with (
        Vault.open(small.vault, key=small.key, principal=ADMIN) as ours,
        Vault.open(large.vault, key=large.key, principal=ADMIN) as theirs,
    ):
        yield from wrapping(bench, ours, theirs)
        yield root(bench, ours)


def _copy(bench: Bench, place: Place, name: str) -> Place:
    folder = bench.folder / name
    shutil.copytree(place.folder, folder)
    return type(place)(folder, place.count)


def wrapping(bench: Bench, small: Vault, large: Vault) -> Iterator[Row]:
    def ours(vault: Vault) -> float:
        changes = KeyChanges(vault.authority)
        changes.begin_scope_epoch()
        started = time.perf_counter()
        count = changes.rewrap()
        return (time.perf_counter() - started) / count

    def floor() -> float:
        """Open and seal a key with the cipher, with nothing around it."""
        wrap, key, ctx = KeyWrap(generate_key() + generate_key()), generate_key(), bytes(58)
        sealed = wrap.wrap(key, ctx)
        started = time.perf_counter()
        for _ in range(FLOOR):
            wrap.seal_siv(wrap.open_siv(sealed, [ctx]), [ctx])
        return (time.perf_counter() - started) / FLOOR

    found = interleave({"small": lambda: ours(small), "large": lambda: ours(large), "floor": floor}, bench.rounds)
    yield alone("data keys wrapped anew, values of 38 bytes", per_second(found["small"]), "/s", GOAL)
    yield over_floor("data keys wrapped anew", found["small"], ("AES-SIV open and seal alone", found["floor"]))
    yield over_floor(
        f"data keys wrapped anew, values of {LARGE_BYTES // 1024} KiB",
        found["large"],
        ("values of 38 bytes", found["small"]),
    )


def root(bench: Bench, vault: Vault) -> Row:
    def rotate() -> float:
        started = time.perf_counter()
        KeyChanges(vault.authority).rotate_root()
        return time.perf_counter() - started

    return alone("a new root, one slot", interleave({"root": rotate}, bench.rounds)["root"], "s")
