"""What somebody who has a little more time, or a little less right, than he should must not get out of a mount."""

from __future__ import annotations

import threading
import time
import traceback
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.backends import OpenBackend
from securecfg.clock import to_datetime
from securecfg.errors import (
    AccessDenied,
    BackendDenied,
    BackendLoginRefused,
    BackendUnavailable,
    Conflict,
    InvalidMetadata,
    PathMounted,
    SecretNotFound,
    SecurecfgError,
    StoreBusy,
    Unsupported,
    VaultClosed,
)
from securecfg.mounts import Mount, Mounts
from securecfg.mounts.table import hidden_below
from securecfg.policy import Document
from securecfg.secret import Secret
from securecfg.testing.memory_backend import ALL, MemoryBackend
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.paths import MOUNTS_PATH
from tests.backends.test_handle import UNAVAILABLE, raising
from tests.mounts.memory import CAPABILITIES
from tests.mounts.test_mounted import events, revealed
from tests.vault.world import BLIND, GRANTS, READER, grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault import Vault
    from tests.mounts.conftest import MountWorld

TOKEN = "canary-token-4711"


def other(mounts: MountWorld, name: str = "one") -> OpenBackend:
    """Return the store as somebody else has it."""
    return OpenBackend(MemoryBackend(mounts.store(name)))


# --- policy -----------------------------------------------------------------------------------------------------------


def test_a_permit_that_ends_with_the_time_is_not_outlived_by_what_is_kept(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=3_600, refresh_s=0)
    end = to_datetime(mounts.clock.ns + 600_000_000_000).strftime("%Y-%m-%dT%H:%M:%SZ")
    permit = 'permit (principal == Service::"late", action == Action::"read", resource)'
    rule = f'@id("until") {permit} when {{ context.now < datetime("{end}") }};'
    vault.administration.apply_policy([Document("t.cedar", "cedar", rule)])
    other(mounts).write("a", "1")
    late = mounts.open("svc:late")
    for _ in range(2):
        assert revealed(late.read("app/corp/a")) == "1"
    mounts.clock.advance(timedelta(minutes=30))
    with pytest.raises(AccessDenied):
        late.read("app/corp/a")


def test_what_is_revoked_while_the_store_is_asked_is_not_handed_out(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0)
    vault.write("app/corp/a", "1")
    reader = mounts.open(READER)
    reader.read("app/corp/a")  # so that the next read of this version needs no record of its own
    revoke = GRANTS.replace("svc:reader", "svc:other")
    mounts.store().fail_next(lambda: grant(vault, revoke))
    with pytest.raises(AccessDenied):
        reader.read("app/corp/a")


def test_who_may_not_list_learns_from_no_change_what_is_there(mounts: MountWorld) -> None:
    vault = mounts.mount()
    grant(vault, GRANTS.replace('["read", "write"]', '["read", "write", "delete", "undelete"]'))
    blind = mounts.open(BLIND)
    changes: list[Callable[[], object]] = [
        lambda: blind.delete("app/corp/none"),
        lambda: blind.undelete("app/corp/none", "1"),
        lambda: blind.label("app/corp/none", "x", "1"),
        lambda: blind.rollback("app/corp/none", "1"),
        lambda: blind.write("app/corp/none", "x", expect="1"),
    ]
    for change in changes:
        with pytest.raises(AccessDenied):
            change()
    with pytest.raises(SecretNotFound):
        vault.delete("app/corp/none")


def test_who_may_not_read_is_not_told_by_a_watch_and_the_store_not_asked_for_him(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0)
    vault.write("app/corp/a", "1")
    before = mounts.store().asked
    with vault.acting("svc:nobody") as nobody:
        assert nobody.standing("app/corp/a") == nobody.standing("app/corp/none") == None  # noqa: E711 - both, and equal
    with pytest.raises(VaultClosed):
        nobody.standing("app/corp/a")
    assert mounts.store().asked == before


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_what_one_handle_has_changed_no_other_hands_out(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=3_600)
    vault.write("app/corp/a", "1")
    with vault.acting(READER) as lent:
        assert revealed(lent.read("app/corp/a")) == "1"
        vault.write("app/corp/a", "2")
        assert revealed(lent.read("app/corp/a")) == "2"
        vault.delete("app/corp/a")
        with pytest.raises(SecretNotFound):
            lent.read("app/corp/a")


