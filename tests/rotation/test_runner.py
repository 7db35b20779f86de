"""The runner: what it stores before each step, and what it does where one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.rotation.machine import State
from securecfg.testing.account import Mood
from tests.rotation.conftest import FIRST, PATH

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld


def _password(vault: Vault, at: int | str | None = None) -> str:
    value = vault.read(PATH, at=at).field("password").reveal()
    assert isinstance(value, str)
    return value


def test_rotates_and_retires_after_the_grace(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    after = world.advance(runner, "asked")
    assert after.progress is not None
    assert after.progress.state is State.CURRENT
    assert _password(vault, "previous") == FIRST
    assert world.account.accepted == {FIRST, _password(vault)}
    world.wait(61)
    after = world.advance(runner)
    assert after.progress is not None
    assert after.progress.state is State.RETIRED
    assert world.account.accepted == {_password(vault)}
    assert [info.labels for info in vault.history(PATH)] == [("current",), ()]
    vault.close()
    with world.open() as again:
        again.log.verify()


def test_a_rotation_whose_candidate_was_deleted_fails_and_can_be_taken_back(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.account.mood = Mood.UNREACHABLE
    waiting = world.advance(runner, "asked").progress
    assert waiting is not None
    assert waiting.state is State.PENDING
    vault.delete(PATH, version=waiting.version)
    world.account.mood = Mood.WELL
    world.wait(10)
    failed = world.advance(runner).progress
    assert failed is not None
    assert (failed.state, failed.reason) == (State.FAILED, "version-not-found")
    assert failed.failed_ns >= failed.began_ns + 10_000_000_000
    world.rotations(vault).cancel(PATH)
    over = world.advance(runner).progress
    assert over is not None
    assert over.state is State.CANCELLED
    assert _password(vault) == FIRST
    vault.close()
