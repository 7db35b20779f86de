"""A closed vault holds no key and no value, though programs still hold the vault, and says so whatever is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import SecurecfgError, VaultClosed
from securecfg.vault.imports.exposures import Exposures
from securecfg.vault.imports.steps import Imports
from securecfg.vault.keys.slots import Slots
from tests.vault.world import READER, grant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.vault.reading import Finding
    from securecfg.vault.values import SecretVersion
    from securecfg.vault.vault import Vault
    from tests.vault.world import World

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("cache_values", [0, 10])
def test_no_key_and_no_value_is_left_in_a_closed_vault(tmp_path: Path, cache_values: int) -> None:
    command = [sys.executable, "-m", "tests.vault.closed_vault", str(tmp_path), str(cache_values)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
        lambda: vault.on_rotate("app/**", print),
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
