"""Changes of header, slots and keyring, among them new epochs of the key that signs the log."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.audit import Event, origin_of
from securecfg.crypto import KeyBytes
from securecfg.errors import Conflict, SecurecfgError
from securecfg.keys import (
    FIRST_ROOT_ROW,
    Purpose,
    Slot,
    build_header,
    root_row_of,
    rows_of_slots,
    seal_root,
    slots_to_bytes,
)
from securecfg.store import ROW_LIMIT_BYTES, Put, Space
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.index.rows import digest_of
from securecfg.vault.logger import logger
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING, hash_header
from securecfg.vault.state.replica import HEADER_ID, KEYRING_ID

if TYPE_CHECKING:
    from securecfg.keys import Keyring
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault

RECORDS_PER_EPOCH = 1 << 20


def seal_root_to_all(vault_id: bytes, root: KeyBytes, slots: dict[int, bytes], keyring: Keyring) -> dict[int, bytes]:
    """Return some slots with another root, sealed to each, in the place of the one they have."""
    sealed = dict(slots)
    for row_id, row in slots.items():
        if row_id < FIRST_ROOT_ROW:
            info = keyring.slot(Slot.parse(row).slot_id)
            sealed[root_row_of(row_id)] = seal_root(info.public_key, vault_id, info.slot_id, root)
    return sealed


def plan_key_change(
    opened: OpenVault,
    publication: Publication,
    slots: dict[int, bytes],
    keyring: Keyring,
    root: KeyBytes | None = None,
) -> Plan:
    """Return the plan that replaces header, slots and keyring together, in the next generation.

    Args:
        opened: The vault.
        publication: What the plan is for.
        slots: All slots by their row id, and sealed roots by that of their slot and 256.
        keyring: Lists these slots.
        root: A new root, to which the slots belong; without it the root stays.

    Raises:
        Conflict: An earlier plan of the same publication does so, or the keyring is larger than a row may be.
    """
    replica = opened.replica
    publication.claim("header_digest")
    generation = replica.header.generation + 1
    root = root or KeyBytes(replica.root)
    header = build_header(
        root,
        slots,
        vault_id=replica.vault_id,
        generation=generation,
        first_log_key=replica.header.first_log_key,
        created_ns=replica.header.created_ns,
    )
    keyring_row = keyring.seal(root, replica.vault_id, generation)
    if len(keyring_row) > ROW_LIMIT_BYTES:
        message = "the slots of the vault have more labels and principals than its keyring holds"
        raise Conflict(message, hint="remove a slot that nobody uses, or name fewer principals")
    puts = [Put(Space.META, HEADER_ID, header), Put(Space.META, KEYRING_ID, keyring_row)]
    before = rows_of_slots(replica.slots)
    puts += [Put(Space.META, row_id, row) for row_id, row in rows_of_slots(slots).items() if before.get(row_id) != row]
    state = {"header_digest": hash_header(header, slots_to_bytes(slots)), "keyring_digest": digest_of(keyring_row)}
    return Plan(puts=puts, state=dict(state), root=root)


def plan_new_epoch(
    authority: Authority,
    publication: Publication,
    slots: dict[int, bytes],
    keyring: Keyring,
    root: KeyBytes | None = None,
) -> Plan:
    """Return the plan that replaces the keyring by one with a new signing key, with the hand-over in the log.

    The checkpoint that ends with the hand-over is signed by the new key; the old one is in no keyring after it. Its
    bytes are erased by `finish_destruction`, which must follow; where that fails the next opener does it.

    Raises:
        Conflict: An earlier plan of the same publication changes the keyring too.
    """
    from securecfg.audit.epoch import create_hand_over  # every open vault imports this module, and epochs are long

    opened = authority.opened
    replica = opened.replica
    keyring = keyring.with_new_epoch(Purpose.LOG_SIGNING, opened.clock.now_ns())
    entry = keyring.active(Purpose.LOG_SIGNING)
    signer = Ed25519PrivateKey.from_private_bytes(entry.key)
    hand_over = create_hand_over(entry.epoch, origin_of(replica.vault_id), replica.signer, signer)
    plan = plan_key_change(opened, publication, slots, keyring, root)
    plan.records.append(authority.session().record(Event.AUDIT_EPOCH, hand_over.to_object()))
    plan.state |= {
        "epoch": entry.epoch,
        "epoch_key": signer.public_key().public_bytes_raw(),
        "flags": publication.state.flags | FLAG_DESTRUCTION_PENDING,
    }
    plan.signer = signer
    return plan


def rotate_signing_key(authority: Authority) -> int:
    """Begin a new epoch of the key that signs the log, and return its number.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        DestroyPending: The new key is in use, but the bytes of the old one may lie in the write-ahead log until another
            reader lets go; the next opener finishes.
        CommitUnknown, StoreBusy, StoreFailed: As for a write.
    """
    authority.publish_allowed("key.manage", lambda publication, *_decided: _plan_epoch(authority, publication))
    finish_destruction(authority.opened)
    return authority.opened.replica.state.epoch


def rotate_if_due(authority: Authority) -> None:
    """Begin a new epoch where the log has outgrown the one in use; whoever writes then is whom the record names.

    A log of n times 2^20 records has had at least n hand-overs. A failure leaves it to the next writer.
    """
    replica = authority.opened.replica
    due = replica.checkpoint.size // RECORDS_PER_EPOCH > replica.state.epoch and replica.may_change
    if due and authority.identity.principal and not authority.opened.options.read_only:
        try:
            authority.opened.publisher.publish(partial(_plan_epoch, authority))
            finish_destruction(authority.opened)
        except SecurecfgError as error:
            logger().info("the log's key is changed later: %s", error.message, extra={"event": "epoch.postponed"})


def _plan_epoch(authority: Authority, publication: Publication) -> Plan:
    replica = authority.opened.replica
    return plan_new_epoch(authority, publication, replica.slots, replica.keyring)
