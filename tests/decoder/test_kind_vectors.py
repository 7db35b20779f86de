"""The vectors of single kinds of slots, through the decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.decoder.keys import Header, parse_slot, unlock
from tests.decoder.refusals import SlotRefused
from tests.decoder.shares import Shares

if TYPE_CHECKING:
    from tests.decoder.keys import Key

FOLDER = Path(__file__).parents[1] / "vectors"


def key_of(vector: dict[str, Any]) -> Key:
    return Shares(tuple(vector["shares"]))


def vectors() -> list[Any]:
    return [
        pytest.param(vector, id=f"{name}: {vector['name']}")
        for name in ("shares",)
        for vector in json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
    ]


@pytest.mark.parametrize("vector", vectors())
def test_a_vector_opens_or_is_refused(vector: dict[str, Any]) -> None:
    slot = parse_slot(bytes.fromhex(vector["row"]))
    header = Header(b"", bytes.fromhex(vector["vault_id"]), 1, 1, b"", 1, b"")
    if vector["result"] == "valid":
        assert unlock(header, [slot], key_of(vector)) == (slot.slot_id, bytes.fromhex(vector["opens_to"]))
    else:
        with pytest.raises(SlotRefused):
            unlock(header, [slot], key_of(vector))
