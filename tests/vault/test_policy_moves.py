"""A decision counts only while the policy that made it is in force, whoever changes it in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied
from tests.vault.world import BLIND, GRANTS, READER, ManualClock, grant, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.policy import Decision
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
