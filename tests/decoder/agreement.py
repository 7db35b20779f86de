"""Compare what the decoder reads with what an open vault says."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.secret import Secret
from tests.decoder.decoder import decode

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg import SecretVersion, Vault
    from securecfg.vault import VersionInfo
    from tests.decoder.decoder import Content, Contents, Version
    from tests.decoder.decoder import Secret as Decoded
    from tests.decoder.keys import Key


def assert_agrees(path: Path, key: Key, vault: Vault) -> Contents:
    """Decode the file of an open vault, and compare its secrets, its log and its head with the vault's."""
    contents = decode(path, key)
    _assert_head_agrees(contents, vault)
    live = [name for name, secret in contents.secrets.items() if secret.current]
    assert live == list(vault.list())
    for secret in contents.secrets.values():
        _assert_history_agrees(secret, vault)
    entries = vault.log.records(0, len(contents.records) - 1)
    for entry, record in zip(entries, contents.records, strict=True):
        assert json.loads(entry.record.to_bytes()) == record
        if record["ev"] == "batch.written":
            assert vault.log.items(entry.record) == contents.batches[entry.index]
    assert contents.unreferenced == set()
    return contents


def _assert_head_agrees(contents: Contents, vault: Vault) -> None:
    origin, size, root, state = vault.log.note.decode().splitlines()[:4]
    found = contents.checkpoint
    assert (found.origin, str(found.size)) == (origin, size)
    assert found.root.hex() == _hex(root)
    assert found.state_hash.hex() == _hex(state.removeprefix("state "))


def _hex(encoded: str) -> str:
    return base64.b64decode(encoded).hex()


def _assert_history_agrees(secret: Decoded, vault: Vault) -> None:
    history = {info.version: info for info in vault.history(secret.path)}
    assert list(history) in (list(secret.versions), list(reversed(secret.versions)))
    for number, version in secret.versions.items():
        info = history[number]
        _assert_version_agrees(secret, version, info)
        assert info.state == version.state or (info.state, version.state) == ("expired", "live")
        assert info.deleted == (to_datetime(version.deleted) if version.deleted else None)
        assert info.size_bytes == version.size_bytes
        if version.state == "live":
            read = vault.read(secret.path, at=number, allow_expired=True)
            assert revealed(read) == version.content
            _assert_version_agrees(secret, version, read)


def _assert_version_agrees(secret: Decoded, version: Version, seen: VersionInfo | SecretVersion) -> None:
    own = {"current": secret.current, "previous": secret.previous, "pending": secret.pending}
    assert seen.version == version.number
    assert set(seen.labels) == {name for name, number in (own | secret.labels).items() if number == version.number}
    assert seen.created == to_datetime(version.created)
    assert seen.expires == (to_datetime(version.expires) if version.expires else None)
    assert dict(seen.metadata) == version.metadata
    assert (seen.author, seen.content_type) == (version.author, version.content_type)


def revealed(read: SecretVersion) -> Content:
    """Return the plain content of a version."""
    value = read.value
    if isinstance(value, Mapping):
        return {name: secret.reveal() for name, secret in value.items()}
    assert isinstance(value, Secret)
    return value.reveal()
