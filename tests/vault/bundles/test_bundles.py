"""Bundles: what a role may read, published, opened and read without the vault."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from securecfg import Secret, Vault, load
from securecfg.audit import Event
from securecfg.audit.proof import open_proof
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    AuditUnavailable,
    BundleExpired,
    Conflict,
    InvalidKeyUri,
    InvalidPath,
    IssuerUnknown,
    NotAuthenticated,
    NotFound,
    RollbackSuspected,
    SecretExpired,
    SecurecfgError,
    SettingMissing,
    SignatureInvalid,
    StoreFailed,
    Unsupported,
    UsageError,
    VaultClosed,
    VaultForked,
    VersionNotFound,
    WrongKey,
)
from securecfg.keys.identity import read_identity_file
from securecfg.policy import Document
from securecfg.vault import vault as vault_module
from securecfg.vault.bundles.exposures import find_known_from_bundles
from securecfg.vault.bundles.format import parse_front, verify_front
from securecfg.vault.bundles.merging import Merging
from securecfg.vault.bundles.publishing import Bundles
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.keys.changes import KeyChanges
from tests.vault.bundles.published import GRANTS, OTHER, TTL, WEB, make_publisher
from tests.vault.test_identities import identity_file
from tests.vault.world import grant, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.vault import SecretVersion
    from securecfg.vault.bundles.bundle import Bundle
    from securecfg.vault.reading import At
    from tests.vault.bundles.published import Publisher
    from tests.vault.world import World


@pytest.fixture
def publisher(world: World) -> Publisher:
    return make_publisher(world)


def events(vault: Vault) -> list[str]:
    return [entry.record.event.value for entry in vault.log.records()]


# --- what goes in -----------------------------------------------------------------------------------------------------


def test_holds_what_the_role_may_read_and_says_so(publisher: Publisher) -> None:
    done = publisher.publish()
    assert done.paths == ("app/a", "app/f", "app/settings", "unlisted/u")
    assert list(done.recipients) == [WEB]
    bundle = publisher.open()
    assert bundle.principal == WEB
    assert text_of(bundle, "app/a") == "two"
    assert bundle.read("app/f").field("password").reveal() == "canary p@ss"
    assert bundle.read("app/f").metadata == {"owner": "pay"}
    assert bundle.read("unlisted/u").field("").reveal() == b"\x00\xff"
    assert bundle.read_document("app/settings") == (b"x: 1", "application/yaml")
    assert bundle.bundle.serial == done.serial


def test_versions_that_labels_point_at_are_in_it_and_others_are_not(publisher: Publisher) -> None:
    for text in ("three", "four"):
        publisher.vault.write("app/a", text)
    publisher.vault.label("app/a", "canary", 2)
    publisher.publish()
    bundle = publisher.open()
    assert [text_of(bundle, "app/a", at) for at in (None, "previous", "canary", 2, "4")] == [
        *("four", "three", "two", "two", "four")
    ]
    assert [(info.version, info.labels) for info in bundle.history("app/a")] == [
        (4, ("current",)),
        (3, ("previous",)),
        (2, ("canary",)),
    ]
    assert bundle.read("app/a", at=2).labels == ("canary",)
    for at in (1, 9, "nothing"):
        with pytest.raises(VersionNotFound):
            bundle.read("app/a", at=at)
    with pytest.raises(Unsupported, match="time"):
        bundle.read("app/a", at=datetime.now(UTC))


def test_lists_only_what_its_readers_may_list(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    assert bundle.list() == ["app/a", "app/f", "app/settings"]
    assert bundle.list("app/", depth=1) == bundle.list("app/")
    assert bundle.list(depth=1) == ["app/"]
    assert bundle.list("other/") == []
    assert bundle.search("SETT") == ["app/settings"]
    with pytest.raises(AccessDenied):
        bundle.history("unlisted/u")
    with pytest.raises(InvalidPath):
        bundle.list("//")


def test_everything_else_is_denied_whether_it_is_there_or_not(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    denials = []
    for path in ("other/x", "nothing/here"):
        with pytest.raises(AccessDenied) as refused:
            bundle.read(path)
        denials.append((refused.value.message.replace(path, "PATH"), refused.value.hint))
    assert denials[0] == denials[1]


def test_a_rule_that_forbids_one_recipient_keeps_a_path_from_all(publisher: Publisher) -> None:
    publisher.add(OTHER)
    forbid = '@id("no") forbid (principal == Service::"other", action, resource == Secret::"app/f");'
    documents = [Document("g.toml", "grants", GRANTS), Document("p.cedar", "cedar", forbid)]
    publisher.vault.administration.apply_policy(documents)
    assert publisher.publish().paths == ("app/a", "app/settings", "unlisted/u")


def test_what_a_member_may_read_by_another_role_is_not_in_it(publisher: Publisher) -> None:
    grant(publisher.vault, GRANTS + '[roles.more]\n[[roles.more.grants]]\nactions = ["read"]\npaths = ["other/**"]\n')
    publisher.vault.administration.add_member("more", WEB)
    publisher.vault.administration.add_member("admin", WEB)
    assert "other/x" not in publisher.publish().paths


def test_a_role_that_belongs_to_another_has_its_rights_and_its_members_are_recipients(publisher: Publisher) -> None:
    grant(publisher.vault, GRANTS + '[roles.web]\nmembers = ["role:front"]\n'.replace("[roles.web]", "[roles.all]"))
    nested = GRANTS.replace("[roles.web]\n", '[roles.web]\nmembers = ["role:front"]\n', 1)
    grant(publisher.vault, nested)
    publisher.add("svc:front", "front")
    assert list(publisher.publish().recipients) == ["svc:front", WEB]
    done = publisher.publish(publisher.world.folder / "front.sealed", role="front")
    assert list(done.recipients) == ["svc:front"]
    assert "app/a" in done.paths


def test_a_rule_that_mentions_time_publishes_nothing(publisher: Publisher) -> None:
    late = '@id("late") permit (principal, action, resource == Secret::"other/x") when { context.hour >= 0 };'
    never = '@id("never") forbid (principal, action, resource == Secret::"app/a") when { context.hour > 23 };'
    documents = [Document("g.toml", "grants", GRANTS), Document("p.cedar", "cedar", late + never)]
    publisher.vault.administration.apply_policy(documents)
    assert publisher.publish().paths == ("app/f", "app/settings", "unlisted/u")


def test_a_rule_that_applies_in_some_contexts_counts_as_without_any(publisher: Publisher) -> None:
    given = '@id("given") permit (principal, action, resource == Secret::"other/x") when { context.mfa == true };'
    forbid = '@id("{0}") forbid (principal, action, resource == Secret::"app/{0}") when {{ {1} }};'
    taken = forbid.format("a", 'context has purpose && context.purpose == "x"') + forbid.format("f", "!context.mfa")
    documents = [Document("g.toml", "grants", GRANTS), Document("p.cedar", "cedar", given + taken)]
    publisher.vault.administration.apply_policy(documents)
    assert publisher.publish().paths == ("app/a", "app/settings", "unlisted/u")


def test_the_role_of_administrators_publishes_nothing(publisher: Publisher) -> None:
    publisher.add("user:bob", "admin")
    with pytest.raises(NotFound):
        publisher.publish(role="admin")


def test_expired_and_deleted_secrets_are_left_out(publisher: Publisher, world: World) -> None:
    publisher.vault.write("app/short", "x", ttl=timedelta(hours=1))
    publisher.vault.write("app/long", "y", ttl=timedelta(hours=3))
    publisher.vault.delete("app/f")
    world.clock.advance(timedelta(hours=2))
    done = publisher.publish()
    assert done.paths == ("app/a", "app/long", "app/settings", "unlisted/u")
    assert done.expired == ("app/short",)
    bundle = publisher.open()
    assert text_of(bundle, "app/long") == "y"
    world.clock.advance(timedelta(hours=2))
    with pytest.raises(SecretExpired):
        bundle.read("app/long")
    assert bundle.read("app/long", allow_expired=True).field("").reveal() == "y"
    assert bundle.history("app/long")[0].state == "expired"


def test_members_without_a_key_are_named(publisher: Publisher) -> None:
    publisher.vault.administration.add_member("web", "svc:late")
    assert publisher.publish().without_key == ("svc:late",)
    with pytest.raises(Conflict, match="no public key"):
        publisher.publish(publisher.world.folder / "other", role="nobody")


def test_values_of_several_rows_come_out_whole(publisher: Publisher) -> None:
    contents = {f"app/big{size}": os.urandom(size) for size in (16 * 1024 - 1, 16 * 1024, 256 * 1024, 700_000)}
    for path, content in contents.items():
        publisher.vault.write(path, content)
    publisher.publish()
    bundle = publisher.open()
    for path, content in contents.items():
        assert bundle.read(path).field("").reveal() == content
    _, pieces = bundle.stream("app/big700000")
    assert b"".join(pieces) == contents["app/big700000"]


def test_a_secret_that_is_replaced_while_it_is_published_is_noticed(
    publisher: Publisher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = Bundles(publisher.vault.authority)
    read_many = bundles._main._reads.read_many
    other = world.open()
    other.write("app/z", "another secret")

    def moved(wanted: Sequence[tuple[str, At]]) -> list[SecretVersion | SecurecfgError]:
        other.move("app/settings", "app/old")
        other.move("app/z", "app/settings")
        return read_many(wanted)

    monkeypatch.setattr(bundles._main._reads, "read_many", moved)
    with pytest.raises(Conflict, match="changed meanwhile"):
        bundles.publish("web", publisher.file, ttl=TTL)
    assert not publisher.file.exists()


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(days=-1), timedelta(days=3_651), timedelta.max])
def test_refuses_a_time_that_makes_no_sense(publisher: Publisher, ttl: timedelta) -> None:
    with pytest.raises(UsageError):
        publisher.publish(ttl=ttl)
    assert not publisher.file.exists()


# --- who may publish --------------------------------------------------------------------------------------------------

OPS = """
[roles.ops]
members = ["user:ops"]
[[roles.ops.grants]]
actions = ["role.read"]
[[roles.ops.grants]]
actions = [{actions}]
paths = ["{paths}"]
"""


@pytest.mark.parametrize(
    ("actions", "paths", "denied"),
    [
        ('"read", "list"', "**", "export"),
        ('"export", "list"', "**", "read"),
        ('"export", "read"', "**", "list"),
        ('"export", "read", "list"', "app/**", "list"),
    ],
)
def test_who_may_not_give_out_all_of_it_publishes_nothing(
    publisher: Publisher, world: World, actions: str, paths: str, denied: str
) -> None:
    grant(publisher.vault, GRANTS + OPS.format(actions=actions, paths=paths))
    ops = world.open("user:ops")
    with pytest.raises(AccessDenied, match=denied) as refused:
        Bundles(ops.authority).publish("web", publisher.file, ttl=TTL)
    assert denied != "list" or "unlisted" not in refused.value.message
    assert not publisher.file.exists()
    assert "bundle.published" not in events(publisher.vault)


def test_whoever_may_read_and_export_all_of_it_publishes(publisher: Publisher, world: World) -> None:
    grant(publisher.vault, GRANTS + OPS.format(actions='"read", "list", "export"', paths="**"))
    assert Bundles(world.open("user:ops").authority).publish("web", publisher.file, ttl=TTL).paths
    grant(
        publisher.vault,
        GRANTS + OPS.format(actions='"read", "list", "export"', paths="**").replace("role.read", "role.write"),
    )
    with pytest.raises(AccessDenied, match=r"role\.read"):
        Bundles(world.open("user:ops").authority).publish("web", publisher.world.folder / "two", ttl=TTL)


def test_the_log_says_who_got_what_and_where_the_record_is(publisher: Publisher) -> None:
    done = publisher.publish()
    entries = list(publisher.vault.log.records())
    read = [(e.record.obj["path"], e.record.obj["ver"]) for e in entries if e.record.event is Event.SECRET_READ]
    assert sorted(read) == [("app/a", 1), ("app/a", 2), ("app/f", 1), ("app/settings", 1), ("unlisted/u", 1)]
    record = entries[done.serial].record
    assert record.event is Event.BUNDLE_PUBLISHED
    front = parse_front(publisher.file.read_bytes())
    fingerprint = done.recipients[WEB]
    assert record.obj["role"] == "web"
    assert record.obj["count"] == 4
    assert record.obj["digest"] == front.digest.hex()
    assert record.obj["recipients"] == [f"{WEB}:{fingerprint}"]
    publisher.vault.log.verify()


def test_nothing_that_people_chose_is_readable_in_it(publisher: Publisher) -> None:
    publisher.publish()
    raw = publisher.file.read_bytes()
    # Long enough that no random bytes are them.
    for text in (b"app/settings", b"unlisted", b"role:web", b"svc:web", b"user:ada", b"canary", b"password"):
        assert text not in raw


def test_the_size_tells_little(publisher: Publisher) -> None:
    publisher.publish()
    publisher.vault.write("app/one-more", "with a value of its own")
    publisher.publish(publisher.world.folder / "two")
    assert publisher.file.stat().st_size == (publisher.world.folder / "two").stat().st_size


def test_the_number_of_recipients_shows_up_to_a_power_of_two(publisher: Publisher) -> None:
    for number in range(2):
        publisher.add(f"svc:w{number}")
    publisher.publish()
    assert len(parse_front(publisher.file.read_bytes()).slots) == 4
    for name in (WEB, "svc:w0", "svc:w1"):
        assert text_of(publisher.open(key=publisher.key(name)), "app/a") == "two"


def test_whoever_has_the_verifier_key_can_check_that_it_was_published(publisher: Publisher) -> None:
    done = publisher.publish()
    front = parse_front(publisher.file.read_bytes())
    vkey = publisher.vault.log.vkey
    assert verify_front(front, vkey).serial == done.serial
    proved = open_proof(front.proof, [vkey])
    assert (proved.index, proved.record) == (done.serial, None)
    opened = open_proof(publisher.vault.log.prove(done.serial, opens_record=True), [vkey]).record
    assert opened is not None
    assert opened.obj["digest"] == front.digest.hex()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_writes_over_nothing_unless_told_to(publisher: Publisher) -> None:
    publisher.file.write_text("mine")
    before = events(publisher.vault)
    with pytest.raises(AlreadyExists):
        publisher.publish()
    assert publisher.file.read_text() == "mine"
    assert "secret.read" not in set(events(publisher.vault)) - set(before)
    with pytest.raises(AlreadyExists, match="no bundle"):
        publisher.publish(replace=True)
    with pytest.raises(AlreadyExists, match="no bundle"):
        publisher.publish(publisher.world.path, replace=True)
    publisher.file.unlink()
    publisher.publish()
    publisher.publish(replace=True)
    assert text_of(publisher.open(), "app/a") == "two"


def test_what_takes_the_place_of_the_file_meanwhile_is_not_written_over(
    publisher: Publisher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vouch, victim, link = Bundles._vouch, world.folder / "victim", publisher.file
    victim.write_text("precious")
    changes: list[tuple[bool, Callable[[], object], type[SecurecfgError]]] = [
        (True, lambda: link.symlink_to(victim), StoreFailed),
        (True, lambda: link.write_text("mine"), AlreadyExists),
        (True, link.mkdir, AlreadyExists),
        (False, lambda: link.symlink_to(victim), StoreFailed),
        (False, lambda: link.write_text("mine"), AlreadyExists),
    ]
    for replace, change, error in changes:
        if replace:
            publisher.publish()

        def racing(*arguments: Any, change: Callable[[], object] = change) -> object:  # noqa: ANN401 - passed on
            link.unlink(missing_ok=True)
            change()
            return vouch(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Bundles, "_vouch", racing)
            with pytest.raises(error):
                publisher.publish(replace=replace)
        assert victim.read_text() == "precious"
        assert link.is_symlink() or link.is_dir() or link.read_text() == "mine"
        assert not list(world.folder.glob(".*.tmp"))
        if link.is_dir() and not link.is_symlink():
            link.rmdir()
        else:
            link.unlink()


@pytest.mark.parametrize("replace", [False, True])
def test_the_file_appears_with_all_of_it(publisher: Publisher, monkeypatch: pytest.MonkeyPatch, replace: bool) -> None:
    if replace:
        publisher.publish()
    before = publisher.file.read_bytes() if replace else None
    seen = []

    def fsync(descriptor: int, really: Callable[[int], None] = os.fsync) -> None:
        seen.append(publisher.file.read_bytes() if publisher.file.exists() else None)
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    publisher.publish(replace=replace)
    assert before in seen
    assert set(seen) <= {before, publisher.file.read_bytes()}
    assert publisher.file.stat().st_mode & 0o777 == 0o644
    monkeypatch.undo()
    assert text_of(publisher.open(), "app/a") == "two"


def test_a_vault_that_is_open_keeps_its_locks_whatever_is_taken_for_a_bundle(
    publisher: Publisher, world: World
) -> None:
    publisher.publish()
    held = locks()
    assert held
    for use in (
        world.open,
        lambda: publisher.publish(world.path, replace=True),
        lambda: publisher.publish(world.folder / "x", since=world.path),
        lambda: publisher.open(audit=f"file:{world.path}"),
        lambda: Merging(publisher.vault.authority).merge(world.path),
    ):
        with suppress(SecurecfgError):
            use()
        assert locks() >= held
    publisher.vault.write("app/a", "three")


def locks() -> set[str]:
    """The files on which this process holds locks, as inodes."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {line[-3] for line in lines if line[-4] == str(os.getpid())}


