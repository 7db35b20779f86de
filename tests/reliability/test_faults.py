"""Every call ends in success, in an error after which certainly nothing was done, or in `CommitUnknown`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from securecfg.errors import (
    AuditUnavailable,
    CommitUnknown,
    DestroyPending,
    SecurecfgError,
    StoreBusy,
    StoreFailed,
)
from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.store import create_sqlite, open_sqlite
from securecfg.testing.faults import Fault, FaultyVfs
from securecfg.vault.administration import found
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.creation import create_rows, open_rows
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from tests.reliability.snapshots import Snapshot, snapshot
from tests.vault.world import ADMIN, ManualClock, grant, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE = b"large" * 30_000
NOTHING_DONE = (StoreFailed, StoreBusy, AuditUnavailable)
LIMIT = 60
# Every call of the file system is made to fail where this is set; otherwise the first ones, then every seventh.
IS_EXHAUSTIVE = "SECURECFG_EXHAUSTIVE" in os.environ
NUMBERS = range(1, LIMIT) if IS_EXHAUSTIVE else (1, 2, 3, 4, 6, *range(9, LIMIT, 7))


class Prepared(NamedTuple):
    """A vault that is closed, and how to open it."""

    path: Path
    key: str
    clock: ManualClock


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("faults")
    generate_key_file(folder / "key")
    key = f"file:{folder / 'key'}"
    clock = ManualClock()
    store = create_sqlite(folder / "a.vault")
    create_rows(store, [open_provider(key)], clock.now_ns())
    opened, slot = open_rows(store, open_provider(key), None, clock, Options())
    vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    found(opened, vault.authority.identity)
    for number in range(8):
        vault.write(f"app/{number}", str(number))
    vault.write("app/large", LARGE)
    vault.close()
    return Prepared(folder / "a.vault", key, clock)


def open_at(prepared: Prepared, path: Path, vfs: str | None = None) -> Vault:
    store = open_sqlite(path, vfs=vfs, busy_timeout_s=0.5)
    try:
        opened, slot = open_rows(store, open_provider(prepared.key), None, prepared.clock, Options())
    except BaseException:
        store.close()
        raise
    return Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))


def batch(vault: Vault) -> None:
    with vault.batch() as changes:
        for number in range(30):
            changes.write(f"app/{number % 10}", f"batch {number}")


CALLS: dict[str, Callable[[Vault], object]] = {
    "write": lambda vault: vault.write("app/1", "new"),
    "write large": lambda vault: vault.write("app/1", LARGE),
    "batch": batch,
    "delete": lambda vault: vault.delete("app/1"),
    "destroy": lambda vault: vault.destroy("app/1", 1),
    "move": lambda vault: vault.move("app/large", "app/other"),
    "policy": grant,
    "read": lambda vault: text_of(vault, "app/1"),
    "compact": lambda vault: compact(vault.opened),
}
FAULTS = {
    "open once": Fault("open", 1),
    "read once": Fault("read", 1),
    "read for ever": Fault("read", 1, is_lasting=True),
    "write once": Fault("write", 1),
    "write for ever": Fault("write", 1, is_lasting=True),
    "write after effect": Fault("write", 1, is_after=True),
    "full once": Fault("write", 1, error="FULL"),
    "full for ever": Fault("write", 1, error="FULL", is_lasting=True),
    "sync once": Fault("sync", 1),
    "sync for ever": Fault("sync", 1, is_lasting=True),
    "sync after effect": Fault("sync", 1, is_after=True),
    "truncate once": Fault("truncate", 1),
}
# Without reading or recording, nothing that a person sees changes.
WITHOUT_CHANGE = {"read", "compact"}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_meets_a_fault_tells_the_truth(prepared: Prepared, tmp_path: Path, call: str, fault: Fault) -> None:
    outcomes: dict[str, int] = {}
    for nth in NUMBERS:
        path = tmp_path / f"{nth}.vault"
        shutil.copy(prepared.path, path)
        strikes, outcome = strike(prepared, path, call, fault, nth)
        path.unlink()
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if not strikes:
            break
    print(call, fault.call, outcomes)


def strike(prepared: Prepared, path: Path, call: str, fault: Fault, nth: int) -> tuple[bool, str]:
    """Let the n-th call of the file system fail, and hold what is left to what was said."""
    error: SecurecfgError | None = None
    with FaultyVfs() as vfs:
        vault = open_at(prepared, path, vfs.vfs_name)
        before = snapshot(vault.opened)
        vfs.plant(Fault(fault.call, nth, fault.error, fault.is_lasting, fault.is_after))
        try:
            CALLS[call](vault)
        except SecurecfgError as raised:
            error = raised
        has_struck = vfs.has_struck
        vfs.heal()
        # What the same handle sees now is what it told.
        if not isinstance(error, CommitUnknown):
            verify_outcome(call, error, before, snapshot(vault.opened))
        assert vault.write("app/after", "x") == 1
        vault.close()
    vault = open_at(prepared, path)
    after = snapshot(vault.opened)
    verify_outcome(call, error, before, without_probe(after))
    if isinstance(error, CommitUnknown) and call not in WITHOUT_CHANGE:
        outcome = vault.resolve(error.request_id)
        assert (outcome is not None) == (without_probe(after) != before), "resolved wrongly"
    vault.log.verify()
    vault.close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    return has_struck, error.code if error else "done"


def without_probe(state: Snapshot) -> Snapshot:
    return tuple(item for item in state if item[0] != b"app/after")


def verify_outcome(call: str, error: SecurecfgError | None, before: Snapshot, after: Snapshot) -> None:
    if isinstance(error, NOTHING_DONE) or call in WITHOUT_CHANGE:
        assert after == before, f"{error!r}, but something changed"
        assert error is None or isinstance(error, (*NOTHING_DONE, CommitUnknown)), repr(error)
    elif error is None or isinstance(error, DestroyPending):
        assert after != before, f"{error!r}, but nothing changed"
    else:
        assert isinstance(error, CommitUnknown), repr(error)
        assert error.request_id, "an ambiguous commit cannot be resolved"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_opening_that_meets_a_fault_fails_or_opens_the_whole_vault(
    prepared: Prepared, tmp_path: Path, fault: Fault
) -> None:
    path = tmp_path / "a.vault"
    shutil.copy(prepared.path, path)
    vault = open_at(prepared, path)
    whole = snapshot(vault.opened)
    vault.close()
    for nth in NUMBERS:
        with FaultyVfs() as vfs:
            vfs.plant(Fault(fault.call, nth, fault.error, fault.is_lasting, fault.is_after))
            try:
                vault = open_at(prepared, path, vfs.vfs_name)
            except (StoreFailed, StoreBusy):
                pass
            else:
                vfs.heal()
                assert snapshot(vault.opened) == whole
                vault.close()
            has_struck = vfs.has_struck
        vault = open_at(prepared, path)
        assert snapshot(vault.opened) == whole
        vault.close()
        if not has_struck:
            break
