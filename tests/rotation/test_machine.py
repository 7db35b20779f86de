"""The table of states, what each outcome leads to, and the bounds of what is repeated."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.rotation import machine
from securecfg.rotation.document import Rotation, Rules
from securecfg.rotation.machine import TRANSITIONS, IllegalTransition, Progress, State
from securecfg.rotation.runner import has_work

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN, OTHER = "a1" * 16, "b2" * 16
NOW = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
CONTRACT = Path(__file__).resolve().parents[2] / "docs/security/rotation.md"
ARROW = re.compile(r"^ +(\S+) --> ([^\s:]+)", re.MULTILINE)


def _at(state: State, **changes: object) -> Progress:
    failed_in = State.PENDING if state is State.FAILED else None
    progress = Progress(TOKEN, state, NOW, NOW, "due", version=2, candidates=1, failed_in=failed_in)
    return progress._replace(**changes)  # type: ignore[arg-type]  # by their names


def test_the_diagram_of_the_contract_is_the_table() -> None:
    drawn = ARROW.findall(CONTRACT.read_text("utf-8"))
    table = [(str(state), str(to)) for state, reached in TRANSITIONS.items() for to in reached]
    ends = [(str(state), "[*]") for state in machine.OVER]
    assert sorted(drawn) == sorted([("[*]", "begun"), *ends, *table])


def test_every_state_has_a_line_in_the_contract_and_can_be_reached_and_left() -> None:
    text = CONTRACT.read_text("utf-8")
    for state in State:
        assert f"| `{state}` |" in text
        assert state is State.BEGUN or any(state in reached for reached in TRANSITIONS.values())
        assert bool(TRANSITIONS[state]) is (state not in machine.OVER)


# What each outcome leads to, by the state that it comes from.
OUTCOMES: dict[str, tuple[Callable[[Progress], Progress], State]] = {
    "proposed": (lambda at: machine.proposed(at, 3), State.PENDING),
    "applied": (machine.applied, State.SET),
    "tested": (machine.tested, State.TESTED),
    "swapped": (lambda at: machine.swapped(at, 1, NOW, 60 * SECOND), State.CURRENT),
    "released": (machine.released, State.PREVIOUS),
    "retired": (machine.retired, State.RETIRED),
    "rejected": (
        lambda at: machine.rejected(at._replace(rejections=1), OTHER, NOW, "candidate-rejected", 0.5),
        State.BEGUN,
    ),
    "failed": (lambda at: machine.failed(at, NOW, "denied"), State.FAILED),
    "cancelled": (machine.cancelled, State.CANCELLED),
}


@pytest.mark.parametrize(("name", "state"), list(product(OUTCOMES, State)))
def test_an_outcome_is_refused_where_the_table_has_it_not(name: str, state: State) -> None:
    outcome, to = OUTCOMES[name]
    if to in TRANSITIONS[state]:
        assert outcome(_at(state)).state is to
    else:
        with pytest.raises(IllegalTransition):
            outcome(_at(state))


@pytest.mark.parametrize("state", State)
def test_only_what_has_failed_is_retried(state: State) -> None:
    if state is State.FAILED:
        assert machine.retry(_at(state)).state is State.PENDING
        return
    for retry in (machine.retry, lambda at: machine.retry_anew(at, OTHER, NOW)):
        with pytest.raises(IllegalTransition):
            retry(_at(state))


@pytest.mark.parametrize("state", sorted(TRANSITIONS[State.FAILED]))
def test_goes_on_in_the_state_in_which_it_failed_and_asks_first_what_is_accepted(state: State) -> None:
    before = _at(state, setbacks=2, rejections=1, candidates=3, attempts=7, tried_ns=NOW)
    failed = machine.failed(before, NOW, "credential-refused")
    assert (failed.failed_in, failed.reason, failed.is_known) == (state, "credential-refused", False)
    again = machine.retry(failed)
    assert again.state is state
    assert (again.setbacks, again.rejections, again.attempts, again.tried_ns, again.reason) == (0, 0, 0, 0, "")
    assert again.candidates == 1
    assert not again.is_known
    assert again.failed_in is None


def test_another_candidate_is_made_under_another_token_where_the_first_is_gone() -> None:
    again = machine.retry_anew(machine.failed(_at(State.SET), NOW, "version-not-found"), OTHER, NOW + 1)
    assert (again.state, again.token, again.since_ns, again.version) == (State.BEGUN, OTHER, NOW + 1, 0)
    for state in (State.PREVIOUS, State.CANCELLING):
        with pytest.raises(IllegalTransition):
            machine.retry_anew(machine.failed(_at(state), NOW, "version-not-found"), OTHER, NOW)


@pytest.mark.parametrize("state", State)
def test_is_taken_back_only_before_the_swap(state: State) -> None:
    if state in machine.BEFORE_SWAP or state is State.FAILED:
        after = machine.cancel(_at(state, setbacks=2, attempts=4, not_before_ns=NOW + HOUR, tried_ns=NOW))
        assert after.state is State.CANCELLING
        assert (after.setbacks, after.attempts, after.not_before_ns, after.tried_ns) == (0, 0, 0, 0)
        assert not after.is_known
    else:
        with pytest.raises(IllegalTransition):
            machine.cancel(_at(state))
    with pytest.raises(IllegalTransition):
        machine.cancel(machine.failed(_at(State.PREVIOUS), NOW, "denied"))


def test_what_went_well_forgets_what_went_wrong() -> None:
    before = _at(State.PENDING, attempts=5, not_before_ns=NOW, reason="target-unavailable", is_known=False)
    after = machine.applied(before)
    assert (after.attempts, after.not_before_ns, after.reason, after.is_known) == (0, 0, "", True)


def test_pauses_double_from_five_seconds_up_to_an_hour_and_are_at_least_half() -> None:
    for jitter in (0.0, 0.5, 0.999):
        progress, pauses = _at(State.PENDING), []
        for _ in range(60):
            progress = machine.unavailable(progress, NOW, "target-unavailable", jitter)
            pauses.append((progress.not_before_ns - NOW) / SECOND)
        expected = [min(5.0 * 2**number, 3_600.0) * (1 + jitter) / 2 for number in range(60)]
        assert pauses == pytest.approx(expected)
    assert not progress.is_known
    assert progress.attempts == 60
    assert progress.reason == "target-unavailable"


@pytest.mark.parametrize("attempts", [40, 1_000, (1 << 63) - 1])
def test_no_number_of_attempts_makes_a_pause_longer_than_an_hour(attempts: int) -> None:
    after = machine.unavailable(_at(State.PENDING, attempts=attempts), NOW, "target-unavailable", 0.999)
    assert HOUR / 2 <= after.not_before_ns - NOW <= HOUR
    later = machine.not_yet(_at(State.SET, attempts=attempts, tried_ns=NOW), NOW, "credential-refused", 60 * SECOND)
    assert later.not_before_ns - NOW == 5 * SECOND


@pytest.mark.parametrize(("wanted_s", "pause_s"), [(0, 3.75), (3, 3.75), (60, 60), (10**9, 3_600), (-5, 3.75)])
def test_a_target_is_left_alone_as_long_as_it_wants_up_to_an_hour(wanted_s: int, pause_s: float) -> None:
    after = machine.unavailable(_at(State.PENDING), NOW, "target-unavailable", 0.5, wanted_s * SECOND)
    assert (after.not_before_ns - NOW) / SECOND == pause_s


def test_a_candidate_is_rejected_twice_before_there_is_another_and_three_are_made() -> None:
    progress, tokens = _at(State.PENDING, rejections=0), [TOKEN]
    for number in range(1, 4):
        once = machine.rejected(progress, OTHER, NOW, "candidate-rejected", 0.5)
        assert (once.state, once.rejections, once.token) == (State.PENDING, 1, tokens[-1])
        assert once.not_before_ns > NOW
        twice = machine.rejected(once, f"{number:032x}", NOW + 5, "candidate-rejected", 0.5)
        if number == 3:
            break
        assert (twice.state, twice.token, twice.since_ns) == (State.BEGUN, f"{number:032x}", NOW + 5)
        assert (twice.version, twice.rejections, twice.not_before_ns) == (0, 0, 0)
        tokens.append(twice.token)
        progress = machine.proposed(twice, number + 2)
    assert (twice.state, twice.failed_in, twice.token) == (State.FAILED, State.PENDING, tokens[-1])


def test_a_refused_login_fails_the_third_time() -> None:
    progress = _at(State.PREVIOUS)
    for number in (1, 2):
        progress = machine.refused(progress, NOW, "credential-refused", 0.5)
        assert (progress.state, progress.setbacks) == (State.PREVIOUS, number)
        assert not progress.is_known
    assert machine.refused(progress, NOW, "credential-refused", 0.5).state is State.FAILED


def test_setbacks_before_the_swap_do_not_count_after_it() -> None:
    swapped = machine.swapped(_at(State.TESTED, setbacks=2, tried_ns=NOW), 1, NOW, 0)
    assert (swapped.setbacks, swapped.tried_ns) == (0, 0)


def test_a_slow_target_is_tried_until_its_deadline_and_told_again_three_times() -> None:
    progress, now = _at(State.SET), NOW
    for number in (1, 2, 3):
        first = now
        while progress.state is State.SET:
            progress = machine.not_yet(progress, now, "credential-refused", 60 * SECOND)
            assert 0 <= progress.not_before_ns - now <= 5 * SECOND or progress.state is not State.SET
            now = max(now, progress.not_before_ns)
        assert now - first == 60 * SECOND
        if number < 3:
            assert (progress.state, progress.setbacks, progress.is_known) == (State.PENDING, number, False)
            progress = machine.applied(progress)
    assert progress.state is State.FAILED


@pytest.mark.parametrize("state", [State.PREVIOUS, State.CANCELLING])
def test_what_is_current_is_not_applied_again_and_again_for_ever(state: State) -> None:
    once = machine.not_yet(_at(state), NOW, "credential-refused", 60 * SECOND)
    assert once.state is state
    late = machine.not_yet(once, NOW + 60 * SECOND, "credential-refused", 60 * SECOND)
    assert (late.state, late.failed_in) == (State.FAILED, state)


def test_no_propagation_time_is_no_wait() -> None:
    assert machine.not_yet(_at(State.SET), NOW, "credential-refused", 0).state is State.PENDING


def test_a_clock_that_was_put_back_makes_no_slow_target_wait_for_ever() -> None:
    after = machine.not_yet(_at(State.SET, tried_ns=NOW + 10 * HOUR), NOW, "credential-refused", 60 * SECOND)
    assert after.state is State.PENDING


def _rotation(progress: Progress, **rules: object) -> Rotation:
    return Rotation(7, "app/db", Rules("random", **rules), "user:ada", progress=progress)  # type: ignore[arg-type]  # by their names


@pytest.mark.parametrize("state", sorted(machine.BEFORE_SWAP | {State.PREVIOUS, State.CANCELLING}))
def test_a_clock_that_was_put_back_makes_no_pause_longer_than_an_hour(state: State) -> None:
    assert not has_work(_rotation(_at(state, not_before_ns=NOW + HOUR)), NOW)
    assert has_work(_rotation(_at(state, not_before_ns=NOW + HOUR + 1)), NOW)
    assert has_work(_rotation(_at(state, not_before_ns=NOW)), NOW)


@pytest.mark.parametrize("state", [State.FAILED, *sorted(machine.OVER)])
def test_nothing_is_done_where_a_person_is_needed_or_it_is_over(state: State) -> None:
    assert not has_work(_rotation(_at(state)), NOW)


def test_nothing_is_done_while_paused() -> None:
    assert has_work(_rotation(_at(State.BEGUN)), NOW)
    assert not has_work(_rotation(_at(State.BEGUN))._replace(is_paused=True), NOW)


def test_the_grace_begins_anew_where_the_clock_was_put_back() -> None:
    swapped = machine.swapped(_at(State.TESTED), 1, NOW, 2 * HOUR)
    assert not has_work(_rotation(swapped), NOW)
    assert not has_work(_rotation(swapped), NOW + 2 * HOUR - 1)
    assert has_work(_rotation(swapped), NOW + 2 * HOUR)
    earlier = NOW - 1_000 * HOUR
    assert has_work(_rotation(swapped), earlier)
    again = machine.swapped_later(swapped, earlier, 2 * HOUR)
    assert not has_work(_rotation(again), earlier)
    assert has_work(_rotation(again), earlier + 2 * HOUR)
    with pytest.raises(IllegalTransition):
        machine.swapped_later(_at(State.PREVIOUS), NOW, 0)


def test_the_grace_ends_when_every_consumer_has_the_new_version_and_not_before() -> None:
    at = machine.swapped(_at(State.TESTED), 1, NOW, 2 * HOUR)
    consumers = ("svc:a", "svc:b")
    for principal in ("svc:b", "svc:b", "svc:other"):
        at = machine.acknowledged(at, principal)
        assert not has_work(_rotation(at, consumers=consumers), NOW)
    at = machine.acknowledged(at, "svc:a")
    assert at.acknowledged == ("svc:a", "svc:b", "svc:other")
    assert has_work(_rotation(at, consumers=consumers), NOW)
    assert not has_work(_rotation(at), NOW)


@pytest.mark.parametrize("state", sorted(set(State) - {State.CURRENT}))
def test_only_what_is_current_is_acknowledged(state: State) -> None:
    with pytest.raises(IllegalTransition):
        machine.acknowledged(_at(state), "svc:a")
