"""A move over the edge of a sealed scope: the copy equals the original in all its history, or nothing has changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securecfg.audit import Event
from securecfg.crypto import parse_dek
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    ConfusablePath,
    ScopeSealed,
    SecretDestroyed,
    SecretNotFound,
    StoreBusy,
    UndoUnavailable,
    Unsupported,
    ValueTooLarge,
)
from securecfg.policy import Document
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.commits.joint import publish_together
from securecfg.vault.imports.exposures import Exposures, Mark
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.moves.copying import Single, Subtree
from securecfg.vault.moves.relocation import Place, Relocation
from securecfg.vault.values import as_number
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.audit import Record
    from securecfg.vault import Vault
    from tests.vault.scope_world import ScopeWorld


def make_world(folder: Path) -> ScopeWorld:
    """A scope that the root reads too, and two that it does not."""
    world = scope_world(folder)
    scopes = world.scopes()
    scopes.create("both", read=["web"], is_shared=True)
    scopes.create("pay", read=["pay"])
    scopes.create("web", read=["web"], write=["web"])
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def history_of(vault: Vault, path: str) -> list[Any]:
    """Return all that a vault knows of a secret but for where its rows lie, the newest version first."""
    opened = vault.authority_over(path).opened
    opened.refresh()
    entry = opened.entry(path.encode())
    assert entry is not None
    history = opened.history(path.encode(), entry)
    lines = list(history.versions)
    for page in range(len(history.older) - 1, -1, -1):
        lines += opened.older_versions(history, page)
    marks = (history.newest, history.current, history.previous, history.pending, dict(history.labels), entry.live)
    return [marks, *(line._replace(dek_id=0, value_id=0, value_rows=0, commitment=b"") for line in lines)]


def values_of(vault: Vault, path: str) -> dict[int, object]:
    """Return the value of every version of a secret that is neither deleted nor destroyed."""
    found: dict[int, object] = {}
    for info in vault.history(path):
        if info.state == "live":
            value = vault.read(path, at=info.version, allow_expired=True).value
            found[as_number(info.version)] = (
                {name: one.reveal() for name, one in value.items()} if isinstance(value, Mapping) else value.reveal()
            )
    return found


def full(vault: Vault, clock_of: ScopeWorld, path: str) -> None:
    """Write a secret with every kind of version, value and mark there is."""
    vault.write(path, "first", metadata={"owner": "ada"})
    vault.write(path, b"\x00bytes", content_type="application/octet-stream")
    vault.write(path, {"user": "u", "password": "canary-4711"}, ttl=timedelta(days=90))
    vault.write(path, b"l" * 700_000)
    vault.write(path, "fifth")
    vault.write(path, "sixth")
    vault.write(path, "seventh", ttl=timedelta(hours=1))
    vault.label(path, "stable", 3)
    vault.destroy(path, 2)
    vault.delete(path, 5)
    vault.rollback(path, 1)
    clock_of.clock.advance(timedelta(hours=2))


# --- one secret -------------------------------------------------------------------------------------------------------


def test_a_secret_goes_over_the_edge_of_a_scope_and_back_with_all_its_history(world: ScopeWorld) -> None:
    admin = world.admin()
    full(admin, world, "app/a")
    before, values = history_of(admin, "app/a"), values_of(admin, "app/a")
    admin.move("app/a", "both/a")
    assert admin.list() == ["both/a"]
    assert history_of(admin, "both/a") == before
    assert values_of(world.as_member("web"), "both/a") == values
    with pytest.raises(SecretNotFound):
        admin.read("app/a")
    with pytest.raises(SecretDestroyed):
        admin.read("both/a", at=2)
    admin.move("both/a", "app/b")
    assert history_of(world.admin(), "app/b") == before
    assert values_of(world.admin(), "app/b") == values
    for part in (admin, admin.scope("both")):
        assert verify_vault(part.opened).problems == []
        assert verify_vault(part.opened).orphans == {}


def test_a_history_of_many_pages_is_copied_whole(world: ScopeWorld) -> None:
    admin = world.admin()
    for _ in range(3):
        with admin.batch() as batch:
            for number in range(50):
                batch.write("app/a", str(number), metadata={"text": "x" * 900})
    admin.delete("app/a", 10)
    before, values = history_of(admin, "app/a"), values_of(admin, "app/a")
    admin.move("app/a", "both/a")
    assert (history_of(admin, "both/a"), values_of(admin, "both/a")) == (before, values)
    assert len(before) == 151


def test_who_writes_and_does_not_read_seals_what_comes_to_those_who_read(world: ScopeWorld) -> None:
    admin = world.admin()
    full(admin, world, "app/a")
    values = values_of(admin, "app/a")
    admin.move("app/a", "pay/a")
    with pytest.raises(ScopeSealed):
        admin.read("pay/a")
    pay = world.as_member("pay")
    assert values_of(pay, "pay/a") == values
    rows = pay.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 1_000)
    assert [parse_dek(row)[0] for _, row in rows].count(3) == len(before_versions(pay, "pay/a"))
    with pytest.raises(ScopeSealed, match="sealed from this key"):
        admin.move("pay/a", "app/back")
    assert world.admin().list() == ["pay/a"]


def before_versions(vault: Vault, path: str) -> list[int]:
    return [as_number(info.version) for info in vault.history(path) if info.state != "destroyed"]


def test_nothing_of_a_secret_that_was_moved_is_left_where_it_was(world: ScopeWorld) -> None:
    admin = world.admin()
    full(admin, world, "app/a")
    store = admin.opened.store
    spaces = (Space.DEK, Space.VALUE, Space.HISTORY)
    before = {space: dict(store.scan(space, 0, ID_LIMIT - 1, 10_000)) for space in spaces}
    entry = admin.opened.entry(b"app/a")
    assert entry is not None
    history = admin.opened.history(b"app/a", entry)
    deks = {line.dek_id: before[Space.DEK][line.dek_id] for line in history.versions if line.state != DESTROYED}
    admin.move("app/a", "both/a")
    assert not admin.opened.is_destruction_pending
    left = {space: {number for number, _ in store.scan(space, 0, ID_LIMIT - 1, 10_000)} for space in before}
    assert not left[Space.DEK] & deks.keys()
    assert not left[Space.VALUE] & {line.value_id for line in history.versions if line.value_id}
    assert entry.history_id not in left[Space.HISTORY]
    world.close()
    content = world.path.read_bytes()
    assert not any(row in content for row in deks.values())
    assert b"canary-4711" not in content


def newest_batch(vault: Vault) -> Record:
    """Return the newest record of a move."""
    records = (entry.record for entry in vault.log.records() if entry.record.event is Event.BATCH_WRITTEN)
    return max(records, key=lambda record: record.time_ns)


def test_both_logs_say_what_moved_and_neither_names_the_others_path(world: ScopeWorld) -> None:
    admin = world.admin()
    admin.write("app/secret-name", "1")
    admin.move("app/secret-name", "pay/other-name")
    out, into = (newest_batch(part) for part in (admin, admin.scope("pay")))
    moved = {"count": 1, "change": "secret.moved"}
    assert out.obj == moved | {"items": [["app/secret-name", 1]], "to": "pay/"}
    assert into.obj == moved | {"items": [["pay/other-name", 1]], "source": "/"}
    assert out.request_id == into.request_id
    assert "other-name" not in str([entry.record for entry in admin.log.records()])
    assert "secret-name" not in str([entry.record for entry in admin.scope("pay").log.records()])
    assert admin.resolve(out.request_id) is not None


def test_what_came_from_elsewhere_is_listed_as_exposed_until_it_has_another_value(world: ScopeWorld) -> None:
    admin = world.admin()
    admin.write("pay/own", "never elsewhere")
    admin.write("app/a", "1")
    admin.write("app/a", "2")
    admin.move("app/a", "pay/a")
    exposed = find_exposed(admin.scope("pay").authority)
    assert [(each.path, each.version, each.is_move, each.is_compromise, each.label) for each in exposed] == [
        ("pay/a", 2, True, False, "/")
    ]
    admin.write("pay/a", "3")
    assert find_exposed(admin.scope("pay").authority) == []
    admin.write("both/b", "1")
    admin.move("both/b", "app/b")
    assert [(each.path, each.key) for each in find_exposed(admin.authority)] == [("app/b", "`both/`")]


def test_what_came_from_elsewhere_stays_exposed_under_another_path(world: ScopeWorld) -> None:
    world.scopes().grant("both", "audit", "read")
    admin = world.admin()
    admin.write("both/own", "never elsewhere")
    admin.write("app/a", "1")
    admin.move("app/a", "both/a")
    admin.move("both/a", "both/b")
    assert [each.path for each in find_exposed(admin.scope("both").authority)] == ["both/b"]
    world.scopes().revoke("both", "audit", "list")
    admin.move("both/b", "app/b")
    admin.move("app/b", "app/c")
    assert {(each.path, each.key) for each in find_exposed(admin.authority)} == {
        ("app/c", "slot 3 (role, audit)"),
        ("app/c", "the vault, by its root"),
        ("app/c", "`both/`"),
    }
    admin.write("app/c", "2")
    assert find_exposed(admin.authority) == []


def test_what_is_noted_during_the_move_of_a_secret_goes_along(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().grant("both", "audit", "read")
    admin, commit = world.admin(), Relocation._commit
    admin.write("both/a", "1")

    def overtaken(move: Relocation, *rest: Any) -> None:  # noqa: ANN401 - handed on
        monkeypatch.setattr(Relocation, "_commit", commit)
        world.scopes().revoke("both", "audit", "read")
        world.scopes().revoke("both", "audit", "list")
        mark = Mark("both/a", "", 1, "c" * 40, datetime(2026, 1, 1, tzinfo=UTC), "app.toml")
        Exposures(world.admin().scope("both").authority).mark([mark])
        commit(move, *rest)

    monkeypatch.setattr(Relocation, "_commit", overtaken)
    admin.move("both/a", "app/a")
    assert {each.key for each in find_exposed(admin.authority)} == {"slot 3 (role, audit)", "`both/`"}
    assert [mark.path for mark in Exposures(admin.authority).unrotated()] == ["app/a"]


def test_what_was_exposed_before_it_was_moved_is_exposed_afterwards(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.grant("both", "audit", "read")
    admin = world.admin()
    admin.write("both/known", "1")
    scopes.revoke("both", "audit", "list")
    admin = world.admin()
    admin.write("both/new", "1")
    marked = Mark("both/known", "", 1, "c" * 40, datetime(2026, 1, 1, tzinfo=UTC), "app.toml")
    Exposures(admin.scope("both").authority).mark([marked])
    for path in ("both/known", "both/new"):
        admin.move(path, path.replace("both", "app"))
    assert {(each.path, each.is_move, each.key) for each in find_exposed(admin.authority)} == {
        ("app/known", False, "slot 3 (role, audit)"),
        ("app/known", True, "`both/`"),
        ("app/new", True, "`both/`"),
    }
    assert [(mark.path, mark.version) for mark in Exposures(admin.authority).unrotated()] == [("app/known", 1)]
    admin.write("app/known", "2")
    assert Exposures(admin.authority).unrotated() == []
    assert {each.path for each in find_exposed(admin.authority)} == {"app/new"}


def test_refuses_a_move_to_where_something_is(world: ScopeWorld) -> None:
    admin = world.admin()
    admin.write("app/a", "1")
    admin.write("both/a", "2")
    admin.write("both/deleted", "2")
    admin.delete("both/deleted")
    for target in ("both/a", "both/deleted"):
        with pytest.raises(AlreadyExists):
            admin.move("app/a", target)
    with pytest.raises(ConfusablePath):
        admin.move("app/a", "both/\u0430")  # a Cyrillic letter
    with pytest.raises(SecretNotFound):
        admin.move("app/none", "both/none")
    admin.move("app/a", "both/\u0430", allow_lookalike=True)
    assert admin.list() == ["both/a", "both/\u0430"]


def test_a_move_needs_the_rights_of_both_sides(world: ScopeWorld) -> None:
    admin = world.admin()
    admin.write("app/a", "1")
    text = (
        '[roles.mover]\nmembers = ["svc:mover"]\n[[roles.mover.grants]]\nactions = ["{}"]\npaths = ["app/**"]\n'
        '[[roles.mover.grants]]\nactions = ["{}"]\npaths = ["both/**"]\n'
    )
    for one, other in (("read", "write"), ("delete", "write")):
        admin.administration.apply_policy([Document("grants.toml", "grants", text.format(one, other))])
        with pytest.raises(AccessDenied):
            world.open("svc:mover").move("app/a", "both/a")
    allowed = text.format('read", "delete', "write")
    admin.administration.apply_policy([Document("grants.toml", "grants", allowed)])
    for path in ("app/none", "app/\u0430"):
        with pytest.raises(AccessDenied):  # absent and forbidden look the same to who may not list
            world.open("svc:mover").move(path, "both/a")
    world.open("svc:mover").move("app/a", "both/a")
    assert world.admin().list() == ["both/a"]


def test_a_move_needs_a_writer_of_both_sides(world: ScopeWorld) -> None:
    admin = world.admin()
    admin.write("app/a", "1")
    with pytest.raises(ScopeSealed, match="only a writer"):
        admin.move("app/a", "web/a")
    world.as_member("web").write("web/b", "1")
    with pytest.raises(ScopeSealed, match="only a writer"):
        admin.move("web/b", "app/b")
    with pytest.raises(ScopeSealed):
        world.as_member("web").move("web/b", "app/b")
    assert world.admin().list() == ["app/a", "web/b"]


def test_a_member_of_two_scopes_moves_between_them(world: ScopeWorld) -> None:
    world.scopes().create("other", read=["web"], write=["web"])
    web = world.as_member("web")
    full(web, world, "web/a")
    before, values = history_of(web, "web/a"), values_of(web, "web/a")
    web.move("web/a", "other/a")
    again = world.as_member("web")
    assert again.list() == ["other/a"]
    assert (history_of(again, "other/a"), values_of(again, "other/a")) == (before, values)


def test_a_value_that_is_too_large_for_a_scope_is_not_moved(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = world.admin()
    admin.write("app/a", b"x" * 1_200_000)
    admin.write("app/a", "small")
    monkeypatch.setattr("securecfg.vault.state.data_keys.SEALED_LIMIT_BYTES", 1_000_000)
    with pytest.raises(ValueTooLarge, match="sealed scope"):
        admin.move("app/a", "pay/a")
    assert admin.list() == ["app/a"]
    assert text_of(admin, "app/a") == "small"
    assert admin.scope("pay").opened.replica.state.stagings == ()


def test_a_batch_stays_on_one_side(world: ScopeWorld) -> None:
    admin = world.admin()
    admin.write("app/a", "1")
    with pytest.raises(Unsupported, match="batch"), admin.batch() as batch:
        batch.move("app/a", "both/a")
    assert admin.list() == ["app/a"]


# --- subtrees ---------------------------------------------------------------------------------------------------------


def subtree(admin: Vault, prefix: bytes = b"app/") -> Relocation:
    source, target = Place(admin.authority, "/"), Place(admin.scope("both").authority, "both/")
    return Relocation(source, target, Subtree(prefix))


def moved(admin: Vault) -> dict[str, str]:
    """Return what lies below `app/` in the scope, which leads nobody there."""
    part = admin.scope("both")
    return {path: text_of(part, path) for path in part.list("app/")}


def test_a_subtree_is_moved_as_one_change(world: ScopeWorld) -> None:
    admin = world.admin()
    for number in range(150):
        admin.write(f"app/{number:03}", str(number))
    admin.write("beside", "1")
    part = admin.scope("both")
    sizes = admin.opened.replica.checkpoint.size, part.opened.replica.checkpoint.size
    done = subtree(admin).run()
    assert (done.secrets, done.versions) == (150, 150)
    assert (admin.opened.replica.checkpoint.size, part.opened.replica.checkpoint.size) == (sizes[0] + 1, sizes[1] + 1)
    assert moved(admin) == {f"app/{number:03}": str(number) for number in range(150)}
    assert admin.opened.entries(b"app/", b"app0") == []
    record = newest_batch(part)
    assert (record.obj["count"], "items" in record.obj, len(record.obj["parts"])) == (150, False, 1)
    for one in (admin, part):
        assert verify_vault(one.opened).problems == []
        assert verify_vault(one.opened).orphans == {}


@pytest.mark.no_cover
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "large", "delete", "undelete", "destroy", "label", "rollback", "meanwhile"]),
            st.integers(0, 2),
            st.integers(1, 4),
        ),
        max_size=14,
    )
)
def test_whatever_was_done_to_the_secrets_the_copy_equals_the_original(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    world = scope_world(tmp_path_factory.mktemp("model"))
    try:
        world.scopes().create("both", read=["web"], is_shared=True)
        admin = world.admin()
        counter = itertools.count()
        for step, number, version in steps:
            path = f"app/{number}"
            try:
                if step == "write":
                    admin.write(path, f"value {next(counter)}", metadata={"n": str(version)})
                elif step == "large":
                    admin.write(path, b"%d" % next(counter) * 40_000)
                elif step == "rollback":
                    admin.rollback(path, version)
                elif step == "label":
                    admin.label(path, "mark", version)
                elif step != "meanwhile":
                    getattr(admin, step)(path, version)
            except Exception:  # noqa: BLE001, S112 - what is not possible is not done
                continue
        paths = [path.decode() for path, _ in admin.opened.entries(b"app/", b"app0")]
        before = {path: (history_of(admin, path), values_of(admin, path)) for path in paths}
        assert subtree(admin).run().secrets == len(paths)
        part = admin.scope("both")
        assert {path: (history_of(part, path), values_of(part, path)) for path in paths} == before
        assert verify_vault(part.opened).problems == []
        assert verify_vault(part.opened).orphans == {}
    finally:
        world.close()


# --- others at the same time ------------------------------------------------------------------------------------------


def no_change() -> None:
    """Change nothing any more."""


def test_what_is_changed_during_the_move_is_moved_as_it_is_then(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, other = world.admin(), world.admin()
    for name in "abc":
        admin.write(f"app/{name}", f"old {name}")

    def change_two() -> None:
        other.delete("app/b")
        other.write("app/d", "new d")

    relocation = subtree(admin)
    commit = relocation._commit
    changes: Iterator[Callable[[], object]] = iter(
        [
            lambda: other.write("app/a", "new a"),
            change_two,
            lambda: other.move("app/c", "beside"),
            lambda: other.write("app/a", "newest a"),
        ]
    )

    def interrupted(*arguments: Any) -> None:  # noqa: ANN401 - those of the step
        next(changes, no_change)()
        commit(*arguments)

    monkeypatch.setattr(relocation, "_commit", interrupted)
    relocation.run()
    assert moved(admin) == {"app/a": "newest a", "app/d": "new d"}
    assert [info.state for info in admin.scope("both").history("app/b")] == ["deleted"]
    assert text_of(admin, "beside") == "old c"
    for one in (admin, admin.scope("both")):
        assert verify_vault(one.opened).problems == []
        assert verify_vault(one.opened).orphans == {}


def test_a_writer_without_a_pause_does_not_hold_up_a_move(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, other = world.admin(), world.admin()
    with admin.batch() as batch:
        for number in range(150):
            batch.write("app/a", str(number))
    admin.write("app/b", "1")
    relocation, numbers = subtree(admin), itertools.count(150)

    def overtaken(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of the step
        for _ in range(3):
            other.write("app/a", str(next(numbers)))
        other.destroy("app/a", 140)
        monkeypatch.setattr(other, "destroy", lambda *_: None)
        publish_together(*arguments, **options)

    monkeypatch.setattr("securecfg.vault.moves.relocation.publish_together", overtaken)
    done = relocation.run()
    last = next(numbers) - 1
    assert (done.secrets, done.versions) == (2, last + 1)
    part = admin.scope("both")
    assert moved(admin) == {"app/a": str(last), "app/b": "1"}
    assert values_of(part, "app/a") == {number + 1: str(number) for number in range(last + 1) if number != 139}
    items = [item for vault in (admin, part) for item in newest_batch(vault).obj["items"]]
    assert items == [["app/a", last + 1]] * 2
    exposed = find_exposed(part.authority)
    assert [(each.path, each.version) for each in exposed] == [("app/a", last + 1), ("app/b", 1)]
    for one in (admin, part):
        assert verify_vault(one.opened).problems == []
        assert verify_vault(one.opened).orphans == {}


def test_what_is_caught_up_with_before_the_commit_is_exposed_too(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.vault.moves.relocation._ROUNDS_IN_RACE", 0)
    admin, other = world.admin(), world.admin()
    admin.write("app/a", "1")
    admin.write("app/b", "1")
    relocation = subtree(admin)
    depart = relocation._depart

    def overtaken(*arguments: Any) -> object:  # noqa: ANN401 - those of the step
        prepared = depart(*arguments)
        other.write("app/a", "2")
        return prepared

    monkeypatch.setattr(relocation, "_depart", overtaken)
    done = relocation.run()
    assert (done.secrets, done.versions) == (2, 3)
    part = admin.scope("both")
    assert moved(admin) == {"app/a": "2", "app/b": "1"}
    exposed = find_exposed(part.authority)
    assert [(each.path, each.version) for each in exposed] == [("app/a", 2), ("app/b", 1)]
    for one in (admin, part):
        assert verify_vault(one.opened).problems == []
        assert verify_vault(one.opened).orphans == {}


def test_several_secrets_of_many_that_change_all_the_time_do_not_hold_up_a_move(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, other = world.admin(), world.admin()
    with admin.batch() as batch:
        for number in range(40):
            batch.write(f"app/{number}", "0")
    relocation, turns = subtree(admin), itertools.count()
    values = dict.fromkeys(range(40), "0")

    def overtaken(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of the step
        turn = next(turns)
        for number in (turn, turn + 10, turn + 20):  # others each time
            other.write(f"app/{number}", values.setdefault(number, "") + "x")
            values[number] += "x"
        publish_together(*arguments, **options)

    monkeypatch.setattr("securecfg.vault.moves.relocation.publish_together", overtaken)
    assert relocation.run().secrets == 40
    assert next(turns) == 3
    assert moved(admin) == {f"app/{number}": value for number, value in values.items()}
    for one in (admin, admin.scope("both")):
        assert verify_vault(one.opened).problems == []
        assert verify_vault(one.opened).orphans == {}


def test_a_move_that_is_always_overtaken_changes_nothing(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecfg.vault.moves.relocation._LATE_OPERATIONS_MAX", 0)
    admin, other = world.admin(), world.admin()
    admin.write("app/a", "0")
    relocation, numbers = subtree(admin), itertools.count(1)

    def overtaken(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of the step
        other.write("app/a", str(next(numbers)))
        publish_together(*arguments, **options)

    monkeypatch.setattr("securecfg.vault.moves.relocation.publish_together", overtaken)
    with pytest.raises(StoreBusy, match="faster"):
        relocation.run()
    assert text_of(admin, "app/a") == str(next(numbers) - 1)
    part = admin.scope("both")
    assert part.list("app/") == []
    for one in (admin, part):
        one.opened.refresh()
        assert one.opened.replica.state.stagings == ()
        assert verify_vault(one.opened).orphans == {}


def test_a_change_of_the_policy_or_the_keys_during_the_move_is_heeded(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = world.admin()
    admin.write("app/a", "1")
    relocation = subtree(admin)
    commit = relocation._commit
    changes: Iterator[Callable[[], object]] = iter(
        [
            lambda: world.scopes().grant("both", "audit", "list"),
            lambda: KeyChanges(world.admin().scope("both").authority).begin_scope_epoch(),
            lambda: KeyChanges(world.admin().authority).begin_scope_epoch(),
            lambda: world.admin().administration.add_member("pay", "svc:more"),
        ]
    )

    def interrupted(*arguments: Any) -> None:  # noqa: ANN401 - those of the step
        next(changes, no_change)()
        commit(*arguments)

    monkeypatch.setattr(relocation, "_commit", interrupted)
    relocation.run()
    assert moved(admin) == {"app/a": "1"}
    assert next(changes, None) is None
    assert verify_vault(admin.scope("both").opened).problems == []


def test_an_import_that_still_holds_a_secret_is_released_by_its_move(world: ScopeWorld, tmp_path: Path) -> None:
    from securecfg.sources.importing import import_secrets, list_imports, undo_import

    (tmp_path / "app.toml").write_text('password = "hunter2-canary-4711"\n', encoding="utf-8")
    admin = world.admin()
    assert import_secrets(admin, [tmp_path / "app.toml"]) is not None
    (path,) = admin.list()
    admin.move(path, "both/a")
    assert [str(each.state) for each in list_imports(admin)] == ["confirmed"]
    with pytest.raises(UndoUnavailable):
        undo_import(admin)
    assert text_of(admin, "both/a") == "hunter2-canary-4711"


def test_an_import_during_the_move_of_its_secret_is_released_too(
    world: ScopeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from securecfg.sources.importing import import_secrets, list_imports, undo_import

    file, commit, text = tmp_path / "app.toml", Relocation._commit, 'password = "hunter2-canary-4711"\n'
    file.write_text(text, encoding="utf-8")
    admin = world.admin()
    assert import_secrets(admin, [file]) is not None
    (path,) = admin.list()

    def overtaken(move: Relocation, *rest: Any) -> None:  # noqa: ANN401 - handed on
        monkeypatch.setattr(Relocation, "_commit", commit)
        file.write_text(text, encoding="utf-8")
        assert import_secrets(world.admin(), [file]) is not None
        assert world.admin().list() == [path]
        commit(move, *rest)

    monkeypatch.setattr(Relocation, "_commit", overtaken)
    admin.move(path, "both/a")
    assert [str(each.state) for each in list_imports(admin)] == ["confirmed", "confirmed"]
    with pytest.raises(UndoUnavailable):
        undo_import(admin)


def test_one_who_reads_while_a_secret_is_moved_gets_its_value(world: ScopeWorld) -> None:
    admin, reader = world.admin(), world.admin()
    admin.write("app/a", "1")
    assert text_of(reader, "app/a") == "1"
    admin.move("app/a", "both/a")
    assert text_of(reader, "both/a") == "1"
    with pytest.raises(SecretNotFound):
        reader.read("app/a")
    assert reader.list() == ["both/a"]


def test_single_moves_name_one_path(world: ScopeWorld) -> None:
    admin = world.admin()
    admin.write("app/a", "1")
    admin.write("app/ab", "2")
    chosen = Single(b"app/a", b"both/z", is_lookalike_allowed=False)
    places = Place(admin.authority, "/"), Place(admin.scope("both").authority, "both/")
    assert Relocation(*places, chosen=chosen).run().secrets == 1
    assert admin.list() == ["app/ab", "both/z"]
