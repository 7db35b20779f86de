"""Administrators of sealed scopes: several who sign, and those who come after them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.errors import (
    Conflict,
    InvalidMetadata,
    NotAVault,
    RollbackSuspected,
    ScopeSealed,
    SecurecfgError,
    SignaturesMissing,
    Tampered,
)
from securecfg.keys import open_provider
from securecfg.keys.identity import generate_identity, read_identity_file, signing_key_of
from securecfg.keys.keyfile import generate_key_file
from securecfg.keys.role_keys import Certificate, RoleKey, RolePublic
from securecfg.keys.trust import Trust
from securecfg.store import Put, Space, open_sqlite
from securecfg.vault.administration import to_document
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.commits.joint import PartChange
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts
from securecfg.vault.keys.slots import Slots
from securecfg.vault.paths import CHARTER_PATH, SUCCESSION_PATH
from securecfg.vault.rekeying.compromise import Compromise
from securecfg.vault.scopes.chartering import Chartering
from securecfg.vault.scopes.charters import LIST, SignedCharter
from securecfg.vault.scopes.founding import charter_content
from securecfg.vault.scopes.late_grants import WITH_CHANGE
from securecfg.vault.scopes.opening import charter_of, trusts_of
from securecfg.vault.scopes.registry import read_administrators, read_own_keys, read_registry
from securecfg.vault.scopes.scoped_administration import ScopedAdministration
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.scopes.seats import Seat
from securecfg.vault.state.replica import Replica
from securecfg.vault.trust.certificates import CERTIFICATES_PATH, signatures_to_json
from securecfg.vault.trust.signatories import HeldKeys
from securecfg.vault.trust.successions import Step, Succession, parse_succession, step_message, succession_from_json
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.scope_world import ScopeWorld, accepted_by, scope_world
from tests.vault.scopes.test_crashes import verify_rights
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.keys import Identity
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.scopes.charters import Charter
    from securecfg.vault.trust.signatories import Signatories


class People:
    """Administrators with their private halves, as they sit around one table."""

    def __init__(self, *names: str) -> None:
        made = {name: generate_identity(f"user:{name}") for name in names}
        self.identities = [identity for identity, _ in made.values()]
        self.signers = {identity.verifier: signing_key_of(seed).sign for identity, seed in made.values()}
        self._names = list(names)

    def only(self, *names: str) -> Callable[[Trust], Signatories]:
        """Return what signs for some of them."""
        keys = [self.identities[self._names.index(name)].verifier for name in names]
        return lambda trust: HeldKeys(trust, {key: self.signers[key] for key in keys})

    def named(self, *names: str) -> list[Identity]:
        return [self.identities[self._names.index(name)] for name in names]


PEOPLE = People("alice", "bob", "carol", "dave")
ALL = PEOPLE.only("alice", "bob", "carol", "dave")


def make_world(folder: Path) -> ScopeWorld:
    """Two scopes: one that its role writes, and one that the vault's own key writes."""
    world = scope_world(folder)
    world.scopes().create("web", read=["web"], write=["web"])
    world.scopes().create("pay", read=["pay"])
    world.as_member("web").write("web/key", "of web")
    world.admin().write("pay/key", "of pay")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def changes_of(world: ScopeWorld, signing: Callable[[Trust], Signatories] | None = ALL) -> AdministratorChanges:
    return AdministratorChanges(world.admin().authority, signing)


def scopes_of(world: ScopeWorld, *names: str) -> Scopes:
    """Return what some of the people can do together."""
    return Scopes.with_signing(world.admin().authority, PEOPLE.only(*names))


def hand_over(world: ScopeWorld, *names: str, threshold: int = 2) -> None:
    changes_of(world).set(PEOPLE.named(*(names or ("alice", "bob", "carol"))), threshold)


# --- several administrators -------------------------------------------------------------------------------------------


