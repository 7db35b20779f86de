"""New data keys for the secrets below a path, wherever these lie: in the vault or in its sealed scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import ScopeSealed, SecretNotFound
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.paths import scope_among
from securecfg.vault.scopes.opening import charter_of, grants_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.opened import OpenVault
    from securecfg.vault.vault import Vault

    Progress = Callable[[int, int], None]


class RotatedData(NamedTuple):
    """What was encrypted anew.

    Attributes:
        secrets: How many there were.
        left: The sealed scopes below the path that the key at hand does not both read and write.
    """

    secrets: int
    left: tuple[str, ...]


def rotate_data(vault: Vault, prefix: str, progress: Progress | None = None) -> RotatedData:
    """Encrypt every version of some secrets under new data keys. See `KeyChanges.rotate_data`.

    Args:
        vault: As it is open.
        prefix: A path, or a folder ending in `/`; empty for all. A folder takes in the scopes below it.
        progress: Called with the number of secrets done and of all of them, for each part of the vault.

    Raises:
        ScopeSealed: It lies in a scope that the key at hand does not both read and write.
        As for `KeyChanges.rotate_data`.
    """
    if prefix and not prefix.endswith("/"):
        part = vault.authority_over(prefix)
        verify_encrypts(part.opened)
        return RotatedData(KeyChanges(part).rotate_data(prefix, progress), ())
    count, left, is_found = 0, [], False
    parts = list(vault.parts())
    around = scope_among([scope for scope, _ in parts], prefix)
    for scope, part_of in parts:
        if scope and not (scope.startswith(prefix) or scope == around):
            continue
        try:
            verify_encrypts(part_of.opened)
            count += KeyChanges(part_of.authority).rotate_data(prefix if prefix.startswith(scope) else "", progress)
            is_found = True
        except SecretNotFound:
            continue
        except ScopeSealed:
            if scope == around:
                raise
            left.append(scope)
    if not (is_found or left):
        message = f"there is no secret below `{prefix}`"
        raise SecretNotFound(message, hint="`securecfg secret list` shows what there is")
    return RotatedData(count, tuple(left))


def verify_encrypts(opened: OpenVault) -> None:
    """Check that the key at hand can encrypt the values of a part of a vault anew.

    Raises:
        ScopeSealed: It is a sealed scope, and the key does not read it, or is none of a writer.
    """
    if opened.replica.seat is None:
        return
    scope, grants = charter_of(opened).path, grants_of(opened)
    if not grants.is_granted(grants.active):
        message = f"the values of `{scope}` are sealed from this key"
        raise ScopeSealed(message, hint="who reads and writes the scope does it, with `--key identity:FILE`")
    if not opened.replica.may_change:
        message = f"this key reads `{scope}` and does not write it"
        hint = f"an administrator may grant it for that time: `securecfg scope grant {scope} --write ROLE`"
        raise ScopeSealed(message, hint=hint)
