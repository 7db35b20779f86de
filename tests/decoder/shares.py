"""Shares of a key: format.md section 4.10."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from tests.decoder.octets import u8
from tests.decoder.refusals import demand

if TYPE_CHECKING:
    from collections.abc import Mapping


def _exponentials() -> list[int]:
    """The powers of the generator 3 of GF(2^8)."""
    powers = [1]
    while len(powers) < 255:
        doubled = powers[-1] << 1
        powers.append(powers[-1] ^ (doubled ^ 0x11B if doubled > 255 else doubled))
    return powers


EXP = _exponentials()
LOG = {power: exponent for exponent, power in enumerate(EXP)}


def _ratio(over: int, under: int) -> int:
    return EXP[(LOG[over] - LOG[under]) % 255] if over else 0


def _product(a: int, b: int) -> int:
    return EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0


@dataclass(frozen=True, slots=True)
class Shares:
    """The key of slots of kind 10: section 4.10."""

    texts: tuple[str, ...]
    kind = 10

    def kek(self, params: bytes, _place: bytes) -> bytes:
        shares = [self._parse(text) for text in self.texts]
        demand(bool(shares), "no shares")
        sets = {share[:3] for share in shares}
        demand(len(sets) == 1, "shares of different sets")
        set_id, threshold, total = sets.pop()
        points = {share[3][-1]: share[3][:-1] for share in shares}
        demand(len(points) == len(shares), "a share twice")
        demand(len(points) >= threshold, "too few shares")
        demand(params == u8(threshold) + u8(total) + set_id, "shares of another slot")
        enough = dict(list(points.items())[:threshold])
        for x, y in points.items():
            demand(value_at(enough, x) == y, "a share that is not on the polynomial of the others")
        return value_at(enough, 0)

    @staticmethod
    def _parse(text: str) -> tuple[bytes, int, int, bytes]:
        number = "(0|[1-9][0-9]*)"
        pattern = f"(SECURECFG-SHARE-1-([0-9a-f]{{16}})-{number}of{number}-{number}-([\\w-]{{44}}))-([0-9a-f]{{8}})\n?"
        line = re.fullmatch(pattern, text, re.ASCII)
        demand(line is not None, "not a share")
        assert line is not None
        demand(sha256(line[1].encode()).hexdigest()[:8] == line[7], "a share with a wrong check")
        threshold, total, x = (int(line[place]) for place in (3, 4, 5))
        raw = base64.urlsafe_b64decode(line[6])
        demand(2 <= threshold <= total <= 255 and 1 <= x <= total and raw[-1] == x, "numbers that cannot be")
        return bytes.fromhex(line[2]), threshold, total, raw


def value_at(points: Mapping[int, bytes], at: int) -> bytes:
    """Lagrange's formula, term by term."""
    values = bytearray(32)
    for x, y in points.items():
        factor = 1
        for other in points:
            if other != x:
                factor = _product(factor, _ratio(at ^ other, x ^ other))
        for place in range(32):
            values[place] ^= _product(y[place], factor)
    return bytes(values)