def test_at_first_the_vaults_own_key_is_the_administrator(world: ScopeWorld) -> None:
    info = changes_of(world).look()
    assert (info.threshold, info.people, info.serial, info.pending) == (1, [], 0, [])


def test_members_follow_to_the_new_administrators(world: ScopeWorld) -> None:
    early = world.as_member("pay")
    assert text_of(early, "pay/key") == "of pay"
    hand_over(world)
    info = changes_of(world).look()
    assert (info.threshold, [person.name for person in info.people]) == (2, ["user:alice", "user:bob", "user:carol"])
    assert (info.serial, info.pending) == (1, [])
    assert (accepted_by(world, "pay", "pay/key"), accepted_by(world, "web", "web/key")) == ("of pay", "of web")
    assert text_of(early, "pay/key") == "of pay"
    assert trusts_of(world.as_member("pay").opened)[-1].serial == 1
    for part in (world.admin().scope("pay"), world.admin().scope("web"), world.admin()):
        assert verify_vault(part.opened).problems == []


@pytest.mark.parametrize("names", [(), ("alice",), ("dave",), ("alice", "dave")])
def test_fewer_than_are_needed_change_nothing(world: ScopeWorld, names: tuple[str, ...]) -> None:
    hand_over(world)
    with pytest.raises(SignaturesMissing):
        scopes_of(world, *names).grant("pay", "audit", "list")
    with pytest.raises(SignaturesMissing):
        scopes_of(world, *names).revoke("pay", "pay", "list")
    with pytest.raises(SignaturesMissing):
        world.scopes().grant("pay", "audit", "list")
    with pytest.raises(SignaturesMissing):
        scopes_of(world, *names).create("new", read=["pay"])
    assert world.scopes().show("pay").revision == 2
    assert world.scopes().paths() == ["pay/", "web/"]


def test_as_many_as_are_needed_do_everything(world: ScopeWorld) -> None:
    hand_over(world)
    scopes_of(world, "alice", "carol").grant("pay", "audit", "read")
    world.admin().write("pay/later", "1")
    assert accepted_by(world, "audit", "pay/later") == "1"
    scopes_of(world, "bob", "carol").revoke("pay", "audit", "list")
    assert accepted_by(world, "audit", "pay/later") == "wrong-key"
    scopes_of(world, "alice", "bob").create("new", read=["audit"])
    world.admin().write("new/a", "2")
    assert accepted_by(world, "audit", "new/a") == "2"


def test_a_new_member_needs_the_signatures_too(world: ScopeWorld) -> None:
    hand_over(world)
    with pytest.raises(SignaturesMissing):
        world.person("pay", "second")
    world.as_member("pay")
    assert accepted_by(world, "second", "pay/key") == "wrong-key"
    ScopedAdministration(world.admin().authority, PEOPLE.only("alice", "bob")).propagate()
    world.as_member("pay")
    assert accepted_by(world, "second", "pay/key") == "of pay"


def test_policy_and_roles_reach_a_scope_that_others_write_with_signatures_only(world: ScopeWorld) -> None:
    hand_over(world)
    with pytest.raises(SignaturesMissing):
        world.admin().administration.add_member("ops", "user:olga")
    roles: dict[str, list[str]] = world.as_member("pay").opened.system_document(b"\x01roles", {})
    assert roles["ops"] == ["user:olga"]  # the vault's own key writes there
    assert "ops" not in world.as_member("web").opened.system_document(b"\x01roles", roles | {})
    changes_of(world).resume()
    assert world.as_member("web").opened.system_document(b"\x01roles", {}) == roles
    assert world.scopes().show("web").revision == 3


