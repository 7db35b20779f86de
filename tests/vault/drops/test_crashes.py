"""Wherever dropping, taking in or a change of the right to drop dies, each value is there once or not at all."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from securecfg.errors import CommitUnknown, SecurecfgError, StoreFailed
from securecfg.store import open_sqlite
from securecfg.vault.drops.dropping import DropState
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.verification import verify_vault
from tests.vault.crash_steps import Attempt, DyingStore, crashes, dying
from tests.vault.drops.drop_world import drop_world, rows_waiting
from tests.vault.world import text_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.store import Store
    from tests.vault.scope_world import ScopeWorld

pytestmark = pytest.mark.no_cover


def open_dying(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, name: str, changes: int) -> None:
    """Open a vault as a member over a store that dies after some changes, which an opening survives."""

    def open_store(path: str | os.PathLike[str], *, read_only: bool = False) -> Store:
        return cast("Store", DyingStore(open_sqlite(path, read_only=read_only), [changes]))

    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.scopes.member_opening.open_sqlite", open_store)
        with suppress(SecurecfgError):
            world.as_member(name)


def test_wherever_taking_in_dies_each_value_becomes_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "origin").mkdir()
    origin = drop_world(tmp_path / "origin")
    web = origin.as_member("web")
    for number in range(3):
        web.drop("pay/key", str(number))
    web.drop("pay/other", "x")
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            open_dying(world, monkeypatch, "pay", crash.changes)
            is_done = not rows_waiting(world)
            pay = world.as_member("pay")
            assert [text_of(pay, "pay/key", at=number) for number in range(1, 4)] == list("012")
            assert [info.version for info in pay.history("pay/key")] == [3, 2, 1]
            assert [info.version for info in pay.history("pay/other")] == [1]
            assert rows_waiting(world) == []
            assert verify_vault(pay.opened).problems == []
            if is_done:
                break
    assert crash.changes >= 4


class _Failing:
    """A store whose commits fail, before or after they are durable."""

    def __init__(self, store: Store, *, is_durable: bool) -> None:
        self._store = store
        self._is_durable = is_durable

    def commit(self, *args: object, **options: object) -> None:
        if self._is_durable:
            self._store.commit(*args, **options)  # type: ignore[arg-type]  # those of a store
            message = "the store failed while committing"
            raise CommitUnknown(message, request_id="")
        message = "the machine has lost power"
        raise StoreFailed(message)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_drop_that_fails_is_there_or_not_and_its_receipt_tells(tmp_path: Path, *, is_durable: bool) -> None:
    world = drop_world(tmp_path)
    web = world.as_member("web")
    box = web._own.get("pay/x")  # type: ignore[attr-defined]  # of a drop vault
    box._store = _Failing(box._store, is_durable=is_durable)
    if is_durable:
        with pytest.raises(CommitUnknown) as unknown:
            web.drop("pay/x", "1")
        receipt = unknown.value.request_id
        assert "secret receipt" in (unknown.value.hint or "")
        assert world.as_member("web").find_drop(receipt).state is DropState.WAITING
        assert world.as_member("pay").find_drop(receipt).version == 1
    else:
        with pytest.raises(StoreFailed):
            web.drop("pay/x", "1")
        assert world.as_member("pay").list() == []
    world.as_member("web").drop("pay/x", "2")
    assert text_of(world.as_member("pay"), "pay/x") == "2"
    world.close()


CHANGES: dict[str, Callable[[Scopes], object]] = {
    "create": lambda scopes: scopes.create("new", read=["pay"], write=["pay"], drop=["web"]),
    "grant-drop": lambda scopes: scopes.grant("pay", "audit", "drop"),
    "revoke-drop": lambda scopes: scopes.revoke("pay", "web", "drop"),
    "revoke-read": lambda scopes: scopes.revoke("pay", "pay2", "read"),
    "revoke-list": lambda scopes: scopes.revoke("pay", "pay2", "list"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_wherever_a_change_of_rights_dies_whoever_may_drop_does(tmp_path: Path, change: str) -> None:
    (tmp_path / "origin").mkdir()
    origin = drop_world(tmp_path / "origin", ("pay", "web", "audit", "pay2"))
    origin.scopes().grant("pay", "pay2", "read")
    before = origin.as_member("web").drop("pay/before", "x").id
    origin.clock.advance(timedelta(seconds=1))
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                CHANGES[change](Scopes(dying(world, crash.changes).authority))
            verify_drops(world, before)
            if attempt.is_done:
                break
            CHANGES[change](world.scopes())
            verify_drops(world, before)
    assert crash.changes >= 1


def verify_drops(world: ScopeWorld, before: str) -> None:
    """Check that who may drop by the charter does, under the key in use, and nobody else, and what waited is there."""
    world.clock.advance(timedelta(seconds=1))
    info = world.scopes().show("pay")
    receipts = []
    for role in ("web", "audit"):
        if "drop" in info.roles.get(role, ()):
            receipts.append(world.as_member(role).drop(f"pay/{role}", role).id)
            assert int.from_bytes(rows_waiting(world)[-1][1][2:6]) == info.value_epochs - 1
        else:
            with pytest.raises(SecurecfgError):
                world.as_member(role).drop(f"pay/{role}", role)
    pay = world.as_member("pay")
    assert [pay.find_drop(receipt).state for receipt in receipts] == [DropState.COLLECTED] * len(receipts)
    found = pay.find_drop(before)
    assert (found.state, found.path) in {(DropState.COLLECTED, "pay/before"), (DropState.REFUSED, "pay/before")}
    assert found.state is DropState.COLLECTED or "web" not in info.roles
    assert verify_vault(pay.scope("pay").opened).problems == []
