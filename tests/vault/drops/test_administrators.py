"""Drop boxes under several administrators, and under those who come after others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import RollbackSuspected, SecurecfgError, SignaturesMissing
from securecfg.store import Space
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.administrators.signing_words import to_words
from securecfg.vault.drops.dropping import DropState
from securecfg.vault.drops.orders import ORDER_PATH, order_row_of, parse_order
from tests.vault.administrators.test_administrators import ALL, PEOPLE, changes_of, hand_over, scopes_of
from tests.vault.crash_steps import crashes, dying
from tests.vault.drops.drop_world import box_world, drop_world, put_rows, role_key
from tests.vault.world import text_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vault.scope_world import ScopeWorld

world = box_world


def drops(world: ScopeWorld, name: str = "web") -> bool:
    """Return whether what somebody drops becomes a version."""
    receipt = world.as_member(name).drop(f"pay/{name}", "x")
    return world.as_member("pay").find_drop(receipt.id).state is DropState.COLLECTED


def order_row(world: ScopeWorld) -> tuple[int, bytes]:
    """Return the row of the order that `web` finds."""
    opened = world.admin().scope("pay").opened
    number = order_row_of(role_key(world, "web").public_key, opened.replica.vault_id)
    return number, opened.store.get(Space.GRANT, number) or b""


def test_who_drops_follows_to_the_new_administrators(world: ScopeWorld) -> None:
    early = world.as_member("web")
    hand_over(world)
    assert drops(world)
    early.drop("pay/early", "by a handle that was open before")
    assert text_of(world.as_member("pay"), "pay/early") == "by a handle that was open before"
    changes_of(world).set(PEOPLE.named("carol", "dave"), 2)
    early.drop("pay/early", "2")
    assert drops(world)
    changes_of(world).set([], 1)
    assert drops(world)


def test_a_machine_that_sees_the_vault_first_follows_too(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hand_over(world)
    changes_of(world).set(PEOPLE.named("carol", "dave"), 2)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert drops(world)


def test_it_takes_the_signatures_of_as_many_to_let_a_role_drop(world: ScopeWorld) -> None:
    hand_over(world)
    with pytest.raises(SignaturesMissing):
        scopes_of(world, "alice").grant("pay", "audit", "drop")
    scopes_of(world, "alice", "bob").grant("pay", "audit", "drop")
    assert drops(world, "audit")
    with pytest.raises(SignaturesMissing):
        scopes_of(world, "carol").revoke("pay", "audit", "drop")
    scopes_of(world, "bob", "carol").revoke("pay", "audit", "drop")
    assert drops(world)
    opened = world.admin().scope("pay").opened
    signed = parse_order(opened.system_bytes(ORDER_PATH) or b"")
    known = {identity.verifier for identity in PEOPLE.named("bob", "carol")}
    assert {key for key, _ in signed.signatures} == known


def test_a_member_who_comes_later_is_let_in_by_the_word_of_the_new_administrators(world: ScopeWorld) -> None:
    hand_over(world)
    with pytest.raises(SignaturesMissing):
        world.person("web", "late")
    with pytest.raises(SecurecfgError):
        world.as_member("late")
    scopes_of(world, "alice", "carol").propagate()
    world.as_member("web")
    assert drops(world, "late")


def test_an_order_of_former_administrators_is_refused(world: ScopeWorld) -> None:
    number, row = order_row(world)
    hand_over(world)
    web = world.as_member("web")
    put_rows(world, [(number, row)])
    with pytest.raises(RollbackSuspected):
        web.drop("pay/x", "x")
    with pytest.raises(RollbackSuspected, match="former administrators"):
        world.as_member("web")


def test_what_administrators_sign_of_an_order_is_shown_from_its_bytes(world: ScopeWorld) -> None:
    opened = world.admin().scope("pay").opened
    order = parse_order(opened.system_bytes(ORDER_PATH) or b"").order
    words = to_words(order.message)
    assert words[0] == "drop order, revision 1, of the scope `pay/`"
    assert order.vault_id.hex() in words[1]
    assert order.scope_id.hex() in words[1]
    other = to_words(order._replace(public_key=b"\0" + order.public_key[1:]).message)
    assert other[:2] == words[:2]
    assert other != words


@pytest.mark.parametrize("change", ["set", "rotate"])
def test_wherever_a_succession_dies_whoever_may_drop_does(tmp_path: Path, change: str) -> None:
    (tmp_path / "origin").mkdir()
    origin = drop_world(tmp_path / "origin")
    assert drops(origin)
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            changes = AdministratorChanges(dying(world, crash.changes).authority, ALL)
            try:
                changes.set(PEOPLE.named("alice", "bob"), 2) if change == "set" else changes.rotate()
            except SecurecfgError:
                is_done = False
                world.clock.advance(timedelta(hours=2))
            else:
                is_done = True
            assert drops(world)
            changes_of(world).resume()
            world.clock.advance(timedelta(seconds=1))
            assert drops(world)
            if is_done:
                break
    assert crash.changes >= 2
