"""A vault that is older than what this machine has seen is refused; a copy elsewhere and a lost anchor are not."""

from __future__ import annotations

import logging
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied, AnchorMissing, RollbackSuspected, StoreFailed
from securecfg.vault.state.anchor import SLOT_SIZE, AnchorFile, state_directory
from tests.vault.world import READER, World, grant, text_of

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault

DENIED_AT_NIGHT = """
[roles.reader]
members = ["svc:reader"]
[[roles.reader.grants]]
actions = ["read", "list"]
paths = ["app/**"]
when = { hours = "00:00-23:59" }
"""


def anchors() -> list[Path]:
    return sorted(Path(state_directory(), "anchors").iterdir())


def test_an_older_copy_in_the_same_place_is_refused(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.close()
    shutil.copy(world.path, world.folder / "old")
    world.open().write("app/a", "2")
    world.close()
    (world.folder / "old").replace(world.path)
    for _ in range(2):
        with pytest.raises(RollbackSuspected) as refused:
            world.open()
        assert refused.value.code == "rollback-suspected"
        assert refused.value.hint


def test_another_continuation_of_the_same_vault_is_refused(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.close()
    fork = world.folder / "fork.vault"
    shutil.copy(world.path, fork)
    for number in range(3):
        world.open().write("app/a", f"here {number}")
    other = world.open(path=fork)
    for number in range(30):
        other.write("app/a", f"there {number}")
    world.close()
    fork.replace(world.path)
    with pytest.raises(RollbackSuspected):
        world.open()


def test_a_copy_in_another_place_is_fine(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.close()
    copy = world.folder / "copy.vault"
    shutil.copy(world.path, copy)
    world.open().write("app/a", "2")
    assert text_of(world.open(path=copy), "app/a") == "1"
    assert len(anchors()) == 2


def test_a_vault_that_goes_back_while_it_is_open_is_refused(world: World, vault: Vault) -> None:
    """The store shows an older head to an open handle."""
    vault.write("app/a", "1")
    older = vault.opened.replica.head
    vault.write("app/a", "2")
    vault.opened.store.commit([], expect=vault.opened.replica.head, head=older)
    with pytest.raises(RollbackSuspected):
        vault.read("app/a")


def test_a_lost_anchor_is_made_again_unless_it_is_required(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.close()
    for anchor in anchors():
        anchor.unlink()
    with pytest.raises(AnchorMissing) as refused:
        world.open(anchor="required")
    assert refused.value.code == "anchor-missing"
    assert anchors() == []
    assert text_of(world.open(), "app/a") == "1"
    assert text_of(world.open(anchor="required"), "app/a") == "1"


def test_a_torn_slot_leaves_the_one_before(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.close()
    (anchor,) = anchors()
    whole = anchor.read_bytes()
    assert len(whole) == 2 * SLOT_SIZE
    for start in (0, SLOT_SIZE):
        torn = bytearray(whole)
        torn[start + 30] ^= 1
        anchor.write_bytes(torn)
        world.open().close()
    anchor.write_bytes(b"garbage")
    with pytest.raises(AnchorMissing):
        world.open(anchor="required")
    world.open()


def test_the_anchor_follows_every_commit_and_never_leads(world: World, vault: Vault) -> None:
    for number in range(5):
        vault.write("app/a", str(number))
        vault.opened.refresh()
        anchor = AnchorFile(vault.opened.replica.vault_id, world.path).read()
        assert anchor is not None
        assert anchor.mark.size == vault.opened.replica.checkpoint.size
        assert anchor.mark.root == vault.opened.replica.checkpoint.root


def test_an_anchor_that_was_replaced_while_the_vault_is_open_is_written_anew_at_its_place(
    world: World, vault: Vault
) -> None:
    vault.write("app/a", "1")
    (anchor,) = anchors()
    old = anchor.read_bytes()
    anchor.unlink()
    vault.write("app/a", "2")
    assert anchors() == [anchor]
    anchor.rename(anchor.with_suffix(".aside"))
    anchor.write_bytes(old)
    vault.write("app/a", "3")
    known = AnchorFile(vault.opened.replica.vault_id, world.path).read()
    assert known is not None
    assert known.mark.size == vault.opened.replica.checkpoint.size


def test_a_closed_vault_keeps_no_descriptor_of_its_anchor(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    (anchor,) = anchors()
    held = [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.samefile(anchor)]
    assert len(held) == 1
    vault.close()
    assert not [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.samefile(anchor)]


def test_a_forked_child_opens_the_anchor_by_itself(world: World, vault: Vault) -> None:
    """A lock of an inherited descriptor would be the parent's too."""
    vault.write("app/a", "1")
    vault.opened.refresh()
    anchor = AnchorFile(vault.opened.replica.vault_id, world.path)
    anchor.advance(vault.opened.mark(), vault.opened.verify_mark)
    child = os.fork()
    if child == 0:
        newer = vault.opened.mark()._replace(size=1_000)
        anchor.advance(newer, lambda _: None)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    seen = anchor.read()
    assert seen is not None
    assert seen.mark.size == 1_000


def test_an_anchor_that_cannot_be_written_fails_nothing_but_is_said(
    world: World, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    (anchor,) = anchors()
    anchor.unlink()
    anchor.mkdir()
    with caplog.at_level(logging.WARNING, "securecfg.vault"):
        vault.write("app/a", "1")
    assert "anchor" in caplog.text
    assert text_of(world.open(), "app/a") == "1"
    with pytest.raises(AnchorMissing):
        world.open(anchor="required")


def test_a_clock_that_is_behind_the_log_is_not_trusted_with_rules_about_time(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    grant(vault, DENIED_AT_NIGHT)
    reader = world.open(READER)
    assert text_of(reader, "app/a") == "1"
    world.clock.advance(timedelta(hours=-1))
    with pytest.raises(AccessDenied):
        reader.read("app/a")
    assert text_of(vault, "app/a") == "1"
    world.clock.advance(timedelta(hours=2))
    assert text_of(reader, "app/a") == "1"


def test_a_user_without_a_home_directory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/olga")
    assert state_directory() == "/home/olga/.local/state/securecfg"
    monkeypatch.setenv("HOME", "olga")
    with pytest.raises(StoreFailed, match="no home directory"):
        state_directory()
