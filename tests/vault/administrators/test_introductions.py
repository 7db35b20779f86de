"""Introductions: who opens a vault for the first time believes an administrator, and not whoever wrote the file."""

from __future__ import annotations

import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import generate_key
from securecfg.errors import (
    AccessDenied,
    AnchorMissing,
    InvalidMetadata,
    RollbackSuspected,
    ScopeSealed,
    SecretNotFound,
    SignatureInvalid,
    StoreFailed,
    UsageError,
    WrongKey,
)
from securecfg.keys import open_provider
from securecfg.keys.identity import read_identity_file
from securecfg.keys.role_keys import RoleKey
from securecfg.keys.trust import Trust
from securecfg.store import Delete, Put, Space, open_sqlite
from securecfg.vault.administrators.introduced import accept_introduction
from securecfg.vault.administrators.introducing import introduce
from securecfg.vault.administrators.introductions import (
    IntroducedScope,
    parse_introduction,
    read_introduction,
    sign_introduction,
    word_introduction,
)
from securecfg.vault.bundles.publishing import Bundles
from securecfg.vault.state.anchor import AnchorFile, state_directory
from securecfg.vault.state.replica import SLOT_IDS
from securecfg.vault.trust.first_seen import fingerprint_of
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.scopes.test_attacks import plant_scope
from tests.vault.scopes.test_charter_anchors import put_back, signed_charter
from tests.vault.world import World, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.vault import Vault
    from securecfg.vault.administrators.introductions import Introduction
    from tests.vault.scope_world import ScopeWorld

VAULT_ID = bytes(range(16))
MADE = "2026-11-28T12:00:00.000000000Z"
SCOPE = IntroducedScope(bytes(range(16, 32)), 3, b"c" * 32, 9, b"r" * 32)
LOG = (12, b"l" * 32)


