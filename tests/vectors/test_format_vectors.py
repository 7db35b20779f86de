"""The vectors of the format through the package; an independent decoder has the same files to open."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from securecfg import errors
from securecfg.crypto import (
    ChunkedValueKey,
    KeyWrap,
    Label,
    decode_fields,
    dek_context,
    expand,
    open_value,
    parse_dek_epoch,
    unwrap_dek,
    value_context,
)
from securecfg.keys import (
    FileProvider,
    Header,
    Keyring,
    KeyringProvider,
    PassphraseFileProvider,
    PassphraseProvider,
    RecoveryProvider,
    ShamirProvider,
    Slot,
    SlotKey,
    WrapContext,
    open_provider,
    open_under_kek,
    seal_under_kek,
    slots_of_rows,
)
from securecfg.keys.identity import format_identity_file, parse_identity_file
from securecfg.keys.keyfile import format_key
from securecfg.keys.parts import join_uris
from securecfg.octets import Malformed
from securecfg.secret import Secret
from tests.vectors.generate import FOLDER, build
from tests.vectors.generate_keys import PROTECTING
from tests.vectors.generate_keys import build as build_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys import KeyProvider

Vector = dict[str, Any]

ERRORS = {
    error.code: error
    for error in (
        errors.InvalidKeyUri,
        errors.KeyProviderRefused,
        errors.NotAVault,
        errors.ShareRefused,
        errors.Tampered,
        errors.UnsupportedFormat,
        errors.WrongKey,
    )
}


class OneKey:
    """A keyring that keeps one text for every vault."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_password(self, _service: str, _username: str, /) -> str:
        return self._text

    def set_password(self, _service: str, _username: str, _password: str, /) -> None:
        raise AssertionError


