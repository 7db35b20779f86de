"""Making a sealed scope: a vault of its own, built in memory and put into its partition as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.audit import Event, VerifierKey, origin_of
from securecfg.crypto import KIND_BYTES, generate_key
from securecfg.errors import Conflict
from securecfg.keys import FIRST_SLOT_ROW, Keyring, SlotInfo, seal_slot
from securecfg.keys.role_keys import RolePublic
from securecfg.keys.value_grants import grant_row_of, seal_grant, value_public_key
from securecfg.store import BATCH_LIMIT_OPERATIONS, ID_LIMIT, MemoryStore, Put, Space
from securecfg.tuples import NamedTuple
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.creation import open_rows, write_first_rows
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.drops.orders import ORDER_PATH, DropOrder, SignedOrder, droppers, order_of
from securecfg.vault.opened import Options
from securecfg.vault.paths import CHARTER_PATH, SUCCESSION_PATH
from securecfg.vault.scopes.charters import (
    LIST,
    NO_SLOT,
    OWN_ROLE,
    READ,
    WRITE,
    Charter,
    Party,
    SignedCharter,
    keys_digest,
)
from securecfg.vault.scopes.seats import Seat
from securecfg.vault.session import Session
from securecfg.vault.trust.signatories import keeper_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.clock import Clock
    from securecfg.keys.role_keys import RoleKey
    from securecfg.store import Store
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.session import Identity
    from securecfg.vault.trust.signatories import Signatories

ROLES_AT_FIRST = 10

_ROWS_MAX = 1 << 16
_FIRST_EPOCH = 0


class Founding(NamedTuple):
    """What a scope is made of.

    Attributes:
        vault_id: Of the vault that it is part of, 16 bytes.
        scope_id: Its vault id, 16 bytes.
        path: The subtree, ending in `/`.
        is_shared: Whether the administrator's key reads its values too.
        roles: The rights and the public key of each role.
        documents: The vault's own documents: policy, roles and members.
        excluded: The subtrees of it that are scopes of their own already.
        own_rights: What the vault's own key may do besides what it may where nothing is said.
    """

    vault_id: bytes
    scope_id: bytes
    path: str
    is_shared: bool
    roles: Mapping[str, tuple[int, bytes]]
    documents: Mapping[bytes, Content]
    excluded: tuple[str, ...] = ()
    own_rights: int = 0

    @property
    def keys(self) -> dict[str, bytes]:
        """The public key of each role."""
        return {name: key for name, (_, key) in self.roles.items()}


def found_scope(
    open_store: Callable[[], Store],
    founding: Founding,
    own: RoleKey,
    signatories: Signatories,
    creator: Identity,
    *,
    clock: Clock,
) -> Ed25519PrivateKey:
    """Write a sealed scope into an empty partition, and return its keeper; it is there as a whole or not at all.

    Args:
        open_store: Returns the partition. Called once everything is signed.
        founding: What it is made of.
        own: The vault's own key, which takes part in the scope.
        signatories: Sign the charter.
        creator: Whom the first record names.
        clock: The time.

    Raises:
        Conflict: There are more roles than one publication takes.
        HeadMoved: There is one already.
        SignaturesMissing: Too few administrators signed.
        StoreFailed: The store cannot write.
    """
    now_ns = clock.now_ns()
    scope_id = founding.scope_id
    granted_to_own = rights_of_administrator(
        (granted for granted, _ in founding.roles.values()), is_shared=founding.is_shared
    )
    rights = {OWN_ROLE: (granted_to_own, own.public_key), **founding.roles}
    slots = {name: seal_slot(scope_id, RolePublic(key)) for name, (granted, key) in rights.items() if granted & LIST}
    infos = tuple(
        SlotInfo(new.slot.slot_id, new.public_key, now_ns, RolePublic.scheme, name) for name, new in slots.items()
    )
    parties = tuple(
        Party(name, granted, slots[name].slot.slot_id if name in slots else NO_SLOT, RolePublic(key).signing_key)
        for name, (granted, key) in rights.items()
    )
    seed = generate_key()
    keyring = Keyring.generate(now_ns, infos)
    keyring = keyring.with_value_key(value_public_key(seed, scope_id, _FIRST_EPOCH), now_ns)
    digest = keys_digest(keyring)
    keeper = keeper_for(own, signatories.trust)
    charter = Charter(
        founding.vault_id,
        scope_id,
        1,
        bytes(32),
        founding.path,
        founding.is_shared,
        digest,
        keeper.public_key().public_bytes_raw(),
        parties,
        founding.excluded,
    )
    wanted = order_after(charter, keyring)
    messages = [charter.message, *([wanted.message] if wanted is not None else ())]
    signatures = signatories.sign(messages, f"the charter of `{charter.path}`")
    signed = SignedCharter(charter, signatures[0])
    order = SignedOrder(wanted, signatures[1]) if wanted is not None else None
    memory = MemoryStore()
    write_first_rows(memory, scope_id, list(slots.values()), keyring, now_ns)
    memory.stage(
        [
            Put(
                Space.GRANT,
                grant_row_of(row, _FIRST_EPOCH),
                seal_grant(new.public_key, scope_id, new.slot.slot_id, _FIRST_EPOCH, seed),
            )
            for row, (name, new) in enumerate(slots.items(), start=FIRST_SLOT_ROW)
            if rights[name][0] & READ
        ]
    )
    if order is not None:
        known = founding.documents.get(SUCCESSION_PATH)
        succession = b"".join(known.pieces()) if known is not None else b""
        memory.stage([order.seal(founding.roles[name][1], (), succession) for name in droppers(parties)])
        founding = founding._replace(documents={**founding.documents, ORDER_PATH: order.to_content()})
    seat = Seat(founding.vault_id, signatories.trust, keeper, signed)
    opened, slot = open_rows(memory, own, None, clock, Options(), seat=seat)
    try:
        creator = creator._replace(slot=slot.slot_id.hex())
        opened.publisher.publish(lambda publication: _first_plan(opened, publication, founding, signed, creator))
        rows = _rows_of(memory)
        if len(rows) > BATCH_LIMIT_OPERATIONS:
            message = f"a scope is made with at most {ROLES_AT_FIRST} roles"
            raise Conflict(message, hint="make it with some, and grant the others their rights afterwards")
        open_store().commit(rows, expect=None, head=memory.head() or b"")
    finally:
        opened.close()
    return keeper


def order_after(charter: Charter, keyring: Keyring) -> DropOrder | None:
    """Return the drop order that goes with a charter, None where no role may drop."""
    return order_of(charter, keyring) if droppers(charter.parties) else None


def charter_content(signed: SignedCharter) -> Content:
    """Return the document that holds a charter."""
    raw = signed.to_bytes()
    return Content.of(KIND_BYTES, raw)


def rights_of_administrator(rights: Iterable[int], *, is_shared: bool) -> int:
    """Return the rights of the administrator: he writes where nobody else was named to, and reads what is shared."""
    has_writer = any(granted & WRITE for granted in rights)
    return LIST | (0 if has_writer else WRITE) | (READ if is_shared else 0)


def _first_plan(
    opened: OpenVault, publication: Publication, founding: Founding, signed: SignedCharter, creator: Identity
) -> Plan:
    new = NewVersion(creator.principal, opened.clock.now_ns())
    drafts = Drafts(opened, publication)
    plan = Plan(charter=signed)
    for path, content in {**founding.documents, CHARTER_PATH: charter_content(signed)}.items():
        plan.join(drafts.write(path, content, new))
    _, policy = opened.policy()
    session = Session(creator, policy, opened.masker, opened.clock, clock_trusted=True)
    vkey = VerifierKey(origin_of(opened.replica.vault_id), opened.replica.state.epoch_key)
    plan.records = [session.record(Event.VAULT_CREATED, {"vkey": str(vkey)})]
    return plan


def _rows_of(memory: MemoryStore) -> list[Put]:
    return [
        Put(space, number, row) for space in Space for number, row in memory.scan(space, 0, ID_LIMIT - 1, _ROWS_MAX)
    ]
