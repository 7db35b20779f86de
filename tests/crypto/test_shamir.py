"""Section 4.10 of the format: the arithmetic of shares, and that it is that of others."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import interpolate, split_secret
from securecfg.crypto.shamir import _split, _times
from tests.vectors.generate_keys import times

VAULT_SETS = json.loads((Path(__file__).parent / "vault_shares.json").read_text())["sets"]
SECRET = bytes(range(100, 132))

secrets = st.binary(min_size=1, max_size=40)
bytes_ = st.integers(0, 255)


# --- shares made elsewhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(VAULT_SETS)))
def test_puts_together_what_hashicorp_vault_split(number: int) -> None:
    made = VAULT_SETS[number]
    shares = [bytes.fromhex(share) for share in made["shares"]]
    for chosen in combinations(shares, made["threshold"]):
        assert interpolate(chosen).hex() == made["secret"]
    assert interpolate(shares).hex() == made["secret"]


def test_agrees_with_the_example_of_threshold_secret_sharing() -> None:
    # draft-mcgrew-tss-03, the appendix with test cases: the same field, the index beside the bytes.
    shares = [bytes.fromhex("b9fa07e185") + b"\x01", bytes.fromhex("f5409b4511") + b"\x02"]
    assert interpolate(shares) == b"test\x00"


def test_splits_into_the_values_of_the_polynomial() -> None:
    # x^2 * 5 + x * 3 + 7 in GF(2^8), and one byte of which the product is reduced.
    assert [share.hex() for share in _split(b"\x07\x80", [b"\x03\x80", b"\x05\x00"], 3)] == [
        "010001",
        "159b02",
        "131b03",
    ]


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_multiplies_bytes_as_polynomials() -> None:
    assert all(_times(a, b, 1) == times(a, b) for a in range(256) for b in range(256))


@given(lanes=st.lists(bytes_, min_size=1, max_size=40), factor=bytes_)
def test_lanes_do_not_touch_each_other(lanes: list[int], factor: int) -> None:
    product = _times(int.from_bytes(lanes), factor, len(lanes)).to_bytes(len(lanes))
    assert list(product) == [times(lane, factor) for lane in lanes]


# --- properties -------------------------------------------------------------------------------------------------------


@given(secret=secrets, threshold=st.integers(2, 6), more=st.integers(0, 5), data=st.data())
def test_any_threshold_of_the_shares_give_the_secret(
    secret: bytes, threshold: int, more: int, data: st.DataObject
) -> None:
    shares = split_secret(secret, threshold, threshold + more)
    chosen = data.draw(st.permutations(shares))[: data.draw(st.integers(threshold, len(shares)))]
    assert interpolate(chosen) == secret
    for share in shares:
        assert interpolate(chosen, share[-1]) == share[:-1]


def test_fewer_than_the_threshold_say_nothing_of_the_secret() -> None:
    # Whatever the secret is, each pair of shares occurs for exactly one choice of the coefficients.
    for secret in (0, 1, 0x53, 255):
        pairs = {
            tuple(share[0] for share in _split(bytes((secret,)), [bytes((first,)), bytes((second,))], 2))
            for first in range(256)
            for second in range(256)
        }
        assert len(pairs) == 65_536


def test_draws_other_coefficients_every_time() -> None:
    assert len({share for _ in range(100) for share in split_secret(SECRET, 2, 2)}) == 200


def test_the_largest_set_is_put_together() -> None:
    shares = split_secret(SECRET, 255, 255)
    assert [share[-1] for share in shares] == list(range(1, 256))
    assert interpolate(shares) == SECRET
    assert interpolate(shares[1:]) != SECRET


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "threshold", "count"),
    [(b"", 2, 3), (b"x", 0, 3), (b"x", 1, 3), (b"x", -2, 3), (b"x", 4, 3), (b"x", 2, 256), (b"x", 256, 256)],
)
def test_refuses_to_split_what_cannot_be_put_together(secret: bytes, threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split_secret(secret, threshold, count)


@pytest.mark.parametrize(
    "shares",
    [
        [],
        [b"a\x01"],
        [b"a\x01", b"b\x01"],
        [b"a\x00", b"b\x01"],
        [b"a\x01", b"b\x02", b"c\x01"],
        [b"a\x01", b"bb\x02"],
        [b"\x01", b"\x02"],
        [b"", b""],
        [b"a\x01", b""],
    ],
)
def test_refuses_shares_that_cannot_be_put_together(shares: list[bytes]) -> None:
    with pytest.raises(ValueError, match="shares"):
        interpolate(shares)
