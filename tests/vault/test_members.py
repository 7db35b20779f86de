"""Public keys of those who hold roles: whose they are, who may set them, and when they go."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.errors import AccessDenied, Conflict, InvalidMetadata, Tampered
from securecfg.keys.identity import format_identity, generate_identity
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.members import IDENTITIES_PATH, identities_of
from tests.vault.test_administration import STAFF
from tests.vault.world import ADMIN, GRANTS, grant

if TYPE_CHECKING:
    from securecfg.keys.identity import Identity
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.vault import Vault
    from tests.vault.world import World

WEB = "svc:web"


def public(name: str = WEB) -> Identity:
    return generate_identity(name)[0]


def changes(vault: Vault) -> list[dict[str, object]]:
    """What the log says of the changes of roles."""
    records = [entry.record for entry in vault.log.records()]
    return [dict(record.obj) for record in records if record.event is Event.ROLE_CHANGED]


def test_keeps_the_key_of_a_new_member(world: World, vault: Vault) -> None:
    web = public()
    assert vault.administration.add_member("web", WEB, identity=web) is None
    again = world.open()
    assert again.administration.roles()["web"] == [WEB]
    assert again.administration.identities() == {WEB: web}
    (change,) = changes(vault)
    assert change == {"role": "web", "members": [WEB], "added": [WEB], "fingerprint": web.fingerprint.hex()}


def test_adds_the_key_of_one_who_is_a_member_already_and_keeps_it_in_further_roles(vault: Vault) -> None:
    web = public()
    vault.administration.add_member("web", WEB)
    assert vault.administration.identities() == {}
    vault.administration.add_member("web", WEB, identity=web)
    vault.administration.add_member("jobs", WEB)
    vault.administration.add_member("jobs", WEB, identity=web)
    assert vault.administration.identities() == {WEB: web}


def test_refuses_the_identity_of_somebody_else(vault: Vault) -> None:
    with pytest.raises(InvalidMetadata, match="the identity of `svc:other`"):
        vault.administration.add_member("web", WEB, identity=public("svc:other"))
    assert "web" not in vault.administration.roles()


def test_refuses_a_second_key_and_changes_nothing(vault: Vault) -> None:
    web = public()
    vault.administration.add_member("web", WEB, identity=web)
    with pytest.raises(Conflict, match=web.fingerprint.hex()) as refused:
        vault.administration.add_member("jobs", WEB, identity=public())
    assert refused.value.code == "conflict"
    assert "--replace" in refused.value.hint
    assert vault.administration.identities() == {WEB: web}
    assert "jobs" not in vault.administration.roles()


def test_replaces_a_key_when_told_to_and_records_both(vault: Vault) -> None:
    old, new = public(), public()
    vault.administration.add_member("web", WEB, identity=old)
    assert vault.administration.add_member("web", WEB, identity=new, replace=True) == old
    assert vault.administration.identities() == {WEB: new}
    assert changes(vault)[-1]["fingerprint"] == new.fingerprint.hex()
    assert changes(vault)[-1]["old_fingerprint"] == old.fingerprint.hex()


def test_forgets_a_key_with_the_last_role(vault: Vault) -> None:
    web, other = public(), public("user:bo")
    vault.administration.add_member("web", WEB, identity=web)
    vault.administration.add_member("jobs", WEB)
    vault.administration.add_member("jobs", "user:bo", identity=other)
    vault.administration.remove_member("web", WEB)
    assert vault.administration.identities() == {WEB: web, "user:bo": other}
    assert "old_fingerprint" not in changes(vault)[-1]
    vault.administration.remove_member("jobs", WEB)
    assert vault.administration.identities() == {"user:bo": other}
    assert changes(vault)[-1]["old_fingerprint"] == web.fingerprint.hex()
    new = public()
    vault.administration.add_member("web", WEB, identity=new)
    assert vault.administration.identities()[WEB] == new


def test_keys_are_set_and_seen_with_the_rights_for_roles(world: World, vault: Vault) -> None:
    grant(vault, STAFF + GRANTS)
    hr, reader = world.open("user:hr").administration, world.open("svc:reader").administration
    hr.add_member("web", WEB, identity=public())
    assert list(hr.identities()) == [WEB]
    with pytest.raises(AccessDenied):
        reader.add_member("web", "svc:reader", identity=public("svc:reader"))
    with pytest.raises(AccessDenied):
        reader.identities()


def test_only_an_administrator_sets_the_key_of_one(world: World, vault: Vault) -> None:
    grant(vault, STAFF)
    hr = world.open("user:hr").administration
    for replace in (False, True):
        with pytest.raises(AccessDenied) as refused:
            hr.add_member("web", ADMIN, identity=public(ADMIN), replace=replace)
        assert "the key of an administrator" in refused.value.hint
    own = public(ADMIN)
    vault.administration.add_member("admin", ADMIN, identity=own)
    hr.add_member("web", ADMIN, identity=own)
    assert hr.identities() == {ADMIN: own}


def test_no_key_is_lost_to_another_change(world: World, vault: Vault) -> None:
    administrations = [world.open().administration for _ in range(3)]

    def work(number: int) -> None:
        for step in range(3):
            name = f"svc:w{number}-{step}"
            administrations[number].add_member("ops", name, identity=public(name))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"svc:w{number}-{step}" for number in range(3) for step in range(3)}
    assert set(vault.administration.identities()) == expected == set(vault.administration.roles()["ops"])


def test_keeps_more_keys_than_one_row_holds(world: World, vault: Vault) -> None:
    names = [f"svc:w{number:03}" for number in range(40)]
    for name in names:
        vault.administration.add_member("ops", name, identity=public(name))
    assert list(world.open().administration.identities()) == names


@pytest.mark.parametrize("line", ["", "SECURECFG-IDENTITY-1 svc:web x y", "another's"])
def test_refuses_a_damaged_key(vault: Vault, line: str) -> None:
    text = format_identity(public("svc:other")) if line == "another's" else line
    encoded = f'{{"{WEB}":"{text}"}}'.encode()

    def plan(publication: Publication) -> Plan:
        content = Content(KIND_TEXT, len(encoded), lambda: (encoded,))
        plan = Drafts(vault.opened, publication).write(IDENTITIES_PATH, content, NewVersion(ADMIN, 1))
        plan.records = [vault.authority.session().record(Event.ROLE_CHANGED, {"role": "web"})]
        return plan

    vault.opened.publisher.publish(plan)
    with pytest.raises(Tampered, match="public key of `svc:web`"):
        identities_of(vault.opened)