def test_what_the_store_tells_reaches_every_handle(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=3_600, refresh_s=0, is_watched=True)
    other(mounts).write("a", "1")
    assert revealed(vault.read("app/corp/a")) == "1"
    deadline = time.monotonic() + 10
    while mounts.store().asked < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    other(mounts).write("a", "2")
    while revealed(vault.read("app/corp/a")) == "1" and time.monotonic() < deadline:
        time.sleep(0.005)
    assert revealed(vault.read("app/corp/a")) == "2"


@pytest.mark.parametrize("error", [BackendDenied("no"), BackendLoginRefused("no")])
def test_a_refusal_behind_the_back_of_who_reads_is_obeyed(mounts: MountWorld, error: SecurecfgError) -> None:
    vault = mounts.mount(max_age_s=60, refresh_s=3_600)
    other(mounts).write("a", "1")
    vault.read("app/corp/a")
    mounts.store().fail(raising(error))
    mounts.clock.advance(timedelta(minutes=5))
    vault.read("app/corp/a")  # which has it asked for anew
    deadline = time.monotonic() + 10
    refused: SecurecfgError | None = None
    while refused is None and time.monotonic() < deadline:
        try:
            vault.read("app/corp/a")
        except SecurecfgError as found:
            refused = found
    assert isinstance(refused, type(error))


