"""What the package writes, read by a decoder that knows nothing but the pages of the format."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg import Secret, Vault
from securecfg.errors import SecurecfgError
from securecfg.keys import (
    PassphraseProvider,
    RecoveryProvider,
    ShamirProvider,
    format_share,
    generate_recovery_code,
    generate_shares,
)
from securecfg.policy import default_documents
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.keys.slots import Slots
from tests.decoder import Contents, Passphrase, RecoveryCode, Shares, assert_decodes, decode
from tests.decoder.agreement import assert_agrees
from tests.decoder.decoder import decode_rows, read_rows
from tests.decoder.place import Place
from tests.decoder.refusals import AnchorRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def vault(place: Place) -> Iterator[Vault]:
    with place.create() as vault:
        yield vault


def test_an_empty_vault(place: Place, vault: Vault) -> None:
    contents = assert_agrees(place.path, place.key, vault)
    assert contents.secrets == {}
    assert [record["ev"] for record in contents.records] == ["vault.created"]


def test_each_kind_of_value(place: Place, vault: Vault) -> None:
    vault.write("a/text", "gr\u00fc\u00df\x00 \U0001f511")
    vault.write("a/bytes", bytes(range(256)))
    vault.write("a/fields", {"user": "u", "password": "\u00e9", "key": b"\xff\x00"})
    vault.write("a/nothing", "")
    vault.write(
        "b", "short lived", ttl=timedelta(days=3, microseconds=1), metadata={"owner": "pay", "\u00e4": "\u2028"}
    )
    vault.write("conf", b"a: 1\n", content_type="application/yaml")
    contents = assert_agrees(place.path, place.key, vault)
    assert contents.secrets["a/fields"].versions[1].kind == "fields"
    assert contents.secrets["b"].versions[1].metadata == {"owner": "pay", "\u00e4": "\u2028"}


def test_each_change_of_a_secret(place: Place, vault: Vault) -> None:
    for number in range(1, 6):
        vault.write("a", str(number))
    vault.label("a", "canary", 2)
    vault.delete("a", 3)
    vault.delete("a", 4)
    vault.undelete("a", 4)
    vault.destroy("a", 1)
    vault.rollback("a", to=2)
    vault.write("gone", "x")
    vault.delete("gone")
    vault.write("half", "1")
    vault.write("half", "2")
    vault.delete("half")
    vault.move("a", "b/c")
    contents = assert_agrees(place.path, place.key, vault)
    states = {number: version.state for number, version in contents.secrets["b/c"].versions.items()}
    assert states == {1: "destroyed", 2: "live", 3: "deleted", 4: "live", 5: "live", 6: "live"}
    assert contents.secrets["b/c"].versions[6].content == "2"
    assert contents.secrets["b/c"].labels == {"canary": 2}


def test_a_vault_that_is_closed(place: Place) -> None:
    with place.create() as vault:
        vault.write("a", "1")
        vault.write("a", b"2")
        vault.write("b", "3")
        vault.destroy("b", 1)
    assert_decodes(place.path, place.uri, {"a": {1: "1", 2: b"2"}, "b": {1: None}})


@pytest.mark.parametrize("count", [20, 300, 5_000])
def test_a_batch(place: Place, count: int) -> None:
    with place.create() as vault:
        with vault.batch() as batch:
            for number in range(count):
                batch.write(f"batch/{number % 1_500:04}/{number // 1_500}", f"value {number}")
        live = vault.list()
    contents = decode(place.path, place.key)
    assert list(contents.secrets) == live
    assert {secret.versions[1].content for secret in contents.secrets.values()} == {f"value {n}" for n in range(count)}
    assert sorted(contents.batches[1]) == [(path, 1) for path in contents.secrets]
    assert ("parts" in contents.records[1]["obj"]) == (count > 20)
    assert contents.unreferenced == set()


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 262_135, 262_136, 3 * 2**20])
def test_a_value_of_any_size(place: Place, vault: Vault, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    vault.write("large", io.BytesIO(content))
    vault.write("large", content[:-1])
    contents = decode(place.path, place.key)
    assert contents.secrets["large"].versions[1].content == content
    assert contents.secrets["large"].versions[2].content == content[:-1]
    assert contents.unreferenced == set()


def test_older_pages_of_a_history(place: Place, vault: Vault) -> None:
    for number in range(1, 201):
        vault.write("a", str(number), metadata={"n": str(number)})
    for number in (3, *range(180, 201)):
        vault.delete("a", number)
    vault.destroy("a", 40)
    vault.label("a", "first", 1)
    contents = assert_agrees(place.path, place.key, vault)
    assert contents.secrets["a"].versions[200].content == "200"
    assert contents.secrets["a"].versions[40].content is None


def test_policies_and_roles(place: Place, vault: Vault) -> None:
    vault.administration.apply_policy(default_documents("shop", "user:alice"))
    vault.administration.apply_policy(default_documents("shop2", "user:alice"))
    vault.administration.roll_back_policy(1)
    vault.administration.add_member("admin", "user:bob")
    contents = assert_agrees(place.path, place.key, vault)
    assert {name[:1] for name in contents.documents} == {"\x01"}
    assert any("svc:shop" in str(version.content) for version in contents.documents["\x01policy"].versions.values())
    assert [record["ev"] for record in contents.records[1:]] == [
        *("policy.applied", "policy.applied", "policy.rolledback", "role.changed"),
    ]


def test_every_kind_of_slot(place: Place, vault: Vault) -> None:
    code = generate_recovery_code()
    slots = Slots(vault.authority)
    phrase = Secret("correct horse \u00e9", label="passphrase")
    slots.add(PassphraseProvider(phrase), label="by heart", principals=["user:alice", "user:bob"])
    slots.add(RecoveryProvider(code), label="in the safe")
    shares = generate_shares(2, 3)
    slots.add(ShamirProvider(lambda: shares), label="the board")
    vault.write("a", "1")
    keys = (
        Passphrase("correct horse e\u0301"),
        RecoveryCode(code.reveal().lower().replace("-", " ")),
        Shares((format_share(shares[2]), format_share(shares[0]))),
    )
    opened = [decode(place.path, key).opened_slot for key in (place.key, *keys)]
    contents = assert_agrees(place.path, place.key, vault)
    assert opened == [slot.slot_id for slot in contents.slots]
    assert [(slot.kind, slot.label, slot.principals) for slot in contents.slots[1:]] == [
        ("passphrase", "by heart", ("user:alice", "user:bob")),
        ("recovery", "in the safe", ()),
        ("shamir", "the board", ()),
    ]
    slots.remove(2)
    assert len(assert_agrees(place.path, place.key, vault).epoch_keys) == 2


def test_epochs_of_the_signing_key(place: Place, vault: Vault) -> None:
    vault.write("a", "1")
    rotate_signing_key(vault.authority)
    assert len(assert_agrees(place.path, place.key, vault).epoch_keys) == 2
    vault.write("a", "2")
    rotate_signing_key(vault.authority)
    contents = assert_agrees(place.path, place.key, vault)
    assert contents.state.log_epoch == 2
    assert contents.epoch_keys[2] == contents.state.public_key


def test_compaction(place: Place, vault: Vault) -> None:
    with vault.batch() as batch:
        for number in range(2_500):
            batch.write(f"app/{number:04}", str(number))
    compact(vault.opened)  # or wait for the one that the batch has set off
    assert live_agrees(place, vault).state.base_size == 2
    vault.move("app/0001", "moved")
    vault.delete("app/0002")
    vault.destroy("app/0003", 1)
    vault.write("app/0004", "again")
    assert len(live_agrees(place, vault).secrets) == 2_500
    assert compact(vault.opened)
    assert len(live_agrees(place, vault).secrets) == 2_500


def live_agrees(place: Place, vault: Vault) -> Contents:
    contents = decode(place.path, place.key)
    assert contents.unreferenced == set()
    assert [path for path, secret in contents.secrets.items() if secret.current] == vault.list()
    return contents


def test_counted_reads_and_denials(place: Place) -> None:
    with place.create() as vault:
        vault.administration.apply_policy(default_documents("shop", "user:alice"))
        vault.write("a", "1")
        for _ in range(5):
            vault.read("a").value.reveal()  # type: ignore[union-attr]  # it is text
        with vault.acting("svc:nobody") as nobody:
            for _ in range(15):
                with pytest.raises(SecurecfgError):
                    nobody.write("a", "2")
    events = [record["ev"] for record in decode(place.path, place.key).records]
    assert "secret.read.counted" in events
    assert "access.denied.counted" in events


def test_a_log_with_tiles(place: Place) -> None:
    with place.create() as vault:
        for number in range(600):
            vault.write(f"a/{number % 7}", str(number))
    contents = decode(place.path, place.key)
    assert contents.checkpoint.size == 601


def anchor_of(home: Path) -> Path:
    (anchor,) = (home / ".local/state/securecfg/anchors").iterdir()
    return anchor


def test_the_anchor(place: Place, home: Path) -> None:
    with place.create() as vault:
        vault.write("a", "1")
    older = read_rows(place.path)
    with Vault.open(place.path, key=place.uri, principal="user:alice") as vault:
        for number in range(5):
            vault.write("a", str(number))
    anchor = anchor_of(home)
    decode(place.path, place.key, anchor=anchor)
    with pytest.raises(AnchorRefused, match="the anchor knows"):
        decode_rows(older, place.key, anchor=anchor.read_bytes())
