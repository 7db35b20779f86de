"""A writer of one scope who puts into its documents what they must not hold: it is his scope alone that suffers."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.errors import IntegrityError, SecurecfgError, Tampered
from securecfg.keys import Keyring, Purpose
from securecfg.keys.role_keys import RolePublic
from securecfg.store import Space
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.bundles.notes import published_by
from securecfg.vault.commits.epochs import plan_key_change
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.documents import read_shaped
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.imports.exposures import marks_of
from securecfg.vault.index.deltas import FreedRun
from securecfg.vault.index.rows import digest_of
from securecfg.vault.keys.departures import find_exposed, newest_compromise, notes_of
from securecfg.vault.keys.limits import read_limits
from securecfg.vault.members import identities_of
from securecfg.vault.opened import POLICY_PATH, ROLES_PATH
from securecfg.vault.paths import SYSTEM
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise, finish_as_member
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import read_own_keys, read_registry
from securecfg.vault.state.head import Staging
from securecfg.vault.trust.certificates import CERTIFICATES_PATH, read_certificates
from tests.vault.copies import copy_of
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault import Vault
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.index.history import History
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.rotation import ScopeRotation

NOTE = SYSTEM + b"departed/z"
IDENTITIES = SYSTEM + b"identities"
HALF = b"\xed\xa0\x80"  # what `json` takes for half a character, and is no UTF-8
WHOLE = {"v": 1, "slot": 1, "kind": "role", "label": "web", "removed_ns": 1, "next_id": 1}


def make_world(folder: Path) -> ScopeWorld:
    """Two scopes, of which `web` writes the one that comes first."""
    world = scope_world(folder)
    scopes = world.scopes()
    scopes.create("aaa", read=["web"], write=["web"])
    scopes.create("pay", read=["pay"], write=["pay"])
    world.as_member("web").write("aaa/x", "of web")
    world.as_member("pay").write("pay/x", "of pay")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
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
    "half a character": (NOTE, without("", below="?").replace(b"?", HALF), notes_of),
    "another encoding": (NOTE, without("", below="?").decode().encode("utf-16"), notes_of),
    "roles of half a character": (ROLES_PATH, b'{"web": ["svc:%s"]}' % HALF, lambda opened: opened.policy()),
    "an identity of half a character": (IDENTITIES, b'{"svc:%s": "x"}' % HALF, identities_of),
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


@pytest.mark.parametrize("what", ["no note", "no policy", "no roles", "no text", "half a character"])
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


def history(
    path: bytes, change: Callable[[History], History] = lambda page: page, **entry: int
) -> Callable[[OpenVault, Publication], Plan]:
    """Return what plans a secret whose history or entry is not as any program writes it."""

    def plan(opened: OpenVault, publication: Publication) -> Plan:
        new = NewVersion("svc:web", opened.clock.now_ns(), is_lookalike_allowed=True)
        plan = Drafts(opened, publication).write(path, Content(KIND_TEXT, 3, lambda: (b"any",)), new)
        ((_, written),) = plan.changes
        if written is None:
            raise TypeError
        rows = opened.replica.rows
        put = next(put for put in plan.puts if put.space is Space.HISTORY)
        row = rows.seal_history(change(rows.open_history(put.row, written.rec_id, path, written.digest)))
        plan.puts = [*(other for other in plan.puts if other is not put), put._replace(row=row)]
        plan.changes = [(path, written._replace(digest=digest_of(row), **entry))]
        return plan

    return plan


def each(**fields: Any) -> Callable[[History], History]:  # noqa: ANN401 - as `Version` has them
    return lambda page: page._replace(versions=tuple(version._replace(**fields) for version in page.versions))


def of_state(**fields: object) -> Callable[[OpenVault, Publication], Plan]:
    return lambda _opened, _publication: Plan(state=dict(fields))


def last_epoch(opened: OpenVault, publication: Publication) -> Plan:
    keyring = opened.replica.keyring
    last = keyring.active(Purpose.AUDIT)._replace(epoch=(1 << 32) - 1)
    others = (entry for entry in keyring.keys if entry.purpose != Purpose.AUDIT)
    return plan_key_change(opened, publication, opened.replica.slots, Keyring((*others, last), keyring.slots))


NEVER_WRITTEN: dict[str, Callable[[OpenVault, Publication], Plan]] = {
    "a path that is no text": history(b"aaa/\xff"),
    "a note without its current version": history(NOTE, lambda page: page._replace(current=7)),
    "a note that is live and has none": history(NOTE, lambda page: page._replace(current=0)),
    "a history that there cannot be": history(b"aaa/m", history_id=1 << 63),
    "a data key that there cannot be": history(b"aaa/m", each(dek_id=1 << 63)),
    "a value that there cannot be": history(b"aaa/m", each(value_id=(1 << 64) - 1)),
    "a space that there is not": lambda _opened, _publication: Plan(freed=[FreedRun(200, 1, 1)]),
    "rows that there cannot be": lambda _opened, _publication: Plan(freed=[FreedRun(Space.DEK, 1 << 63, 1)]),
    "a staging of what there cannot be": of_state(stagings=(Staging(0, (1 << 64) - 1, 1),)),
    "no id that is left": of_state(next_id=(1 << 63) - 1),
    "no generation that is left": of_state(generation=(1 << 63) - 2),
    "no epoch that is left": last_epoch,
}


def plant_rows(world: ScopeWorld, make: Callable[[OpenVault, Publication], Plan]) -> None:
    """Publish in the first scope what its writer can and no program of his would."""
    part: Vault = world.as_member("web").scope("aaa")

    def plan(publication: Publication) -> Plan:
        plan = make(part.opened, publication)
        obj = {"path": "aaa/", "rev": 1, "digest": "00" * 32}
        plan.records = [part.authority.session().record(Event.SCOPE_CHANGED, obj)]
        return plan

    part.opened.publisher.publish(plan)


@pytest.mark.parametrize("what", NEVER_WRITTEN)
def test_what_no_program_writes_keeps_no_other_scope_from_new_keys(world: ScopeWorld, what: str) -> None:
    plant_rows(world, NEVER_WRITTEN[what])
    before, own, registry = epochs_of(world, "pay"), own_key(world), read_registry(world.admin().opened)
    with pytest.raises(IntegrityError):
        ScopeCompromise(world.admin().authority).declare()
    assert not before & epochs_of(world, "pay")
    assert own_key(world) != own
    with suppress(IntegrityError):  # where the scope is as it should be now, that is no error
        ScopeCompromise(world.admin().authority).resume()
    with suppress(IntegrityError):
        RoleRotation(world.admin().authority).rotate_role("pay")
    party = charter_of(world.admin().scope("pay").opened).party("pay")
    assert party is not None
    assert party.signing_key != RolePublic(registry.roles["pay"]).signing_key
    assert text_of(world.as_member("pay").scope("pay"), "pay/x") == "of pay"


@pytest.mark.parametrize("metadata", [b"{", b"[1]", b'{"a": 1}', b'{"a": "\\ud800"}', b"\xff"])
def test_metadata_that_are_none_are_tampered(world: ScopeWorld, metadata: bytes) -> None:
    plant_rows(world, history(b"aaa/m", each(metadata=metadata)))
    member = world.as_member("web")
    for look in (member.history, member.read):
        with pytest.raises(Tampered, match="metadata"):
            look("aaa/m")


def test_a_value_of_more_parts_than_are_there_is_given_up_at_the_first(world: ScopeWorld) -> None:
    plant_rows(world, history(b"aaa/m", each(value_rows=(1 << 32) - 1)))
    ScopeCompromise(world.admin().authority).declare()
    with pytest.raises(Tampered, match="a part of a large value is missing"):
        finish_as_member(world.as_member("web"))


@pytest.mark.parametrize(
    "error", [KeyError(7), ValueError(), struct.error(), UnicodeDecodeError("utf-8", b"", 0, 1, "")]
)
def test_whatever_fails_in_a_scope_is_told_of_it_when_the_others_are_done(world: ScopeWorld, error: Exception) -> None:
    done = []

    def change(inside: ScopeRotation) -> None:
        if charter_of(inside.opened).path == "aaa/":
            raise error
        done.append(charter_of(inside.opened).path)

    with pytest.raises(Tampered, match="aaa/"):
        RoleRotation(world.admin().authority)._in_each(change, None)
    assert done == ["pay/"]


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
