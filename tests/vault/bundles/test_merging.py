"""Merging: the records of readers of bundles, in the vault's log, each once."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event, Record, Source, Subject
from securecfg.audit.record import format_time
from securecfg.audit.sessions import Entry, SessionWriter, Start
from securecfg.errors import AccessDenied, Conflict, FileMissing, LogTampered, Unsupported
from securecfg.keys import IdentityProvider
from securecfg.keys.identity import format_identity, read_identity_file
from securecfg.vault.bundles.merging import Merging
from securecfg.vault.commits.outcomes import find_outcome
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.slots import Slots
from tests.vault.bundles.published import OTHER, WEB, make_publisher
from tests.vault.world import ADMIN, GRANTS, InterruptedStore, World, grant, interrupted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg import Vault
    from securecfg.vault.bundles.publishing import Published
    from tests.vault.bundles.published import Publisher


@pytest.fixture
def publisher(world: World) -> Publisher:
    publisher = make_publisher(world)
    publisher.publish()
    return publisher


def read(publisher: Publisher, *paths: str, key: str | None = None) -> None:
    """Read some secrets in a session of its own."""
    with publisher.open(strict=True, key=key or publisher.key()) as bundle:
        for path in paths:
            try:
                bundle.read(path)
            except AccessDenied:
                continue


def merged(vault: Vault) -> list[Record]:
    """The records in the log that came from readers."""
    records = [entry.record for entry in vault.log.records()]
    return [record for record in records if record.event in {Event.BUNDLE_READ, Event.BUNDLE_DENIED}]


def lines(publisher: Publisher) -> list[bytes]:
    return publisher.sink.read_bytes().splitlines(keepends=True)


def test_records_say_who_read_what_when_and_who_merged(publisher: Publisher, world: World) -> None:
    before = world.clock.now_ns()
    read(publisher, "app/a", "other/x")
    world.clock.advance(timedelta(days=3))
    vault = publisher.vault
    done = Merging(vault.authority).merge(publisher.sink, "web.sink")
    assert (done.records, done.known, done.sessions, done.unfinished, done.damaged) == (2, 0, 1, 0, 0)
    first, second = merged(vault)
    serial = next(e.index for e in vault.log.records() if e.record.event is Event.BUNDLE_PUBLISHED)
    assert (first.event, first.obj["path"], first.obj["ver"]) == (Event.BUNDLE_READ, "app/a", 2)
    assert first.obj["bundle"] == second.obj["bundle"] == serial
    assert format_time(before) < first.obj["at"] < format_time(before + 10**9)
    assert first.time_ns > before + 3 * 86_400 * 10**9
    assert (second.event, second.obj["action"], second.obj["path"]) == (Event.BUNDLE_DENIED, "read", "other/x")
    for record in (first, second):
        assert (record.subject.id, record.subject.is_proved, record.subject.via) == (WEB, True, ADMIN)
        assert record.subject.roles == ("role:web",)
        assert record.source.host.startswith("m")
        assert len(record.request_id) == 32
    told = [e.record for e in vault.log.records() if e.record.event is Event.BUNDLE_MERGED]
    assert [dict(record.obj) for record in told] == [{"bundle": serial, "count": 2, "file": "web.sink"}]
    assert not vault.log.verify().behind


def test_counts_come_over_as_counts(publisher: Publisher) -> None:
    with publisher.open() as bundle:
        for _ in range(4):
            bundle.read("app/a")
    Merging(publisher.vault.authority).merge(publisher.sink)
    assert [record.obj.get("count") for record in merged(publisher.vault)] == [None, 3]


def test_each_record_is_taken_once_however_often_it_is_merged(publisher: Publisher, world: World) -> None:
    bundle = publisher.open(strict=True)
    results = []
    for _ in range(3):
        bundle.read("app/a")
        results.append(Merging(publisher.vault.authority).merge(publisher.sink))
        results.append(Merging(world.open().authority).merge(publisher.sink))
    bundle.close()
    results.append(Merging(publisher.vault.authority).merge(publisher.sink))
    assert [(each.records, each.known, each.unfinished) for each in results] == [
        *((1, 0, 1), (0, 1, 1), (1, 1, 1), (0, 2, 1), (1, 2, 1), (0, 3, 1), (0, 3, 0))
    ]
    requests = [record.request_id for record in merged(publisher.vault)]
    assert len(requests) == len(set(requests)) == 3


def test_more_records_than_one_publication_holds(publisher: Publisher) -> None:
    read(publisher, *["app/a"] * 130)
    assert Merging(publisher.vault.authority).merge(publisher.sink).records == 130
    assert Merging(publisher.vault.authority).merge(publisher.sink).records == 0
    assert len(merged(publisher.vault)) == 130
    publisher.vault.log.verify()


def test_a_merge_that_was_interrupted_goes_on(publisher: Publisher, world: World) -> None:
    read(publisher, *["app/a"] * 130)
    vault, store = interrupted(world)

    def fail() -> None:
        message = "power"
        raise OSError(message)

    count = 0

    def second_commit() -> None:
        nonlocal count
        count += 1
        store.interrupt("commit", None, fail if count == 1 else second_commit)

    store.interrupt("commit", None, second_commit)
    with pytest.raises(OSError, match="power"):
        Merging(vault.authority).merge(publisher.sink)
    taken = len(merged(publisher.vault))
    assert 0 < taken < 130
    done = Merging(publisher.vault.authority).merge(publisher.sink)
    assert (done.records, done.known) == (130 - taken, taken)
    assert isinstance(store, InterruptedStore)


def test_two_who_merge_at_once_take_no_record_twice(publisher: Publisher, world: World) -> None:
    read(publisher, "app/a")
    slow, other = Merging(world.open().authority), Merging(publisher.vault.authority)
    take = slow._take

    def interrupted_take(*given: object) -> int:
        other.merge(publisher.sink)
        return take(*given)  # type: ignore[arg-type]  # what it was called with

    slow._take = interrupted_take  # type: ignore[method-assign,assignment]  # between two steps
    with pytest.raises(Conflict):
        slow.merge(publisher.sink)
    assert len(merged(publisher.vault)) == 1


def test_records_of_several_readers_and_bundles_come_from_one_file(publisher: Publisher) -> None:
    publisher.add(OTHER)
    read(publisher, "app/a")
    publisher.publish(replace=True)
    read(publisher, "app/a", key=publisher.key(OTHER))
    read(publisher, "app/f")
    assert Merging(publisher.vault.authority).merge(publisher.sink).sessions == 3
    found = [(record.subject.id, record.obj["path"]) for record in merged(publisher.vault)]
    assert found == [(WEB, "app/a"), (OTHER, "app/a"), (WEB, "app/f")]
    assert len({record.obj["bundle"] for record in merged(publisher.vault)}) == 2


def test_records_come_over_after_keys_and_members_have_changed(publisher: Publisher, world: World) -> None:
    read(publisher, "app/a")
    from securecfg.keys import open_provider
    from securecfg.keys.keyfile import generate_key_file

    generate_key_file(world.folder / "second")
    slots = Slots(publisher.vault.authority)
    slots.remove(slots.add(open_provider(f"file:{world.folder / 'second'}")))
    KeyChanges(publisher.vault.authority).rotate_root()
    publisher.vault.administration.remove_member("web", WEB)
    assert Merging(publisher.vault.authority).merge(publisher.sink).records == 1


def test_needs_the_right_to_read_the_log_and_a_vault_that_can_be_written(publisher: Publisher, world: World) -> None:
    read(publisher, "app/a")
    grant(publisher.vault, GRANTS)
    with pytest.raises(AccessDenied):
        Merging(world.open("svc:reader").authority).merge(publisher.sink)
    with pytest.raises(Unsupported):
        Merging(world.open(read_only=True).authority).merge(publisher.sink)
    with pytest.raises(FileMissing):
        Merging(publisher.vault.authority).merge(world.folder / "none")


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(publisher: Publisher, content: bytes) -> str:
    """Merge a file with this content, and return why its one session that is not sound is refused."""
    file = publisher.world.folder / "forged"
    file.write_bytes(content)
    done = Merging(publisher.vault.authority).merge(file)
    ((session, error),) = done.refused
    assert isinstance(error, LogTampered)
    assert session in error.message
    return error.message


def test_takes_nothing_of_a_session_in_which_an_entry_was_altered_or_is_missing(publisher: Publisher) -> None:
    read(publisher, "app/a", "app/a", "app/a")
    whole = lines(publisher)
    for number in range(len(whole)):
        entry = Entry.parse(b64decode(whole[number]))
        altered = b64encode(entry._replace(signature=bytes(64)).to_bytes()) + b"\n"
        refused(publisher, b"".join((*whole[:number], altered, *whole[number + 1 :])))
    for number in range(len(whole) - 1):
        refused(publisher, b"".join((*whole[:number], *whole[number + 1 :])))
    assert not merged(publisher.vault)
    assert Merging(publisher.vault.authority).merge(publisher.sink).records == 3


def test_takes_the_sound_sessions_beside_one_that_is_refused(publisher: Publisher) -> None:
    read(publisher, "app/f")
    read(publisher, "app/a")
    whole = lines(publisher)
    assert "altered" in refused(publisher, b"".join((*whole[:4], *whole[5:])))
    assert [record.obj["path"] for record in merged(publisher.vault)] == ["app/f"]


def test_an_end_that_was_cut_off_is_counted(publisher: Publisher) -> None:
    read(publisher, "app/a", "app/a")
    publisher.sink.write_bytes(b"".join(lines(publisher)[:2]) + b"torn")
    done = Merging(publisher.vault.authority).merge(publisher.sink)
    assert (done.records, done.unfinished, done.damaged) == (1, 1, 1)


def test_what_was_merged_before_cannot_be_taken_back_or_replaced(publisher: Publisher) -> None:
    read(publisher, "app/a", "app/a")
    Merging(publisher.vault.authority).merge(publisher.sink)
    assert "lacks what was merged before" in refused(publisher, b"".join(lines(publisher)[:2]))


def forged(publisher: Publisher, start: Start, record: Record | None = None) -> bytes:
    """Return a session that somebody made by hand with the right identity."""
    provider = IdentityProvider(publisher.world.folder / "svc-web.identity")
    opened = publisher.open()
    writer = SessionWriter(opened.bundle.vault_id, opened.bundle.inventory.audit_key, provider.sign)
    entries = [writer.start(start), *([writer.record(record)] if record is not None else []), writer.end()]
    return b"".join(b64encode(entry) + b"\n" for entry in entries)


@pytest.fixture
def done(publisher: Publisher) -> Published:
    return publisher.publish(replace=True)


def test_refuses_sessions_of_bundles_that_were_not_published_for_their_reader(
    publisher: Publisher, done: Published, world: World
) -> None:
    from tests.vault.test_identities import identity_file

    digest = publisher.open().bundle.digest
    web = format_identity(read_identity_file(world.folder / "svc-web.pub").identity)
    _, public = identity_file(world.folder, OTHER)
    other = format_identity(read_identity_file(public).identity)
    for start in (
        Start(done.serial, digest, other),
        Start(done.serial, "0" * 64, web),
        Start(done.serial - 1, digest, web),
        Start(10_000, digest, web),
        Start(done.serial, digest, "nobody"),
    ):
        message = refused(publisher, forged(publisher, start))
        assert "did not publish" in message or "no identity" in message


def test_refuses_records_that_a_reader_does_not_make(publisher: Publisher, done: Published, world: World) -> None:
    web = format_identity(read_identity_file(world.folder / "svc-web.pub").identity)
    start = Start(done.serial, publisher.open().bundle.digest, web)

    def record(event: Event, who: str, obj: dict[str, object], request_id: str) -> Record:
        subject = Subject(who, is_proved=True)
        return Record(time_ns=1, event=event, subject=subject, source=Source(1), obj=obj, request_id=request_id)

    place: dict[str, object] = {"path": "app/a", "ver": 1}
    wrong = (
        record(Event.SECRET_WRITTEN, WEB, place, "a" * 32),
        record(Event.SECRET_READ, "user:ada", place, "a" * 32),
        record(Event.SECRET_READ, WEB, place, ""),
    )
    for each in wrong:
        assert "no reader of a bundle makes" in refused(publisher, forged(publisher, start, each))


def test_counts_the_sessions_of_another_vault_and_takes_its_own(publisher: Publisher, world: World) -> None:
    folder = world.folder / "other"
    folder.mkdir()
    other = make_publisher(World(folder, world.clock))
    other.publish()
    read(other, "app/a")
    read(publisher, "app/f")
    publisher.sink.write_bytes(other.sink.read_bytes() + publisher.sink.read_bytes())
    for vault, path in ((publisher.vault, "app/f"), (other.vault, "app/a")):
        done = Merging(vault.authority).merge(publisher.sink)
        assert (done.records, done.sessions, len(done.foreign), done.refused) == (1, 1, 1, ())
        assert [record.obj["path"] for record in merged(vault)] == [path]
    other.world.close()


def test_the_log_takes_role_and_policy_from_the_publication_and_only_what_was_in_it(
    publisher: Publisher, done: Published, world: World
) -> None:
    web = format_identity(read_identity_file(world.folder / "svc-web.pub").identity)
    start = Start(done.serial, publisher.open().bundle.digest, web)

    def told(path: str, version: int) -> Record:
        subject = Subject(WEB, is_proved=True, roles=("role:admin",))
        place = {"path": path, "ver": version}
        return Record(
            time_ns=1,
            event=Event.SECRET_READ,
            subject=subject,
            source=Source(1),
            obj=place,
            policy="false",
            request_id="a" * 32,
        )

    for path, version in (("never/there", 1), ("other/x", 1), ("app/a", 9)):
        assert "no reader of a bundle makes" in refused(publisher, forged(publisher, start, told(path, version)))
    file = world.folder / "forged"
    file.write_bytes(forged(publisher, start, told("app/a", 2)))
    assert Merging(publisher.vault.authority).merge(file).records == 1
    (record,) = merged(publisher.vault)
    assert record.subject.roles == ("role:web",)
    assert record.policy == publisher.vault.administration.policy().digest


def test_what_a_reader_did_is_not_the_outcome_of_a_change(publisher: Publisher, done: Published, world: World) -> None:
    web = format_identity(read_identity_file(world.folder / "svc-web.pub").identity)
    start = Start(done.serial, publisher.open().bundle.digest, web)
    request = "c" * 32
    record = Record(
        time_ns=1,
        event=Event.SECRET_READ,
        subject=Subject(WEB, is_proved=True),
        source=Source(1),
        obj={"path": "app/a", "ver": 2},
        request_id=request,
    )
    file = world.folder / "forged"
    file.write_bytes(forged(publisher, start, record))
    assert Merging(publisher.vault.authority).merge(file).records == 1
    assert merged(publisher.vault)[0].request_id == request
    assert find_outcome(publisher.vault.authority, request) is None


def test_what_the_log_cannot_take_is_refused_and_holds_nothing_up(
    publisher: Publisher, done: Published, world: World
) -> None:
    web = format_identity(read_identity_file(world.folder / "svc-web.pub").identity)
    digest = publisher.open().bundle.digest
    read(publisher, "app/a")
    sound = publisher.sink.read_bytes()
    for start in (Start(-1, digest, web), Start(-(2**70), digest, web), Start(2**70, digest, web)):
        assert "did not publish" in refused(publisher, forged(publisher, start))
    for line in ("\ud800", f"{web}\n"):
        assert "session" in refused(publisher, forged(publisher, Start(done.serial, digest, line)))

    def denial(obj: Mapping[str, object]) -> Record:
        subject = Subject(WEB, is_proved=True)
        return Record(
            time_ns=1, event=Event.ACCESS_DENIED, subject=subject, source=Source(1), obj=obj, request_id="a" * 32
        )

    start = Start(done.serial, digest, web)
    for obj in (
        {"action": "read", "path": "app/a", "to": "x"},
        {"action": "\U0001f600" * 4_080, "path": "\U0001f600" * 4_045},
    ):
        message = refused(publisher, sound + forged(publisher, start, denial(obj)))
        assert "the log cannot take" in message
    assert [record.obj["path"] for record in merged(publisher.vault)] == ["app/a"]
