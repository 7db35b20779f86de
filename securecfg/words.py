"""How messages count."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 record`, `2 records`.

    Args:
        number: How many there are.
        one: What one of them is called.
        many: What several are called, where that is not the same with an `s`.
    """
    return f"{number} {one}" if number == 1 else f"{number} {many or f'{one}s'}"
