"""Making a vault, and opening one: from a path and a key to a verified state (format 8)."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.audit import Checkpoint, Tree, origin_of, sign_checkpoint
from securecfg.crypto import generate_key
from securecfg.errors import (
    AnchorMissing,
    IntegrityError,
    NotAuthenticated,
    NotAVault,
    RollbackSuspected,
    SecurecfgError,
    StoreFailed,
    UnsupportedFileSystem,
)
from securecfg.keys import (
    FIRST_SLOT_ROW,
    KIND_IDENTITY,
    Keyring,
    Purpose,
    SlotInfo,
    build_header,
    proves_principal,
    rows_of_slots,
    seal_slot,
    slots_to_bytes,
    unlock,
)
from securecfg.store import Put, Space, create_sqlite, open_sqlite
from securecfg.vault.commits.maintenance import Compactor, finish_destruction
from securecfg.vault.index.rows import IndexRows, digest_of
from securecfg.vault.index.segments import Manifest
from securecfg.vault.logger import logger
from securecfg.vault.opened import OpenVault, Options
from securecfg.vault.paths import check_principal
from securecfg.vault.session import Identity
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.state.head import State, build_head, hash_header
from securecfg.vault.state.prefixes import INTRODUCED
from securecfg.vault.state.replica import HEADER_ID, KEYRING_ID, MANIFEST_ID, Replica, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.clock import Clock
    from securecfg.keys import KeyProvider, NewSlot, Unlocked
    from securecfg.store import Store
    from securecfg.vault.scopes.seats import Seat
    from securecfg.vault.state.anchor import Mark

WEAKNESS_EVENT = "passphrase.weak"
_ATTEMPTS = 8


def create_rows(store: Store, providers: Sequence[KeyProvider], now_ns: int) -> None:
    """Write an empty vault into a new store.

    Args:
        store: An empty store.
        providers: Each gets an unlock slot that may speak for anyone, or for the principal that its key proves.
        now_ns: When.

    Raises:
        HeadMoved: Somebody else was faster.
        StoreFailed: The store cannot write.
    """
    vault_id = secrets.token_bytes(16)
    slots = [seal_slot(vault_id, provider) for provider in providers]
    infos = tuple(
        SlotInfo(new.slot.slot_id, new.public_key, now_ns, provider.scheme, "", proved_principals(provider))
        for new, provider in zip(slots, providers, strict=True)
    )
    write_first_rows(store, vault_id, slots, Keyring.generate(now_ns, infos), now_ns)


def write_first_rows(store: Store, vault_id: bytes, slots: Sequence[NewSlot], keyring: Keyring, now_ns: int) -> None:
    """Write an empty vault with given slots and keys into a new store.

    Args:
        store: An empty store.
        vault_id: 16 bytes.
        slots: Get the first row ids, in their order.
        keyring: Lists these slots.
        now_ns: When.

    Raises:
        HeadMoved: Somebody else was faster.
        StoreFailed: The store cannot write.
    """
    root = generate_key()
    signer = Ed25519PrivateKey.from_private_bytes(keyring.active(Purpose.LOG_SIGNING).key)
    public_key = signer.public_key().public_bytes_raw()
    slot_rows: dict[int, bytes] = {}
    for row_id, new in enumerate(slots, start=FIRST_SLOT_ROW):
        slot_rows |= new.rows(row_id, vault_id, root)
    header = build_header(
        root,
        slot_rows,
        vault_id=vault_id,
        generation=1,
        first_log_key=public_key,
        created_ns=now_ns,
    )
    keyring_row = keyring.seal(root, vault_id, 1)
    manifest_row = IndexRows(vault_id, keyring).seal_manifest(Manifest(0, (), 0, (), ()))
    state = State(
        generation=1,
        published=now_ns,
        next_id=1,
        base_size=0,
        manifest_digest=digest_of(manifest_row),
        keyring_digest=digest_of(keyring_row),
        header_digest=hash_header(header, slots_to_bytes(slot_rows)),
        epoch=0,
        epoch_key=public_key,
        flags=0,
    )
    tree = Tree()
    note = sign_checkpoint(Checkpoint(origin_of(vault_id), tree.size, tree.root(), state.digest()), signer)
    operations = [
        Put(Space.META, HEADER_ID, header),
        Put(Space.META, KEYRING_ID, keyring_row),
        Put(Space.META, MANIFEST_ID, manifest_row),
        *(Put(Space.META, number, row) for number, row in rows_of_slots(slot_rows).items()),
    ]
    store.commit(operations, expect=None, head=build_head(note, state.to_bytes()))


def create_vault(
    path: str | os.PathLike[str],
    providers: Sequence[KeyProvider],
    clock: Clock,
    options: Options,
) -> OpenVault:
    """Create a vault file and open it.

    Raises:
        AlreadyExists: There is a file at the path.
        StoreFailed: It cannot be written; nothing is left behind.
    """
    store = create_sqlite(path)
    try:
        create_rows(store, providers, clock.now_ns())
        return open_rows(store, providers[0], path, clock, options)[0]
    except BaseException:
        # Without all of its first rows it is no vault, and in the way of one.
        store.close()
        os.unlink(path)  # noqa: PTH108 - without `pathlib`, as the store
        raise


def log_weakness(provider: KeyProvider) -> None:
    """Log a warning where a new slot opens with a passphrase that is guessed early. It is its owner's to choose."""
    from securecfg.keys import PassphraseProvider
    from securecfg.keys.provider import providers_in

    for one in providers_in(provider):
        weakness = one.weakness() if isinstance(one, PassphraseProvider) else ""
        if weakness:
            told = "the passphrase of a new vault %s; whoever copies the file can guess as long as they like"
            logger().warning(told, weakness, extra={"event": WEAKNESS_EVENT})


