"""Sealed scopes: what a read in one costs, and what others in the same file cost those who open one of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.rows import Row, alone, interleave, over_floor, per_second
from benchmarks.vaults import ADMIN, create
from securecfg import Vault
from securecfg.files import create_private
from securecfg.keys.identity import UNPROTECTED, IdentityFile, PrivateHalf, format_identity_file, generate_identity
from securecfg.policy import Document
from securecfg.vault.scopes.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rows import Bench
    from benchmarks.vaults import Place

COUNTS = (1, 100, 1_000)
READS = 20_000
OPENINGS = 5
GRANTS = 10
ROLES = """
[roles.mine]
[[roles.mine.grants]]
actions = ["read", "list"]
paths = ["**"]
[roles.others]
[[roles.others.grants]]
actions = ["read", "list"]
paths = ["**"]
"""


def rows(bench: Bench) -> Iterator[Row]:
    counts = COUNTS if bench.scale >= COUNTS[-1] else COUNTS[:1]
    place = create(bench.folder / "scopes", 0)
    with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
        vault.administration.apply_policy([Document("roles.toml", "grants", ROLES)])
        mine = add_member(vault, place.folder, "mine")
        add_member(vault, place.folder, "others")
        scopes = Scopes(vault.authority)
        scopes.create("sealed", read=["mine"])
        scopes.create("shared", read=["mine"], is_shared=True)
    with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
        vault.write("sealed/a", "a value of the usual length, 38 bytes")
        vault.write("shared/a", "a value of the usual length, 38 bytes")
    made = 2
    for count in counts:
        with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
            for number in range(made, count):
                Scopes(vault.authority).create(f"others/{number}", read=["others"])
            made = max(made, count)
        yield from reads(bench, place, mine, count)
    yield grants(bench, place)


def add_member(vault: Vault, folder: Path, role: str) -> str:
    """Make an identity and a role of it, and return its key URI."""
    identity, seed = generate_identity(f"svc:{role}")
    file = folder / f"{role}.identity"
    create_private(file, format_identity_file(IdentityFile(identity, PrivateHalf(UNPROTECTED, seed))).encode())
    vault.administration.add_member(role, f"svc:{role}", identity=identity)
    return f"identity:{file}"


def reads(bench: Bench, place: Place, key: str, count: int) -> Iterator[Row]:
    repeats = bench.repeats(READS)

    def read(vault: Vault, path: str) -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            vault.read(path)
        return (time.perf_counter() - started) / repeats

    def opening() -> float:
        started = time.perf_counter()
        for _ in range(OPENINGS):
            Vault.open(place.vault, key=key, principal="").close()
        return (time.perf_counter() - started) / OPENINGS

    with Vault.open(place.vault, key=key, principal="") as vault:
        found = interleave(
            {"sealed": lambda: read(vault, "sealed/a"), "shared": lambda: read(vault, "shared/a")}, bench.rounds
        )
    name = f"{count:,} scopes in the file" if count > 1 else "two scopes in the file"
    sealed = f"read in a sealed scope, warm, {name}"
    yield over_floor(sealed, found["sealed"], ("in a shared scope", found["shared"]), 1.1)
    yield alone(
        f"open with an identity of two scopes, {name}", interleave({"open": opening}, bench.rounds)["open"], "s"
    )


def grants(bench: Bench, place: Place) -> Row:
    """Measure how many grants an administrator makes in a second, each with its charter and commit."""

    def grant() -> float:
        with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
            scopes = Scopes(vault.authority)
            started = time.perf_counter()
            for _ in range(GRANTS):
                scopes.grant("sealed", "others", "list")
                scopes.revoke("sealed", "others", "list")
            return (time.perf_counter() - started) / (2 * GRANTS)

    return alone(
        "grants and revocations of a role", per_second(interleave({"grant": grant}, bench.rounds)["grant"]), "/s"
    )
