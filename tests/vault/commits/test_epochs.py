"""Epochs of the log's key: changed on demand, when a slot is removed, and when a key has signed enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from securecfg.audit import Event
from securecfg.errors import AccessDenied, LastSlot
from securecfg.keys import Purpose, generate_key_file, open_provider
from securecfg.vault.commits import epochs
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.keys.slots import Slots

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    generate_key_file(tmp_path / "key")
    return Vault.create(tmp_path / "a.vault", key=f"file:{tmp_path / 'key'}", admin="alice")


def test_a_new_epoch_signs_what_follows_and_forgets_the_old_seed(vault: Vault) -> None:
    replica = vault.opened.replica
    old_seed = replica.keyring.active(Purpose.LOG_SIGNING).key
    assert rotate_signing_key(vault.authority) == 1
    assert vault.write("a", "1") == 1
    assert old_seed not in [entry.key for entry in replica.keyring.keys]
    assert vault.log.verify().epochs == 2
    vault.close()


def test_another_handle_follows_into_the_new_epoch(vault: Vault, tmp_path: Path) -> None:
    other = Vault.open(tmp_path / "a.vault", key=f"file:{tmp_path / 'key'}", principal="user:alice")
    rotate_signing_key(vault.authority)
    assert other.write("a", "1") == 1
    assert vault.read("a").value.reveal() == "1"  # type: ignore[union-attr]  # written as text
    other.close()
    vault.close()


def test_nobody_without_the_right_begins_an_epoch(vault: Vault) -> None:
    with vault.acting("user:olga") as olga, pytest.raises(AccessDenied):
        rotate_signing_key(olga.authority)
    assert vault.opened.replica.state.epoch == 0
    vault.close()


def test_removing_a_slot_begins_an_epoch(vault: Vault, tmp_path: Path) -> None:
    generate_key_file(tmp_path / "second")
    slots = Slots(vault.authority)
    slots.add(open_provider(f"file:{tmp_path / 'second'}"))
    slots.remove(1)
    assert vault.opened.replica.state.epoch == 1
    with pytest.raises(LastSlot):
        slots.remove(2)
    assert vault.log.verify().epochs == 2
    vault.close()


def test_a_key_that_has_signed_enough_is_replaced_by_whoever_writes_next(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "RECORDS_PER_EPOCH", 4)
    for number in range(10):
        vault.write(f"a/{number}", "1")
    events = [entry.record.event for entry in vault.log.records()]
    assert events.count(Event.AUDIT_EPOCH) >= 2
    assert vault.log.verify().epochs == events.count(Event.AUDIT_EPOCH) + 1
    vault.close()
