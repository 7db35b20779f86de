"""`identity:` - the key pair of a person or a service. To add it the public half is enough."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from securecfg.crypto import KeyBytes, Label, open_sealed
from securecfg.errors import InvalidKeyUri, KeyProviderRefused, Tampered
from securecfg.keys.identity import UNPROTECTED, open_seed, opening_key_of, read_identity_file, signing_key_of
from securecfg.keys.once import once
from securecfg.keys.recipients import unwrap_as_recipient, wrap_to_recipient
from securecfg.keys.secret_input import split_source
from securecfg.keys.slots import KIND_IDENTITY
from securecfg.keys.uri import open_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys.identity import Identity
    from securecfg.keys.provider import Ask, KeyUri, WrapContext

_LABEL = Label.IDENTITY_SLOT
_PASSPHRASE = "passphrase:"  # noqa: S105 - a scheme
_SHAMIR = "shamir:"
_SHARES = "?shares="


class IdentityProvider:
    """Names the file of an identity, which is read when a slot is made or tried.

    Args:
        path: The file; one with the public half is enough to make a slot.
        ask: Asks a person for the passphrase, if one protects the private half.
        source: Where that passphrase comes from instead, `?env=NAME` or `?fd=N`; or the files with the shares that
            protect it, `?shares=FILE,FILE`; or empty.
    """

    scheme: Final = "identity"
    kind: Final = KIND_IDENTITY

    def __init__(self, path: str | os.PathLike[str], *, ask: Ask | None = None, source: str = "") -> None:
        """Hold the path without touching the file."""
        self._path = path
        self._ask = ask
        self._source = source
        # Read once, so that name and key are of one file; and what protects it is asked once, however many slots of
        # other people are tried.
        self._file = once(lambda: read_identity_file(path))
        self._seed = once(self._load)
        self._opening_key = once(lambda: opening_key_of(self._seed()))

    def read_identity(self) -> Identity:
        """Return the public half.

        Raises:
            FileMissing: There is no such file.
            KeyProviderRefused: Others can read the private half, or it is not the file of an identity.
        """
        return self._file().identity

    def read_principal(self) -> str:
        """Return the name of the identity.

        Raises:
            FileMissing, KeyProviderRefused: As for `read_identity`.
        """
        return self.read_identity().name

    def describe(self) -> Mapping[str, str]:
        """Return whose key it is."""
        identity = self.read_identity()
        return {"identity": identity.name, "fingerprint": identity.fingerprint.hex()}

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` sealed to the identity.

        Raises:
            FileMissing, KeyProviderRefused: As for `read_identity`; or what is there is no public key.
        """
        try:
            return wrap_to_recipient(self.read_identity().recipient, self.kind, _LABEL, key, context)
        except Tampered:
            message = f"the public key in `{os.fspath(self._path)}` is none"
            raise KeyProviderRefused(message, hint="ask its owner for the line again") from None

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was sealed to the identity.

        Raises:
            WrongKey: It was sealed to another identity, the bytes or the context are other ones, or what protects the
                private half does not open it.
            FileMissing: There is no such file.
            KeyProviderRefused: There is no private half in it, others can read that, or it is no file of an identity.
            KeyProviderUnavailable, SettingMissing: What protects the private half cannot be asked.
        """
        return unwrap_as_recipient(self._opening_key, self.kind, _LABEL, wrapped, context)

    def open_for_owner(self, sealed: bytes, info: bytes) -> KeyBytes:
        """Return a message that was sealed to the identity otherwise than in an unlock slot.

        Raises:
            Tampered: It was sealed to another identity, or the bytes or `info` are other ones.
            WrongKey, FileMissing, KeyProviderRefused, KeyProviderUnavailable, SettingMissing: As for `unwrap`.
        """
        return KeyBytes(open_sealed(self._opening_key(), sealed, info))

    def sign(self, message: bytes) -> bytes:
        """Return the identity's Ed25519 signature of a message, 64 bytes.

        Raises:
            FileMissing, KeyProviderRefused, KeyProviderUnavailable, SettingMissing, WrongKey: As for `unwrap`.
        """
        return signing_key_of(self._seed()).sign(message)

    def _load(self) -> KeyBytes:
        name = os.fspath(self._path)
        file = self._file()
        identity, private = file.identity, file.private
        if private is None:
            message = f"`{name}` holds the public half of an identity only"
            raise KeyProviderRefused(message, hint="the vault opens with the private half, which its owner keeps")
        files = self._source.removeprefix(_SHARES) if self._source.startswith(_SHARES) else ""
        if self._source and private.protection != (_SHAMIR if files else _PASSPHRASE):
            message = f"no {'shares protect' if files else 'passphrase protects'} `{name}`"
            raise KeyProviderRefused(message, hint="name the file without what stands behind its `?`")
        if private.protection == UNPROTECTED:
            return private.content
        provider = open_provider(private.protection + (files or self._source), ask=self._ask)
        return open_seed(identity, private, provider)


def from_uri(uri: KeyUri, ask: Ask | None) -> IdentityProvider:
    """Return the provider for `identity:PATH`; `~` is the home directory.

    `identity:PATH?env=NAME` and `identity:PATH?fd=N` say where the passphrase comes from that protects it,
    `identity:PATH?shares=FILE,FILE` in which files the shares lie.

    Raises:
        InvalidKeyUri: There is no path, or no file with a share.
    """
    before, separator, files = uri.rest.partition(_SHARES)
    path, source = split_source(uri._replace(rest=before))
    if separator:
        if source or not files:
            message = "shares of an `identity:` key are named as files"
            raise InvalidKeyUri(message, hint="for instance `identity:board.identity?shares=share-1.txt,share-4.txt`")
        source = f"{separator}{files}"
    if not path:
        message = "an `identity:` key names a file"
        raise InvalidKeyUri(
            message, hint="for instance `identity:~/web.identity`; `securecfg identity create` makes one"
        )
    return IdentityProvider(path, ask=ask, source=source)
