"""Handing values in, and asking what became of them: what is needed beside the drop boxes themselves."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from securecfg.audit import Event
from securecfg.crypto import KeyBytes
from securecfg.errors import RequestTooOld, ScopeSealed, UsageError
from securecfg.tuples import NamedTuple
from securecfg.vault.commits.outcomes import find_record
from securecfg.vault.drops.boxes import is_waiting, only_drops
from securecfg.vault.drops.rows import VALUE_BYTES_MAX, Drop, too_large
from securecfg.vault.scopes.scoped import ScopedVault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from securecfg.clock import Clock
    from securecfg.vault.authority import Authority
    from securecfg.vault.drafts import Content, NewVersion
    from securecfg.vault.drops.boxes import DropBox, DropBoxes, Receipt
    from securecfg.vault.scopes.parts import Parts

_RECEIPT = re.compile(r"[0-9a-f]{32}")


class DropState(StrEnum):
    """What became of a dropped value."""

    WAITING = "waiting"
    COLLECTED = "collected"
    REFUSED = "refused"
    GONE = "gone"


class Dropped(NamedTuple):
    """What became of a dropped value, as far as who asks may know.

    Attributes:
        state: Whether it waits, became a version or was refused; or is gone, and who asks may not know why.
        path: Of the version, or empty.
        version: Its number, or 0.
        reason: Why it was refused, or empty.
    """

    state: DropState
    path: str = ""
    version: int = 0
    reason: str = ""


def drop_into(box: DropBox, path: str, content: Content, new: NewVersion) -> Receipt:
    """Hand in a value.

    Args:
        box: Where to.
        path: Where it is to become a version.
        content: The value.
        new: What goes with it, and who drops it.

    Raises:
        As for `DropBox.drop`.
    """
    if content.length > VALUE_BYTES_MAX:
        raise too_large()
    whole = KeyBytes(b"".join(content.pieces()))
    drop = Drop(path, content.kind, whole, new.content_type, new.metadata, new.expires, new.author, box.role)
    return box.drop(drop)


def find_dropped(authorities: Iterable[Authority], boxes: Iterable[DropBox], receipt: str) -> Dropped:
    """Return what became of a dropped value.

    Args:
        authorities: Over the scopes that the key at hand opens.
        boxes: Those that it may drop into.
        receipt: What was given for it.

    Raises:
        UsageError: It is no receipt.
        RequestTooOld: It waits no more, and what became of it is not among the records that can be looked up.
        NotAuthenticated: Nobody says who asks.
    """
    if not _RECEIPT.fullmatch(receipt):
        message = "a receipt has 32 hexadecimal digits"
        raise UsageError(message, hint="it was given when the value was dropped")
    scopes = [authority for authority in authorities if authority.opened.replica.seat is not None]
    if any(box.is_waiting(receipt) for box in boxes) or any(is_waiting(one.opened.store, receipt) for one in scopes):
        return Dropped(DropState.WAITING)
    late: RequestTooOld | None = None
    for authority in scopes:
        try:
            dropped = _find_collected(authority, receipt)
        except RequestTooOld as error:
            late = error
        else:
            if dropped is not None:
                return dropped
    if late is not None:
        raise late
    return Dropped(DropState.GONE)


def _find_collected(authority: Authority, receipt: str) -> Dropped | None:
    """Return what the log of a scope says of a dropped value, None where that is nothing that the caller may know."""
    found = find_record(authority, lambda record: record.request_id == receipt and record.event in _EVENTS)
    if found is None:
        return None
    record = found[1]
    path, version = record.obj.get("path", ""), record.obj.get("ver", 0)
    if path and not authority.session().decide("list", path).allowed:
        return None
    if record.event is Event.DROP_REFUSED:
        return Dropped(DropState.REFUSED, path, reason=record.obj["reason"])
    return Dropped(DropState.COLLECTED, path, version)


_EVENTS = frozenset({Event.SECRET_WRITTEN, Event.DROP_REFUSED})


class DropVault(ScopedVault):
    """What an identity comes to that may drop values into sealed scopes, and opens none."""

    def __init__(self, boxes: DropBoxes, parts: Parts, close: Callable[[], None], clock: Clock) -> None:
        """Take up what was found; programs call `Vault.open`."""
        self._whole = None
        self._boxes = self._own = boxes
        self._parts = parts
        self._close = close
        self._clock = clock
        self._is_closed = False

    @property
    def principal(self) -> str:
        """Whose identity it is."""
        return self._own.principal

    def batch(self) -> NoReturn:
        """Refuse: values are dropped one by one."""
        raise self._refusal()

    def acting(self, principal: str, *, context: Mapping[str, object] | None = None) -> NoReturn:
        """Refuse: a value is dropped by the identity that signs it."""
        del principal, context
        raise self._refusal()

    def close(self) -> None:
        """Forget the keys and close the file. May be called again."""
        self._is_closed = True
        self._own.close()
        self._close()

    def __enter__(self) -> Self:
        """Return the vault."""
        iter(self._own)  # refuses where it is closed, or a parent's
        return self

    def __repr__(self) -> str:
        """Show on whose behalf values can be dropped."""
        state = "closed" if self._is_closed else "open"
        return f"<DropVault {state} as {self.principal}>"

    def _one(self) -> NoReturn:
        raise self._refusal()

    def _now_ns(self) -> int:
        return self._clock.now_ns()

    def _author(self) -> str:
        return self.principal

    def _refusal(self) -> ScopeSealed:
        return only_drops(", ".join(box.path for box in self._own))