def make_world(folder: Path) -> ScopeWorld:
    """One scope that `web` writes and `pay` reads, and one that is nothing to `pay`."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay", "web"], write=["web"])
    world.scopes().create("other", read=["audit"])
    world.as_member("web").write("pay/key", "of web")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path / "world")
    yield world
    world.close()


def move(patch: pytest.MonkeyPatch, world: World) -> None:
    """Go to a machine that has never seen the vault."""
    world.close()
    patch.setenv("XDG_STATE_HOME", str(world.folder.parent / "elsewhere"))


def written(world: ScopeWorld, principal: str | None = "svc:pay") -> Path:
    """Return a new file with an introduction."""
    file = world.folder / f"{world.clock.now_ns()}.introduction"
    file.write_bytes(introduce(world.admin().authority, principal).content)
    return file


def as_pay(world: ScopeWorld, introduction: Path, **options: object) -> Vault:
    return world.open(None, key=world_key(world, "pay"), introduction=introduction, **options)


def world_key(world: ScopeWorld, name: str) -> str:
    return f"identity:{world.folder / name}.identity"


def opened_for(world: ScopeWorld, name: str, file: Path) -> Introduction:
    return read_introduction(file, open_provider(world_key(world, name)))


# --- what it says -----------------------------------------------------------------------------------------------------


def test_an_introduction_for_a_member_tells_his_scopes_and_is_for_nobody_else(world: ScopeWorld) -> None:
    made = introduce(world.admin().authority, "svc:pay")
    file = world.folder / "pay.introduction"
    file.write_bytes(made.content)
    for word in (b"pay", b"other", b"web", b"svc"):
        assert word not in made.content
    told = opened_for(world, "pay", file)
    assert (made.paths, list(told.paths.values())) == (("pay/",), ["pay/"])
    vault_id = world.admin().opened.replica.vault_id
    assert told.vault_id == vault_id
    assert told.marks.keys() == {vault_id, *told.paths}
    assert told.trust is not None
    assert fingerprint_of(vault_id, told.trust) == made.fingerprint
    for provider in (None, open_provider(world_key(world, "web")), open_provider(world.key)):
        with pytest.raises(WrongKey, match="another identity"):
            read_introduction(file, provider)


def test_one_for_everybody_tells_all_scopes_and_no_name(world: ScopeWorld) -> None:
    made = introduce(world.admin().authority)
    for word in (b"pay", b"other", b"web", b"svc:"):
        assert word not in made.content
    told = parse_introduction(made.content)
    assert (len(told.marks), told.paths) == (3, {})
    assert made.paths == ("other/", "pay/")


def test_making_one_is_recorded_and_needs_the_right(world: ScopeWorld) -> None:
    admin = world.admin()
    introduce(admin.authority, "svc:pay")
    record = next(one.record for one in admin.log.records() if one.record.event is Event.SCOPE_INTRODUCED)
    fingerprint = read_identity_file(world.folder / "pay.identity").identity.fingerprint.hex()
    assert (record.obj["count"], record.obj["recipients"]) == (1, [f"svc:pay:{fingerprint}"])
    with pytest.raises(AccessDenied):
        introduce(world.open("svc:web").authority)


def test_nobody_is_introduced_to_nothing(world: ScopeWorld, tmp_path: Path) -> None:
    world.person("idle", "idle")
    with pytest.raises(SecretNotFound, match="may open no sealed scope"):
        introduce(world.admin().authority, "svc:idle")
    with pytest.raises(InvalidMetadata, match="no public key"):
        introduce(world.admin().authority, "svc:nobody")
    (tmp_path / "plain").mkdir()
    plain = World(tmp_path / "plain")
    with closing(plain.create()) as vault, pytest.raises(SecretNotFound, match="no sealed scopes"):
        introduce(vault.authority)


# --- what is refused in a file ----------------------------------------------------------------------------------------


def signed(text: str, *keys: RoleKey, vault_id: bytes = VAULT_ID) -> bytes:
    signatures = tuple((key.signing_key, key.signer.sign(text.encode())) for key in keys)
    return sign_introduction(text, vault_id, signatures)


def boss() -> RoleKey:
    return RoleKey("administrator", generate_key())


def test_an_introduction_comes_back_as_it_was_signed() -> None:
    one, two = boss(), boss()
    trust = Trust((one.signing_key, two.signing_key), 2)
    named = SCOPE._replace(scope_id=bytes(16), path="a b/c/")
    told = parse_introduction(signed(word_introduction(VAULT_ID, trust, LOG, [SCOPE, named], MADE), one, two))
    assert (told.vault_id, told.trust, told.made, told.paths) == (VAULT_ID, trust, MADE, {bytes(16): "a b/c/"})
    mark = told.marks[SCOPE.scope_id]
    assert (mark.size, mark.root, mark.serial, mark.charter) == (9, b"r" * 32, 3, b"c" * 32)
    assert told.marks[VAULT_ID][:2] == LOG


def test_it_needs_as_many_signatures_as_it_says() -> None:
    one, two, other = boss(), boss(), boss()
    trust = Trust((one.signing_key, two.signing_key), 2)
    text = word_introduction(VAULT_ID, trust, LOG, [SCOPE], MADE)
    for keys in ((one,), (one, one), (one, other)):
        with pytest.raises(SignatureInvalid, match="signatures of 2"):
            parse_introduction(signed(text, *keys))
    with pytest.raises(SignatureInvalid):
        parse_introduction(signed(text, one, two, vault_id=bytes(16)))
    with pytest.raises(SignatureInvalid, match="signatures of 2"):
        parse_introduction(signed(text, other))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("introduction/1", "introduction/2"),
        ("securecfg/0", "securecfg/A"),
        ("threshold 1 of 1", "threshold 0 of 1"),
        ("threshold 1 of 1", "threshold 1 of 2"),
        ("threshold 1 of 1", "threshold 2 of 1"),
        ("threshold 1 of 1", "threshold 01 of 1"),
        ("log 12 ", "log 0 "),
        ("log 12 ", f"log {1 << 63} "),
        (" 3 ", f" {1 << 32} "),
        (" 3 ", " 0 "),
        (" 9 ", " 09 "),
        ("scope ", "scope  "),
        ("made 2026", "made 26"),
        ("scope", "scopes"),
    ],
)
def test_every_other_text_is_refused_however_it_is_signed(old: str, new: str) -> None:
    key = boss()
    text = word_introduction(VAULT_ID, Trust((key.signing_key,), 1), LOG, [SCOPE], MADE)
    assert old in text
    with pytest.raises(SignatureInvalid, match="no introduction"):
        parse_introduction(signed(text.replace(old, new), key))


def test_repeated_lines_are_refused_however_they_are_signed() -> None:
    key = boss()
    trust = Trust((key.signing_key,), 1)
    twice = word_introduction(VAULT_ID, trust, LOG, [SCOPE, SCOPE._replace(size=1)], MADE)
    itself = word_introduction(VAULT_ID, trust, LOG, [SCOPE._replace(scope_id=VAULT_ID)], MADE)
    double = word_introduction(VAULT_ID, Trust((key.signing_key,) * 2, 1), LOG, [SCOPE], MADE)
    none = word_introduction(VAULT_ID, trust, LOG, [], MADE)
    for text in (twice, itself, double, none):
        with pytest.raises(SignatureInvalid, match="no introduction"):
            parse_introduction(signed(text, key))


def test_every_altered_or_cut_file_is_refused(world: ScopeWorld) -> None:
    sealed, clear = written(world), written(world, None)
    for file in (sealed, clear):
        content = file.read_bytes()
        for at in range(0, len(content), 31):
            for changed in (content[:at], content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]):
                file.write_bytes(changed)
                with pytest.raises((SignatureInvalid, WrongKey)):
                    opened_for(world, "pay", file)
    for garbage in (b"", b"\n", b"securecfg/", b"\xff" * 100, b"SECURECFG-SEALED-INTRODUCTION-1 \n"):
        sealed.write_bytes(garbage)
        with pytest.raises(SignatureInvalid):
            opened_for(world, "pay", sealed)


# --- opening with one -------------------------------------------------------------------------------------------------


def test_a_machine_without_state_opens_what_it_is_introduced_to(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(world)
    world.as_member("web").write("pay/key", "newer")
    move(monkeypatch, world)
    with pytest.raises(AnchorMissing):
        world.open(None, key=world_key(world, "pay"), anchor="required")
    pay = as_pay(world, file, anchor="required")
    assert text_of(pay, "pay/key") == "newer"
    everybody = world.folder.parent / "everybody"
    everybody.write_bytes(introduce(world.admin().authority).content)
    assert text_of(as_pay(world, everybody, anchor="required"), "pay/key") == "newer"


@pytest.mark.parametrize("principal", ["svc:pay", None])
def test_an_older_copy_is_refused_by_a_machine_that_has_seen_nothing(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, principal: str | None
) -> None:
    world.close()
    shutil.copy(world.path, world.folder / "old")
    world.as_member("web").write("pay/key", "newer")
    file = written(world, principal)
    move(monkeypatch, world)
    shutil.copy(world.folder / "old", world.path)
    with pytest.raises(RollbackSuspected, match="known beforehand"):
        as_pay(world, file)
    assert text_of(world.as_member("pay"), "pay/key") == "of web"


def test_an_older_charter_is_refused_although_the_log_continues(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = signed_charter(world)
    world.scopes().revoke("pay", "web", "write")
    file = written(world)
    put_back(world, "web", old, monkeypatch)
    move(monkeypatch, world)
    with pytest.raises(RollbackSuspected, match="charter of the scope went back"):
        as_pay(world, file)
    assert as_pay(world, written_before(world), anchor="").principal == "svc:pay"


def written_before(world: ScopeWorld) -> Path:
    """Return an introduction by an administrator whose machine knows nothing newer than the older charter."""
    file = world.folder.parent / "before"
    file.write_bytes(introduce(world.admin().authority, "svc:pay").content)
    return file


def test_administrators_of_somebody_elses_making_are_told_apart(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(world)
    plant_scope(world, read_identity_file(world.folder / "pay.identity").identity, "pay")
    move(monkeypatch, world)
    assert text_of(as_pay(world, file), "pay/key") == "of web"


def test_a_vault_whose_only_administrators_are_others_is_refused(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = written(world)
    world.close()
    with closing(open_sqlite(world.path)) as store:
        rows = [number for number, _ in store.scan(Space.GRANT, 0, (1 << 63) - 1, 100)]
        store.stage([Delete(Space.GRANT, number) for number in rows])
    plant_scope(world, read_identity_file(world.folder / "pay.identity").identity, "pay")
    move(monkeypatch, world)
    with pytest.raises(RollbackSuspected, match="administrators are known"):
        as_pay(world, file)
    assert not Path(state_directory(), "administrators").exists()
    (tmp_path / "b").mkdir()
    other = scope_world(tmp_path / "b")
    other.scopes().create("pay", read=["pay"])
    with pytest.raises(RollbackSuspected, match="another vault"):
        other.open(None, key=world_key(other, "pay"), introduction=written(world, None))
    with pytest.raises(RollbackSuspected, match="another vault"):
        other.open(introduction=written(world, None))
    other.close()


def test_a_scope_that_is_gone_is_missed(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(world)
    registry = world.admin().opened.scopes()
    assert registry is not None
    number = registry.scopes["pay/"].number
    world.close()
    with closing(open_sqlite(world.path)) as store:
        store.partition(number).stage([Delete(Space.META, 1)])
    move(monkeypatch, world)
    with pytest.raises(RollbackSuspected, match="not in the vault"):
        as_pay(world, file)


def test_the_root_holds_the_vault_and_its_scopes_to_an_introduction(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.close()
    shutil.copy(world.path, world.folder / "old")
    world.as_member("web").write("pay/key", "newer")
    file = written(world, None)
    world.admin().write("app/a", "1")
    move(monkeypatch, world)
    admin = world.open(introduction=file, anchor="required")
    assert admin.list() == ["app/a", "pay/key"]
    move(monkeypatch, world)
    shutil.rmtree(state_directory())
    shutil.copy(world.folder / "old", world.path)
    with pytest.raises(RollbackSuspected):
        world.open(introduction=file).list("pay/")


# --- a vault without scopes -------------------------------------------------------------------------------------------


def test_a_checkpoint_introduces_a_vault_to_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    plain = World(tmp_path / "a")
    with plain.create() as vault:
        vault.write("app/a", "1")
    shutil.copy(plain.path, plain.folder / "old")
    with plain.open() as vault:
        vault.write("app/a", "2")
        file = plain.folder / "checkpoint"
        file.write_bytes(vault.log.note)
    move(monkeypatch, plain)
    with pytest.raises(AnchorMissing):
        plain.open(anchor="required")
    assert text_of(plain.open(anchor="required", introduction=file), "app/a") == "2"
    move(monkeypatch, plain)
    shutil.rmtree(state_directory())
    shutil.copy(plain.folder / "old", plain.path)
    with pytest.raises(RollbackSuspected, match="known beforehand"):
        plain.open(introduction=file)
    (tmp_path / "b").mkdir()
    other = World(tmp_path / "b")
    other.create().close()
    with pytest.raises(RollbackSuspected, match="another vault"):
        other.open(introduction=file)


# --- for good ---------------------------------------------------------------------------------------------------------


def test_what_is_accepted_is_what_this_machine_knows_from_then_on(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.close()
    shutil.copy(world.path, world.folder / "old")
    world.as_member("web").write("pay/key", "newer")
    file = written(world)
    told = opened_for(world, "pay", file)
    move(monkeypatch, world)
    accepted = accept_introduction(world.path, told)
    assert {one.log_id: (one.size, one.known) for one in accepted} == {
        log_id: (mark.size, None) for log_id, mark in told.marks.items()
    }
    assert text_of(world.open(None, key=world_key(world, "pay"), anchor="required"), "pay/key") == "newer"
    world.close()
    shutil.copy(world.folder / "old", world.path)
    with pytest.raises(RollbackSuspected, match="recorded on this machine"):
        world.as_member("pay")


def test_an_older_introduction_changes_nothing_that_is_known(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = opened_for(world, "pay", written(world))
    world.as_member("web").write("pay/key", "newer")
    newer = opened_for(world, "pay", written(world))
    move(monkeypatch, world)
    accept_introduction(world.path, newer)
    (scope_id,) = newer.paths
    before = AnchorFile(scope_id, world.path).read()
    accepted = {one.log_id: one for one in accept_introduction(world.path, older)}
    assert accepted[scope_id].known == newer.marks[scope_id].size > accepted[scope_id].size
    assert AnchorFile(scope_id, world.path).read() == before


def test_what_contradicts_what_is_known_is_refused_and_changes_nothing(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = opened_for(world, "pay", written(world))
    (scope_id,) = told.paths
    mark, log = told.marks[scope_id], told.marks[told.vault_id]
    move(monkeypatch, world)
    accept_introduction(world.path, told)
    before = [path.read_bytes() for path in sorted(Path(state_directory()).rglob("*")) if path.is_file()]
    for scope_mark, vault_mark, trust in (
        (mark._replace(charter=b"x" * 32), log, told.trust),
        (mark._replace(serial=mark.serial + 1), log, told.trust),
        (mark._replace(size=mark.size - 1, serial=mark.serial + 1), log, told.trust),
        (mark._replace(root=b"x" * 32), log, told.trust),
        (mark._replace(size=mark.size + 100), log, told.trust),
        (mark, log._replace(root=b"x" * 32), told.trust),
        (mark, log, Trust((boss().signing_key,), 1)),
    ):
        false = told._replace(marks={scope_id: scope_mark, told.vault_id: vault_mark}, trust=trust)
        with pytest.raises(RollbackSuspected):
            accept_introduction(world.path, false)
    with pytest.raises(RollbackSuspected, match="another vault"):
        accept_introduction(world.path, told._replace(vault_id=bytes(16)))
    after = [path.read_bytes() for path in sorted(Path(state_directory()).rglob("*")) if path.is_file()]
    assert after == before


def test_what_cannot_be_written_down_is_an_error(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    told = opened_for(world, "pay", written(world))
    world.close()
    blocked = world.folder.parent / "blocked"
    blocked.write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    with pytest.raises(StoreFailed):
        accept_introduction(world.path, told)


def test_an_introduction_says_nothing_of_a_bundle(world: ScopeWorld, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    vault = world.admin()
    vault.write("app/a", "1")
    Bundles(vault.authority).publish("pay", bundle, ttl=timedelta(days=1))
    with pytest.raises(UsageError, match="no introductions to bundles"):
        world.open(None, path=bundle, key=world_key(world, "pay"), introduction=tmp_path / "none")


# --- the fingerprint --------------------------------------------------------------------------------------------------


def test_the_fingerprint_stands_for_vault_keys_and_threshold_in_any_order() -> None:
    one, two = b"1" * 32, b"2" * 32
    told = fingerprint_of(VAULT_ID, Trust((one, two), 1))
    assert told == fingerprint_of(VAULT_ID, Trust((two, one), 1))
    others = {
        fingerprint_of(VAULT_ID, Trust((one, two), 2)),
        fingerprint_of(VAULT_ID, Trust((one,), 1)),
        fingerprint_of(bytes(16), Trust((one, two), 1)),
        told,
    }
    assert len(others) == 4
    assert [len(group) for group in told.split("-")] == [4] * 6


def test_an_administrator_who_cannot_open_a_scope_vouches_for_none_without_it(world: ScopeWorld) -> None:
    number = world.scopes().show("pay").number
    world.close()
    with closing(open_sqlite(world.path)) as store:
        partition = store.partition(number)
        for id_, row in partition.scan(Space.META, SLOT_IDS.start, SLOT_IDS.stop - 1, len(SLOT_IDS)):
            partition.stage([Put(Space.META, id_, row[:20] + bytes((row[20] ^ 1,)) + row[21:])])
    for principal in (None, "svc:pay"):
        with pytest.raises(ScopeSealed, match="`pay/`, which could not be vouched for"):
            introduce(world.admin().authority, principal)
