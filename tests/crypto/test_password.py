from __future__ import annotations

import pytest

from securecfg.crypto import DEFAULT_COSTS, FORMAT_LIMIT, Argon2Costs, stretch

# From the reference implementation's own test program (phc-winner-argon2, `src/test.c`, version 0x13).
KNOWN = [
    (Argon2Costs(256, 2, 1), "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"),
    (Argon2Costs(256, 2, 2), "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"),
    (Argon2Costs(65536, 1, 1), "f6a5adc1ba723dddef9b5ac1d464e180fcd9dffc9d1cbf76cca2fed795d9ca98"),
]


@pytest.mark.parametrize(("costs", "key"), KNOWN, ids=["one lane", "two lanes", "64 MiB"])
def test_gives_the_keys_of_the_reference_implementation(costs: Argon2Costs, key: str) -> None:
    assert stretch("password", b"somesalt", costs).hex() == key


def test_two_spellings_of_the_same_text_give_the_same_key() -> None:
    costs = Argon2Costs(64, 1, 1)
    assert stretch("caf\u00e9", bytes(16), costs) == stretch("cafe\u0301", bytes(16), costs)
    assert stretch("cafe", bytes(16), costs) != stretch("caf\u00e9", bytes(16), costs)


@pytest.mark.parametrize(
    "costs",
    [Argon2Costs(7, 1, 1), Argon2Costs(15, 1, 2), Argon2Costs(64, 0, 1), Argon2Costs(64, 1, 0), Argon2Costs(0, 0, 0)],
)
def test_costs_that_the_rfc_does_not_allow_are_not_computable(costs: Argon2Costs) -> None:
    assert not costs.is_computable()
    with pytest.raises(ValueError, match=r"."):
        stretch("password", bytes(16), costs)


@pytest.mark.parametrize("passphrase", ["", "\ud800"])
def test_refuses_an_empty_passphrase_and_one_that_is_not_text(passphrase: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        stretch(passphrase, bytes(16), DEFAULT_COSTS)


@pytest.mark.parametrize("costs", [Argon2Costs(8, 1, 1), DEFAULT_COSTS, FORMAT_LIMIT])
def test_the_smallest_the_default_and_the_largest_costs_are_computable(costs: Argon2Costs) -> None:
    assert costs.is_computable()
    assert Argon2Costs.from_bytes(costs.to_bytes()) == costs


@pytest.mark.parametrize("above", [Argon2Costs(65, 3, 4), Argon2Costs(64, 4, 4), Argon2Costs(64, 3, 5)])
def test_any_one_cost_above_the_limit_exceeds_it(above: Argon2Costs) -> None:
    limit = Argon2Costs(64, 3, 4)
    assert above.exceeds(limit)
    assert not limit.exceeds(limit)
    assert not limit.exceeds(above)
