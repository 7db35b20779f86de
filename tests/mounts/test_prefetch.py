"""What is fetched ahead of its reads: how often a store is asked for it, for whom, and what is recorded when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.backends import OpenBackend
from securecfg.errors import (
    AuditUnavailable,
    BackendDenied,
    BackendUnavailable,
    InvalidPath,
    NotAuthenticated,
    SecretNotFound,
    SecurecfgError,
    VaultClosed,
)
from securecfg.mounts import Mount, Mounts, Rules
from securecfg.mounts.health import Limits
from securecfg.testing.memory_backend import MemoryBackend
from tests.backends.test_handle import NOT_REACHED, UNAVAILABLE, raising
from tests.mounts.test_mounted import events, revealed
from tests.mounts.test_source import Place
from tests.vault.world import ADMIN, BLIND, GRANTS, READER, grant

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.vault import Vault
    from tests.mounts.conftest import MountWorld

HUNDRED = [f"app/corp/{number:02}" for number in range(100)]
LISTING = "svc:lists"
LISTS = """
[roles.lists]
members = ["svc:lists"]
[[roles.lists.grants]]
actions = ["list"]
paths = ["app/**"]
[[roles.lists.grants]]
actions = ["read"]
paths = ["app/corp/a"]
"""


def other(mounts: MountWorld, name: str = "one") -> OpenBackend:
    """Return the store as somebody else has it."""
    return OpenBackend(MemoryBackend(mounts.store(name)))


def filled(mounts: MountWorld, *names: str) -> None:
    for name in names:
        other(mounts).write(name, f"value of {name}")


def a_hundred(mounts: MountWorld) -> None:
    filled(mounts, *(path.removeprefix("app/corp/") for path in HUNDRED))


def known_without_the_store(mounts: MountWorld, *names: str) -> list[str]:
    """Return which secrets can be read while the store gives no answer."""
    mounts.store().fail(UNAVAILABLE)
    found = mounts.open().read_many([(f"app/corp/{name}", None) for name in names])
    return [name for name, each in zip(names, found, strict=True) if not isinstance(each, SecurecfgError)]


# --- who may ------------------------------------------------------------------------------------------------------


def test_a_path_that_is_none_is_refused_and_nothing_is_fetched(mounts: MountWorld) -> None:
    vault = mounts.mount()
    filled(mounts, "a")
    before = mounts.store().asked
    for path in ("/", "app//x", "/app/corp/a", "app/corp/ a\n"):
        with pytest.raises(InvalidPath):
            vault.prefetch(["app/corp/a", path])
    assert mounts.store().asked == before


def test_nobody_and_who_is_gone_fetch_nothing(mounts: MountWorld) -> None:
    vault = mounts.mount()
    filled(mounts, "a")
    before = mounts.store().asked
    with pytest.raises(NotAuthenticated):
        mounts.open(None).prefetch(["app/corp/"])
    with vault.acting(READER) as lent:
        pass
    with pytest.raises(VaultClosed):
        lent.prefetch(["app/corp/a"])
    assert mounts.store().asked == before


def test_a_store_is_not_asked_for_a_path_that_is_denied_and_the_denial_is_recorded(mounts: MountWorld) -> None:
    vault = mounts.mount()
    filled(mounts, "a", "b")
    grant(vault, GRANTS + LISTS)
    before = mounts.store().asked
    assert mounts.open(LISTING).prefetch(["app/corp/b"]) == 0
    assert mounts.store().asked == before
    (denied,) = events(vault, Event.ACCESS_DENIED)
    assert (denied.subject.id, denied.obj["path"], denied.obj["action"]) == (LISTING, "app/corp/b", "read")


def test_of_a_folder_only_what_may_be_listed_and_read_is_fetched(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0)
    filled(mounts, "a", "b", "c")
    grant(vault, GRANTS + LISTS)
    assert mounts.open(LISTING).prefetch(["app/"]) == 1
    assert events(vault, Event.ACCESS_DENIED) == []
    assert known_without_the_store(mounts, "a", "b", "c") == ["a"]


def test_what_is_denied_and_what_is_not_there_look_alike(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0)
    filled(mounts, "a")
    Mounts(vault.authority).add(Mount("hidden/", ("memory:one",)))
    blind = mounts.open(BLIND)
    assert [blind.prefetch([path]) for path in ("app/corp/none", "hidden/a", "hidden/none")] == [0, 0, 0]
    assert blind.prefetch(["app/corp/"]) == 0
    assert known_without_the_store(mounts, "a") == []
    mounts.store().fail(None)
    assert blind.prefetch(["app/corp/a", "app/corp/none", "hidden/a"]) == 1


def test_what_the_vault_itself_holds_is_neither_decided_on_nor_counted(mounts: MountWorld) -> None:
    vault = mounts.create()
    grant(vault)
    vault.write("app/own", "mine")
    for opened in (vault, mounts.open(READER)):
        assert opened.prefetch(["app/own", "app/none", "other/x", "app/", ""]) == 0
        with pytest.raises(InvalidPath):
            opened.prefetch(["app//x"])
    with pytest.raises(NotAuthenticated):
        mounts.open(None).prefetch([])
    Mounts(vault.authority).add(Mount("app/corp/", ("memory:one",)))
    before = mounts.store().asked
    assert mounts.open(READER).prefetch(["app/own", "other/x"]) == 0
    assert mounts.store().asked == before
    assert events(vault, Event.ACCESS_DENIED) == []


# --- records ----------------------------------------------------------------------------------------------------------


def test_the_first_read_of_what_was_fetched_ahead_is_recorded(mounts: MountWorld) -> None:
    vault = mounts.mount()
    filled(mounts, "a", "b")
    reader = mounts.open(READER)
    assert reader.prefetch(["app/corp/"]) == 2
    assert reader.prefetch(["app/corp/a"]) == 1
    assert events(vault, Event.MOUNT_READ, Event.MOUNT_READ_COUNTED) == []
    asked = mounts.store().asked
    reader.read("app/corp/a")
    assert [(read.obj["path"], read.obj["served"]) for read in events(vault, Event.MOUNT_READ)] == [
        ("app/corp/a", "cache")
    ]
    reader.read("app/corp/a")
    reader.read_many([("app/corp/b", None)])
    assert [(read.obj["path"], read.subject.id) for read in events(vault, Event.MOUNT_READ)] == [
        ("app/corp/a", READER),
        ("app/corp/b", READER),
    ]
    assert mounts.store().asked == asked


def test_what_was_fetched_ahead_is_not_handed_out_where_its_read_cannot_be_recorded(mounts: MountWorld) -> None:
    mounts.mount().close()
    filled(mounts, "a")
    reader = mounts.open(read_only=True)
    assert reader.prefetch(["app/corp/a"]) == 1
    with pytest.raises(AuditUnavailable):
        reader.read("app/corp/a")
    with pytest.raises(AuditUnavailable):
        reader.read_many([("app/corp/a", None)])


def test_what_is_revoked_after_it_was_fetched_ahead_is_not_handed_out(mounts: MountWorld) -> None:
    vault = mounts.mount()
    filled(mounts, "a")
    reader = mounts.open(READER)
    assert reader.prefetch(["app/corp/a"]) == 1
    grant(vault, GRANTS.replace("svc:reader", "svc:other"))
    with pytest.raises(SecurecfgError) as refused:
        reader.read("app/corp/a")
    assert refused.value.code == "denied"


# --- how often a store is asked -----------------------------------------------------------------------------------


def test_a_hundred_secrets_take_as_few_calls_as_the_store_allows(mounts: MountWorld) -> None:
    mounts.mount()
    a_hundred(mounts)
    reader = mounts.open(READER)
    before = mounts.store().asked
    assert reader.prefetch(HUNDRED) == 100
    assert mounts.store().asked - before == 10  # of ten each
    assert reader.prefetch([*HUNDRED, *HUNDRED]) == 100
    assert revealed(reader.read(HUNDRED[7])) == "value of 07"
    assert not [each for each in reader.read_many([(path, None) for path in HUNDRED]) if isinstance(each, Exception)]
    assert mounts.store().asked - before == 10


@pytest.mark.parametrize("folders", [["app/corp/"], [""], ["app/", "app/corp/"], ["app/corp/", HUNDRED[3]]])
def test_a_folder_takes_one_call_more_for_its_listing(mounts: MountWorld, folders: list[str]) -> None:
    mounts.mount()
    a_hundred(mounts)
    before = mounts.store().asked
    assert mounts.open(READER).prefetch(iter(folders)) == 100
    assert mounts.store().asked - before == 11


def test_a_folder_in_a_mount_is_what_lies_in_it(mounts: MountWorld) -> None:
    mounts.mount(max_age_s=0, refresh_s=0)
    filled(mounts, "web/a", "web/b", "website", "db")
    assert mounts.open(READER).prefetch(["app/corp/web/", "app/corp/none/"]) == 2
    assert known_without_the_store(mounts, "web/a", "web/b", "website", "db") == ["web/a", "web/b"]


def test_what_another_handle_has_fetched_ahead_is_not_asked_for_again(mounts: MountWorld) -> None:
    mounts.mount()
    filled(mounts, "a")
    assert mounts.open(READER, cache_values=0).prefetch(["app/corp/a"]) == 1
    before = mounts.store().asked
    vault = mounts.open()
    assert vault.prefetch(["app/corp/a"]) == 1
    assert revealed(vault.read("app/corp/a")) == "value of a"
    assert mounts.store().asked == before


def test_that_there_is_no_secret_is_believed_for_a_moment(mounts: MountWorld) -> None:
    vault = mounts.mount()
    before = mounts.store().asked
    assert [vault.prefetch(["app/corp/none"]) for _ in range(3)] == [0, 0, 0]
    assert mounts.store().asked - before == 1
    with pytest.raises(SecretNotFound):
        vault.read("app/corp/none")


def test_what_is_to_be_refreshed_is_asked_for_together_and_what_is_too_old_too(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=60, refresh_s=60)
    names = [str(number) for number in range(30)]
    for name in names:
        place.write(name, "1")
    source = place.source()
    for seconds in (0, 70, 200):
        place.later(seconds)
        before = place.asked
        assert source.prefetch(names) == (30, [])
        assert place.asked - before == 3
        assert source.prefetch(names) == (30, [])
        assert place.asked - before == 3


def test_where_nothing_is_kept_nothing_is_fetched(tmp_path: Path) -> None:
    place = Place(tmp_path, keep_s=0)
    place.write("a", "1")
    assert place.source().prefetch(["a"]) == (1, [])
    before = place.asked
    assert place.source(kept=0).prefetch(["a"]) == (0, [])
    forgetful = Place(tmp_path / "2", keep_s=0, max_age_s=0, refresh_s=0)
    forgetful.write("a", "1")
    assert forgetful.source().prefetch(["a"]) == (0, [])
    assert (place.asked, forgetful.asked) == (before, 1)


def test_only_as_many_are_known_as_are_kept(tmp_path: Path) -> None:
    place = Place(tmp_path, keep_s=0)
    for name in "abcde":
        place.write(name, "1")
    assert place.source(kept=3).prefetch([*"abcde"]) == (3, [])


# --- limits and failures --------------------------------------------------------------------------------------------


def test_calls_that_the_limits_let_pass_slowly_come_slowly_and_are_not_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, calls_per_s=2)
    names = [f"{number:03}" for number in range(500)]
    for name in names:
        place.write(name, "1")
    source = place.source(kept=1_000)
    time, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time[0] += seconds

    source._limits = Limits(2, lambda: time[0], sleep)
    assert source.prefetch(names) == (500, [])
    assert max(slept) <= 1
    assert time[0] == pytest.approx(24)  # fifty calls, of which two were at hand


def test_more_calls_than_a_day_allows_are_not_made_ahead_either(tmp_path: Path) -> None:
    place = Place(tmp_path, calls_per_day=3)
    names = [f"{number:02}" for number in range(40)]
    for name in names:
        place.write(name, "1")
    source, before = place.source(), place.asked
    assert source.prefetch(names[:30]) == (30, [])
    known, failures = source.prefetch(names)
    assert known == 30
    assert [type(failure) for failure in failures] == [BackendUnavailable] * 10
    assert place.asked - before == 3


def test_a_backend_that_rests_is_not_asked_ahead_either(mounts: MountWorld) -> None:
    vault = mounts.mount()
    a_hundred(mounts)
    mounts.store().fail(NOT_REACHED)
    with pytest.raises(BackendUnavailable):
        vault.prefetch(["app/corp/00"])
    before = mounts.store().asked
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            vault.prefetch([*HUNDRED, "app/corp/"])
    assert mounts.store().asked == before


def test_what_the_store_refuses_is_told_after_the_rest_was_fetched(mounts: MountWorld) -> None:
    vault = mounts.mount("app/corp/", max_age_s=0, refresh_s=0)
    Mounts(vault.authority).add(Mount("app/two/", ("memory:two",)))
    filled(mounts, "a", "b")
    other(mounts, "two").write("x", "1")
    refused = raising(BackendDenied("the store refuses"))
    mounts.store().fail_next(refused, refused)  # the two together, and the first alone
    with pytest.raises(BackendDenied):
        vault.prefetch(["app/corp/a", "app/corp/b", "app/corp/none", "app/two/x"])
    assert known_without_the_store(mounts, "a", "b") == ["b"]
    mounts.store("two").fail(UNAVAILABLE)
    assert revealed(mounts.open().read("app/two/x")) == "1"


def test_a_listing_that_gets_no_answer_is_told_after_the_rest_was_fetched(mounts: MountWorld) -> None:
    vault = mounts.mount("app/corp/")
    Mounts(vault.authority).add(Mount("app/two/", ("memory:two",)))
    other(mounts, "two").write("x", "1")
    mounts.store().fail(UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        vault.prefetch(["app/"])
    mounts.store("two").fail(UNAVAILABLE)
    assert revealed(mounts.open().read("app/two/x")) == "1"


# --- without the store --------------------------------------------------------------------------------------------


def test_what_was_fetched_ahead_is_handed_out_and_recorded_when_the_store_is_down(mounts: MountWorld) -> None:
    vault = mounts.mount()
    filled(mounts, "a", "b")
    assert mounts.open(READER).prefetch(["app/corp/"]) == 2
    mounts.store().fail(NOT_REACHED)
    mounts.clock.advance(timedelta(hours=1))
    reader = mounts.open(READER)
    assert revealed(reader.read("app/corp/a")) == "value of a"
    (read,) = events(vault, Event.MOUNT_READ)
    assert (read.subject.id, read.obj["served"], read.obj["age_s"]) == (READER, "last-good", 3_600)
    assert reader.prefetch(["app/corp/a", "app/corp/b"]) == 2
    mounts.clock.advance(timedelta(days=1))
    with pytest.raises(BackendUnavailable):
        mounts.open(READER).prefetch(["app/corp/a"])


def test_offline_nobody_is_asked_ahead(mounts: MountWorld) -> None:
    vault = mounts.mount()
    filled(mounts, "a", "b")
    assert vault.prefetch(["app/corp/"]) == 2
    (mount,) = Mounts(vault.authority).all()
    Mounts(vault.authority).replace(mount._replace(rules=Rules(is_offline=True)))
    filled(mounts, "c")
    before = mounts.store().asked
    mounts.clock.advance(timedelta(hours=1))
    away = mounts.open(READER)
    assert away.prefetch(["app/corp/"]) == 2
    assert away.list("app/corp/") == ["app/corp/a", "app/corp/b"]
    assert revealed(away.read("app/corp/b")) == "value of b"
    with pytest.raises(BackendUnavailable):
        away.prefetch(["app/corp/c"])
    assert mounts.store().asked == before
    assert [read.obj["served"] for read in events(vault, Event.MOUNT_READ)] == ["last-good"]


def test_what_a_store_has_changed_meanwhile_is_fetched_again_when_it_is_too_old(mounts: MountWorld) -> None:
    vault: Vault = mounts.mount(max_age_s=60, refresh_s=0)
    filled(mounts, "a")
    assert vault.prefetch(["app/corp/a"]) == 1
    other(mounts).write("a", "new")
    mounts.clock.advance(timedelta(seconds=61))
    assert mounts.open(ADMIN).prefetch(["app/corp/a"]) == 1
    assert revealed(mounts.open(READER).read("app/corp/a")) == "new"
