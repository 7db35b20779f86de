"""Drop boxes: who may only drop hands values in and opens nothing; who reads and writes takes them in."""

from __future__ import annotations

import io
import os
from datetime import timedelta
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.errors import (
    Conflict,
    InvalidMetadata,
    InvalidPath,
    ScopeSealed,
    SecretExpired,
    StoreBusy,
    Unsupported,
    UsageError,
    ValueTooLarge,
    VaultClosed,
    VaultForked,
    WrongKey,
)
from securecfg.policy import Document
from securecfg.secret import Secret
from securecfg.store import Delete, Space
from securecfg.vault.drops.collecting import MARKS, Collection
from securecfg.vault.drops.dropping import DropState
from securecfg.vault.drops.orders import order_row_of
from securecfg.vault.drops.rows import VALUE_BYTES_MAX
from securecfg.vault.scopes.charters import NO_SLOT
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.verification import verify_vault
from tests.vault.drops.drop_world import box_world, collected, put_rows, role_key, rows_waiting
from tests.vault.scope_world import scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    from securecfg.vault import Vault
    from tests.vault.scope_world import ScopeWorld

    T = TypeVar("T")

world = box_world


def writes(vault: Vault) -> list[tuple[object, ...]]:
    """Return who wrote what in whose name, as the log says."""
    return [
        (entry.record.subject.id, entry.record.subject.via, entry.record.request_id, *entry.record.obj.values())
        for entry in vault.log.records()
        if entry.record.event is Event.SECRET_WRITTEN
    ]


# --- dropping and taking in -------------------------------------------------------------------------------------------


def test_what_is_dropped_becomes_a_version_in_the_name_of_who_dropped_it(world: ScopeWorld) -> None:
    receipt = world.as_member("web").drop("pay/key", "dropped", metadata={"team": "web"}, content_type="text/plain")
    assert (receipt.path, len(receipt.id)) == ("pay/key", 32)
    pay = world.as_member("pay")
    version = pay.read("pay/key")
    assert version.field("").reveal() == "dropped"
    assert (version.version, version.author, version.content_type) == (1, "svc:web", "text/plain")
    assert version.metadata == {"team": "web"}
    assert writes(pay) == [("svc:web", "svc:pay", receipt.id, "pay/key", "web", 1)]
    (written,) = [entry.record for entry in pay.log.records() if entry.record.event is Event.SECRET_WRITTEN]
    assert written.subject.is_proved
    assert rows_waiting(world) == []
    assert verify_vault(pay.opened).problems == []


@pytest.mark.parametrize(
    "value", ["", "text", b"\x00\xff", {"user": "u", "password": b"p"}, b"x" * 70_000, b"x" * VALUE_BYTES_MAX]
)
def test_values_of_every_kind_and_size_come_through(world: ScopeWorld, value: object) -> None:
    world.as_member("web").drop("pay/key", value)  # type: ignore[arg-type]  # each is a value
    read = world.as_member("pay").read("pay/key").value
    found = read.reveal() if isinstance(read, Secret) else {name: part.reveal() for name, part in read.items()}
    assert found == value


def test_a_stream_is_dropped_and_one_that_is_too_large_is_refused(world: ScopeWorld) -> None:
    web = world.as_member("web")
    web.drop("pay/stream", io.BytesIO(b"y" * 100_000))
    for large in (b"x" * (VALUE_BYTES_MAX + 1), io.BytesIO(b"x" * (VALUE_BYTES_MAX + 1))):
        with pytest.raises(ValueTooLarge, match="256 KiB"):
            web.drop("pay/large", large)
    with pytest.raises(InvalidMetadata, match="metadata"):
        web.drop("pay/large", "x", metadata={str(number): "m" * 250 for number in range(70)})
    pay = world.as_member("pay")
    assert pay.read("pay/stream").field("").reveal() == b"y" * 100_000
    assert pay.list() == ["pay/stream"]


def test_values_become_versions_in_the_order_in_which_they_were_dropped(world: ScopeWorld) -> None:
    web = world.as_member("web")
    for number in range(5):
        web.drop("pay/key", str(number))
    pay = world.as_member("pay")
    assert [text_of(pay, "pay/key", at=number) for number in range(1, 6)] == list("01234")
    world.as_member("web").drop("pay/key", "5")
    assert text_of(world.as_member("pay"), "pay/key", at=6) == "5"