def open_vault(
    path: str | os.PathLike[str],
    provider: KeyProvider,
    clock: Clock,
    options: Options,
    *,
    is_anchor_required: bool = False,
    is_adopting: bool = False,
    known: Mapping[bytes, Mark] | None = None,
) -> tuple[OpenVault, SlotInfo]:
    """Open a vault file and return it with the slot that opened it.

    Args:
        path: The file.
        provider: Holds a key of one of its slots.
        clock: The time.
        options: How to open it.
        is_anchor_required: Whether to refuse a vault that no checkpoint was recorded of.
        is_adopting: Whether to accept a vault that is older than, or not a continuation of, what was recorded.
        known: Checkpoints that are known from elsewhere, by the ids of vaults; it must continue the one of its own.

    Raises:
        VaultNotFound: There is no such file.
        NotAVault: It is not a vault.
        WrongKey: No slot opens.
        Tampered: A row does not match the signed state.
        RollbackSuspected: It is older than the anchor.
        AnchorMissing: There is no anchor and one is required.
        StoreFailed: It cannot be opened.
        UnsupportedFileSystem: It lies where nothing can be written, or on a network file system.
    """
    try:
        store = open_sqlite(path, read_only=options.read_only)
    except (StoreFailed, UnsupportedFileSystem) as error:
        raise _explained(error, path) from None
    try:
        opened, slot = open_rows(
            store,
            provider,
            path,
            clock,
            options,
            is_anchor_required=is_anchor_required,
            is_adopting=is_adopting,
            known=known,
        )
        if not opened.replica.checkpoint.size:
            # The first record makes the creator an administrator; without it nobody could ever do anything.
            message = f"the creation of the vault `{path}` was interrupted; it holds nothing"
            raise NotAVault(message, hint="remove the file and create the vault again")
    except BaseException:
        # The caller gets nothing to close.
        store.close()
        raise
    return opened, slot


def _explained(error: StoreFailed | UnsupportedFileSystem, path: str | os.PathLike[str]) -> SecurecfgError:
    """Return the error of a vault that cannot be written, with the way to read secrets in such a place."""
    if isinstance(error, UnsupportedFileSystem):
        error.hint = f"{error.hint}; {_PUBLISH_HINT}"
        return error
    folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - without `pathlib`, as the store
    with suppress(OSError, AttributeError):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            message = f"`{os.fspath(path)}` lies on a read-only file system, where no read can be recorded in it"
            return UnsupportedFileSystem(message, hint=f"mount it for writing; {_PUBLISH_HINT}")
        if not os.access(folder, os.W_OK):
            error.hint = f"{error.hint}; {_PUBLISH_HINT}"
    return error