def test_whoever_has_the_root_alone_changes_no_data_that_readers_accept(world: ScopeWorld) -> None:
    hand_over(world)
    admin, early = world.admin(), world.as_member("web")
    assert text_of(early, "web/key") == "of web"
    with pytest.raises(ScopeSealed, match="only a writer"):
        admin.write("web/key", "x")
    inside = admin.scope("web")
    seat = inside.opened.replica.seat
    assert seat is not None
    own = own_seed(world)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Replica, "may_change", True)
        patched.setattr(Seat, "may_write", True)
        patched.setattr(Seat, "signer", own.signer)
        inside.write("web/key", "forged by the root")
    assert accepted_by(world, "web", "web/key") == "tampered"
    with pytest.raises(Tampered, match="no writer of the scope vouches"):
        early.read("web/key")


def test_whoever_made_an_earlier_change_vouches_for_nothing_under_a_later_one(world: ScopeWorld) -> None:
    hand_over(world)
    scopes = scopes_of(world, "alice", "bob")
    with scopes._inside("web") as executing:
        role = RolePublic(read_registry(world.admin().opened).roles["pay"])
        executing.grant("pay", role, LIST, dict, scopes._holding("pay", role))
        keeper = executing.keeper
        assert charter_of(executing.opened).keeper == keeper.public_key().public_bytes_raw()
    scopes_of(world, "bob", "carol").grant("web", "audit", "list")
    inside = world.admin().scope("web")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Replica, "may_change", True)
        patched.setattr(Seat, "may_write", True)
        patched.setattr(Seat, "signer", keeper)
        inside.write("web/key", "forged")
    assert accepted_by(world, "web", "web/key") == "tampered"


def test_a_writer_is_followed_by_a_change_and_another_writer(world: ScopeWorld) -> None:
    hand_over(world)
    scopes_of(world, "alice", "bob").revoke("web", "web", "write")
    scopes_of(world, "alice", "bob").grant("web", "pay", "write")
    world.as_member("pay").write("web/key", "by pay")
    assert accepted_by(world, "web", "web/key") == "by pay"
    scopes_of(world, "alice", "bob").revoke("web", "pay", "list")
    assert accepted_by(world, "web", "web/key") == "by pay"
    assert verify_vault(world.admin().scope("web").opened).problems == []


def test_members_let_nobody_in_whom_one_administrator_alone_certified(world: ScopeWorld) -> None:
    hand_over(world)
    with pytest.raises(SignaturesMissing):
        world.person("pay", "second")
    member = read_identity_file(world.folder / "second.identity").identity
    with world.scopes()._inside("pay") as inside:
        trust = trusts_of(inside.opened)[-1]
        key = read_registry(world.admin().opened).roles["pay"]
        message = Certificate("pay", key, trust).message(world.admin().opened.replica.vault_id, member)
        alice = PEOPLE.identities[0].verifier
        for count, signers in ((0, [alice, alice]), (1, [alice, PEOPLE.identities[1].verifier])):
            signatures = tuple((signer, PEOPLE.signers[signer](message)) for signer in signers)
            document = {"pay": {"svc:second": signatures_to_json(signatures)}}
            around = PartChange(world.admin().opened, verify_settled=lambda: None)
            documents = {CERTIFICATES_PATH: to_document(document)}
            inside.write_documents(lambda documents=documents, around=around: (documents, around))  # type: ignore[misc]  # lambda default
            world.as_member("pay")
            assert (accepted_by(world, "second", "pay/key") == "of pay") == bool(count)


def test_numbers_that_cannot_be_are_refused(world: ScopeWorld) -> None:
    alice, bob = PEOPLE.named("alice", "bob")
    for people, threshold in (([alice], 2), ([alice, bob], 0), ([alice, alice], 1), ([], 2)):
        with pytest.raises(InvalidMetadata):
            changes_of(world).set(people, threshold)
    assert changes_of(world).look().serial == 0


