"""What is asked of a store is decided and recorded under one policy, and nothing is used that another one forbids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.errors import AccessDenied, StoreBusy
from securecfg.mounts import recording
from securecfg.mounts.sides import StoreSide
from securecfg.testing.memory_backend import ALL
from tests.mounts.memory import CAPABILITIES
from tests.mounts.test_mounted import events, revealed
from tests.vault.world import BLIND, GRANTS, READER, grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.mounts.sides import Standing
    from securecfg.vault import Vault
    from tests.mounts.conftest import MountWorld

FOLDER = "app/"
NOBODY = GRANTS.replace(READER, "svc:nobody").replace(BLIND, "svc:nobody")


def side_of(vault: Vault, mounts: MountWorld) -> StoreSide:
    return StoreSide(vault, FOLDER, mounts.handle("one"), "read")


def policies(mounts: MountWorld, *texts: str) -> list[Callable[[], object]]:
    """Return what puts each of some policies in force, from another handle."""
    other = mounts.open()
    return [lambda text=text: grant(other, text) for text in texts]  # type: ignore[misc]  # of each turn


def look(side: StoreSide) -> Standing:
    return side.look(["a"])["a"]


@pytest.fixture
def reader(mounts: MountWorld) -> Vault:
    grant(mounts.create())
    mounts.handle("one").write("a", "1")
    return mounts.open(READER)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_is_forbidden_while_the_store_is_read_is_not_used(reader: Vault, mounts: MountWorld) -> None:
    mounts.store().fail_next(*policies(mounts, NOBODY))
    assert isinstance(look(side_of(reader, mounts)).found, AccessDenied)
    assert events(mounts.open(), Event.MOUNT_READ) == []


def test_a_version_that_is_forbidden_while_the_store_is_read_is_not_used(reader: Vault, mounts: MountWorld) -> None:
    version = str(mounts.handle("one").versions("a")[0].id)
    mounts.store().fail_next(*policies(mounts, NOBODY))
    with pytest.raises(AccessDenied):
        side_of(reader, mounts).read_version("a", version)
    assert events(mounts.open(), Event.MOUNT_READ) == []


def test_what_another_policy_allows_too_is_read_again_and_recorded_once(reader: Vault, mounts: MountWorld) -> None:
    mounts.store().fail_next(*policies(mounts, GRANTS + "\n"))
    found = look(side_of(reader, mounts)).found
    assert revealed(found) == "1"  # type: ignore[arg-type]  # that is checked
    (record,) = events(mounts.open(), Event.MOUNT_READ)
    assert record.why


@pytest.mark.parametrize("read", ["current", "version"])
def test_a_policy_that_always_changes_ends_a_read(reader: Vault, mounts: MountWorld, read: str) -> None:
    version = str(mounts.handle("one").versions("a")[0].id)
    (change,) = policies(mounts, GRANTS)
    mounts.store().fail(change)
    side = side_of(reader, mounts)
    with pytest.raises(StoreBusy):
        look(side) if read == "current" else side.read_version("a", version)
    assert events(mounts.open(), Event.MOUNT_READ) == []


# --- changing ---------------------------------------------------------------------------------------------------------


def between(monkeypatch: pytest.MonkeyPatch, *happens: Callable[[], object]) -> None:
    """Do things between a decision and its record, one before each of the next records."""
    real, left = recording.publish_under, list(happens)

    def late(*args: Any) -> None:  # noqa: ANN401 - handed on
        if left:
            left.pop(0)()
        real(*args)

    monkeypatch.setattr(recording, "publish_under", late)


def test_a_change_that_is_forbidden_before_it_is_recorded_is_not_made(
    mounts: MountWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts.mount(FOLDER)
    between(monkeypatch, *policies(mounts, NOBODY))
    with pytest.raises(AccessDenied):
        mounts.open(BLIND).write(f"{FOLDER}a", "1")
    assert mounts.store().secrets == {}
    assert events(mounts.open(), Event.MOUNT_CHANGING) == []


def test_a_change_that_another_policy_allows_too_is_made_once(
    mounts: MountWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts.mount(FOLDER)
    between(monkeypatch, *policies(mounts, GRANTS + "\n"))
    mounts.open(BLIND).write(f"{FOLDER}a", "1")
    assert len(mounts.store().secrets["a"].contents) == 1
    assert len(events(mounts.open(), Event.MOUNT_CHANGING)) == 1


def test_a_policy_that_always_changes_ends_a_change(mounts: MountWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts.mount(FOLDER)
    between(monkeypatch, *policies(mounts, *[GRANTS] * recording.ATTEMPTS))
    with pytest.raises(StoreBusy):
        mounts.open(BLIND).write(f"{FOLDER}a", "1")
    assert mounts.store().secrets == {}


def test_a_store_side_writes_under_the_policy_of_its_record(
    reader: Vault, mounts: MountWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    CAPABILITIES["one"] = ALL._replace(creates=False, compares=False)
    side = side_of(reader, mounts)
    version = look(side).found
    between(monkeypatch, *policies(mounts, NOBODY))
    with pytest.raises(AccessDenied):
        side.write("b", version, 0, None)  # type: ignore[arg-type]  # as it was found
    assert list(mounts.store().secrets) == ["a"]
