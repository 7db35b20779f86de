"""The simulated account and random values, cut off wherever they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.rotation import Strategy
from securecfg.rotation.rotators.random import from_options
from securecfg.rotation.values import text_of
from securecfg.secret import Secret
from securecfg.testing.account import Account
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix

if TYPE_CHECKING:
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


class _Nobody:
    is_remote = False

    def __init__(self) -> None:
        self.options: Options = {}
        self.current: Fields = {"": Secret(FIRST)}

    def accepts(self, value: Fields, /) -> bool:
        return bool(value)

    def cut_off(self) -> None:
        """Nothing is reached."""

    def restore(self) -> None:
        """Nothing was reached."""


class TestRandom(RotationKillMatrix):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self) -> _Nobody:
        return _Nobody()
