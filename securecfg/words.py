"""How messages count, and how they tell an age."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 record`, `2 records`.

    Args:
        number: How many there are.
        one: What one of them is called.
        many: What several are called, where that is not the same with an `s`.
    """
    return f"{number} {one}" if number == 1 else f"{number} {many or f'{one}s'}"


def brief_age(age_s: int) -> str:
    """Return an age in its largest unit, rounded down: `45 s`, `12 min`, `3 h`, `2 d`."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if age_s >= length_s:
            return f"{age_s // length_s} {unit}"
    return f"{age_s} s"
