"""Sinks: no value without a durable record, and what a file keeps of them."""

from __future__ import annotations

import os
import stat
import threading
from base64 import b64decode, b64encode
from datetime import timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.audit import Event, Record
from securecfg.audit.sealer import open_sealer
from securecfg.audit.sessions import Entry, EntryKind, SessionReader, sessions_of
from securecfg.errors import AccessDenied, AuditUnavailable, LogTampered, UsageError, VaultClosed
from securecfg.keys import Purpose
from securecfg.octets import Malformed
from securecfg.testing.audit_sink_conformance import MemorySink
from securecfg.vault.bundles import sinks
from securecfg.vault.bundles.sinks import FileSink, open_sink, read_file
from tests.vault.bundles.published import WEB, make_publisher
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.vault.bundles.published import Publisher
    from tests.vault.world import World


class Memory(MemorySink):
    """The public double, its entries taken apart."""

    @property
    def parsed(self) -> list[Entry]:
        return [Entry.parse(entry) for entry in self.entries]


@pytest.fixture
def publisher(world: World) -> Publisher:
    publisher = make_publisher(world)
    publisher.publish()
    return publisher


def records_of(publisher: Publisher, entries: Sequence[Entry]) -> list[Record]:
    """Open the records of all sessions, as the vault can."""
    replica = publisher.vault.opened.replica
    key = replica.keyring.active(Purpose.AUDIT).key
    public = publisher.vault.administration.identities()[WEB].verifier
    records = []
    for session in sessions_of(entries).values():
        reader = SessionReader(session[0], lambda row: open_sealer(row, key, replica.vault_id), replica.vault_id)
        reader.verify_start(public)
        records += [record for entry in session[1:] if (record := reader.add(entry)) is not None]
    return records


def shown(records: Sequence[Record]) -> list[tuple[str, Any, int | None]]:
    return [(record.event.value, record.obj.get("path"), record.count) for record in records]


def test_a_read_is_in_the_sink_before_it_returns_and_repeats_are_counted(publisher: Publisher) -> None:
    sink = Memory()
    bundle = publisher.open(audit=sink)
    assert [entry.kind for entry in sink.parsed] == [EntryKind.START]
    for _ in range(3):
        bundle.read("app/a")
    bundle.read("app/a", at="previous")
    assert shown(records_of(publisher, sink.parsed)) == [("secret.read", "app/a", None)] * 2
    bundle.close()
    assert sink.is_closed
    assert shown(records_of(publisher, sink.parsed))[2:] == [("secret.read.counted", "app/a", 2)]
    assert sink.parsed[-1].kind is EntryKind.END


def test_counts_are_kept_within_a_minute_and_written_after_it(publisher: Publisher, world: World) -> None:
    sink = Memory()
    bundle = publisher.open(audit=sink)
    for _ in range(5):
        bundle.read("app/a")
    world.clock.advance(timedelta(seconds=61))
    bundle.read("app/a")
    assert shown(records_of(publisher, sink.parsed)) == [
        ("secret.read", "app/a", None),
        ("secret.read.counted", "app/a", 5),
    ]


def test_strict_records_every_read(publisher: Publisher) -> None:
    sink = Memory()
    with publisher.open(audit=sink, strict=True) as bundle:
        for _ in range(3):
            bundle.read("app/a")
    assert shown(records_of(publisher, sink.parsed)) == [("secret.read", "app/a", None)] * 3


def test_a_record_says_who_what_and_by_which_policy(publisher: Publisher) -> None:
    sink = Memory()
    publisher.open(audit=sink).read("app/a")
    (record,) = records_of(publisher, sink.parsed)
    assert record.event is Event.SECRET_READ
    assert (record.subject.id, record.subject.is_proved, record.subject.roles) == (WEB, True, ("role:web",))
    assert dict(record.obj) == {"path": "app/a", "ver": 2}
    assert record.policy == publisher.vault.administration.policy().digest
    assert record.source.pid == os.getpid()
    assert record.source.host == os.uname().nodename
    assert len(record.request_id) == 32


