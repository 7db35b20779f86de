# ruff: noqa: D102, S101 - a suite of tests: names are sentences, asserts are the point
"""What every sink of records must do; subclass `AuditSinkConformance`, say how to make one, and let pytest run it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from securecfg.audit.sessions import Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.vault.bundles.sinks import AuditSink

WRITERS = 4
APPENDS = 25


class MemorySink:
    """A sink that keeps entries in memory, and fails when it is told to.

    Attributes:
        entries: What was appended.
        error: What the next calls of `append` raise, or None.
        is_closed: Whether it was closed.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.entries: list[bytes] = []
        self.error: Exception | None = None
        self.is_closed = False

    def append(self, entries: Sequence[bytes]) -> None:
        """Keep entries.

        Raises:
            Exception: `error`, where it is set; then nothing was kept.
        """
        if self.error is not None:
            raise self.error
        self.entries += entries

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True


def _entry(content: bytes) -> bytes:
    """Return what a session begins with: a sink may refuse a place that holds anything else."""
    return Entry(EntryKind.START, bytes(16), 0, bytes(64), content).to_bytes()


class AuditSinkConformance:
    """The suite; `sink`, `kept` and `broken` are for the subclass to define."""

    def sink(self) -> AuditSink:
        """Return a sink; every call returns another object that appends to the same place."""
        raise NotImplementedError

    def kept(self) -> Sequence[bytes]:
        """Return all entries that are durable in that place, in order."""
        raise NotImplementedError

    def broken(self) -> AuditSink:
        """Return a sink that cannot keep anything from now on."""
        raise NotImplementedError

    def test_keeps_entries_in_order_before_it_returns(self) -> None:
        sink = self.sink()
        sink.append([b"one", b"two"])
        assert list(self.kept()) == [b"one", b"two"]
        sink.append([b"three"])
        assert list(self.kept()) == [b"one", b"two", b"three"]
        sink.close()

    def test_keeps_any_bytes_as_they_are(self) -> None:
        entries = [bytes(range(256)), b"", b"\n", b"\r\n\n", os.urandom(50_000)]
        sink = self.sink()
        sink.append(entries)
        sink.close()
        assert list(self.kept()) == entries

    def test_goes_on_where_another_object_ended(self) -> None:
        entries = [_entry(b"one"), _entry(b"two")]
        for entry in entries:
            sink = self.sink()
            sink.append([entry])
            sink.close()
        assert list(self.kept()) == entries

    def test_does_not_mix_entries_of_several_writers(self) -> None:
        def write(number: int) -> None:
            sink = self.sink()
            for count in range(APPENDS):
                sink.append([_entry(b"%d.%d.a" % (number, count)), _entry(b"%d.%d.b" % (number, count))])
            sink.close()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = [Entry.parse(entry).content for entry in self.kept()]
        assert len(kept) == 2 * WRITERS * APPENDS
        for number in range(WRITERS):
            own = [entry for entry in kept if entry.startswith(b"%d." % number)]
            assert own == [b"%d.%d.%s" % (number, count, half) for count in range(APPENDS) for half in (b"a", b"b")]

    def test_raises_where_it_cannot_keep_them(self) -> None:
        sink = self.broken()
        before = list(self.kept())
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, it means that nothing may be taken as kept
            sink.append([b"lost"])
        assert b"lost" not in list(self.kept())[len(before) :]

    def test_may_be_closed_again(self) -> None:
        sink = self.sink()
        sink.close()
        sink.close()
