"""The vectors of section 4.2, opened by the decoder: both implementations agree on every one of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.decoder.keys import Header, Kek, KeyFile, Passphrase, RecoveryCode, parse_slot, unlock
from tests.decoder.refusals import Refused

if TYPE_CHECKING:
    from tests.decoder.keys import Key

FOLDER = Path(__file__).resolve().parent.parent / "vectors"
VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "slots.json").read_text())["vectors"]
# To the decoder a key that cannot be meant is as wrong as any other.
CODES = {"key-provider-refused": "wrong-key"}


def key_for(key: dict[str, str], folder: Path) -> Key:
    ((name, text),) = key.items()
    if name == "passphrase":
        return Passphrase(text)
    if name == "recovery":
        return RecoveryCode(text)
    if name == "kek":
        return Kek(bytes.fromhex(text), 200)
    if name == "file":
        path = folder / "key"
        path.touch(mode=0o600)
        path.write_text(text)
        return KeyFile(path)
    assert name == "keyring"
    return Kek(base64.urlsafe_b64decode(text[16:59] + "="), 3)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_opens_or_fails_in_the_way_it_names(vector: dict[str, Any], tmp_path: Path) -> None:
    key = key_for(vector["key"], tmp_path)
    header = Header(b"", bytes.fromhex(vector["vault_id"]), 1, 1, b"", 0, b"")
    if vector["result"] == "valid":
        slot = parse_slot(bytes.fromhex(vector["row"]))
        assert unlock(header, [slot], key) == (slot.slot_id, bytes.fromhex(vector["opens_to"]))
        return
    with pytest.raises(Refused) as refused:
        unlock(header, [parse_slot(bytes.fromhex(vector["row"]))], key)
    assert refused.value.code == CODES.get(vector["result"], vector["result"])
