"""A mount goes to another store with everything in it, and goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.errors import AccessDenied, BackendUnavailable, CommitUnknown, Conflict, InvalidBackendUri, Unsupported
from securecfg.mounts.table import find_mount, read_mounts
from securecfg.mounts.transfer import Rehousing, Transfer
from securecfg.testing.memory_backend import ALL
from tests.backends.test_handle import UNAVAILABLE
from tests.mounts.memory import CAPABILITIES
from tests.mounts.test_migration import FOLDER, silent
from tests.mounts.test_mounted import events, revealed
from tests.mounts.test_sync_run import held, lines
from tests.mounts.test_sync_run import silent as no_progress
from tests.vault.world import READER, grant

if TYPE_CHECKING:
    from securecfg.vault import Vault
    from tests.mounts.conftest import MountWorld

NEW = ("memory:new",)


def rehouse(vault: Vault, *, takes_versions: bool = False) -> tuple[int, list[tuple[str, str]]]:
    way = Rehousing(vault, FOLDER, NEW, silent, takes_versions=takes_versions)
    return way.run(way.survey())


def backends(mounts: MountWorld) -> tuple[str, ...]:
    return find_mount(read_mounts(mounts.open().opened), FOLDER).backends


def test_who_may_not_manage_mounts_or_read_all_of_it_moves_nothing(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    vault.write(f"{FOLDER}hidden", "1")
    with pytest.raises(AccessDenied):
        rehouse(mounts.open(READER))
    grant(
        vault,
        '[roles.r]\nmembers = ["svc:reader"]\n[[roles.r.grants]]\nactions = ["mount.manage"]\n'
        f'[[roles.r.grants]]\nactions = ["read", "list"]\npaths = ["{FOLDER}a"]\n',
    )
    with pytest.raises(AccessDenied):
        rehouse(mounts.open(READER))
    assert (mounts.store("new").secrets, backends(mounts)) == ({}, ("memory:one",))


def test_what_is_no_store_or_keeps_no_versions_is_refused(mounts: MountWorld) -> None:
    vault = mounts.mount()
    with pytest.raises(InvalidBackendUri):
        Rehousing(vault, FOLDER, ("nothing:new",), silent, takes_versions=False)
    CAPABILITIES["new"] = ALL._replace(keeps_versions=False)
    with pytest.raises(Unsupported):
        Rehousing(vault, FOLDER, NEW, silent, takes_versions=True)


@pytest.mark.parametrize("takes_versions", [False, True])
def test_nothing_there_is_written_over_and_then_nothing_is_written(mounts: MountWorld, *, takes_versions: bool) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    vault.write(f"{FOLDER}b", "1")
    mounts.handle("new").write("b", "theirs")
    with pytest.raises(Conflict):
        rehouse(vault, takes_versions=takes_versions)
    assert list(mounts.store("new").secrets) == ["b"]
    assert backends(mounts) == ("memory:one",)


def test_everything_is_in_the_new_store_before_it_is_mounted(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1", metadata={"owner": "pay"})
    vault.write(f"{FOLDER}b", {"user": "web"})
    assert rehouse(vault) == (2, [])
    assert backends(mounts) == NEW
    mounts.store("one").fail(UNAVAILABLE)
    assert held(vault, FOLDER) == {"a": "1", "b": {"user": "web"}}
    assert dict(vault.read(f"{FOLDER}a").metadata) == {"owner": "pay"}
    changes = [record.obj for record in events(vault, Event.MOUNT_CHANGED) if record.obj["store"] == "memory new"]
    assert [(obj["path"], obj["action"]) for obj in changes] == [(f"{FOLDER}a", "write"), (f"{FOLDER}b", "write")]
    (finished,) = events(vault, Event.SYNC_FINISHED)
    assert finished.obj == {"path": FOLDER, "to": "memory new", "count": 2}


def test_earlier_versions_and_labels_go_first_and_an_interrupted_one_is_continued(mounts: MountWorld) -> None:
    vault = mounts.mount()
    ids = [str(vault.write(f"{FOLDER}a", str(number))) for number in range(4)]
    vault.label(f"{FOLDER}a", "blue", ids[1])
    store = mounts.store("new")
    # The listing of the plan, the look before the versions, and two of them.
    store.fail_next(None, None, None, None, lambda: store.fail(UNAVAILABLE))
    with pytest.raises((BackendUnavailable, CommitUnknown)):
        rehouse(vault, takes_versions=True)
    store.fail(None)
    store._faults.clear()
    assert 0 < len(store.secrets["a"].contents) < 4
    assert backends(mounts) == ("memory:one",)
    assert rehouse(mounts.open(), takes_versions=True)[0] == 1
    assert list(store.secrets["a"].contents.values()) == ["0", "1", "2", "3"]
    assert backends(mounts) == NEW
    opened = mounts.open()
    assert revealed(opened.read(f"{FOLDER}a")) == "3"
    assert len(opened.history(f"{FOLDER}a")) == 4
    assert revealed(opened.read(f"{FOLDER}a", at="blue")) == "1"


def test_labels_that_an_interrupted_one_has_not_set_are_set(mounts: MountWorld) -> None:
    vault = mounts.mount()
    version = vault.write(f"{FOLDER}a", "1")
    vault.label(f"{FOLDER}a", "blue", version)
    mounts.handle("new").write("a", "1")
    assert rehouse(vault, takes_versions=True) == (1, [])
    assert revealed(mounts.open().read(f"{FOLDER}a", at="blue")) == "1"


def test_what_goes_out_and_in_is_decided_for_each_path(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/in/a", "1")
    reader = mounts.open(READER)
    out = Transfer.out_of(reader, "app/in/", "memory:new", replaces=False)
    assert lines(out.plan(no_progress)) == {"a": "unreadable"}
    mounts.handle("new").write("b", "2")
    into = Transfer.into(reader, "memory:new", "app/in/", replaces=False)
    assert lines(into.plan(no_progress)) == {"a": "only-there", "b": "unreadable"}
    denied = [record.obj["action"] for record in events(vault, Event.ACCESS_DENIED)]
    assert denied == ["export", "write"]


def test_a_pull_records_what_it_took_and_a_second_one_takes_nothing(mounts: MountWorld) -> None:
    vault = mounts.mount()
    mounts.handle("new").write("a", "1", metadata={"owner": "pay"})
    for count in (1, 0):
        into = Transfer.into(vault, "memory:new", "app/in/", replaces=False)
        outcome = into.run(into.plan(no_progress), no_progress)
        assert (len(outcome.done), outcome.moved, outcome.failed) == (count, [], [])
    assert vault.read("app/in/a").version == 1
    assert dict(vault.read("app/in/a").metadata) == {"owner": "pay"}
    assert {record.obj["store"] for record in events(vault, Event.MOUNT_READ)} == {"memory new"}
