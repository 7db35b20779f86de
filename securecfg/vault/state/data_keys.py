"""Wrapping and opening data keys: under the scope key, or in a sealed scope under what its readers were granted."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.crypto import (
    DEK_FORM_GRANTED,
    DEK_FORM_WRAPPED,
    ROOT_SCOPE,
    DekWrap,
    Label,
    dek_context,
    open_granted_dek,
    parse_dek,
    seal_dek,
    unwrap_dek,
)
from securecfg.errors import Tampered, ValueTooLarge
from securecfg.octets import var32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from securecfg.crypto import KeyBytes
    from securecfg.keys import Keyring
    from securecfg.keys.value_grants import ValueGrants


SEALED_LIMIT_BYTES = 64 * 1024 * 1024


class DataKeys:
    """The data keys of one generation of the keyring. May be shared by threads.

    Args:
        vault_id: 16 bytes.
        keyring: The scope keys of all epochs.
        grants: What the values of a sealed scope are sealed under; None where they are under the scope key.
    """

    __slots__ = ("_active", "_keyring", "_wrap", "grants", "vault_id")

    def __init__(self, vault_id: bytes, keyring: Keyring, grants: ValueGrants | None) -> None:
        """Take up the active keys."""
        self.vault_id = vault_id
        self._keyring = keyring
        self._active = keyring.scope(ROOT_SCOPE)
        self._wrap: DekWrap | None = None  # made for the first data key: most who open a vault only read
        self.grants = grants

    def seal(self, dek: KeyBytes, dek_id: int, *, is_system: bool) -> bytes:
        """Return the row of a new data key.

        Args:
            dek: 32 bytes.
            dek_id: The id of the row.
            is_system: Whether it is of a document of the vault itself, which all need who list.
        """
        grants = self.grants
        if grants is None or is_system:
            wrap = self._wrap
            if wrap is None:
                active = self._active
                wrap = self._wrap = DekWrap(active.wrap, self.vault_id, ROOT_SCOPE, active.epoch)
            return wrap.seal(dek, dek_id)
        epoch = grants.active
        if grants.is_granted(epoch):
            return DekWrap(grants.wrap(epoch), self.vault_id, ROOT_SCOPE, epoch, DEK_FORM_GRANTED).seal(dek, dek_id)
        return seal_dek(grants.public_key, epoch, dek, dek_context(self.vault_id, ROOT_SCOPE, epoch, dek_id))

    def open(self, dek_id: int, row: bytes | None) -> KeyBytes:
        """Return a data key.

        Raises:
            ScopeSealed: It is sealed from this key.
            Tampered: It is missing or another one.
        """
        if row is None:
            message = f"the data key {dek_id} is missing"
            raise Tampered(message)
        form, epoch = parse_dek(row)
        ctx = dek_context(self.vault_id, ROOT_SCOPE, epoch, dek_id)
        if form == DEK_FORM_WRAPPED:
            keys = self._active if epoch == self._active.epoch else self._keyring.scope(ROOT_SCOPE, epoch)
            return unwrap_dek(keys.wrap, row, ctx)
        if self.grants is None:
            message = f"the data key {dek_id} is of a form that this vault does not have"
            raise Tampered(message)
        wrap = self.grants.wrap(epoch)
        return open_granted_dek(row, ctx, wrap, self.grants.private_key(epoch))

    def verify_size(self, length: int) -> None:
        """Check that a value is not larger than a scope of this kind takes.

        Raises:
            ValueTooLarge: It is.
        """
        if self.grants is not None and length > SEALED_LIMIT_BYTES:
            message = f"a value in a sealed scope has at most {SEALED_LIMIT_BYTES >> 20} MiB"
            raise ValueTooLarge(message, hint="keep the file elsewhere, encrypted, and its key here")

    def name(self, commitment: bytes, rows: Iterable[bytes]) -> bytes:
        """Return what the history says of a value: the commitment to its data key, or in a sealed scope all its rows.

        Whoever has opened a value knows its data key, and could put another one in its place under the same key. In a
        vault all who could are writers.
        """
        return commitment if self.grants is None else _digest(rows)

    def expect(self, named: bytes, commitment: bytes, rows: Iterable[bytes]) -> bytes:
        """Return the commitment that a value's record must have.

        Args:
            named: What the history says of the value.
            commitment: To the data key at hand.
            rows: The record, and what follows it.

        Raises:
            Tampered: In a sealed scope, the rows are not those that were written.
        """
        if self.grants is None:
            return named
        self.verify_rows(named, rows)
        return commitment

    def verify_rows(self, named: bytes, rows: Iterable[bytes]) -> None:
        """Check that the rows of a value in a sealed scope are those that were written, which needs none of its keys.

        Args:
            named: What the history says of the value.
            rows: The record, and what follows it.

        Raises:
            Tampered: They are not.
        """
        if not hmac.compare_digest(named, _digest(rows)):
            message = "a value does not match the state of the scope"
            raise Tampered(message, hint="somebody who may read it may have replaced it; restore it from a backup")


def _digest(rows: Iterable[bytes]) -> bytes:
    hashed = sha256(Label.VALUE_ROWS.encode() + b"\x00")
    for row in rows:
        hashed.update(var32(row))
    return hashed.digest()