def test_denials_are_recorded_ten_times_and_then_counted(publisher: Publisher, world: World) -> None:
    sink = Memory()
    with publisher.open(audit=sink) as bundle:
        for _ in range(13):
            with pytest.raises(AccessDenied):
                bundle.read("other/x")
        world.clock.advance(timedelta(seconds=61))
        with pytest.raises(AccessDenied):
            bundle.read("other/x")
    records = shown(records_of(publisher, sink.parsed))
    assert records.count(("access.denied", "other/x", None)) == 11
    assert records.count(("access.denied.counted", "other/x", 3)) == 1


@pytest.mark.parametrize("error", [OSError("canary"), AuditUnavailable("full"), ValueError("canary")])
def test_nothing_is_given_out_while_the_sink_fails(publisher: Publisher, error: Exception) -> None:
    sink = Memory()
    bundle = publisher.open(audit=sink)
    sink.error = error
    for use in (
        lambda: bundle.read("app/a"),
        lambda: bundle.read_many([("app/a", None)]),
        lambda: bundle.stream("app/a"),
        lambda: bundle.read("other/x"),
        lambda: bundle.read_many([("other/x", None)]),
    ):
        with pytest.raises(AuditUnavailable) as refused:
            use()
        assert "canary" not in refused.value.message
    sink.error = None
    assert text_of(bundle, "app/a") == "two"
    bundle.close()
    # What the sink may have kept of the session that failed does not matter: the records are in another one.
    assert len(sessions_of(sink.parsed)) == 2
    assert shown(records_of(publisher, sink.parsed)) == [("secret.read", "app/a", None)]


def test_a_sink_that_fails_at_first_opens_nothing(publisher: Publisher) -> None:
    sink = Memory()
    sink.error = OSError("no")
    with pytest.raises(AuditUnavailable):
        publisher.open(audit=sink)
    assert sink.is_closed


def test_what_cannot_be_written_at_the_end_is_said(publisher: Publisher) -> None:
    sink = Memory()
    bundle = publisher.open(audit=sink)
    sink.error = OSError("no")
    with pytest.raises(AuditUnavailable):
        bundle.close()
    assert sink.is_closed
    bundle.close()


