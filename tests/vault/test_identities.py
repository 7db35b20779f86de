"""Principals that a key proves, and vaults that open with identities alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    Conflict,
    InvalidMetadata,
    LastSlot,
    NotAuthenticated,
)
from securecfg.keys import IdentityProvider, KeyProvider, SlotInfo, generate_key_file, open_provider
from securecfg.keys.identity import (
    UNPROTECTED,
    Identity,
    IdentityFile,
    PrivateHalf,
    format_identity_file,
    generate_identity,
    identity_of,
    parse_identity_file,
)
from securecfg.vault.adoption import adopt
from securecfg.vault.creation import identify
from securecfg.vault.keys.slots import Slots
from securecfg.vault.settings import find_settings
from tests.decoder import Identity as DecoderIdentity
from tests.decoder import decode
from tests.vault.world import ADMIN, READER, grant

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.audit import Subject
    from tests.vault.world import World


def identity_file(folder: Path, name: str) -> tuple[Path, Path]:
    """Make an identity; return the files of its private and its public half."""
    identity, seed = generate_identity(name)
    stem = name.replace(":", "-")
    paths = folder / f"{stem}.identity", folder / f"{stem}.pub"
    for path, private in zip(paths, (PrivateHalf(UNPROTECTED, seed), None), strict=True):
        path.touch(mode=0o600)
        path.write_text(format_identity_file(IdentityFile(identity, private)))
    return paths


def recorded(vault: Vault) -> list[Subject]:
    """Who did what is recorded, but for looking at that."""
    return [entry.record.subject for entry in vault.log.records() if entry.record.event is not Event.AUDIT_READ]


def subjects(vault: Vault) -> list[tuple[str, bool, str]]:
    return [(subject.id, subject.is_proved, subject.via) for subject in recorded(vault)]


@pytest.fixture
def own(world: World, vault: Vault) -> str:
    """The key URI of a reader's identity, which a slot lets in."""
    private, public = identity_file(world.folder, READER)
    grant(vault)
    vault.write("app/a", "1")
    Slots(vault.authority).add(IdentityProvider(public), label="reader")
    return f"identity:{private}"


# --- proved -----------------------------------------------------------------------------------------------------------


def test_an_identity_is_its_own_principal_and_the_record_says_proved(world: World, vault: Vault, own: str) -> None:
    with Vault.open(world.path, key=own, clock=world.clock) as opened:
        assert opened.principal == READER
        opened.read("app/a")
        with pytest.raises(AccessDenied):
            opened.write("app/a", "2")
    assert subjects(vault)[-2:] == [(READER, True, ""), (READER, True, "")]
    slot = Slots(vault.authority).list()[1]
    assert (slot.kind, slot.principals) == ("identity", (READER,))
    assert recorded(vault)[-1].slot == slot.slot_id


def test_the_same_principal_by_another_key_is_asserted(world: World, vault: Vault, own: str) -> None:
    world.open(READER).read("app/a")
    assert subjects(vault)[-1] == (READER, False, "")


def test_an_identity_speaks_for_nobody_else(world: World, own: str) -> None:
    for other in (ADMIN, "svc:other"):
        with pytest.raises(NotAuthenticated) as refused:
            Vault.open(world.path, key=own, principal=other)
        assert f"`{READER}`" in refused.value.hint
    with Vault.open(world.path, key=own, principal=READER) as opened:
        assert opened.principal == READER


def test_acting_for_another_proves_nothing_of_the_other(world: World, vault: Vault, own: str) -> None:
    private, public = identity_file(world.folder, ADMIN)
    Slots(vault.authority).add(IdentityProvider(public))
    with Vault.open(world.path, key=f"identity:{private}", clock=world.clock) as opened:
        with opened.acting(READER) as reader:
            reader.read("app/a")
        with opened.acting(ADMIN) as again:
            again.read("app/a")
    assert subjects(vault)[-2:] == [(READER, False, ADMIN), (ADMIN, True, "")]


def test_a_slot_that_names_nobody_or_several_proves_nothing() -> None:
    provider = IdentityProvider("x")
    for principals in ((), (READER, ADMIN)):
        identity = identify(SlotInfo(bytes(16), bytes(1216), 1, "identity", "", principals), provider, READER)
        assert (identity.principal, identity.is_proved) == (READER, False)


def test_a_key_of_another_kind_proves_nothing_whatever_it_is_called() -> None:
    slot = SlotInfo(bytes(16), bytes(1216), 1, "identity", "", (READER,))
    assert identify(slot, open_provider("file:x"), READER).is_proved is False


def test_what_the_vault_says_of_a_slot_decides_not_the_file(world: World, own: str) -> None:
    path = world.folder / "svc-reader.identity"
    file = parse_identity_file(path.read_bytes())
    assert file.private is not None
    assert file.identity.name == READER
    path.write_text(format_identity_file(IdentityFile(identity_of(ADMIN, file.private.content), file.private)))
    with Vault.open(world.path, key=own) as opened:
        assert opened.principal == READER


# --- slots ------------------------------------------------------------------------------------------------------------


