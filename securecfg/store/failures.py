"""What SQLite and the operating system report, in the words of this library.

No statement and no path but the vault's own gets into a message.
"""

from __future__ import annotations

import apsw

from securecfg.errors import SecurecfgError, StoreBusy, StoreFailed, Tampered, VaultClosed

FOREIGN = (apsw.Error, OSError)

_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.TooBigError, apsw.MismatchError)


def translated(error: BaseException, path: str) -> SecurecfgError:
    """Return the error to raise in place of a foreign one, where nothing was being committed."""
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreBusy(f"`{path}` is locked by another process", hint="try again")
    if isinstance(error, _DAMAGED):
        hint = "restore the vault from a backup; keep the damaged file for whoever looks into it"
        return Tampered(f"`{path}` is damaged inside ({name_of(error)})", hint=hint)
    if isinstance(error, apsw.FullError):
        return StoreFailed(f"the disk that holds `{path}` is full", hint="make room and try again")
    if isinstance(error, apsw.ConnectionClosedError):
        return VaultClosed("the store is closed")
    return StoreFailed(f"cannot use `{path}`: {name_of(error)}", hint="look at the disk and the system's log")


def name_of(error: BaseException) -> str:
    """Return SQLite's name for an error or the operating system's words, never a message with a statement in it."""
    for codes, attribute in (
        (apsw.mapping_extended_result_codes, "extendedresult"),
        (apsw.mapping_result_codes, "result"),
    ):
        name = codes.get(getattr(error, attribute, -1))
        if name is not None:
            return str(name)
    return (error.strerror if isinstance(error, OSError) else None) or "the database reported a defect"