def test_threads_make_one_unbroken_session(publisher: Publisher) -> None:
    sink = Memory()
    bundle = publisher.open(audit=sink, strict=True)
    threads = [threading.Thread(target=lambda: [bundle.read("app/a") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records_of(publisher, sink.parsed)) == 80


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def session(publisher: Publisher) -> list[Entry]:
    sink = Memory()
    with publisher.open(audit=sink, strict=True) as bundle:
        for _ in range(3):
            bundle.read("app/a")
    return sink.parsed


def test_an_entry_that_is_missing_moved_or_altered_is_found(publisher: Publisher, session: list[Entry]) -> None:
    changed = [
        session[:1] + session[2:],
        session[:2] + session[3:],
        [session[0], session[2], session[1], *session[3:]],
        [*session[:3], session[2], *session[3:]],
        [*session, session[-1]],
        [*session, session[0]],
        *([*session[:n], entry._replace(signature=bytes(64)), *session[n + 1 :]] for n, entry in enumerate(session)),
        *(
            [*session[:n], entry._replace(content=entry.content + b"x"), *session[n + 1 :]]
            for n, entry in enumerate(session)
        ),
        [*session[:2], session[2]._replace(kind=EntryKind.END), *session[3:]],
    ]
    for entries in changed:
        with pytest.raises(LogTampered, match=r"entry \d+ of the session|record"):
            records_of(publisher, entries)
    assert len(records_of(publisher, session)) == 3


def test_a_session_does_not_open_with_the_identity_of_somebody_else(publisher: Publisher, session: list[Entry]) -> None:
    publisher.vault.administration.remove_member("web", WEB)
    publisher.add(WEB)
    with pytest.raises(LogTampered):
        records_of(publisher, session)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_entry_are_malformed(raw: bytes) -> None:
    try:
        entry = Entry.parse(raw)
    except Malformed:
        return
    assert entry.to_bytes() == raw


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_only_grows_and_is_private(publisher: Publisher) -> None:
    with publisher.open() as bundle:
        bundle.read("app/settings")
    first = publisher.sink.read_bytes()
    assert stat.S_IMODE(publisher.sink.stat().st_mode) == 0o600
    with publisher.open() as bundle:
        bundle.read("app/settings")
    assert publisher.sink.read_bytes().startswith(first)
    entries, damaged = read_file(publisher.sink)
    assert damaged == 0
    assert shown(records_of(publisher, entries)) == [("secret.read", "app/settings", None)] * 2
    # Long enough that no random bytes are them.
    for text in (b"app/settings", b"svc:web", b"role:web"):
        assert text not in b"".join(b64decode(line) for line in publisher.sink.read_bytes().splitlines())


def test_many_processes_may_write_to_one_file(publisher: Publisher) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            bundle = publisher.open(strict=True)
            for _ in range(10):
                bundle.read("app/a")
            bundle.close()
            os._exit(0)
        children.append(child)
    assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
    entries, damaged = read_file(publisher.sink)
    assert (len(records_of(publisher, entries)), damaged) == (40, 0)


def test_a_line_that_a_crash_cut_off_stays_alone(publisher: Publisher) -> None:
    with publisher.open() as bundle:
        bundle.read("app/a")
    whole = publisher.sink.read_bytes()
    publisher.sink.write_bytes(whole + whole.splitlines()[1][:100])
    with publisher.open() as bundle:
        bundle.read("app/a")
    entries, damaged = read_file(publisher.sink)
    assert damaged == 1
    assert len(records_of(publisher, entries)) == 2


@pytest.mark.parametrize("line", [b"x", b"====", b64encode(b""), b64encode(bytes(93)), b"\xff"])
def test_lines_that_are_no_entries_are_counted(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "sink"
    file.write_bytes(line + b"\n")
    assert read_file(file) == ([], 1)


def test_refuses_a_file_that_is_not_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o622)
    for name in ("link", "pipe", "open", "none/x", "."):
        with pytest.raises(AuditUnavailable):
            FileSink(tmp_path / name)


def test_a_disk_that_is_full_stops_reads(publisher: Publisher) -> None:
    bundle = publisher.open()
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, bundle._trail._sink._descriptor)  # type: ignore[attr-defined]  # that of a file
    os.close(full)
    with pytest.raises(AuditUnavailable):
        bundle.read("app/a")


# --- others -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["reads", "file:", ":x", "No Scheme:x", "unknown:x"])
def test_refuses_what_names_no_sink(uri: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_sink(uri)
    assert refused.value.hint


def test_an_installed_sink_is_found_by_its_scheme(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    sink = Memory()

    class Entry:
        def load(self) -> object:
            return self.make

        def make(self, rest: str) -> Memory:
            made.append(rest)
            if rest == "broken":
                message = "canary"
                raise RuntimeError(message)
            return sink

    def found(*, group: str, name: str) -> list[Entry]:
        assert group == "securecfg.audit_sinks"
        return [Entry()] if name == "memory" else []

    monkeypatch.setattr(metadata, "entry_points", found)
    publisher.open(audit="memory:here").read("app/a")
    assert made == ["here"]
    assert len(sink.parsed) == 2
    with pytest.raises(AuditUnavailable) as refused:
        publisher.open(audit="memory:broken")
    assert "canary" not in refused.value.message


# --- the file is still the one at the path ----------------------------------------------------------------------------


def moved(sink: Path) -> None:
    sink.rename(sink.with_name("moved"))


def removed(sink: Path) -> None:
    sink.unlink()


def replaced(sink: Path) -> None:
    moved(sink)
    sink.touch(mode=0o600)


def cut_off(sink: Path) -> None:
    os.truncate(sink, 0)


@pytest.mark.parametrize("how", [moved, removed, replaced, cut_off])
def test_no_record_goes_into_a_file_that_nobody_will_merge(publisher: Publisher, how: Callable[[Path], None]) -> None:
    bundle = publisher.open()
    bundle.read("app/a")
    how(publisher.sink)
    with pytest.raises(AuditUnavailable, match="moved, removed or cut off"):
        bundle.read("app/f")
    assert bundle.read("app/f").field("user").reveal() == "shop"
    bundle.close()
    entries, damaged = read_file(publisher.sink)
    assert shown(records_of(publisher, entries)) == [("secret.read", "app/f", None)]
    assert not damaged


def test_a_file_takes_no_more_than_can_be_merged(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = publisher.open(strict=True)
    limit = publisher.sink.stat().st_size + 2_000
    monkeypatch.setattr(sinks, "FILE_BYTES_MAX", limit)
    with pytest.raises(AuditUnavailable, match="full"):
        list(map(bundle.read, ["app/a"] * 20))
    assert 0 < publisher.sink.stat().st_size <= limit
    assert len(read_file(publisher.sink)[0]) > 1


@pytest.mark.parametrize(
    "content",
    [
        b"export A=1\n",
        b"-----BEGIN X-----\n",
        b"\x00",
        b"\n",
        b"{}",
        b"password\n",
        b"password",
        b"z",
        b"AWSKEY\nexport A=1\n",
        b64encode(bytes(93)) + b"\n",
        b64encode(b"\x01" + bytes(16) + b"\x01" * 8) + b"\n",
        b64encode(b"\x02" + bytes(30)),
    ],
)
def test_a_file_of_something_else_is_no_sink(publisher: Publisher, content: bytes) -> None:
    publisher.sink.write_bytes(content)
    publisher.sink.chmod(0o600)
    with pytest.raises(AuditUnavailable, match="something else"):
        publisher.open()
    assert publisher.sink.read_bytes() == content


@pytest.mark.parametrize("left", [1, 2, 3, 4, 30, 40, 701])
def test_a_start_that_a_crash_cut_off_does_not_end_the_use_of_a_file(publisher: Publisher, left: int) -> None:
    publisher.open().close()
    publisher.sink.write_bytes(publisher.sink.read_bytes()[:left])
    for _ in range(2):
        with publisher.open() as bundle:
            bundle.read("app/a")
    entries, damaged = read_file(publisher.sink)
    assert (len(records_of(publisher, entries)), damaged) == (2, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_a_file_of_another_user_is_no_sink(publisher: Publisher) -> None:
    publisher.sink.touch(mode=0o600)
    os.chown(publisher.sink, 65_534, 65_534)
    with pytest.raises(AuditUnavailable, match="another user"):
        publisher.open()


def test_a_read_that_waits_while_the_bundle_is_closed_records_nothing(publisher: Publisher) -> None:
    sink = Memory()
    bundle = publisher.open(audit=sink)
    bundle.close()
    kept = len(sink.entries)
    # What passed the first check before the bundle was closed.
    with pytest.raises(VaultClosed):
        bundle._trail.reads([("app/a", 2)], repeats=False)
    with pytest.raises(VaultClosed):
        bundle._trail.denied("read", "other/x")
    assert len(sink.entries) == kept


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_asked_for_twice_at_once_is_recorded_twice(publisher: Publisher, *, strict: bool) -> None:
    sink = Memory()
    with publisher.open(audit=sink, strict=strict) as bundle:
        bundle.read_many([("app/a", None)] * 3)
        bundle.read_many([("app/a", None)] * 2)
    later = [("secret.read", "app/a", None)] * 2 if strict else [("secret.read.counted", "app/a", 2)]
    assert shown(records_of(publisher, sink.parsed)) == [("secret.read", "app/a", None)] * 3 + later


class EmptyAtFirst(list[bytes]):
    """A sink that is false while it holds nothing."""

    def append(self, entries: Sequence[bytes]) -> None:  # type: ignore[override]  # as a sink
        self.extend(entries)

    def close(self) -> None:
        """Hold nothing open."""


def test_a_sink_that_is_given_counts_whatever_it_holds(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURECFG_AUDIT", f"file:{publisher.sink}")
    sink = EmptyAtFirst()
    publisher.open(audit=sink).close()
    assert len(sink) == 2
    assert not publisher.sink.exists()
