"""What a vault costs before anything is read: the time to open it, and the memory that it takes."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.rows import Goal, Row, alone, interleave
from benchmarks.vaults import SERVICE, scale_vault
from securecfg import Vault
from securecfg.keys import open_provider, unlock
from securecfg.store import open_sqlite
from securecfg.vault.state.replica import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Bench, Contender
    from benchmarks.vaults import Place

OPENS = 20
READ = 1_000
RESIDENT = """
import os, sys
page = os.sysconf("SC_PAGE_SIZE")
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * page
stages = [resident()]
import securecfg
stages.append(resident())
from securecfg import Vault
vault_path, key, principal, count = sys.argv[1:]
vault = Vault.open(vault_path, key=key, principal=principal)
stages.append(resident())
from benchmarks.vaults import path_of
for number in range(0, int(count), max(int(count) // 1000, 1)):
    vault.opened.entry(path_of(number).encode())
stages.append(resident())
print(*stages)
"""


def rows(bench: Bench) -> Iterator[Row]:
    for size in bench.scales:
        yield opened(bench, size, scale_vault(bench, size))
    yield from memory(bench)


def opened(bench: Bench, size: int, place: Place) -> Row:
    provider = open_provider(place.key)

    def whole() -> float:
        seconds = 0.0
        for _ in range(OPENS):
            started = time.perf_counter()
            vault = Vault.open(place.vault, key=provider, principal=SERVICE)
            seconds += time.perf_counter() - started
            vault.close()
        return seconds / OPENS

    store = open_sqlite(place.vault, read_only=True)
    header, slots = read_header(store)
    store.close()

    def key() -> float:
        started = time.perf_counter()
        for _ in range(OPENS):
            unlock(header, slots, provider)
        return (time.perf_counter() - started) / OPENS

    contenders: dict[str, Contender] = {"whole": whole, "key": key}
    found = interleave(contenders, bench.rounds)
    figure = tuple(each - of_key for each, of_key in zip(found["whole"], found["key"], strict=True))
    goal = Goal(2e-3, is_ceiling=True) if size in {bench.scale, 1_000_000} else None
    name = f"open, {size:,} secrets, less the key"
    return Row(name, found["whole"], "s", "key file and unlock slot", found["key"], figure, "s", goal)


def memory(bench: Bench) -> Iterator[Row]:
    stages: dict[int, list[tuple[int, ...]]] = {size: [] for size in bench.scales}
    for _ in range(bench.rounds):
        for size in bench.scales:
            place = scale_vault(bench, size)
            arguments = [sys.executable, "-c", RESIDENT, str(place.vault), place.key, SERVICE, str(size)]
            output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
            stages[size].append(tuple(map(int, output.split())))
    everything = [each for found in stages.values() for each in found]
    yield alone("memory of `import securecfg`", tuple(float(each[1] - each[0]) for each in everything), "B", 5e6)
    for size, found in stages.items():
        yield alone(f"resident with an open vault, {size:,} secrets", tuple(float(each[2]) for each in found), "B")
        name = f"resident after {min(READ, size):,} look-ups all over the index, {size:,} secrets"
        yield alone(name, tuple(float(each[3]) for each in found), "B")
