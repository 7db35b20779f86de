"""No scope is made where a store is mounted, and none is mounted where a scope is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from securecfg.backends import uri
from securecfg.errors import Conflict
from securecfg.mounts import Mount, Mounts
from securecfg.vault.commits import joint
from securecfg.vault.commits.publisher import Publisher
from securecfg.vault.moves import scopes as scope_moves
from securecfg.vault.scopes import making as scope_making
from securecfg.vault.scopes import scopes
from securecfg.vault.scopes.registry import read_registry
from tests.vault.scope_world import ScopeWorld, bare_world
from tests.vault.scopes.test_scopes_meanwhile import WRITERS, once_before

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.vault.commits.joint import PartChange
    from securecfg.vault.commits.publishing import Plan, Publication

world = bare_world

FOLDER = "corp/"
MOUNTED = f"a store is mounted at `{FOLDER}`"
CHANGED = "at the same moment"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")


def mount(world: ScopeWorld, folder: str = FOLDER) -> None:
    Mounts(world.admin().authority).add(Mount(folder, ("memory:one",)))


def verify_none_made(world: ScopeWorld) -> None:
    registry = read_registry(world.admin().opened)
    assert (registry.scopes, registry.making) == ({}, {})


@pytest.mark.parametrize("path", ["corp", "corp/pay", "corp/pay/deep"])
@pytest.mark.parametrize("change", ["create", "seal", "count"])
def test_no_scope_is_made_in_a_mount(world: ScopeWorld, path: str, change: str) -> None:
    mount(world)
    make: dict[str, Callable[[], object]] = {
        "create": lambda: world.scopes().create(path, read=["pay"]),
        "seal": lambda: world.moves().seal(path, roles=WRITERS),
        "count": lambda: world.moves().count_below(path),
    }
    with pytest.raises(Conflict, match=MOUNTED):
        make[change]()
    verify_none_made(world)


@pytest.mark.parametrize("change", ["create", "seal", "count"])
def test_no_scope_is_made_around_a_mount(world: ScopeWorld, change: str) -> None:
    if change != "create":
        world.admin().write("outer/key", "of the vault")
    mount(world, "outer/corp/")
    make: dict[str, Callable[[], object]] = {
        "create": lambda: world.scopes().create("outer", read=["pay"]),
        "seal": lambda: world.moves().seal("outer", roles=WRITERS),
        "count": lambda: world.moves().count_below("outer"),
    }
    with pytest.raises(Conflict, match="a store is mounted at `outer/corp/`"):
        make[change]()
    verify_none_made(world)


def test_a_scope_beside_a_mount_is_made(world: ScopeWorld) -> None:
    mount(world)
    assert world.scopes().create("corporate", read=["pay"]).path == "corporate/"


@pytest.mark.parametrize("change", ["create", "seal"])
@pytest.mark.parametrize("when", ["begin_making", "plan_made"])
def test_no_scope_is_made_where_a_store_is_mounted_meanwhile(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, change: str, when: str
) -> None:
    world.admin().write("corp/key" if change == "seal" else "key", "of the vault")
    folder = "corp/in/"
    changes: dict[str, tuple[object, Callable[[], object]]] = {
        "create": (scopes, lambda: world.scopes().create("corp", read=["pay"])),
        "seal": (scope_moves, lambda: world.moves().seal("corp", roles=WRITERS)),
    }
    module, make = changes[change]
    with monkeypatch.context() as patched:
        # As where the note was given up, or was not seen.
        patched.setattr(Mounts, "_verify_free", lambda *_: None)
        once_before(patched, module, when, lambda: mount(world, folder))
        with pytest.raises(Conflict, match=f"a store is mounted at `{folder}`"):
            make()
    verify_none_made(world)


def planned_mount(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> Callable[[Publication], Plan]:
    """Return what plans a mount, as a thread has it that shares its publication with others."""
    planners: list[Callable[[Publication], Plan]] = []
    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", lambda _, planner: planners.append(planner))
        mount(world)
    return planners[0]


def test_no_scope_is_begun_in_the_publication_that_mounts_a_store(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = world.admin()
    monkeypatch.setattr(world, "admin", lambda: admin)
    first, real = planned_mount(world, monkeypatch), Publisher.publish

    def publish(publisher: Publisher, planner: Callable[[Publication], Plan], *_: Any) -> object:  # noqa: ANN401 - handed on
        def both(publication: Publication) -> Plan:
            publication.add(first(publication))
            return planner(publication)

        return real(publisher, both)

    monkeypatch.setattr(Publisher, "publish", publish)
    with pytest.raises(Conflict, match=CHANGED):
        scope_making.begin_making(admin.authority, "corp/pay/", {}, bytes(16))


def test_no_scope_is_made_in_the_publication_that_changes_mounts(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, real = planned_mount(world, monkeypatch), joint.publish_together

    def publish_together(changes: Sequence[PartChange], **options: Any) -> None:  # noqa: ANN401 - handed on
        real([changes[0]._replace(planners=[first, *changes[0].planners])], **options)

    monkeypatch.setattr(scopes, "publish_together", publish_together)
    with pytest.raises(Conflict, match=CHANGED):
        world.scopes().create("pay", read=["pay"])
    verify_none_made(world)
    assert world.admin().opened.mounts() == {}
