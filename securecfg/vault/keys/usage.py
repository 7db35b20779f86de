"""How old the keys of a vault are and how much they are used, beside what they may come to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.clock import to_datetime
from securecfg.keys import KeyState, Purpose
from securecfg.vault.auditlog import AuditLog
from securecfg.vault.keys.limits import Limit, read_limits
from securecfg.vault.keys.sealed_rows import SealedRows
from securecfg.vault.keys.slots import described_slots

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from securecfg.audit import Record
    from securecfg.vault.authority import Authority
    from securecfg.vault.state.storedlog import StoredLog

# What a later version adds has no limits here.
_NAMES: Mapping[int, str] = {
    Purpose.SCOPE: "scope",
    Purpose.LOG_SIGNING: "log-signing",
    Purpose.AUDIT: "audit",
    Purpose.MASKING: "masking",
    Purpose.VALUE: "value",
}
_RECORDS_AT_ONCE = 512


class KeyUse(NamedTuple):
    """A key, and how near it is to what it may come to.

    Attributes:
        subject: `scope`, `log-signing`, `audit` or `masking`, in a sealed scope `value` too; of a slot `slot:` and its
            kind.
        number: Its epoch, or the number of the slot.
        is_active: Whether it is in use; others only open what they sealed.
        created: When it was made, or the slot added.
        age: Since then, by the clock of now.
        uses: How many rows it sealed that are there, or how many records it signed; None where that is not counted.
        limit: What it may come to.
    """

    subject: str
    number: int
    is_active: bool
    created: datetime
    age: timedelta
    uses: int | None
    limit: Limit

    @property
    def is_slot(self) -> bool:
        """Whether it opens the vault."""
        return self.subject.startswith("slot:")

    @property
    def age_share(self) -> float | None:
        """How much of its maximum age it has reached, or None where it has none."""
        return None if self.limit.max_age is None else self.age / self.limit.max_age

    @property
    def uses_share(self) -> float | None:
        """How much of its uses it has had, or None where they are not counted or have no limit."""
        return None if self.limit.max_uses is None or self.uses is None else self.uses / self.limit.max_uses


def look_at_keys(authority: Authority, counted: Collection[str]) -> list[KeyUse]:
    """Return every key of the vault, then its slots. Nothing is decided and nothing recorded: the caller asks first.

    Args:
        authority: Of the open vault.
        counted: Of which purposes the uses are counted, `scope` (with `value`) and `log-signing`; it takes the longer
            the more there is.

    Raises:
        Tampered, LogTampered: A row or a record is damaged.
    """
    opened = authority.opened
    opened.refresh()
    limits, now_ns = read_limits(opened), opened.clock.now_ns()
    replica = opened.replica
    sealed = SealedRows(opened)
    rows = {"scope": sealed.count(), "value": sealed.count_sealed_values()} if "scope" in counted else {}
    signed = _records_signed(authority) if "log-signing" in counted else None

    def use(subject: str, number: int, created_ns: int, uses: int | None, *, is_active: bool = True) -> KeyUse:
        age = timedelta(microseconds=max(0, now_ns - created_ns) // 1_000)
        return KeyUse(subject, number, is_active, to_datetime(created_ns), age, uses, limits.of(subject))

    found = []
    for entry in replica.keyring.keys:
        name = _NAMES.get(entry.purpose)
        if name is None:
            continue
        uses = signed if name == "log-signing" else None
        if name in rows:
            uses = rows[name][entry.epoch]
        found.append(use(name, entry.epoch, entry.created_ns, uses, is_active=entry.state == KeyState.ACTIVE))
    for number, _, info in described_slots(replica):
        found.append(use(f"slot:{info.kind}", number, info.added_ns, None))
    return found


def _records_signed(authority: Authority) -> int:
    """Return how many records there are since the last hand-over of the signing key, that included."""
    replica = authority.opened.replica
    log = AuditLog(authority).stored()
    size, epoch = log.checkpoint.size, replica.state.epoch
    if epoch == 0:
        return size
    # The hand-over was recorded when the key was made. Where clocks have lied since, all are looked at.
    near = _first_since(log, replica.keyring.active(Purpose.LOG_SIGNING).created_ns)
    windows = [(near - _RECORDS_AT_ONCE, near + _RECORDS_AT_ONCE), (0, size)]
    found = (_hand_over_within(log, max(0, first), min(size, end), epoch) for first, end in windows)
    return size - next((index for index in found if index is not None), 0)


def _first_since(log: StoredLog, time_ns: int) -> int:
    first, end = 0, log.checkpoint.size
    while first < end:
        middle = (first + end) // 2
        if _record(log, middle).time_ns < time_ns:
            first = middle + 1
        else:
            end = middle
    return first


def _hand_over_within(log: StoredLog, first: int, end: int, epoch: int) -> int | None:
    for index, row in log.rows(first, end - 1):
        record = log.opener.open_row(row, index)
        if record.event is Event.AUDIT_EPOCH and record.obj["epoch"] == epoch:
            return index
    return None


def _record(log: StoredLog, index: int) -> Record:
    ((_, row),) = log.rows(index, index)
    return log.opener.open_row(row, index)
