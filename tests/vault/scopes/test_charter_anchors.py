"""A machine that has seen a charter takes no older one, whatever the log of the scope says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.errors import RollbackSuspected
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.paths import CHARTER_PATH
from securecfg.vault.scopes.founding import charter_content
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.state.anchor import AnchorFile
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.scopes.test_attacks import lawless
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.scopes.charters import SignedCharter
    from tests.vault.scope_world import ScopeWorld


def make_world(folder: Path) -> ScopeWorld:
    """A scope in which `web` may write, and `pay` only read."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay", "web"], write=["web"])
    world.as_member("web").write("pay/key", "of web")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def put_back(world: ScopeWorld, name: str, old: SignedCharter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an older charter, which its administrators signed, back in force, as somebody whom it calls a writer can."""
    attacker = world.as_member(name)
    opened = attacker.opened

    def plan(publication: Publication) -> Plan:
        new = NewVersion(attacker.principal, world.clock.now_ns())
        plan = Plan(charter=old)
        plan.join(Drafts(opened, publication).write(CHARTER_PATH, charter_content(old), new))
        obj = {"path": "pay/", "rev": old.charter.serial, "digest": old.charter.digest.hex()}
        plan.records = [attacker.authority.session().record(Event.SCOPE_CHANGED, obj)]
        return plan

    with monkeypatch.context() as patched:
        lawless(patched)
        with pytest.raises(RollbackSuspected, match="went back"):
            opened.publisher.publish(plan)


def signed_charter(world: ScopeWorld) -> SignedCharter:
    seat = world.as_member("pay").opened.replica.seat
    assert seat is not None
    assert seat.charter is not None
    return seat.charter


def test_a_former_writer_cannot_put_back_the_charter_that_made_him_one(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = signed_charter(world)
    world.scopes().revoke("pay", "web", "write")
    assert text_of(world.as_member("pay"), "pay/key") == "of web"
    put_back(world, "web", old, monkeypatch)
    world.close()
    for open_it in (lambda: world.as_member("pay"), lambda: world.admin().list("pay/")):
        with pytest.raises(RollbackSuspected, match="charter of the scope went back"):
            open_it()


def test_a_machine_that_has_not_seen_the_newer_charter_believes_the_older(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the anchor is for: without it the log alone does not tell."""
    old = signed_charter(world)
    world.scopes().revoke("pay", "web", "write")
    put_back(world, "web", old, monkeypatch)
    world.close()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert charter_of(world.as_member("pay").opened).serial == 1


def test_the_anchor_of_a_scope_names_its_charter_and_that_of_a_vault_none(world: ScopeWorld) -> None:
    pay = world.as_member("pay")
    charter = charter_of(pay.opened)
    anchor = AnchorFile(pay.opened.replica.vault_id, world.path).read()
    assert anchor is not None
    assert (anchor.mark.serial, anchor.mark.charter) == (charter.serial, charter.digest)
    whole = AnchorFile(world.admin().opened.replica.vault_id, world.path).read()
    assert whole is not None
    assert (whole.mark.serial, whole.mark.charter) == (0, bytes(32))


def test_a_charter_of_the_same_serial_or_the_next_that_does_not_follow_is_refused(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "audit", "list")
    seat = world.as_member("pay").opened.replica.seat
    assert seat is not None
    assert seat.charter is not None
    charter = seat.charter.charter
    assert charter.serial == 2
    seat.verify_continues(2, charter.digest)
    seat.verify_continues(1, charter.previous)
    for serial, digest in ((2, charter.previous), (1, charter.digest), (3, charter.digest), (3, bytes(32))):
        with pytest.raises(RollbackSuspected):
            seat.verify_continues(serial, digest)
