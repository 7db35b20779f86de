from __future__ import annotations

import json
import pickle

import pytest

from securecfg.crypto import KeyBytes, generate_key

KEY = KeyBytes(b"canary-key-0123456789abcdefghijk")


def test_is_masked_wherever_python_shows_a_variable() -> None:
    for shown in [repr(KEY), str(KEY), f"{KEY!s}", f"{KEY!r}", f"{[KEY]}"]:
        assert "canary" not in shown
        assert "<key of 32 bytes>" in shown


def test_is_bytes_in_every_other_way() -> None:
    assert bytes(KEY) == KEY
    assert KEY.hex() == bytes(KEY).hex()
    assert type(KEY[:4]) is bytes


def test_is_neither_pickled_nor_encoded() -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(KEY)
    with pytest.raises(TypeError):
        json.dumps(KEY)


def test_a_generated_key_is_random_and_masked() -> None:
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert {(len(key), type(key)) for key in keys} == {(32, KeyBytes)}
