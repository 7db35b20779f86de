"""Calls of services: shared by all who ask the same, left behind in time, made again while that may help."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import SecretNotFound, Unavailable
from securecfg.flights import Flights, ask_again
from securecfg.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Pauses:
    """Notes how long is slept, and sleeps for no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        monkeypatch.setattr("securecfg.flights.time.sleep", self.slept.append)


def test_pauses_are_drawn_between_nothing_and_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    for _ in range(200):
        pauses = _Pauses(monkeypatch)
        with pytest.raises(Unavailable):
            ask_again(_fails(Unavailable("away")), Patience(60, (1.0, 2.0, 0.0)), Unavailable, lambda _: None)
        seen.append(pauses.slept)
    for place, longest in enumerate((1.0, 2.0, 0.0)):
        slept = {pauses[place] for pauses in seen}
        assert all(0 <= pause <= longest for pause in slept)
        assert len(slept) > 100 or not longest


def test_who_says_when_to_come_back_is_not_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = _Pauses(monkeypatch)
    error = Unavailable("too many requests")
    error.retry_after_s = 7.0
    answers: Iterator[Unavailable | str] = itertools.chain([error], itertools.repeat("answer"))

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    assert ask_again(ask, Patience(60, (0.1,)), Unavailable, lambda _: None) == "answer"
    assert pauses.slept == [7.0]


def test_who_says_to_come_back_too_late_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = _Pauses(monkeypatch)
    error = Unavailable("too many requests")
    error.retry_after_s = 61.0
    with pytest.raises(Unavailable):
        ask_again(_fails(error), Patience(60, (0.1,)), Unavailable, lambda _: None)
    assert pauses.slept == []


def test_what_does_not_pass_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = _Pauses(monkeypatch)
    with pytest.raises(SecretNotFound):
        ask_again(_fails(SecretNotFound("none")), Patience(60, (0.1,)), Unavailable, lambda _: None)
    assert pauses.slept == []


def test_each_who_waits_gets_an_error_of_its_own() -> None:
    original = SecretNotFound("none")
    with pytest.raises(SecretNotFound) as caught:
        Flights("test").fly("question", _fails(original), 10)
    assert caught.value is not original


def _fails(error: Exception):  # type: ignore[no-untyped-def]  # noqa: ANN202 - it returns nothing, and stands for any call
    def call() -> str:
        raise error

    return call
