"""The vectors of single kinds of slots, through the decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.decoder.identity import Identity
from tests.decoder.keys import Header, Kek, KeyFile, PassphraseAndKeyFile, Together, parse_slot, unlock
from tests.decoder.refusals import Malformed, Refused, SlotRefused
from tests.decoder.shares import Shares
from tests.vectors.generate_keys import PROTECTING, SEED

if TYPE_CHECKING:
    from tests.decoder.keys import Key

FOLDER = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> list[Any]:
    read = json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
    return [pytest.param(vector, id=vector["name"]) for vector in read]


def assert_opens_as_named(vector: dict[str, Any], key: Key) -> None:
    slot = parse_slot(bytes.fromhex(vector["row"]))
    header = Header(b"", bytes.fromhex(vector["vault_id"]), 1, 1, b"", 1, b"")
    if vector["result"] == "valid":
        assert unlock(header, [slot], key) == (slot.slot_id, bytes.fromhex(vector["opens_to"]))
    else:
        with pytest.raises(SlotRefused):
            unlock(header, [slot], key)


@pytest.mark.parametrize("vector", vectors("shares"))
def test_shares_open_or_are_refused(vector: dict[str, Any]) -> None:
    assert_opens_as_named(vector, Shares(tuple(vector["shares"])))


def seed_of(text: str) -> bytes:
    """Open what a key file protects; where it does not open there is no seed."""
    key = Identity(text)
    try:
        protection, content = key.protection()
        if protection == "none":
            return b""
        header = Header(b"", key.fingerprint(), 1, 1, b"", 1, b"")
        return unlock(header, [parse_slot(content)], Kek(PROTECTING, 2))[1]
    except (Malformed, Refused):
        return b""


@pytest.mark.parametrize("vector", vectors("identities"))
def test_files_of_identities_are_read_or_refused(vector: dict[str, Any]) -> None:
    file = Identity(vector["content"], SEED)
    if vector["result"] == "valid":
        assert file.fingerprint().hex() == vector["fingerprint"]
        assert vector["protection"] is None or file.private_keys()
        return
    read = file.private_keys if "IDENTITY-KEY" in vector["content"] else file.fingerprint
    with pytest.raises((Malformed, UnicodeDecodeError)):
        read()


@pytest.mark.parametrize("vector", vectors("identity-slots"))
def test_identities_open_or_are_refused(vector: dict[str, Any]) -> None:
    assert_opens_as_named(vector, Identity(vector["file"], seed_of(vector["file"])))


@pytest.mark.parametrize("vector", vectors("passphrase-and-file"))
def test_a_passphrase_with_a_key_file_opens_or_is_refused(vector: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(vector["file"])
    assert_opens_as_named(vector, PassphraseAndKeyFile(vector["passphrase"], path))


@pytest.mark.parametrize("vector", vectors("composite"))
def test_keys_open_together_or_are_refused(vector: dict[str, Any], tmp_path: Path) -> None:
    keys = []
    for place, text in enumerate(vector["files"]):
        path = tmp_path / str(place)
        path.touch(mode=0o600)
        path.write_text(text)
        keys.append(KeyFile(path))
    assert_opens_as_named(vector, Together(vector["needed"], tuple(keys)))
