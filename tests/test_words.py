from __future__ import annotations

import pytest

from securecfg.words import counted


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (0, ("record",), "0 records"),
        (1, ("record",), "1 record"),
        (2, ("record",), "2 records"),
        (1, ("rule comes", "rules come"), "1 rule comes"),
        (3, ("rule comes", "rules come"), "3 rules come"),
    ],
)
def test_counts_as_people_do(number: int, words: tuple[str, ...], expected: str) -> None:
    assert counted(number, *words) == expected
