"""Moves between parts while other processes compact, write, and bring back what was deleted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import Conflict
from securecfg.store import Space
from securecfg.vault.commits.joint import publish_together
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.index.deltas import FreedRun
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.moves.relocation import Relocation
from tests.vault.scope_world import bare_world, verify_parts
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault import Vault
    from securecfg.vault.commits.publishing import Publication
    from tests.vault.scope_world import ScopeWorld

world = bare_world
ROLES: dict[str, list[str]] = {"read": ["pay"], "write": ["pay"]}


def overtaken(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], object]) -> None:
    """Let something happen before each attempt to publish a move, which is told how many were made before."""
    attempts = itertools.count()

    def publish(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of the step
        act(next(attempts))
        publish_together(*arguments, **options)

    monkeypatch.setattr("securecfg.vault.moves.relocation.publish_together", publish)


def plant(vault: Vault, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Put a secret where a scope is, into what is around it."""
    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.opened.OpenVault._scope_inside", lambda *_: None)
        vault.write("a/b/planted", value)


# --- merging what is empty --------------------------------------------------------------------------------------------


def test_what_takes_out_planted_secrets_is_no_leftover_to_others(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.moves().seal("a", roles=ROLES)
    world.moves().split("a", "a/b", reader=world.identity("pay"))
    plant(world.as_member("pay").scope("a"), monkeypatch, "forged")
    other = world.admin().scope("a").opened
    overtaken(monkeypatch, lambda _: compact(other))
    assert world.moves().merge("a/b", reader=world.identity("pay"))[1].secrets == 0
    assert world.as_member("pay").list() == []


def test_what_is_planted_again_during_a_merge_takes_one_more_round(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.vault.moves.relocation._ROUNDS", 2)
    world.moves().seal("a", roles=ROLES)
    world.moves().split("a", "a/b", reader=world.identity("pay"))
    pay = world.as_member("pay")
    pay.write("a/b/x", "1")
    plant(pay.scope("a"), monkeypatch, "forged")

    def plant_again(attempt: int) -> None:
        if attempt == 0:
            plant(pay.scope("a"), monkeypatch, "forged again")

    overtaken(monkeypatch, plant_again)
    assert world.moves().merge("a/b", reader=world.identity("pay"))[1].secrets == 1
    assert world.as_member("pay").list() == ["a/b/x"]


# --- large moves ------------------------------------------------------------------------------------------------------


def test_what_a_commit_frees_is_what_has_changed_since_the_copy(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().create("both", read=["web"], is_shared=True)
    admin, other = world.admin(), world.admin()
    with admin.batch() as batch:
        for number in range(200):
            batch.write("app/a", str(number))
    overtaken(monkeypatch, lambda attempt: other.write("app/a", f"late {attempt}"))
    plans: list[Plan] = []
    plan_late = Relocation._plan_late_departure

    def planned(move: Relocation, publication: Publication, request_id: str) -> Plan:
        plans.append(plan_late(move, publication, request_id))
        return plans[-1]

    monkeypatch.setattr(Relocation, "_plan_late_departure", planned)
    admin.move("app/a", "both/a")
    assert text_of(admin, "both/a") == "late 2"
    assert 0 < len(plans[-1].freed) < 6  # data key, value and history row of what is new
    verify_parts(world)


def test_what_a_plan_frees_counts_as_bytes_of_its_publication() -> None:
    plan = Plan(freed=[FreedRun(Space.VALUE, number, 1) for number in range(10_000)])
    assert plan.cost()[1] >= 10_000 * 17


def test_a_move_of_many_secrets_needs_few_of_the_stagings_that_a_state_holds(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.vault.commits.staging._BLOCK", 4)
    admin = world.admin()
    with admin.batch() as batch:
        for number in range(100):
            batch.write(f"app/{number}", "1")
    world.moves().seal("app", roles={"read": ["web"]}, is_shared=True)
    assert len(world.admin().scope("app").list()) == 100
    verify_parts(world)


# --- notes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "during", "late"])
def test_what_comes_back_while_it_moves_is_still_exposed_to_who_knew_it(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    world.admin().write("a/b/x", "known to audit")
    world.moves().seal("a", roles=ROLES | {"read": ["pay", "audit"]}, is_shared=True)
    world.scopes().revoke("a", "audit", "list")
    pay = world.as_member("pay")
    pay.write("a/b/busy", "0")
    pay.write("a/b/x", "new")
    pay.delete("a/b/x", 1)
    assert find_exposed(pay.scope("a").authority) == []

    def bring_back(_: int = 0) -> None:
        pay.undelete("a/b/x", 1)
        pay.delete("a/b/x", 2)
        pay.undelete("a/b/x", 1)
        monkeypatch.setattr(pay, "undelete", lambda *_: None)
        monkeypatch.setattr(pay, "delete", lambda *_: None)

    if when == "before":
        bring_back()
    elif when == "during":
        overtaken(monkeypatch, bring_back)
    else:
        overtaken(
            monkeypatch,
            lambda attempt: pay.write("a/b/busy", str(attempt)) if attempt < 2 else bring_back(),
        )
    world.moves().split("a", "a/b", reader=world.identity("pay"))
    member = world.as_member("pay")
    assert text_of(member, "a/b/x") == "known to audit"
    exposed = find_exposed(member.scope("a/b").authority)
    assert [(each.path, each.version, each.label) for each in exposed if each.path == "a/b/x"] == [
        ("a/b/x", 1, "audit")
    ]
    verify_parts(world)


def test_what_a_clock_behind_dates_before_a_departure_is_exposed_though_it_comes_in_the_commit(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else that moves was known to who left, so no note of it would be where the secret goes."""
    world.moves().seal("a", roles=ROLES | {"read": ["pay", "audit"]}, is_shared=True)
    hour_ns = 3_600 * 1_000_000_000
    world.clock.ns += hour_ns
    world.scopes().revoke("a", "audit", "list")
    world.clock.ns += 1
    pay = world.as_member("pay")
    pay.write("a/b/busy", "0")
    assert find_exposed(pay.scope("a").authority) == []

    def write(attempt: int) -> None:
        if attempt == 2:
            world.clock.ns -= hour_ns
        pay.write("a/b/busy", str(attempt))
        if attempt == 2:
            world.clock.ns += hour_ns

    overtaken(monkeypatch, lambda attempt: write(attempt) if attempt <= 2 else None)
    world.moves().split("a", "a/b", reader=world.identity("pay"))
    member = world.as_member("pay")
    assert text_of(member, "a/b/busy") == "2"
    exposed = find_exposed(member.scope("a/b").authority)
    assert [(each.path, each.version, each.label) for each in exposed] == [("a/b/busy", 4, "audit")]
    verify_parts(world)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_whose_secret_goes_over_the_edge_of_a_scope_says_so(world: ScopeWorld) -> None:
    world.scopes().create("both", read=["web"], is_shared=True)
    admin, large = world.admin(), b"x" * 1_000_000
    admin.write("app/large", large)
    _, pieces = admin.stream("app/large")
    next(pieces)
    world.admin().move("app/large", "both/large")
    with pytest.raises(Conflict, match="version 1 of `app/large`") as ended:
        list(pieces)
    assert ended.value.code == "conflict"
    assert admin.read("both/large").field("").reveal() == large