def test_never_writes_through_a_symbolic_link_or_into_nothing(publisher: Publisher) -> None:
    victim = publisher.world.folder / "victim"
    victim.write_text("mine")
    publisher.file.symlink_to(victim)
    for replace in (False, True):
        with pytest.raises(StoreFailed, match="symbolic link"):
            publisher.publish(replace=replace)
    assert victim.read_text() == "mine"
    with pytest.raises(StoreFailed, match="no folder"):
        publisher.publish(publisher.world.folder / "none" / "x")
    with pytest.raises(AlreadyExists):
        publisher.publish(publisher.world.folder, replace=True)


# --- who opens it -----------------------------------------------------------------------------------------------------


def test_opens_for_its_recipients_only(publisher: Publisher) -> None:
    publisher.publish()
    identity_file(publisher.world.folder, OTHER)
    with pytest.raises(WrongKey):
        publisher.open(key=publisher.key(OTHER))
    with pytest.raises(InvalidKeyUri):
        publisher.open(key=publisher.world.key)
    with pytest.raises(NotAuthenticated):
        publisher.open(principal=OTHER)
    assert publisher.open(principal=WEB).principal == WEB


def test_another_name_for_the_same_key_opens_nothing(publisher: Publisher) -> None:
    from securecfg.keys.identity import Identity, IdentityFile, format_identity_file

    publisher.publish()
    path = publisher.world.folder / "svc-web.identity"
    file = read_identity_file(path)
    renamed = IdentityFile(Identity("user:root", file.identity.public_key), file.private)
    path.write_text(format_identity_file(renamed))
    with pytest.raises(WrongKey):
        publisher.open()


