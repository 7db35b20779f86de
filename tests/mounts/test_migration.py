"""A mount comes home: everything at once, at the same paths, and what cannot come is said before."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.backends import State
from securecfg.crypto import KIND_TEXT
from securecfg.errors import (
    AccessDenied,
    BackendUnavailable,
    Conflict,
    DestroyPending,
    PathMounted,
    SecretNotFound,
    SecurecfgError,
    Tampered,
)
from securecfg.mounts import MountedVault, migration
from securecfg.mounts.migration import Homecome, Homecoming, Report, finish_homecoming
from securecfg.testing.memory_backend import ALL
from securecfg.vault.drafts import Content
from securecfg.vault.verification import verify_vault
from tests.backends.test_handle import UNAVAILABLE
from tests.mounts.memory import CAPABILITIES
from tests.mounts.test_mounted import events, revealed
from tests.vault.world import READER, grant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.mounts.source import Answer
    from securecfg.vault import Vault
    from securecfg.vault.commits.publishing import Plan, Publication
    from tests.mounts.conftest import MountWorld

FOLDER = "app/corp/"


@contextmanager
def silent(_what: str) -> Iterator[Callable[[int, int], None]]:
    """Show nothing."""
    yield lambda _done, _total: None


def migrate(vault: Vault, folder: str = FOLDER, *, takes_versions: bool = False) -> tuple[Report, Homecome]:
    home = Homecoming(vault, folder, silent, takes_versions=takes_versions)
    report = home.fetch()
    return report, home.take_over(report)


def copies(vault: Vault) -> list[Path]:
    folder = Path(f"{vault.opened.path}.mounts")
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


# --- what is refused --------------------------------------------------------------------------------------------------


def test_only_who_may_manage_mounts_migrates(mounts: MountWorld) -> None:
    mounts.mount()
    with pytest.raises(AccessDenied):
        migrate(mounts.open(READER))


@pytest.mark.parametrize("missing", ["read", "write"])
def test_who_may_not_take_all_of_it_takes_nothing_and_is_not_told_what(mounts: MountWorld, missing: str) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    vault.write(f"{FOLDER}hidden", "1")
    other = {"read": "write", "write": "read"}[missing]
    grant(
        vault,
        '[roles.r]\nmembers = ["svc:reader"]\n[[roles.r.grants]]\nactions = ["mount.manage"]\n'
        f'[[roles.r.grants]]\nactions = ["{other}", "list"]\npaths = ["app/**"]\n'
        f'[[roles.r.grants]]\nactions = ["{missing}"]\npaths = ["{FOLDER}a"]\n',
    )
    with pytest.raises(AccessDenied) as caught:
        migrate(mounts.open(READER))
    assert "hidden" not in str(caught.value)
    assert FOLDER in mounts.open().opened.mounts()


def test_what_is_not_mounted_is_not_migrated(mounts: MountWorld) -> None:
    vault = mounts.mount()
    with pytest.raises(SecretNotFound):
        migrate(vault, "app/other/")
    assert finish_homecoming(vault, FOLDER, silent) is None


def test_what_cannot_be_read_or_held_is_said_and_nothing_is_written(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    version = str(vault.write(f"{FOLDER}b", "1"))
    vault.write(f"{FOLDER}c", "1", metadata={"much": "x" * 20_000})
    mounts.store().set_state("b", version, State.DISABLED)
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    report = home.fetch()
    assert sorted(lost.name for lost in report.obstacles) == ["b", "c"]
    with pytest.raises(Conflict):
        home.take_over(report)
    assert FOLDER in mounts.open().opened.mounts()


def test_a_store_that_gives_no_answer_leaves_the_mount_as_it_was(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    vault.read(f"{FOLDER}a")
    mounts.store().fail(UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        migrate(vault)
    assert FOLDER in vault.opened.mounts()


def test_a_store_that_changes_all_the_time_does_not_come_home(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    other, count = mounts.open(), iter(range(1_000))
    store = mounts.store()

    def change() -> None:
        store.fail(None)
        other.write(f"{FOLDER}a", f"{next(count)}")
        store.fail(change)

    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    store.fail(change)
    with pytest.raises(Conflict):
        home.fetch()
    store.fail(None)
    assert FOLDER in vault.opened.mounts()


# --- what comes home --------------------------------------------------------------------------------------------------


def test_all_of_a_mount_is_in_the_vault_and_references_stay_valid(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/own", "mine")
    vault.write(f"{FOLDER}a", "1", metadata={"owner": "pay"})
    version = vault.write(f"{FOLDER}db/main", {"user": "web", "password": "x"})
    vault.label(f"{FOLDER}db/main", "blue", version)
    vault.write(f"{FOLDER}big", b"\x00" * 60_000)
    other = mounts.open(READER)
    reference = other.ref(f"{FOLDER}db/main#password")
    assert reference.reveal() == "x"
    report, done = migrate(vault)
    assert (report.secrets, report.versions, report.lost, report.obstacles) == (3, 3, [], [])
    assert done == Homecome(3, 3, [], is_store_checked=True)
    mounts.store().fail(UNAVAILABLE)
    assert reference.reveal() == "x"
    for opened in (vault, mounts.open(), other):
        assert opened.opened.mounts() == {}
        assert opened.list(FOLDER) == [f"{FOLDER}a", f"{FOLDER}big", f"{FOLDER}db/main"]
        assert revealed(opened.read(f"{FOLDER}big")) == b"\x00" * 60_000
    assert dict(vault.read(f"{FOLDER}a").metadata) == {"owner": "pay"}
    assert revealed(vault.read(f"{FOLDER}db/main", at="blue")) == {"user": "web", "password": "x"}
    assert copies(vault) == []
    assert verify_vault(vault.opened).problems == []
    assert verify_vault(vault.opened).orphans == {}
    (removed,) = events(vault, Event.MOUNT_REMOVED)
    assert (removed.obj["path"], removed.obj["count"]) == (FOLDER, 3)
    (finished,) = events(vault, Event.SYNC_FINISHED)
    assert finished.obj == {"path": "memory:one", "to": FOLDER, "count": 3}
    assert vault.write(f"{FOLDER}a", "2", expect=1) == 2


def test_handles_that_were_open_before_use_the_vault_and_never_again_the_store(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0, keep_s=0)
    for name in "abcdef":
        vault.write(f"{FOLDER}{name}", "1")
    others = [mounts.open() for _ in range(7)]
    for other in others:
        other.list(FOLDER)
    migrate(vault)
    before = mounts.store().asked
    mounts.store().fail(UNAVAILABLE)
    assert revealed(others[0].read(f"{FOLDER}a")) == "1"
    (found,) = others[1].read_many([(f"{FOLDER}b", None)])
    assert not isinstance(found, SecurecfgError)
    assert others[2].write(f"{FOLDER}c", "2", expect=1) == 2
    others[3].delete(f"{FOLDER}d")
    others[4].move(f"{FOLDER}e", f"{FOLDER}moved")
    assert len(others[5].history(f"{FOLDER}f")) == 1
    assert others[6].list(FOLDER) == [f"{FOLDER}{name}" for name in ("a", "b", "c", "f", "moved")]
    assert mounts.store().asked == before


def test_a_mount_that_ends_while_a_change_is_on_its_way_is_not_changed(mounts: MountWorld) -> None:
    from securecfg.mounts import Mounts

    vault = mounts.mount()
    assert isinstance(vault, MountedVault)
    vault.write(f"{FOLDER}a", "1")
    other = mounts.open()
    publish, count = vault.authority.publish, iter(range(9))

    def slow(planner: Callable[[Publication], Plan], request_id: str = "") -> object:
        if next(count) == 0:
            Mounts(other.authority).remove(FOLDER)
        return publish(planner, request_id)

    vault.authority.publish = slow  # type: ignore[method-assign]  # what happens in between
    with pytest.raises(PathMounted):
        vault.write(f"{FOLDER}a", "2")
    assert len(mounts.store().secrets["a"].contents) == 1
    assert events(vault)[-1].event == Event.MOUNT_FAILED


def test_an_empty_mount_just_ends(mounts: MountWorld) -> None:
    vault = mounts.mount()
    assert migrate(vault)[1].secrets == 0
    assert vault.opened.mounts() == {}


def test_earlier_live_versions_and_their_labels_come_along_oldest_first(mounts: MountWorld) -> None:
    vault = mounts.mount()
    ids = [str(vault.write(f"{FOLDER}a", str(number))) for number in range(5)]
    vault.label(f"{FOLDER}a", "blue", ids[1])
    vault.label(f"{FOLDER}a", "old", ids[0])
    vault.label(f"{FOLDER}a", "not a label", ids[4])
    mounts.store().set_state("a", ids[0], State.DISABLED)
    mounts.store().set_state("a", ids[2], State.DESTROYED)
    report, _ = migrate(vault, takes_versions=True)
    assert report.versions == 3
    assert {(lost.what, lost.reason) for lost in report.lost} == {
        (f"version {ids[0]}", "it is disabled"),
        (f"version {ids[2]}", "it is destroyed"),
        ("label old", f"version {ids[0]} does not come along"),
        ("label not a label", "the vault has no such labels"),
    }
    assert [revealed(vault.read(f"{FOLDER}a", at=number)) for number in (1, 2, 3)] == ["1", "3", "4"]
    assert revealed(vault.read(f"{FOLDER}a")) == "4"
    assert vault.read(f"{FOLDER}a", at="blue").version == 1
    assert [info.version for info in vault.history(f"{FOLDER}a")] == [3, 2, 1]


def test_a_survey_keeps_and_changes_nothing(mounts: MountWorld) -> None:
    vault = mounts.mount(keep_s=0)
    vault.write(f"{FOLDER}a", "1")
    before = vault.opened.replica.state.next_id
    report = Homecoming(vault, FOLDER, silent, takes_versions=True).survey()
    assert (report.secrets, report.versions) == (1, 1)
    assert copies(vault) == []
    assert vault.opened.replica.state.next_id == before
    assert FOLDER in vault.opened.mounts()


@pytest.mark.parametrize("step", ["fetching", "comparing"])
def test_no_copy_is_kept_of_what_was_changed_here_while_it_was_read(
    mounts: MountWorld, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    vault = mounts.mount(max_age_s=3600, refresh_s=0)
    assert isinstance(vault, MountedVault)
    mounts.handle("one").write("a", "old")
    home, source = Homecoming(vault, FOLDER, silent, takes_versions=False), vault.sources[FOLDER]
    read_now = source.read_now

    def overtaken(paths: Sequence[str]) -> dict[str, Answer | SecurecfgError]:
        found = read_now(paths)
        vault.write(f"{FOLDER}a", "new")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(source, "read_now", overtaken)
        if step == "fetching":
            home._fetch(lambda _done, _total: None)
        else:
            home._pass(lambda _done, _total: None, keep=True)
    assert revealed(mounts.open().read(f"{FOLDER}a")) == "new"
    assert revealed(vault.read(f"{FOLDER}a")) == "new"
    home.take_over(home.fetch())
    assert revealed(mounts.open().read(f"{FOLDER}a")) == "new"


def test_a_copy_is_as_old_as_the_question(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    asked: list[int] = []
    # The listing of the first step, and its values.
    mounts.store().fail_next(None, lambda: asked.append(mounts.clock.now_ns()))
    home.fetch()
    copy = home._copies.get("a")
    assert copy is not None
    assert copy.fetched_ns < asked[0]


def test_the_note_of_a_migration_is_erased(mounts: MountWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")

    def fail(_: object) -> None:
        message = "another reader is in the way"
        raise DestroyPending(message)

    with monkeypatch.context() as patched:
        patched.setattr(migration, "finish_destruction", fail)
        migrate(vault)
    assert vault.opened.is_destruction_pending
    assert not mounts.open().opened.is_destruction_pending


def test_what_changes_while_it_is_fetched_is_fetched_again(mounts: MountWorld) -> None:
    vault = mounts.mount()
    for name in "abc":
        vault.write(f"{FOLDER}{name}", "old")
    other = mounts.open()

    def change() -> None:
        other.write(f"{FOLDER}a", "new")
        other.delete(f"{FOLDER}b")
        other.write(f"{FOLDER}d", "fresh")

    mounts.store().fail_next(None, None, None, change)  # the listing and the values; then the second pass begins
    migrate(vault)
    assert {path[len(FOLDER) :]: revealed(vault.read(path)) for path in vault.list(FOLDER)} == {
        "a": "new",
        "c": "old",
        "d": "fresh",
    }


def test_what_changes_in_the_store_after_the_last_look_is_told(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "old")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    report = home.fetch()
    # Straight into the store, as somebody does who knows nothing of the vault.
    for name in "az":
        mounts.handle("one").write(name, "late")
    assert home.take_over(report).late == ["a", "z"]
    assert revealed(vault.read(f"{FOLDER}a")) == "old"


@pytest.mark.parametrize("names", ["", "a"])
def test_a_mount_that_is_changed_meanwhile_stays(mounts: MountWorld, names: str) -> None:
    from securecfg.mounts import Mount, Mounts

    vault = mounts.mount()
    for name in names:
        vault.write(f"{FOLDER}{name}", "1")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    report = home.fetch()
    Mounts(mounts.open().authority).replace(Mount(FOLDER, ("memory:two",)))
    with pytest.raises(Conflict):
        home.take_over(report)
    assert FOLDER in mounts.open().opened.mounts()


def test_a_copy_that_another_process_has_dropped_is_fetched_again(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    report = home.fetch()
    mounts.open().write(f"{FOLDER}a", "2")
    assert home.take_over(report).late == []
    assert revealed(vault.read(f"{FOLDER}a")) == "2"


def test_a_copy_that_another_process_has_replaced_is_fetched_again(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0)
    vault.write(f"{FOLDER}a", "1")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    report = home.fetch()
    mounts.handle("one").write("a", "2")
    assert revealed(mounts.open().read(f"{FOLDER}a")) == "2"
    assert home.take_over(report).late == []
    assert revealed(vault.read(f"{FOLDER}a")) == "2"


def test_an_older_copy_that_somebody_has_put_back_does_not_come_home(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    home.fetch()
    (file,) = copies(vault)
    older = file.read_bytes()
    mounts.handle("one").write("a", "2")
    report = home.fetch()
    file.write_bytes(older)
    assert home.take_over(report).late == []
    assert revealed(vault.read(f"{FOLDER}a")) == "2"


def test_what_is_not_home_as_it_was_is_told_and_its_copy_is_kept(mounts: MountWorld, monkeypatch: Any) -> None:  # noqa: ANN401 - of pytest
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    report = home.fetch()
    monkeypatch.setattr(home, "_content", lambda *_: Content.of(KIND_TEXT, b"2"))
    with pytest.raises(Tampered):
        home.take_over(report)
    assert copies(vault)


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_what_was_fetched_is_not_fetched_again_in_the_first_step(mounts: MountWorld) -> None:
    CAPABILITIES["one"] = ALL._replace(reads_at_once=1)
    vault = mounts.mount(keep_s=0)
    for number in range(8):
        vault.write(f"{FOLDER}{number}", str(number))
    store = mounts.store()
    store.fail_next(*[None] * 6, lambda: store.fail(UNAVAILABLE))
    with pytest.raises(BackendUnavailable):
        migrate(vault)
    store.fail(None)
    assert len(copies(vault)) == 6
    vault, before = mounts.open(), store.asked
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    home.fetch()
    # Two listings, what was missing, and one pass over all.
    assert store.asked - before == 2 + 2 + 8


def test_what_dies_after_the_transaction_is_finished_by_the_next(mounts: MountWorld, monkeypatch: Any) -> None:  # noqa: ANN401 - of pytest
    vault = mounts.mount()
    ids = [vault.write(f"{FOLDER}a", str(number)) for number in range(3)]
    vault.write(f"{FOLDER}b", "1")
    assert ids

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migration, "finish_homecoming", die)
        with pytest.raises(KeyboardInterrupt):
            migrate(vault, takes_versions=True)
    assert vault.opened.mounts() == {}
    assert copies(vault)
    vault = mounts.open()
    assert vault.write(f"{FOLDER}b", "since") == 2
    with pytest.raises(AccessDenied):
        finish_homecoming(mounts.open(READER), FOLDER, silent)
    done = finish_homecoming(vault, FOLDER, silent)
    assert done == Homecome(2, 2, [], is_store_checked=True)
    assert copies(vault) == []
    assert finish_homecoming(vault, FOLDER, silent) is None


def test_a_store_that_cannot_be_asked_afterwards_is_told(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "1")
    home = Homecoming(vault, FOLDER, silent, takes_versions=False)
    report = home.fetch()
    mounts.store().fail(UNAVAILABLE)
    assert home.take_over(report) == Homecome(1, 1, [], is_store_checked=False)


def test_no_value_is_readable_beside_the_vault(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write(f"{FOLDER}a", "cAnArY-value")
    Homecoming(vault, FOLDER, silent, takes_versions=True).fetch()
    assert copies(vault)
    assert all(b"cAnArY" not in path.read_bytes() for path in copies(vault))


def test_an_error_of_one_secret_hides_none_of_the_others(mounts: MountWorld) -> None:
    vault = mounts.mount()
    ids = {name: str(vault.write(f"{FOLDER}{name}", name)) for name in "abc"}
    mounts.store().set_state("b", ids["b"], State.DISABLED)
    found = vault.read_now([f"{FOLDER}{name}" for name in "abcd"])  # type: ignore[attr-defined]  # it has mounts
    assert [isinstance(one, SecurecfgError) for one in found] == [False, True, False, True]
