"""Being introduced to a vault: what an administrator knows counts as what this machine has seen itself."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import parse_checkpoint
from securecfg.errors import LogTampered, NotAVault, RollbackSuspected, StoreFailed, Tampered
from securecfg.octets import Malformed
from securecfg.store import open_sqlite
from securecfg.vault.scopes.registry import read_administrators, read_own_keys
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.state.head import parse_head
from securecfg.vault.state.prefixes import INTRODUCED, ON_THIS_MACHINE, verify_prefix
from securecfg.vault.state.replica import read_header
from securecfg.vault.trust.first_seen import verify_known, write_trust

if TYPE_CHECKING:
    import os

    from securecfg.store import Store
    from securecfg.vault.administrators.introductions import Introduction
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.state.anchor import Mark

_ATTEMPTS = 8


class Accepted(NamedTuple):
    """A log that this machine knows of from now on.

    Attributes:
        log_id: The id of the scope or the vault, 16 bytes.
        size: How many records the introduction knows.
        known: How many this machine knew before, or None.
    """

    log_id: bytes
    size: int
    known: int | None


def verify_introduced(store: Store, vault_id: bytes, introduction: Introduction) -> None:
    """Check that a vault is the one that an introduction is to, and that no scope of it is missing.

    Whether it continues what the introduction knows is checked where each part is opened.

    Raises:
        RollbackSuspected: It is another one, or older.
    """
    _logs_of(store, vault_id, introduction)


def accept_introduction(path: str | os.PathLike[str], introduction: Introduction) -> list[Accepted]:
    """Let this machine know of a vault in a place what an introduction knows; what it knows already is never weakened.

    No key is needed: what is in the file is compared by hashes. That administrators and writers have signed it is for
    whoever opens it to check.

    Raises:
        RollbackSuspected: The file is another vault or an older one, or the introduction contradicts what this machine
            knows of the place.
        StoreFailed: It cannot be written down.
        VaultNotFound, NotAVault: There is no vault.
    """
    with closing(open_sqlite(path, read_only=True)) as store:
        vault_id = read_header(store)[0].vault_id
        logs = _logs_of(store, vault_id, introduction)
        if introduction.trust is not None:
            verify_known(path, vault_id, introduction.trust)
        anchors = {log_id: AnchorFile(log_id, path) for log_id in logs}
        known: dict[bytes, Mark | None] = {}
        for log_id, log in logs.items():
            mark = introduction.marks[log_id]
            _verify_stored(log, mark, INTRODUCED)
            anchor = _read_anchor(anchors[log_id])
            known[log_id] = anchor
            if anchor is not None:
                _verify_agree(anchor, mark)
                _verify_stored(log, anchor, ON_THIS_MACHINE)
        if introduction.trust is not None:
            write_trust(path, vault_id, introduction.trust)
        for log_id, log in logs.items():
            _write_anchor(anchors[log_id], introduction.marks[log_id], log)
    return [
        Accepted(log_id, introduction.marks[log_id].size, mark.size if mark is not None else None)
        for log_id, mark in known.items()
    ]


def verify_administrators(opened: OpenVault, introduction: Introduction) -> None:
    """Check that those whom an introduction names are or were the administrators of a vault, as its root knows them.

    Raises:
        RollbackSuspected: They are others.
    """
    if introduction.trust is None:
        return
    own = read_own_keys(opened)
    try:
        if own is not None:
            succession = read_administrators(opened, own.current).succession
            succession.follow(opened.replica.vault_id, introduction.trust)
            return
    except (Tampered, RollbackSuspected):
        pass
    message = "the introduction names other administrators than the vault has"
    raise RollbackSuspected(message, hint=_ASK)


def _logs_of(store: Store, vault_id: bytes, introduction: Introduction) -> dict[bytes, Store]:
    """Return where the logs lie that an introduction knows, by their ids.

    Raises:
        RollbackSuspected: It is to another vault, or one of them is not there.
    """
    if introduction.vault_id != vault_id:
        message = "the introduction is to another vault"
        raise RollbackSuspected(message, hint=_ASK)
    logs = {vault_id: store}
    for number in store.partitions():
        part = store.partition(number)
        with suppress(NotAVault):
            logs.setdefault(read_header(part)[0].vault_id, part)
    if not introduction.marks.keys() <= logs.keys():
        message = "a scope that the introduction knows is not in the vault"
        hint = "somebody may have put back an older copy; if the scope is gone for good, ask for a new introduction"
        raise RollbackSuspected(message, hint=hint)
    return {log_id: logs[log_id] for log_id in introduction.marks}


def _verify_stored(store: Store, mark: Mark, known: str) -> None:
    """Check that the log in a store continues a checkpoint, by its hashes alone."""
    for _ in range(_ATTEMPTS):
        head = store.head()
        try:
            verify_prefix(store, mark, parse_checkpoint(parse_head(head or b"")[0]), known)
        except (Malformed, LogTampered):
            message = "the head of the vault is malformed"
            raise Tampered(message) from None
        except RollbackSuspected:
            # Tiles and head of two states contradict each other; a head that stands still proves that they do.
            if store.head() == head:
                raise
        else:
            return
    message = "the vault changes faster than it can be read"
    raise Tampered(message)


def _verify_agree(known: Mark, mark: Mark) -> None:
    """Check that the longer of two logs does not go with the older charter."""
    older, newer = sorted((known, mark), key=lambda one: one.size)
    is_same = older.charter == newer.charter if older.serial == newer.serial else older.size < newer.size
    if older.serial > newer.serial or not is_same or (older.size == newer.size and older.root != newer.root):
        message = "the introduction contradicts what this machine knows of the vault"
        raise RollbackSuspected(
            message, hint="ask the administrators which holds; `securecfg vault adopt` accepts anew"
        )


def _read_anchor(anchor: AnchorFile) -> Mark | None:
    try:
        found = anchor.read()
    except OSError as error:
        message = f"what this machine recorded of the vault cannot be read: {error.strerror}"
        raise StoreFailed(message) from None
    return found.mark if found is not None else None


def _write_anchor(anchor: AnchorFile, mark: Mark, log: Store) -> None:
    try:
        anchor.advance(mark, lambda newest: _verify_stored(log, newest, ON_THIS_MACHINE))
        anchor.sync()
    except OSError as error:
        message = f"the anchor `{anchor.path}` cannot be written: {error.strerror}"
        raise StoreFailed(message) from None
    finally:
        anchor.close()


_ASK = "ask an administrator of this vault for one: `securecfg scope introduce`"
