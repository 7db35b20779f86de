"""Wrapping and opening data keys: under the scope key, or in a sealed scope under what its readers were granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto import (
    DEK_FORM_GRANTED,
    DEK_FORM_WRAPPED,
    ROOT_SCOPE,
    dek_context,
    open_granted_dek,
    parse_dek,
    seal_dek,
    unwrap_dek,
    wrap_dek,
)
from securecfg.errors import Tampered

if TYPE_CHECKING:
    from securecfg.crypto import KeyBytes
    from securecfg.keys import Keyring
    from securecfg.keys.value_grants import ValueGrants


class DataKeys:
    """The data keys of one generation of the keyring. May be shared by threads.

    Args:
        vault_id: 16 bytes.
        keyring: The scope keys of all epochs.
        grants: What the values of a sealed scope are sealed under; None where they are under the scope key.
    """

    __slots__ = ("_active", "_keyring", "_vault_id", "grants")

    def __init__(self, vault_id: bytes, keyring: Keyring, grants: ValueGrants | None) -> None:
        """Take up the active keys."""
        self._vault_id = vault_id
        self._keyring = keyring
        self._active = keyring.scope(ROOT_SCOPE)
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
            ctx = dek_context(self._vault_id, ROOT_SCOPE, self._active.epoch, dek_id)
            return wrap_dek(self._active.wrap, self._active.epoch, dek, ctx)
        epoch = grants.active
        ctx = dek_context(self._vault_id, ROOT_SCOPE, epoch, dek_id)
        if grants.is_granted(epoch):
            return wrap_dek(grants.wrap(epoch), epoch, dek, ctx, DEK_FORM_GRANTED)
        return seal_dek(grants.public_key, epoch, dek, ctx)

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
        ctx = dek_context(self._vault_id, ROOT_SCOPE, epoch, dek_id)
        if form == DEK_FORM_WRAPPED:
            return unwrap_dek(self._keyring.scope(ROOT_SCOPE, epoch).wrap, row, ctx)
        if self.grants is None:
            message = f"the data key {dek_id} is of a form that this vault does not have"
            raise Tampered(message)
        wrap = self.grants.wrap(epoch)
        return open_granted_dek(row, ctx, wrap, self.grants.private_key(epoch))
