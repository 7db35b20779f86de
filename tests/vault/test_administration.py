"""Policy and roles: who may change them, and that no change is lost or locks anybody out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied, InvalidGrants, SecurecfgError
from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.policy import Document
from securecfg.vault.keys.slots import Slots
from tests.vault.world import ADMIN, GRANTS, grant, text_of

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault
    from tests.vault.world import World

STAFF = """
[roles.hr]
members = ["user:hr"]
[[roles.hr.grants]]
actions = ["role.write", "role.read", "policy.write", "policy.read"]
[roles.admin]
members = ["role:chiefs"]
[roles.chiefs]
"""


@pytest.mark.parametrize("role", ["admin", "chiefs"])
def test_only_an_administrator_makes_administrators(world: World, vault: Vault, role: str) -> None:
    grant(vault, STAFF)
    hr = world.open("user:hr")
    with pytest.raises(AccessDenied) as refused:
        hr.administration.add_member(role, "user:hr")
    assert "administrator" in refused.value.hint
    hr.administration.add_member("ops", "user:hr")
    vault.administration.add_member(role, "user:hr")
    hr.administration.add_member("admin", "user:bob")
    assert vault.opened.policy()[1].administrators() == {ADMIN, "user:hr", "user:bob"}


def test_only_an_administrator_unmakes_administrators(world: World, vault: Vault) -> None:
    grant(vault, STAFF)
    vault.administration.add_member("admin", "user:bob")
    with pytest.raises(AccessDenied):
        world.open("user:hr").administration.remove_member("admin", "user:bob")
    vault.administration.remove_member("admin", "user:bob")


def test_only_an_administrator_makes_administrators_by_a_policy(world: World, vault: Vault) -> None:
    first = vault.administration.apply_policy([Document("g.toml", "grants", STAFF + 'members = ["user:eve"]\n')])
    grant(vault, STAFF)
    hr = world.open("user:hr").administration
    own = STAFF + 'members = ["user:hr"]\n'
    with pytest.raises(AccessDenied):
        hr.apply_policy([Document("g.toml", "grants", own)])
    with pytest.raises(AccessDenied):
        hr.roll_back_policy(first)
    assert hr.apply_policy([Document("g.toml", "grants", STAFF + GRANTS)]) == first + 2
    records = [entry.record for entry in vault.log.records() if entry.record.event == "access.denied"]
    assert [record.obj["action"] for record in records] == ["policy.write", "policy.write"]


@pytest.mark.parametrize("kind", ["user", "svc"])
def test_refuses_to_make_everybody_an_administrator_through_another_role(vault: Vault, kind: str) -> None:
    text = f'[roles.ops]\nmembers = ["{kind}:*"]\n[roles.admin]\nmembers = ["role:ops"]\n'
    with pytest.raises(InvalidGrants, match="would make everyone an administrator"):
        grant(vault, text)


def test_no_change_of_roles_is_lost_to_another(world: World, vault: Vault) -> None:
    administrations = [world.open().administration for _ in range(4)]
    vault.administration.add_member("ops", "user:gone")

    def work(number: int) -> None:
        for step in range(5):
            administrations[number].add_member("ops", f"user:w{number}-{step}")
        if not number:
            administrations[number].remove_member("ops", "user:gone")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sorted(f"user:w{number}-{step}" for number in range(4) for step in range(5))
    assert vault.administration.roles()["ops"] == expected


def test_a_role_that_is_taken_away_does_not_come_back_with_a_change_made_meanwhile(world: World, vault: Vault) -> None:
    vault.administration.add_member("ops", "user:gone")
    slow, other = world.open().administration, world.open().administration
    documents = slow._documents

    def interrupted(revision: int | None) -> list[Document]:
        slow._documents = documents  # type: ignore[method-assign]  # once
        other.remove_member("ops", "user:gone")
        return documents(revision)

    slow._documents = interrupted  # type: ignore[method-assign]  # between two steps
    slow.add_member("ops", "user:new")
    assert vault.administration.roles()["ops"] == ["user:new"]


def test_a_policy_larger_than_one_row_is_applied_and_decides(world: World, vault: Vault) -> None:
    vault.write("app/x", "v")
    grant(vault, GRANTS + "".join(f"# line {number} of many\n" for number in range(8_000)))
    assert text_of(world.open("svc:reader"), "app/x") == "v"
    assert len(vault.administration.policy_documents()[0].text) > 100_000
    vault.administration.add_member("reader", "user:new")
    assert text_of(world.open("user:new"), "app/x") == "v"


def test_the_last_administrator_stays(vault: Vault) -> None:
    with pytest.raises(SecurecfgError, match="last administrator"):
        vault.administration.remove_member("admin", ADMIN)


def test_a_key_that_could_speak_for_an_administrator_is_added_by_one(world: World, vault: Vault) -> None:
    grant(vault, STAFF.replace('"role.write"', '"role.write", "key.manage"'))
    slots = Slots(world.open("user:hr").authority)
    generate_key_file(world.folder / "other")
    other = open_provider(f"file:{world.folder / 'other'}")
    for principals in ((), (ADMIN,), ("user:hr", ADMIN)):
        with pytest.raises(AccessDenied):
            slots.add(other, principals=principals)
    assert slots.add(other, principals=("user:hr",)) == 2
    assert Slots(vault.authority).add(other) == 3