def test_the_passphrase_of_an_identity_is_asked_for(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    from securecfg.keys import open_provider
    from securecfg.keys.identity import IdentityFile, format_identity_file, generate_identity, protect_seed

    identity, seed = generate_identity("user:ana")
    path = publisher.world.folder / "ana"
    guard = open_provider("passphrase:", ask=lambda _: "canary words")
    path.touch(mode=0o600)
    private = protect_seed(identity, seed, guard, "passphrase:")
    path.write_text(format_identity_file(IdentityFile(identity, private)))
    publisher.vault.administration.add_member("web", "user:ana", identity=identity)
    publisher.publish()
    monkeypatch.setenv("PW", "canary words")
    assert text_of(publisher.open(key=f"identity:{path}?env=PW"), "app/a") == "two"
    monkeypatch.setenv("PW", "others")
    with pytest.raises(WrongKey):
        publisher.open(key=f"identity:{path}?env=PW")


def test_a_member_that_was_added_later_needs_a_new_bundle(publisher: Publisher) -> None:
    publisher.publish()
    publisher.add(OTHER)
    with pytest.raises(WrongKey):
        publisher.open(key=publisher.key(OTHER))
    publisher.publish(replace=True)
    assert text_of(publisher.open(key=publisher.key(OTHER)), "app/a") == "two"


# --- whom it comes from, and how new it is ----------------------------------------------------------------------------


def another_vault(publisher: Publisher, world: World, path: Path) -> None:
    """Publish from another vault to the same key."""
    from tests.vault.bundles.published import Publisher
    from tests.vault.world import World

    folder = world.folder / f"evil-{secrets.token_hex(4)}"
    folder.mkdir()
    other = World(folder, world.clock)
    vault = other.create()
    world.vaults.append(vault)
    vault.write("app/a", "evil")
    for number in range(40):
        vault.write(f"filler/{number}", "x")
    grant(vault, GRANTS)
    public = read_identity_file(world.folder / "svc-web.pub").identity
    vault.administration.add_member("web", WEB, identity=public)
    Publisher(other, vault).publish(path)


def test_what_another_vault_publishes_for_the_same_key_is_refused(publisher: Publisher, world: World) -> None:
    publisher.publish()
    publisher.open()
    publisher.file.unlink()
    another_vault(publisher, world, publisher.file)
    with pytest.raises(SignatureInvalid, match="another vault"):
        publisher.open()
    with pytest.raises(SignatureInvalid, match="another vault"):
        publisher.open(issuer=str(publisher.vault.log.vkey))


def test_the_issuer_is_trusted_once_and_then_held_to(publisher: Publisher, world: World) -> None:
    another_vault(publisher, world, publisher.file)
    assert text_of(publisher.open(), "app/a") == "evil"  # what a first use cannot know
    publisher.publish(replace=True)
    with pytest.raises(SignatureInvalid, match="another vault"):
        publisher.open()
    assert text_of(publisher.open(issuer=str(publisher.vault.log.vkey)), "app/a") == "two"


def test_without_a_state_directory_the_issuer_must_be_named(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = publisher.publish()
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")
    with pytest.raises(IssuerUnknown) as refused:
        publisher.open()
    assert "unverified" in refused.value.hint
    assert text_of(publisher.open(issuer=done.issuer), "app/a") == "two"
    assert text_of(publisher.open(issuer="unverified"), "app/a") == "two"
    monkeypatch.setenv("SECURECFG_ISSUER", done.issuer)
    assert text_of(publisher.open(), "app/a") == "two"


def test_a_bundle_in_the_place_of_a_vault_is_not_trusted_at_first(publisher: Publisher, world: World) -> None:
    done = publisher.publish()
    world.path.unlink()
    publisher.file.rename(world.path)
    with pytest.raises(IssuerUnknown, match="a vault was opened at this path"):
        publisher.open(world.path)
    assert text_of(publisher.open(world.path, issuer=done.issuer), "app/a") == "two"


def test_a_known_issuer_can_be_required(publisher: Publisher) -> None:
    done = publisher.publish()
    with pytest.raises(IssuerUnknown):
        publisher.open(anchor="required")
    publisher.open(anchor="required", issuer=done.issuer)
    publisher.open()
    publisher.open(anchor="required")


def test_an_older_bundle_is_refused_once_a_newer_one_was_opened(publisher: Publisher) -> None:
    publisher.publish()
    old = publisher.file.read_bytes()
    publisher.open()
    newer = publisher.publish(replace=True)
    new = publisher.file.read_bytes()
    assert publisher.open().bundle.serial == newer.serial
    publisher.file.write_bytes(old)
    for issuer in (None, newer.issuer, "unverified"):
        with pytest.raises(RollbackSuspected):
            publisher.open(issuer=issuer)
    publisher.file.write_bytes(new)
    publisher.open()
    elsewhere = publisher.world.folder / "copy"
    elsewhere.write_bytes(old)
    with pytest.raises(RollbackSuspected):
        publisher.open(elsewhere)


def test_bundles_of_two_roles_do_not_hold_each_other_up(publisher: Publisher, world: World) -> None:
    grant(publisher.vault, GRANTS + GRANTS.replace("web", "jobs"))
    publisher.vault.administration.add_member("jobs", WEB)
    jobs = world.folder / "jobs.sealed"
    publisher.publish(jobs, role="jobs")
    publisher.publish()
    publisher.open()
    assert publisher.open(jobs).bundle.inventory.role == "jobs"


def test_a_new_signing_key_of_the_log_is_followed_and_an_old_one_is_not(publisher: Publisher) -> None:
    first = publisher.publish()
    old = publisher.file.read_bytes()
    publisher.open()
    rotate_signing_key(publisher.vault.authority)
    rotate_signing_key(publisher.vault.authority)
    second = publisher.publish(replace=True)
    assert second.issuer == first.issuer
    assert text_of(publisher.open(), "app/a") == "two"
    assert text_of(publisher.open(issuer=str(publisher.vault.log.current_vkey)), "app/a") == "two"
    publisher.file.write_bytes(old)
    with pytest.raises(RollbackSuspected):
        publisher.open()
    # The newest key does not vouch for what came before it.
    with pytest.raises(SignatureInvalid):
        publisher.open(issuer=str(publisher.vault.log.current_vkey))


def test_ends_by_the_clock_of_the_reader(publisher: Publisher, world: World) -> None:
    publisher.publish()
    bundle = publisher.open()
    bundle.read("app/a")
    world.clock.advance(TTL)
    for use in (lambda: bundle.read("app/a"), bundle.list, lambda: bundle.read_many([("app/a", None)])[0]):
        try:
            error = use()
        except BundleExpired as raised:
            error = raised
        assert isinstance(error, BundleExpired)
    with pytest.raises(BundleExpired) as refused:
        publisher.open()
    assert "vault publish" in refused.value.hint


def test_damaged_state_is_not_taken_for_none(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    publisher.publish()
    publisher.open()
    for file in (tmp_path / "state" / "securecfg" / "bundles").glob("[pr]*-*"):
        kept = file.read_bytes()
        for content in (b"", b"{}", b"[", b'{"v":1,"issuer":3,"x":4}'):
            file.write_bytes(content)
            with pytest.raises(StoreFailed):
                publisher.open()
        file.write_bytes(kept)
    publisher.open()


# --- what it is not ---------------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Bundle], object]] = {
    "write": lambda bundle: bundle.write("app/a", "x"),
    "delete": lambda bundle: bundle.delete("app/a"),
    "undelete": lambda bundle: bundle.undelete("app/a", 1),
    "destroy": lambda bundle: bundle.destroy("app/a", 1),
    "rollback": lambda bundle: bundle.rollback("app/a", to=1),
    "label": lambda bundle: bundle.label("app/a", "x", 1),
    "move": lambda bundle: bundle.move("app/a", "app/b"),
    "batch": lambda bundle: bundle.batch().__enter__(),
    "acting": lambda bundle: bundle.acting("user:x").__enter__(),
    "administration": lambda bundle: bundle.administration,
    "log": lambda bundle: bundle.log,
    "opened": lambda bundle: bundle.opened,
    "authority": lambda bundle: bundle.authority,
    "resolve": lambda bundle: bundle.resolve("0" * 32),
    "on_rotate": lambda bundle: bundle.on_rotate("app/**", lambda _old, _new: None),
    "on_change": lambda bundle: bundle.ref("app/a").on_change(lambda _: None),
    "explain": lambda bundle: bundle.explain("read", "app/a", principal="user:x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_cannot_be_changed_or_administered(publisher: Publisher, change: str) -> None:
    publisher.publish()
    with pytest.raises(Unsupported) as refused:
        CHANGES[change](publisher.open())
    assert refused.value.hint


def test_a_context_is_refused_because_nothing_depends_on_it(publisher: Publisher) -> None:
    publisher.publish()
    with pytest.raises(Unsupported, match="context"):
        publisher.open(context={"mfa": True})


def test_explains_that_it_was_decided(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    assert bundle.explain("read", "app/a").decision.allowed
    assert bundle.explain("list", "app/a").decision.allowed
    assert not bundle.explain("list", "unlisted/u").decision.allowed
    assert not bundle.explain("write", "app/a").decision.allowed
    assert not bundle.explain("read", "other/x").decision.allowed
    assert bundle.explain("read", "app/a").withheld


# --- its life ---------------------------------------------------------------------------------------------------------


def test_refuses_everything_once_it_is_closed(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    with bundle:
        assert "open as svc:web" in repr(bundle)
    bundle.close()
    assert "closed" in repr(bundle)
    for use in (lambda: bundle.read("app/a"), bundle.list, lambda: bundle.history("app/a"), bundle.__enter__):
        with pytest.raises(VaultClosed):
            use()


def test_a_forked_child_opens_its_own(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    child = os.fork()
    if not child:
        try:
            bundle.read("app/a")
        except VaultForked:
            bundle.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert text_of(bundle, "app/a") == "two"


def test_is_read_on_although_the_file_is_gone(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    publisher.file.unlink()
    assert text_of(bundle, "app/a") == "two"


def test_a_bundle_has_nothing_to_fetch_ahead(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    assert bundle.prefetch(["app/a", "other/x", "app/"]) == 0
    with pytest.raises(InvalidPath):
        bundle.prefetch(["app//a"])


def test_handles_and_many_reads_work_as_in_a_vault(publisher: Publisher) -> None:
    publisher.publish()
    bundle = publisher.open()
    assert bundle.ref("app/f#user").reveal() == "shop"
    found = bundle.read_many([("app/a", None), ("other/x", None), ("app/a", "previous"), ("app/a", 7)])
    assert [type(each).__name__ for each in found] == [
        *("SecretVersion", "AccessDenied", "SecretVersion", "VersionNotFound")
    ]


# --- configuration ----------------------------------------------------------------------------------------------------


@dataclass
class Db:
    user: Secret[str]
    password: Secret[str]


@dataclass
class App:
    db: Db


CONFIG = "db:\n  user: ${secret:app/f#user}\n  password: ${secret:app/f#password}\n"


def test_load_opens_a_bundle_by_its_path(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "SystemClock", lambda: publisher.world.clock)
    publisher.publish()
    config = publisher.world.folder / "c.yaml"
    config.write_text(CONFIG)
    monkeypatch.setenv("SECURECFG_KEY", publisher.key())
    monkeypatch.delenv("SECURECFG_AUDIT", raising=False)
    with pytest.raises(SettingMissing, match="sink"):
        load(config, vault=str(publisher.file))
    monkeypatch.setenv("SECURECFG_AUDIT", f"file:{publisher.sink}")
    app = load(config, model=App, vault=str(publisher.file))
    assert app.db.password.reveal() == "canary p@ss"
    tree = load(config, "vault:app/settings", vault=publisher.file)
    assert tree.x == 1
    assert tree.db.user.reveal() == "shop"
    config.write_text("x: ${secret:other/x}\n")
    with pytest.raises(SecurecfgError):
        load(config, vault=publisher.file).x.reveal()


def test_no_value_is_given_out_where_it_cannot_be_recorded(publisher: Publisher) -> None:
    publisher.publish()
    with pytest.raises(SettingMissing):
        publisher.open(audit="")
    for sink in (f"file:{publisher.world.folder}", "file:/proc/nothing/x"):
        with pytest.raises(AuditUnavailable):
            publisher.open(audit=sink)


# --- who may know it --------------------------------------------------------------------------------------------------


def known(vault: Vault) -> list[tuple[str, int, str]]:
    return [(each.path, each.version, each.principal) for each in find_known_from_bundles(vault.authority)]


def test_what_was_published_for_a_replaced_key_is_exposed_until_it_changes(publisher: Publisher, world: World) -> None:
    vault = publisher.vault
    assert known(vault) == []
    publisher.add(OTHER)
    old = publisher.publish().recipients[WEB]
    assert known(vault) == []
    (world.folder / "svc-web.identity").unlink()
    (world.folder / "svc-web.pub").unlink()
    _, public = identity_file(world.folder, WEB)
    new = read_identity_file(public).identity
    vault.administration.add_member("web", WEB, identity=new, replace=True)
    assert known(vault) == [(path, number, WEB) for path, number in (("app/a", 2), ("app/f", 1))] + [
        ("app/settings", 1, WEB),
        ("unlisted/u", 1, WEB),
    ]
    found = find_known_from_bundles(vault.authority)[0]
    assert (found.fingerprint, found.role) == (old, "web")
    assert found.days(found.since + timedelta(days=2, hours=1)) == 2
    publisher.publish(replace=True)
    vault.write("app/a", "three")
    vault.move("app/f", "other/f")
    vault.delete("app/settings")
    assert known(vault) == [("other/f", 1, WEB), ("unlisted/u", 1, WEB)]
    KeyChanges(vault.authority).rotate_data("other/")
    assert ("other/f", 1, WEB) in known(vault)
    assert known(world.open("user:nobody")) == []


def test_what_was_published_for_a_member_that_left_is_exposed(publisher: Publisher) -> None:
    publisher.add(OTHER)
    publisher.publish()
    publisher.vault.administration.remove_member("web", OTHER)
    assert {principal for _, _, principal in known(publisher.vault)} == {OTHER}
    publisher.vault.administration.add_member("jobs", OTHER)
    assert {principal for _, _, principal in known(publisher.vault)} == {OTHER}
