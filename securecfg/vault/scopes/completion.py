"""What readers and members give to others because administrators have signed for it, each with a record.

An administrator who does not read a scope can make somebody a reader of what is written from then on; what was written
before only another reader can give. Only who has the key of a role can give it to a new member. And only who reads and
writes can take in what was dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import Unavailable
from securecfg.keys import Purpose
from securecfg.keys.role_keys import Certificate, membership_row_of, seal_membership
from securecfg.keys.value_grants import grant_row_of, is_grant_of, seal_grant
from securecfg.store import Put, Space
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drops.rows import has_waiting
from securecfg.vault.logger import logger
from securecfg.vault.members import identities_of
from securecfg.vault.scopes.charters import READ
from securecfg.vault.scopes.formers import recover_grants
from securecfg.vault.scopes.opening import charter_of, grants_of, slot_ids, verify_slots
from securecfg.vault.scopes.value_keys import rewrap_values
from securecfg.vault.trust.certificates import read_certificates, signatures_from_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.audit import Record
    from securecfg.keys import Identity
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Signatures, Trust
    from securecfg.store import Store
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication

# Each may come with a record of its own.
_GRANTS_AT_ONCE = 24


def complete(authority: Authority, store: Store, vault_id: bytes, keys: Sequence[RoleKey], trust: Trust) -> None:
    """Give to others what administrators have signed for and this key can give. What fails is left to the next.

    Args:
        authority: Over the scope.
        store: The vault's, where memberships lie.
        vault_id: The vault's id, 16 bytes.
        keys: The keys of roles at hand.
        trust: Whose certificates count.
    """
    if authority.opened.options.read_only or not authority.identity.principal:
        return
    try:
        while recover_grants(authority, keys):
            pass
        while complete_grants(authority, keys):
            pass
        rewrap_values(authority.opened)
        admit_members(authority, store, vault_id, keys, trust)
        collect_drops(authority)
    except Unavailable as error:
        logger().info("grants are completed later: %s", error.message, extra={"event": "grants.postponed"})


def collect_drops(authority: Authority) -> None:
    """Take in some of what was dropped into a scope, where this key reads and writes it."""
    if not has_waiting(authority.opened.store):
        return
    from securecfg.vault.drops.collecting import AT_ONCE, Collection, may_collect  # most scopes have nothing to take in

    if may_collect(authority):
        authority.opened.collected = Collection(authority).run(AT_ONCE)


def complete_grants(authority: Authority, keys: Sequence[RoleKey]) -> int:
    """Give the other readers of a scope what this one has and they lack, and return how much that was.

    Who the readers are is in the charter in force when this is published.

    Raises:
        Tampered: That charter gives the slot of a role, the key of which is at hand, to another one.
    """
    opened = authority.opened
    if not _missing_grants(authority)[0]:
        return 0

    def plan(_publication: Publication) -> Plan:
        puts, records = _missing_grants(authority)
        verify_slots(opened, keys)
        return Plan(puts=puts, records=records, result=len(puts))

    count = opened.publisher.publish(plan)
    return count if isinstance(count, int) else 0


def _missing_grants(authority: Authority) -> tuple[list[Put], list[Record]]:
    replica, grants = authority.opened.replica, grants_of(authority.opened)
    charter = charter_of(authority.opened)
    rows = {slot_id: row for row, slot_id in slot_ids(replica.slots).items()}
    epochs = [entry.epoch for entry in replica.keyring.keys if entry.purpose == Purpose.VALUE]
    held = [epoch for epoch in epochs if grants.is_granted(epoch)]
    puts: list[Put] = []
    records: list[Record] = []
    for party in charter.parties:
        if not party.rights & READ or party.slot_id not in rows or len(puts) >= _GRANTS_AT_ONCE:
            continue  # a writer, who has the root, may have taken a slot away
        lacking = [
            epoch
            for epoch in held
            if not is_grant_of(replica.store.get(Space.GRANT, grant_row_of(rows[party.slot_id], epoch)), party.slot_id)
        ][: _GRANTS_AT_ONCE - len(puts)]
        public_key = replica.keyring.slot(party.slot_id).public_key
        puts += [
            Put(
                Space.GRANT,
                grant_row_of(rows[party.slot_id], epoch),
                seal_grant(public_key, replica.vault_id, party.slot_id, epoch, grants.seed(epoch)),
            )
            for epoch in lacking
        ]
        if lacking:
            obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
            obj |= {"role": party.role, "added": ["read"]}
            records.append(authority.session().record(Event.SCOPE_CHANGED, obj))
    return puts, records


def admit_members(authority: Authority, store: Store, vault_id: bytes, keys: Sequence[RoleKey], trust: Trust) -> int:
    """Give the key of a role to those whom administrators certified as its members, and return how many got it.

    Each certificate is signed for one member, and each admission is in the log of the scope before it happens.
    """
    opened = authority.opened
    signatures = read_certificates(opened)
    identities = identities_of(opened)
    count = 0
    for key in keys:
        certified = signatures.get(key.name, {})
        for name, encoded in certified.items():
            member = identities.get(name)
            if member is None or store.get(Space.GRANT, membership_row_of(member, key.public_key)) is not None:
                continue
            row = seal_admission(key, member, vault_id, trust, signatures_from_json(encoded))
            if row is not None:
                obj = {"role": key.name, "members": sorted(certified), "added": [name]}
                obj |= {"fingerprint": member.fingerprint.hex()}
                authority.publish_records([authority.session().record(Event.ROLE_CHANGED, obj)])
                store.stage([Put(Space.GRANT, membership_row_of(member, key.public_key), row)])
                count += 1
    return count


def seal_admission(
    key: RoleKey, member: Identity, vault_id: bytes, trust: Trust, signatures: Signatures
) -> bytes | None:
    """Return the row that gives the key of a role to a member, None where administrators have not certified it."""
    certificate = Certificate(key.name, key.public_key, trust, signatures)
    return seal_membership(key.seed, certificate, vault_id, member) if certificate.is_signed(vault_id, member) else None
