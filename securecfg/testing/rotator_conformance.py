# ruff: noqa: D102, S101 - a suite of tests: names are sentences, asserts are the point
"""What every rotator must do; subclass `RotatorConformance`, say how to make one and its target, let pytest run it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import pytest

from securecfg.errors import CredentialRefused, InvalidRotation, SecurecfgError, TargetUnavailable
from securecfg.rotation import Run, Strategy
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.rotation import Fields, Options, Rotator

TIMEOUT_S = 10.0
_TOKENS = ("a1" * 16, "b2" * 16)


class RotationTarget(Protocol):
    """A target that is prepared for one test: it accepts one credential, and nobody else uses it.

    Attributes:
        options: What the rotator is told.
        current: A value that the target accepts.
        is_remote: Whether it can be out of reach; False for what needs no target.
    """

    options: Options
    current: Fields
    is_remote: bool

    def accepts(self, value: Fields, /) -> bool:
        """Return whether a login with a value works, found out without the rotator."""
        ...

    def cut_off(self) -> None:
        """Be out of reach from now on; only where `is_remote`."""
        ...

    def restore(self) -> None:
        """Be within reach again."""
        ...


class RotatorConformance:
    """The obligations of section 6 of `docs/security/rotation.md`."""

    def make(self, options: Options) -> Rotator:
        """Return a rotator: what its factory returns."""
        raise NotImplementedError

    def spoil(self, rotator: Rotator, value: Fields) -> Fields:
        """Return a value of the same login that nobody accepts.

        One that is proposed and not applied, unless a suite for a target that issues credentials says otherwise.
        """
        candidate = rotator.propose(Run(_TOKENS[1], datetime.now(UTC), TIMEOUT_S, value)).value
        return {"": candidate} if isinstance(candidate, Secret) else candidate

    @pytest.fixture
    def target(self) -> RotationTarget:
        raise NotImplementedError

    @pytest.fixture
    def rotator(self, target: RotationTarget) -> Rotator:
        return self.make(target.options)

    def test_calls_nothing_before_it_is_asked(self, target: RotationTarget) -> None:
        if target.is_remote:
            target.cut_off()
        rotator = self.make(target.options)
        assert rotator.strategy in Strategy
        assert rotator.target
        assert isinstance(rotator.identity, frozenset)

    def test_refuses_an_option_that_it_does_not_know(self, target: RotationTarget) -> None:
        with pytest.raises(InvalidRotation):
            self.make({**target.options, "no-such-option": "1"})

    def test_accepts_the_current_value(self, target: RotationTarget, rotator: Rotator) -> None:
        rotator.verify(target.current, begin(target))
        assert target.accepts(target.current)

    def test_proposes_another_value_for_the_same_login(self, target: RotationTarget, rotator: Rotator) -> None:
        run = propose(rotator, begin(target))
        assert plain(run.pending) != plain(target.current)
        if rotator.strategy is not Strategy.TWO_USERS:
            assert _identity(rotator, run.pending) == _identity(rotator, target.current)

    def test_a_candidate_is_accepted_once_it_is_applied(self, target: RotationTarget, rotator: Rotator) -> None:
        run = propose(rotator, begin(target))
        rotator.apply(run)
        rotator.verify(_there(run.pending), run)
        assert target.accepts(_there(run.pending))

    def test_the_old_value_works_until_it_is_retired(self, target: RotationTarget, rotator: Rotator) -> None:
        run = propose(rotator, begin(target))
        rotator.apply(run)
        if rotator.strategy is Strategy.SINGLE_SLOT:
            assert not target.accepts(target.current)
        else:
            assert target.accepts(target.current)
            rotator.verify(target.current, run)

    def test_the_new_value_works_after_the_old_one_is_retired(self, target: RotationTarget, rotator: Rotator) -> None:
        run = swap(propose_and_apply(rotator, target))
        rotator.retire(run)
        assert target.accepts(_there(run.current))
        if target.is_remote:
            assert not target.accepts(_there(run.previous))
            with pytest.raises(CredentialRefused):
                rotator.verify(_there(run.previous), run)

    def test_every_call_may_be_made_again(self, target: RotationTarget, rotator: Rotator) -> None:
        propose(rotator, begin(target))  # whose answer nobody has seen
        run = propose(rotator, begin(target))
        for _ in range(2):
            rotator.apply(run)
        for _ in range(2):
            rotator.verify(_there(run.pending), run)
        swapped = swap(run)
        for _ in range(2):
            rotator.retire(swapped)
        assert target.accepts(_there(swapped.current))

    def test_another_object_goes_on_where_one_stopped(self, target: RotationTarget) -> None:
        make = self.make
        run = propose(make(target.options), begin(target))
        make(target.options).apply(run)
        make(target.options).verify(_there(run.pending), run)
        swapped = swap(run)
        make(target.options).retire(swapped)
        assert target.accepts(_there(swapped.current))

    def test_rotates_again_and_again(self, target: RotationTarget, rotator: Rotator) -> None:
        run = swap(propose_and_apply(rotator, target))
        rotator.retire(run)
        for token in ("c3" * 16, "d4" * 16, "e5" * 16):
            after = Run(token, datetime.now(UTC), TIMEOUT_S, run.current)
            run = propose(rotator, after)
            rotator.apply(run)
            rotator.verify(_there(run.pending), run)
            run = swap(run)
            rotator.retire(run)
            assert target.accepts(_there(run.current))

    def test_refuses_a_value_that_was_never_applied(self, target: RotationTarget, rotator: Rotator) -> None:
        if not target.is_remote:
            pytest.skip("not applicable: there is nobody who refuses")
        wrong = self.spoil(rotator, target.current)
        with pytest.raises(CredentialRefused):
            rotator.verify(wrong, begin(target))

    def test_says_that_a_target_cannot_be_reached(self, target: RotationTarget, rotator: Rotator) -> None:
        if not target.is_remote:
            pytest.skip("not applicable: nothing is reached")
        run = propose(rotator, begin(target))
        target.cut_off()
        with pytest.raises(TargetUnavailable):
            rotator.verify(target.current, run)
        with pytest.raises(TargetUnavailable):
            rotator.apply(run)
        target.restore()
        rotator.apply(run)
        assert target.accepts(_there(run.pending))

    def test_shows_no_value(self, target: RotationTarget, rotator: Rotator, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        run = propose_and_apply(rotator, target)
        said = [caplog.text, repr(rotator), str(rotator.target), repr(run)]
        try:
            rotator.verify(self.spoil(rotator, target.current), run)
        except SecurecfgError as error:
            said += [str(error), error.hint, repr(error), repr(error.__cause__), repr(error.__context__)]
        shown = "\n".join(said)
        public = {_text(value) for value in target.options.values() if not isinstance(value, Secret)}
        for value in (target.current, _there(run.pending)):
            for name, secret in value.items():
                text = _text(secret)
                if name not in rotator.identity and text not in public and len(text) > len("password"):
                    assert text not in shown


def begin(target: RotationTarget) -> Run:
    """Return a run that has only begun."""
    return Run(_TOKENS[0], datetime.now(UTC), TIMEOUT_S, target.current)


def propose(rotator: Rotator, run: Run) -> Run:
    """Return the run with a candidate."""
    value = rotator.propose(run).value
    return run._replace(pending={"": value} if isinstance(value, Secret) else value)


def propose_and_apply(rotator: Rotator, target: RotationTarget) -> Run:
    """Return a run whose candidate is applied."""
    run = propose(rotator, begin(target))
    rotator.apply(run)
    return run


def swap(run: Run) -> Run:
    """Return the run after the swap of the labels."""
    return run._replace(current=run.pending, previous=run.current, pending=None)


def plain(value: Fields | None) -> dict[str, str | bytes]:
    """Return a value in the clear."""
    return {name: secret.reveal() for name, secret in (value or {}).items()}


def _there(value: Fields | None) -> Fields:
    assert value is not None
    return value


def _identity(rotator: Rotator, value: Fields | None) -> dict[str, str | bytes]:
    return {name: content for name, content in plain(value).items() if name in rotator.identity}


def _text(value: str | Secret[str] | Secret[bytes]) -> str:
    content = value.reveal() if isinstance(value, Secret) else value
    return content if isinstance(content, str) else content.decode("latin-1")
