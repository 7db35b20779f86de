"""Sealing and opening the rows of the index: manifest, segments, history pages and deltas (format 6).

A row that does not open, parse or match its digest raises `Tampered`; nothing here decides what to do about it.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.crypto import (
    NEWEST_PAGE,
    ROOT_SCOPE,
    SUITE,
    delta_context,
    history_context,
    manifest_context,
    segment_context,
)
from securecfg.errors import Tampered
from securecfg.octets import Malformed
from securecfg.vault.index.deltas import Delta, parse_delta
from securecfg.vault.index.history import History, Version, find_version, older_page_to_bytes, parse_older_page
from securecfg.vault.index.segments import Manifest, Segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from securecfg.keys import Keyring

    Parsed = TypeVar("Parsed")

_FRONT = struct.Struct(">BBI")
_MANIFEST_FRONT = struct.Struct(">BBIQ")
_A_MANIFEST, _A_PAGE, _A_ROW = "the manifest", "a history page", "a row"
_MANIFEST, _SEGMENT, _HISTORY, _DELTA = 0x4D, 0x47, 0x59, 0x44


class IndexRows:
    """The rows of one scope's index under its keys.

    Args:
        vault_id: 16 bytes.
        keyring: The scope keys of all epochs.
    """

    def __init__(self, vault_id: bytes, keyring: Keyring) -> None:
        """Take up the active keys."""
        self._vault_id = vault_id
        self._keyring = keyring
        self._active = keyring.scope(ROOT_SCOPE)
        self._index = self._active.index
        self._page_front = _FRONT.pack(_HISTORY, SUITE, self._active.epoch)

    def seal_manifest(self, manifest: Manifest) -> bytes:
        """Return the row of a manifest."""
        keys = self._active
        ctx = manifest_context(self._vault_id, ROOT_SCOPE, keys.epoch, manifest.base_size)
        front = _MANIFEST_FRONT.pack(_MANIFEST, SUITE, keys.epoch, manifest.base_size)
        return front + keys.index.seal(manifest.to_bytes(), ctx)

    def open_manifest(self, row: bytes | None, digest: bytes, base_size: int) -> Manifest:
        """Return the manifest whose digest the state names.

        Raises:
            Tampered: It is missing or another one.
        """
        row = verify_digest(row, digest, _A_MANIFEST)
        if len(row) < _MANIFEST_FRONT.size:
            raise _refusal(_A_MANIFEST)
        kind, suite, epoch, named_base = _MANIFEST_FRONT.unpack_from(row)
        if (kind, suite, named_base) != (_MANIFEST, SUITE, base_size):
            raise _refusal(_A_MANIFEST)
        ctx = manifest_context(self._vault_id, ROOT_SCOPE, epoch, base_size)
        plaintext = self._keyring.scope(ROOT_SCOPE, epoch).index.open(row, ctx, _MANIFEST_FRONT.size)
        return _parse(lambda: Manifest.parse(plaintext, base_size), _A_MANIFEST)

    def seal_segment(self, segment_id: int, plaintext: bytes) -> bytes:
        """Return the row of a segment."""
        keys = self._active
        ctx = segment_context(self._vault_id, ROOT_SCOPE, keys.epoch, segment_id)
        return _FRONT.pack(_SEGMENT, SUITE, keys.epoch) + keys.index.seal(plaintext, ctx)

    def open_segment(self, row: bytes | None, segment_id: int, digest: bytes) -> Segment:
        """Return the segment whose digest the manifest names.

        Raises:
            Tampered: It is missing or another one.
        """
        row = verify_digest(row, digest, "an index segment")
        epoch = _epoch(row, _SEGMENT, "an index segment")
        ctx = segment_context(self._vault_id, ROOT_SCOPE, epoch, segment_id)
        plaintext = self._keyring.scope(ROOT_SCOPE, epoch).index.open(row, ctx, _FRONT.size)
        return _parse(lambda: Segment(plaintext), "an index segment")

    def seal_history(self, history: History) -> bytes:
        """Return the row of a newest history page."""
        return self._seal_page(history.rec_id, NEWEST_PAGE, history.to_bytes())

    def open_history(self, row: bytes | None, rec_id: int, path: bytes, digest: bytes) -> History:
        """Return the newest history page that an entry names.

        Raises:
            Tampered: It is missing, another one, or of another secret.
        """
        plaintext = self._open_page(row, rec_id, NEWEST_PAGE, digest)
        history = _parse(lambda: History.parse(plaintext), _A_PAGE)
        return _verify_owner(history, rec_id, path)

    def find_version(
        self,
        row: bytes | None,
        secret: tuple[int, bytes],
        digest: bytes,
        number: int,
    ) -> tuple[History, Version | None]:
        """Return the front of a newest history page and one version of it; 0 stands for the current one.

        Args:
            row: The row, or None where it is missing.
            secret: The record's id and the path that it must belong to.
            digest: What the index entry says.
            number: The version wanted.

        Raises:
            Tampered: It is missing, another one, or of another secret.
        """
        rec_id, path = secret
        plaintext = self._open_page(row, rec_id, NEWEST_PAGE, digest)
        try:
            history, version = find_version(plaintext, number)
        except Malformed:
            raise _refusal(_A_PAGE) from None
        return _verify_owner(history, rec_id, path), version

    def seal_older_page(self, rec_id: int, page: int, versions: tuple[Version, ...]) -> bytes:
        """Return the row of an older history page."""
        return self._seal_page(rec_id, page, older_page_to_bytes(rec_id, page, versions))

    def open_older_page(self, row: bytes | None, rec_id: int, page: int, digest: bytes) -> tuple[Version, ...]:
        """Return the versions of an older history page.

        Raises:
            Tampered: It is missing or another one.
        """
        plaintext = self._open_page(row, rec_id, page, digest)
        return _parse(lambda: parse_older_page(plaintext, rec_id, page), _A_PAGE)

    def seal_delta(self, delta: Delta) -> bytes:
        """Return the row of a delta."""
        keys = self._active
        ctx = delta_context(self._vault_id, ROOT_SCOPE, keys.epoch)
        return _FRONT.pack(_DELTA, SUITE, keys.epoch) + keys.log.seal(delta.to_bytes(), ctx)

    def open_delta(self, row: bytes | None, digest: bytes) -> Delta:
        """Return the delta whose digest a leaf names.

        Raises:
            Tampered: It is missing or another one.
        """
        row = verify_digest(row, digest, "a delta")
        epoch = _epoch(row, _DELTA, "a delta")
        ctx = delta_context(self._vault_id, ROOT_SCOPE, epoch)
        plaintext = self._keyring.scope(ROOT_SCOPE, epoch).log.open(row, ctx, _FRONT.size)
        return _parse(lambda: parse_delta(plaintext), "a delta")

    def _seal_page(self, rec_id: int, page: int, plaintext: bytes) -> bytes:
        keys = self._active
        ctx = history_context(self._vault_id, ROOT_SCOPE, keys.epoch, rec_id, page)
        return self._page_front + keys.index.seal(plaintext, ctx)

    def _open_page(self, row: bytes | None, rec_id: int, page: int, digest: bytes) -> bytes:
        row = verify_digest(row, digest, _A_PAGE)
        if row.startswith(self._page_front):
            epoch, index = self._active.epoch, self._index
        else:
            epoch = _epoch(row, _HISTORY, _A_PAGE)
            index = self._keyring.scope(ROOT_SCOPE, epoch).index
        ctx = history_context(self._vault_id, ROOT_SCOPE, epoch, rec_id, page)
        return index.open(row, ctx, _FRONT.size)


def verify_digest(row: bytes | None, digest: bytes, what: str) -> bytes:
    """Return a row that is there and has the SHA-256 given.

    Raises:
        Tampered: It is missing or another one.
    """
    if row is None:
        message = f"{what} is missing"
        raise Tampered(message)
    if not hmac.compare_digest(sha256(row).digest(), digest):
        raise _refusal(what)
    return row


def digest_of(row: bytes) -> bytes:
    """Return the SHA-256 by which other rows name a row."""
    return sha256(row).digest()


def digest_id(digest: bytes) -> int:
    """Return the id of a row that is found by its content, from its SHA-256."""
    return int.from_bytes(digest[:8]) >> 1


def epoch_of(row: bytes) -> int:
    """Return the epoch that a row of the index, or of a data key, says it is sealed under; nothing else is looked at.

    Raises:
        Tampered: The row is too short to say.
    """
    if len(row) < _FRONT.size:
        raise _refusal(_A_ROW)
    return int.from_bytes(row[2:6])


def _epoch(row: bytes, kind: int, what: str) -> int:
    if len(row) < _FRONT.size:
        raise _refusal(what)
    named, suite, epoch = _FRONT.unpack_from(row)
    if named != kind or suite != SUITE:
        raise _refusal(what)
    return int(epoch)


def _parse(parse: Callable[[], Parsed], what: str) -> Parsed:
    try:
        return parse()
    except Malformed:
        raise _refusal(what) from None


def _verify_owner(history: History, rec_id: int, path: bytes) -> History:
    if history.rec_id != rec_id or history.path != path:
        message = "a history page belongs to another secret"
        raise Tampered(message)
    return history


def _refusal(what: str) -> Tampered:
    return Tampered(
        f"{what} does not match the state of the vault",
        hint="run `securecfg vault verify`; restore from a backup what it names",
    )
