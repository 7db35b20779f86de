"""`securecfg secret put --field`: a new version in which the other fields are as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import AccessDenied, SecretExpired, SecretNotFound, StaleWrite, UsageError
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.vault import Vault
    from securecfg.vault.values import VersionId

_REPLACE = "`--replace` writes the named fields and keeps no others"


class Fields(NamedTuple):
    """What a secret has.

    Attributes:
        path: Which secret.
        newest: Its newest version, deleted ones included; 0 where none was ever written.
        kept: Its fields, masked; none where no version is current.
        content_type: That of the current version.
    """

    path: str
    newest: VersionId
    kept: Mapping[str, Secret[str] | Secret[bytes]]
    content_type: str = ""

    def merge(self, given: Mapping[str, str | bytes], expect: VersionId | None) -> dict[str, str | bytes]:
        """Return all fields with those that are given in the places of their old ones.

        They may be written over the version `newest` and over no other.

        Raises:
            StaleWrite: That is not the version which the caller expects.
        """
        if expect is not None and str(expect) != str(self.newest):
            message = f"`{self.path}` is at version {self.newest}, not {expect}"
            raise StaleWrite(message, hint="read it again, and write with the version you have seen")
        return {name: secret.reveal() for name, secret in self.kept.items() if name not in given} | dict(given)


def read_fields(vault: Vault, path: str) -> Fields:
    """Return the fields of a secret as they are now. It is recorded as a read.

    Raises:
        AccessDenied: The caller may not read and list the secret, and so cannot keep what it holds.
        SecretExpired: What would be kept may not be read any more.
        UsageError: The value has no fields.
        Other errors: As for `Vault.read`.
    """
    try:
        # First the number: by it a version is found out that somebody writes between the two.
        newest = _newest(vault, path)
        try:
            version = vault.read(path)
        except SecretNotFound:
            # A store that is mounted takes its versions of a deleted secret for none.
            return Fields(path, newest if isinstance(newest, int) else 0, {})
    except AccessDenied as error:
        error.hint = f"keeping its other fields takes the rights to read and to list it; {_REPLACE}"
        raise
    except SecretExpired as error:
        error.hint = _REPLACE
        raise
    if isinstance(version.value, Secret):
        message = f"`{path}` has a value without fields"
        raise UsageError(message, hint=f"{_REPLACE}; that value is then an old version")
    # What a store compares with is the version that it gave, which need not be the newest.
    seen = newest if isinstance(version.version, int) else version.version
    return Fields(path, seen, version.value, version.content_type)


def _newest(vault: Vault, path: str) -> VersionId:
    try:
        return vault.history(path)[0].version
    except SecretNotFound:
        return 0
