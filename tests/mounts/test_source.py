"""What a mount hands out without asking, whom it asks in turn, and what it hands out when nobody answers."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.audit import Event
from securecfg.backends import OpenBackend, State
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    SecretNotFound,
    SecurecfgError,
    VersionDisabled,
)
from securecfg.mounts import Mount, Rules
from securecfg.mounts.copies import Copies, Copy
from securecfg.mounts.source import Served, Source
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.memory_backend import MemoryBackend, MemoryStore
from tests.backends.test_handle import NOT_REACHED, UNAVAILABLE, raising
from tests.mounts.test_mounted import events, revealed
from tests.vault.world import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.backends import Found
    from tests.mounts.conftest import MountWorld

HASTY = Patience(2.0, ())
KEY = bytes(range(32))
VAULT_ID = b"v" * 16


class Place:
    """A mount over stores in memory, with a clock that goes when it is told to."""

    def __init__(self, folder: Path, stores: int = 1, **rules: Any) -> None:  # noqa: ANN401 - those of `Rules`
        self.folder = folder
        self.clock = ManualClock()
        self.stores = [MemoryStore() for _ in range(stores)]
        self.mount = Mount("corp/", ("memory:",) * stores, Rules(**rules), id=b"m" * 16, key=KEY)

    def source(self, kept: int = 100) -> Source:
        """Return the mount, opened as another process would."""
        handles = [OpenBackend(MemoryBackend(store), HASTY) for store in self.stores]
        return Source(self.mount, self.copies(), self.clock, kept, handles)

    def copies(self) -> Copies:
        return Copies(str(self.folder), VAULT_ID, self.mount)

    def write(self, path: str, value: str, store: int = 0) -> str:
        return OpenBackend(MemoryBackend(self.stores[store]), HASTY).write(path, value)

    def later(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @property
    def asked(self) -> int:
        return sum(store.asked for store in self.stores)


def text(found: Found) -> object:
    assert isinstance(found.value, Secret)
    return found.value.reveal()


# --- what is known ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 100])
def test_a_value_is_handed_out_without_asking_until_it_is_too_old(tmp_path: Path, kept: int) -> None:
    place = Place(tmp_path, max_age_s=100, refresh_s=0)
    place.write("a", "1")
    source = place.source(kept)
    assert source.read("a").served is Served.STORE
    place.write("a", "2")
    before = place.asked
    place.later(89)
    answer = source.read("a")
    assert (text(answer.found), answer.served, place.asked) == ("1", Served.CACHE, before)
    place.later(12)
    answer = source.read("a")
    assert (text(answer.found), answer.served) == ("2", Served.STORE)


def test_another_process_takes_a_fresh_copy(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=100)
    place.write("a", "1")
    place.source().read("a")
    before = place.asked
    answer = place.source().read("a")
    assert (text(answer.found), answer.served, place.asked) == ("1", Served.CACHE, before)


def test_values_are_not_all_asked_for_again_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=1_000, calls_per_s=0)
    source = place.source(1_000)
    for number in range(50):
        place.write(f"a{number}", "x")
    ends = {source.read(f"a{number}").fresh_until_ns for number in range(50)}
    assert max(ends) - min(ends) > 20 * 10**9


def test_a_value_is_refreshed_behind_the_back_of_who_reads(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=100, refresh_s=50)
    place.write("a", "1")
    source = place.source()
    source.read("a")
    place.write("a", "2")
    place.later(120)
    assert text(source.read("a").found) == "1"
    deadline = time.monotonic() + 10
    while text(source.read("a").found) == "1" and time.monotonic() < deadline:
        time.sleep(0.005)
    assert text(source.read("a").found) == "2"


def test_that_there_is_no_secret_is_believed_for_a_moment(tmp_path: Path) -> None:
    place = Place(tmp_path, missing_s=5)
    source = place.source()
    for _ in range(3):
        with pytest.raises(SecretNotFound):
            source.read("a")
    assert place.asked == 1
    place.write("a", "1")
    place.later(6)
    assert text(source.read("a").found) == "1"


def test_a_secret_that_is_gone_leaves_no_copy(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=0, refresh_s=0)
    place.write("a", "1")
    source = place.source()
    source.read("a")
    OpenBackend(MemoryBackend(place.stores[0])).delete("a")
    with pytest.raises(SecretNotFound):
        source.read("a")
    assert place.copies().get("a") is None
    place.stores[0].fail(NOT_REACHED)
    place.later(60)
    with pytest.raises(BackendUnavailable):
        source.read("a")


def test_what_was_changed_here_is_handed_out_no_more(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=100)
    place.write("x/a", "1")
    source = place.source()
    source.read("x/a")
    assert source.list("x/") == ["x/a"]
    assert source.list("") == ["x/a"]
    source.write("x/b", "1", None, None)
    assert source.list("x/") == ["x/a", "x/b"]
    assert place.source().list("") == ["x/a", "x/b"]
    place.stores[0].fail_late(UNAVAILABLE)
    with pytest.raises(CommitUnknown):
        source.write("x/a", "2", None, None)
    assert text(place.source().read("x/a").found) == "2"
    assert text(source.read("x/a").found) == "2"
    source.write("x/a", "3", None, None)
    place.stores[0].fail(NOT_REACHED)
    with pytest.raises(BackendUnavailable):
        source.read("x/a")


def test_memory_is_bounded(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=100, keep_s=0, refresh_s=0)
    for number in range(20):
        place.write(f"a{number:02}", "x")
    source = place.source(5)
    for number in range(20):
        source.read(f"a{number:02}")
    before = place.asked
    source.read("a19")
    assert place.asked == before
    source.read("a00")
    assert place.asked == before + 1
    for number in range(20):
        with pytest.raises(SecretNotFound):
            source.read(f"none{number}")
    assert len(source._missing) <= 5


def test_threads_that_want_one_secret_make_one_call(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write("a", "1")
    source, begun = place.source(), threading.Event()
    before = place.asked

    def slow() -> None:
        begun.set()
        time.sleep(0.3)

    place.stores[0].fail_next(slow)
    threads = [threading.Thread(target=source.read, args=("a",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    begun.wait(5)
    for thread in threads:
        thread.join()
    assert place.asked - before == 1


# --- when nobody answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 100])
def test_the_last_good_value_is_handed_out_until_it_is_too_old(tmp_path: Path, kept: int) -> None:
    place = Place(tmp_path, max_age_s=60, refresh_s=0, keep_s=3_600)
    place.write("a", "1")
    place.source().read("a")
    place.source().list("")
    place.stores[0].fail(UNAVAILABLE)
    source = place.source(kept)
    place.later(3_500)
    answer = source.read("a")
    assert (text(answer.found), answer.served) == ("1", Served.LAST_GOOD)
    assert source.list("") == ["a"]
    assert source.usage.mine.last_good == 2
    many = source.read_many(["a", "b"])
    assert isinstance(many["b"], BackendUnavailable)
    assert not isinstance(many["a"], SecurecfgError)
    place.later(200)
    with pytest.raises(BackendUnavailable) as too_old:
        source.read("a")
    assert "old" in too_old.value.hint


def test_nothing_is_kept_where_nothing_may_be(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=0, refresh_s=0, keep_s=0)
    place.write("a", "1")
    source = place.source()
    source.read("a")
    assert not list(place.copies().all())
    place.stores[0].fail(UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        source.read("a")


def test_a_copy_from_the_future_is_none(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write("a", "1")
    place.later(1_000)
    place.source().read("a")
    place.later(-2_000)
    place.stores[0].fail(UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        place.source().read("a")


@pytest.mark.parametrize("error", [BackendDenied("no"), BackendLoginRefused("no"), BackendRefused("no")])
def test_a_store_that_refuses_is_obeyed(tmp_path: Path, error: SecurecfgError) -> None:
    place = Place(tmp_path, 2, max_age_s=0, refresh_s=0)
    place.write("a", "1")
    place.write("a", "1", store=1)
    source = place.source()
    source.read("a")
    place.stores[0].fail(raising(error))
    with pytest.raises(type(error)):
        source.read("a")
    many = source.read_many(["a", "b"])
    assert all(isinstance(each, type(error)) for each in many.values())


def test_of_many_secrets_one_that_is_refused_takes_no_other_away(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for path in ("a", "b", "c"):
        place.write(path, path)
    place.stores[0].set_state("b", place.write("b", "x"), State.DISABLED)
    many = place.source().read_many(["a", "b", "c"])
    assert isinstance(many["b"], VersionDisabled)
    assert [text(many[path].found) for path in ("a", "c")] == ["a", "c"]  # type: ignore[union-attr]  # no errors
    place.stores[0].fail(raising(BackendLoginRefused("no")))
    before = place.asked
    assert all(isinstance(each, BackendLoginRefused) for each in place.source(0).read_many(list("defgh")).values())
    assert place.asked == before + 1


def test_offline_nobody_is_asked(tmp_path: Path) -> None:
    online = Place(tmp_path, keep_s=3_600)
    online.write("a", "1")
    online.source().read("a")
    online.source().list("")
    offline = Place(tmp_path, keep_s=3_600, is_offline=True)
    offline.clock = online.clock
    source = offline.source()
    offline.later(3_000)
    answer = source.read("a")
    assert (text(answer.found), answer.served) == ("1", Served.LAST_GOOD)
    assert source.list("") == ["a"]
    refused: list[Callable[[], object]] = [
        lambda: source.read("b"),
        lambda: source.write("a", "2", None, None),
        lambda: source.versions("a"),
        lambda: source.read_version("a", "1"),
        lambda: source.list("x/"),
    ]
    for call in refused:
        with pytest.raises(BackendUnavailable) as failed:
            call()
        assert "\x00" not in failed.value.message
    offline.later(700)
    with pytest.raises(BackendUnavailable):
        source.read("a")
    assert offline.asked == 0


# --- one after the other ----------------------------------------------------------------------------------------------


def test_the_next_backend_is_asked_and_one_that_failed_rests(tmp_path: Path) -> None:
    place = Place(tmp_path, 2, max_age_s=0, refresh_s=0)
    place.write("a", "1")
    place.write("a", "1", store=1)
    place.stores[0].fail(UNAVAILABLE)
    source = place.source()
    for _ in range(5):
        assert text(source.read("a").found) == "1"
    assert place.stores[0].asked == 2  # the write, and one read
    assert [rest > 0 for _, rest in source.resting()] == [True, False]
    with pytest.raises(SecurecfgError):
        source.write("a", "2", None, None)
    assert len(place.stores[1].secrets["a"].contents) == 1


def test_what_nobody_answers_is_said_as_long_as_all_rest(tmp_path: Path) -> None:
    place = Place(tmp_path, 2)
    for store in place.stores:
        store.fail(NOT_REACHED)
    source = place.source()
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            source.read("a")
    assert place.asked == 2


def test_many_secrets_are_as_many_calls_as_they_take(tmp_path: Path) -> None:
    place = Place(tmp_path, calls_per_day=4, keep_s=0, max_age_s=0, refresh_s=0)
    for number in range(45):
        place.write(str(number), "x")
    source = place.source()
    many = source.read_many([str(number) for number in range(30)])
    assert not [each for each in many.values() if isinstance(each, SecurecfgError)]
    assert source.usage.mine.calls == 3
    refused = source.read_many([str(number) for number in range(30, 45)])
    assert all(isinstance(each, BackendUnavailable) for each in refused.values())


def test_more_calls_than_a_day_allows_are_not_made(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=0, refresh_s=0, keep_s=3_600, calls_per_day=2)
    place.write("a", "1")
    source = place.source()
    before = place.asked
    served = [source.read("a").served for _ in range(4)]
    assert served == [Served.STORE, Served.STORE, Served.LAST_GOOD, Served.LAST_GOOD]
    assert place.asked - before == 2
    assert [rest for _, rest in source.resting()] == [0]
    assert place.source(0).read("a").served is Served.LAST_GOOD
    assert place.asked - before == 2
    place.later(86_400)
    assert place.source(0).read("a").served is Served.STORE


# --- being told -------------------------------------------------------------------------------------------------------


def test_what_the_store_says_has_changed_is_asked_for_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path, max_age_s=10_000, is_watched=True)
    place.write("a", "1")
    source = place.source()
    source.read("a")
    deadline = time.monotonic() + 10
    while place.asked < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    place.write("a", "2")
    while text(source.read("a").found) == "1" and time.monotonic() < deadline:
        time.sleep(0.005)
    assert text(source.read("a").found) == "2"
    source.close()


# --- copies -----------------------------------------------------------------------------------------------------------

VALUES = (
    st.text(st.characters(codec="utf-8"))
    | st.binary(max_size=300)
    | st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(st.characters(codec="utf-8")), min_size=1)
)


@given(VALUES)
def test_a_copy_is_what_was_copied(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:  # noqa: ANN401 - of any kind
    place = Place(tmp_path_factory.getbasetemp() / "copies")
    OpenBackend(MemoryBackend(place.stores[0])).write("ключ/a", value, metadata={"owner": "pay"})
    found = OpenBackend(MemoryBackend(place.stores[0])).read("ключ/a")
    place.copies().put(Copy("ключ/a", found, 17, "memory"))
    copy = place.copies().get("ключ/a")
    assert copy is not None
    assert (copy.path, copy.fetched_ns, copy.store) == ("ключ/a", 17, "memory")
    assert copy.found.version == found.version._replace(state=copy.found.version.state)
    assert dict(copy.found.metadata) == {"owner": "pay"}
    plain = copy.found.value
    assert (plain.reveal() if isinstance(plain, Secret) else {k: v.reveal() for k, v in plain.items()}) == value


def test_a_copy_shows_nothing_and_opens_only_where_it_belongs(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write("canary/path", "canary-value-4711")
    place.write("other", "x")
    source = place.source()
    source.read("canary/path")
    source.read("other")
    folder = tmp_path / place.mount.id.hex()
    files = sorted(folder.iterdir())
    assert len(files) == 2
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        row = file.read_bytes()
        assert b"canary" not in row
        assert b"canary" not in file.name.encode()
        for position in range(0, len(row), 7):
            file.write_bytes(row[:position] + bytes((row[position] ^ 1,)) + row[position + 1 :])
            assert len(list(place.copies().all())) == 1
            file.write_bytes(row[:position])
            assert len(list(place.copies().all())) == 1
        file.write_bytes(row)
    first, second = (file.read_bytes() for file in files)
    files[0].write_bytes(second)
    files[1].write_bytes(first)
    assert list(place.copies().all()) == []
    for other in (place.mount._replace(key=bytes(32)), place.mount._replace(id=b"n" * 16)):
        assert list(Copies(str(tmp_path), VAULT_ID, other).all()) == []
    files[0].write_bytes(first)
    assert list(Copies(str(tmp_path), b"w" * 16, place.mount).all()) == []
    (folder / "nothing").write_bytes(b"")
    (folder / "00").write_bytes(b"")
    assert len(list(place.copies().all())) == 1
    place.copies().erase()
    assert not folder.exists()


def test_where_no_copy_can_be_written_the_value_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = Place(tmp_path / "file")
    place.write("a", "1")
    assert text(place.source().read("a").found) == "1"


# --- through the vault ------------------------------------------------------------------------------------------------


def test_the_log_says_from_where_and_how_old(mounts: MountWorld) -> None:
    vault = mounts.mount("app/corp/", "one", "two", max_age_s=0, refresh_s=0)
    for name in ("one", "two"):
        OpenBackend(MemoryBackend(mounts.store(name))).write("a", "1")
    vault.read("app/corp/a")
    mounts.store("one").fail(NOT_REACHED)
    vault.read("app/corp/a")
    mounts.store("two").fail(NOT_REACHED)
    mounts.clock.advance(timedelta(seconds=90))
    assert revealed(vault.read("app/corp/a")) == "1"
    seen = [(record.obj["store"], record.obj["served"]) for record in events(vault, Event.MOUNT_READ)]
    assert seen == [("memory one", "store"), ("memory two", "store"), ("memory two", "last-good")]
    assert events(vault, Event.MOUNT_READ)[-1].obj["age_s"] == 90


def test_a_vault_that_keeps_no_values_keeps_none_of_a_mount(mounts: MountWorld) -> None:
    mounts.mount().write("app/corp/a", "1")
    careful = mounts.open(cache_values=0)
    careful.read("app/corp/a")
    before = mounts.store().asked
    careful.read("app/corp/a")
    assert mounts.store().asked == before
    (source,) = careful.sources.values()  # type: ignore[attr-defined]  # of a vault that has mounts
    assert not source._kept
