"""One change of several parts: all of it or nothing, also where the store does not say which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from securecfg.audit import Event
from securecfg.errors import CommitUnknown, HeadMoved, SecretNotFound, StoreBusy, Unsupported
from securecfg.keys import open_provider
from securecfg.store import MemoryStore, PartCommit, Put, Space, open_sqlite
from securecfg.vault.commits.joint import PartChange, publish_together
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.unfinished import UnfinishedPart, erase_rows
from securecfg.vault.creation import open_rows
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.opened import Options
from securecfg.vault.scopes.scoped import ScopedVault
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from securecfg.store import Store
    from securecfg.vault.commits.publishing import Publication
    from tests.vault.scope_world import ScopeWorld


def make_world(folder: Path) -> ScopeWorld:
    world = scope_world(folder)
    world.scopes().create("both", read=["web"], is_shared=True)
    for number in range(3):
        world.admin().write(f"app/{number}", str(number))
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


class DoubtfulStore:
    """A store that does not say whether it has committed in several parts."""

    def __init__(self, store: Store, *, commits: bool) -> None:
        self._store = store
        self._commits = commits

    def partition(self, number: int) -> Store:
        return cast("Store", DoubtfulStore(self._store.partition(number), commits=self._commits))

    def commit_parts(self, commits: Sequence[PartCommit]) -> None:
        if self._commits:
            self._store.commit_parts(commits)
        message = "the store failed while committing"
        raise CommitUnknown(message)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any other method of a store
        return getattr(self._store, name)


def doubtful(world: ScopeWorld, *, commits: bool) -> ScopedVault:
    """Return the vault over a store that leaves every commit of several parts in doubt."""
    store = cast("Store", DoubtfulStore(open_sqlite(world.path), commits=commits))
    opened, slot = open_rows(store, open_provider(world.key), world.path, world.clock, Options())
    vault = ScopedVault.over(Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex())))
    world.vaults.append(vault)
    return vault


MOVES: dict[str, Callable[[Vault], object]] = {
    "move": lambda vault: vault.move("app/0", "both/0"),
    "seal": lambda vault: ScopeMoves(vault.authority).seal("app", roles={"read": ["web"]}, is_shared=True),
}


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("move", MOVES)
def test_a_commit_in_doubt_has_moved_everything_or_nothing(world: ScopeWorld, move: str, *, commits: bool) -> None:
    with pytest.raises(CommitUnknown) as caught:
        MOVES[move](doubtful(world, commits=commits))
    admin = world.admin()
    outcome = admin.resolve(caught.value.request_id)
    assert (outcome is not None) == commits
    first = "both/0" if move == "move" and commits else "app/0"
    assert admin.list() == sorted([first, "app/1", "app/2"])
    assert [text_of(admin, path) for path in (first, "app/1", "app/2")] == ["0", "1", "2"]
    assert (len(ScopeMoves(admin.authority).paths()) == 2) == (move == "seal" and commits)
    for _, part in world.admin().parts():
        assert verify_vault(part.opened).problems == []
    if not commits:
        MOVES[move](world.admin())
        assert world.admin().list()[-1] == ("both/0" if move == "move" else "app/2")


def note(vault: Vault) -> Callable[[Publication], Plan]:
    """Return what plans one record."""

    def plan(_publication: Publication) -> Plan:
        return Plan(records=[vault.authority.session().record(Event.AUDIT_READ, {})])

    return plan


def test_parts_are_published_together_whatever_others_publish_meanwhile(world: ScopeWorld) -> None:
    admin, other = world.admin(), world.admin()
    parts = [admin, admin.scope("both")]
    sizes = [part.opened.replica.checkpoint.size for part in parts]
    busy = iter(range(2))

    def overtaken(publication: Publication) -> Plan:
        if next(busy, None) is not None:
            other.write("both/other", "x")
        return note(parts[1])(publication)

    publish_together([PartChange(parts[1].opened, [overtaken]), PartChange(admin.opened, [note(admin)])])
    assert [part.opened.replica.checkpoint.size for part in parts] == [sizes[0] + 1, sizes[1] + 3]
    assert [part.log.verify().size for part in parts] == [sizes[0] + 1, sizes[1] + 3]


@pytest.mark.parametrize("met", [0, 1])
def test_a_plan_that_meets_the_commit_of_another_writer_is_made_anew(world: ScopeWorld, met: int) -> None:
    admin, other = world.admin(), world.admin()
    parts = [admin, admin.scope("both")]
    sizes = [part.opened.replica.checkpoint.size for part in parts]
    path = ("app/other", "both/other")[met]
    attempts = []

    def looks_again(publication: Publication) -> Plan:
        attempts.append(publication)
        if len(attempts) == 1:
            other.write(path, "x")
        parts[met].opened.refresh()  # as whoever misses a row does, to see whether another writer replaced it
        return note(parts[1])(publication)

    publish_together([PartChange(admin.opened, [note(admin)]), PartChange(parts[1].opened, [looks_again])])
    assert len(attempts) == 2
    grown = [part.log.verify().size - size for part, size in zip(parts, sizes, strict=True)]
    assert grown == ([2, 1] if met == 0 else [1, 2])
    assert text_of(world.admin(), path) == "x"


def test_what_one_planner_raises_ends_the_change_of_all(world: ScopeWorld) -> None:
    admin = world.admin()
    parts = [admin, admin.scope("both")]
    heads = [part.opened.store.head() for part in parts]

    def refuse(_publication: Publication) -> Plan:
        message = "no"
        raise SecretNotFound(message)

    with pytest.raises(SecretNotFound):
        publish_together([PartChange(admin.opened, [note(admin)]), PartChange(parts[1].opened, [refuse])])
    with pytest.raises(SecretNotFound):
        publish_together(
            [
                PartChange(admin.opened, [note(admin)]),
                PartChange(parts[1].opened, verify_end=lambda: cast("None", refuse(cast("Any", None)))),
            ]
        )
    assert [part.opened.store.head() for part in parts] == heads


def test_who_is_always_overtaken_is_told_so(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = world.admin()

    def moved(*_: object) -> None:
        message = "another writer published first"
        raise HeadMoved(message)

    monkeypatch.setattr(type(admin.opened.store), "commit_parts", moved)
    with pytest.raises(StoreBusy, match="faster"):
        publish_together([PartChange(admin.opened, [note(admin)])])


# --- parts that are not finished --------------------------------------------------------------------------------------


def test_an_unfinished_part_has_a_head_for_nobody_else() -> None:
    store = MemoryStore()
    part = UnfinishedPart(store.partition(3))
    assert (part.part, part.head(), part.erases) == (3, None, "now")
    before = part.revision()
    part.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
    assert part.revision() != before
    assert part.wait(before, 0.0)
    assert part.snapshot([(Space.VALUE, 1)]) == (b"1", [b"row"])
    assert (part.get(Space.VALUE, 1), part.get_many([(Space.VALUE, 1)])) == (b"row", [b"row"])
    assert part.scan(Space.VALUE, 0, 9, 9) == [(1, b"row")]
    assert (store.partition(3).head(), store.partitions(), part.partitions()) == (None, [], [])
    with pytest.raises(HeadMoved):
        part.commit([], expect=None, head=b"2")
    with pytest.raises(Unsupported):
        part.partition(1)
    with part.reserve():
        part.purge()
    part.commit_parts([PartCommit(3, [], None, b"1")])
    assert store.partitions() == [3]
    part.close()
    assert store.partition(3).head() == b"1"


def test_every_row_of_a_part_is_erased() -> None:
    store = MemoryStore()
    part = store.partition(3)
    for space in Space:
        part.stage([Put(space, number, b"row") for number in range(150)])
    store.partition(4).stage([Put(Space.VALUE, 1, b"other")])
    erase_rows(part)
    assert [part.scan(space, 0, 1_000, 10) for space in Space] == [[]] * len(Space)
    assert store.partition(4).get(Space.VALUE, 1) == b"other"
