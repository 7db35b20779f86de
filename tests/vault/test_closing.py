"""A closed vault holds no key and no value, though programs still hold the vault, and says so whatever is called."""

from __future__ import annotations

import gc
import secrets
from typing import TYPE_CHECKING, NamedTuple

import pytest

from securecfg.audit.sealer import Sealer
from securecfg.crypto import XAES256GCM, KeyWrap, ValueKey
from securecfg.errors import SecurecfgError, VaultClosed
from securecfg.keys import Keyring, Purpose, ScopeKeys
from securecfg.vault.imports.exposures import Exposures
from securecfg.vault.imports.steps import Imports
from securecfg.vault.index.rows import IndexRows
from securecfg.vault.keys.slots import Slots
from tests.vault.world import READER, grant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.vault.reading import Finding
    from securecfg.vault.values import SecretVersion
    from securecfg.vault.vault import Vault
    from tests.vault.world import World

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


@pytest.mark.parametrize("cache_values", [0, 10])
def test_no_key_and_no_value_is_left_in_a_closed_vault(world: World, vault: Vault, cache_values: int) -> None:
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


def test_a_value_that_is_read_while_the_vault_is_closed_is_not_kept(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    reader = world.open()
    hand_out = reader._reads._hand_out

    def hand_out_and_close(finding: Finding) -> SecretVersion:
        version = hand_out(finding)
        reader.close()
        return version

    reader._reads._hand_out = hand_out_and_close  # type: ignore[method-assign]  # as another thread does
    assert reader.read("app/a").field("").reveal() == "1"
    assert reader._reads._hits == {}


def calls(vault: Vault) -> Iterator[Callable[[], object]]:
    """Yield calls of everything that is public, and of what the command line builds on."""
    log, administration, slots = vault.log, vault.administration, Slots(vault.authority)
    imports, exposures = Imports(vault.authority), Exposures(vault.authority)
    replica = vault.opened.replica
    yield from (
        lambda: vault.read("app/a"),
        lambda: vault.read("app/a", at=1),
        lambda: vault.read("none"),
        lambda: vault.stream("app/a"),
        lambda: vault.read_many([("app/a", None)]),
        lambda: vault.read_document("app/a"),
        lambda: vault.history("app/a"),
        vault.list,
        lambda: vault.search("a"),
        lambda: vault.ref("app/a").reveal(),
        lambda: vault.ref("app/a").on_change(print),
        lambda: vault.explain("read", "app/a"),
        lambda: vault.resolve("0" * 32),
        lambda: vault.write("app/a", "2"),
        lambda: vault.write("app/a", b"2" * 100_000),
        lambda: vault.delete("app/a"),
        lambda: vault.undelete("app/a", 1),
        lambda: vault.rollback("app/a", 1),
        lambda: vault.label("app/a", "x", 1),
        lambda: vault.move("app/a", "app/b"),
        lambda: vault.destroy("app/a", 1),
        vault.batch().__enter__,
        vault.acting("user:ada").__enter__,
        vault.acting(READER).__enter__,
        vault.__enter__,
    )
    yield from (
        lambda: log.vkey,
        lambda: log.current_vkey,
        lambda: log.note,
        lambda: list(log.records()),
        lambda: log.follow(0, 0),
        log.verify,
        lambda: log.prove(0),
        lambda: log.report(0, 1, "csv"),
        administration.policy,
        administration.policy_documents,
        administration.policy_revisions,
        lambda: administration.check_policy([]),
        lambda: administration.apply_policy([]),
        lambda: administration.roll_back_policy(1),
        administration.roles,
        lambda: administration.add_member("ops", "user:bo"),
        slots.list,
        lambda: slots.remove(1),
        imports.visible,
        imports.sweep,
        exposures.unrotated,
        vault.authority.flush,
        vault.opened.refresh,
        vault.opened.policy,
    )
    yield from (lambda: replica.root, lambda: replica.keyring, lambda: replica.signer, lambda: replica.rows)


def test_every_call_after_the_end_raises_the_same_error(vault: Vault) -> None:
    grant(vault)
    vault.write("app/a", "1")
    vault.read("app/a")
    every = list(calls(vault))
    vault.close()
    for number, call in enumerate(every):
        try:
            result = call()
        except SecurecfgError as error:
            result = error
        if isinstance(result, list):
            (result,) = result
        assert isinstance(result, VaultClosed), f"call {number}: {result!r}"
        assert result.code == "vault-closed"


def test_what_is_iterated_over_ends_with_the_vault(vault: Vault) -> None:
    vault.write("app/a", b"1" * 1_000_000)
    records, (_, pieces) = vault.log.records(), vault.stream("app/a")
    next(records)
    next(pieces)
    vault.close()
    for iterator in (records, pieces):
        with pytest.raises(VaultClosed):
            list(iterator)
