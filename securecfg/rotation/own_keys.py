"""The vault's own keys, replaced when they have come to what `securecfg key policy` allows them.

There is no target and no candidate: a key change of the vault is one transaction, and what is sealed under the old key
is brought over after it, as `securecfg key rotate` does. What a crash has left half done is finished first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import Conflict
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.usage import look_at_keys

if TYPE_CHECKING:
    from securecfg.vault.keys.usage import KeyUse
    from securecfg.vault.vault import Vault

_COUNTED = ("scope", "log-signing")


def replace_due_keys(vault: Vault) -> list[str]:
    """Replace the scope key and the signing key of a vault where they have come to their limits.

    Keys of sealed scopes, root and slots are replaced by people: administrators have to sign, or to give a new secret.

    Returns:
        What was replaced: `scope`, `log-signing`.

    Raises:
        AccessDenied: The vault's principal may not `key.manage`.
        CommitUnknown, StoreBusy, StoreFailed: As for a write; what is not done yet is done by the next call.
    """
    vault.authority.require("key.manage", "")
    keys = look_at_keys(vault.authority, _COUNTED)
    replaced = []
    if any(key.subject == "scope" and not key.is_active for key in keys):
        _bring_over(vault)  # somebody has begun, and did not end it
    for key in keys:
        if key.is_active and key.subject == "scope" and _has_come_to_its_limit(key) and _replace_scope(vault, key):
            replaced.append(key.subject)
        if key.is_active and key.subject == "log-signing" and _has_come_to_its_limit(key):
            rotate_signing_key(vault.authority)
            replaced.append(key.subject)
    return replaced


def _replace_scope(vault: Vault, key: KeyUse) -> bool:
    try:
        KeyChanges(vault.authority).begin_scope_epoch(key.number)
    except Conflict:
        return False  # somebody else was faster
    _bring_over(vault)
    return True


def _bring_over(vault: Vault) -> None:
    changes = KeyChanges(vault.authority)
    changes.carry_over()
    changes.retire_older()


def _has_come_to_its_limit(key: KeyUse) -> bool:
    return max(key.age_share or 0, key.uses_share or 0) >= 1
