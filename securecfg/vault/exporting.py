"""Taking secrets out of a vault, many at once, by those who may."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import AccessDenied, ScopeSealed, SecurecfgError
from securecfg.keys import Purpose
from securecfg.policy import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.vault.authority import Authority
    from securecfg.vault.closed import Closed
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.values import SecretVersion
    from securecfg.vault.vault import Vault

_SEALED = "the values of the scope that `{}` lies in are sealed from this key"


class LeftOut(NamedTuple):
    """A secret that was not given out, and why."""

    path: str
    error: SecurecfgError


class Exported(NamedTuple):
    """What was given out, and what was not.

    Attributes:
        versions: The current version of each secret, by path. Each is in the log as read.
        left_out: The others that the caller may list.
        closed: What the key at hand does not open, so that nobody can list it here.
    """

    versions: Sequence[SecretVersion]
    left_out: Sequence[LeftOut]
    closed: Closed


def find_exportable(vault: Vault, prefix: str = "") -> tuple[list[str], list[LeftOut]]:
    """Return the paths that the caller may export, and those that it may only list. Nothing is read or recorded.

    Of what the key at hand does not open nothing is listed; `Vault.closed` tells of it.

    Raises:
        InvalidPath: The prefix breaks the rules.
        NotAuthenticated: Nobody says who asks.
    """
    exportable: list[str] = []
    refused: list[LeftOut] = []
    for authority, paths in _by_authority(vault, vault.list(prefix)):
        if not _reads_values(authority.opened):
            refused += [LeftOut(path, ScopeSealed(_SEALED.format(path))) for path in paths]
            continue
        for path, is_allowed in zip(paths, authority.session().decide_many("export", paths), strict=True):
            if is_allowed:
                exportable.append(path)
            else:
                refused.append(LeftOut(path, AccessDenied(f"you may not export `{path}`")))
    return sorted(exportable), refused


def export_secrets(vault: Vault, prefix: str = "") -> Exported:
    """Return the current version of every secret below a prefix that the caller may both export and read.

    All of them are in the log, durably, before this returns, and so is that others were refused.

    Raises:
        InvalidPath: The prefix breaks the rules.
        NotAuthenticated: Nobody says who asks.
        AuditUnavailable: The reads cannot be recorded, so none happened.
        StoreBusy: The policy changes faster than the secrets can be read.
    """
    paths, left_out = find_exportable(vault, prefix)
    denied = [left.path for left in left_out if isinstance(left.error, AccessDenied)]
    if denied:
        # One record for all of them: who exports a folder is not probing each path.
        for authority, _ in _by_authority(vault, denied):
            authority.deny(authority.session(), "export", prefix, Decision(allowed=False))
    versions = []
    for path, found in zip(paths, vault.read_many([(path, None) for path in paths]), strict=True):
        if isinstance(found, SecurecfgError):
            left_out.append(LeftOut(path, found))
        else:
            versions.append(found)
    return Exported(versions, left_out, vault.closed(prefix))


def _reads_values(opened: OpenVault) -> bool:
    """Return whether the key at hand opens any values: in a sealed scope it may only list."""
    grants = opened.replica.data_keys.grants
    return grants is None or any(
        grants.is_granted(entry.epoch) for entry in opened.replica.keyring.keys if entry.purpose == Purpose.VALUE
    )


def _by_authority(vault: Vault, paths: Sequence[str]) -> list[tuple[Authority, list[str]]]:
    """Return paths by what decides about them: the vault, or the sealed scope that they lie in."""
    groups: dict[int, tuple[Authority, list[str]]] = {}
    for path in paths:
        authority = vault.authority_over(path)
        groups.setdefault(id(authority), (authority, []))[1].append(path)
    return list(groups.values())
