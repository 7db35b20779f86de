"""Break-glass: roles whose key several people hold together, and whose use is recorded before anything is read.

A charter marks such a role. That a key of it opens a scope cryptography enforces; that the reason is asked for and the
record is written, the program that opens it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event, parse_leaf
from securecfg.clock import to_datetime
from securecfg.errors import AuditUnavailable, SettingMissing
from securecfg.keys import Purpose
from securecfg.keys.value_grants import grant_row_of, is_grant_of
from securecfg.policy import Request
from securecfg.store import Space
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.scopes.charters import BREAK_GLASS, READ
from securecfg.vault.scopes.opening import charter_of, slot_ids
from securecfg.vault.state.storedlog import StoredLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from securecfg.audit import Record
    from securecfg.policy import Policy
    from securecfg.vault.authority import Authority
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.charters import Party
    from securecfg.vault.vault import Vault

REASON_CHARACTERS_MAX = 1_000

_WORD = "break-glass"
_PROBE = "of-any-name"
_ROWS_AT_ONCE = 512


class Use(NamedTuple):
    """A time at which a scope was opened by break-glass.

    Attributes:
        principal: By whom.
        when: By the clock of whoever opened it.
        record: Its index in the log of the scope.
    """

    principal: str
    when: datetime
    record: int


class Glass(NamedTuple):
    """A break-glass role in one scope.

    Attributes:
        path: The scope.
        role: Its name.
        uses: Since it was granted, the first one first.
        is_complete: Whether it opens all values, those too that were written before it was granted.
        is_allowed: Whether the policy lets its members list and read.
    """

    path: str
    role: str
    uses: tuple[Use, ...]
    is_complete: bool
    is_allowed: bool


# --- opening ----------------------------------------------------------------------------------------------------------


def record_opening(authority: Authority, slot_id: bytes, reason: str) -> None:
    """Record that a scope was opened by break-glass, where it was; nothing may be read before this returns.

    Args:
        authority: Over the scope.
        slot_id: Of the slot that opened it.
        reason: Why, as whoever opens it says.

    Raises:
        SettingMissing: It is break-glass, and no reason is given.
        AuditUnavailable: It cannot be recorded.
    """
    opened = authority.opened
    charter, own = charter_of(opened), _signing_key(opened)
    marked = (one for one in charter.parties if one.rights & BREAK_GLASS)
    party = next((one for one in marked if one.slot_id == slot_id or one.signing_key == own), None)
    if party is None:
        return
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        message = f"break-glass opens `{charter.path}` for a reason only"
        hint = f"say why in at most {REASON_CHARACTERS_MAX} printable characters: `--reason TEXT`, or `reason=`"
        raise SettingMissing(message, hint=f"{hint} in a program; it is recorded")
    if opened.options.read_only:
        message = "the use of break-glass cannot be recorded in a file that is only read"
        raise AuditUnavailable(message, hint="open the vault where it can be written")
    obj = {"path": charter.path, "role": party.role, "reason": reason.strip()}
    authority.publish_records([authority.session().record(Event.BREAKGLASS_OPENED, obj)])


def _signing_key(opened: OpenVault) -> bytes:
    """Return what this process vouches with, empty where it cannot."""
    seat = opened.replica.seat
    signer = seat.signer if seat is not None else None
    return signer.public_key().public_bytes_raw() if signer is not None else b""


# --- looking ----------------------------------------------------------------------------------------------------------


def look_for_break_glass(vault: Vault) -> Iterator[Glass]:
    """Yield the break-glass roles of every scope that the key at hand opens.

    Raises:
        Tampered, LogTampered: What is in a scope is not what it should be.
    """
    for path, part in vault.parts():
        if path:
            yield from _look_at_scope(part.opened)


def _look_at_scope(opened: OpenVault) -> Iterator[Glass]:
    parties = [party for party in charter_of(opened).parties if party.rights & BREAK_GLASS]
    if not parties:
        return
    uses = _find_uses(opened, {party.role for party in parties})
    policy = opened.policy()[1]
    for party in parties:
        yield Glass(
            charter_of(opened).path,
            party.role,
            uses[party.role],
            _is_complete(opened, party),
            _is_allowed(opened, policy, party),
        )


def _find_uses(opened: OpenVault, roles: set[str]) -> Mapping[str, tuple[Use, ...]]:
    """Return the uses of each role, from the newest record back to the one that granted it.

    That one came with a charter, which writers vouch for: whoever may only add records cannot make it up.
    """
    found: dict[str, list[Use]] = {role: [] for role in roles}
    wanted = set(roles)
    for index, record, changes_data in _backwards(opened):
        role = record.obj.get("role")
        if role not in wanted:
            continue
        if record.event is Event.BREAKGLASS_OPENED:
            found[role].insert(0, Use(record.subject.id, to_datetime(record.time_ns), index))
        elif changes_data and record.event is Event.SCOPE_CHANGED and _WORD in record.obj.get("added", ()):
            wanted.discard(role)
            if not wanted:
                break
    return {role: tuple(uses) for role, uses in found.items()}


def _backwards(opened: OpenVault) -> Iterator[tuple[int, Record, bool]]:
    replica = opened.replica
    with replica.lock:
        log = StoredLog(opened.store, replica.header, replica.keyring, opened.mark().note)
    end = log.checkpoint.size
    while end:
        first = max(0, end - _ROWS_AT_ONCE)
        for index, row in reversed(list(log.rows(first, end - 1))):
            yield index, log.opener.open_row(row, index), bool(parse_leaf(row, index).delta_hashes)
        end = first


def _is_complete(opened: OpenVault, party: Party) -> bool:
    replica = opened.replica
    row = next((number for number, slot_id in slot_ids(replica.slots).items() if slot_id == party.slot_id), None)
    return (
        row is not None
        and bool(party.rights & READ)
        and all(
            is_grant_of(opened.store.get(Space.GRANT, grant_row_of(row, entry.epoch)), party.slot_id)
            for entry in replica.keyring.keys
            if entry.purpose == Purpose.VALUE
        )
    )


def _is_allowed(opened: OpenVault, policy: Policy, party: Party) -> bool:
    members: dict[str, list[str]] = opened.system_document(ROLES_PATH, {})
    path = charter_of(opened).path
    return all(may_read(opened, policy, member, path) for member in members.get(party.role, [])) and bool(
        members.get(party.role)
    )


def may_read(opened: OpenVault, policy: Policy, principal: str, scope: str) -> bool:
    """Return whether a policy lets somebody list and read what is right below a scope, without a context.

    What it says of single paths below, of times and of contexts is not looked at.
    """
    now, is_trusted = to_datetime(opened.clock.now_ns()), opened.is_clock_trusted()
    return all(
        policy.decide(Request(principal, action, f"{scope}{_PROBE}", {}, now, frozenset(), is_trusted)).allowed
        for action in ("list", "read")
    )
