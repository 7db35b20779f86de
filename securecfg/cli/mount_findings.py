"""What `doctor` says of the stores that are mounted. None of them is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.cli.findings import Finding, Grade
from securecfg.errors import SecurecfgError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.vault import Vault

_NAME = "mounts"
_NAMED_MOST = 5


def look_at_mounts(vault: Vault) -> Iterator[Finding]:
    """Look at what is mounted in an open vault. Folders are named to those who may `mount.manage`.

    Raises:
        Tampered: The document that says what is mounted is damaged.
    """
    if not vault.is_by_root or not vault.opened.mounts():
        return
    from securecfg.mounts.table import PATIENCE, hidden_below, read_mounts

    mounts = read_mounts(vault.opened)
    may_see = bool(vault.principal) and vault.authority.session().decide("mount.manage", "").allowed
    findings = []
    for mount in mounts:
        where = f"what is mounted at `{mount.folder}`" if may_see else "something that is mounted"
        for uri in mount.backends:
            try:
                mount.open(uri, PATIENCE)
            except SecurecfgError as error:
                message = f"{where} cannot be asked: {error.message}"
                hint = error.hint or "install what speaks to the store"
                findings.append(Finding(_NAME, Grade.PROBLEM, message, hint, error.exit_code))
        hidden = hidden_below(vault.opened, mount.folder)
        if hidden:
            listed = vault.authority.filter_listed(hidden) if vault.principal else []
            named = ", ".join(f"`{path}`" for path in listed[:_NAMED_MOST])
            message = f"{counted(len(hidden), 'secret')} of the vault itself cannot be seen behind {where}"
            hint = "unmount the store, move them away, and mount it again"
            findings.append(Finding(_NAME, Grade.WARNING, f"{message}{f': {named}' if named else ''}", hint))
    if not findings:
        are = "store is" if len(mounts) == 1 else "stores are"
        asks = "`securecfg vault mounts --check` asks whether they answer"
        findings.append(Finding(_NAME, Grade.OK, f"{len(mounts)} {are} mounted; {asks}"))
    yield from findings
