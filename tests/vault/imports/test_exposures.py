"""Marks on values that stood in the history of a repository hold for as long as somebody may know the current one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.errors import Tampered
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.imports.exposures import Exposures, Mark
from tests.vault.scope_world import bare_world

if TYPE_CHECKING:
    from securecfg import Vault
    from securecfg.vault.commits.publishing import Plan, Publication
    from tests.vault.scope_world import ScopeWorld

world = bare_world


def mark(vault: Vault, path: str, version: int = 1) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    Exposures(vault.authority_over(path)).mark([Mark(path, "", version, "c0ffee", since, ".env")])


def marked(vault: Vault) -> list[str]:
    return [each.path for each in Exposures(vault.authority).unrotated()]


def test_a_value_that_comes_back_after_its_mark_was_closed_is_listed_again(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/a", "first")
    mark(vault, "app/a")
    vault.write("app/a", "second")
    assert marked(vault) == []
    vault.rollback("app/a", to=1)
    assert marked(vault) == ["app/a"]
    vault.write("app/a", "third")
    assert marked(vault) == []
    for version in (4, 3, 2):
        vault.delete("app/a", version=version)
    vault.undelete("app/a", 1)
    assert marked(vault) == ["app/a"]


def test_a_closed_mark_goes_along_and_who_cannot_compare_does_not_see_it(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/a", "first")
    mark(vault, "app/a")
    vault.write("app/a", "second")
    assert marked(vault) == []
    world.scopes().create("both", read=["pay"], list=["audit"], is_shared=True)
    world.admin().move("app/a", "both/a")
    assert marked(world.admin().scope("both")) == []
    world.admin().rollback("both/a", to=1)
    assert marked(world.admin().scope("both")) == ["both/a"]
    assert marked(world.as_member("audit").scope("both")) == []


KNOWN: dict[str, tuple[Any, str, Any]] = {
    "large": ("x" * 100_000, "", "x" * 100_000),
    "bytes for text": ("first", "", b"first"),
    "another field": ({"password": "first", "user": "u"}, "password", {"pass": "first", "user": "u"}),
    "a field of its own": ("first", "", {"password": "first"}),
    "no field any more": ({"password": "first"}, "password", "first"),
    "a large field": ({"password": "first", "key": "k" * 100_000}, "password", {"password": "first"}),
    "a field beside a large one": ({"password": "first"}, "password", {"password": "first", "key": "k" * 100_000}),
}


@pytest.mark.parametrize("what", KNOWN)
def test_a_value_that_only_looks_another_one_is_listed_still(world: ScopeWorld, what: str) -> None:
    vault = world.admin()
    first, field, same = KNOWN[what]
    vault.write("app/a", first)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    Exposures(vault.authority).mark([Mark("app/a", field, 1, "c0ffee", since, ".env")])
    vault.write("app/a", same)
    assert marked(vault) == ["app/a"]
    vault.write("app/a", "y" * 100_000 if what == "large" else {"password": "second", "key": "k" * 100_000})
    assert marked(vault) == []


@pytest.mark.parametrize(("name", "value"), [("version", 0), ("version", -1), ("path", ""), ("path", "a//b")])
def test_a_mark_that_there_cannot_be_is_malformed(world: ScopeWorld, name: str, value: object) -> None:
    vault = world.admin()
    vault.write("app/a", "first")
    mark(vault, "app/a")
    ((path, _),) = vault.opened.entries(b"\x01exposed/", b"\x01exposed0")
    document: dict[str, object] = vault.opened.system_document(path, {})
    content = json.dumps(document | {name: value}).encode()
    new = NewVersion("user:ada", vault.opened.clock.now_ns())

    def plan(publication: Publication) -> Plan:
        plan = Drafts(vault.opened, publication).write(path, Content(KIND_TEXT, len(content), lambda: (content,)), new)
        plan.records = [vault.authority.session().record(Event.SECRET_WRITTEN, {"path": "app/a", "ver": 1})]
        return plan

    vault.opened.publisher.publish(plan)
    with pytest.raises(Tampered, match="exposed/"):
        marked(vault)


def test_another_secret_at_a_path_takes_no_mark_away_from_the_one_that_was_there(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/a", "first")
    mark(vault, "app/a")
    vault.move("app/a", "app/b")
    vault.write("app/a", "another")
    mark(vault, "app/a")
    mark(vault, "app/a")
    assert marked(vault) == ["app/a", "app/b"]
