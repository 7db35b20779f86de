"""Sealing what goes into a bundle: each value as a message of its own, then the index, then the file key for all."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from securecfg.crypto import HYBRID_PRIVATE_BYTES, KeyBytes, hybrid_public_key, seal_to
from securecfg.octets import U64
from securecfg.vault.bundles.format import (
    INDEX,
    Messages,
    head_to_bytes,
    message_key,
    padded_index_length,
    slot_info,
)
from securecfg.vault.values import encode_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys import Identity
    from securecfg.vault.bundles.format import Index
    from securecfg.vault.values import Value


class BundleSealing:
    """The content of a bundle in the making.

    Args:
        vault_id: 16 bytes.
        bundle_id: 16 random bytes.
        file_key: 32 random bytes.

    Attributes:
        count: How many values are in it.
    """

    def __init__(self, vault_id: bytes, bundle_id: bytes, file_key: KeyBytes) -> None:
        """Seal nothing yet."""
        self._bundle_id = bundle_id
        self._file_key = file_key
        self._messages = Messages(vault_id, bundle_id)
        self._contents: list[bytes] = []
        self._length = 0
        self.count = 0

    def add(self, value: Value) -> tuple[int, int, int, int]:
        """Seal a value and return where it lies: depth, number, start and sealed length."""
        self.count += 1
        sealed = self._seal(self.count, encode_value(value)[1])
        place = (0, self.count, self._length, len(sealed))
        self._contents.append(sealed)
        self._length += len(sealed)
        return place

    def finish(self, index: Index, recipients: Mapping[str, Identity]) -> bytes:
        """Return head and content, sealed to the recipients.

        Raises:
            Tampered: A recipient's public key is none.
        """
        plain = index.to_bytes()
        plain = plain.ljust(padded_index_length(len(plain), self._length), b"\x00")
        sealed = self._seal(INDEX, plain)
        del plain  # it holds keys, and a traceback that shows locals must not show them
        payload = KeyBytes(self._file_key + U64.pack(self._length))
        slots = [
            seal_to(identity.recipient, payload, slot_info(self._bundle_id, identity.fingerprint))
            for identity in recipients.values()
        ]
        while len(slots) & (len(slots) - 1):
            nobody = hybrid_public_key(secrets.token_bytes(HYBRID_PRIVATE_BYTES))
            slots.append(seal_to(nobody, payload, slot_info(self._bundle_id, secrets.token_bytes(16))))
        secrets.SystemRandom().shuffle(slots)
        content = b"".join((*self._contents, sealed))
        return head_to_bytes(self._bundle_id, slots) + U64.pack(len(content)) + content

    def _seal(self, number: int, content: bytes) -> bytes:
        key = message_key(self._file_key, self._bundle_id, number)
        return self._messages.seal(key, number, (content,))
