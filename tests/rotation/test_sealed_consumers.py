"""Programs that follow secrets in sealed scopes: who is told, who acknowledges, and how it ends."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import ScopeSealed
from securecfg.rotation import with_retry_on_auth_failure
from securecfg.rotation.machine import State
from securecfg.rotation.parts import part_of
from securecfg.rotation.steps import Steps
from securecfg.secret import Secret
from securecfg.vault.moves.scopes import ScopeMoves
from tests.rotation.scope_world import FIRST, PATH, RULES, password, sealed_world
from tests.rotation.test_daemon import PATIENCE_S, until

if TYPE_CHECKING:
    import threading

    from securecfg.rotation.machine import Progress
    from securecfg.vault.references import SecretRef
    from securecfg.vault.values import Value
    from securecfg.vault.vault import Vault
    from tests.rotation.scope_world import SealedWorld

world = sealed_world


class _Told:
    """A callback that notes down what it was told, and reads it."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def __call__(self, old: SecretRef | None, new: SecretRef) -> None:
        del old
        self.calls.put((new.path, str(new.read().field("password").reveal())))

    def next(self) -> tuple[str, str]:
        return self.calls.get(timeout=PATIENCE_S)


def _swap(world: SealedWorld, vault: Vault, *consumers: str) -> None:
    """Rotate until readers get the new version, which waits for consumers then."""
    world.rotations(vault).set(PATH, RULES._replace(grace_s=3_600, consumers=consumers))
    runner = world.runner(part_of(vault, PATH))
    runner.advance(runner.steps.find(PATH), "asked")
    assert _progress(vault).state is State.CURRENT


def _progress(vault: Vault) -> Progress:
    progress = Steps(part_of(vault, PATH).authority).find(PATH).rotation.progress
    assert progress is not None
    return progress


def test_who_does_not_open_the_values_is_told_nothing(world: SealedWorld) -> None:
    for vault in (world.as_member("web"), world.admin()):
        with pytest.raises(ScopeSealed):
            vault.on_rotate("pay/**", _Told())
    told = _Told()
    world.as_member("web").on_rotate("**", told)
    admin = world.admin()
    admin.on_rotate("**", told)
    world.as_member("pay").write(PATH, {"username": "shop", "password": "new"})
    admin.write("app/key", {"username": "shop", "password": "of the application"})
    assert told.next() == ("app/key", "of the application")
    assert told.calls.empty()


def test_a_member_is_told_and_acknowledges_which_ends_the_grace(world: SealedWorld) -> None:
    vault, consumer = world.as_member("pay"), world.as_member("pay")
    told = _Told()
    stop = consumer.on_rotate("pay/*", told)
    _swap(world, vault, "svc:pay")
    assert told.next() == (PATH, password(vault))
    until(lambda: _progress(vault).acknowledged == ("svc:pay",))
    assert world.lead_on(world.runner(part_of(vault, PATH))).rotations == 1
    stop()
    vault.write(PATH, {"username": "shop", "password": "by hand"})
    assert told.calls.empty()


def test_a_version_that_is_waited_for_is_told_to_who_comes_later(world: SealedWorld) -> None:
    vault = world.as_member("pay")
    _swap(world, vault, "svc:pay")
    told = _Told()
    world.as_member("pay").on_rotate("**", told)
    assert told.next() == (PATH, password(vault))
    until(lambda: _progress(vault).acknowledged == ("svc:pay",))


def test_who_only_reads_is_told_and_the_grace_is_as_long_as_it_is(world: SealedWorld) -> None:
    vault, reader = world.as_member("pay"), world.as_member("audit")
    told = _Told()
    reader.on_rotate("pay/**", told)
    _swap(world, vault, "svc:audit")
    assert told.next() == (PATH, password(vault))
    with pytest.raises(ScopeSealed):
        world.rotations(reader).acknowledge(PATH, _progress(vault).version)
    [consumers] = reader._consumers._consumers.values()
    until(lambda: not consumers._lines)
    assert _progress(vault).acknowledged == ()


def test_a_program_follows_in_all_scopes_that_it_opens(world: SealedWorld) -> None:
    world.scopes().create("jobs", read=["pay"], write=["pay"])
    vault = world.as_member("pay")
    told = _Told()
    stop = vault.on_rotate("**", told)
    for path in ("jobs/db", PATH):
        vault.write(path, {"username": "shop", "password": f"of {path}"})
        assert told.next() == (path, f"of {path}")
    stop()
    only = _Told()
    vault.on_rotate("jobs/**", only)
    assert len(vault._consumers._followed) == 1
    vault.write(PATH, {"username": "shop", "password": "new"})
    vault.write("jobs/db", {"username": "shop", "password": "new"})
    assert only.next() == ("jobs/db", "new")
    assert told.calls.empty()


def test_a_shared_scope_that_is_made_meanwhile_is_followed(world: SealedWorld) -> None:
    admin = world.admin()
    told = _Told()
    stop = admin.on_rotate("**", told)
    world.scopes().create("shared", is_shared=True)
    other = world.admin()
    [whole] = admin._consumers._consumers.values()
    until(lambda: len(admin._consumers._consumers) == 2)
    other.write("shared/db", {"username": "shop", "password": "new"})
    assert told.next() == ("shared/db", "new")
    stop()
    assert whole._followers == []


def test_the_calls_end_with_the_right_to_open_the_scope(world: SealedWorld) -> None:
    world.scopes().grant("pay", "web", "read")
    world.as_member("pay")
    reader = world.as_member("web")
    told = _Told()
    reader.on_rotate("pay/**", told)
    [consumers] = reader._consumers._consumers.values()
    watcher: threading.Thread = consumers._watcher
    world.scopes().revoke("pay", "web", "list")
    watcher.join(PATIENCE_S)
    assert not watcher.is_alive()
    assert told.calls.empty()


def test_the_calls_end_with_the_scope(world: SealedWorld) -> None:
    vault = world.as_member("pay")
    vault.on_rotate("pay/**", _Told())
    [consumers] = vault._consumers._consumers.values()
    watcher: threading.Thread = consumers._watcher
    world.moves().merge("pay", reader=world.identity("pay"))
    watcher.join(PATIENCE_S)
    assert not watcher.is_alive()


def test_who_is_refused_logs_in_with_what_became_current_in_the_middle(world: SealedWorld) -> None:
    vault, tried = world.as_member("audit"), list[str]()

    def connect(value: Value) -> str:
        assert not isinstance(value, Secret)
        tried.append(str(value["password"].reveal()))
        if tried[-1] == FIRST:
            world.as_member("pay").write(PATH, {"username": "shop", "password": "new"})
            raise PermissionError
        return "a session"

    ref = vault.ref(PATH)
    assert (
        with_retry_on_auth_failure(ref, connect, is_auth_failure=lambda error: isinstance(error, PermissionError))
        == "a session"
    )
    assert tried == [FIRST, "new"]


@pytest.mark.parametrize("pattern", ["**", "shared/**", "shared/db"])
def test_who_follows_what_lies_in_a_scope_goes_on_with_that_after_a_merge(world: SealedWorld, pattern: str) -> None:
    world.scopes().create("shared", is_shared=True)
    admin, other = world.admin(), world.admin()
    other.write("shared/db", {"username": "shop", "password": "first"})
    told = _Told()
    admin.on_rotate(pattern, told)
    other.write("shared/db", {"username": "shop", "password": "second"})
    assert told.next() == ("shared/db", "second")
    ScopeMoves(world.admin().authority).merge("shared")
    world.admin().write("shared/db", {"username": "shop", "password": "third"})
    while told.next() != ("shared/db", "third"):
        pass
