"""What makes two folders alike does what its plan said, where both are still as planned, and nothing twice."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.backends import Deletion
from securecfg.errors import (
    AccessDenied,
    BackendUnavailable,
    Conflict,
    DestroyPending,
    InvalidPath,
    SecretNotFound,
)
from securecfg.mounts import Mount, Mounts
from securecfg.mounts.sync_plan import Action, Plan, Prefer, Rules, Way
from securecfg.mounts.sync_run import Outcome, Synchronisation, verify_planned
from securecfg.mounts.sync_state import LastRuns
from securecfg.testing.memory_backend import ALL
from securecfg.vault.verification import verify_vault
from tests.backends.test_handle import UNAVAILABLE
from tests.mounts.memory import CAPABILITIES
from tests.mounts.test_mounted import events, revealed
from tests.vault.world import ADMIN, grant

if TYPE_CHECKING:
    from securecfg.vault import Vault
    from tests.mounts.conftest import MountWorld

ONE, TWO = "app/one/", "app/two/"


def silent(_done: int, _total: int) -> None:
    """Show nothing."""


@pytest.fixture
def pair(mounts: MountWorld) -> Vault:
    return mount_two(mounts)


def mount_two(mounts: MountWorld) -> Vault:
    vault = mounts.create()
    grant(vault)
    for folder, name in ((ONE, "one"), (TWO, "two")):
        Mounts(vault.authority).add(Mount(folder, (f"memory:{name}",)))
    return mounts.open()


def planned(vault: Vault, from_: str = ONE, to: str = TWO, **rules: Any) -> Plan:  # noqa: ANN401 - those of `Rules`
    return Synchronisation(vault, from_, to, Rules(**rules)).plan(silent)


def synced(vault: Vault, from_: str = ONE, to: str = TWO, **rules: Any) -> tuple[dict[str, str], Outcome]:  # noqa: ANN401 - the same
    """Plan and run; return the lines by name and what was done."""
    sync = Synchronisation(vault, from_, to, Rules(**rules))
    plan = sync.plan(silent)
    return lines(plan), sync.run(plan, silent)


def lines(plan: Plan) -> dict[str, str]:
    return {item.name: f"{item.action} {item.way}".strip() for item in plan.items}


def held(vault: Vault, folder: str) -> dict[str, object]:
    return {path.removeprefix(folder): revealed(vault.read(path)) for path in vault.list(folder)}


def writes(mounts: MountWorld, name: str) -> int:
    """Return how many versions a store has seen."""
    return sum(len(held.contents) for held in mounts.store(name).secrets.values())


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("from_", "to"), [("app/one", TWO), (ONE, "app/two"), ("", TWO)])
def test_what_is_no_folder_is_refused(pair: Vault, from_: str, to: str) -> None:
    with pytest.raises(InvalidPath):
        planned(pair, from_, to)


@pytest.mark.parametrize(
    ("from_", "to"), [(ONE, ONE), (ONE, "app/one/in/"), ("app/one/in/", ONE), ("app/", "other/"), ("other/", "app/")]
)
def test_sides_that_are_not_apart_and_folders_with_mounts_inside_are_refused(pair: Vault, from_: str, to: str) -> None:
    with pytest.raises(Conflict):
        planned(pair, from_, to)


def test_nothing_that_is_only_known_takes_part(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "old")
    vault.read(f"{ONE}a")
    mounts.store("one").secrets["a"].contents = {"2" * 32: "new"}
    mounts.store("one").secrets["a"].states["2" * 32] = mounts.store("one").secrets["a"].states.popitem()[1]
    mounts.store("one").secrets["a"].created["2" * 32] = next(iter(mounts.store("one").secrets["a"].created.values()))
    assert revealed(vault.read(f"{ONE}a")) == "old"
    synced(vault)
    assert mounts.store("two").secrets["a"].contents.popitem()[1] == "new"


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_store_that_gives_no_answer_ends_the_run_and_nothing_is_written(mounts: MountWorld, name: str) -> None:
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    vault.read(f"{ONE}a")
    vault.list(TWO)
    mounts.store(name).fail(UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        synced(vault)
    assert writes(mounts, "two") == 0


def test_one_who_may_not_write_there_changes_nothing(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    text = f'[roles.r]\nmembers = ["svc:reader"]\n[[roles.r.grants]]\nactions = ["read", "list"]\npaths = ["{ONE}**"]\n'
    grant(vault, text)
    reader = mounts.open("svc:reader")
    found, outcome = synced(reader)
    assert found == {"a": "new forth"}
    assert [failure.error.code for failure in outcome.failed] == [AccessDenied.code]
    assert writes(mounts, "two") == 0
    # Whoever may write there and not list finds out by the write itself.
    vault.write(f"{TWO}a", "theirs")
    grant(vault, text + f'[[roles.r.grants]]\nactions = ["write"]\npaths = ["{TWO}**"]\n')
    found, outcome = synced(reader)
    assert found == {"a": "new forth"}
    assert [item.name for item in outcome.moved] == ["a"]
    assert held(vault, TWO) == {"a": "theirs"}


BLINDLY = (
    f'[roles.r]\nmembers = ["svc:reader"]\n[[roles.r.grants]]\nactions = ["read", "list"]\npaths = ["{ONE}**"]\n'
    f'[[roles.r.grants]]\nactions = ["write"]\npaths = ["{TWO}**"]\n'
)


def test_what_may_be_there_unseen_is_not_written_over_where_a_write_does_not_tell(mounts: MountWorld) -> None:
    CAPABILITIES["two"] = ALL._replace(creates=False, compares=False)
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    vault.write(f"{TWO}a", "theirs")
    grant(vault, BLINDLY)
    found, outcome = synced(mounts.open("svc:reader"), replaces=False)
    assert found == {"a": "cannot"}
    assert (outcome.done, outcome.moved, outcome.failed) == ([], [], [])
    assert held(vault, TWO) == {"a": "theirs"}


def test_what_may_not_be_seen_any_more_in_the_run_is_not_written_over(mounts: MountWorld) -> None:
    CAPABILITIES["two"] = ALL._replace(creates=False, compares=False)
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    grant(vault, BLINDLY.replace('"write"', '"read", "list", "write"'))
    sync = Synchronisation(mounts.open("svc:reader"), ONE, TWO, Rules(replaces=False))
    plan = sync.plan(silent)
    assert lines(plan) == {"a": "new forth"}
    vault.write(f"{TWO}a", "theirs")
    grant(vault, BLINDLY)
    outcome = sync.run(plan, silent)
    assert [failure.error.code for failure in outcome.failed] == [AccessDenied.code]
    assert (outcome.done, outcome.moved) == ([], [])
    assert held(vault, TWO) == {"a": "theirs"}


def test_what_a_store_that_cannot_compare_lacks_is_written_there(mounts: MountWorld) -> None:
    CAPABILITIES["two"] = ALL._replace(creates=False, compares=False)
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    assert synced(vault, replaces=False)[0] == {"a": "new forth"}
    assert held(vault, TWO) == {"a": "1"}


def test_the_digests_of_an_earlier_run_are_erased(mounts: MountWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = mount_two(mounts)
    for value in "12":
        vault.write(f"{ONE}a", value)
        with monkeypatch.context() as patched:
            patched.setattr("securecfg.mounts.sync_state.finish_destruction", lambda _: fail_pending())
            synced(vault)
    assert vault.opened.is_destruction_pending
    vault.write(f"{ONE}a", "3")
    synced(vault)
    assert not vault.opened.is_destruction_pending


def fail_pending() -> None:
    message = "another reader is in the way"
    raise DestroyPending(message)


def test_what_may_not_be_read_is_reported_and_left_alone(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    vault.write(f"{ONE}b", "2")
    grant(
        vault,
        f'[roles.r]\nmembers = ["svc:reader"]\n[[roles.r.grants]]\nactions = ["list", "write"]\npaths = ["app/**"]\n'
        f'[[roles.r.grants]]\nactions = ["read"]\npaths = ["{TWO}**", "{ONE}a"]\n',
    )
    found, outcome = synced(mounts.open("svc:reader"))
    assert found == {"a": "new forth", "b": "unreadable"}
    assert [item.name for item in outcome.done] == ["a"]
    assert held(vault, TWO) == {"a": "1"}


# --- one way ----------------------------------------------------------------------------------------------------------


def test_the_second_side_becomes_as_the_first_and_a_second_run_writes_nothing(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1", metadata={"owner": "pay"})
    vault.write(f"{ONE}b", {"user": "web", "password": "x"})
    vault.write(f"{ONE}c", b"\x00\xff")
    vault.write(f"{TWO}b", "old")
    vault.write(f"{TWO}d", "theirs")
    found, outcome = synced(vault)
    assert found == {"a": "new forth", "b": "changed forth", "c": "new forth", "d": "only-there"}
    assert sorted(item.name for item in outcome.done) == ["a", "b", "c"]
    assert held(vault, TWO) == {**held(vault, ONE), "d": "theirs"}
    assert dict(vault.read(f"{TWO}a").metadata) == {"owner": "pay"}
    before = writes(mounts, "two")
    found, outcome = synced(vault)
    assert found == {"a": "same", "b": "same", "c": "same", "d": "only-there"}
    assert (outcome.done, writes(mounts, "two")) == ([], before)


def test_what_only_the_second_side_has_is_deleted_where_that_is_said(pair: Vault) -> None:
    pair.write(f"{TWO}d", "theirs")
    found, outcome = synced(pair, deletes=True)
    assert found == {"d": "deleted forth"}
    assert [item.name for item in outcome.done] == ["d"]
    with pytest.raises(SecretNotFound):
        pair.read(f"{TWO}d")


def test_what_both_sides_have_changed_is_a_conflict_and_stays_one(pair: Vault) -> None:
    pair.write(f"{ONE}a", "1")
    synced(pair)
    pair.write(f"{ONE}a", "here")
    pair.write(f"{TWO}a", "there")
    for _ in range(2):  # it is not forgotten that they differ
        found, outcome = synced(pair)
        assert (found, outcome.done) == ({"a": "conflict"}, [])
    assert held(pair, TWO) == {"a": "there"}


@pytest.mark.parametrize(
    ("prefer", "is_both", "line", "here", "there"),
    [
        (Prefer.FROM, False, "changed forth", "here", "here"),
        (Prefer.TO, False, "kept", "here", "there"),
        (Prefer.NEWEST, False, "kept", "here", "there"),
        (Prefer.FROM, True, "changed forth", "here", "here"),
        (Prefer.TO, True, "changed back", "there", "there"),
        (Prefer.NEWEST, True, "changed back", "there", "there"),
        (Prefer.NONE, True, "conflict", "here", "there"),
    ],
)
def test_a_declared_rule_resolves_conflicts(
    pair: Vault, prefer: Prefer, line: str, here: str, there: str, *, is_both: bool
) -> None:
    pair.write(f"{ONE}a", "1")
    synced(pair)
    pair.write(f"{ONE}a", "here")
    pair.write(f"{TWO}a", "there")
    found, _ = synced(pair, prefer=prefer, is_both=is_both)
    assert found == {"a": line}
    assert (held(pair, ONE), held(pair, TWO)) == ({"a": here}, {"a": there})


def test_what_was_deleted_on_one_side_and_changed_on_the_other_is_a_conflict(pair: Vault) -> None:
    pair.write(f"{ONE}a", "1")
    pair.write(f"{ONE}b", "1")
    synced(pair)
    pair.delete(f"{ONE}a")
    pair.write(f"{TWO}a", "there")
    pair.delete(f"{TWO}b")
    pair.write(f"{ONE}b", "here")
    assert lines(planned(pair, deletes=True)) == {"a": "conflict", "b": "conflict"}
    assert lines(planned(pair, deletes=True, is_both=True)) == {"a": "conflict", "b": "conflict"}
    assert lines(planned(pair, is_both=True, prefer=Prefer.FROM)) == {"a": "conflict", "b": "new forth"}
    assert lines(planned(pair, is_both=True, deletes=True, prefer=Prefer.FROM)) == {
        "a": "deleted forth",
        "b": "new forth",
    }


# --- both ways --------------------------------------------------------------------------------------------------------


def test_what_each_side_has_changed_is_done_on_the_other(pair: Vault) -> None:
    for name in "abc":
        pair.write(f"{ONE}{name}", "1")
    synced(pair, is_both=True)
    pair.write(f"{ONE}a", "here")
    pair.write(f"{TWO}b", "there")
    pair.write(f"{ONE}new", "n")
    pair.write(f"{TWO}other", "o")
    pair.delete(f"{TWO}c")
    found, _ = synced(pair, is_both=True)
    assert found == {
        "a": "changed forth",
        "b": "changed back",
        "c": "only-here",
        "new": "new forth",
        "other": "new back",
    }
    assert lines(planned(pair, is_both=True, deletes=True))["c"] == "deleted back"
    found, _ = synced(pair, is_both=True, deletes=True)
    assert found["c"] == "deleted back"
    assert held(pair, ONE) == held(pair, TWO) == {"a": "here", "b": "there", "new": "n", "other": "o"}


def test_what_differs_and_was_never_seen_alike_is_a_conflict_both_ways(pair: Vault) -> None:
    pair.write(f"{ONE}a", "1")
    pair.write(f"{TWO}a", "2")
    assert lines(planned(pair, is_both=True)) == {"a": "conflict"}
    assert lines(planned(pair)) == {"a": "changed forth"}


def test_a_secret_that_is_gone_on_both_sides_is_forgotten(pair: Vault) -> None:
    pair.write(f"{ONE}a", "1")
    synced(pair)
    pair.delete(f"{ONE}a")
    pair.delete(f"{TWO}a")
    synced(pair)
    assert LastRuns(pair.authority).find(ONE, TWO).digests == {}
    pair.write(f"{ONE}a", "2")
    assert lines(planned(pair, is_both=True)) == {"a": "new forth"}


# --- meanwhile --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"{ONE}a", f"{TWO}a"])
def test_nothing_is_done_where_a_side_has_changed_since_it_was_planned(pair: Vault, path: str) -> None:
    pair.write(f"{ONE}a", "1")
    pair.write(f"{TWO}a", "0")
    sync = Synchronisation(pair, ONE, TWO, Rules())
    plan = sync.plan(silent)
    pair.write(path, "meanwhile")
    outcome = sync.run(plan, silent)
    assert ([item.name for item in outcome.moved], outcome.done) == (["a"], [])
    assert revealed(pair.read(path)) == "meanwhile"


def test_nobody_is_overwritten_between_the_last_look_and_the_write(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    vault.write(f"{TWO}a", "0")
    sync = Synchronisation(vault, ONE, TWO, Rules())
    plan = sync.plan(silent)
    other = mounts.open()
    # The look before the write is the next call; before the one after that somebody else writes.
    mounts.store("two").fail_next(None, lambda: other.write(f"{TWO}a", "meanwhile"))
    outcome = sync.run(plan, silent)
    assert [item.name for item in outcome.moved] == ["a"]
    assert held(other, TWO) == {"a": "meanwhile"}


def test_a_deletion_is_not_made_of_what_has_changed(pair: Vault) -> None:
    pair.write(f"{TWO}a", "0")
    sync = Synchronisation(pair, ONE, TWO, Rules(deletes=True))
    plan = sync.plan(silent)
    pair.write(f"{TWO}a", "meanwhile")
    assert [item.name for item in sync.run(plan, silent).moved] == ["a"]
    assert held(pair, TWO) == {"a": "meanwhile"}


@pytest.mark.parametrize("can", [{"compares": False}, {"creates": False}, {"compares": False, "creates": False}])
def test_a_store_that_cannot_compare_is_read_again_for_each_secret(mounts: MountWorld, can: dict[str, bool]) -> None:
    CAPABILITIES["two"] = ALL._replace(**can)  # type: ignore[arg-type]  # fields of capabilities
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    vault.write(f"{ONE}b", "1")
    vault.write(f"{TWO}a", "0")
    sync = Synchronisation(vault, ONE, TWO, Rules())
    plan = sync.plan(silent)
    vault.write(f"{TWO}a", "meanwhile")
    outcome = sync.run(plan, silent)
    assert ([item.name for item in outcome.moved], [item.name for item in outcome.done]) == (["a"], ["b"])
    assert held(vault, TWO) == {"a": "meanwhile", "b": "1"}


def test_nobody_is_overwritten_by_many_in_a_store_that_cannot_compare(mounts: MountWorld) -> None:
    CAPABILITIES["two"] = ALL._replace(compares=False)
    vault = mount_two(mounts)
    for name in "ab":
        vault.write(f"{ONE}{name}", "1")
        vault.write(f"{TWO}{name}", "0")
    sync = Synchronisation(vault, ONE, TWO, Rules())
    plan = sync.plan(silent)
    # The look at the first one is the next call, and its write the one after that.
    mounts.store("two").fail_next(None, lambda: mounts.handle("two").write("b", "meanwhile"))
    outcome = sync.run(plan, silent)
    assert ([item.name for item in outcome.done], [item.name for item in outcome.moved]) == (["a"], ["b"])
    assert held(vault, TWO) == {"a": "1", "b": "meanwhile"}


def test_only_the_plan_that_was_shown_is_done(pair: Vault) -> None:
    pair.write(f"{ONE}a", "1")
    shown = planned(pair).id
    verify_planned(planned(pair), shown)
    verify_planned(planned(pair), None)
    assert shown != planned(pair, deletes=True).id
    pair.write(f"{ONE}a", "2")
    with pytest.raises(Conflict):
        verify_planned(planned(pair), shown)


def test_a_write_without_an_answer_is_read_back(mounts: MountWorld) -> None:
    CAPABILITIES["two"] = ALL._replace(is_write_repeatable=False)
    vault = mount_two(mounts)
    vault.write(f"{ONE}a", "1")
    sync = Synchronisation(vault, ONE, TWO, Rules())
    plan = sync.plan(silent)
    mounts.store("two").fail_late(UNAVAILABLE)
    assert [item.name for item in sync.run(plan, silent).done] == ["a"]
    assert writes(mounts, "two") == 1
    assert lines(planned(vault)) == {"a": "same"}


def test_a_run_that_ends_in_the_middle_is_continued_and_nothing_is_written_twice(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    for number in range(9):
        vault.write(f"{ONE}{number}", str(number))
    sync = Synchronisation(vault, ONE, TWO, Rules())
    plan = sync.plan(silent)
    store = mounts.store("two")
    store.fail_next(None, None, None, None, None, lambda: store.fail(UNAVAILABLE))
    with pytest.raises(BackendUnavailable):
        sync.run(plan, silent)
    store.fail(None)
    vault = mounts.open()
    assert 0 < writes(mounts, "two") < 9
    _, outcome = synced(vault)
    assert 0 < len(outcome.done) < 9
    assert writes(mounts, "two") == 9
    assert held(vault, TWO) == held(vault, ONE)


# --- what the other side cannot hold ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("can", "value", "line"),
    [
        ({"kinds": ALL.kinds - {"bytes"}}, b"1", "cannot"),
        ({"value_bytes_max": 3}, "four", "cannot"),
        ({"value_bytes_max": 4}, "four", "new forth"),
        ({"path_bytes_max": 3}, "1", "cannot"),
        ({"writes": False}, "1", "cannot"),
    ],
)
def test_what_the_other_side_cannot_hold_is_said_before_anything_is_written(
    mounts: MountWorld,
    can: dict[str, Any],
    value: str | bytes,
    line: str,
) -> None:
    vault = mount_two(mounts)
    vault.write(f"{ONE}name", value)
    CAPABILITIES["two"] = ALL._replace(**can)
    vault = mounts.open()
    before = mounts.store("two").asked
    assert lines(planned(vault)) == {"name": line}
    assert mounts.store("two").asked - before == 1  # the listing


def test_what_does_not_go_along_is_said(mounts: MountWorld) -> None:
    CAPABILITIES["two"] = ALL._replace(metadata=False)
    vault = mount_two(mounts)
    version = vault.write(f"{ONE}a", "1", metadata={"owner": "pay"})
    vault.label(f"{ONE}a", "blue", version)
    (item,) = planned(vault).items
    assert item.losses == ("metadata", "labels")
    assert [each.name for each in synced(vault)[1].done] == ["a"]


def test_what_a_store_cannot_delete_is_said(mounts: MountWorld) -> None:
    CAPABILITIES["two"] = ALL._replace(deletes=Deletion.NONE)
    vault = mount_two(mounts)
    vault.write(f"{TWO}a", "1")
    (item,) = planned(vault, deletes=True).items
    assert (item.action, item.way) == (Action.CANNOT, Way.NONE)


def test_the_vaults_own_secrets_go_into_a_store_and_back(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    vault.write("own/a", "1", metadata={"owner": "pay"})
    vault.write("own/b", "1", ttl=timedelta(days=1))
    vault.write("own/c", "1", content_type="application/yaml")
    found, _ = synced(vault, "own/", TWO)
    assert found == {"a": "new forth", "b": "cannot", "c": "new forth"}
    vault.write(f"{TWO}a", "2")
    vault.delete("own/c")
    vault.delete(f"{TWO}c")
    vault.write(f"{TWO}c", "3")
    found, outcome = synced(vault, TWO, "own/")
    assert (found["a"], found["c"]) == ("changed forth", "new forth")
    assert (outcome.failed, outcome.moved) == ([], [])
    assert revealed(vault.read("own/c")) == "3"
    assert vault.read("own/a").version == 2


# --- what is kept of it -----------------------------------------------------------------------------------------------


def test_no_value_and_no_digest_without_a_key_is_in_a_plan(pair: Vault) -> None:
    pair.write(f"{ONE}a", "cAnArY")
    first, second = planned(pair), planned(pair)
    assert "cAnArY" not in repr(first)
    digests = [plan.items[0].here.digest for plan in (first, second)]  # type: ignore[union-attr]  # it was seen
    assert digests[0] != digests[1]  # nothing is kept by a plan, so each has a key of its own


def test_the_last_run_belongs_to_one_principal_and_does_not_make_the_vault_grow(mounts: MountWorld) -> None:
    vault = mount_two(mounts)
    for turn in range(4):
        vault.write(f"{ONE}a", str(turn))
        synced(vault)
    assert verify_vault(vault.opened).orphans == {}
    (run,) = LastRuns(vault.authority).all()
    assert (run.from_, run.to, set(run.digests), dict(run.counts)) == (ONE, TWO, {"a"}, {"changed": 1})
    reader = mounts.open("svc:reader")
    assert LastRuns(reader.authority).all() == []
    assert LastRuns(reader.authority).find(ONE, TWO).key != run.key
    revisions = vault.opened.entry(b"\x01" + b"policy")
    synced(vault)
    assert vault.opened.entry(b"\x01" + b"policy") == revisions
    (again,) = LastRuns(mounts.open().authority).all()
    assert again.key == run.key


def test_many_names_are_kept_too(mounts: MountWorld) -> None:
    vault, long = mount_two(mounts), "x" * 80
    with vault.batch() as batch:
        for number in range(600):
            batch.write(f"own/{number:04}-{long}", str(number))
    found, _ = synced(vault, "own/", "copy/")
    assert set(found.values()) == {"new forth"}
    found, outcome = synced(vault, "own/", "copy/")
    assert (set(found.values()), outcome.done) == ({"same"}, [])
    assert verify_vault(vault.opened).orphans == {}


def test_every_access_and_what_the_run_came_to_are_in_the_log(pair: Vault) -> None:
    pair.write(f"{ONE}a", "1")
    synced(pair)
    (finished,) = events(pair, Event.SYNC_FINISHED)
    assert finished.obj == {"path": ONE, "to": TWO, "count": 1}
    assert finished.subject.id == ADMIN
    assert [str(record.obj["path"]) for record in events(pair, Event.MOUNT_READ)] == [f"{ONE}a"]
    assert [str(record.obj["path"]) for record in events(pair, Event.MOUNT_CHANGED)] == [f"{ONE}a", f"{TWO}a"]
