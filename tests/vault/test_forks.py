"""A forked child holds none of its parent's keys and values, and its first call says so."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from securecfg.errors import VaultForked
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.vault import Vault


def in_child(check: Callable[[], bool]) -> bool:
    """Return what a check says in a forked child."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def test_keys_and_values_are_gone_in_a_child(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.read("app/a")
    opened = vault.opened

    def check() -> bool:
        sealer = opened.publisher._sealer
        return opened.replica._keys is None and not vault._reads._hits and sealer is not None and not sealer._key

    assert in_child(check)
    assert text_of(vault, "app/a") == "1"


def test_every_first_call_in_a_child_raises(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.read("app/a")
    calls: list[Callable[[], object]] = [
        lambda: vault.read("app/a"),
        lambda: vault.stream("app/a"),
        lambda: vault.history("app/a"),
        vault.list,
        lambda: vault.search("a"),
        lambda: vault.explain("read", "app/a"),
        lambda: vault.write("app/a", "2"),
        lambda: vault.resolve("0" * 32),
        lambda: vault.log.vkey,
        lambda: list(vault.log.records()),
        vault.administration.roles,
        vault.__enter__,
    ]

    def refuses(call: Callable[[], object]) -> bool:
        try:
            call()
        except VaultForked:
            return True
        return False

    assert in_child(lambda: all(map(refuses, calls)))


def test_a_child_closes_though_a_thread_of_its_parent_was_publishing(vault: Vault) -> None:
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with vault.opened.replica.lock:
            holding.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(10)

    def check() -> bool:
        signal.alarm(5)  # ends a child that waits for a thread it does not have
        vault.close()
        return vault.opened.is_closed

    is_closed = in_child(check)
    go_on.set()
    thread.join()
    assert is_closed


def test_a_child_closes_without_recording_what_its_parent_will(vault: Vault) -> None:
    vault.write("app/a", "1")
    for _ in range(3):
        vault.read("app/a")

    def check() -> bool:
        vault.close()
        return vault.opened.is_closed

    assert in_child(check)
    vault.authority.flush()
    counts = [entry.record.count for entry in vault.log.records() if entry.record.count]
    assert counts == [2]
