"""What is recorded of an access to a store, under the policy that it was decided by.

Of a change there are two records: that it is begun, and what became of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from securecfg.audit import Event
from securecfg.errors import SecurecfgError, StoreBusy
from securecfg.vault.authority import RECORDS_AT_ONCE, PolicyMoved
from securecfg.vault.commits.publishing import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.audit import Record
    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.session import Session

T = TypeVar("T")

ATTEMPTS = 8


def change_recorded(authority: Authority, right: str, obj: Mapping[str, object], change: Callable[[], T]) -> T:
    """Make a change of a store, where the policy allows it; section 3 of `docs/security/mounts.md`.

    Args:
        authority: Decides and records.
        right: Which action is decided on, at the path.
        obj: What the records say: `path`, `action` and `store`, perhaps `label`.
        change: Asks the store, once.

    Raises:
        AccessDenied: It is not allowed.
        AuditUnavailable: It cannot be recorded. Where that is so of the last record, the change was made.
        StoreBusy: The policy changes faster than it can be recorded.
    """
    session, decision = _begin(authority, right, obj)
    try:
        result = change()
    except SecurecfgError as error:
        failed = session.record(Event.MOUNT_FAILED, {**obj, "reason": error.code}, decision=decision)
        authority.publish_records([failed])
        raise
    done = {**obj, "version": result} if isinstance(result, str) else obj
    authority.publish_records([session.record(Event.MOUNT_CHANGED, done, decision=decision)])
    return result


def publish_under(authority: Authority, stamp: Stamp, records: Sequence[Record]) -> None:
    """Make records durable where the policy is still the one that was decided by.

    Args:
        authority: Records.
        stamp: Of that policy, taken before it was asked.
        records: Which.

    Raises:
        PolicyMoved: It is another one; some of the records may be durable.
        AuditUnavailable: They cannot be recorded.
    """
    for start in range(0, len(records), RECORDS_AT_ONCE):
        part = list(records[start : start + RECORDS_AT_ONCE])

        def plan(_: object, part: list[Record] = part) -> Plan:
            if stamp != authority.opened.policy_stamp():
                message = "the policy changed meanwhile"
                raise PolicyMoved(message)
            return Plan(records=part)

        authority.publish(plan)


def too_fast(path: str) -> StoreBusy:
    """Return the error for an access that was decided anew as often as it is done."""
    message = f"the policy changes faster than what is asked of `{path}` can be recorded"
    return StoreBusy(message, hint="try again")


def _begin(authority: Authority, right: str, obj: Mapping[str, object]) -> tuple[Session, Decision]:
    path = str(obj["path"])
    for _ in range(ATTEMPTS):
        stamp = authority.opened.policy_stamp()
        session, decision = authority.require(right, path)
        with suppress(PolicyMoved):
            publish_under(authority, stamp, [session.record(Event.MOUNT_CHANGING, obj, decision=decision)])
            return session, decision
    raise too_fast(path)
