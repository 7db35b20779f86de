"""`file:PATH` - a key in a file that only its owner can read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from securecfg.errors import InvalidKeyUri
from securecfg.keys.kek import open_under_kek, seal_under_kek
from securecfg.keys.keyfile import read_key_file
from securecfg.keys.secret_input import has_parameter
from securecfg.keys.slots import KIND_FILE

if TYPE_CHECKING:
    from securecfg.keys.provider import Ask, KeyUri, WrapContext


class FileProvider:
    """Names a key file, which is read when a slot is made or tried.

    Args:
        path: The key file.
    """

    scheme: Final = "file"
    asks_nobody: Final = True
    kind: Final = KIND_FILE

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Hold the path without touching the file."""
        self._path = path

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under the key in the file.

        Raises:
            FileMissing: There is no such file.
            KeyProviderRefused: Others can read the file, or it is not a key file.
        """
        return seal_under_kek(read_key_file(self._path), self.kind, b"", key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under the key in the file.

        Raises:
            WrongKey: The file's key, the bytes or the context are other ones.
            FileMissing: There is no such file.
            KeyProviderRefused: Others can read the file, or it is not a key file.
        """
        return open_under_kek(read_key_file(self._path), self.kind, wrapped, context)


def from_uri(uri: KeyUri, _ask: Ask | None) -> FileProvider:
    """Return the provider for `file:PATH`; `~` is the home directory.

    Raises:
        InvalidKeyUri: There is no path, one on another host, or a parameter behind it.
    """
    path = uri.rest
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            message = "a key file lies on this machine, so its URI names no host"
            raise InvalidKeyUri(message, hint="write `file:PATH` or `file:///PATH`")
    if not path or "\x00" in path:
        message = "a `file:` key names a file"
        raise InvalidKeyUri(message, hint="for instance `file:/etc/app.key`; `securecfg key generate PATH` makes one")
    if has_parameter(path):
        message = "a `file:` key is a path and takes no parameters"
        hint = (
            "`passphrase+file:PATH?env=NAME` is a key file with a passphrase; a path with `?NAME=` in it is not taken"
        )
        raise InvalidKeyUri(message, hint=hint)
    return FileProvider(os.path.expanduser(path))  # noqa: PTH111 - `Path.expanduser` fails for an unknown user
