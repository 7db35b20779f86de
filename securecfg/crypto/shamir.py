"""Shamir's secret sharing over GF(2^8), byte by byte (format, section 4.10).

A share is the bytes of HashiCorp Vault's package `shamir`: one byte for each byte of the secret, then the x coordinate.
What is secret is only ever added, or multiplied by a number that everybody may know (an x coordinate, or a quotient of
such), so nothing secret is an index or decides a branch. All bytes of a secret are multiplied at once, as the lanes of
one integer. Python promises no constant time below that.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from securecfg.crypto.key_bytes import KeyBytes

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARES_MAX = 255
THRESHOLD_MIN = 2

_REDUCTION = 0x1B  # x^8 = x^4 + x^3 + x + 1


def split_secret(secret: bytes, threshold: int, count: int) -> tuple[KeyBytes, ...]:
    """Return the shares of a secret, with the x coordinates from 1 on.

    Args:
        secret: At least one byte; every byte is shared by itself.
        threshold: How many shares give the secret again; fewer say nothing of it.
        count: How many shares there are.

    Raises:
        ValueError: The secret is empty, or not 2 <= threshold <= count <= 255.
    """
    if not secret or not THRESHOLD_MIN <= threshold <= count <= SHARES_MAX:
        message = "a secret of at least one byte is split with 2 <= threshold <= count <= 255"
        raise ValueError(message)
    # Uniform, zeros included: a leading coefficient that is never zero would rule out one value of each byte.
    return _split(secret, [os.urandom(len(secret)) for _ in range(threshold - 1)], count)


def _split(secret: bytes, coefficients: Sequence[bytes], count: int) -> tuple[KeyBytes, ...]:
    """Return the shares for given coefficients, that of x first."""
    size = len(secret)
    terms = [int.from_bytes(term) for term in (secret, *coefficients)]
    shares = []
    for x in range(1, count + 1):
        value = 0
        for term in reversed(terms):
            value = _times(value, x, size) ^ term
        shares.append(KeyBytes(value.to_bytes(size) + bytes((x,))))
    return tuple(shares)


def interpolate(shares: Sequence[bytes], at: int = 0) -> KeyBytes:
    """Return the values at one point of the polynomials that go through all shares; at 0 they are the secret.

    Whether the shares belong together, and whether there are enough of them, nothing here can tell: another set gives
    other bytes.

    Args:
        shares: At least two, of one size.
        at: The x coordinate.

    Raises:
        ValueError: There are fewer than two, they differ in size or are empty, or two have the same x coordinate or
            one has 0.
    """
    sizes = {len(share) for share in shares}
    places = [share[-1] for share in shares if share]
    if len(shares) < THRESHOLD_MIN or len(sizes) != 1 or min(sizes) < 2 or len({0, *places}) != len(shares) + 1:  # noqa: PLR2004 - a byte and its x
        message = "at least two shares of one size with different x coordinates are put together"
        raise ValueError(message)
    size = sizes.pop() - 1
    value = 0
    for share in shares:
        value ^= _times(int.from_bytes(share[:-1]), _basis(share[-1], places, at), size)
    return KeyBytes(value.to_bytes(size))


def _basis(x: int, places: Sequence[int], at: int) -> int:
    """Return the value at a point of the Lagrange polynomial that is 1 at `x` and 0 at the other places."""
    over = under = 1
    for other in places:
        if other != x:
            over, under = _times(over, at ^ other, 1), _times(under, x ^ other, 1)
    # The 254th power is the inverse: the product of the squares from the second to the 128th power.
    for _ in range(7):
        under = _times(under, under, 1)
        over = _times(over, under, 1)
    return over


def _times(lanes: int, factor: int, size: int) -> int:
    """Return `size` bytes, each multiplied by a factor that is no secret."""
    ones = int.from_bytes(b"\x01" * size)
    product = 0
    while factor:
        if factor & 1:
            product ^= lanes
        # Every lane times x: its upper bit leaves the lane and comes back reduced.
        lanes = (lanes & ones * 0x7F) << 1 ^ (lanes >> 7 & ones) * _REDUCTION
        factor >>= 1
    return product
