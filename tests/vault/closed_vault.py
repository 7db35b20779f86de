"""What a closed vault leaves in memory: `python -m tests.vault.closed_vault FOLDER CACHE_VALUES`.

In an interpreter of its own, as all that there is in it is walked over.
"""

from __future__ import annotations

import gc
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from securecfg.audit.sealer import Sealer
from securecfg.crypto import XAES256GCM, KeyWrap, ValueKey
from securecfg.errors import VaultClosed
from securecfg.keys import Keyring, Purpose, ScopeKeys
from securecfg.vault.index.rows import IndexRows
from securecfg.vault.keys.slots import Slots
from tests.vault.world import READER, World, grant

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault

VALUE = secrets.token_hex(16)  # a text that stands in no source
CIPHERS = (IndexRows, Keyring, KeyWrap, ScopeKeys, ValueKey, XAES256GCM)


class Held(NamedTuple):
    """What the collector can reach: the names of some keys and values, and the ids of all ciphers."""

    names: set[str]
    ciphers: set[int]


def secrets_of(vault: Vault) -> dict[str, int]:
    """Return the keys and the value, as numbers: the walk below looks for bytes and text."""
    replica, sealer = vault.opened.replica, vault.opened.publisher._sealer
    assert isinstance(sealer, Sealer)
    found = {
        "root": bytes(replica.root),
        "slot": bytes(replica._keys.unlocked.key._private_key) if replica._keys else b"",
        **{f"{Purpose(entry.purpose).name} of epoch {entry.epoch}": bytes(entry.key) for entry in replica.keyring.keys},
        "sealer": bytes(sealer._key),
        "value": VALUE.encode(),
    }
    return {name: int.from_bytes(b"\x01" + raw) for name, raw in found.items()}


def held(known: dict[str, int]) -> Held:
    """Walk over everything that objects refer to, and look for secrets in all bytes and texts."""
    gc.collect()
    needles = {name: number.to_bytes((number.bit_length() + 7) // 8)[1:] for name, number in known.items()}
    seen = {id(needle) for needle in needles.values()} | {id(VALUE)}
    result = Held(set(), set())
    left = gc.get_objects()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, str):
            one = one.encode(errors="surrogatepass")
        if isinstance(one, (bytes, bytearray)):
            result.names.update(name for name, needle in needles.items() if needle in one)
        else:
            result.ciphers.update((id(one),) if isinstance(one, CIPHERS) else ())
            left += gc.get_referents(one)
    return result


def verify_nothing_is_left(world: World, cache_values: int) -> None:
    """Check that a vault that is closed holds no key and no value, whoever still holds it."""
    vault = world.create()
    grant(vault)
    vault.write("app/a", "".join(VALUE))
    vault.close()
    before = held({}).ciphers
    reader = world.open(cache_values=cache_values)
    reader.write("app/b", "1")
    log, slots, reference = reader.log, Slots(reader.authority), reader.ref("app/a")
    lending = reader.acting(READER)
    lent = lending.__enter__()  # and is still lent at the end
    for handle in (reader, lent):
        handle.read("app/a")
    known = secrets_of(reader)
    open_ = held(known)
    assert open_.names == set(known) - ({"value"} if not cache_values else set())
    assert len(open_.ciphers - before) >= len(CIPHERS) - (1 if cache_values else 0)
    reader.close()
    assert held(known) == Held(set(), before)
    for call in (reader.list, lent.list, lambda: log.note, slots.list, reference.reveal):
        with pytest.raises(VaultClosed):
            call()


if __name__ == "__main__":
    folder, caching = sys.argv[1:]
    verify_nothing_is_left(World(Path(folder)), int(caching))