def test_metadata_that_are_not_given_are_kept_and_a_ttl_counts_from_the_drop(world: ScopeWorld) -> None:
    world.as_member("pay").write("pay/key", "1", metadata={"a": "b"})
    world.as_member("web").drop("pay/key", "2", ttl=timedelta(hours=1))
    world.clock.advance(timedelta(minutes=50))
    pay = world.as_member("pay")
    assert pay.read("pay/key").metadata == {"a": "b"}
    world.clock.advance(timedelta(minutes=20))
    with pytest.raises(SecretExpired):
        pay.read("pay/key")


def test_a_receipt_says_that_a_value_waits_and_then_to_who_lists_what_it_became(world: ScopeWorld) -> None:
    web = world.as_member("web")
    receipt = web.drop("pay/key", "x")
    assert web.find_drop(receipt.id).state is DropState.WAITING
    assert world.admin().find_drop(receipt.id).state is DropState.WAITING
    pay = world.as_member("pay")
    assert pay.find_drop(receipt.id) == (DropState.COLLECTED, "pay/key", 1, "")
    assert pay.scope("pay").find_drop(receipt.id).version == 1
    assert world.admin().find_drop(receipt.id).version == 1
    assert web.find_drop(receipt.id) == (DropState.GONE, "", 0, "")
    assert pay.find_drop("0" * 32).state is DropState.GONE
    for wrong in ("", "0" * 31, "g" * 32, receipt.id.upper() + "0"):
        with pytest.raises(UsageError, match="32 hexadecimal digits"):
            pay.find_drop(wrong)


