"""Marks on what stood in the open, changed by several processes at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import StoreBusy
from securecfg.vault.imports.exposures import Exposures, Mark
from securecfg.vault.writing import Writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault import Vault
    from securecfg.vault.writing import Wanted
    from tests.vault.world import World


def mark(version: int, commit: int = 0) -> Mark:
    return Mark("app/a", "", version, f"{commit:040}", datetime(2026, 1, version, tzinfo=UTC), "app.toml")


def overtaken(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> None:
    """Let something happen before the next writes."""
    apply, turns = Writes.apply, iter(range(times))

    def apply_later(writes: Writes, wanted: Wanted) -> object:
        if next(turns, None) is not None:
            with monkeypatch.context() as patched:
                patched.setattr(Writes, "apply", apply)
                act()
        return apply(writes, wanted)

    monkeypatch.setattr(Writes, "apply", apply_later)


@pytest.fixture
def rotated(vault: Vault) -> Vault:
    """A vault in which the value of a mark was replaced."""
    vault.write("app/a", "1")
    Exposures(vault.authority).mark([mark(1)])
    vault.write("app/a", "2")
    return vault


def test_a_mark_that_is_replaced_by_a_newer_one_is_not_closed(
    world: World, rotated: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Exposures(world.open().authority)
    overtaken(monkeypatch, lambda: other.mark([mark(2)]))
    assert Exposures(rotated.authority).unrotated() == [mark(2)]
    assert Exposures(world.open().authority).unrotated() == [mark(2)]


def test_two_processes_that_close_one_mark_close_it_once(
    world: World, rotated: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Exposures(world.open().authority)
    overtaken(monkeypatch, other.unrotated)
    assert Exposures(rotated.authority).unrotated() == []
    closed = [entry for entry in rotated.log.records() if entry.record.event == "exposure.closed"]
    assert len(closed) == 1


def test_marks_that_change_all_the_time_end_with_an_error(
    world: World, rotated: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, commits = Exposures(world.open().authority), iter(range(1, 1_000))
    overtaken(monkeypatch, lambda: other.mark([mark(1, next(commits))]), times=1_000)
    with pytest.raises(StoreBusy):
        Exposures(rotated.authority).unrotated()


def test_two_processes_that_mark_one_secret_both_do(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.write("app/a", "1")
    other = Exposures(world.open().authority)
    overtaken(monkeypatch, lambda: other.mark([mark(1, 1)]))
    Exposures(vault.authority).mark([mark(1, 2)])
    assert Exposures(vault.authority).unrotated() == [mark(1, 2)]
    marked = [entry for entry in vault.log.records() if entry.record.event == "exposure.marked"]
    assert len(marked) == 2
