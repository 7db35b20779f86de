"""What `securecfg doctor` says of the keys of an open vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.cli.findings import Finding, Grade
from securecfg.cli.key_limits import shares_of, shown_age
from securecfg.errors import SettingMissing
from securecfg.keys import FIRST_ROOT_ROW, FIRST_SLOT_ROW, Slot, WrapContext, open_provider
from securecfg.keys.provider import PartedProvider
from securecfg.vault.keys.limits import read_limits
from securecfg.vault.keys.usage import look_at_keys
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.keys import KeyProvider
    from securecfg.vault import Vault
    from securecfg.vault.keys.usage import KeyUse

_EARLY = 0.8


def look_at_limits(vault: Vault) -> Iterator[Finding]:
    """Compare the keys with their limits, from four fifths on. Uses are counted where the vault limits them itself."""
    limits = read_limits(vault.opened)
    counts = [subject for subject, limit in limits.own.items() if limit.max_uses is not None]
    keys = look_at_keys(vault.authority, counts)
    near = [key for key in keys if key.is_active and max(key.age_share or 0, key.uses_share or 0) >= _EARLY]
    for key in near:
        is_over = max(key.age_share or 0, key.uses_share or 0) >= 1
        message = f"{_named(key)} has {'passed' if is_over else 'come near'} its limit: {', '.join(shares_of(key))}"
        yield Finding("key limits", Grade.WARNING, message, _replacement(key))
    if not near:
        oldest = max((key for key in keys if key.subject == "scope"), key=lambda key: key.number)
        message = f"the key that wraps all others has been in use for {shown_age(oldest.age)}; no key is near a limit"
        yield Finding("key limits", Grade.OK, message)
    older = sum(key.subject == "scope" and not key.is_active for key in keys)
    if older:
        message = f"{counted(older, 'older key')} of the scope `/` {'is' if older == 1 else 'are'} still kept"
        yield Finding("older keys", Grade.NOTE, message, "`securecfg key rotate scope / --resume` brings an end to it")


def _named(key: KeyUse) -> str:
    return f"slot {key.number} ({key.subject.partition(':')[2]})" if key.is_slot else f"the `{key.subject}` key"


def _replacement(key: KeyUse) -> str:
    """Say what to type."""
    if key.is_slot:
        return f"`securecfg key add URI` adds another key; then `securecfg key remove {key.number}`"
    return {
        "scope": "`securecfg key rotate scope /` replaces it while the vault is in use",
        "log-signing": "`securecfg key rotate audit` replaces it",
        "audit": "it is replaced when a slot is removed: `securecfg key add URI`, then `securecfg key remove SLOT`",
    }.get(key.subject, "`securecfg key compromise` replaces it, with every other key")


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
