"""Bundles of sealed scopes: what a role reads in them goes in where the publisher reads too, and records come back."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg import Vault
from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    Conflict,
    ScopeSealed,
    SignatureInvalid,
    Tampered,
    WrongKey,
)
from securecfg.keys.identity import format_identity, read_identity_file
from securecfg.policy import Document
from securecfg.vault.administration import to_document
from securecfg.vault.bundles.bundle import Bundle
from securecfg.vault.bundles.exposures import find_known_from_bundles
from securecfg.vault.bundles.format import Evidence, parse_front, trailer_to_bytes
from securecfg.vault.bundles.merging import merge_into_parts
from securecfg.vault.bundles.notes import keys_path, note_path
from securecfg.vault.bundles.parts import BundlePart
from securecfg.vault.bundles.publishing import Bundles
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.members import IDENTITIES_PATH
from securecfg.vault.moves.relocation import Relocation
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.trust.certificates import CERTIFICATES_PATH
from tests.vault.copies import copy_of
from tests.vault.scope_world import EVERYTHING, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.vault.bundles.publishing import Published
    from securecfg.vault.commits.publishing import Publication
    from tests.vault.scope_world import ScopeWorld

TTL = timedelta(days=1)


def make_world(folder: Path) -> ScopeWorld:
    """A vault, a shared scope, two that role `web` reads and writes, and one that it only reads."""
    world = scope_world(folder)
    text = "".join(EVERYTHING.format(role) for role in ("pay", "web", "audit"))
    text = text.replace('"undelete"]', '"undelete", "export"]').replace('["audit.read"]', '["audit.read", "role.read"]')
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    scopes = world.scopes()
    scopes.create("both", read=["web"], write=["web"], list=["audit"], is_shared=True)
    scopes.create("one", read=["web"], write=["web"])
    scopes.create("two", read=["web", "pay"], write=["web"])
    world.admin().write("app/a", "of the vault")
    web = world.as_member("web")
    for path in ("both/a", "one/a", "two/a"):
        web.write(path, f"in {path}")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def by_root(world: ScopeWorld, **options: Any) -> Published:  # noqa: ANN401 - those of `publish`
    options.setdefault("is_partial", True)
    return Bundles.over(world.admin()).publish("web", options.pop("path", world.folder / "b"), ttl=TTL, **options)


def by_member(world: ScopeWorld, **options: Any) -> Published:  # noqa: ANN401 - those of `publish`
    path, role = options.pop("path", world.folder / "m"), options.pop("role", "web")
    return Bundles.over(world.as_member("web")).publish(role, path, ttl=TTL, **options)


def open_bundle(world: ScopeWorld, name: str, reader: str = "web") -> Bundle:
    opened = Vault.open(
        world.folder / name,
        key=f"identity:{world.folder / reader}.identity",
        audit=f"file:{world.folder / name}.sink",
        clock=world.clock,
    )
    assert isinstance(opened, Bundle)
    world.vaults.append(opened)
    return opened


def told(part: Vault, event: Event) -> list[object]:
    return [entry.record.obj.get("path") for entry in part.log.records() if entry.record.event is event]


# --- publishing -------------------------------------------------------------------------------------------------------


def test_the_root_publishes_the_vault_and_its_shared_scopes(world: ScopeWorld) -> None:
    with pytest.raises(ScopeSealed, match="`one/`, `two/`"):
        by_root(world, is_partial=False)
    assert not (world.folder / "b").exists()
    done = by_root(world)
    assert (done.paths, done.scopes, done.left_out) == (("app/a", "both/a"), ("both/",), ("one/", "two/"))
    bundle = open_bundle(world, "b")
    assert [text_of(bundle, path) for path in done.paths] == ["of the vault", "in both/a"]
    for path in ("one/a", "two/a", "both/none"):
        with pytest.raises(AccessDenied):
            bundle.read(path)


def test_an_identity_publishes_what_it_reads_and_writes_without_the_root(world: ScopeWorld) -> None:
    done = by_member(world)
    assert (done.paths, done.scopes, done.left_out) == (
        ("both/a", "one/a", "two/a"),
        ("both/", "one/", "two/"),
        (),
    )
    bundle = open_bundle(world, "m")
    assert [text_of(bundle, path) for path in bundle.list()] == ["in both/a", "in one/a", "in two/a"]
    with pytest.raises(WrongKey):
        open_bundle(world, "m", "pay")


def test_only_for_a_role_whose_key_is_at_hand_does_an_identity_publish(world: ScopeWorld) -> None:
    for role in ("pay", "audit"):
        with pytest.raises(Conflict, match=f"not that of `role:{role}`"):
            Bundles.over(world.as_member("web"), "two").publish(role, world.folder / "p", ttl=TTL)


def test_a_role_gets_only_what_the_charter_lets_it_read(world: ScopeWorld) -> None:
    done = Bundles.over(world.admin()).publish("pay", world.folder / "p", ttl=TTL, is_partial=True)
    assert (done.paths, done.left_out) == (("app/a",), ("two/",))
    world.scopes().grant("both", "pay", "list")
    done = Bundles.over(world.admin()).publish("pay", world.folder / "q", ttl=TTL, is_partial=True)
    assert done.paths == ("app/a",)


def test_who_reads_and_does_not_write_publishes_nothing(world: ScopeWorld) -> None:
    with pytest.raises(ScopeSealed, match="read and write `two/`"):
        Bundles.over(world.as_member("pay")).publish("pay", world.folder / "p", ttl=TTL)
    with pytest.raises(ScopeSealed, match="no scope that this key opens"):
        Bundles.over(world.as_member("pay"), "one")


def test_refuses_recipients_who_are_members_by_policy_alone(world: ScopeWorld) -> None:
    world.person("audit", "third")
    text = "".join(EVERYTHING.format(role) for role in ("pay", "web", "audit"))
    text = text.replace('"undelete"]', '"undelete", "export"]').replace('["svc:web"]', '["svc:web", "svc:third"]')
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    with pytest.raises(Conflict, match="`svc:third` would read sealed scopes"):
        by_root(world)


def test_a_recipient_that_a_writer_made_up_gets_nothing(world: ScopeWorld) -> None:
    world.scopes().grant("one", "pay", "write")
    thief = read_identity_file(world.person("audit", "thief")).identity
    part = world.as_member("pay").scope("one").opened
    lines: dict[str, str] = part.system_document(IDENTITIES_PATH, {})
    certificates: dict[str, dict[str, list[str]]] = part.system_document(CERTIFICATES_PATH, {})
    roles: dict[str, list[str]] = part.system_document(ROLES_PATH, {})
    certificates["web"]["svc:thief"] = certificates["web"]["svc:web"]
    documents = {
        IDENTITIES_PATH: lines | {"svc:thief": format_identity(thief)},
        CERTIFICATES_PATH: certificates,
        ROLES_PATH: roles | {"web": ["svc:thief", "svc:web"]},
    }

    def plan(publication: Publication) -> Plan:
        plan, drafts = Plan(), Drafts(part, publication)
        for path, document in documents.items():
            plan.join(drafts.write(path, to_document(document), NewVersion("svc:pay", world.clock.now_ns())))
        session = world.as_member("pay").scope("one").authority.session()
        plan.records = [session.record(Event.ROLE_CHANGED, {"role": "web"})]
        return plan

    part.publisher.publish(plan)
    done = Bundles.over(world.as_member("web"), "one").publish("web", world.folder / "m", ttl=TTL)
    assert list(done.recipients) == ["svc:web"]


# --- records ----------------------------------------------------------------------------------------------------------


def test_each_read_comes_back_into_the_log_of_its_part(world: ScopeWorld) -> None:
    by_root(world)
    bundle = open_bundle(world, "b")
    for path in ("app/a", "both/a", "app/a"):
        text_of(bundle, path)
    for path in ("both/none", "app/none"):
        with suppress(AccessDenied):
            bundle.read(path)
    bundle.close()
    done = merge_into_parts(world.admin(), world.folder / "b.sink")
    assert (done.sessions, done.foreign, done.refused, done.unfinished) == (2, frozenset(), (), 0)
    admin = world.admin()
    assert set(told(admin, Event.BUNDLE_READ)) == {"app/a"}
    assert told(admin.scope("both"), Event.BUNDLE_READ) == ["both/a"]
    assert told(admin, Event.BUNDLE_DENIED) == ["app/none"]
    assert told(admin.scope("both"), Event.BUNDLE_DENIED) == ["both/none"]
    again = merge_into_parts(world.admin(), world.folder / "b.sink")
    assert (again.records, again.known) == (0, done.records)


def test_a_member_merges_what_was_read_from_its_scopes(world: ScopeWorld) -> None:
    by_member(world)
    bundle = open_bundle(world, "m")
    for path in ("one/a", "two/a"):
        text_of(bundle, path)
    bundle.close()
    # The first session begins with the bundle, in the log that vouches for it.
    done = merge_into_parts(world.as_member("web"), world.folder / "m.sink")
    assert (done.records, done.sessions, done.refused) == (2, 3, ())
    web = world.as_member("web")
    assert [told(web.scope(path), Event.BUNDLE_READ) for path in ("one", "two", "both")] == [["one/a"], ["two/a"], []]


# --- what builds on others --------------------------------------------------------------------------------------------


def test_only_what_changed_in_any_part_is_published_again(world: ScopeWorld) -> None:
    first = by_root(world)
    assert first.value_count == 2
    world.as_member("web").write("both/b", "later")
    second = by_root(world, path=world.folder / "b.1", since=world.folder / "b")
    assert (second.value_count, second.paths) == (1, ("app/a", "both/a", "both/b"))
    bundle = open_bundle(world, "b")
    assert [text_of(bundle, path) for path in second.paths] == ["of the vault", "in both/a", "later"]
    third = by_root(world, path=world.folder / "b.2", since=world.folder / "b.1")
    assert third.value_count == 0
    assert text_of(open_bundle(world, "b"), "both/a") == "in both/a"


# --- who learns what --------------------------------------------------------------------------------------------------


def test_what_a_part_remembers_opens_no_other_part_and_nothing_to_who_lists(world: ScopeWorld) -> None:
    by_member(world)
    bundle_id = parse_front((world.folder / "m").read_bytes()).bundle_id
    listing = world.as_member("audit").opened
    note: dict[str, object] = listing.system_document(note_path(bundle_id), {})
    assert set(note) == {"v", "role", "policy", "issued", "digest", "recipients", "versions"}
    with pytest.raises(ScopeSealed):
        listing.system_document(keys_path(bundle_id), {})
    keys: dict[str, str] = world.as_member("web").scope("two").opened.system_document(keys_path(bundle_id), {})
    raw = b64decode(keys["index"])
    assert b"two/a" in raw
    assert b"one/a" not in raw
    assert b"one/a" not in json.dumps(note).encode()


def test_what_lies_in_a_bundle_for_a_former_member_is_listed_in_its_scope(world: ScopeWorld) -> None:
    world.person("web", "leaver")
    world.as_member("web")
    by_root(world)
    world.admin().administration.remove_member("web", "svc:leaver")
    for path, secret in (("", "app/a"), ("both", "both/a")):
        part = world.admin().scope(path) if path else world.admin()
        found = find_known_from_bundles(part.authority)
        assert [(each.path, each.principal) for each in found] == [(secret, "svc:leaver")]


# --- hostile ----------------------------------------------------------------------------------------------------------


def test_a_statement_that_names_other_scopes_than_the_index_is_refused(world: ScopeWorld) -> None:
    done = by_root(world)
    raw = (world.folder / "b").read_bytes()
    front, admin = parse_front(raw), world.admin()
    tail = sum(4 + len(part) for part in (front.statement, front.proof, front.hand_overs))
    signer, vkey = admin.opened.replica.signer, admin.log.vkey
    scope_id = admin.scope("both").opened.replica.vault_id
    for recorded in ([], [(bytes(16), 1)], [(scope_id, 1), (scope_id, 1)]):
        trailer = trailer_to_bytes(front.digest, vkey, (done.serial, recorded), Evidence(front.proof, ()), signer)
        (world.folder / "b").write_bytes(raw[:-tail] + trailer)
        with pytest.raises(Tampered):
            open_bundle(world, "b")
    (world.folder / "b").write_bytes(raw.replace(f"scope {scope_id.hex()}".encode(), b"scope " + b"0" * 32))
    with pytest.raises(SignatureInvalid):
        open_bundle(world, "b")


# --- what moves between parts -----------------------------------------------------------------------------------------


def known(world: ScopeWorld) -> list[str]:
    """Return the paths that the administrator finds in all parts, each as often as it is found."""
    parts = [part.authority for _, part in world.admin().parts()]
    found = [each for part in parts for each in find_known_from_bundles(part)]
    assert {(each.role, each.principal) for each in found} <= {("web", "svc:leaver")}
    return [each.path for each in found]


def publish_to_who_leaves(world: ScopeWorld) -> None:
    """Publish what is there for somebody who is removed afterwards."""
    world.person("web", "leaver")
    world.as_member("web")
    by_root(world)
    world.admin().administration.remove_member("web", "svc:leaver")


@pytest.fixture
def shared(world: ScopeWorld) -> ScopeWorld:
    """The same with one scope more, in which the administrator reads and writes."""
    world.scopes().create("shared", read=["web"], is_shared=True)
    for path in ("shared/a", "shared/eu/x"):
        world.admin().write(path, f"in {path}")
    return world


def test_what_a_bundle_gave_is_known_wherever_it_is_moved(shared: ScopeWorld) -> None:
    publish_to_who_leaves(shared)
    assert known(shared) == ["app/a", "both/a", "shared/a", "shared/eu/x"]
    ScopeMoves(shared.admin().authority).split("shared", "shared/eu")
    assert known(shared) == ["app/a", "both/a", "shared/a", "shared/eu/x"]
    parts = dict(shared.as_member("web").parts())
    assert [each.path for each in find_known_from_bundles(parts["shared/"].authority)] == ["shared/a"]
    assert [each.path for each in find_known_from_bundles(parts["shared/eu/"].authority)] == ["shared/eu/x"]
    shared.admin().move("app/a", "shared/eu/y")
    shared.admin().move("shared/eu/x", "app/x")
    assert known(shared) == ["app/x", "both/a", "shared/a", "shared/eu/y"]
    for path in ("shared/eu", "shared"):
        ScopeMoves(shared.admin().authority).merge(path)
    assert known(shared) == ["app/x", "shared/a", "shared/eu/y", "both/a"]
    shared.admin().move("app/x", "app/z")
    for path in ("shared/a", "shared/eu/y"):
        shared.admin().write(path, "another")
    assert known(shared) == ["app/z", "both/a"]


def test_what_a_bundle_gave_of_a_subtree_is_known_when_that_is_sealed(world: ScopeWorld) -> None:
    publish_to_who_leaves(world)
    ScopeMoves(world.admin().authority).seal("app", roles={"read": ["pay"], "write": ["pay"]})
    pay = world.as_member("pay").scope("app")
    # Who read the bundle and is in no role of the scope would not be let read it there.
    readers = ["svc:leaver", "svc:web"]
    assert [(each.path, each.principal) for each in find_known_from_bundles(pay.authority)] == [
        ("app/a", reader) for reader in readers
    ]
    KeyChanges(pay.authority).finish_encryption(pay.opened.replica.state.next_id)
    pay.move("app/a", "app/b")
    assert [(each.path, each.principal) for each in find_known_from_bundles(pay.authority)] == [
        ("app/b", reader) for reader in readers
    ]


def test_a_bundle_that_is_published_during_a_move_is_known_afterwards(
    shared: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_changed = Relocation._copy_changed

    def published_meanwhile(move: Relocation) -> None:
        copy_changed(move)
        monkeypatch.setattr(Relocation, "_copy_changed", copy_changed)
        publish_to_who_leaves(shared)

    monkeypatch.setattr(Relocation, "_copy_changed", published_meanwhile)
    shared.admin().move("shared/eu/x", "app/x")
    assert known(shared) == ["app/a", "app/x", "both/a", "shared/a"]


def test_refuses_a_bundle_of_what_is_moved_away_while_it_is_published(
    shared: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = BundlePart.record

    def moved_meanwhile(part: BundlePart, *args: Any) -> int:  # noqa: ANN401 - those of `record`
        monkeypatch.setattr(BundlePart, "record", record)
        shared.admin().move("app/a", "shared/b")
        return record(part, *args)

    monkeypatch.setattr(BundlePart, "record", moved_meanwhile)
    with pytest.raises(Conflict, match="`app/a` changed meanwhile"):
        by_root(shared)
    assert not (shared.folder / "b").exists()


def test_a_value_that_comes_back_is_known_from_a_bundle_still(world: ScopeWorld) -> None:
    publish_to_who_leaves(world)
    world.admin().write("app/a", "another")
    assert known(world) == ["both/a"]
    world.admin().rollback("app/a", to=1)
    assert known(world) == ["app/a", "both/a"]


def test_of_secrets_that_were_written_at_once_those_are_known_that_were_published(
    shared: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(EVERYTHING.format(role) for role in ("pay", "web", "audit"))
    text = text.replace('"undelete"]', '"undelete", "export"]')
    seen = '["app/**", "both/**", "shared/*"]'
    before, web, after = text.partition("[roles.web]")
    text = before + web + after.replace('["**"]', seen, 1)
    shared.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    with monkeypatch.context() as patch:
        patch.setattr(type(shared.clock), "now_ns", lambda clock: clock.ns)
        with shared.admin().scope("shared").batch() as batch:
            for path in ("shared/one", "shared/hidden/two", "shared/hidden/three"):
                batch.write(path, "1")
    publish_to_who_leaves(shared)
    assert known(shared) == ["app/a", "both/a", "shared/a", "shared/one"]
    shared.admin().move("shared/hidden/two", "app/two")
    assert known(shared) == ["app/a", "both/a", "shared/a", "shared/one"]
    shared.admin().move("shared/one", "app/one")
    assert {*known(shared)} >= {"app/a", "app/one", "both/a", "shared/a"}
