"""How old keys may become and how much they may be used, as a vault says it of itself (format, sections 6.6 and 11).

A limit refuses nothing: it is what `key usage` and `doctor` compare with. It lies in the vault, as a system document,
so that it is authenticated, versioned, and the same for everybody who looks.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.errors import UsageError
from securecfg.vault.commits.epochs import RECORDS_PER_EPOCH
from securecfg.vault.documents import read_shaped
from securecfg.vault.drafts import Content, NewVersion
from securecfg.vault.paths import SYSTEM
from securecfg.vault.writing import WantedChange, Writes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts
    from securecfg.vault.opened import OpenVault

LIMITS_PATH = SYSTEM + b"keys"
PURPOSES = ("scope", "log-signing", "audit", "masking")
ANY_SLOT = "slot"

MOST_USES: Mapping[str, int] = {"scope": 1 << 48, "log-signing": RECORDS_PER_EPOCH}
"""What is published of the algorithms, or set by the format: no vault may allow more."""

# Ages are kept in whole seconds.
_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(days=36_500)


class Limit(NamedTuple):
    """What a key may come to.

    Attributes:
        max_age: How old it may be, or None.
        max_uses: How often it may be used, or None.
    """

    max_age: timedelta | None = None
    max_uses: int | None = None


# Where a vault says nothing of its scope key, a year is what `doctor` waits for.
_DEFAULTS: Mapping[str, Limit] = {"scope": Limit(max_age=timedelta(days=365))}


class KeyLimits(NamedTuple):
    """The limits of a vault.

    Attributes:
        own: Those that it says, by what they are for.
    """

    own: Mapping[str, Limit]

    def of(self, subject: str) -> Limit:
        """Return the limit of a purpose, or of a slot as `slot:KIND`: its own, that of all slots, or the default.

        Uses are never without a limit where one is published.
        """
        general = ANY_SLOT if subject.startswith(f"{ANY_SLOT}:") else subject
        found = self.own.get(subject) or self.own.get(general) or _DEFAULTS.get(general) or Limit()
        return found if found.max_uses is not None else found._replace(max_uses=MOST_USES.get(subject))


def read_limits(opened: OpenVault) -> KeyLimits:
    """Return the limits of a vault, as it was when it was last brought up to date.

    Raises:
        Tampered: The document is damaged.
    """
    document: dict[str, dict[str, int]] = read_shaped(opened, LIMITS_PATH, dict, dict, int)
    return KeyLimits({subject: _read(each) for subject, each in document.items()})


def set_limit(authority: Authority, subject: str, limit: Limit) -> None:
    """Set the limit of a purpose or of a kind of slots; one without age and uses takes away what was set.

    Args:
        authority: Decides and records.
        subject: `scope`, `log-signing`, `audit`, `masking`, `slot`, or `slot:KIND`.
        limit: What it may come to.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        UsageError: There is no such key, its uses are not counted, or the limit is above what is published.
        CommitUnknown, StoreBusy, StoreFailed: As for a write.
    """
    verify_limit(subject, limit)
    opened = authority.opened

    def draft(drafts: Drafts) -> Plan:
        own = {name: each for name, each in read_limits(opened).own.items() if name != subject}
        if limit != Limit():
            own[subject] = limit
        written = _content({name: _written(each) for name, each in own.items()})
        return drafts.write(LIMITS_PATH, written, NewVersion(authority.identity.principal, opened.clock.now_ns()))

    def describe(_version: object) -> Mapping[str, object]:
        return {"kind": subject} | _written(limit)

    Writes(authority).apply(WantedChange((("key.manage", ""),), draft, Event.KEY_LIMITED, describe))


def verify_limit(subject: str, limit: Limit) -> None:
    """Check that a limit can be meant.

    Raises:
        UsageError: It cannot.
    """
    if subject not in {*PURPOSES, ANY_SLOT} and not _is_kind_of_slots(subject):
        message = f"there is no key `{subject}`"
        hint = f"keys are {', '.join(f'`{name}`' for name in PURPOSES)}, `slot`, and `slot:KIND`, such as `slot:file`"
        raise UsageError(message, hint=hint)
    if limit.max_age is not None and not _SHORTEST <= limit.max_age <= _LONGEST:
        message = "a maximum age is from a second to a hundred years"
        raise UsageError(message, hint="for instance `--max-age 90d`")
    if limit.max_uses is None:
        return
    most = MOST_USES.get(subject)
    if most is None:
        message = f"the uses of `{subject}` are not counted"
        raise UsageError(message, hint="those of `scope` (rows sealed) and `log-signing` (records signed) are")
    if not 0 < limit.max_uses <= most:
        message = f"`{subject}` may be used at most {most} times, whatever a vault says"
        raise UsageError(message, hint="a vault sets a lower limit, from 1 on; docs/security/format.md, section 11")


def _is_kind_of_slots(subject: str) -> bool:
    name, colon, kind = subject.partition(":")
    return name == ANY_SLOT and bool(colon) and kind.isascii() and kind.replace("+", "").replace("-", "").isalnum()


def _read(document: Mapping[str, int]) -> Limit:
    age, uses = document.get("max_age_s"), document.get("max_uses")
    return Limit(None if age is None else timedelta(seconds=age), uses)


def _written(limit: Limit) -> dict[str, object]:
    age: dict[str, object] = {} if limit.max_age is None else {"max_age_s": int(limit.max_age.total_seconds())}
    return age | ({} if limit.max_uses is None else {"max_uses": limit.max_uses})


def _content(value: object) -> Content:
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Content.of(KIND_TEXT, encoded)
