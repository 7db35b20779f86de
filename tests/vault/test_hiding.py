"""Who may not list a path learns nothing of what is there from changes that fail."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied, ConfusablePath, SecretNotFound
from tests.vault.world import GRANTS, grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.vault import Vault
    from tests.vault.world import World

ALL = 'actions = ["read", "write", "delete", "undelete", "destroy"]'
MOVERS = GRANTS.replace('actions = ["read", "write"]', ALL)


def moving_batch(vault: Vault, count: int) -> None:
    with vault.batch() as batch:
        for number in range(count):
            batch.write(f"app/b{number}", "v")
        batch.delete("app/none")


CHANGES: dict[str, tuple[str, Callable[[Vault], object]]] = {
    "delete": ("delete", lambda vault: vault.delete("app/none")),
    "undelete": ("undelete", lambda vault: vault.undelete("app/none", 1)),
    "destroy": ("destroy", lambda vault: vault.destroy("app/none", 1)),
    "label": ("write", lambda vault: vault.label("app/none", "canary", 1)),
    "rollback": ("write", lambda vault: vault.rollback("app/none", 1)),
    "move": ("delete", lambda vault: vault.move("app/none", "app/some")),
    "batch": ("delete", lambda vault: moving_batch(vault, 2)),
    "large batch": ("delete", lambda vault: moving_batch(vault, 40)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_what_is_absent_looks_like_a_denial_without_the_right_to_list(
    world: World, vault: Vault, name: str
) -> None:
    action, change = CHANGES[name]
    grant(vault, MOVERS)
    blind = world.open("svc:blind")
    with pytest.raises(AccessDenied) as absent:
        change(blind)
    grant(vault, GRANTS.replace("blind.grants]]", "other.grants]]"))
    with pytest.raises(AccessDenied) as denied:
        blind.authority.require(action, "app/none")
    assert (str(absent.value), absent.value.hint) == (str(denied.value), denied.value.hint)
    records = [entry.record for entry in vault.log.records() if entry.record.event == "access.denied"]
    assert [record.obj for record in records] == [{"action": action, "path": "app/none"}] * 2
    assert vault.list() == []


def test_a_change_of_what_is_absent_is_not_found_with_the_right_to_list(vault: Vault) -> None:
    for _, change in CHANGES.values():
        with pytest.raises(SecretNotFound):
            change(vault)


def test_a_lookalike_is_named_only_to_those_who_may_list_it(world: World, vault: Vault) -> None:
    grant(vault)
    vault.write("app/payments", "v")
    vault.write("app/mail/key", "v")
    blind = world.open("svc:blind")
    for path in ("app/payrnents", "app/rnail/key"):
        with pytest.raises(ConfusablePath) as refused:
            blind.write(path, "v")
        assert "payments" not in str(refused.value)
        assert "mail" not in str(refused.value)
    for path, alike in (("app/payrnents", "app/payments"), ("app/rnail/key", "app/mail")):
        with pytest.raises(ConfusablePath, match=alike):
            vault.write(path, "v")


@pytest.mark.parametrize("at", [1, 2, 7, "previous", "current"])
def test_what_was_deleted_looks_absent_without_the_right_to_list(world: World, vault: Vault, at: int | str) -> None:
    grant(vault)
    for _ in range(2):
        vault.write("app/x", "v")
    vault.destroy("app/x", 1)
    vault.delete("app/x")
    blind = world.open("svc:blind")
    with pytest.raises(AccessDenied) as deleted:
        blind.read("app/x", at=at)
    with pytest.raises(AccessDenied) as absent:
        blind.read("app/y", at=at)
    assert str(deleted.value).replace("app/x", "app/y") == str(absent.value)


def test_a_small_file_is_read_before_other_writers_have_to_wait(vault: Vault) -> None:
    lock = vault.opened.replica.lock

    class Source(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert not lock._is_owned()  # type: ignore[attr-defined]  # CPython's
            return super().read(size)

    vault.write("a", Source(b"content"))
    content = vault.read("a").field("").reveal()
    assert content == b"content"
