"""Padding that hides the size of a value: Padmé (format, section 5.2)."""

from __future__ import annotations

SMALLEST_BYTES = 64


def padme(length: int) -> int:
    """Return the padded size of a plaintext of `length` bytes.

    At most 12 % are added, and what is left of the size is `O(log log n)` bits (Nikitin et al., PETS 2019).

    Raises:
        ValueError: The length is negative.
    """
    if length < 0:
        message = "a length is not negative"
        raise ValueError(message)
    exponent = length.bit_length() - 1
    if exponent < 1:
        return length
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


def padded_length(length: int) -> int:
    """Return the size to which the plaintext of a value is padded: Padmé, at least 64 bytes.

    Raises:
        ValueError: The length is negative.
    """
    return SMALLEST_BYTES if 0 <= length <= SMALLEST_BYTES else padme(length)
