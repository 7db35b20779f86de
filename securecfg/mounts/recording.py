"""A change of a store between its two records: that it is begun, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from securecfg.audit import Event
from securecfg.errors import SecurecfgError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.vault.authority import Authority

T = TypeVar("T")


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
    """
    session, decision = authority.require(right, str(obj["path"]))
    authority.publish_records([session.record(Event.MOUNT_CHANGING, obj, decision=decision)])
    try:
        result = change()
    except SecurecfgError as error:
        failed = session.record(Event.MOUNT_FAILED, {**obj, "reason": error.code}, decision=decision)
        authority.publish_records([failed])
        raise
    done = {**obj, "version": result} if isinstance(result, str) else obj
    authority.publish_records([session.record(Event.MOUNT_CHANGED, done, decision=decision)])
    return result
