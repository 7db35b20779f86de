"""What is mounted is read, written, decided and recorded as what the vault holds itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.backends import Deletion, State
from securecfg.config.references import parse_reference
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    AuditUnavailable,
    BackendDenied,
    CommitUnknown,
    Conflict,
    InvalidBackendUri,
    InvalidMetadata,
    InvalidPath,
    PathMounted,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    Tampered,
    Unsupported,
    UsageError,
    VersionNotFound,
)
from securecfg.mounts import Mount, MountedVault, Mounts, Rules
from securecfg.mounts.table import CALLS_MAX, SECONDS_MAX
from securecfg.secret import Secret
from securecfg.testing.memory_backend import ALL
from tests.backends.test_handle import NOT_REACHED, UNAVAILABLE, raising
from tests.mounts.memory import CAPABILITIES, GIVEN
from tests.vault.world import ADMIN, BLIND, READER

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.audit import Record
    from securecfg.vault import SecretVersion, Vault
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.drafts import Content
    from tests.mounts.conftest import MountWorld


def revealed(version: SecretVersion) -> object:
    value = version.value
    return value.reveal() if isinstance(value, Secret) else {name: part.reveal() for name, part in value.items()}


def events(vault: Vault, *wanted: Event) -> list[Record]:
    """Return the records of some events, or all of mounts, oldest first."""
    records = [entry.record for entry in vault.log.records() if entry.record is not None]
    return [record for record in records if (record.event in wanted if wanted else record.event.startswith("mount."))]


# --- reading and writing ----------------------------------------------------------------------------------------------


def test_a_mounted_secret_is_written_read_and_listed_as_any(mounts: MountWorld) -> None:
    vault = mounts.mount()
    assert isinstance(vault, MountedVault)
    vault.write("app/own", "mine")
    first = vault.write("app/corp/db", {"user": "web", "password": "hunter2"}, metadata={"owner": "pay"})
    found = vault.read("app/corp/db")
    assert revealed(found) == {"user": "web", "password": "hunter2"}
    assert (found.path, found.version, dict(found.metadata)) == ("app/corp/db", first, {"owner": "pay"})
    second = vault.write("app/corp/db", "new", expect=first)
    assert revealed(vault.read("app/corp/db")) == "new"
    assert revealed(vault.read("app/corp/db", at=str(first))) == {"user": "web", "password": "hunter2"}
    assert [info.version for info in vault.history("app/corp/db")] == [second, first]
    assert vault.list() == ["app/corp/db", "app/own"]
    assert vault.list("app/corp/d") == ["app/corp/db"]
    assert vault.list("app/", depth=1) == ["app/corp/", "app/own"]
    assert vault.search("CORP") == ["app/corp/db"]
    with pytest.raises(StaleWrite):
        vault.write("app/corp/db", "x", expect=first)
    with pytest.raises(AlreadyExists):
        vault.write("app/corp/db", "x", expect=0)


def test_references_and_fields_are_resolved_across_mounts(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/own", "mine")
    vault.write("app/corp/db", {"user": "web", "password": "hunter2"})
    references = [parse_reference(each) for each in ("app/corp/db#password", "app/own", "app/corp/none")]
    first, second, third = vault.resolver().resolve(references)
    assert isinstance(first, Secret)
    assert isinstance(second, Secret)
    assert (first.reveal(), second.reveal()) == ("hunter2", "mine")
    assert isinstance(third, SecretNotFound)
    assert vault.ref("app/corp/db#user").reveal() == "web"


def test_many_mounted_secrets_take_as_few_calls_as_the_store_allows(mounts: MountWorld) -> None:
    vault = mounts.mount()
    for number in range(25):
        vault.write(f"app/corp/{number:02}", str(number))
    before = mounts.store().asked
    reader = mounts.open(READER)
    found = reader.read_many([(f"app/corp/{number:02}", None) for number in range(25)])
    assert [revealed(each) for each in found if not isinstance(each, SecurecfgError)] == [str(n) for n in range(25)]
    assert mounts.store().asked - before == 3
    assert len(events(vault, Event.MOUNT_READ)) == 25


def test_what_is_deleted_comes_back(mounts: MountWorld) -> None:
    vault = mounts.mount()
    version = vault.write("app/corp/a", "1")
    vault.delete("app/corp/a")
    with pytest.raises(SecretNotFound):
        vault.read("app/corp/a")
    assert vault.list("app/corp/") == []
    vault.undelete("app/corp/a", version)
    assert revealed(vault.read("app/corp/a")) == "1"


def test_labels_rollback_and_moments(mounts: MountWorld) -> None:
    vault = mounts.mount()
    first = vault.write("app/corp/a", "1")
    moment = datetime.now(UTC)
    second = vault.write("app/corp/a", "2")
    vault.label("app/corp/a", "canary", first)
    assert revealed(vault.read("app/corp/a", at="canary")) == "1"
    assert revealed(vault.read("app/corp/a", at=moment)) == "1"
    with pytest.raises(VersionNotFound):
        vault.read("app/corp/a", at=moment - timedelta(days=1))
    third = vault.rollback("app/corp/a", first)
    assert third not in {first, second}
    assert revealed(vault.read("app/corp/a")) == "1"


def test_a_disabled_version_is_shown_as_such(mounts: MountWorld) -> None:
    vault = mounts.mount()
    version = vault.write("app/corp/a", "1")
    mounts.store().set_state("a", str(version), State.DISABLED)
    assert [info.state for info in vault.history("app/corp/a")] == ["disabled"]


def test_a_store_without_versions_shows_the_one_that_there_is(mounts: MountWorld) -> None:
    CAPABILITIES["one"] = ALL._replace(keeps_versions=False)
    vault = mounts.mount()
    version = vault.write("app/corp/a", "1")
    assert [info.version for info in vault.history("app/corp/a")] == [version]
    with pytest.raises(Unsupported):
        vault.read("app/corp/a", at=str(version))


def test_streams_come_in_one_piece(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/corp/a", b"\x00\x01")
    vault.write("app/corp/f", {"a": "b"})
    version, pieces = vault.stream("app/corp/a")
    assert revealed(version) == b""
    assert b"".join(pieces) == b"\x00\x01"
    version, pieces = vault.stream("app/corp/f")
    assert revealed(version) == {"a": "b"}
    assert list(pieces) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda vault: vault.destroy("app/corp/a", "1"),
        lambda vault: vault.delete("app/corp/a", "1"),
        lambda vault: vault.write("app/corp/a", "x", ttl=timedelta(days=1)),
        lambda vault: vault.write("app/corp/a", "x", content_type="application/yaml"),
    ],
)
def test_what_a_store_cannot_do_is_refused_before_it_is_asked(
    mounts: MountWorld, change: Callable[[Vault], object]
) -> None:
    vault = mounts.mount()
    with pytest.raises(Unsupported) as refused:
        change(vault)
    assert refused.value.hint
    assert mounts.store().asked == 0
    assert events(vault) == events(vault, Event.MOUNT_ADDED)


def test_a_batch_does_not_reach_into_a_mount(mounts: MountWorld) -> None:
    vault = mounts.mount()

    def reach_into() -> None:
        with vault.batch() as batch:
            batch.write("app/own", "1")
            batch.write("app/corp/a", "1")

    with pytest.raises(Unsupported):
        reach_into()
    with pytest.raises(SecretNotFound):
        vault.read("app/own")
    with vault.batch() as batch:
        batch.write("app/own", "1")
    assert revealed(vault.read("app/own")) == "1"


# --- moving -----------------------------------------------------------------------------------------------------------


def test_a_secret_moves_into_a_mount_and_out_of_it(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/own", "mine", metadata={"owner": "pay"})
    vault.move("app/own", "app/corp/own")
    assert vault.list() == ["app/corp/own"]
    assert dict(vault.read("app/corp/own").metadata) == {"owner": "pay"}
    vault.move("app/corp/own", "app/back")
    assert vault.list() == ["app/back"]
    assert revealed(vault.read("app/back")) == "mine"


def test_a_secret_with_earlier_versions_does_not_move(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/own", "1")
    vault.write("app/own", "2")
    vault.write("app/corp/a", "1")
    vault.write("app/corp/a", "2")
    for path, target in (("app/own", "app/corp/own"), ("app/corp/a", "app/a")):
        with pytest.raises(Unsupported):
            vault.move(path, target)
    assert vault.list() == ["app/corp/a", "app/own"]


def test_nothing_is_moved_over_what_is_there(mounts: MountWorld) -> None:
    vault = mounts.mount()
    for path in ("app/own", "app/other", "app/corp/a"):
        vault.write(path, path)
    for path, target in (("app/own", "app/corp/a"), ("app/corp/a", "app/own")):
        with pytest.raises(AlreadyExists):
            vault.move(path, target)
    CAPABILITIES["one"] = ALL._replace(creates=False)
    careless = mounts.open()
    with pytest.raises(Unsupported):
        careless.move("app/own", "app/corp/new")
    CAPABILITIES["one"] = ALL._replace(deletes=Deletion.NONE)
    keeping = mounts.open()
    with pytest.raises(Unsupported):
        keeping.move("app/corp/a", "app/new")
    assert vault.list() == ["app/corp/a", "app/other", "app/own"]


# --- policy and records -----------------------------------------------------------------------------------------------


def test_policy_decides_what_is_mounted(mounts: MountWorld) -> None:
    vault = mounts.mount("app/corp/")
    vault.write("app/corp/a", "1")
    reader = mounts.open(READER)
    assert revealed(reader.read("app/corp/a")) == "1"
    before = mounts.store().asked
    for refused in (
        lambda: reader.write("app/corp/a", "2"),
        lambda: reader.delete("app/corp/a"),
        lambda: reader.label("app/corp/a", "x", "1"),
        lambda: reader.move("app/corp/a", "app/b"),
    ):
        with pytest.raises(AccessDenied):
            refused()
    assert mounts.store().asked == before
    assert not reader.explain("write", "app/corp/a").decision.allowed
    blind = mounts.open(BLIND)
    assert blind.list() == []
    with pytest.raises(AccessDenied) as hidden:
        blind.read("app/corp/none")
    with pytest.raises(AccessDenied) as denied:
        reader.read("other/none")
    assert hidden.value.code == denied.value.code
    many = blind.read_many([("app/corp/a", None), ("app/corp/none", None), ("other/x", None)])
    assert not isinstance(many[0], SecurecfgError)
    assert revealed(many[0]) == "1"
    assert isinstance(many[1], AccessDenied)
    assert isinstance(many[2], AccessDenied)


def test_a_store_is_not_asked_for_what_is_denied(mounts: MountWorld) -> None:
    vault = mounts.mount("corp/")
    vault.write("corp/a", "1")
    before = mounts.store().asked
    reader = mounts.open(READER)
    with pytest.raises(AccessDenied):
        reader.read("corp/a")
    (denied,) = reader.read_many([("corp/a", None)])
    assert isinstance(denied, AccessDenied)
    with pytest.raises(AccessDenied):
        reader.history("corp/a")
    assert mounts.store().asked == before


def test_a_read_is_recorded_before_it_is_handed_out_and_repeats_are_counted(mounts: MountWorld) -> None:
    vault = mounts.mount()
    version = vault.write("app/corp/a", "1")
    with mounts.open(READER) as reader:
        for _ in range(5):
            reader.read("app/corp/a")
        (read,) = events(vault, Event.MOUNT_READ)
        assert dict(read.obj) == {"path": "app/corp/a", "version": version, "store": "memory one", "served": "store"}
        assert read.subject.id == READER
    (counted,) = events(vault, Event.MOUNT_READ_COUNTED)
    assert counted.count == 4


def test_every_read_is_recorded_where_the_vault_is_strict(mounts: MountWorld) -> None:
    mounts.mount().write("app/corp/a", "1")
    with mounts.open(READER, strict=True) as reader:
        for _ in range(3):
            reader.read("app/corp/a")
            reader.read_many([("app/corp/a", None)])
    assert len(events(mounts.open(), Event.MOUNT_READ)) == 6


def test_nothing_is_handed_out_that_cannot_be_recorded(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/corp/a", "1")
    vault.close()
    reader = mounts.open(read_only=True)
    with pytest.raises(AuditUnavailable):
        reader.read("app/corp/a")
    with pytest.raises(Unsupported):
        reader.write("app/corp/a", "2")
    assert len(mounts.store().secrets["a"].contents) == 1


def test_a_change_has_a_record_before_and_one_after(mounts: MountWorld) -> None:
    vault = mounts.mount()
    version = vault.write("app/corp/a", "canary-value-4711")
    seen = [(record.event, dict(record.obj)) for record in events(vault)][1:]
    obj = {"path": "app/corp/a", "action": "write", "store": "memory one"}
    assert seen == [(Event.MOUNT_CHANGING, obj), (Event.MOUNT_CHANGED, {**obj, "version": version})]
    mounts.store().fail_late(UNAVAILABLE)
    CAPABILITIES["one"] = ALL._replace(is_write_repeatable=False)
    other = mounts.open()
    with pytest.raises(CommitUnknown):
        other.write("app/corp/a", "2")
    last = events(vault)[-1]
    assert (last.event, last.obj["reason"]) == (Event.MOUNT_FAILED, "commit-unknown")


def test_a_change_that_cannot_be_recorded_is_not_made(mounts: MountWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = mounts.mount()

    fail = raising(AuditUnavailable("the log cannot be written"))
    monkeypatch.setattr(vault.authority, "publish", lambda *_: fail())
    with pytest.raises(AuditUnavailable):
        vault.write("app/corp/a", "1")
    assert mounts.store().asked == 0


def test_a_repeat_sees_a_policy_that_has_changed(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/corp/a", "1")
    reader = mounts.open(READER)
    reader.read("app/corp/a")
    vault.write("app/own", "of no concern")
    assert revealed(reader.read("app/corp/a")) == "1"
    vault.administration.apply_policy([])
    with pytest.raises(AccessDenied):
        reader.read("app/corp/a")
    (denied,) = reader.read_many([("app/corp/a", None)])
    assert isinstance(denied, AccessDenied)


def test_one_who_is_acted_for_is_decided_and_recorded_alone(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/corp/a", "1")
    with vault.acting(READER) as lent:
        assert revealed(lent.read("app/corp/a")) == "1"
        lent.read("app/corp/a")
        with pytest.raises(AccessDenied):
            lent.write("app/corp/a", "2")
    (read,) = events(vault, Event.MOUNT_READ)
    assert (read.subject.id, read.subject.via) == (READER, ADMIN)
    assert [record.count for record in events(vault, Event.MOUNT_READ_COUNTED)] == [1]


def test_repeats_of_a_read_are_counted_although_the_secret_changes(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/corp/a", "1")
    vault.read("app/corp/a")
    vault.read("app/corp/a")
    vault.write("app/corp/a", "2")
    vault.close()
    assert [record.count for record in events(mounts.open(), Event.MOUNT_READ_COUNTED)] == [1]


def test_what_the_store_refuses_is_told_as_such_and_no_copy_is_handed_out(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0)
    vault.write("app/corp/a", "1")
    vault.read("app/corp/a")
    mounts.store().fail(raising(BackendDenied("no")))
    with pytest.raises(BackendDenied):
        vault.read("app/corp/a")


# --- mounting ---------------------------------------------------------------------------------------------------------


def test_where_a_store_is_mounted_the_vault_itself_is_not_used(mounts: MountWorld) -> None:
    vault = mounts.create()
    Mounts(vault.authority).add(Mount("corp/", ("memory:one",)))
    for use in (
        lambda: vault.read("corp/a"),
        lambda: vault.write("corp/a", "1"),
        lambda: vault.history("corp/a"),
        lambda: vault.move("own", "corp/a"),
    ):
        with pytest.raises(PathMounted):
            use()
    vault.write("corporate", "1")
    assert mounts.store().asked == 0


def test_a_handle_that_has_read_while_nothing_was_mounted_sees_what_is(mounts: MountWorld) -> None:
    vault = mounts.create()
    vault.write("own", "1")
    assert [vault.read("own", at=1).version, vault.read("own", at=1).version] == [1, 1]
    Mounts(vault.authority).add(Mount("corp/", ("memory:one",)))
    with pytest.raises(PathMounted):
        vault.read("corp/a")


def test_only_who_may_mounts(mounts: MountWorld) -> None:
    vault = mounts.mount()
    table = Mounts(mounts.open(READER).authority)
    for refused in (
        table.all,
        lambda: table.add(Mount("other/", ("memory:two",))),
        lambda: table.replace(Mount("app/corp/", ("memory:two",))),
        lambda: table.remove("app/corp/"),
    ):
        with pytest.raises(AccessDenied):
            refused()
    assert [mount.backends for mount in Mounts(vault.authority).all()] == [("memory:one",)]


def test_mounts_are_changed_and_ended_while_the_vault_is_open(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/corp/a", "of one")
    table = Mounts(vault.authority)
    table.replace(Mount("app/corp/", ("memory:two",)))
    with pytest.raises(SecretNotFound):
        vault.read("app/corp/a")
    vault.write("app/corp/a", "of two")
    table.replace(Mount("app/corp/", ("memory:one",), Rules(max_age_s=1)))
    assert revealed(vault.read("app/corp/a")) == "of one"
    table.remove("app/corp/")
    with pytest.raises(SecretNotFound):
        vault.read("app/corp/a")
    vault.write("app/corp/a", "own")
    assert revealed(mounts.open().read("app/corp/a")) == "own"
    assert events(vault)[-1].event == Event.MOUNT_REMOVED
    with pytest.raises(SecretNotFound):
        table.remove("app/corp/")


@pytest.mark.parametrize("folder", ["corp/", "corp/team/", "corp/team/deeper/"])
def test_nothing_is_mounted_over_secrets_or_mounts(mounts: MountWorld, folder: str) -> None:
    vault = mounts.create()
    table = Mounts(vault.authority)
    vault.write("corp/team/deeper/x", "1")
    with pytest.raises(Conflict):
        table.add(Mount(folder, ("memory:one",)))
    vault.delete("corp/team/deeper/x")
    with pytest.raises(Conflict):
        table.add(Mount(folder, ("memory:one",)))
    table.add(Mount("other/team/", ("memory:one",)))
    for other in ("other/", "other/team/", "other/team/x/"):
        with pytest.raises(AlreadyExists):
            table.add(Mount(other, ("memory:two",)))


@pytest.mark.parametrize(
    ("mount", "error"),
    [
        (Mount("corp", ("memory:one",)), InvalidPath),
        (Mount("", ("memory:one",)), InvalidPath),
        (Mount("../", ("memory:one",)), InvalidPath),
        (Mount("corp/", ()), InvalidMetadata),
        (Mount("corp/", ("memory:one",) * 9), InvalidMetadata),
        (Mount("corp/", ("memory",)), InvalidBackendUri),
        (Mount("corp/", ("none-such:x",)), InvalidBackendUri),
        (Mount("corp/", ("memory:one",), Rules(max_age_s=-1)), InvalidMetadata),
        (Mount("corp/", ("memory:one",), Rules(keep_s=SECONDS_MAX + 1)), InvalidMetadata),
        (Mount("corp/", ("memory:one",), Rules(calls_per_s=-1)), InvalidMetadata),
        (Mount("corp/", ("memory:one",), Rules(calls_per_day=CALLS_MAX + 1)), InvalidMetadata),
        (Mount("corp/", ("memory:one",), Rules(max_age_s=60, refresh_s=60, keep_s=100)), InvalidMetadata),
    ],
)
def test_what_is_no_mount_is_refused(mounts: MountWorld, mount: Mount, error: type[UsageError]) -> None:
    vault = mounts.create()
    with pytest.raises(error):
        Mounts(vault.authority).add(mount)
    assert Mounts(vault.authority).all() == []


def test_credentials_are_sealed_in_the_mount_and_given_to_its_backend(mounts: MountWorld) -> None:
    vault = mounts.create()
    table = Mounts(vault.authority)
    mount = table.add(Mount("corp/", ("memory:one",), credentials={"MEMORY_TOKEN": Secret("canary-token-4711")}))
    assert "canary" not in repr(mount)
    opened = mounts.open()
    opened.write("corp/a", "1")
    assert GIVEN[-1] == "canary-token-4711"
    for file in mounts.folder.rglob("*"):
        assert file.is_dir() or b"canary-token-4711" not in file.read_bytes()
    shown = "".join(str(dict(record.obj)) for record in events(vault))
    assert "canary" not in shown
    for wrong in ({"OTHER": Secret("canary")}, {"MEMORY_TOKEN": Secret("")}, {"MEMORY_TOKEN": Secret("x" * 65_537)}):
        with pytest.raises(InvalidMetadata) as refused:
            table.replace(Mount("corp/", ("memory:one",), credentials=wrong))
        assert "canary" not in str(refused.value) + refused.value.hint
    table.replace(Mount("corp/", ("memory:one",), credentials={"MEMORY_TOKEN": Secret("canary-token-4712")}))
    opened.read("corp/a")
    assert GIVEN[-1] == "canary-token-4712"


def test_no_repr_shows_the_key_of_a_mount(mounts: MountWorld) -> None:
    vault = mounts.mount()
    (mount,) = Mounts(vault.authority).all()
    assert mount.key.hex() not in repr(mount)
    assert repr(mount.key) not in repr(mount)


def test_the_document_of_the_mounts_is_taken_for_nothing_that_it_is_not(mounts: MountWorld) -> None:
    from securecfg.vault.administration import to_document
    from securecfg.vault.drafts import Drafts, NewVersion
    from securecfg.vault.paths import MOUNTS_PATH

    vault = mounts.mount()
    good: dict[str, Any] = vault.opened.system_document(MOUNTS_PATH, {})
    (folder,) = good
    hostile: list[Any] = [
        [],
        {folder: []},
        {folder: {**good[folder], "id": "00"}},
        {folder: {**good[folder], "key": good[folder]["key"][2:]}},
        {folder: {**good[folder], "backends": []}},
        {folder: {**good[folder], "backends": "memory:one"}},
        {folder: {**good[folder], "rules": {"max_age_s": "1"}}},
        {folder: {**good[folder], "rules": {"max_age_s": True}}},
        {folder: {**good[folder], "rules": {"unknown": 1}}},
        {folder: {**good[folder], "credentials": {"MEMORY_TOKEN": 1}}},
        {folder: {**good[folder], "credentials": ["MEMORY_TOKEN"]}},
        {folder: {name: each for name, each in good[folder].items() if name != "rules"}},
    ]
    for document in hostile:
        content = to_document(document)

        def plan(publication: Publication, content: Content = content) -> Plan:
            plan = Drafts(vault.opened, publication).write(MOUNTS_PATH, content, NewVersion(ADMIN, 1))
            plan.records = [vault.authority.session().record(Event.MOUNT_ADDED, {"path": folder, "store": "x"})]
            return plan

        vault.opened.publisher.publish(plan)
        with pytest.raises(Tampered):
            vault.read("app/corp/a")
    assert mounts.store().asked == 0


def test_a_watcher_is_told_what_changes_in_a_mount(mounts: MountWorld) -> None:
    from threading import Event as Signal

    vault = mounts.mount(max_age_s=0, refresh_s=0)
    vault.write("app/corp/a", "1")
    told = Signal()
    stop = vault.ref("app/corp/a").on_change(lambda _: told.set())
    vault.write("app/corp/a", "2")
    assert told.wait(10)
    stop()


def test_rotations_are_followed_beside_a_mount_and_not_in_it(mounts: MountWorld) -> None:
    from queue import SimpleQueue

    vault = mounts.mount()
    told: SimpleQueue[tuple[str, str | bytes]] = SimpleQueue()
    for pattern in ("app/corp/a", "app/corp/**", "app/corp/x*/**"):
        with pytest.raises(Unsupported, match="`app/corp/`"):
            vault.on_rotate(pattern, lambda _old, new: told.put((new.path, new.reveal())))
    vault.on_rotate("app/**", lambda _old, new: told.put((new.path, new.reveal())))
    vault.write("app/corp/a", "1")
    vault.write("app/own", "2")
    assert told.get(timeout=10) == ("app/own", "2")
    assert told.empty()


def test_where_the_store_is_not_there_from_the_first_it_is_said(mounts: MountWorld) -> None:
    vault = mounts.mount()
    mounts.store().fail(NOT_REACHED)
    for call in (lambda: vault.read("app/corp/a"), vault.list, lambda: vault.history("app/corp/a")):
        with pytest.raises(SecurecfgError) as failed:
            call()
        assert failed.value.exit_code == 9
