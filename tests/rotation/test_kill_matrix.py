"""The simulated account and random values, cut off wherever they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.rotation import Strategy
from securecfg.rotation.rotators.random import from_options
from securecfg.rotation.values import text_of
from securecfg.secret import Secret
from securecfg.testing.account import Account
from securecfg.testing.rotation_kill_matrix import (
    Case,
    Point,
    RotationKillMatrix,
    SimulatedTime,
    Trouble,
    _Matrix,
)
from tests.rotation.targets import Nobody

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.rotation import Fields, Options, Rotator

FIRST = "first-password-4711"


class _AccountTarget:
    is_remote = True

    def __init__(self, strategy: Strategy) -> None:
        self.account = Account(FIRST, strategy)
        self.options: Options = {}
        self.current: Fields = {"username": Secret("shop"), "password": Secret(FIRST)}

    def accepts(self, value: Fields, /) -> bool:
        return self.account.accepts(text_of(value, "password").reveal())

    def hold(self, *values: Fields) -> None:
        self.account.set_accepted(*(text_of(value, "password").reveal() for value in values))

    def cut_off(self) -> None:
        raise NotImplementedError

    def restore(self) -> None:
        raise NotImplementedError


class TestAccount(RotationKillMatrix):
    def make(self, options: Options) -> Rotator:
        return self.held.account.rotator("account", options)

    @pytest.fixture(params=sorted(Strategy))
    def target(self, request: pytest.FixtureRequest) -> _AccountTarget:
        self.held = _AccountTarget(Strategy(request.param))
        return self.held


def test_a_rotation_that_had_not_begun_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    target = _AccountTarget(Strategy.OVERLAPPING)
    matrix = _Matrix(tmp_path, target, lambda options: target.account.rotator("account", options), SimulatedTime())
    nothing_begun = Case(Trouble.NONE, Point("commit", 1, is_after=False))
    assert matrix.run(nothing_begun) == (True, False)
    assert matrix.run(Case(Trouble.NONE, Point("commit", 2, is_after=True), is_cancelled=True)) == (True, True)
    assert matrix.run(nothing_begun._replace(is_cancelled=True)) == (True, False)


class TestRandom(RotationKillMatrix):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self) -> Nobody:
        return Nobody({}, {"": Secret(FIRST)})
