"""Who is at work: nobody takes over from one that is alive, and everybody from one that is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from securecfg.rotation.document import Holder, Rotation, Rules, Stored
from securecfg.rotation.lease import Leases, elapsed_s, start_of, this_process

RECORD = 7


class _Watch:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _stored(holder: str | None, number: int = 1, lease_s: int = 30) -> Stored:
    held = None if holder is None else Holder(holder, lease_s)
    return Stored(Rotation(RECORD, "app/db", Rules("random"), "user:ada", holder=held), number)


@pytest.fixture
def watch() -> _Watch:
    return _Watch()


@pytest.fixture
def leases(watch: _Watch) -> Leases:
    return Leases("me", watch)


def test_takes_what_nobody_holds_and_what_it_holds_itself(leases: Leases) -> None:
    assert leases.may_take(_stored(None))
    assert leases.free_in_s(_stored(None)) == 0
    assert leases.may_take(_stored("me"))


def test_waits_for_the_whole_time_of_a_lease_by_its_own_clock(leases: Leases, watch: _Watch) -> None:
    assert not leases.may_take(_stored("other"))
    watch.now += 29.9
    assert not leases.may_take(_stored("other"))
    assert leases.free_in_s(_stored("other")) == pytest.approx(0.1)
    watch.now += 0.1
    assert leases.may_take(_stored("other"))


def test_giving_up_a_try_forgets_nothing_of_what_was_seen(leases: Leases, watch: _Watch) -> None:
    for _ in range(3):
        assert not leases.may_take(_stored("other"))
        leases.ended(RECORD)
        watch.now += 10
    assert leases.may_take(_stored("other"))


def test_a_sign_of_life_begins_the_wait_anew(leases: Leases, watch: _Watch) -> None:
    assert not leases.may_take(_stored("other", 1))
    watch.now += 29
    assert not leases.may_take(_stored("other", 2))
    watch.now += 29
    assert not leases.may_take(_stored("other", 2))
    watch.now += 1
    assert leases.may_take(_stored("other", 2))


def test_waits_as_long_as_the_holder_said_and_not_as_long_as_it_would_itself(watch: _Watch) -> None:
    leases = Leases("me", watch, lease_s=1)
    assert not leases.may_take(_stored("other", lease_s=120))
    watch.now += 119
    assert not leases.may_take(_stored("other", lease_s=120))


def test_a_lease_of_its_own_is_good_from_before_it_was_stored(leases: Leases, watch: _Watch) -> None:
    assert leases.left_s(RECORD) == 0
    leases.taken(RECORD, watch.now)
    watch.now += 12
    assert leases.left_s(RECORD) == 18
    watch.now += 20
    assert leases.left_s(RECORD) < 0
    leases.taken(RECORD, watch.now)
    leases.ended(RECORD)
    assert leases.left_s(RECORD) == 0


def test_no_two_holders_of_a_process_are_called_the_same() -> None:
    assert len({this_process() for _ in range(100)}) == 100
    assert Leases().holder.id != Leases().holder.id


def test_does_not_take_over_from_a_living_process(leases: Leases) -> None:
    assert not leases.may_take(_stored(this_process()))


def _other_process(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def test_takes_over_at_once_from_a_process_of_this_machine_that_is_gone(leases: Leases) -> None:
    code = "from securecfg.rotation.lease import this_process; print(this_process(), flush=True); input()"
    with _other_process(code) as other:
        assert other.stdout is not None
        holder = other.stdout.readline().strip()
        assert not leases.may_take(_stored(holder))
        other.communicate("\n")
    assert leases.may_take(_stored(holder))


def test_another_process_with_the_number_of_one_that_is_gone_is_not_taken_for_it(leases: Leases) -> None:
    where, pid, _, rest = this_process().split("/")
    assert leases.may_take(_stored(f"{where}/{pid}/1/{rest}"))


def test_a_process_that_cannot_be_looked_at_is_alive(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = this_process()
    monkeypatch.setattr("securecfg.rotation.lease._started", lambda _: "")
    assert not leases.may_take(_stored(holder))

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError(pid, signal)

    monkeypatch.setattr(os, "kill", refuse)
    assert not leases.may_take(_stored(holder))


@pytest.mark.parametrize(
    "holder",
    ["", "/", "///", "x/1/2/3", "{where}", "{where}/", "{where}/-1/2/3", "{where}/0/2/3", "{where}/٣/2/3",
     "{where}/" + "9" * 5_000 + "/2/3", "{where}/{pid}", "{where}/{pid}//x", "/{pid}/1/x", "other-boot:1/{pid}/1/x"],
)  # fmt: skip
def test_of_what_it_does_not_know_it_takes_nobody_for_gone(leases: Leases, holder: str) -> None:
    where = this_process().partition("/")[0]
    assert not leases.may_take(_stored(holder.format(where=where, pid=os.getpid())))


@pytest.mark.parametrize("status", [b"", b"17 (sh", b"17 (sh) S 1 2 3", b"17 (a) b) S" + b" 1" * 18])
def test_what_says_no_start_of_a_process_says_none(status: bytes) -> None:
    assert start_of(status) == ""
    assert start_of(b"17 (a) 9 b) S" + b" 1" * 18 + b" 4711 8") == "4711"


def test_the_clock_of_leases_goes_on() -> None:
    first = elapsed_s()
    assert elapsed_s() >= first > 0
