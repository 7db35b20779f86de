"""The rotator `random`, and the passwords that others make with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import CredentialRefused, InvalidRotation
from securecfg.rotation import open_rotator
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.passwords import ALPHABETS, CLASSES, new_password, take_rules
from securecfg.rotation.rotators.random import from_options
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import RotatorConformance, plain
from tests.rotation.targets import Nobody, run_of

if TYPE_CHECKING:
    from securecfg.rotation import Options, Rotator


class TestRandom(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture(params=["", "token"])
    def target(self, request: pytest.FixtureRequest) -> Nobody:
        name: str = request.param
        if not name:
            return Nobody({"length": "24"}, {"": Secret("the-current-value-4711")})
        return Nobody({"field": name}, {name: Secret("the-current-value-4711"), "owner": Secret("payments-team")})


def test_is_found_by_its_name() -> None:
    assert open_rotator("random", {}).target == "random"


@pytest.mark.parametrize("name", ["", "no-such", "../random", "Random", "x" * 300, "random\n"])
def test_refuses_a_name_that_there_is_not(name: str) -> None:
    with pytest.raises(InvalidRotation) as caught:
        open_rotator(name, {})
    assert caught.value.code == "invalid-rotation"
    assert "random" in caught.value.hint


def test_makes_a_first_value_where_there_is_none() -> None:
    value = from_options({}).propose(run_of()).value
    assert isinstance(value, Secret)
    assert len(value.reveal()) == 32


def test_leaves_other_fields_alone() -> None:
    current = {"token": Secret("old"), "owner": Secret("payments")}
    value = from_options({"field": "token"}).propose(run_of(current)).value
    assert not isinstance(value, Secret)
    assert plain(value)["owner"] == "payments"
    assert plain(value)["token"] != "old"


def test_replaces_no_fields_by_a_single_value() -> None:
    with pytest.raises(InvalidRotation) as caught:
        from_options({}).propose(run_of({"token": Secret("old")}))
    assert "field" in caught.value.hint
    with pytest.raises(InvalidRotation):
        from_options({"field": "token"}).propose(run_of({"": Secret("old")}))


def test_takes_nothing_for_no_value() -> None:
    with pytest.raises(CredentialRefused):
        from_options({}).verify({"": Secret("")}, run_of())


@pytest.mark.parametrize(
    "options",
    [
        {"length": "0"},
        {"length": "-1"},
        {"length": "9"},
        {"length": "1025"},
        {"length": "٣٢"},
        {"length": "9" * 5_000},
        {"length": "12.5"},
        {"length": Secret("32")},
        {"alphabet": "ab", "length": "63"},
        {"alphabet": ""},
        {"alphabet": "digits", "length": "19"},
        {"alphabet": "abc\x00def"},
        {"alphabet": "digits", "require": "upper"},
        {"require": "vowels"},
        {"alphabet": "".join(map(chr, range(0x4E00, 0x8000))) + "aA1!", "require": "lower,upper,digit,symbol"},
        {"exclude": ALPHABETS["alphanumeric"]},
        {"field": Secret("token")},
        {"lenght": "32"},
    ],
)
def test_refuses_rules_that_make_no_sense_or_weak_passwords(options: Options) -> None:
    with pytest.raises(InvalidRotation):
        from_options(options)


@pytest.mark.parametrize("name", sorted(ALPHABETS))
def test_a_password_is_of_its_alphabet_and_length(name: str) -> None:
    rules = take_rules(GivenOptions("random", {"alphabet": name, "length": "40", "exclude": "0"}))
    passwords = {new_password(rules) for _ in range(50)}
    assert len(passwords) == 50
    assert all(len(each) == 40 and set(each) <= set(ALPHABETS[name]) - {"0"} for each in passwords)


def test_a_password_has_what_it_requires() -> None:
    options = {"alphabet": "printable", "length": "12", "require": "lower,upper,digit,symbol"}
    rules = take_rules(GivenOptions("random", options))
    for _ in range(200):
        password = new_password(rules)
        assert all(set(password) & set(CLASSES[name]) for name in CLASSES)
