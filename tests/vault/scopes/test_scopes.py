"""Sealed scopes: who holds the file and one identity reads what a scope gives to it, and nothing else of the vault."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import parse_dek
from securecfg.errors import (
    AlreadyExists,
    Conflict,
    InvalidMetadata,
    NotAuthenticated,
    ScopeSealed,
    SecretNotFound,
    SlotRemoved,
    Unsupported,
    VaultClosed,
    WrongKey,
)
from securecfg.keys.identity import read_identity_file
from securecfg.policy import Document
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.verification import verify_vault
from tests.vault.commits.test_publisher import Busy
from tests.vault.scope_world import bare_world
from tests.vault.world import interrupted, text_of

if TYPE_CHECKING:
    from tests.vault.scope_world import ScopeWorld

world = bare_world


@pytest.fixture
def two(world: ScopeWorld) -> ScopeWorld:
    """Two scopes: one that its readers write, and one that the administrator writes."""
    scopes = world.scopes()
    scopes.create("web", read=["web"], write=["web"])
    scopes.create("pay", read=["pay"])
    world.as_member("web").write("web/key", "of web")
    world.admin().write("pay/key", "of pay")
    return world


# --- who opens what ---------------------------------------------------------------------------------------------------


def test_each_identity_reads_its_own_scope_and_nothing_else(two: ScopeWorld) -> None:
    web, pay = two.as_member("web"), two.as_member("pay")
    assert (web.list(), pay.list()) == (["web/key"], ["pay/key"])
    assert (text_of(web, "web/key"), text_of(pay, "pay/key")) == ("of web", "of pay")
    for one, path in ((web, "pay/key"), (pay, "web/key"), (web, "other"), (web, "pay")):
        with pytest.raises(ScopeSealed):
            one.read(path)
        with pytest.raises(ScopeSealed):
            one.write(path, "x")
        with pytest.raises(ScopeSealed):
            one.history(path)
    assert (web.search("key"), pay.search("key")) == (["web/key"], ["pay/key"])
    assert web.principal == "svc:web"


def test_the_records_of_a_member_say_that_its_identity_is_proved(two: ScopeWorld) -> None:
    pay = two.as_member("pay")
    text_of(pay, "pay/key")
    read = [entry.record for entry in pay.log.records() if entry.record.event is Event.SECRET_READ]
    assert [(record.subject.id, record.subject.is_proved) for record in read] == [("svc:pay", True)]


def test_an_identity_that_no_role_knows_opens_nothing(two: ScopeWorld) -> None:
    with pytest.raises(WrongKey, match="neither an unlock slot nor a role"):
        two.as_member("audit")


def test_the_root_lists_and_writes_a_sealed_scope_and_does_not_read_it(two: ScopeWorld) -> None:
    admin = two.admin()
    assert admin.list() == ["pay/key", "web/key"]
    before = admin.authority_over("pay/key").opened.replica.checkpoint.size
    with pytest.raises(ScopeSealed, match="values are sealed"):
        admin.read("pay/key")
    assert admin.authority_over("pay/key").opened.replica.checkpoint.size == before
    assert admin.write("pay/key", "newer") == 2
    assert text_of(two.as_member("pay"), "pay/key") == "newer"
    with pytest.raises(ScopeSealed, match="only a writer"):
        admin.write("web/key", "x")
    assert text_of(two.as_member("web"), "web/key") == "of web"


def test_the_root_reads_a_shared_scope(world: ScopeWorld) -> None:
    world.scopes().create("both", read=["web"], write=["web"], is_shared=True)
    world.as_member("web").write("both/a", "1")
    assert text_of(world.admin(), "both/a") == "1"
    info = world.scopes().show("both")
    assert (info.is_shared, info.roles["administrator"]) == (True, ("list", "read"))


def test_who_may_only_list_neither_reads_nor_writes(two: ScopeWorld) -> None:
    two.scopes().grant("pay", "audit", "list")
    audit = two.as_member("audit")
    assert audit.list() == ["pay/key"]
    assert [info.version for info in audit.history("pay/key")] == [1]
    with pytest.raises(ScopeSealed):
        audit.read("pay/key")
    for change in (
        lambda: audit.write("pay/key", "x"),
        lambda: audit.delete("pay/key"),
        lambda: audit.destroy("pay/key", 1),
    ):
        with pytest.raises(ScopeSealed):
            change()
    assert text_of(two.as_member("pay"), "pay/key") == "of pay"


def test_who_may_write_and_not_read_seals_values_that_readers_open(two: ScopeWorld) -> None:
    two.scopes().grant("pay", "audit", "write")
    audit = two.as_member("audit")
    assert audit.write("pay/dropped", "by audit") == 1
    assert audit.write("pay/large", b"x" * 1_500_000) == 1
    with pytest.raises(ScopeSealed):
        audit.read("pay/dropped")
    pay = two.as_member("pay")
    assert text_of(pay, "pay/dropped") == "by audit"
    assert pay.read("pay/large").field("").reveal() == b"x" * 1_500_000


def test_a_handle_works_across_the_vault_and_its_scopes(two: ScopeWorld) -> None:
    admin = two.admin()
    admin.write("app/a", "1")
    assert admin.list() == ["app/a", "pay/key", "web/key"]
    assert admin.list("pay/") == ["pay/key"]
    assert admin.list("p") == ["pay/key"]
    assert admin.list(depth=1) == ["app/", "pay/", "web/"]
    assert admin.search("KEY") == ["pay/key", "web/key"]
    found = admin.read_many([("app/a", None), ("pay/key", None), ("app/none", None)])
    assert [type(one).__name__ for one in found] == ["SecretVersion", "ScopeSealed", "SecretNotFound"]
    assert admin.explain("read", "web/key").decision.allowed
    with admin.acting("svc:web") as acting:
        assert acting.list() == ["app/a", "pay/key", "web/key"]
    with admin.batch() as batch:
        batch.write("pay/b", "1")
        batch.delete("pay/key")
    assert admin.list("pay/") == ["pay/b"]
    assert admin.ref("app/a").reveal() == "1"
    pay = two.as_member("pay")
    assert pay.ref("pay/b").reveal() == "1"
    assert b"".join(pay.stream("pay/b")[1]) == b"1"


def test_one_batch_does_not_reach_over_the_edge_of_a_scope(two: ScopeWorld) -> None:
    admin = two.admin()
    admin.write("app/a", "1")

    def both() -> None:
        with admin.batch() as batch:
            batch.write("app/b", "1")
            batch.write("pay/b", "1")

    with pytest.raises(Unsupported):
        both()
    assert admin.list() == ["app/a", "pay/key", "web/key"]


def test_a_handle_that_was_open_before_writes_nothing_beside_a_new_scope(world: ScopeWorld) -> None:
    early = world.admin()
    world.scopes().create("pay", read=["pay"])
    with pytest.raises(ScopeSealed, match="open the vault again"):
        early.write("pay/key", "in the open")
    assert world.admin().list() == []
    early.write("app/a", "1")


def test_scopes_are_whole_vaults_that_verify_and_keep_a_log_of_their_own(two: ScopeWorld) -> None:
    pay = two.as_member("pay")
    for number in range(5):
        two.admin().write(f"pay/{number}", str(number))
    text_of(pay, "pay/1")
    report = verify_vault(pay.opened)
    assert (report.problems, report.orphans) == ([], {})
    pay.log.verify()
    events = [entry.record.event for entry in pay.log.records()]
    assert events.count(Event.SECRET_WRITTEN) == 6
    main = [entry.record for entry in two.admin().log.records()]
    made = {Event.SCOPE_BEGUN, Event.SCOPE_CREATED}
    assert not any("pay/" in str(record.obj.get("path", "")) for record in main if record.event not in made)


def test_nothing_user_chosen_of_a_scope_is_readable_in_the_file(two: ScopeWorld) -> None:
    two.scopes().grant("pay", "audit", "list")
    two.close()
    content = two.path.read_bytes()
    for word in (b"pay", b"svc:", b"audit", b"administrator", b"of web", b"of pay", b"web/key"):
        assert word not in content


# --- making scopes ----------------------------------------------------------------------------------------------------


def test_refuses_scopes_that_overlap_or_hold_something(two: ScopeWorld) -> None:
    two.admin().write("app/a", "1")
    scopes = two.scopes()
    for path in ("pay", "pay/", "pay/deeper"):
        with pytest.raises(AlreadyExists):
            scopes.create(path, read=["pay"])
    with pytest.raises(Conflict, match="secrets below"):
        scopes.create("app", read=["pay"])
    two.admin().delete("app/a")
    with pytest.raises(Conflict, match="secrets below"):
        scopes.create("app", read=["pay"])
    assert scopes.paths() == ["pay/", "web/"]


def test_refuses_roles_without_a_public_key(world: ScopeWorld) -> None:
    world.admin().administration.add_member("keyless", "svc:keyless")
    for role in ("keyless", "nobody"):
        with pytest.raises(InvalidMetadata, match="public key"):
            world.scopes().create("pay", read=[role])
    with pytest.raises(InvalidMetadata, match="own"):
        world.scopes().create("pay", read=["administrator"])
    with pytest.raises(SecretNotFound):
        world.scopes().show("pay")
    assert world.admin().opened.store.partitions() == []


def test_a_making_that_was_interrupted_is_finished_by_the_next(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.scopes.scopes.publish_together", die)
        patched.setattr("securecfg.vault.scopes.making._give_up", die)
        with pytest.raises(KeyboardInterrupt):
            world.scopes().create("pay", read=["pay"])
    assert world.scopes().paths() == []
    assert world.scopes().create("pay", read=["pay"]).roles["pay"] == ("list", "read")
    world.admin().write("pay/a", "1")
    assert text_of(world.as_member("pay"), "pay/a") == "1"


def test_the_policy_of_the_vault_holds_in_its_scopes(two: ScopeWorld) -> None:
    text = '[roles.pay]\nmembers = ["svc:pay"]\n[[roles.pay.grants]]\nactions = ["list"]\npaths = ["**"]\n'
    two.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    pay = two.as_member("pay")
    assert pay.list() == ["pay/key"]
    assert not pay.explain("read", "pay/key").decision.allowed


def test_a_write_that_began_before_there_was_a_scope_does_not_end_beside_it(world: ScopeWorld) -> None:
    early, store = interrupted(world)
    store.interrupt("commit", None, lambda: world.scopes().create("pay", read=["pay"]))
    with pytest.raises(ScopeSealed):
        early.write("pay/key", "in the open")
    assert world.admin().list() == []


def test_a_scope_is_not_made_around_what_is_written_at_the_same_moment(world: ScopeWorld) -> None:
    admin = world.admin()
    scopes = Scopes(admin.authority)
    scopes.create("other", read=["pay"])
    busy = Busy(admin)
    busy.start("write", lambda: admin.write("pay/key", "1"))
    busy.start("create", lambda: scopes.create("pay", read=["pay"]))
    busy.go_on()
    assert isinstance(busy.errors["create"], Conflict)
    assert world.admin().list() == ["pay/key"]


def test_a_handle_that_was_lent_opens_no_scope_after_its_time(two: ScopeWorld) -> None:
    admin = two.admin()
    with admin.acting("svc:pay") as lent:
        pass
    with pytest.raises(VaultClosed):
        lent.read("pay/key")


def test_what_a_scope_is_vouched_for_with_goes_with_the_handle(two: ScopeWorld) -> None:
    web = two.as_member("web")
    seat = web.opened.replica.seat
    assert seat is not None
    assert seat.signer is not None
    web.close()
    assert seat.signer is None


# --- members ----------------------------------------------------------------------------------------------------------


def test_a_new_member_is_let_in_by_one_who_has_the_key_of_the_role(two: ScopeWorld) -> None:
    two.person("pay", "second")
    with pytest.raises(WrongKey):
        two.as_member("second")
    two.as_member("pay")
    assert text_of(two.as_member("second"), "pay/key") == "of pay"


def test_who_lets_a_member_in_records_it_with_the_fingerprint(two: ScopeWorld) -> None:
    file = two.person("pay", "second")
    two.as_member("pay")
    pay = two.as_member("pay")
    admitted = [entry.record for entry in pay.log.records() if entry.record.event is Event.ROLE_CHANGED]
    fingerprint = read_identity_file(file).identity.fingerprint.hex()
    assert [(record.subject.id, record.obj["added"], record.obj["fingerprint"]) for record in admitted] == [
        ("svc:pay", ["svc:second"], fingerprint)
    ]


def test_an_identity_speaks_for_nobody_else(two: ScopeWorld) -> None:
    with pytest.raises(NotAuthenticated):
        two.open("svc:web", key=f"identity:{two.folder / 'pay.identity'}")


def test_a_member_of_a_reading_and_a_writing_role_does_both(two: ScopeWorld) -> None:
    two.scopes().grant("pay", "audit", "write")
    member = read_identity_file(two.folder / "pay.identity").identity
    two.admin().administration.add_member("audit", "svc:pay", identity=member)
    two.as_member("audit")
    pay = two.as_member("pay")
    pay.write("pay/key", "by a writer")
    assert text_of(pay, "pay/key") == "by a writer"


def test_members_of_several_roles_have_the_rights_of_all(two: ScopeWorld) -> None:
    two.scopes().grant("pay", "web", "list")
    assert two.as_member("web").list() == ["pay/key", "web/key"]


# --- rights that change -----------------------------------------------------------------------------------------------


def test_a_new_reader_reads_what_comes_and_with_another_readers_help_what_was(two: ScopeWorld) -> None:
    info = two.scopes().grant("pay", "audit", "read")
    assert (info.roles["audit"], info.value_epochs) == (("list", "read"), 2)
    two.admin().write("pay/later", "1")
    audit = two.as_member("audit")
    assert text_of(audit, "pay/later") == "1"
    with pytest.raises(ScopeSealed):
        audit.read("pay/key")
    assert text_of(two.as_member("pay"), "pay/later") == "1"
    assert text_of(two.as_member("audit"), "pay/key") == "of pay"


def test_in_a_shared_scope_a_new_reader_reads_everything_at_once(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.create("both", read=["web"], is_shared=True)
    world.admin().write("both/a", "1")
    assert scopes.grant("both", "pay", "read").value_epochs == 1
    assert text_of(world.as_member("pay"), "both/a") == "1"


def test_a_role_that_is_removed_reads_nothing_that_is_written_later(two: ScopeWorld) -> None:
    scopes = two.scopes()
    scopes.grant("pay", "audit", "read")
    audit = two.as_member("audit")
    two.admin().write("pay/before", "1")
    assert text_of(audit, "pay/before") == "1"
    root = bytes(audit.opened.replica.root)
    assert "audit" not in scopes.revoke("pay", "audit", "list").roles
    two.admin().write("pay/after", "2")
    with pytest.raises(SlotRemoved):
        audit.list()
    with pytest.raises(WrongKey):
        two.as_member("audit")
    pay = two.as_member("pay")
    assert (text_of(pay, "pay/before"), text_of(pay, "pay/after"), text_of(pay, "pay/key")) == ("1", "2", "of pay")
    assert bytes(pay.opened.replica.root) != root
    assert verify_vault(pay.opened).problems == []
    assert {row[2:6] for _, row in pay.opened.store.scan(Space.HISTORY, 0, ID_LIMIT - 1, 100)} == {bytes(3) + b"\1"}


def test_a_role_that_is_removed_can_open_no_new_value_with_the_seed_it_keeps(two: ScopeWorld) -> None:
    scopes = two.scopes()
    scopes.grant("pay", "audit", "read")
    before = grants_of(two.as_member("audit").opened).active
    scopes.revoke("pay", "audit", "list")
    assert grants_of(two.as_member("pay").opened).active == before + 1
    two.admin().write("pay/after", "2")
    pay = two.as_member("pay").opened
    entry = pay.entry(b"pay/after")
    assert entry is not None
    row = pay.store.get(Space.DEK, pay.locate(b"pay/after", entry, 0).version.dek_id) or b""
    assert parse_dek(row) == (3, before + 1)


def test_a_reader_that_may_only_list_from_now_on_reads_nothing_that_is_written_later(two: ScopeWorld) -> None:
    scopes = two.scopes()
    scopes.grant("pay", "audit", "read")
    info = scopes.revoke("pay", "audit", "read")
    assert info.roles["audit"] == ("list",)
    two.admin().write("pay/after", "2")
    audit = two.as_member("audit")
    assert audit.list() == ["pay/after", "pay/key"]
    with pytest.raises(ScopeSealed):
        audit.read("pay/after")
    assert text_of(two.as_member("pay"), "pay/after") == "2"


def test_a_writer_that_may_only_list_from_now_on_changes_nothing(two: ScopeWorld) -> None:
    scopes = two.scopes()
    scopes.grant("pay", "audit", "write")
    audit = two.as_member("audit")
    audit.write("pay/a", "1")
    scopes.revoke("pay", "audit", "write")
    with pytest.raises(ScopeSealed):
        audit.write("pay/a", "2")
    assert text_of(two.as_member("pay"), "pay/a") == "1"


def test_refuses_to_take_what_nobody_was_given(two: ScopeWorld) -> None:
    scopes = two.scopes()
    for role, right in (("audit", "list"), ("administrator", "list")):
        with pytest.raises(SecretNotFound):
            scopes.revoke("pay", role, right)
    with pytest.raises(SecretNotFound):
        scopes.grant("nowhere", "pay", "read")
    assert scopes.show("pay").revision == 1


def test_taking_again_what_a_role_has_not_changes_nothing(two: ScopeWorld) -> None:
    scopes = two.scopes()
    assert scopes.revoke("pay", "pay", "write").revision == 1
    assert scopes.revoke("pay", "web", "list").revision == 1
    scopes.grant("pay", "web", "read")
    assert scopes.revoke("pay", "web", "list").revision == 3
    assert scopes.revoke("pay", "web", "list").revision == 3


def test_a_grant_brings_documents_to_the_scope_that_it_changes_only(two: ScopeWorld) -> None:
    web = two.as_member("web")
    text_of(web, "web/key")
    web.authority.flush()
    before = web.opened.replica.checkpoint.size
    two.scopes().grant("pay", "audit", "read")
    web.opened.refresh()
    assert web.opened.replica.checkpoint.size == before


def test_where_the_last_writer_goes_the_administrator_writes(two: ScopeWorld) -> None:
    info = two.scopes().revoke("web", "web", "write")
    assert info.roles == {"administrator": ("list", "write"), "web": ("list", "read")}
    two.admin().write("web/key", "newer")
    assert text_of(two.as_member("web"), "web/key") == "newer"


def test_granting_again_what_a_role_has_changes_nothing(two: ScopeWorld) -> None:
    assert two.scopes().grant("pay", "pay", "read").revision == 1
    assert two.scopes().grant("pay", "pay", "write").revision == 2
    pay = two.as_member("pay")
    pay.write("pay/key", "by pay")
    assert text_of(pay, "pay/key") == "by pay"


def test_charters_form_a_chain(two: ScopeWorld) -> None:
    first = charter_of(two.as_member("pay").opened)
    two.scopes().grant("pay", "audit", "list")
    second = charter_of(two.as_member("pay").opened)
    assert (second.serial, second.previous) == (2, first.digest)
    assert grants_of(two.as_member("pay").opened).active == 0


def test_open_handles_follow_changes_of_the_charter(two: ScopeWorld) -> None:
    pay = two.as_member("pay")
    two.scopes().grant("pay", "pay", "write")
    pay.write("pay/key", "by an open handle")
    assert text_of(pay, "pay/key") == "by an open handle"
    two.scopes().revoke("pay", "pay", "write")
    with pytest.raises(ScopeSealed):
        pay.write("pay/key", "too late")


def test_records_alone_need_no_writer_and_change_nothing(two: ScopeWorld) -> None:
    first, second = two.as_member("pay"), two.as_member("pay")
    for number in range(3):
        two.clock.advance(timedelta(minutes=2))
        text_of(first if number % 2 else second, "pay/key")
        first.scope("pay").authority.flush()
    two.admin().write("pay/key", "newer")
    assert (text_of(first, "pay/key"), text_of(second, "pay/key")) == ("newer", "newer")
    assert text_of(two.as_member("pay"), "pay/key") == "newer"
