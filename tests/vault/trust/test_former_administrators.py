"""Former administrators who keep a role of their own: what they sign is not taken over by those of today."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.errors import RollbackSuspected, SecurecfgError, StoreFailed
from securecfg.vault.administration import to_document
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.commits.publisher import Publisher
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.keys.departures import newest_compromise
from securecfg.vault.paths import CHARTER_PATH, SUCCESSION_PATH
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise
from securecfg.vault.scopes.charters import LIST, READ, WRITE, SignedCharter
from securecfg.vault.scopes.founding import charter_content
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.seats import Seat
from securecfg.vault.trust import first_seen as scope_trust
from securecfg.vault.trust.successions import Succession
from tests.vault.administrators.test_administrators import changes_of, hand_over, own_seed
from tests.vault.copies import copy_of
from tests.vault.scope_world import accepted_by, scope_world
from tests.vault.scopes.test_attacks import lawless
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.vault.commits.publishing import Publication
    from tests.vault.scope_world import ScopeWorld


def make_world(folder: Path) -> ScopeWorld:
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay"])
    world.scopes().grant("pay", "audit", "list")
    world.admin().write("pay/key", "of pay")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def put_back(
    world: ScopeWorld,
    former: RoleKey,
    trust: Trust,
    monkeypatch: pytest.MonkeyPatch,
    *,
    role: str = "audit",
    scope: str = "pay",
) -> None:
    """As a member who may list, and knows the key of former administrators, make the role a reader and a writer."""
    with monkeypatch.context() as patch:
        lawless(patch)
        patch.setenv("XDG_STATE_HOME", str(world.folder / "elsewhere"))
        part = world.as_member(role).scope(scope)
        opened = part.opened
        seat = opened.replica.seat
        assert seat is not None
        seat.sign_with(former.signer)
        before = charter_of(opened)
        parties = tuple(
            party._replace(rights=LIST | READ | WRITE) if party.role == role else party for party in before.parties
        )
        charter = before._replace(
            serial=before.serial + 1, previous=before.digest, keeper=former.signing_key, parties=parties
        )
        signed = SignedCharter(charter, ((former.signing_key, former.signer.sign(charter.message)),))
        new = NewVersion(f"svc:{role}", opened.clock.now_ns())

        def plan(publication: Publication) -> Plan:
            plan = Plan(charter=signed)
            plan.writer = former.signer
            drafts = Drafts(opened, publication)
            plan.join(drafts.write(CHARTER_PATH, charter_content(signed), new))
            plan.join(drafts.write(SUCCESSION_PATH, to_document(Succession(trust).to_json()), new))
            # Of the records the first carries the changes of the index.
            obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
            plan.records = [part.authority.session().record(Event.SCOPE_CHANGED, obj)]
            return plan

        patch.setattr(Seat, "verify", lambda *_: signed)
        opened.publisher.publish(plan)
        part.close()


@pytest.mark.parametrize("change", ["rotate", "set"])
def test_what_they_sign_afterwards_is_not_taken_over(
    world: ScopeWorld, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, trust = own_seed(world), world.scopes()._administrators().trust
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    if change == "rotate":
        changes_of(world).rotate()
    else:
        hand_over(world)
    assert accepted_by(world, "pay", "pay/key") == "of pay"
    put_back(world, former, trust, monkeypatch)
    assert accepted_by(world, "pay", "pay/key") == "rollback-suspected"
    with pytest.raises(RollbackSuspected) as refused:
        changes_of(world).resume()
    assert "audit (list read write)" in refused.value.message
    assert accepted_by(world, "pay", "pay/key") == "rollback-suspected"
    assert changes_of(world).resume(accept=["pay/"]).pending == []
    assert accepted_by(world, "pay", "pay/key") == "of pay"


def test_a_scope_that_they_changed_keeps_no_other_from_new_keys(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().create("web", read=["web"], write=["web"])
    former, trust = own_seed(world), world.scopes()._administrators().trust
    changes_of(world).rotate()
    put_back(world, former, trust, monkeypatch)
    own = own_seed(world)
    with pytest.raises(RollbackSuspected):
        ScopeCompromise(world.admin().authority).declare()
    assert own_seed(world) != own
    web = world.admin().scope("web").opened
    assert newest_compromise(web) is not None
    assert charter_of(web).own_key() == own_seed(world).signing_key
    with pytest.raises(RollbackSuspected):
        ScopeCompromise(world.admin().authority).resume()
    assert changes_of(world).look().pending == ["pay/"]
    assert changes_of(world).resume(accept=["pay/"]).pending == []
    _, left = ScopeCompromise(world.admin().authority).resume()
    assert [each.path for each in left] == ["pay/", "web/"]
    assert accepted_by(world, "pay", "pay/key") == "of pay"


def test_who_finishes_a_change_forgets_nothing_that_the_next_one_needs(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget, prepare = AdministratorChanges._forget_former, AdministratorChanges._prepare
    pending = [True]

    def prepare_and_die(self: AdministratorChanges, *arguments: Any) -> Any:  # noqa: ANN401 - private
        _, *others = prepare(self, *arguments)

        def publish() -> dict[str, Any]:
            message = "a test"
            raise StoreFailed(message)

        return publish, *others

    def forget_late(self: AdministratorChanges, *arguments: Any) -> None:  # noqa: ANN401 - private
        if pending:
            pending.clear()
            with monkeypatch.context() as patch:
                patch.setattr(AdministratorChanges, "_prepare", prepare_and_die)
                with pytest.raises(StoreFailed):
                    changes_of(world).rotate()
        forget(self, *arguments)

    monkeypatch.setattr(AdministratorChanges, "_forget_former", forget_late)
    first = changes_of(world)
    with suppress(SecurecfgError):
        first.rotate()
    assert not pending
    assert changes_of(world).resume().pending == []
    assert accepted_by(world, "pay", "pay/key") == "of pay"


# --- programs that run for long ---------------------------------------------------------------------------------------


def test_a_program_that_runs_writes_down_to_whom_it_was_led(world: ScopeWorld) -> None:
    running = world.as_member("pay")
    assert text_of(running, "pay/key") == "of pay"
    before = world.scopes()._administrators().trust
    hand_over(world)
    assert text_of(running, "pay/key") == "of pay"
    place = scope_trust._place_of(world.path)
    known = scope_trust._read(place)
    assert known is not None
    assert known[1] == (before, world.scopes()._administrators().trust)


def test_a_program_that_was_led_on_by_one_scope_does_not_go_back_in_another(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().create("rest", read=["pay"])
    world.scopes().grant("rest", "web", "list")
    world.admin().write("rest/key", "of rest")
    former, trust = own_seed(world), world.scopes()._administrators().trust
    running = world.as_member("pay")
    assert [text_of(running, path) for path in ("pay/key", "rest/key")] == ["of pay", "of rest"]
    rest = world.scopes()._registry().scopes["rest/"].scope_id
    publish = Publisher.publish

    def dying(self: Publisher, planner: Callable[[Publication], Plan]) -> object:
        if self._replica.vault_id == rest:
            message = "a test"
            raise StoreFailed(message)
        return publish(self, planner)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish", dying)
        with pytest.raises(StoreFailed):
            hand_over(world)
    assert [text_of(running, path) for path in ("pay/key", "rest/key")] == ["of pay", "of rest"]
    put_back(world, former, trust, monkeypatch, role="web", scope="rest")
    with pytest.raises(RollbackSuspected):
        running.read("rest/key")
    with pytest.raises(RollbackSuspected):
        running.close()
