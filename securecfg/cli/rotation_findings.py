"""What `doctor` says of rotations. No target is asked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from securecfg.cli.findings import Finding, Grade
from securecfg.words import brief_age, counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.errors import SecurecfgError
    from securecfg.vault import Vault

_NAME = "rotations"
_NAMED_MOST = 5
_NS = 1_000_000_000
_LONG = timedelta(days=1)
"""How long after it is due a rotation may begin: what runs once a day is fine."""


def look_at_rotations(vault: Vault) -> Iterator[Finding]:
    """Look at the rotations of an open vault that the caller may list.

    Raises:
        Tampered: A document that says how a secret is rotated is damaged.
    """
    from securecfg.vault.index.in_memory import prefix_end
    from securecfg.vault.paths import ROTATIONS

    if not vault.principal:
        return
    failures: dict[str, SecurecfgError] = {}  # of scopes, which are told where these are looked at
    openings = [part.opened for _, part in vault.parts(failures)]
    if not any(entry.live for one in openings for _, entry in one.entries(ROTATIONS, prefix_end(ROTATIONS))):
        return
    from securecfg.cli.rotation_words import is_failed, next_step, reason_of
    from securecfg.rotation.rotations import Rotations

    opened = Rotations(vault)
    rotations, now = opened.all(failures=failures), opened.now_ns()
    is_well = True
    for each in rotations:
        if each.progress is not None and is_failed(each):
            is_well = False
            age = brief_age(max(0, now - each.progress.failed_ns) // _NS)
            what = f"{reason_of(each.progress).what} ({each.progress.reason})"
            message = f"the rotation of `{each.path}` has failed {age} ago: {what}"
            yield Finding(_NAME, Grade.WARNING, message, next_step(each, each.progress))
    long_ns = _LONG // timedelta(microseconds=1) * 1_000
    late = [
        each for each in rotations if 0 < each.due_ns < now - long_ns and not each.is_running and not each.is_paused
    ]
    if late:
        is_well = False
        named = ", ".join(f"`{each.path}`" for each in late[:_NAMED_MOST])
        more = f" and {len(late) - _NAMED_MOST} more" if len(late) > _NAMED_MOST else ""
        oldest = brief_age((now - min(each.due_ns for each in late)) // _NS)
        message = f"overdue, for up to {oldest}: {named}{more}"
        hint = "nobody runs what is due: let `securecfg rotation run --due` be called regularly"
        yield Finding(_NAME, Grade.WARNING, message, hint)
    if rotations and is_well:
        yield Finding(_NAME, Grade.OK, f"{counted(len(rotations), 'secret')} rotated, none has failed or is overdue")
