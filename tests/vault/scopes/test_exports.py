"""Leaving a vault that has sealed scopes: what the key at hand opens is given out, and the rest is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.errors import AccessDenied, ScopeSealed
from securecfg.policy import Document
from securecfg.vault.closed import Closed
from securecfg.vault.exporting import export_secrets, find_exportable
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.scopes.test_making import without_head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vault.scope_world import ScopeWorld

_EXPORTS = """
[roles.leaver]
members = ["svc:pay", "svc:web", "svc:audit"]
[[roles.leaver.grants]]
actions = ["export", "read", "list", "write"]
paths = ["**"]
"""


def make_world(folder: Path) -> ScopeWorld:
    """A shared scope, one that its members write, and one that the vault's key lists and does not read."""
    world = scope_world(folder)
    world.admin().administration.apply_policy([Document("exports.toml", "grants", _EXPORTS)])
    scopes = world.scopes()
    scopes.create("web", read=["web"], write=["web"])
    scopes.create("pay", read=["pay"])
    scopes.create("both", read=["pay", "web"], is_shared=True)
    scopes.grant("pay", "audit", "list")
    world.as_member("web").write("web/key", "of web")
    for path in ("pay/key", "pay/other", "both/key", "app/key"):
        world.admin().write(path, f"of {path}")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def test_a_key_of_the_vault_gives_out_what_it_reads_and_names_the_rest(world: ScopeWorld) -> None:
    exported = export_secrets(world.admin())
    assert [version.path for version in exported.versions] == ["app/key", "both/key"]
    assert {left.path: type(left.error) for left in exported.left_out} == dict.fromkeys(
        ["pay/key", "pay/other", "web/key"], ScopeSealed
    )
    assert exported.closed == Closed()
    paths, refused = find_exportable(world.admin())
    assert (paths, [left.path for left in refused]) == (["app/key", "both/key"], ["pay/key", "pay/other", "web/key"])


def test_an_identity_gives_out_what_its_roles_read_and_says_that_there_is_more(world: ScopeWorld) -> None:
    exported = export_secrets(world.as_member("web"))
    assert [version.path for version in exported.versions] == ["both/key", "web/key"]
    assert exported.left_out == []
    assert exported.closed == Closed(is_whole=True, scope_count=1)
    assert export_secrets(world.as_member("web"), "web/").closed == Closed()
    assert export_secrets(world.as_member("web"), "w").closed == Closed(is_whole=True, scope_count=1)
    pay = world.as_member("pay")
    assert [version.path for version in export_secrets(pay).versions] == ["both/key", "pay/key", "pay/other"]
    records = [entry.record for entry in world.admin().scope("pay").log.records()]
    reads = [record.obj["path"] for record in records if record.event is Event.SECRET_READ]
    assert reads == ["pay/key", "pay/other"]


def test_who_may_only_list_gives_out_nothing_and_names_all(world: ScopeWorld) -> None:
    exported = export_secrets(world.as_member("audit"))
    assert exported.versions == []
    assert [(left.path, type(left.error)) for left in exported.left_out] == [
        ("pay/key", ScopeSealed),
        ("pay/other", ScopeSealed),
    ]
    assert exported.closed == Closed(is_whole=True, scope_count=2)


def test_what_policy_denies_in_a_scope_is_left_out_and_in_its_log(world: ScopeWorld) -> None:
    text = _EXPORTS.replace('"export", ', "")
    world.admin().administration.apply_policy([Document("exports.toml", "grants", text)])
    member = world.as_member("pay")
    exported = export_secrets(member, "pay/")
    assert exported.versions == []
    assert {type(left.error) for left in exported.left_out} == {AccessDenied}
    events = [entry.record.event for entry in world.admin().scope("pay").log.records()]
    assert events.count(Event.ACCESS_DENIED) == 1


def test_a_scope_that_is_not_there_is_named(world: ScopeWorld) -> None:
    world.scopes().create("new", read=["web"])
    registry = world.admin().opened.scopes()
    assert registry is not None
    with without_head(world, registry.scopes["new/"].number):
        exported = export_secrets(world.admin())
        assert exported.closed == Closed(is_whole=False, scope_count=1, scopes=("new/",))
        assert export_secrets(world.admin(), "app/").closed == Closed()
