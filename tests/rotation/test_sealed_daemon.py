"""Daemons and sealed scopes: which ones each goes over, and what becomes of them while it runs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.clock import SystemClock
from securecfg.errors import TargetUnavailable
from securecfg.rotation import daemon as module
from securecfg.rotation.daemon import Daemon, Limits
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.steps import Steps
from securecfg.store import Put, Space
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.paths import ROTATION_NEWS_PATH
from securecfg.vault.scopes.scopes import Scopes
from tests.rotation.scope_world import FIRST, PATH, RULES, make_due, sealed_world
from tests.rotation.test_daemon import running, until

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault
    from tests.rotation.scope_world import SealedWorld

world = sealed_world

WEB = "web/db"


class _Office:
    """Who has a rotation in the scope pay/ and one in web/, by the real time."""

    def __init__(self, world: SealedWorld) -> None:
        world.clock.ns = 0  # the records of the past are older than those of the real time
        self.world = world
        self.account = world.account
        self.vaults = {name: self.open(name) for name in ("pay", "web")}
        self.vaults["web"].write(WEB, {"username": "shop", "password": FIRST})

    def open(self, name: str) -> Vault:
        if name == "root":
            return self.world.open(clock=SystemClock())
        return self.world.open(None, key=f"identity:{self.world.folder / name}.identity", clock=SystemClock())

    def scopes(self) -> Scopes:
        return Scopes(self.open("root").authority)

    def daemon(self, name: str, **limits: float) -> Daemon:
        given = Limits(**{"calls_per_s": 1e6, **limits})  # type: ignore[arg-type]  # by their names
        return Daemon(lambda: self.open(name), limits=given, find=self.account.rotator)

    def part(self, path: str) -> Vault:
        return self.vaults[path.partition("/")[0]].scope(path)

    def set(self, path: str) -> None:
        vault = self.vaults[path.partition("/")[0]]
        Rotations(vault, find=self.account.rotator).set(path, RULES._replace(grace_s=0))

    def make_due(self, path: str) -> None:
        self.set(path)
        make_due(self.part(path), path)

    def count(self, path: str) -> int:
        return Steps(self.part(path).authority).find(path).rotation.rotations


@pytest.fixture
def office(world: SealedWorld) -> _Office:
    return _Office(world)


def test_each_of_two_daemons_rotates_in_the_scope_that_it_opens(office: _Office) -> None:
    pay, web = office.daemon("pay"), office.daemon("web")
    with running(pay), running(web):
        until(lambda: pay.health().is_ready and web.health().is_ready)
        office.make_due(WEB)
        until(lambda: office.count(WEB) == 1)
        assert pay.health().rotations == {}
        office.make_due(PATH)
        until(lambda: office.count(PATH) == 1)
        until(lambda: web.health().rotations == {"idle": 1} == pay.health().rotations)
        assert not web.health().hindered


def test_a_daemon_by_the_root_goes_over_the_vault_and_leaves_scopes_that_it_does_not_read(office: _Office) -> None:
    admin = office.open("root")
    admin.write("app/db", {"username": "shop", "password": FIRST})
    Rotations(admin, find=office.account.rotator).set("app/db", RULES._replace(grace_s=0))
    office.make_due(PATH)
    before = Steps(office.part(PATH).authority).find(PATH)
    root = office.daemon("root")
    with running(root):
        until(lambda: root.health().is_ready)
        make_due(admin, "app/db")
        until(lambda: Steps(admin.authority).find("app/db").rotation.rotations == 1)
        assert root.health().rotations == {"idle": 1}
        assert not root.health().hindered
    assert Steps(office.part(PATH).authority).find(PATH) == before
    with running(office.daemon("pay")):
        until(lambda: office.count(PATH) == 1)


def test_a_daemon_by_the_root_rotates_in_a_shared_scope_that_is_made_while_it_runs(world: SealedWorld) -> None:
    office = _Office(world)
    root = office.daemon("root")
    with running(root):
        until(lambda: root.health().is_ready)
        office.scopes().create("shared", is_shared=True)
        admin = office.open("root")
        admin.write("shared/db", {"username": "shop", "password": FIRST})
        Rotations(admin, find=office.account.rotator).set("shared/db", RULES._replace(grace_s=0))
        until(lambda: root.health().rotations == {"idle": 1})
        part = admin.scope("shared")
        make_due(part, "shared/db")
        until(lambda: Steps(part.authority).find("shared/db").rotation.rotations == 1)


def test_a_scope_that_is_granted_while_it_runs_is_found(office: _Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCOPES_S", 0.2)
    monkeypatch.setattr(module, "AWAKE_S", 0.1)
    web = office.daemon("web")
    with running(web):
        until(lambda: web.health().is_ready)
        office.make_due(PATH)
        office.scopes().grant("pay", "web", "read")
        office.scopes().grant("pay", "web", "write")
        office.open("pay")  # who gives what was written before to the new reader
        until(lambda: office.count(PATH) == 1)


def test_a_scope_that_is_granted_is_found_at_once_by_who_is_told_to_look(office: _Office) -> None:
    web = office.daemon("web")
    with running(web):
        until(lambda: web.health().is_ready)
        office.make_due(PATH)
        office.scopes().grant("pay", "web", "read")
        office.scopes().grant("pay", "web", "write")
        office.open("pay")
        web.reload()
        until(lambda: office.count(PATH) == 1)


def test_a_scope_that_is_taken_away_is_not_there_any_more_and_the_others_go_on(office: _Office) -> None:
    for right in ("read", "write"):
        office.scopes().grant("pay", "web", right)
    office.open("pay")
    office.set(PATH)
    office.set(WEB)
    web = office.daemon("web")
    with running(web):
        until(lambda: web.health().rotations == {"idle": 2})
        office.scopes().revoke("pay", "web", "list")
        until(lambda: web.health().rotations == {"idle": 1} and web.health().is_ready)
        make_due(office.part(PATH))
        make_due(office.part(WEB), WEB)
        until(lambda: office.count(WEB) == 1)
        assert office.count(PATH) == 0


def test_a_right_that_is_taken_away_and_given_back_is_followed(office: _Office) -> None:
    office.set(PATH)
    pay = office.daemon("pay")
    with running(pay):
        until(lambda: pay.health().rotations == {"idle": 1})
        office.scopes().grant("pay", "audit", "write")
        office.scopes().revoke("pay", "pay", "write")
        until(lambda: pay.health().rotations == {} and pay.health().reason == "scope-sealed")
        office.scopes().grant("pay", "pay", "write")
        until(lambda: pay.health().rotations == {"idle": 1} and pay.health().is_ready)
        make_due(office.open("pay").scope("pay"))
        until(lambda: office.count(PATH) == 1)


def test_who_reads_and_writes_nothing_says_so(office: _Office) -> None:
    audit = office.daemon("audit")
    with running(audit):
        until(lambda: audit.health().reason == "scope-sealed")
        assert audit.health().is_alive


def test_a_scope_that_is_merged_is_left_and_the_vault_goes_on(office: _Office) -> None:
    office.scopes().create("shared", is_shared=True)
    admin = office.open("root")
    root = office.daemon("root")
    with running(root):
        until(lambda: root.health().is_ready)
        ScopeMoves(office.open("root").authority).merge("shared")
        admin.write("app/db", {"username": "shop", "password": FIRST})
        Rotations(admin, find=office.account.rotator).set("app/db", RULES._replace(grace_s=0))
        make_due(admin, "app/db")
        until(lambda: Steps(admin.authority).find("app/db").rotation.rotations == 1)
        assert root.health().is_ready


def test_a_damaged_scope_is_told_of_and_stops_nothing_else(office: _Office) -> None:
    office.scopes().create("shared", is_shared=True)
    admin = office.open("root")
    admin.write("shared/db", {"username": "shop", "password": FIRST})
    admin.write("app/db", {"username": "shop", "password": FIRST})
    rotations = Rotations(admin, find=office.account.rotator)
    rotations.set("shared/db", RULES)
    opened = admin.scope("shared").opened
    entry = opened.entry(ROTATION_NEWS_PATH)
    assert entry is not None
    row = opened.locate(ROTATION_NEWS_PATH, entry, 0).version.value_id
    root = office.daemon("root")
    with running(root):
        until(lambda: root.health().rotations == {"idle": 1} and root.health().is_ready)
        opened.store.stage([Put(Space.VALUE, row, bytes(64))])
        until(lambda: root.health().reason == "tampered")
        rotations.set("app/db", RULES._replace(grace_s=0))
        make_due(admin, "app/db")
        until(lambda: Steps(admin.authority).find("app/db").rotation.rotations == 1)
        assert root.health().rotations == {"idle": 1}
        root.reload()
        until(lambda: root.health().reason == "tampered")


def test_what_is_under_way_in_a_scope_when_it_is_opened_again_is_not_begun_twice(office: _Office) -> None:
    office.make_due(PATH)
    is_hanging, may_go_on = threading.Event(), threading.Event()
    applied: list[str] = []

    def hang(moment: str) -> None:
        if moment == "before apply":
            applied.append(moment)
            is_hanging.set()
            assert may_go_on.wait(20)

    office.account.hook = hang
    pay = office.daemon("pay", stop_s=0.0)
    with running(pay):
        until(is_hanging.is_set)
        pay.reload()  # which opens the vault again
        time.sleep(0.3)
        assert (len(applied), pay.health().working) == (1, 1)
        may_go_on.set()
        until(lambda: office.count(PATH) == 1)


def test_the_leases_of_two_parts_are_told_apart(office: _Office) -> None:
    for right in ("read", "write"):
        office.scopes().grant("pay", "web", right)
    office.open("pay")
    for path in (PATH, WEB):
        office.set(path)
    numbers = [Steps(office.part(path).authority).find(path).rotation.record for path in (PATH, WEB)]
    assert numbers[0] == numbers[1]
    make_due(office.part(WEB), WEB)
    is_hanging, applied = threading.Event(), list[str]()

    def hang(moment: str) -> None:
        if moment == "before apply" and not is_hanging.is_set():
            is_hanging.set()
            until(lambda: office.count(PATH) == 1)
        if moment == "before apply":
            applied.append(moment)

    office.account.hook = hang
    daemon = office.daemon("web")
    with running(daemon):
        until(is_hanging.is_set)
        make_due(office.part(PATH))
        until(lambda: office.count(WEB) == 1)
        assert len(applied) == 2
        # What was seen of the lease of one would else be taken for what was seen of the other.
        assert len({runner.leases.holder.id for _, runner in daemon._open}) == 2
        assert not daemon.health().hindered


def test_rotations_in_several_parts_share_the_workers_and_the_earliest_comes_first(office: _Office) -> None:
    office.make_due(WEB)
    office.make_due(PATH)
    for right in ("read", "write"):
        office.scopes().grant("pay", "web", right)
    office.open("pay")
    begun: list[str] = []
    daemon = Daemon(
        lambda: office.open("web"),
        limits=Limits(workers=1, calls_per_s=1e6),
        observe=lambda step: begun.append(step.token) if step.from_ == "idle" else None,
        find=office.account.rotator,
    )
    with running(daemon):
        until(lambda: office.count(WEB) == 1 and office.count(PATH) == 1)
    tokens = [Steps(office.part(path).authority).find(path).rotation.progress for path in (WEB, PATH)]
    assert begun == [progress.token for progress in tokens if progress is not None]


def test_a_scope_that_is_merged_while_it_is_worked_at_leaves_the_daemon_ready(office: _Office) -> None:
    office.scopes().create("shared", is_shared=True)
    admin = office.open("root")
    admin.write("shared/db", {"username": "shop", "password": FIRST})
    rotations = Rotations(admin, find=office.account.rotator)
    rotations.set("shared/db", RULES)
    is_hanging, may_go_on = threading.Event(), threading.Event()

    def hang(moment: str) -> None:
        if moment == "before verify":
            is_hanging.set()
            may_go_on.wait(20)

    office.account.hook = hang
    daemon = office.daemon("root")
    with running(daemon):
        until(lambda: daemon.health().is_ready)
        make_due(admin.scope("shared"), "shared/db")
        until(is_hanging.is_set)
        rotations.cancel("shared/db")
        rotations.remove("shared/db", is_abandoned=True)
        ScopeMoves(office.open("root").authority).merge("shared")
        until(lambda: not daemon.health().rotations)
        may_go_on.set()
        until(lambda: daemon.health().working == 0)
        health = daemon.health()
        assert (health.is_ready, health.hindered, health.rotations) == (True, {}, {})


def test_a_target_that_is_away_for_one_part_is_asked_for_the_others(office: _Office) -> None:
    daemon = office.daemon("root")
    office.scopes().create("shared", is_shared=True)
    with running(daemon):
        until(lambda: daemon.health().is_ready)
        breakers = [runner.calls._breakers for _, runner in daemon._open]
    assert len(breakers) > 1
    for _ in range(10):
        breakers[0].failed("db")
    with pytest.raises(TargetUnavailable):
        breakers[0].verify("db")
    for each in breakers[1:]:
        each.verify("db")
