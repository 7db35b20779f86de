"""Keys from passphrases: Argon2id (RFC 9106)."""

from __future__ import annotations

import struct
import unicodedata
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from securecfg.crypto.derive import KEY_BYTES
from securecfg.crypto.key_bytes import KeyBytes

SALT_BYTES = 16
PARAMS_BYTES = SALT_BYTES + 6

_COSTS = struct.Struct(">IBB")


@dataclass(frozen=True, slots=True)
class Argon2Costs:
    """What one guess of a passphrase costs.

    Attributes:
        memory_kib: Memory in KiB.
        passes: Passes over the memory.
        lanes: Lanes computed in parallel.
    """

    memory_kib: int
    passes: int
    lanes: int

    def exceeds(self, limit: Argon2Costs) -> bool:
        """Return whether any cost is above the limit's."""
        return self.memory_kib > limit.memory_kib or self.passes > limit.passes or self.lanes > limit.lanes

    def is_below(self, other: Argon2Costs) -> bool:
        """Return whether a guess costs less memory, or less memory times passes. Lanes only spread the work."""
        work, enough = self.memory_kib * self.passes, other.memory_kib * other.passes
        return self.memory_kib < other.memory_kib or work < enough

    def is_computable(self) -> bool:
        """Return whether RFC 9106, section 3.1, allows these costs."""
        return self.passes >= 1 and self.lanes >= 1 and self.memory_kib >= 8 * self.lanes

    def to_bytes(self) -> bytes:
        """Return the six bytes of the format."""
        return _COSTS.pack(self.memory_kib, self.passes, self.lanes)

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        """Return the costs that six bytes hold, computable or not."""
        return cls(*_COSTS.unpack(encoded))


DEFAULT_COSTS = Argon2Costs(memory_kib=64 * 1024, passes=3, lanes=4)
"""About 0.1 s on a server core; the second recommendation of RFC 9106, section 4."""

FORMAT_LIMIT = Argon2Costs(memory_kib=2 * 1024 * 1024, passes=16, lanes=16)
"""What no slot may exceed, so that a hostile file cannot exhaust the machine that opens it."""


def stretch(passphrase: str, salt: bytes, costs: Argon2Costs) -> KeyBytes:
    """Return the 32 bytes that Argon2id makes of a passphrase in NFC and UTF-8.

    The limits are the caller's to check: this spends whatever the costs ask for.

    Raises:
        ValueError: The passphrase is empty or has lone surrogates, or the costs are not computable.
        MemoryError: The machine does not have the memory.
    """
    if not passphrase:
        message = "the passphrase is empty"
        raise ValueError(message)
    derivation = Argon2id(
        salt=salt, length=KEY_BYTES, iterations=costs.passes, lanes=costs.lanes, memory_cost=costs.memory_kib
    )
    return KeyBytes(derivation.derive(unicodedata.normalize("NFC", passphrase).encode()))
