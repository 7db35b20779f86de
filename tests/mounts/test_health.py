"""When a backend rests, who tries it, and how many calls there are."""

from __future__ import annotations

import pytest

from securecfg.errors import BackendUnavailable
from securecfg.mounts.health import FIRST_REST_S, LONGEST_REST_S, Breaker, Limits


class Time:
    """A clock that stands, and goes where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_one_caller_tries_a_backend_that_has_rested() -> None:
    time = Time()
    breaker = Breaker(time)
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    assert FIRST_REST_S / 2 <= breaker.rests_s <= FIRST_REST_S
    time.sleep(FIRST_REST_S)
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.failed()
    assert not breaker.admits()
    time.sleep(2 * FIRST_REST_S)
    assert breaker.admits()
    breaker.succeeded()
    assert [breaker.admits() for _ in range(3)] == [True, True, True]
    assert breaker.rests_s == 0


def test_a_backend_rests_longer_and_never_too_long() -> None:
    time = Time()
    breaker = Breaker(time)
    rests = []
    for _ in range(2_000):
        breaker.failed()
        rests.append(breaker.rests_s)
    assert max(rests[:1]) <= FIRST_REST_S
    assert all(LONGEST_REST_S / 2 <= rest <= LONGEST_REST_S for rest in rests[5:])
    assert len(set(rests)) > 1_000


def test_calls_come_at_once_and_then_one_after_the_other() -> None:
    time = Time()
    limits = Limits(10, time, time.sleep)
    for _ in range(10):
        limits.take()
    assert time.now == 0
    for _ in range(20):
        limits.take()
    assert time.now == pytest.approx(2.0)
    time.sleep(100)
    before = time.now
    for _ in range(10):
        limits.take()
    assert time.now == before


def test_more_than_can_be_waited_for_is_refused() -> None:
    time = Time()
    limits = Limits(1, time, lambda _: None)
    for _ in range(11):
        limits.take()
    with pytest.raises(BackendUnavailable):
        limits.take()


def test_without_limits_nobody_waits() -> None:
    time = Time()
    limits = Limits(0, time, time.sleep)
    for _ in range(1_000):
        limits.take()
    assert time.now == 0
