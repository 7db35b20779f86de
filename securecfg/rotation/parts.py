"""Where rotations lie: each in the part of the vault that holds its secret, the vault itself or a sealed scope.

Who has not opened a scope so learns nothing of what is rotated in it, and a member of it needs nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import InvalidRotation, ScopeSealed
from securecfg.rotation.references import split_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.errors import SecurecfgError
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.vault import Vault


def part_of(vault: Vault, path: str) -> Vault:
    """Return what `Rotations`, `Steps` and `Runner` take for the secret at a path: the part that holds it.

    For what lies in no sealed scope that is the handle itself, so that options may refer to all that it opens. For a
    scope it is the scope alone: its writers must not choose among what others have sealed.

    Raises:
        ScopeSealed: It lies in a scope that the key at hand does not open.
    """
    scope, part = vault.part_of(path)
    return part if scope else vault


def parts_of(vault: Vault, failures: dict[str, SecurecfgError] | None = None) -> Iterator[tuple[str, Vault]]:
    """Yield all parts that the key at hand opens, each with the path of its scope, as `part_of` returns them.

    Args:
        vault: As it is open.
        failures: As for `Vault.parts`.

    Raises:
        Tampered: A scope that the vault knows of is not there.
    """
    for scope, part in vault.parts(failures):
        # A member finds scopes that were merged meanwhile only when they are used.
        if not scope or part.opened.has_head():
            yield scope, part if scope else vault


def is_led(opened: OpenVault) -> bool:
    """Return whether the key at hand can lead rotations on in a part: in a scope it has to read and to write.

    What the policy says is not looked at.
    """
    seat, grants = opened.replica.seat, opened.replica.data_keys.grants
    return seat is None or grants is None or (seat.may_write and grants.is_granted(grants.active))


def verify_led(opened: OpenVault, path: str) -> None:
    """Check the same, and that the values which a secret has by now are not sealed from the key at hand.

    Whoever began a rotation and could not go on with it would keep those away who can.

    Raises:
        ScopeSealed: It cannot.
    """
    opened.refresh()
    if opened.replica.seat is None:
        return
    if not opened.replica.seat.may_write:
        message = f"this key does not write the scope that `{path}` lies in, and nobody would believe what it rotates"
        raise ScopeSealed(message, hint="an administrator may grant it: `securecfg scope grant PATH --write ROLE`")
    grants = opened.replica.data_keys.grants
    if grants is not None:
        grants.seed(grants.active)
    encoded = path.encode()

    def open_key() -> None:
        entry = opened.replica.index.get(encoded)
        if entry is not None and entry.live:
            # A new reader is given what was written before him by the next other one that opens the scope.
            opened.data_key(opened.locate(encoded, entry, 0).version.dek_id)

    opened.consistently(open_key)


def verify_references(vault: Vault, path: str, options: Mapping[str, str]) -> None:
    """Check that the options of a rotation in a sealed scope refer to nothing outside of it.

    Raises:
        InvalidRotation: One does, or is malformed.
        ScopeSealed: The secret lies in a scope that the key at hand does not open.
    """
    scope, _ = vault.part_of(path)
    if not scope:
        return
    for name, reference in split_options(options)[1].items():
        try:
            where = vault.part_of(reference.path)[0]
        except ScopeSealed:
            where = ""
        if where != scope:
            message = f"the option `{name}` refers to what lies outside of the sealed scope `{scope}`"
            hint = "whoever writes the scope could have that handed to a server of his; keep a copy of it in the scope"
            raise InvalidRotation(message, hint=hint)