class KnownKek:
    """Another's provider, which simply knows its key-encryption key."""

    scheme = "kek"
    kind = 200

    def __init__(self, kek: bytes) -> None:
        self._kek = kek

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        return seal_under_kek(self._kek, self.kind, b"", key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        return open_under_kek(self._kek, self.kind, wrapped, context)


def octets(vector: Vector, *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


def provider_for(key: dict[str, str], folder: Path) -> KeyProvider:
    ((kind, text),) = key.items()
    if kind == "passphrase":
        return PassphraseProvider(Secret(text))
    if kind == "recovery":
        return RecoveryProvider(Secret(text))
    if kind == "keyring":
        return KeyringProvider(OneKey(text))
    if kind == "kek":
        return KnownKek(bytes.fromhex(text))
    path = folder / "key"
    path.touch(mode=0o600)
    path.write_text(text)
    return FileProvider(path)


def open_header(vector: Vector, _folder: Path) -> None:
    row, root = octets(vector, "row", "root")
    header = Header.parse(row)
    try:
        slots = slots_of_rows({int(number): bytes.fromhex(slot) for number, slot in vector["slots"].items()})
    except Malformed as error:
        message = str(error)
        raise errors.NotAVault(message) from None
    header.verify(root, slots)
    assert header.vault_id.hex() == vector["vault_id"]
    assert (header.generation, header.created_ns) == (vector["generation"], vector["created"])
    assert header.is_writable == vector["writable"]


def open_slot(vector: Vector, folder: Path) -> None:
    row, vault_id = octets(vector, "row", "vault_id")
    slot = Slot.parse(row)
    provider = provider_for(vector["key"], folder)
    assert provider.kind == slot.kind
    assert provider.unwrap(slot.wrapped, WrapContext(vault_id, slot.slot_id)).hex() == vector["opens_to"]


def open_shares(vector: Vector, folder: Path) -> None:
    row, vault_id = octets(vector, "row", "vault_id")
    slot = Slot.parse(row)
    names = [str(folder / f"share-{place}") for place in range(len(vector["shares"]))]
    for name, text in zip(names, vector["shares"], strict=True):
        Path(name).touch(mode=0o600)
        Path(name).write_text(text)
    provider = open_provider("shamir:" + ",".join(names)) if names else ShamirProvider(list)
    assert provider.kind == slot.kind
    assert provider.unwrap(slot.wrapped, WrapContext(vault_id, slot.slot_id)).hex() == vector["opens_to"]


def parse_identity(vector: Vector, _folder: Path) -> None:
    file = parse_identity_file(vector["content"].encode())
    assert (file.identity.name, file.identity.fingerprint.hex()) == (vector["principal"], vector["fingerprint"])
    assert (file.private.protection if file.private else None) == vector["protection"]
    assert format_identity_file(file) == vector["content"]


def open_identity_slot(vector: Vector, folder: Path) -> None:
    row, vault_id = octets(vector, "row", "vault_id")
    slot = Slot.parse(row)
    for name, text in (("KEY", f"{format_key(PROTECTING)}\n"), ("identity", vector["file"])):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    with contextlib.chdir(folder):
        provider = open_provider("identity:identity")
        assert provider.kind == slot.kind
        assert provider.unwrap(slot.wrapped, WrapContext(vault_id, slot.slot_id)).hex() == vector["opens_to"]


def open_both(vector: Vector, folder: Path) -> None:
    row, vault_id = octets(vector, "row", "vault_id")
    slot = Slot.parse(row)
    (folder / "key").touch(mode=0o600)
    (folder / "key").write_text(vector["file"])
    provider = PassphraseFileProvider(folder / "key", Secret(vector["passphrase"]))
    assert provider.kind == slot.kind
    assert provider.unwrap(slot.wrapped, WrapContext(vault_id, slot.slot_id)).hex() == vector["opens_to"]


def open_composite(vector: Vector, folder: Path) -> None:
    row, vault_id = octets(vector, "row", "vault_id")
    slot = Slot.parse(row)
    uris = [f"file:{folder / str(place)}" for place in range(len(vector["files"]))]
    for place, text in enumerate(vector["files"]):
        (folder / str(place)).touch(mode=0o600)
        (folder / str(place)).write_text(text)
    provider = open_provider(join_uris(vector["needed"], uris))
    assert provider.kind == slot.kind
    assert provider.unwrap(slot.wrapped, WrapContext(vault_id, slot.slot_id)).hex() == vector["opens_to"]


def open_keyring(vector: Vector, _folder: Path) -> None:
    row, root, vault_id = octets(vector, "row", "root", "vault_id")
    keyring = Keyring.open(row, root, vault_id, vector["generation"])
    assert [[key.purpose, key.epoch, key.state] for key in keyring.keys] == vector["keys"]
    assert [slot.label for slot in keyring.slots] == vector["labels"]


def open_sealed_root(vector: Vector, _folder: Path) -> None:
    row, key, vault_id, slot_id = octets(vector, "row", "slot_key", "vault_id", "slot_id")
    assert SlotKey(key, vault_id, slot_id).open_root(row).hex() == vector["root"]


def open_data_key(vector: Vector, _folder: Path) -> None:
    row, scope_key, vault_id, scope_id = octets(vector, "row", "scope_key", "vault_id", "scope_id")
    epoch = parse_dek_epoch(row)
    value_key = KeyWrap(expand(scope_key, Label.VALUE_WRAP, scope_id + epoch.to_bytes(4), 64))
    ctx = dek_context(vault_id, scope_id, epoch, vector["dek_id"])
    assert unwrap_dek(value_key, row, ctx).hex() == vector["dek"]


def place_of(vector: Vector, form: int) -> bytes:
    vault_id, scope_id = octets(vector, "vault_id", "scope_id")
    return value_context(vault_id, scope_id, (vector["rec_id"], vector["version"]), vector["created"], form)


def open_inline(vector: Vector, _folder: Path) -> None:
    row, dek, commitment = octets(vector, "row", "dek", "commitment")
    kind, content = open_value(dek, place_of(vector, 1), row, commitment)
    assert (kind, content.hex()) == (vector["kind"], vector["content"])


def open_chunked(vector: Vector, _folder: Path) -> None:
    row, dek, commitment = octets(vector, "row", "dek", "commitment")
    rows = [zlib.decompress(bytes.fromhex(packed)) for packed in vector["rows_zlib"]]
    opened = ChunkedValueKey(dek, place_of(vector, 2)).open(row, commitment, rows)
    content = b"".join(opened)
    assert (opened.kind, opened.length, len(content)) == (vector["kind"], vector["length"], vector["length"])
    assert hashlib.sha256(content).hexdigest() == vector["content_sha256"]


def open_fields(vector: Vector, _folder: Path) -> None:
    fields = decode_fields(*octets(vector, "content"))
    shown = {
        name: [1, content.encode().hex()] if isinstance(content, str) else [0, content.hex()]
        for name, content in fields.items()
    }
    assert shown == vector["fields"]


OPENERS: dict[str, Callable[[Vector, Path], None]] = {
    "headers": open_header,
    "slots": open_slot,
    "shares": open_shares,
    "identities": parse_identity,
    "identity-slots": open_identity_slot,
    "passphrase-and-file": open_both,
    "composite": open_composite,
    "keyrings": open_keyring,
    "roots": open_sealed_root,
    "data-keys": open_data_key,
    "values": open_inline,
    "chunked-values": open_chunked,
    "fields": open_fields,
}


def read(name: str) -> list[Vector]:
    vectors: list[Vector] = json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
    return vectors


CASES = [pytest.param(name, vector, id=f"{name}: {vector['name']}") for name in OPENERS for vector in read(name)]


@pytest.mark.parametrize(("name", "vector"), CASES)
def test_a_vector_opens_or_fails_in_the_way_it_names(name: str, vector: Vector, tmp_path: Path) -> None:
    if vector["result"] == "valid":
        OPENERS[name](vector, tmp_path)
    else:
        with pytest.raises(ERRORS[vector["result"]]) as refused:
            OPENERS[name](vector, tmp_path)
        assert type(refused.value) is ERRORS[vector["result"]]


def test_most_vectors_must_fail_and_all_have_names_of_their_own() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(OPENERS)
    vectors = [vector for name in OPENERS for vector in read(name)]
    failing = [vector for vector in vectors if vector["result"] != "valid"]
    assert len(failing) > 2 * len(vectors) / 3
    for name in OPENERS:
        names = [vector["name"] for vector in read(name)]
        assert len(set(names)) == len(names)


def test_the_generator_still_writes_these_very_files() -> None:
    for name, text in (build() | build_keys()).items():
        assert (FOLDER / name).read_text() == text, (
            f"{name} differs: a format that changes needs another version number"
        )