def open_rows(  # noqa: PLR0913 - what all who open a vault or a scope say
    store: Store,
    provider: KeyProvider,
    path: str | os.PathLike[str] | None,
    clock: Clock,
    options: Options,
    *,
    is_anchor_required: bool = False,
    is_adopting: bool = False,
    seat: Seat | None = None,
    known: Mapping[bytes, Mark] | None = None,
) -> tuple[OpenVault, SlotInfo]:
    """Open a vault in a store. See `open_vault`; without a path there is no anchor, a seat is for a sealed scope."""
    header, slot_rows = read_header(store)
    unlocked = unlock(header, slot_rows, provider)
    replica = _open_replica(store, unlocked, seat)
    anchor = AnchorFile(replica.vault_id, path) if path is not None else None
    if not replica.header.is_writable and not options.read_only:
        options = Options(read_only=True, strict=options.strict, cache_values=options.cache_values)
    opened = OpenVault(replica, anchor, clock, options, path)
    mark = (known or {}).get(replica.vault_id)
    if mark is not None:
        opened.verify_mark(mark, INTRODUCED)
    if anchor is not None:
        is_required = is_anchor_required and mark is None
        _verify_anchor(opened, anchor, is_required=is_required, is_adopting=is_adopting)
    if not options.read_only and replica.may_change:
        _finish_what_was_left(opened)
        compactor = Compactor(opened)
        opened.on_commit(compactor.wake)
        opened.on_close(compactor.finish)
    return opened, replica.keyring.slot(unlocked.slot_id)


def _open_replica(store: Store, unlocked: Unlocked, seat: Seat | None) -> Replica:
    for _ in range(_ATTEMPTS):
        head = store.head()
        try:
            return Replica(store, unlocked, seat)
        except IntegrityError:
            # Rows that belong to two states look tampered with; a head that stands still proves that they are.
            if store.head() == head:
                raise
    return Replica(store, unlocked, seat)


def _verify_anchor(opened: OpenVault, anchor: AnchorFile, *, is_required: bool, is_adopting: bool) -> None:
    try:
        known = anchor.read()
    except OSError as error:
        if is_required:
            message = f"the anchor cannot be read: {error.strerror}"
            raise AnchorMissing(message, hint=_ANCHOR_HINT) from None
        logger().warning("the anchor cannot be read: %s", error.strerror, extra={"event": "anchor.failed"})
        return
    if is_adopting:
        return
    if known is None:
        if is_required:
            message = "no checkpoint of this vault is recorded on this machine, and one is required"
            raise AnchorMissing(message, hint=_ANCHOR_HINT)
        opened.advance_anchor()
        return
    opened.verify_mark(known.mark)
    if known.mark.size < opened.replica.checkpoint.size:
        opened.advance_anchor()


def _finish_what_was_left(opened: OpenVault) -> None:
    """Do what a writer that crashed could not: sweep its stagings, finish its destructions."""
    try:
        if opened.replica.state.stagings:
            from securecfg.vault.commits.staging import sweep_expired

            sweep_expired(opened)
        if opened.is_destruction_pending:
            finish_destruction(opened)
    except RollbackSuspected:
        raise
    except SecurecfgError as error:
        logger().info("maintenance is left for later: %s", error.message, extra={"event": "maintenance.postponed"})


_PUBLISH_HINT = "for a place that only reads, publish a bundle: `securecfg vault publish --for ROLE -o FILE`"
_ANCHOR_HINT = "`securecfg vault adopt` accepts the vault as it is and records it"


def proved_principals(provider: KeyProvider) -> tuple[str, ...]:
    """Return the principal that a key proves, or nothing.

    Raises:
        InvalidMetadata: What the key says is not a principal.
        FileMissing, KeyProviderRefused: The key cannot be read.
    """
    return (check_principal(provider.read_principal()),) if proves_principal(provider) else ()


def identify(slot: SlotInfo, provider: KeyProvider, asserted: str) -> Identity:
    """Return who opened the vault: proved by the slot of an identity, which lists one principal, else as asserted.

    Args:
        slot: What the vault says of the slot that opened.
        provider: What opened it.
        asserted: On whose behalf, as the host says; empty where it says nothing.

    Raises:
        NotAuthenticated: The slot's key may not speak for that principal.
    """
    verify_principal(slot, asserted)
    is_proved = provider.kind == KIND_IDENTITY and len(slot.principals) == 1
    return Identity(slot.principals[0] if is_proved else asserted, is_proved=is_proved, slot=slot.slot_id.hex())


def verify_principal(slot: SlotInfo, principal: str) -> None:
    """Check that a slot's key may speak for a principal.

    Raises:
        NotAuthenticated: It may not.
    """
    if principal and slot.principals and principal not in slot.principals:
        message = f"this key may not speak for `{principal}`"
        raise NotAuthenticated(message, hint="it may speak for " + ", ".join(f"`{name}`" for name in slot.principals))
