"""A second implementation of the vault format, written from its pages alone, and what other tests ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.decoder.decoder import Content, Contents, decode
from tests.decoder.identity import Identity
from tests.decoder.keys import Key, KeyFile, Passphrase, RecoveryCode
from tests.decoder.refusals import Refused
from tests.decoder.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Contents",
    "Identity",
    "KeyFile",
    "Passphrase",
    "RecoveryCode",
    "Refused",
    "Shares",
    "assert_decodes",
    "decode",
]


def assert_decodes(path: Path, key: Key | str, expected: Mapping[str, Mapping[int, Content | None]]) -> Contents:
    """Decode a vault and compare what it holds.

    Args:
        path: The vault file; it may be open.
        key: A key, or the URI of a key file.
        expected: For each path the content of each version, None for a destroyed one.
    """
    if isinstance(key, str):
        key = KeyFile(Path(key.removeprefix("file:")))
    contents = decode(path, key)
    found = {
        name: {number: version.content for number, version in secret.versions.items()}
        for name, secret in contents.secrets.items()
    }
    assert found == {name: dict(versions) for name, versions in expected.items()}
    assert contents.unreferenced == set(), "rows that nothing refers to"
    return contents