def test_the_bounded_collection_of_an_opening_leaves_the_rest_to_the_next(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.vault.drops.collecting.AT_ONCE", 2)
    web = world.as_member("web")
    for number in range(5):
        web.drop(f"pay/{number}", "x")
    assert len(world.as_member("pay").list()) == 2
    assert world.scopes().show("pay").waiting == 3
    pay = world.as_member("pay")
    assert len(pay.list()) == 4
    web.drop("pay/5", "x")
    done = Collection(pay.scope("pay").authority).run()
    assert (done.versions, done.refused, done.is_done) == ((("pay/4", 1), ("pay/5", 1)), {}, True)
    assert not Collection(pay.scope("pay").authority).run(0).is_done


def test_no_more_values_wait_than_may(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecfg.vault.drops.boxes.WAITING_MAX", 3)
    web = world.as_member("web")
    for number in range(3):
        web.drop(f"pay/{number}", "x")
    with pytest.raises(Conflict, match="3 dropped values wait") as refused:
        web.drop("pay/3", "x")
    assert "scope collect" in (refused.value.hint or "")
    world.as_member("pay")
    web.drop("pay/3", "x")


# --- who may what -----------------------------------------------------------------------------------------------------


def test_who_may_only_drop_opens_nothing(world: ScopeWorld) -> None:
    world.as_member("pay").write("pay/key", "of pay")
    web = world.as_member("web")
    assert (web.principal, web.list(), web.search("key"), list(web.parts())) == ("svc:web", [], [], [])
    assert web.may_only_drop("pay/key")
    assert not web.may_only_drop("other")
    for denied in (
        lambda: web.read("pay/key"),
        lambda: web.history("pay/key"),
        lambda: web.write("pay/key", "x"),
        lambda: web.delete("pay/key"),
        lambda: web.destroy("pay/key", 1),
        lambda: web.rollback("pay/key", 1),
        lambda: web.explain("read", "pay/key"),
        lambda: web.scope("pay"),
        web.batch,
        lambda: web.acting("svc:other"),
        lambda: web.log,
        lambda: web.opened,
        lambda: web.authority,
        lambda: web.administration,
    ):
        with pytest.raises(ScopeSealed, match="dropped") as refused:
            denied()
        assert "vault.drop" in (refused.value.hint or "")
    for path in ("other", "web/x", "pay"):
        with pytest.raises(ScopeSealed, match="lies in no scope that this key may drop into"):
            web.drop(path, "x")
    for path in ("pay/", "pay/../x", "pay//x", "", "/pay/x"):
        with pytest.raises(InvalidPath):
            web.drop(path, "x")
    assert text_of(world.as_member("pay"), "pay/key") == "of pay"


def test_a_drop_box_is_closed_once(world: ScopeWorld) -> None:
    web = world.as_member("web")
    with web:
        assert "open" in repr(web)
    web.close()
    assert "closed" in repr(web)
    with pytest.raises(VaultClosed):
        web.drop("pay/x", "x")
    with pytest.raises(VaultClosed), web:
        pass


def test_nothing_is_dropped_through_a_handle_that_only_reads(world: ScopeWorld) -> None:
    web = world.open(None, key=f"identity:{world.folder / 'web'}.identity", read_only=True)
    with pytest.raises(Unsupported):
        web.drop("pay/x", "x")


def test_who_lists_may_drop_too(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "web", "list")
    assert world.scopes().show("pay").roles["web"] == ("list", "drop")
    world.as_member("pay").write("pay/key", "1")
    web = world.as_member("web")
    assert web.list() == ["pay/key"]
    assert web.may_only_drop("pay/key")
    with pytest.raises(ScopeSealed, match="no more"):
        web.write("pay/key", "2")
    with pytest.raises(ScopeSealed, match="no more"), web.batch() as batch:
        batch.write("pay/key", "2")
    receipt = web.drop("pay/key", "2")
    assert text_of(world.as_member("pay"), "pay/key") == "2"
    assert web.find_drop(receipt.id).version == 2
    with pytest.raises(ScopeSealed), web.acting("svc:web") as lent:
        lent.drop("pay/key", "3")


def test_who_writes_as_well_writes(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "pay", "drop")
    pay = world.as_member("pay")
    assert not pay.may_only_drop("pay/key")
    assert pay.write("pay/key", "1") == 1
    pay.drop("pay/key", "2")
    assert text_of(world.as_member("pay"), "pay/key") == "2"


@pytest.mark.parametrize("name", ["pay", "admin"])
def test_who_has_no_drop_box_is_told_so(world: ScopeWorld, name: str) -> None:
    vault = world.admin() if name == "admin" else world.as_member(name)
    with pytest.raises(ScopeSealed, match="may drop into"):
        vault.drop("pay/x", "x")
    with pytest.raises(InvalidPath):
        vault.drop("", "x")
    assert not vault.may_only_drop("pay/x")


def test_an_identity_that_may_do_nothing_opens_nothing(world: ScopeWorld) -> None:
    with pytest.raises(WrongKey, match="neither an unlock slot nor a role"):
        world.as_member("audit")


def test_somebody_has_to_read_and_write_what_is_dropped(tmp_path: Path) -> None:
    world = scope_world(tmp_path)
    scopes = world.scopes()
    with pytest.raises(InvalidMetadata, match="no role reads and writes") as refused:
        scopes.create("pay", read=["pay"], drop=["web"])
    assert "--write" in (refused.value.hint or "")
    assert scopes.paths() == []
    scopes.create("pay", read=["pay"])
    with pytest.raises(InvalidMetadata, match="no role reads and writes"):
        scopes.grant("pay", "web", "drop")
    assert scopes.show("pay").revision == 1
    scopes.grant("pay", "pay", "write")
    assert scopes.grant("pay", "web", "drop").roles["web"] == ("drop",)
    scopes.create("both", read=["pay"], drop=["web"], is_shared=True)
    world.as_member("web").drop("both/x", "by the root")
    assert text_of(world.admin(), "both/x") == "by the root"
    world.close()


def test_who_reads_and_does_not_write_takes_nothing_in(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "audit", "read")
    world.as_member("web").drop("pay/key", "x")
    audit = world.as_member("audit")
    assert audit.list() == []
    with pytest.raises(ScopeSealed, match="reads and writes"):
        Collection(audit.scope("pay").authority)
    assert world.admin().list() == []
    assert len(rows_waiting(world)) == 1
    assert world.as_member("pay").list() == ["pay/key"]


def test_a_role_that_only_drops_has_no_slot(world: ScopeWorld) -> None:
    opened = world.admin().scope("pay").opened
    party = charter_of(opened).party("web")
    assert party is not None
    assert party.slot_id == NO_SLOT
    assert {info.label for info in opened.replica.keyring.slots} == {"administrator", "pay"}


def test_the_right_to_drop_is_taken_away_and_given_again(world: ScopeWorld) -> None:
    scopes = world.scopes()
    open_before = world.as_member("web")
    assert scopes.revoke("pay", "web", "read").revision == scopes.show("pay").revision == 1
    assert "web" not in scopes.revoke("pay", "web", "drop").roles
    assert scopes.revoke("pay", "web", "drop").revision == 2
    with pytest.raises(ScopeSealed, match="any more"):
        open_before.drop("pay/x", "x")
    with pytest.raises(WrongKey):
        world.as_member("web")
    scopes.grant("pay", "web", "drop")
    world.as_member("web").drop("pay/x", "x")
    assert world.as_member("pay").list() == ["pay/x"]


def test_who_may_only_drop_is_out_too_where_the_right_to_list_is_taken(world: ScopeWorld) -> None:
    assert "web" not in world.scopes().revoke("pay", "web", "list").roles
    with pytest.raises(WrongKey):
        world.as_member("web")


def test_with_the_right_to_list_goes_that_to_drop(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.grant("pay", "web", "read")
    assert "web" not in scopes.revoke("pay", "web", "list").roles
    with pytest.raises(WrongKey):
        world.as_member("web")


def test_a_new_value_key_reaches_those_who_drop_at_once(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    web = world.as_member("web")
    web.drop("pay/before", "x")
    world.clock.advance(timedelta(seconds=1))
    scopes.revoke("pay", "audit", "read")
    web.drop("pay/after", "y")
    epochs = [int.from_bytes(row[2:6]) for _, row in rows_waiting(world)]
    assert epochs == [1, 2]
    pay = world.as_member("pay")
    assert (text_of(pay, "pay/before"), text_of(pay, "pay/after")) == ("x", "y")


def test_a_member_who_comes_later_is_let_in_by_one_who_drops(world: ScopeWorld) -> None:
    world.person("web", "web2")
    with pytest.raises(WrongKey):
        world.as_member("web2")
    world.as_member("web")
    world.as_member("web2").drop("pay/second", "x")
    assert world.as_member("pay").read("pay/second").author == "svc:web2"


def test_the_policy_of_the_scope_decides_for_who_dropped(world: ScopeWorld) -> None:
    grants = """
[roles.pay]
members = ["svc:pay"]
[[roles.pay.grants]]
actions = ["read", "list", "write", "audit.read"]
paths = ["**"]
[roles.web]
members = ["svc:web"]
[[roles.web.grants]]
actions = ["write"]
paths = ["pay/in/**"]
"""
    world.admin().administration.apply_policy([Document("grants.toml", "grants", grants.replace(', "audit.read"', ""))])
    web = world.as_member("web")
    web.drop("pay/in/ok", "x")
    receipt = web.drop("pay/other", "x")
    pay = world.as_member("pay")
    assert pay.list() == ["pay/in/ok"]
    assert pay.find_drop(receipt.id) == (DropState.REFUSED, "pay/other", 0, "policy")
    assert rows_waiting(world) == []


def test_a_lookalike_is_refused(world: ScopeWorld) -> None:
    world.as_member("pay").write("pay/mail", "1")
    receipt = world.as_member("web").drop("pay/rnail", "2")
    pay = world.as_member("pay")
    assert pay.find_drop(receipt.id).reason == "confusable-path"
    assert pay.list() == ["pay/mail"]


def test_marks_of_what_was_taken_in_show_to_nobody_who_lists_secrets(world: ScopeWorld) -> None:
    world.as_member("web").drop("pay/key", "x")
    pay = collected(world)
    assert pay.list() == ["pay/key"]
    assert list(pay.opened.system_document(MARKS + b"pay/key", {})) == ["svc:web"]


def test_two_who_take_in_at_once_make_one_version_of_each(world: ScopeWorld) -> None:
    first, second = collected(world), collected(world)
    web = world.as_member("web")
    for number in range(4):
        web.drop("pay/key", str(number))
    (row, *_) = rows_waiting(world)
    assert Collection(first.authority).run(1).versions == (("pay/key", 1),)
    put_rows(world, [row])
    assert Collection(second.authority).run().versions == (("pay/key", 2), ("pay/key", 3), ("pay/key", 4))
    assert [text_of(first, "pay/key", at=number) for number in range(1, 5)] == list("0123")


def test_a_row_taken_in_between_looking_and_publishing_makes_no_second_version(world: ScopeWorld) -> None:
    slow, fast = collected(world), collected(world)
    world.as_member("web").drop("pay/key", "x")
    collection = Collection(slow.authority)
    ((row_id, row),) = rows_waiting(world)
    Collection(fast.authority).run()
    collection._take(row_id, row)
    assert [info.version for info in slow.history("pay/key")] == [1]


def test_the_sizes_of_rows_tell_little(world: ScopeWorld) -> None:
    web = world.as_member("web")
    for size in (1, 10, 500, 1_000):
        web.drop("pay/" + "k" * (1 + size // 10), "x" * size)
    assert len({len(row) for _, row in rows_waiting(world)}) == 1
    web.drop("pay/larger", "x" * 40_000)
    web.drop("pay/larger", "x" * 60_000)
    assert len({len(row) for _, row in rows_waiting(world)}) == 2


def test_a_rule_with_times_is_left_to_somebody_whose_clock_is_not_behind(world: ScopeWorld) -> None:
    timed = """
permit (principal, action == Action::"write", resource) when { context.now > datetime("2020-01-01") };
"""
    grants = """
[roles.pay]
members = ["svc:pay"]
[[roles.pay.grants]]
actions = ["read", "list"]
paths = ["**"]
"""
    documents = [Document("grants.toml", "grants", grants), Document("timed.cedar", "cedar", '@id("timed")' + timed)]
    world.admin().administration.apply_policy(documents)
    world.as_member("web").drop("pay/key", "x")
    ahead, world.clock.ns = world.clock.ns, world.clock.ns - 3_600_000_000_000
    assert world.as_member("pay").list() == []
    assert len(rows_waiting(world)) == 1
    world.clock.ns = ahead
    assert world.as_member("pay").list() == ["pay/key"]


def patiently(call: Callable[[], T]) -> T:
    """Return what a call gives, tried again while others keep the store: nothing was written then."""
    for _ in range(200):
        try:
            return call()
        except StoreBusy:
            continue
    return call()


def test_threads_and_processes_that_drop_and_take_in_at_once_lose_nothing(world: ScopeWorld) -> None:
    boxes = [world.as_member("web") for _ in range(3)]
    collectors = [collected(world) for _ in range(2)]
    receipts: list[str] = []
    failures: list[BaseException] = []

    def drop(vault: Vault, first: int) -> None:
        try:
            receipts.extend(
                patiently(partial(vault.drop, f"pay/{number % 3}", str(number))).id
                for number in range(first, first + 8)
            )
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    def take_in(vault: Vault) -> None:
        try:
            for _ in range(6):
                patiently(Collection(vault.authority).run)
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [Thread(target=drop, args=(box, 8 * number)) for number, box in enumerate(boxes)]
    threads += [Thread(target=take_in, args=(vault,)) for vault in collectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    pay = world.as_member("pay")
    found = [pay.find_drop(receipt) for receipt in receipts]
    assert [dropped.state for dropped in found] == [DropState.COLLECTED] * 24
    assert len({(dropped.path, dropped.version) for dropped in found}) == 24
    values = [text_of(pay, path, at=info.version) for path in pay.list() for info in pay.history(path)]
    assert sorted(values, key=int) == [str(number) for number in range(24)]


def test_a_forked_child_drops_nothing(world: ScopeWorld) -> None:
    web = world.as_member("web")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            web.drop("pay/x", "x")
        except VaultForked:
            os.write(writing, b"forked")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"forked"
    os.close(reading)
    os.close(writing)
    web.drop("pay/x", "by the parent")
    assert len(rows_waiting(world)) == 1


def test_an_order_that_is_gone_is_given_anew_with_the_next_change_of_roles(world: ScopeWorld) -> None:
    opened = world.admin().scope("pay").opened
    row_id = order_row_of(role_key(world, "web").public_key, opened.replica.vault_id)
    row = opened.store.get(Space.GRANT, row_id)
    opened.store.stage([Delete(Space.GRANT, row_id)])
    with pytest.raises(WrongKey):
        world.as_member("web")
    world.person("audit", "more")
    assert len(opened.store.get(Space.GRANT, row_id) or b"") == len(row or b"")
    world.as_member("web").drop("pay/x", "x")
    assert world.as_member("pay").list() == ["pay/x"]