def test_a_slot_of_an_identity_lists_that_one_principal(world: World, vault: Vault) -> None:
    _, public = identity_file(world.folder, "svc:web")
    slots = Slots(vault.authority)
    for wrong in (["svc:other"], ["svc:web", "svc:other"]):
        with pytest.raises(InvalidMetadata, match="identity of `svc:web`"):
            slots.add(IdentityProvider(public), principals=wrong)
    slots.add(IdentityProvider(public), principals=["svc:web"])
    assert slots.list()[1].principals == ("svc:web",)


def test_a_name_that_is_no_principal_gets_no_slot(world: World, vault: Vault) -> None:
    identity, _ = generate_identity("web")
    path = world.folder / "web"
    path.write_text(format_identity_file(IdentityFile(Identity("web", identity.public_key), None)))
    with pytest.raises(InvalidMetadata, match="not a principal"):
        Slots(vault.authority).add(IdentityProvider(path))


def test_who_may_manage_keys_lets_no_administrator_in(world: World, vault: Vault) -> None:
    grant(vault, '[roles.keys]\nmembers = ["user:bo"]\n[[roles.keys.grants]]\nactions = ["key.manage"]\n')
    _, own = identity_file(world.folder, ADMIN)
    _, web = identity_file(world.folder, "svc:web")
    with vault.acting("user:bo") as bo:
        with pytest.raises(AccessDenied):
            Slots(bo.authority).add(IdentityProvider(own))
        assert Slots(bo.authority).add(IdentityProvider(web)) == 2


def test_the_decoder_opens_the_slot_too(world: World, vault: Vault, own: str) -> None:
    text = (world.folder / "svc-reader.identity").read_text()
    contents = decode(world.path, DecoderIdentity(text))
    assert contents.opened_slot == contents.slots[1].slot_id
    assert contents.slots[1].principals == (READER,)
    assert contents.records[-1]["obj"]["kind"] == "identity"


# --- vaults without another key ---------------------------------------------------------------------------------------


def test_a_vault_can_open_with_its_administrators_identity_alone(world: World) -> None:
    private, _ = identity_file(world.folder, ADMIN)
    with Vault.create(world.path, key=f"identity:{private}", admin=ADMIN) as created:
        created.write("app/a", "1")
    with Vault.open(world.path, key=f"identity:{private}") as opened:
        assert opened.read("app/a").version == 1
        assert subjects(opened) == [(ADMIN, True, "")] * 3
        assert Slots(opened.authority).list()[0].principals == (ADMIN,)
        with pytest.raises(LastSlot):
            Slots(opened.authority).remove(1)


def test_an_identity_makes_no_other_an_administrator(world: World) -> None:
    private, _ = identity_file(world.folder, READER)
    with pytest.raises(NotAuthenticated):
        Vault.create(world.path, key=f"identity:{private}", admin=ADMIN)
    assert not world.path.exists()
    world.path.touch()
    with pytest.raises(AlreadyExists):
        Vault.create(world.path, key=f"identity:{private}", admin=READER)


def test_a_slot_of_an_administrator_lets_the_others_go(world: World, vault: Vault) -> None:
    _, public = identity_file(world.folder, ADMIN)
    _, web = identity_file(world.folder, "svc:web")
    slots = Slots(vault.authority)
    slots.add(IdentityProvider(web))
    with pytest.raises(LastSlot):
        slots.remove(1)
    slots.add(IdentityProvider(public))
    slots.remove(1)
    with pytest.raises(LastSlot):
        slots.remove(3)
    slots.remove(2)


def test_the_last_administrator_with_a_way_in_stays_one(world: World, vault: Vault) -> None:
    _, public = identity_file(world.folder, ADMIN)
    Slots(vault.authority).add(IdentityProvider(public))
    Slots(vault.authority).remove(1)
    vault.administration.add_member("admin", "user:bo")
    with pytest.raises(Conflict, match="no key that opens the vault"):
        vault.administration.remove_member("admin", ADMIN)
    generate_key_file(world.folder / "bo")
    Slots(vault.authority).add(open_provider(f"file:{world.folder / 'bo'}"), principals=["user:bo"])
    vault.administration.remove_member("admin", ADMIN)


def test_a_copy_is_adopted_by_whom_the_identity_proves(world: World, vault: Vault) -> None:
    private, public = identity_file(world.folder, ADMIN)
    Slots(vault.authority).add(IdentityProvider(public))
    vault.close()
    provider: KeyProvider = IdentityProvider(private)
    with pytest.raises(NotAuthenticated):
        adopt(world.path, provider, "user:bo")
    adopt(world.path, provider, ADMIN)
    with world.open() as opened:
        assert subjects(opened)[-1] == (ADMIN, True, "")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_principal_in_the_settings_is_for_keys_that_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "securecfg.toml").write_text('vault = "a.vault"\nkey = "identity:own"\nas = "user:me"\n')
    found = find_settings(None, None, None)
    assert (found.key, found.principal) == (f"identity:{tmp_path / 'own'}", "")
    assert find_settings(None, "IDENTITY:x", None).principal == ""
    assert find_settings(None, IdentityProvider("x"), None).principal == ""
    assert find_settings(None, "file:x", None).principal == "user:me"
    assert find_settings(None, open_provider("file:x"), None).principal == "user:me"
    assert find_settings(None, "identity:x", "user:bo").principal == "user:bo"
    monkeypatch.setenv("SECURECFG_AS", "user:bo")
    assert find_settings(None, "identity:x", None).principal == "user:bo"
