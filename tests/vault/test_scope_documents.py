"""A writer of one scope who puts into its documents what they must not hold: it is his scope alone that suffers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.errors import SecurecfgError, Tampered
from securecfg.keys import Purpose
from securecfg.vault.administrators import AdministratorChanges
from securecfg.vault.bundle_notes import published_by
from securecfg.vault.certificates import CERTIFICATES_PATH, read_certificates
from securecfg.vault.departures import find_exposed, newest_compromise, notes_of
from securecfg.vault.documents import read_shaped
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.exposures import marks_of
from securecfg.vault.key_limits import read_limits
from securecfg.vault.members import identities_of
from securecfg.vault.opened import POLICY_PATH, ROLES_PATH
from securecfg.vault.paths import SYSTEM
from securecfg.vault.role_rotation import RoleRotation
from securecfg.vault.scope_compromise import ScopeCompromise, finish_as_member
from securecfg.vault.scope_registry import read_own_keys
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.vault import Vault
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Plan, Publication

NOTE = SYSTEM + b"departed/z"
IDENTITIES = SYSTEM + b"identities"
WHOLE = {"v": 1, "slot": 1, "kind": "role", "label": "web", "removed_ns": 1, "next_id": 1}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    """Two scopes, of which `web` writes the one that comes first."""
    world = scope_world(tmp_path)
    scopes = world.scopes()
    scopes.create("aaa", read=["web"], write=["web"])
    scopes.create("pay", read=["pay"], write=["pay"])
    world.as_member("web").write("aaa/x", "of web")
    world.as_member("pay").write("pay/x", "of pay")
    yield world
    world.close()


def plant(world: ScopeWorld, path: bytes, content: bytes) -> OpenVault:
    """Write a document into the first scope as its writer can, and return that scope as he has it open."""
    part: Vault = world.as_member("web").scope("aaa")
    new = NewVersion("svc:web", part.opened.clock.now_ns())

    def plan(publication: Publication) -> Plan:
        plan = Drafts(part.opened, publication).write(path, Content(KIND_TEXT, len(content), lambda: (content,)), new)
        obj = {"path": "aaa/", "rev": 1, "digest": "00" * 32}
        plan.records = [part.authority.session().record(Event.SCOPE_CHANGED, obj)]
        return plan

    part.opened.publisher.publish(plan)
    return part.opened


def without(name: str, **others: object) -> bytes:
    return json.dumps({key: value for key, value in (WHOLE | others).items() if key != name}).encode()


MALFORMED = {
    "no note": (NOTE, b"{}", notes_of),
    "no object": (NOTE, b"[1]", notes_of),
    "no json": (NOTE, b"{", notes_of),
    "nested too deep": (NOTE, b"[" * 100_000, notes_of),
    "no text": (NOTE, without("", label="\ud800"), notes_of),
    "a time beyond all": (NOTE, without("", removed_ns=1 << 80), notes_of),
    "a range of one": (NOTE, without("", ranges=[[1]]), notes_of),
    "scopes that are none": (NOTE, without("", scopes=7), notes_of),
    "no roles": (ROLES_PATH, b"[]", lambda opened: opened.policy()),
    "roles that are words": (ROLES_PATH, b'{"web": "svc:web"}', lambda opened: opened.policy()),
    "no policy": (POLICY_PATH, b"{}", lambda opened: opened.policy()),
    "a policy of nothing": (POLICY_PATH, b"[{}]", lambda opened: opened.policy()),
    "no identities": (IDENTITIES, b"[]", identities_of),
    "identities that are none": (IDENTITIES, b'{"svc:web": []}', identities_of),
    "no limits": (SYSTEM + b"keys", b'{"scope": 1}', read_limits),
    "no mark": (SYSTEM + b"exposed/z", b"{}", marks_of),
    "no note of a bundle": (SYSTEM + b"bundles/00", b"{}", lambda opened: list(published_by(opened))),
    "no marks of drops": (
        SYSTEM + b"drops/aaa/x",
        b'{"svc:web": "late"}',
        lambda opened: read_shaped(opened, SYSTEM + b"drops/aaa/x", dict, int),
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_malformed_is_tampered_and_says_where(world: ScopeWorld, what: str) -> None:
    path, content, read = MALFORMED[what]
    opened = plant(world, path, content)
    with pytest.raises(Tampered) as raised:
        read(opened)
    assert "aaa/" in raised.value.message


@pytest.mark.parametrize("content", [b"[]", b'{"web": []}', b'{"web": {"svc:web": "word"}}', b"{", b'"\\ud800"'])
def test_certificates_that_are_none_let_nobody_in_and_are_written_anew(world: ScopeWorld, content: bytes) -> None:
    opened = plant(world, CERTIFICATES_PATH, content)
    assert read_certificates(opened) == {}
    assert text_of(world.as_member("web"), "aaa/x") == "of web"
    world.person("web", "another")
    world.as_member("web")
    assert text_of(world.as_member("another"), "aaa/x") == "of web"


def epochs_of(world: ScopeWorld, path: str) -> set[tuple[int, int]]:
    keyring = world.admin().scope(path).opened.replica.keyring
    return {(purpose, keyring.active(purpose).epoch) for purpose in (Purpose.SCOPE, Purpose.VALUE, Purpose.MASKING)}


def own_key(world: ScopeWorld) -> bytes:
    keys = read_own_keys(world.admin().opened)
    assert keys is not None
    return keys.current.signing_key


@pytest.mark.parametrize("what", ["no policy", "a policy of nothing", "no roles"])
def test_a_policy_that_is_none_keeps_the_own_key_of_the_vault_from_no_other_scope(world: ScopeWorld, what: str) -> None:
    path, content, _ = MALFORMED[what]
    plant(world, path, content)
    own, before = own_key(world), epochs_of(world, "pay")
    for change in (AdministratorChanges.rotate, AdministratorChanges.resume):
        with pytest.raises(Tampered, match="aaa/"):  # the vault's policy is brought there in the end
            change(AdministratorChanges(world.admin().authority))
        assert own_key(world) != own
        assert before != epochs_of(world, "pay")
    AdministratorChanges(world.admin().authority).resume()
    assert AdministratorChanges(world.admin().authority).look().pending == []
    assert text_of(world.as_member("web"), "aaa/x") == "of web"


@pytest.mark.parametrize("what", ["no note", "no policy", "no roles", "no text"])
def test_a_writer_of_one_scope_keeps_no_other_from_new_keys(world: ScopeWorld, what: str) -> None:
    path, content, _ = MALFORMED[what]
    plant(world, path, content)
    before, own = epochs_of(world, "pay"), own_key(world)
    with pytest.raises(Tampered, match="aaa/"):
        ScopeCompromise(world.admin().authority).declare()
    after = epochs_of(world, "pay")
    assert not before & after
    assert newest_compromise(world.admin().scope("pay").opened) is not None
    assert own_key(world) != own
    if path == NOTE:
        with pytest.raises(Tampered, match="aaa/"):
            ScopeCompromise(world.admin().authority).resume()
    else:  # the vault has brought its own there
        _, left = ScopeCompromise(world.admin().authority).resume()
        assert [each.path for each in left] == ["aaa/", "pay/"]
    assert {(Purpose.VALUE, 1), (Purpose.MASKING, 1)} <= epochs_of(world, "pay")
    RoleRotation(world.admin().authority).rotate_role("pay")
    assert text_of(world.as_member("pay"), "pay/x") == "of pay"


def test_certificates_that_are_none_keep_no_scope_from_new_keys(world: ScopeWorld) -> None:
    plant(world, CERTIFICATES_PATH, b'{"web": []}')
    before, own = epochs_of(world, "aaa"), own_key(world)
    ScopeCompromise(world.admin().authority).declare()
    assert not before & epochs_of(world, "aaa")
    assert own_key(world) != own
    assert AdministratorChanges(world.admin().authority).look().damaged == []


@pytest.mark.parametrize("next_id", [1 << 62, 1, 0])
def test_a_compromise_that_a_writer_made_up_is_not_the_one_that_was_declared(world: ScopeWorld, next_id: int) -> None:
    document = WHOLE | {"slot": 0, "kind": "compromise", "label": "", "next_id": next_id}
    plant(world, SYSTEM + b"departed/compromise-zz", json.dumps(document).encode())
    before = epochs_of(world, "aaa")
    ScopeCompromise(world.admin().authority).declare()
    after = epochs_of(world, "aaa")
    assert not before & after
    finish_as_member(world.as_member("web"))
    _, left = ScopeCompromise(world.admin().authority).resume()
    assert {each.path: each.is_done for each in left}["aaa/"]
    assert {(Purpose.VALUE, 1), (Purpose.MASKING, 1)} <= epochs_of(world, "aaa")
    assert text_of(world.as_member("web"), "aaa/x") == "of web"


def test_who_goes_on_as_a_member_is_kept_from_no_scope_by_another_one(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "web", "read")
    world.scopes().grant("pay", "web", "write")
    world.as_member("pay")
    ScopeCompromise(world.admin().authority).declare()
    plant(world, NOTE, b"{}")
    with pytest.raises(Tampered, match="aaa/"):
        finish_as_member(world.as_member("web"))
    with pytest.raises(SecurecfgError, match="aaa/"):
        ScopeCompromise(world.admin().authority).resume()
    ((count, pay),) = finish_as_member(world.as_member("pay"))
    assert (count, pay.is_done) == (0, True)


def test_what_is_exposed_in_the_other_parts_is_told(world: ScopeWorld) -> None:
    ScopeCompromise(world.admin().authority).declare()
    plant(world, NOTE, b"{}")
    failures: dict[str, SecurecfgError] = {}
    found = []
    for scope, part in world.admin().parts(failures):
        try:
            found += [each.path for each in find_exposed(part.authority)]
        except Tampered as error:
            failures[scope] = error
    assert found == ["pay/x"]
    assert list(failures) == ["aaa/"]
