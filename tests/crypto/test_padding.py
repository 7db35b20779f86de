from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import padded_length, padme

sizes = st.one_of(st.integers(0, 70_000), st.integers(0, 2**31))


def padme_as_written(n: int) -> int:
    """The words of the format: `e = floor(log2 n)`, `s = floor(log2 e) + 1`, up to a multiple of `2^(e-s)`."""
    e = math.floor(math.log2(n))
    s = math.floor(math.log2(e)) + 1
    step: int = 2 ** (e - s)
    return math.ceil(n / step) * step


@given(n=st.integers(2, 2**31))
def test_padme_is_the_formula_of_the_format(n: int) -> None:
    assert padme(n) == padme_as_written(n)


def test_padme_is_the_formula_of_the_format_for_every_small_size() -> None:
    assert all(padme(n) == padme_as_written(n) for n in range(2, 70_000))


@given(n=sizes)
def test_padding_never_shortens_and_adds_at_most_12_percent(n: int) -> None:
    assert n <= padme(n) <= n * 1.12


@given(n=sizes, m=sizes)
def test_a_longer_plaintext_is_never_padded_to_less(n: int, m: int) -> None:
    assert (padme(n) <= padme(m)) or n > m


@given(n=sizes)
def test_a_padded_size_pads_to_itself(n: int) -> None:
    assert padme(padme(n)) == padme(n)


@pytest.mark.parametrize(("length", "padded"), [(0, 64), (9, 64), (63, 64), (64, 64), (65, 72), (1033, 1088)])
def test_values_are_padded_to_at_least_64_bytes(length: int, padded: int) -> None:
    assert padded_length(length) == padded


@pytest.mark.parametrize("length", [-1, -(2**40)])
def test_refuses_a_negative_length(length: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        padme(length)
