"""The vault as programs see it: reading, writing, versions, listing, batches, authority."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.clock import to_datetime
from securecfg.crypto import Argon2Costs
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    AuditUnavailable,
    InvalidMetadata,
    InvalidPath,
    InvalidReference,
    NotAuthenticated,
    NotAVault,
    SecretDestroyed,
    SecretExpired,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    StoreFailed,
    Unsupported,
    UsageError,
    VaultClosed,
    VaultForked,
    VersionNotFound,
    WrongKey,
)
from securecfg.keys import PassphraseProvider, open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.secret import Secret
from securecfg.store import create_sqlite
from securecfg.vault import administration
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.creation import create_rows
from securecfg.vault.vault import Vault
from tests.vault.world import BLIND, READER, World, grant, interrupted, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = timedelta(days=1)
CHEAP = Argon2Costs(64, 1, 1)


# --- a new vault ---


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [("canary", "has fewer than 12 characters"), ("Canary canary canary", ""), ("Password-2026", "is among the first")],
)
def test_creating_a_vault_with_a_passphrase_that_is_guessed_early_logs_a_warning(
    world: World, caplog: pytest.LogCaptureFixture, passphrase: str, words: str
) -> None:
    path = world.folder / "new.vault"
    with Vault.create(path, key=PassphraseProvider(Secret(passphrase), costs=CHEAP), admin="ana"):
        pass
    with Vault.open(path, key=PassphraseProvider(Secret(passphrase), costs=CHEAP), principal="user:ana"):
        pass
    logged = [record for record in caplog.records if getattr(record, "event", "") == "passphrase.weak"]
    assert [(record.name, record.levelname) for record in logged] == [("securecfg.vault", "WARNING")] * bool(words)
    assert all(words in record.getMessage() for record in logged)
    assert passphrase not in caplog.text


def test_a_vault_that_could_not_be_made_warns_of_no_passphrase(world: World, caplog: pytest.LogCaptureFixture) -> None:
    path = world.folder / "new.vault"
    path.write_bytes(b"")
    with pytest.raises(AlreadyExists):
        Vault.create(path, key=PassphraseProvider(Secret("canary"), costs=CHEAP), admin="ana")
    assert caplog.records == []


# --- values ---


@pytest.mark.parametrize("value", [1, None, 1.5, [], {}, {"a": 1}, {1: "a"}, object()])
def test_refuses_what_is_no_value(vault: Vault, value: object) -> None:
    with pytest.raises(UsageError):
        vault.write("app/a", value)  # type: ignore[arg-type]  # what an untyped caller may do
    assert vault.list() == []


def test_refuses_text_that_is_no_unicode(vault: Vault) -> None:
    with pytest.raises(InvalidMetadata):
        vault.write("app/a", "\ud800")


@pytest.mark.parametrize(
    "value", ["", "text", "\u00e9\x00\n", b"", b"\xff\x00", b"x" * 65_536, b"x" * 65_537, "t" * 70_000]
)
def test_a_value_comes_back_as_it_was(world: World, vault: Vault, value: str | bytes) -> None:
    assert vault.write("app/a", value) == 1
    for handle in (vault, world.open(), world.open(cache_values=0)):
        for _ in range(2):
            assert handle.read("app/a").field("").reveal() == value
        content = b"".join(handle.stream("app/a")[1])
        assert content == (value.encode() if isinstance(value, str) else value)


def test_fields_come_back(vault: Vault) -> None:
    vault.write("app/a", {"user": "ada", "password": Secret("p"), "raw": b"\x00"})
    version = vault.read("app/a")
    assert {name: version.field(name).reveal() for name in ("user", "password", "raw")} == {
        "user": "ada",
        "password": "p",
        "raw": b"\x00",
    }
    for name in ("", "other"):
        with pytest.raises(VersionNotFound):
            version.field(name)
    with pytest.raises(VersionNotFound):
        vault.read_document("app/a")


def test_a_large_file_is_streamed_in_and_out(vault: Vault) -> None:
    content = os.urandom(1 << 20) * 5
    source = io.BytesIO(b"skipped" + content)
    source.seek(7)
    assert vault.write("app/big", source) == 1
    version, pieces = vault.stream("app/big")
    sizes = []
    assert version.field("").reveal() == b""
    whole = b""
    for piece in pieces:
        sizes.append(len(piece))
        whole += piece
    assert whole == content
    assert max(sizes) <= 300 * 1024
    assert vault.history("app/big")[0].size_bytes == len(content)


def test_refuses_a_stream_that_cannot_be_seeked(vault: Vault) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as source, pytest.raises(UsageError):
        vault.write("app/a", source)


# --- versions ---


def test_refuses_a_stale_write(vault: Vault) -> None:
    assert vault.write("app/a", "1", expect=0) == 1
    for expect in (0, 2, -1):
        with pytest.raises(StaleWrite) as refused:
            vault.write("app/a", "x", expect=expect)
        assert refused.value.code == "stale-write"
    assert vault.write("app/a", "2", expect=1) == 2
    vault.delete("app/a")
    with pytest.raises(StaleWrite):
        vault.write("app/a", "x", expect=0)
    assert vault.write("app/a", "3", expect=2) == 3


def test_reads_a_version_by_number_label_and_time(world: World, vault: Vault) -> None:
    moments = []
    for number in range(1, 4):
        vault.write("app/a", str(number))
        moments.append(to_datetime(world.clock.now_ns()) + timedelta(microseconds=5))
        world.clock.advance(DAY)
    vault.label("app/a", "stable", 2)
    places = (1, 2, 3, "current", "previous", "stable", "1", None)
    assert [text_of(vault, "app/a", at) for at in places] == list("12332213")
    assert [text_of(vault, "app/a", moment) for moment in moments] == ["1", "2", "3"]
    assert text_of(vault, "app/a", moments[0].astimezone(UTC)) == "1"


@pytest.mark.parametrize("at", [0, 4, -1, True, "pending", "missing", "0", "", datetime(2000, 1, 1, tzinfo=UTC)])
def test_refuses_a_version_that_is_not_there(vault: Vault, at: int | str | datetime) -> None:
    vault.write("app/a", "1")
    with pytest.raises(VersionNotFound) as refused:
        vault.read("app/a", at=at)
    assert refused.value.code == "version-not-found"


def test_refuses_a_time_without_a_zone(vault: Vault) -> None:
    vault.write("app/a", "1")
    with pytest.raises(InvalidReference):
        vault.read("app/a", at=datetime(2027, 1, 1))  # noqa: DTZ001 - the point of the test


def test_a_thousand_versions_stay_readable_whatever_happens_to_some(world: World, vault: Vault) -> None:
    for start in range(1, 1_001, 50):
        with vault.batch() as batch:
            for number in range(start, start + 50):
                batch.write("app/a", str(number))
    assert len(vault.history("app/a")) == 1_000
    vault.delete("app/a", 3)
    vault.destroy("app/a", 4)
    vault.label("app/a", "old", 5)
    vault.undelete("app/a", 3)
    vault.move("app/a", "app/b")
    compact(vault.opened)
    other = world.open()
    for number in (1, 2, 3, 5, 31, 32, 33, 63, 64, 65, 500, 967, 968, 969, 999, 1_000):
        assert text_of(other, "app/b", number) == str(number)
    assert text_of(other, "app/b", "old") == "5"
    with pytest.raises(SecretDestroyed):
        other.read("app/b", at=4)
    assert [info.version for info in other.history("app/b")] == list(range(1_000, 0, -1))


def test_a_secret_with_much_metadata_can_be_written_again_and_again(vault: Vault) -> None:
    metadata = {"note": "x" * 16_000}
    for number in range(1, 41):
        assert vault.write("app/a", str(number), metadata=metadata) == number
    assert [text_of(vault, "app/a", number) for number in (1, 20, 40)] == ["1", "20", "40"]
    vault.move("app/a", "app/b")
    assert text_of(vault, "app/b", 1) == "1"
    assert len(vault.history("app/b")) == 40


def test_metadata_is_kept_until_it_is_replaced(vault: Vault) -> None:
    vault.write("app/a", "1", metadata={"owner": "ops"}, content_type="application/json")
    vault.write("app/a", "2")
    assert vault.read("app/a").metadata == {"owner": "ops"}
    vault.write("app/a", "3", metadata={})
    assert vault.read("app/a").metadata == {}
    assert [info.metadata for info in vault.history("app/a")] == [{}, {"owner": "ops"}, {"owner": "ops"}]
    assert vault.history("app/a")[2].content_type == "application/json"
    with pytest.raises(InvalidMetadata):
        vault.write("app/a", "4", metadata={"a": "x" * 16_384})
    with pytest.raises(InvalidMetadata):
        vault.write("app/a", "4", content_type="\u00e9")
    with pytest.raises(InvalidMetadata):
        vault.write("app/a", "4", content_type="\x1b[2J")


def test_an_expired_version_is_not_read(world: World, vault: Vault) -> None:
    vault.write("app/a", "1", ttl=DAY)
    assert text_of(vault, "app/a") == "1"
    world.clock.advance(2 * DAY)
    for at in (None, 1, "current"):
        with pytest.raises(SecretExpired) as refused:
            vault.read("app/a", at=at)
        assert refused.value.code == "secret-expired"
    assert vault.read("app/a", allow_expired=True).field("").reveal() == "1"
    assert vault.history("app/a")[0].state == "expired"
    vault.write("app/a", "2")
    assert vault.read("app/a").expires is None


@pytest.mark.parametrize("ttl", [timedelta(), -DAY, timedelta(days=40_000)])
def test_refuses_a_time_to_live_that_makes_no_sense(vault: Vault, ttl: timedelta) -> None:
    with pytest.raises(InvalidMetadata):
        vault.write("app/a", "1", ttl=ttl)


def test_deletion_hides_and_undeletion_shows(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/a", "2")
    vault.label("app/a", "stable", 2)
    vault.delete("app/a")
    for at in (None, 2, "current", "stable"):
        with pytest.raises((SecretNotFound, VersionNotFound)):
            vault.read("app/a", at=at)
    assert text_of(vault, "app/a", 1) == "1"
    assert vault.list() == vault.search("a") == []
    with pytest.raises(SecretNotFound):
        vault.delete("app/a")
    vault.undelete("app/a", 2)
    assert text_of(vault, "app/a") == "2"
    assert vault.read("app/a").labels == ("current",)
    vault.delete("app/a", 1)
    assert text_of(vault, "app/a") == "2"


def test_a_destroyed_version_never_comes_back(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/a", "2")
    vault.destroy("app/a", 2)
    calls: list[Callable[[], object]] = [
        lambda: vault.read("app/a", at=2),
        lambda: vault.undelete("app/a", 2),
        lambda: vault.destroy("app/a", 2),
        lambda: vault.rollback("app/a", 2),
        lambda: vault.label("app/a", "x", 2),
        lambda: vault.delete("app/a", 2),
        lambda: world.open().read("app/a", at=2),
    ]
    for call in calls:
        with pytest.raises(SecretDestroyed) as refused:
            call()
        assert refused.value.code == "secret-destroyed"
    with pytest.raises(SecretNotFound):
        vault.read("app/a")
    assert vault.history("app/a")[0].state == "destroyed"
    assert vault.history("app/a")[0].size_bytes == 0
    assert text_of(vault, "app/a", 1) == "1"


def test_a_large_version_can_be_destroyed_moved_and_rolled_back(world: World, vault: Vault) -> None:
    content = os.urandom(200_000)
    vault.write("app/a", content)
    vault.write("app/a", "small")
    assert vault.rollback("app/a", 1) == 3
    vault.move("app/a", "app/b")
    assert b"".join(world.open().stream("app/b")[1]) == content
    vault.destroy("app/b", 3)
    compact(vault.opened)
    assert b"".join(vault.stream("app/b", at=1)[1]) == content
    with pytest.raises(SecretDestroyed):
        vault.stream("app/b", at=3)


def test_a_rollback_is_a_new_version(vault: Vault) -> None:
    vault.write("app/a", "1", metadata={"m": "1"})
    vault.write("app/a", "2", metadata={"m": "2"})
    assert vault.rollback("app/a", 1) == 3
    assert vault.rollback("app/a", "previous") == 4
    version = vault.read("app/a")
    assert (version.field("").reveal(), version.metadata, version.version) == ("2", {"m": "2"}, 4)
    for to in (9, "missing"):
        with pytest.raises(VersionNotFound):
            vault.rollback("app/a", to)


def test_a_move_takes_everything_along(vault: Vault) -> None:
    vault.write("app/a", "1", metadata={"m": "1"})
    vault.write("app/a", "2")
    vault.label("app/a", "stable", 1)
    vault.move("app/a", "other/b")
    assert vault.list() == ["other/b"]
    assert text_of(vault, "other/b", "stable") == "1"
    with pytest.raises(SecretNotFound):
        vault.read("app/a")
    with pytest.raises(SecretNotFound):
        vault.history("app/a")
    assert vault.write("app/a", "anew") == 1
    for target in ("other/b", "app/a"):
        with pytest.raises(AlreadyExists):
            vault.move("app/a", target)
    vault.delete("other/b")
    with pytest.raises(SecretNotFound):
        vault.move("other/b", "other/c")
    with pytest.raises(AlreadyExists):
        vault.move("app/a", "other/b")


def test_labels_point_where_they_were_put(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/a", "2")
    vault.label("app/a", "stable", 1)
    assert vault.read("app/a", at=1).labels == ("previous", "stable")
    vault.label("app/a", "stable", 2)
    assert text_of(vault, "app/a", "stable") == "2"
    vault.label("app/a", "stable", None)
    for label, number in (("stable", None), ("x", 7)):
        with pytest.raises(VersionNotFound):
            vault.label("app/a", label, number)
    with pytest.raises(SecretNotFound):
        vault.label("app/missing", "x", 1)
    with pytest.raises(InvalidMetadata):
        vault.label("app/a", "current", 1)


# --- listing ---


def test_lists_sorted_live_paths_by_prefix_and_depth(vault: Vault) -> None:
    for path in ("b", "a/x/1", "a/x/2", "a/y", "ab", "a"):
        vault.write(path, "1")
    vault.write("a/gone", "1")
    vault.delete("a/gone")
    for is_compacted in (False, True):
        if is_compacted:
            compact(vault.opened)
        assert vault.list() == ["a", "a/x/1", "a/x/2", "a/y", "ab", "b"]
        assert vault.list("a/") == ["a/x/1", "a/x/2", "a/y"]
        assert vault.list("a") == ["a", "a/x/1", "a/x/2", "a/y", "ab"]
        assert vault.list("a/x/1") == ["a/x/1"]
        assert vault.list(depth=1) == ["a", "a/", "ab", "b"]
        assert vault.list("a/", depth=1) == ["a/x/", "a/y"]
        assert vault.list("zzz") == []
        assert vault.search("X/") == ["a/x/1", "a/x/2"]
        assert vault.search("") == vault.list()
    with pytest.raises(InvalidPath):
        vault.list("/a")


def test_system_documents_are_nowhere_to_be_seen(vault: Vault) -> None:
    grant(vault)
    assert vault.list() == vault.search("") == vault.search("policy") == []
    for path in ("\x01policy", "\x01roles"):
        with pytest.raises(InvalidPath):
            vault.read(path)


# --- batches ---


def test_a_batch_is_made_at_its_end_and_reads_do_not_see_it(world: World, vault: Vault) -> None:
    other = world.open()
    with vault.batch() as batch:
        batch.write("app/a", "1")
        batch.write("app/b", "2")
        batch.write("app/a", "3")
        assert vault.list() == other.list() == []
    assert other.list() == ["app/a", "app/b"]
    assert batch.results == [1, 1, 2]
    with pytest.raises(VaultClosed):
        batch.write("app/c", "1")


def test_an_exception_discards_a_batch(vault: Vault) -> None:
    def fill() -> None:
        with vault.batch() as batch:
            batch.write("app/a", "1")
            raise LookupError

    with pytest.raises(LookupError):
        fill()
    assert vault.list() == []


@pytest.mark.parametrize("count", [3, 12, 13, 200])
def test_one_change_that_fails_fails_the_batch(vault: Vault, count: int) -> None:
    def fill() -> None:
        with vault.batch() as batch:
            for number in range(count):
                batch.write(f"app/{number}", "1")
            batch.write("app/0", "2", expect=7)

    with pytest.raises(StaleWrite):
        fill()
    assert vault.list() == []
    assert vault.opened.replica.state.stagings == ()


@pytest.mark.parametrize("count", [12, 13, 60])
def test_changes_of_a_batch_see_each_other(world: World, vault: Vault, count: int) -> None:
    with vault.batch() as batch:
        for number in range(count):
            batch.write("app/a", str(number))
        batch.label("app/a", "first", 1)
        batch.rollback("app/a", 1)
        batch.move("app/a", "app/b")
        batch.delete("app/b", 2)
    other = world.open()
    assert other.list() == ["app/b"]
    assert text_of(other, "app/b") == "0"
    assert text_of(other, "app/b", count) == str(count - 1)
    with pytest.raises(VersionNotFound):
        other.read("app/b", at=2)


def test_five_thousand_changes_fit_into_a_batch(world: World, vault: Vault) -> None:
    with vault.batch() as batch:
        for number in range(5_000):
            batch.write(f"app/{number:04}", str(number))
    other = world.open()
    assert len(other.list()) == 5_000
    assert text_of(other, "app/4321") == "4321"
    batches = [entry.record for entry in vault.log.records() if entry.record.event is Event.BATCH_WRITTEN]
    assert [len(vault.log.items(record)) for record in batches] == [5_000]


def test_an_empty_batch_writes_nothing(vault: Vault) -> None:
    before = vault.opened.replica.head
    with vault.batch():
        pass
    assert vault.opened.replica.head == before


# --- authority ---


def test_nobody_may_do_nothing(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    nobody = world.open("")
    calls: list[Callable[[], object]] = [
        lambda: nobody.read("app/a"),
        lambda: nobody.write("app/a", "2"),
        nobody.list,
        lambda: nobody.history("app/a"),
        lambda: nobody.search("a"),
        lambda: nobody.delete("app/a"),
        lambda: nobody.explain("read", "app/a"),
    ]
    for call in calls:
        with pytest.raises(NotAuthenticated) as refused:
            call()
        assert refused.value.code == "not-authenticated"


def test_denied_and_absent_look_the_same_without_the_right_to_list(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/gone", "1")
    vault.delete("app/gone")
    vault.write("other/a", "1")
    grant(vault)
    blind = world.open(BLIND)
    shown = []
    for path in ("app/missing", "app/gone", "other/a", "other/missing"):
        with pytest.raises(AccessDenied) as refused:
            blind.read(path)
        error = refused.value
        shown.append((error.code, error.message.replace(path, "P"), error.hint.replace(path, "P")))
    assert len(set(shown)) == 1
    assert text_of(blind, "app/a") == "1"


def test_absent_is_not_found_for_who_may_list_and_only_the_listed_are_suggested(world: World, vault: Vault) -> None:
    vault.write("app/key", "1")
    vault.write("app2/key", "1")
    grant(vault)
    reader = world.open(READER)
    with pytest.raises(SecretNotFound) as refused:
        reader.read("app/kex")
    assert "app/key" in refused.value.hint
    with pytest.raises(AccessDenied):
        reader.read("app2/kex")
    with pytest.raises(AccessDenied):
        reader.history("app2/key")
    assert reader.list() == reader.search("key") == ["app/key"]


def test_what_is_denied_changes_nothing(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/b", "1")
    grant(vault)
    reader = world.open(READER)
    calls: list[Callable[[], object]] = [
        lambda: reader.write("app/a", "2"),
        lambda: reader.delete("app/a"),
        lambda: reader.undelete("app/a", 1),
        lambda: reader.destroy("app/a", 1),
        lambda: reader.rollback("app/a", 1),
        lambda: reader.label("app/a", "x", 1),
        lambda: reader.move("app/a", "app/c"),
        lambda: reader.administration.add_member("admin", READER),
        lambda: grant(reader),
    ]
    for call in calls:
        with pytest.raises(AccessDenied) as refused:
            call()
        assert refused.value.code == "denied"
    assert [info.version for info in vault.history("app/a")] == [1]
    blind = world.open(BLIND)

    def one_of_two() -> None:
        with blind.batch() as batch:
            batch.write("app/a", "2")
            batch.write("other/a", "2")

    with pytest.raises(AccessDenied):
        one_of_two()
    assert text_of(vault, "app/a") == "1"


def test_a_new_policy_is_in_force_at_once_for_every_handle(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    grant(vault)
    reader = world.open(READER)
    assert text_of(reader, "app/a") == "1"
    grant(vault, "[roles.reader]\nmembers = []\n")
    with pytest.raises(AccessDenied):
        reader.read("app/a")


def test_acting_for_another_needs_the_right_and_gives_only_theirs(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("other/a", "1")
    grant(vault)
    with vault.acting(READER) as acting:
        assert acting.principal == READER
        assert text_of(acting, "app/a") == "1"
        with pytest.raises(AccessDenied):
            acting.read("other/a")
    assert text_of(vault, "other/a") == "1"
    reader = world.open(READER)
    with pytest.raises(AccessDenied), reader.acting("user:ada"):
        pass
    with reader.acting(READER) as same:
        assert text_of(same, "app/a") == "1"
    with pytest.raises(InvalidMetadata), vault.acting("role:admin"):
        pass


# --- reading in other ways ---


def test_many_reads_give_each_its_value_or_error_under_one_flush(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/b", "2")
    vault.write("app/b", "3")
    other = world.open()
    before = other.opened.replica.state.generation
    found = other.read_many([("app/a", None), ("app/missing", None), ("app/b", 1), ("app/b", 9), ("//", None)])
    assert other.opened.replica.state.generation == before + 1
    codes = [one.code if isinstance(one, SecurecfgError) else one.field("").reveal() for one in found]
    assert codes == ["1", "secret-not-found", "2", "version-not-found", "invalid-path"]


@pytest.mark.parametrize("cache_values", [0, 1, 2])
def test_repeats_see_every_change_whatever_is_kept(world: World, vault: Vault, cache_values: int) -> None:
    reader = world.open(cache_values=cache_values)
    for number in range(1, 6):
        for path in ("app/a", "app/b", "app/c"):
            vault.write(path, f"{path}{number}")
        for _ in range(3):
            for path in ("app/a", "app/b", "app/c"):
                assert text_of(reader, path) == f"{path}{number}"
    assert len(reader._reads._hits) <= max(cache_values, 3)
    vault.destroy("app/a", 5)
    with pytest.raises(SecretNotFound):
        reader.read("app/a")


def test_repeats_are_counted_and_the_counts_recorded_at_the_end(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    reader = world.open()
    for _ in range(10):
        reader.read("app/a")
    reader.close()
    records = [entry.record for entry in vault.log.records()]
    reads = [record for record in records if record.event is Event.SECRET_READ]
    counted = [record for record in records if record.event is Event.SECRET_READ_COUNTED]
    assert len(reads) == 1
    assert [record.count for record in counted] == [9]


def test_strict_reads_are_all_recorded_first(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    reader = world.open(strict=True)
    sizes = []
    for _ in range(3):
        reader.read("app/a")
        sizes.append(reader.opened.replica.checkpoint.size)
    assert sizes == [sizes[0], sizes[0] + 1, sizes[0] + 2]


def test_a_read_that_cannot_be_recorded_gives_nothing(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    reader, store = interrupted(world)

    def fail() -> None:
        message = "disk"
        raise StoreFailed(message)

    opened: list[object] = []
    store.interrupt("commit", None, fail)
    store.interrupt("get", None, lambda: opened.append(1))
    with pytest.raises(AuditUnavailable) as refused:
        reader.read("app/a")
    assert refused.value.code == "audit-unavailable"
    assert reader._reads._hits == {}
    assert text_of(reader, "app/a") == "1"


def test_a_vault_that_is_open_for_reading_only_changes_nothing(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.close()
    before = world.path.read_bytes()
    reader = world.open(read_only=True)
    assert reader.list() == ["app/a"]
    assert len(reader.history("app/a")) == 1
    with pytest.raises(AuditUnavailable):
        reader.read("app/a")
    calls: list[Callable[[], object]] = [
        lambda: reader.write("app/a", "2"),
        lambda: reader.delete("app/a"),
        lambda: reader.destroy("app/a", 1),
        lambda: grant(reader),
    ]
    for call in calls:
        with pytest.raises(Unsupported):
            call()
    reader.close()
    assert world.path.read_bytes() == before


# --- life ---


def test_a_closed_vault_refuses_everything(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.read("app/a")
    vault.close()
    vault.close()
    calls: list[Callable[[], object]] = [
        lambda: vault.read("app/a"),
        lambda: vault.write("app/a", "2"),
        vault.list,
        lambda: vault.search("a"),
        lambda: vault.history("app/a"),
        lambda: vault.destroy("app/a", 1),
        lambda: vault.stream("app/a"),
        lambda: vault.read_many([("app/a", None)])[0],
        vault.__enter__,
        vault.batch().__enter__,
    ]
    for call in calls:
        try:
            result = call()
        except VaultClosed as error:
            result = error
        assert isinstance(result, VaultClosed), call
    assert repr(vault) == "<Vault closed as user:ada>"


def test_a_child_of_a_fork_opens_its_own(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.read("app/a")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            vault.list()
        except VaultForked:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert text_of(vault, "app/a") == "1"
    assert vault.write("app/a", "2") == 2


def test_another_key_does_not_open_it(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "other")
    with pytest.raises(WrongKey) as refused:
        Vault.open(world.path, key=f"file:{world.folder / 'other'}", principal="user:ada")
    assert refused.value.code == "wrong-key"


def test_nothing_is_created_over_what_exists(world: World, vault: Vault) -> None:
    with pytest.raises(AlreadyExists):
        Vault.create(world.path, key=world.key, admin="ada")
    assert vault.list() == []


def test_a_creation_that_fails_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make_key()

    def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(administration, "found", fail)
    with pytest.raises(LookupError):
        Vault.create(world.path, key=world.key, admin="ada")
    assert [entry.name for entry in world.folder.iterdir()] == ["key"]


def test_one_private_file_is_left_after_the_last_handle(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    world.open().read("app/a")
    world.close()
    assert sorted(entry.name for entry in world.folder.iterdir()) == ["a.vault", "key"]
    assert world.path.stat().st_mode & 0o777 == 0o600


def test_a_batch_says_of_each_change_what_it_was(vault: Vault) -> None:
    for name in "abcd":
        vault.write(name, "1")
    with vault.batch() as batch:
        batch.write("n", "1")
        batch.delete("a")
        batch.move("b", "moved")
        batch.label("c", "canary", 1)
        batch.rollback("d", 1)
    records = [entry.record for entry in vault.log.records(5)]
    said = [(record.event, record.obj.get("change"), vault.log.items(record)) for record in records]
    assert said[:5] == [
        (Event.BATCH_WRITTEN, None, [("n", 1)]),
        (Event.BATCH_WRITTEN, "secret.deleted", [("a", 1)]),
        (Event.SECRET_MOVED, None, []),
        (Event.SECRET_LABELLED, None, []),
        (Event.SECRET_ROLLED_BACK, None, []),
    ]


def test_a_batch_of_many_moves_lists_both_paths_of_each(vault: Vault) -> None:
    with vault.batch() as batch:
        for number in range(40):
            batch.write(f"from/{number:02}", "1")
    with vault.batch() as batch:
        for number in range(33):
            batch.move(f"from/{number:02}", f"to/{number:02}")
    entry = next(entry for entry in vault.log.records(2) if entry.record.obj.get("change") == "secret.moved")
    assert vault.log.items(entry.record)[:4] == [("from/00", 1), ("to/00", 1), ("from/01", 1), ("to/01", 1)]


def test_a_creation_that_was_cut_off_is_said_to_be_one(world: World) -> None:
    world.make_key()
    store = create_sqlite(world.path)
    create_rows(store, [open_provider(world.key)], world.clock.now_ns())
    store.close()
    with pytest.raises(NotAVault, match="was interrupted"):
        world.open()
