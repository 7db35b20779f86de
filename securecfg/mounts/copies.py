"""Sealed copies of what a store said last, one file for each, beside the vault: section 5 of `docs/security/mounts.md`.

A copy that does not open, or that is not there, is none: nothing is lost but what the store has.
"""

from __future__ import annotations

import hmac
import json
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from securecfg.backends import Found, State, StoredVersion
from securecfg.clock import to_datetime, to_ns
from securecfg.crypto import KEY_BYTES, XAES256GCM, ContextType, Label, context, expand, padded_length
from securecfg.errors import SecurecfgError, Tampered
from securecfg.vault.documents import MALFORMED
from securecfg.vault.values import decode_value, encode_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.mounts.table import Mount
    from securecfg.vault.opened import OpenVault

COPIES_SUFFIX = ".mounts"

_NAME_BYTES = 32
_HEAD = struct.Struct(">BII")  # kind, bytes of the description, bytes of the content
_BYTES_MAX = 64 << 20
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


class Copy(NamedTuple):
    """What a store said, and when.

    Attributes:
        path: Which secret, as the store has it.
        found: The value and its version.
        fetched_ns: When it was fetched.
        store: The name of the backend that it came from.
    """

    path: str
    found: Found
    fetched_ns: int
    store: str


class Copies:
    """The copies of one mount.

    Args:
        folder: Where the folders of mounts are.
        vault_id: Of the vault, 16 bytes.
        mount: Whose.

    Attributes:
        folder: Where the files of this mount are; made when the first one is written.
    """

    def __init__(self, folder: str, vault_id: bytes, mount: Mount) -> None:
        """Write nothing yet."""
        self.folder = os.path.join(folder, mount.id.hex())  # noqa: PTH118 - without `pathlib`, as the store
        self._vault_id, self._mount_id = vault_id, mount.id
        self._names = expand(mount.key, Label.COPY_NAME, mount.id, KEY_BYTES)
        self._box = XAES256GCM(expand(mount.key, Label.COPY, mount.id, KEY_BYTES))

    def get(self, path: str) -> Copy | None:
        """Return the copy of a secret, None where there is none that opens."""
        copy = self._open(self._name(path))
        return copy if copy is not None and copy.path == path else None

    def put(self, copy: Copy) -> None:
        """Keep a copy in place of an older one; where it cannot be written there is none."""
        name = self._name(copy.path)
        row = self._box.seal(_encode(copy), self._context(name))
        with suppress(OSError):
            self._write(name.hex(), row)

    def drop(self, path: str) -> None:
        """Forget a copy."""
        with suppress(OSError):
            os.unlink(self._file(self._name(path).hex()))  # noqa: PTH108 - as above

    def all(self) -> Iterator[Copy]:
        """Yield every copy that opens."""
        with suppress(OSError):
            for name in sorted(os.listdir(self.folder)):  # noqa: PTH208 - as above
                with suppress(ValueError):
                    copy = self._open(bytes.fromhex(name))
                    if copy is not None:
                        yield copy

    def erase(self) -> None:
        """Forget all."""
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, name: bytes) -> Copy | None:
        try:
            with open(self._file(name.hex()), "rb") as file:
                row = file.read(_BYTES_MAX)
            return _decode(self._box.open(row, self._context(name)))
        except (OSError, SecurecfgError, *MALFORMED):
            return None

    def _write(self, name: str, row: bytes) -> None:
        if not os.path.isdir(self.folder):  # noqa: PTH112 - as above
            os.makedirs(self.folder, _PRIVATE_FOLDER, exist_ok=True)  # noqa: PTH103 - as above
        temporary = self._file(f".{name}.{os.urandom(6).hex()}")
        # Not made durable: of a copy that a crash has torn nothing opens, and the store is asked again.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
        with open(descriptor, "wb") as file:
            file.write(row)
        os.replace(temporary, self._file(name))  # noqa: PTH105 - as above

    def _file(self, name: str) -> str:
        return os.path.join(self.folder, name)  # noqa: PTH118 - as above

    def _name(self, path: str) -> bytes:
        return hmac.digest(self._names, path.encode(), "sha256")

    def _context(self, name: bytes) -> bytes:
        if len(name) != _NAME_BYTES:
            raise ValueError
        return context(ContextType.COPY, self._vault_id, self._mount_id, 0, name)


def copies_of(opened: OpenVault, mount: Mount) -> Copies | None:
    """Return where the copies of a mount lie: beside the vault's file, None where it has none."""
    if opened.path is None:
        return None
    return Copies(f"{os.fspath(opened.path)}{COPIES_SUFFIX}", opened.replica.vault_id, mount)


def _encode(copy: Copy) -> bytes:
    value, version, metadata = copy.found
    kind, content = encode_value(value)
    description = {
        "path": copy.path,
        "fetched": copy.fetched_ns,
        "store": copy.store,
        "id": version.id,
        "created": to_ns(version.created) if version.created is not None else 0,
        "labels": list(version.labels),
        "metadata": dict(metadata),
    }
    text = json.dumps(description, separators=(",", ":"), ensure_ascii=False).encode()
    plain = _HEAD.pack(kind, len(text), len(content)) + text + content
    return plain.ljust(padded_length(len(plain)), b"\x00")


def _decode(plain: bytes) -> Copy:
    kind, described, length = _HEAD.unpack_from(plain)
    start = _HEAD.size + described
    if len(plain) < start + length:
        message = "a copy is malformed"
        raise Tampered(message)
    said = json.loads(plain[_HEAD.size : start])
    created = to_datetime(said["created"]) if said["created"] else None
    version = StoredVersion(said["id"], State.LIVE, created, tuple(said["labels"]))
    value = decode_value(kind, plain[start : start + length], said["path"])
    return Copy(said["path"], Found(value, version, said["metadata"]), said["fetched"], said["store"])
