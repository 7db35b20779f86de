"""Certificates of which the current one has ended: their rotations come to an end all the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from securecfg.clock import to_datetime
from securecfg.crypto.ssh_keys import load_private_key
from securecfg.errors import CredentialRefused, TargetUnavailable
from securecfg.rotation import Run
from securecfg.rotation.document import Rules
from securecfg.rotation.machine import State
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.rotators import ssh, tls
from securecfg.rotation.ssh_grants import take_grant
from securecfg.secret import Secret
from securecfg.vault import VersionState
from tests.rotation.authority import RIGHT, new_ca
from tests.rotation.conftest import PATH, progress_of
from tests.rotation.sshd import make_authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation import Candidate, Fields, Options, Rotator, Strategy
    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld

DAY_S = 86_400


def _tls(world: RotationWorld) -> Callable[[], Rotator]:
    now = to_datetime(world.clock.ns)
    options = new_ca(wrong=RIGHT._replace(begins=now, ends=now + timedelta(days=800))).options(days="2")
    return lambda: tls.from_options(options, world.clock)


def _ssh(world: RotationWorld) -> Callable[[], Rotator]:
    authority = load_private_key(make_authority().private_key.encode(), None)
    options = {"kind": "user", "principals": "deploy", "days": "2"}
    return lambda: ssh.SshRotator(authority, take_grant(GivenOptions("ssh", options)), "ed25519", world.clock)


@pytest.fixture(params=[_tls, _ssh], ids=["tls", "ssh"])
def make(request: pytest.FixtureRequest, world: RotationWorld) -> Callable[[], Rotator]:
    return cast("Callable[[RotationWorld], Callable[[], Rotator]]", request.param)(world)


class _Late:
    """A rotator that is not to be had when a candidate is to be applied."""

    identity: frozenset[str] = frozenset()

    def __init__(self, rotator: Rotator) -> None:
        self._rotator = rotator
        self.strategy: Strategy = rotator.strategy
        self.target = rotator.target

    def propose(self, run: Run, /) -> Candidate:
        return self._rotator.propose(run)

    def apply(self, run: Run, /) -> None:
        del run
        message = "nobody can be asked"
        raise TargetUnavailable(message)

    def verify(self, value: Fields, run: Run, /) -> None:
        self._rotator.verify(value, run)

    def retire(self, run: Run, /) -> None:
        self._rotator.retire(run)


def _begun(world: RotationWorld, make: Callable[[], Rotator], **rules: object) -> tuple[Vault, Rotations]:
    """Return a vault with a certificate of two days, whose rotation is not begun."""
    vault = world.open()
    candidate = make().propose(Run("a1" * 16, to_datetime(world.clock.ns), 1.0))
    assert not isinstance(candidate.value, Secret)
    vault.write(PATH, candidate.value, ttl=timedelta(days=2))
    rotations = Rotations(vault, find=lambda _name, _options: make())
    rotations.set(PATH, Rules("given", **rules))  # type: ignore[arg-type]  # by their names
    return vault, rotations


def _versions(vault: Vault) -> list[tuple[object, VersionState, tuple[str, ...]]]:
    return [(info.version, info.state, info.labels) for info in vault.history(PATH)]


def _find(make: Callable[[], Rotator]) -> Callable[[str, Options], Rotator]:
    return lambda _name, _options: make()


def test_a_rotation_is_taken_back_over_what_has_ended(world: RotationWorld, make: Callable[[], Rotator]) -> None:
    vault, rotations = _begun(world, make)
    was = _versions(vault)
    waiting = progress_of(world.advance(world.runner(vault, lambda _name, _options: _Late(make())), "asked"))
    assert (waiting.state, waiting.reason) == (State.PENDING, "target-unavailable")
    world.wait(3 * DAY_S)
    rotations.cancel(PATH)
    assert world.lead_on(world.runner(vault, _find(make))).state is State.CANCELLED
    assert _versions(vault) == [
        (waiting.version, VersionState.DELETED, ()),
        (was[0][0], VersionState.EXPIRED, ("current",)),
        *was[1:],
    ]
    vault.close()


def test_a_rotation_whose_new_certificate_has_ended_comes_to_its_end(
    world: RotationWorld, make: Callable[[], Rotator]
) -> None:
    vault, rotations = _begun(world, make, grace_s=3 * DAY_S)
    runner = world.runner(vault, _find(make))
    assert progress_of(world.advance(runner, "asked")).state is State.CURRENT
    world.wait(4 * DAY_S)
    assert world.lead_on(runner).state is State.RETIRED
    assert rotations.find(PATH).rotations == 1
    vault.close()


def test_a_candidate_that_has_ended_is_refused_where_somebody_made_it_current(
    world: RotationWorld, make: Callable[[], Rotator]
) -> None:
    rotator = make()
    run = Run("a1" * 16, to_datetime(world.clock.ns), 1.0)
    value = rotator.propose(run).value
    assert not isinstance(value, Secret)
    world.wait(3 * DAY_S)
    rotator.verify(value, run._replace(current=value))
    for other in (run, run._replace(pending=value), run._replace(current=value, pending=value)):
        with pytest.raises(CredentialRefused):
            rotator.verify(value, other)
