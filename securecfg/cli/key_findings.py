"""What `securecfg doctor` says of the keys of an open vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.cli.findings import Finding, Grade
from securecfg.errors import SettingMissing
from securecfg.keys import FIRST_ROOT_ROW, FIRST_SLOT_ROW, Slot, WrapContext, open_provider
from securecfg.keys.provider import PartedProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.keys import KeyProvider
    from securecfg.vault import Vault


def look_at_parts(vault: Vault, key: str | KeyProvider) -> Iterator[Finding]:
    """Try each of the keys that opened the vault together. Nobody is asked, so what people know is not tried.

    Args:
        vault: The vault.
        key: What names the keys that opened it.
    """
    provider = open_provider(key)
    if not isinstance(provider, PartedProvider):
        return
    number, slot = _opened_slot(vault)
    is_whole = True
    for state in provider.try_parts(slot.wrapped, WrapContext(vault.opened.replica.vault_id, slot.slot_id)):
        error = state.error
        if error is None or isinstance(error, SettingMissing):
            continue
        is_whole = False
        message = f"slot {number} was opened without its `{state.scheme}:` key: {error.message}"
        yield Finding("key parts", Grade.WARNING, message, error.hint)
    if is_whole:
        yield Finding(
            "key parts", Grade.OK, f"all keys of slot {number} that are named and ask nobody open their parts"
        )


def _opened_slot(vault: Vault) -> tuple[int, Slot]:
    own = vault.authority.identity.slot
    rows = vault.opened.replica.slots.items()
    slots = {row_id - FIRST_SLOT_ROW + 1: Slot.parse(row) for row_id, row in rows if row_id < FIRST_ROOT_ROW}
    return next((number, slot) for number, slot in slots.items() if slot.slot_id.hex() == own)