@pytest.mark.parametrize("error", [BackendDenied("no"), BackendLoginRefused("no")])
def test_who_was_refused_gets_nothing_by_breaking_the_way_to_the_store(
    mounts: MountWorld, error: SecurecfgError
) -> None:
    vault = mounts.mount(max_age_s=0, refresh_s=0)
    other(mounts).write("a", "1")
    vault.read("app/corp/a")
    mounts.store().fail(raising(error))
    with pytest.raises(type(error)):
        vault.read("app/corp/a")
    mounts.store().fail(UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        vault.read("app/corp/a")
    mounts.store().fail(None)
    mounts.open().read("app/corp/a")
    mounts.clock.advance(timedelta(minutes=2))


# --- lent handles -----------------------------------------------------------------------------------------------------


def test_a_lent_handle_whose_end_cannot_be_recorded_has_ended_all_the_same(
    mounts: MountWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = mounts.mount(max_age_s=3_600)
    vault.write("app/corp/a", "1")

    def read_twice_and_fail() -> Vault:
        with vault.acting(READER) as lent:
            for _ in range(2):
                lent.read("app/corp/a")
            kept.append(lent)
            monkeypatch.setattr(vault.opened.publisher, "publish", lambda *_, **__: raising(StoreBusy("busy"))())
        return lent

    kept: list[Vault] = []
    with pytest.raises(SecurecfgError):
        read_twice_and_fail()
    monkeypatch.undo()
    with pytest.raises(VaultClosed):
        kept[0].read("app/corp/a")


def test_a_read_that_outlasts_its_handle_leaves_nothing_in_it(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=3_600)
    other(mounts).write("a", "1")
    lending = vault.acting(READER)
    lent = lending.__enter__()
    mounts.store().fail_next(lambda: lending.__exit__(None, None, None))
    with pytest.raises(SecurecfgError):
        lent.read("app/corp/a")
    with pytest.raises(VaultClosed):
        lent.read("app/corp/a")


def test_repeats_are_recorded_every_minute_and_not_only_at_the_end(mounts: MountWorld) -> None:
    vault = mounts.mount(max_age_s=86_400, keep_s=100_000)
    vault.write("app/corp/a", "1")
    for _ in range(3):
        for _ in range(1_100):
            vault.read("app/corp/a")
        mounts.clock.advance(timedelta(minutes=2))
    counted = [record.count for record in events(mounts.open(), Event.MOUNT_READ_COUNTED)]
    assert counted
    assert sum(count or 0 for count in counted) > 2_000


# --- what is sealed ---------------------------------------------------------------------------------------------------


def shown(error: BaseException) -> str:
    """Return the traceback of an error with all locals of the library."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(line for line in told.format() if "/tests/" not in line) + repr(vars(error))


def test_no_traceback_shows_the_credentials_of_a_mount(mounts: MountWorld) -> None:
    vault = mounts.create()
    early = mounts.open()
    table = Mounts(vault.authority)
    mount = table.add(Mount("corp/", ("memory:one",), credentials={"MEMORY_TOKEN": Secret(TOKEN)}))
    with pytest.raises(PathMounted) as refused:
        early.read("corp/a")
    assert TOKEN not in shown(refused.value)
    assert mount.key.hex() not in shown(refused.value)
    with pytest.raises(InvalidMetadata) as invalid:
        table.replace(Mount("corp/", ("memory:one",), credentials={"MEMORY_TOKEN": Secret("x\ud800")}))
    assert TOKEN not in shown(invalid.value)
    with pytest.raises(Conflict) as conflict:
        table.replace(mount, seen=mount._replace(id=bytes(16)))
    assert TOKEN not in shown(conflict.value)


def test_what_a_mount_logged_in_with_is_destroyed_with_it(mounts: MountWorld) -> None:
    vault = mounts.create()
    table = Mounts(vault.authority)
    table.add(Mount("corp/", ("memory:one",), credentials={"MEMORY_TOKEN": Secret(TOKEN)}))
    table.replace(Mount("corp/", ("memory:two",), credentials={"MEMORY_TOKEN": Secret(TOKEN)}))
    table.remove("corp/")
    opened = vault.opened
    entry = opened.entry(MOUNTS_PATH)
    assert entry is not None
    history = opened.history(MOUNTS_PATH, entry)
    assert [version.number for version in history.versions] == [3, 2, 1]
    for number in (1, 2):
        with pytest.raises(SecurecfgError):
            opened.open_inline(opened.locate(MOUNTS_PATH, entry, number))
    assert Mounts(mounts.open().authority).all() == []


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["mount write", "write mount"])
def test_no_own_secret_is_hidden_by_a_mount_of_the_same_moment(
    mounts: MountWorld, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = mounts.create()
    publish, gate, begun = vault.opened.publisher.publish, threading.Event(), threading.Event()
    decided, go = ({name: threading.Event() for name in ("mount", "write")} for _ in range(2))
    outcomes: dict[str, object] = {}

    def block(_: object) -> Plan:
        begun.set()
        gate.wait(10)
        return Plan(records=[vault.authority.session().record(Event.RECOVERY, {"reason": "test"})])

    def publish_in_order(*arguments: Any, **options: Any) -> object:  # noqa: ANN401 - those of `publish`
        name = threading.current_thread().name
        if name in go:
            decided[name].set()
            go[name].wait(10)
        return publish(*arguments, **options)

    def run(name: str, call: Callable[[], object]) -> None:
        try:
            outcomes[name] = call()
        except SecurecfgError as error:
            outcomes[name] = error

    monkeypatch.setattr(vault.opened.publisher, "publish", publish_in_order)
    calls: dict[str, Callable[[], object]] = {
        "mount": lambda: Mounts(vault.authority).add(Mount("corp/", ("memory:one",))),
        "write": lambda: vault.write("corp/a", "own"),
        "block": lambda: publish(block),
    }
    threads = {name: threading.Thread(target=run, args=(name, call), name=name) for name, call in calls.items()}
    for name in ("mount", "write"):
        threads[name].start()
        decided[name].wait(10)
    threads["block"].start()
    begun.wait(10)
    for name in order.split():  # all of it is one publication
        go[name].set()
        time.sleep(0.1)
    gate.set()
    for thread in threads.values():
        thread.join(20)
    assert len([each for each in outcomes.values() if isinstance(each, SecurecfgError)]) == 1
    again = mounts.open()
    for mount in Mounts(again.authority).all():
        assert hidden_below(again.opened, mount.folder) == []


def test_a_secret_is_not_moved_where_it_would_lose_what_belongs_to_it(mounts: MountWorld) -> None:
    vault = mounts.mount()
    vault.write("app/ttl", "1", ttl=timedelta(minutes=5))
    vault.write("app/type", b"a: b", content_type="application/yaml")
    vault.write("app/meta", "1", metadata={"owner": "pay"})
    assert vault.list("app/corp/") == []  # as it is opened at its first use
    CAPABILITIES["one"] = ALL._replace(metadata=False)
    poor = mounts.open()
    for handle, paths in ((vault, ("app/ttl", "app/type")), (poor, ("app/meta",))):
        for path in paths:
            with pytest.raises(Unsupported) as refused:
                handle.move(path, "app/corp/x")
            assert refused.value.hint
    assert vault.list() == ["app/meta", "app/ttl", "app/type"]
    vault.move("app/meta", "app/corp/meta")
    assert dict(vault.read("app/corp/meta").metadata) == {"owner": "pay"}
