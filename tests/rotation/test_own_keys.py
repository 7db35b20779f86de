"""The vault's own keys, which a daemon replaces when they have come to their limits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied, Conflict
from securecfg.rotation.daemon import Daemon, Limits
from securecfg.rotation.own_keys import replace_due_keys
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.limits import Limit, set_limit
from tests.rotation.conftest import FIRST, PATH
from tests.rotation.test_daemon import running, until
from tests.vault.world import READER, grant

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld


def _epochs(vault: Vault) -> list[int]:
    return [key.epoch for key in KeyChanges(vault.authority).usage() if key.purpose == "scope"]


def test_replaces_nothing_before_its_time(world: RotationWorld) -> None:
    vault = world.open()
    set_limit(vault.authority, "scope", Limit(max_age=timedelta(days=90)))
    assert replace_due_keys(vault) == []
    assert _epochs(vault) == [0]


def test_replaces_the_scope_key_at_its_age_and_forgets_the_old_one(world: RotationWorld) -> None:
    vault = world.open()
    set_limit(vault.authority, "scope", Limit(max_age=timedelta(days=90)))
    world.wait(91 * 86_400)
    assert replace_due_keys(vault) == ["scope"]
    assert _epochs(vault) == [1]
    assert vault.read(PATH).field("password").reveal() == FIRST
    assert replace_due_keys(vault) == []


def test_replaces_the_signing_key_at_its_uses(world: RotationWorld) -> None:
    vault = world.open()
    set_limit(vault.authority, "log-signing", Limit(max_uses=1))
    assert replace_due_keys(vault) == ["log-signing"]
    assert vault.opened.replica.state.epoch == 1
    vault.log.verify()


def test_finishes_what_somebody_has_begun(world: RotationWorld) -> None:
    vault = world.open()
    KeyChanges(vault.authority).begin_scope_epoch()
    assert _epochs(vault) == [0, 1]
    assert replace_due_keys(vault) == []
    assert _epochs(vault) == [1]


def test_of_two_one_puts_a_new_key_in_use(world: RotationWorld) -> None:
    vault = world.open()
    changes = KeyChanges(vault.authority)
    assert changes.begin_scope_epoch(seen=0) == 1
    with pytest.raises(Conflict):
        changes.begin_scope_epoch(seen=0)


def test_needs_the_right_to_manage_keys(world: RotationWorld) -> None:
    grant(world.open())
    with pytest.raises(AccessDenied):
        replace_due_keys(world.open(READER))


def test_a_daemon_does_it_where_it_is_told_to(world: RotationWorld) -> None:
    vault = world.open()
    set_limit(vault.authority, "scope", Limit(max_age=timedelta(days=90)))
    world.wait(91 * 86_400)
    with running(Daemon(world.open, limits=Limits(keys_s=3_600.0))):
        until(lambda: _epochs(vault) == [1])
