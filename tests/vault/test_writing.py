"""A decision holds for the state that the change is published on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied, SecretDestroyed, StoreBusy
from securecfg.store import Space
from securecfg.vault.values import SecretVersion
from tests.vault.world import BLIND, GRANTS, READER, World, grant, interrupted

if TYPE_CHECKING:
    from securecfg.policy import Decision
    from securecfg.vault.session import Session
    from securecfg.vault.vault import Vault

NOTHING = "[roles.blind]\nmembers = []\n"


def revoke_after_the_decision(vault: Vault, writer: Vault) -> None:
    """Take the right away between the decision and the publication, once."""
    require = writer._writes._require

    def require_then_revoke(rights: object) -> object:
        stamp = require(rights)  # type: ignore[arg-type]  # passed through
        writer._writes._require = require  # type: ignore[method-assign]  # once
        grant(vault, NOTHING)
        return stamp

    writer._writes._require = require_then_revoke  # type: ignore[method-assign,assignment]  # an event after a step


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_right_that_is_taken_away_before_the_publication_is_gone(world: World, vault: Vault, size: int) -> None:
    grant(vault)
    writer = world.open(BLIND)
    assert writer.write("app/a", b"1" * size) == 1
    revoke_after_the_decision(vault, writer)
    with pytest.raises(AccessDenied):
        writer.write("app/a", b"2" * size)
    assert [info.version for info in vault.history("app/a")] == [1]


def test_a_right_that_is_taken_away_before_the_record_of_a_read_is_gone(world: World, vault: Vault) -> None:
    grant(vault)
    vault.write("app/a", "1")
    reader, store = interrupted(world, BLIND)
    reader.write("app/b", "1")
    store.interrupt("get", Space.HISTORY, lambda: grant(vault, NOTHING))
    with pytest.raises(AccessDenied):
        reader.read("app/a")


def test_many_reads_end_where_the_policy_never_stands_still(world: World, vault: Vault) -> None:
    grant(vault)
    vault.write("app/a", "1")
    reader = world.open(READER)
    require = reader.authority.require
    turns = 0

    def require_then_move(action: str, path: str) -> tuple[Session, Decision]:
        nonlocal turns
        turns += 1
        decided = require(action, path)
        grant(vault, f"{GRANTS}\n# {turns}")
        reader.opened.refresh()
        return decided

    reader.authority.require = require_then_move  # type: ignore[method-assign]  # an event after each decision
    with pytest.raises(StoreBusy) as refused:
        reader.read_many([("app/a", None)])
    assert refused.value.code == "store-busy"
    assert turns < 20
    del reader.authority.require
    (found,) = reader.read_many([("app/a", None)])
    assert isinstance(found, SecretVersion)


def test_one_of_many_that_changes_meanwhile_is_read_anew(world: World, vault: Vault) -> None:
    for path in ("app/a", "app/b"):
        vault.write(path, "1")
    reader, store = interrupted(world)
    reader.list()

    def replace() -> None:
        vault.write("app/a", "2")
        vault.destroy("app/a", 1)
        vault.destroy("app/b", 1)

    store.interrupt("get", Space.DEK, replace)
    first, second = reader.read_many([("app/a", None), ("app/b", 1)])
    assert isinstance(first, SecretVersion)
    assert first.field("").reveal() == "2"
    assert isinstance(second, SecretDestroyed)
