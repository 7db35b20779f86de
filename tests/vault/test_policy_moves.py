"""A decision counts only while the policy that made it is in force, whoever changes it in the middle."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.errors import AccessDenied
from securecfg.store import Space
from securecfg.vault.commits.publishing import Plan
from tests.vault.world import BLIND, GRANTS, READER, ManualClock, grant, interrupted, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.policy import Decision
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.session import Session
    from securecfg.vault.vault import Vault
    from tests.vault.world import World

MOVERS = GRANTS.replace('actions = ["read", "write"]', 'actions = ["read", "write", "delete"]')
ALWAYS = 'when = { hours = "00:00-23:59" }'


def after_next_decision(vault: Vault, happens: Callable[[], object]) -> None:
    """Do something right after the next decision of a handle."""
    authority = vault.authority
    require = authority.require

    def interrupted(action: str, path: str) -> tuple[Session, Decision]:
        decided = require(action, path)
        authority.require = require  # type: ignore[method-assign]  # once
        happens()
        return decided

    authority.require = interrupted  # type: ignore[method-assign]  # between two steps


def test_a_read_that_was_decided_under_an_older_policy_is_decided_again(world: World, vault: Vault) -> None:
    grant(vault)
    vault.write("app/x", "v")
    reader = world.open(READER)

    def revoke() -> None:
        grant(vault, "")
        reader.opened.refresh()  # as another thread of the process does

    after_next_decision(reader, revoke)
    with pytest.raises(AccessDenied):
        reader.read("app/x")


def test_who_reads_the_policy_and_who_publishes_do_not_wait_for_each_other(world: World) -> None:
    world.create().close()
    other = world.open()
    grant(other)
    vault, store = interrupted(world)
    vault.write("app/x", "1")
    grant(other, GRANTS + "\n")
    vault.opened.refresh()
    is_read, is_planned = threading.Event(), threading.Event()

    def in_the_middle() -> None:
        grant(other, GRANTS + "\n\n")  # the row that the reader looked up is gone: it has to refresh
        is_read.set()
        assert is_planned.wait(20)
        other.write("app/x", "2")

    def publish() -> None:
        assert is_read.wait(20)

        def plan(_: Publication) -> Plan:
            is_planned.set()
            time.sleep(0.1)  # until the reader waits for the lock that is held here
            return Plan(records=[vault.authority.session().record(Event.AUDIT_READ, {})])

        vault.opened.publisher.publish(plan)

    store.interrupt("get", Space.HISTORY, in_the_middle)
    threads = [threading.Thread(target=call, daemon=True) for call in (vault.authority.session, publish)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_all_rights_of_a_change_are_held_under_one_policy(world: World, vault: Vault) -> None:
    grant(vault, MOVERS)
    vault.write("app/x", "v")
    blind = world.open(BLIND)
    after_next_decision(blind, lambda: grant(vault, GRANTS))
    with pytest.raises(AccessDenied):
        blind.move("app/x", "app/y")
    assert vault.list() == ["app/x"]


def test_a_clock_that_is_behind_does_not_become_right_by_what_it_publishes(world: World, vault: Vault) -> None:
    grant(vault, GRANTS.replace('paths = ["app/**"]\n[roles.blind]', f'paths = ["app/**"]\n{ALWAYS}\n[roles.blind]'))
    vault.write("app/x", "v")
    slow = world.open(READER, clock=ManualClock(world.clock.ns - 3_600 * 10**9))
    for _ in range(3):
        with pytest.raises(AccessDenied):
            slow.read("app/x")
    assert text_of(world.open(READER), "app/x") == "v"