def test_a_succession_that_is_full_takes_nobody_in(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(world)
    monkeypatch.setattr("securecfg.vault.administrators.replacing.SUCCESSION_BYTES_MAX", 400)
    with pytest.raises(Conflict, match="too often"):
        hand_over(world, "carol", "dave")
    assert changes_of(world).look().serial == 1


def test_nobody_becomes_an_administrator_who_does_not_sign(world: ScopeWorld) -> None:
    with pytest.raises(SignaturesMissing):
        changes_of(world, PEOPLE.only("alice")).set(PEOPLE.named("alice", "bob"), 2)
    assert (changes_of(world).look().serial, world.scopes().show("pay").revision) == (0, 1)
    assert changes_of(world, PEOPLE.only("alice", "bob")).set(PEOPLE.named("alice", "bob"), 2).serial == 1


def test_administrators_hand_over_to_others_and_back_to_the_vault(world: ScopeWorld) -> None:
    hand_over(world, "alice", "bob")
    for names in (("alice", "dave"), ("carol", "dave"), ("bob",)):
        with pytest.raises(SignaturesMissing):
            changes_of(world, PEOPLE.only(*names)).set(PEOPLE.named("carol", "dave"), 2)
    hand_over(world, "carol", "dave")
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    with pytest.raises(SignaturesMissing):
        scopes_of(world, "alice", "bob").grant("pay", "audit", "list")
    assert changes_of(world).set([], 1).serial == 3
    world.scopes().grant("pay", "audit", "list")
    assert accepted_by(world, "pay", "pay/key") == "of pay"


# --- whom readers believe ---------------------------------------------------------------------------------------------


def publish_charter(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, *names: str, document: bytes | None = None
) -> None:
    """Publish a charter that some have signed, as somebody with the vault's root can who keeps to no rule."""
    with world.scopes()._inside("pay") as inside:
        opened = inside.opened
        before = charter_of(opened)
        charter = before._replace(serial=before.serial + 1, previous=before.digest)
        signatures = tuple(
            (person.verifier, PEOPLE.signers[person.verifier](charter.message)) for person in PEOPLE.named(*names)
        )
        signed = SignedCharter(charter, signatures)

        def plan(publication: Publication) -> Plan:
            plan = Plan(charter=signed)
            drafts = Drafts(opened, publication)
            plan.join(drafts.write(CHARTER_PATH, charter_content(signed), inside._new_version()))
            if document is not None:
                content = to_document(parse_succession(document).to_json())
                plan.join(drafts.write(SUCCESSION_PATH, content, inside._new_version()))
            # Of the records the first carries the changes of the index.
            obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
            plan.records = [inside._authority.session().record(Event.SCOPE_CHANGED, obj)]
            return plan

        with monkeypatch.context() as patch:
            # What others make of it counts, and not what this process would.
            patch.setattr(Seat, "verify", lambda *_: signed)
            opened.publisher.publish(plan)


@pytest.mark.parametrize("names", [("alice",), ("alice", "alice"), ("alice", "dave"), ()])
def test_a_charter_of_too_few_is_accepted_by_nobody(
    world: ScopeWorld, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(world)
    publish_charter(world, monkeypatch, *names)
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_a_charter_of_enough_is_accepted_as_it_is_tried_with_fewer(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(world)
    publish_charter(world, monkeypatch, "alice", "bob")
    assert accepted_by(world, "pay", "pay/key") == "of pay"


def test_a_charter_of_former_administrators_is_accepted_by_nobody(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(world, "alice", "bob")
    hand_over(world, "carol", "dave")
    publish_charter(world, monkeypatch, "alice", "bob")
    assert accepted_by(world, "pay", "pay/key") == "tampered"


def test_who_knows_successors_does_not_go_back(world: ScopeWorld) -> None:
    world.as_member("pay")
    world.close()
    before = world.path.read_bytes()
    hand_over(world)
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    world.close()
    world.path.write_bytes(before)
    assert accepted_by(world, "pay", "pay/key") == "rollback-suspected"


def succession_of(world: ScopeWorld) -> tuple[bytes, Succession]:
    admin = world.admin()
    own = read_own_keys(admin.opened)
    assert own is not None
    return admin.opened.replica.vault_id, read_administrators(admin.opened, own.current).succession


def test_every_step_needs_the_signatures_of_those_before(world: ScopeWorld) -> None:
    hand_over(world, "alice", "bob", "carol")
    hand_over(world, "carol", "dave")
    vault_id, succession = succession_of(world)
    first, second, third = succession.first, succession.steps[0].trust, succession.steps[1].trust
    assert succession.follow(vault_id, first) == (first, second, third)
    assert succession.follow(vault_id, second) == (second, third)
    message = step_message(vault_id, second, third)
    signed = {
        name: (person.verifier, PEOPLE.signers[person.verifier](message))
        for name, person in zip(("alice", "bob", "carol", "dave"), PEOPLE.identities, strict=True)
    }
    for names in ((), ("alice",), ("alice", "alice"), ("dave",), ("alice", "dave")):
        bad = succession._replace(steps=(succession.steps[0], Step(third, tuple(signed[name] for name in names))))
        with pytest.raises(Tampered, match="without the signatures"):
            bad.follow(vault_id, first)
    with pytest.raises(Tampered):
        succession.follow(bytes(16), first)
    for trust in (third._replace(serial=3), third._replace(serial=1), third._replace(threshold=1)):
        bad = succession._replace(steps=(succession.steps[0], Step(trust, succession.steps[1].signatures)))
        with pytest.raises(Tampered):
            bad.follow(vault_id, first)


def test_a_fork_is_followed_by_nobody_who_knows_the_other_branch(world: ScopeWorld) -> None:
    hand_over(world, "alice", "bob")
    vault_id, succession = succession_of(world)
    keys = tuple(person.verifier for person in PEOPLE.named("carol", "dave"))
    branch = succession._replace(steps=(Step(Trust(keys, 2, 1), succession.steps[0].signatures),))
    with pytest.raises(Tampered, match="do not descend"):
        branch.follow(vault_id, succession.newest)
    with pytest.raises(RollbackSuspected):
        Succession(succession.first).follow(vault_id, succession.newest)


def test_what_stands_before_those_who_are_known_is_not_believed(world: ScopeWorld) -> None:
    hand_over(world, "alice", "bob")
    vault_id, succession = succession_of(world)
    mallory = RoleKey("administrator", b"m" * 32)
    forged = Succession(Trust((mallory.signing_key,), 1), (Step(succession.first, ()), *succession.steps))
    assert forged.follow(vault_id, succession.first) == (succession.first, succession.newest)
    with pytest.raises(Tampered):
        forged.follow(vault_id, forged.first)


def test_every_cut_or_altered_document_is_refused(world: ScopeWorld) -> None:
    hand_over(world, "alice", "bob")
    _, succession = succession_of(world)
    document = succession.to_json()
    assert succession_from_json(document) == succession
    text = document["succession"]
    for bad in (text[:-4], text + "AAAA", "", "????", "AAAA" + text[4:], text[:20]):
        with pytest.raises(Tampered):
            succession_from_json({"succession": bad})
    others: tuple[object, ...] = ({}, [], None, {"succession": 1})
    for other in others:
        with pytest.raises(Tampered):
            succession_from_json(other)
    for content in (b"", b"{", b"\xff", b"[1]"):
        with pytest.raises(Tampered):
            parse_succession(content)


def test_a_first_reader_takes_memberships_of_one_line_for_one(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hand_over(world)
    member = read_identity_file(world.folder / "pay.identity").identity
    administration = ScopedAdministration(world.admin().authority, PEOPLE.only("alice", "bob"))
    administration.add_member("audit", "svc:pay", identity=member)
    scopes_of(world, "alice", "bob").create("new", read=["audit"])
    world.admin().write("new/a", "1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    pay = world.as_member("pay")
    assert (text_of(pay, "pay/key"), text_of(pay, "new/a")) == ("of pay", "1")


def test_who_was_let_in_by_successors_opens_it_where_their_forerunners_are_known(world: ScopeWorld) -> None:
    world.as_member("pay")
    hand_over(world)
    scopes_of(world, "alice", "bob").create("new", read=["audit"])
    world.admin().write("new/a", "1")
    assert accepted_by(world, "audit", "new/a") == "1"


# --- the vault's own key ----------------------------------------------------------------------------------------------


def own_seed(world: ScopeWorld) -> RoleKey:
    own = read_own_keys(world.admin().opened)
    assert own is not None
    return own.current


@pytest.mark.no_cover
@pytest.mark.parametrize("readers", [[], ["pay"]])
def test_another_own_key_of_a_shared_scope_loses_no_value_key_however_many_there_are(
    tmp_path: Path, readers: list[str]
) -> None:
    world = scope_world(tmp_path, ("pay", "web"))
    scopes = world.scopes()
    scopes.create("both", read=readers, write=["pay"], is_shared=True)
    for number in range(WITH_CHANGE):
        scopes.grant("both", "web", "read")
        scopes.revoke("both", "web", "read")
        world.as_member("pay").write(f"both/{number}", str(number))
    AdministratorChanges(world.admin().authority).rotate()
    world.as_member("pay").write("both/new", "new")
    told = {f"both/{number}": str(number) for number in range(WITH_CHANGE)} | {"both/new": "new"}
    for vault in (world.admin(), *map(world.as_member, readers)):
        assert {path: text_of(vault, path) for path in vault.list()} == told
    world.close()


@pytest.mark.parametrize("by_people", [False, True])
def test_the_own_key_is_replaced_and_the_old_one_opens_and_signs_nothing(world: ScopeWorld, by_people: bool) -> None:
    world.scopes().create("both", read=["web"], write=["web"], is_shared=True)
    world.as_member("web").write("both/a", "1")
    world.as_member("pay")
    if by_people:
        hand_over(world)
    old = own_seed(world)
    info = changes_of(world).rotate()
    assert (info.pending, info.serial) == ([], 1)
    new = own_seed(world)
    assert new.signing_key != old.signing_key
    own = read_own_keys(world.admin().opened)
    assert own is not None
    assert own.former == ()
    assert (accepted_by(world, "pay", "pay/key"), accepted_by(world, "web", "web/key")) == ("of pay", "of web")
    admin = world.admin()
    assert text_of(admin, "both/a") == "1"
    world.as_member("web").write("both/b", "2")
    assert text_of(world.admin(), "both/b") == "2"
    with pytest.raises(ScopeSealed):
        admin.read("pay/key")
    admin.write("pay/key", "newer")
    assert accepted_by(world, "pay", "pay/key") == "newer"
    store, door = admin.opened.store, world.scopes().doorway()
    assert door is not None
    for number in store.partitions():
        assert door._replace(keys=[old]).open(number) is None
        assert store.partition(number).scan(Space.GRANT, 0, 1 << 40, 100) is not None
    for path in ("pay", "web", "both"):
        assert verify_vault(world.admin().scope(path).opened).problems == []
        assert world.scopes().show(path).roles["administrator"]


def test_an_early_handle_ends_with_the_own_key_that_it_was_opened_with(world: ScopeWorld) -> None:
    early = world.admin()
    early.list("pay/")
    changes_of(world).rotate()
    with pytest.raises(SecurecfgError) as refused:
        early.write("pay/key", "x")
    assert refused.value.code == "slot-removed"


@pytest.mark.parametrize("by_people", [False, True])
def test_whose_key_of_the_vault_is_removed_knows_no_key_of_its_scopes(world: ScopeWorld, by_people: bool) -> None:
    world.as_member("pay")
    if by_people:
        hand_over(world)
    admin = world.admin()
    generate_key_file(world.folder / "second.key")
    number = Slots(admin.authority).add(open_provider(f"file:{world.folder / 'second.key'}"))
    known = world.open(key=f"file:{world.folder / 'second.key'}")
    own = read_own_keys(known.opened)
    assert own is not None
    assert not changes_of(world).look().is_exposed
    if by_people:
        with pytest.raises(SignaturesMissing) as refused:
            Slots(world.admin().authority).remove(number)
        assert "scope administrators resume" in refused.value.hint
        assert changes_of(world).look().is_exposed
        changes_of(world).resume()
    else:
        Slots(world.admin().authority).remove(number)
    assert not changes_of(world).look().is_exposed
    store, door = world.admin().opened.store, world.scopes().doorway()
    assert door is not None
    assert all(door._replace(keys=own.all).open(number) is None for number in store.partitions())
    assert (accepted_by(world, "pay", "pay/key"), accepted_by(world, "web", "web/key")) == ("of pay", "of web")


def test_after_a_compromise_the_scopes_have_another_key(world: ScopeWorld) -> None:
    old = own_seed(world)
    Compromise(world.admin().authority).declare(reason="a test")
    assert own_seed(world).signing_key != old.signing_key
    assert changes_of(world).look() == changes_of(world).resume()
    assert accepted_by(world, "pay", "pay/key") == "of pay"


def test_a_vault_without_scopes_gets_no_key_for_them(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = scope_world(tmp_path / "plain")
    Compromise(plain.admin().authority).declare(reason="a test")
    assert read_own_keys(plain.admin().opened) is None
    plain.close()


def test_two_changes_at_once_are_a_conflict(world: ScopeWorld) -> None:
    def slow(trust: Trust) -> Signatories:
        if not moved:
            moved.append(True)
            hand_over(world, "carol", "dave")
        return ALL(trust)

    moved: list[bool] = []
    with pytest.raises(Conflict):
        changes_of(world, slow).set(PEOPLE.named("alice", "bob"), 2)
    assert [person.name for person in changes_of(world).look().people] == ["user:carol", "user:dave"]
    assert accepted_by(world, "pay", "pay/key") == "of pay"


def test_a_charter_that_gives_a_role_the_slot_of_another_is_refused_before_anybody_is_given_values(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().grant("web", "audit", "list")
    hand_over(world)
    swapped: dict[str, bytes] = {}
    charter_after = Chartering._charter_after

    def swap(self: Chartering, draft: Any) -> Charter:  # noqa: ANN401 - private
        charter = charter_after(self, draft)
        slots = {party.role: party.slot_id for party in charter.parties}
        swapped.update(swapped or {"audit": slots["web"], "web": slots["audit"]})
        parties = [party._replace(slot_id=swapped.get(party.role, party.slot_id)) for party in charter.parties]
        return charter._replace(parties=tuple(parties))

    with monkeypatch.context() as patch:
        patch.setattr(Chartering, "_charter_after", swap)
        Scopes.with_signing(world.admin().authority, ALL).grant("web", "pay", "list")
    assert accepted_by(world, "web", "web/key") == "tampered"
    assert accepted_by(world, "audit", "web/key") == "tampered"


# --- kills ------------------------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[AdministratorChanges], object]] = {
    "set": lambda changes: changes.set(PEOPLE.named("alice", "bob", "carol"), 2),
    "rotate": lambda changes: changes.rotate(),
    "rotate-by-people": lambda changes: changes.rotate(),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("change", CHANGES)
def test_wherever_a_change_dies_it_is_finished_by_the_next(tmp_path: Path, change: str) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin")
    origin.scopes().create("pay", read=["pay", "web"])
    origin.scopes().create("other", read=["audit"], is_shared=True)
    for number in range(3):
        origin.admin().write(f"pay/{number}", str(number))
    origin.scopes().grant("pay", "web", "write")
    if change == "rotate-by-people":
        hand_over(origin)
    before = (own_seed(origin).signing_key, changes_of(origin).look().serial)
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                CHANGES[change](AdministratorChanges(dying(world, crash.changes).authority, ALL))
            info = changes_of(world).resume()
            assert info.pending == []
            if (own_seed(world).signing_key, info.serial) == before and not attempt.is_done:
                CHANGES[change](changes_of(world))
            info = changes_of(world).look()
            assert (info.pending, info.serial) == ([], 1)
            assert (own_seed(world).signing_key == before[0]) == (change == "set")
            own = read_own_keys(world.admin().opened)
            assert own is not None
            assert own.former == ()
            verify_rights(world)
            if attempt.is_done:
                break
    assert crash.changes >= 3


@pytest.mark.no_cover
def test_a_departure_that_people_signed_is_finished_wherever_it_died(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin")
    origin.scopes().create("pay", read=["pay", "web"], write=["pay"])
    for number in range(3):
        origin.as_member("pay").write(f"pay/{number}", str(number))
    hand_over(origin)
    origin.close()
    behind = 0
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                Scopes.with_signing(dying(world, crash.changes).authority, ALL).revoke("pay", "web", "list")
            behind += bool(changes_of(world).look().pending)
            assert changes_of(world).resume().pending == []
            with world.scopes()._inside("pay") as inside:
                assert not inside._is_stale()
            assert (accepted_by(world, "pay", "pay/1"), accepted_by(world, "web", "pay/1")) in (
                ("1", "1"),
                ("1", "wrong-key"),
            )
            assert verify_vault(world.admin().scope("pay").opened).problems == []
            if attempt.is_done:
                break
    assert behind


# --- a scope that is damaged ------------------------------------------------------------------------------------------


def spoil(world: ScopeWorld, number: int) -> Callable[[], None]:
    """Alter one byte of the slots of a scope, as whoever may write the file can; return what mends it."""
    with closing(open_sqlite(world.path)) as store:
        part = store.partition(number)
        ((id_, row), *_) = part.scan(Space.META, 256, 511, 1)
        part.stage([Put(Space.META, id_, row[:-1] + bytes((row[-1] ^ 1,)))])

    def mend() -> None:
        with closing(open_sqlite(world.path)) as store:
            store.partition(number).stage([Put(Space.META, id_, row)])

    return mend


def test_a_damaged_scope_keeps_the_others_from_nothing(world: ScopeWorld) -> None:
    """Whoever had a key of the vault could else damage one scope, and keep what opens all of them."""
    own = read_own_keys(world.admin().opened)
    assert own is not None
    mend = spoil(world, 1)
    changes = changes_of(world)
    with pytest.raises(NotAVault) as failed:
        changes.rotate()
    assert "web/" in failed.value.hint
    info = changes_of(world).look()
    assert (info.damaged, info.pending) == (["web/"], [])
    charter = charter_of(world.admin().scope("pay").opened)
    now = read_own_keys(world.admin().opened)
    assert now is not None
    assert charter.own_key() == now.current.signing_key != own.current.signing_key
    with pytest.raises(NotAVault):
        changes_of(world).resume()
    mend()
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    assert changes_of(world).look().pending == ["web/"]
    with pytest.raises(RollbackSuspected, match="web/"):
        # What former administrators may have done to it meanwhile, nobody knows.
        changes_of(world).resume()
    info = changes_of(world).resume(accept=["web/"])
    assert (info.damaged, info.pending) == ([], [])
    assert charter_of(world.admin().scope("web").opened).own_key() == now.current.signing_key
    assert accepted_by(world, "web", "web/key") == "of web"


def test_a_damaged_scope_is_named_where_all_are_accepted(world: ScopeWorld) -> None:
    mend = spoil(world, 1)
    with pytest.raises(ScopeSealed, match="`web/`"):
        world.scopes().adopt()
    mend()
    assert world.scopes().adopt() == 2
