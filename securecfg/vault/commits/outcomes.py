"""What became of a change whose commit was ambiguous: its request id, looked up in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.audit.opening import RecordOpener
from securecfg.errors import LogTampered, NotAuthenticated, RequestTooOld
from securecfg.keys import Purpose
from securecfg.store import Space
from securecfg.vault.index.rows import digest_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.audit import Record
    from securecfg.vault.authority import Authority

WINDOW_RECORDS = 100_000
WINDOW_NS = 7 * 86_400 * 1_000_000_000
_ROWS_AT_ONCE = 512
_MERGED = frozenset({Event.BUNDLE_READ, Event.BUNDLE_DENIED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """A change that happened.

    Attributes:
        index: The record of the log that says so.
        version: The version that the change made or concerned; 0 for a batch.
    """

    index: int
    version: int


def find_outcome(authority: Authority, request_id: str) -> Outcome | None:
    """Return what a request came to, or None where it certainly did not happen.

    Only the session's own requests are found: those that its principal made, for itself or acting for another.

    Raises:
        RequestTooOld: It is not in the window in which it can be looked up, and the log is longer than that.
        NotAuthenticated: Nobody says who asks.
    """
    principal = authority.identity.principal

    def is_wanted(record: Record) -> bool:
        # A reader of a bundle chooses its own request ids, and what it did is no change.
        is_own = principal in {record.subject.id, record.subject.via}
        return record.request_id == request_id and is_own and record.event not in _MERGED

    found = find_record(authority, is_wanted)
    return None if found is None else Outcome(found[0], _version(found[1]))


def find_record(authority: Authority, is_wanted: Callable[[Record], bool]) -> tuple[int, Record] | None:
    """Return the newest record of some kind and its index, or None where there certainly is none.

    Raises:
        RequestTooOld: It is not in the window in which it can be looked up, and the log is longer than that.
        NotAuthenticated: Nobody says who asks.
    """
    if not authority.identity.principal:
        message = "nobody says who is asking"
        raise NotAuthenticated(message, hint="name a principal")
    opened = authority.opened
    opened.refresh()
    replica = opened.replica
    opener = RecordOpener(
        replica.keyring.all(Purpose.AUDIT), replica.vault_id, lambda id_: opened.store.get(Space.SEALER, digest_id(id_))
    )
    oldest_ns = opened.clock.now_ns() - WINDOW_NS
    size = replica.checkpoint.size
    end = size
    while end > max(size - WINDOW_RECORDS, 0):
        first = max(end - _ROWS_AT_ONCE, 0)
        rows = opened.store.scan(Space.LOG, first, end - 1, _ROWS_AT_ONCE)
        if len(rows) != end - first:
            message = f"records are missing from the log between {first} and {end - 1}"
            raise LogTampered(message, index=first)
        newest_ns = 0
        for index, row in reversed(rows):
            record = opener.open_row(row, index)
            if is_wanted(record):
                return index, record
            newest_ns = max(newest_ns, record.time_ns)
        # One record by a clock that was behind says nothing about those before it.
        if newest_ns < oldest_ns:
            raise _too_old()
        end = first
    if end > 0:
        raise _too_old()
    return None


def _version(record: Record) -> int:
    number = record.obj.get("ver", 0)
    return number if isinstance(number, int) else 0


def _too_old() -> RequestTooOld:
    message = "the request is not among the records that can be looked up"
    return RequestTooOld(message, hint="requests are kept for seven days or 100,000 records; look at the secret itself")
