"""The runner: what it stores before each step, and what it does where one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.rotation.machine import State
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
