"""Whom a member believes: the administrators that this machine has seen first, kept outside the vault.

What an identity opens without the root is vouched for by the signatures of administrators alone. Whoever may write the
file can add some of his own making, so what counts is whose were there before.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import (
    AlreadyExists,
    AnchorMissing,
    FileMissing,
    RollbackSuspected,
    StoreFailed,
    Tampered,
    ValueTooLarge,
)
from securecfg.files import create_private, read_bounded
from securecfg.keys.trust import PUBLIC_KEY_BYTES, Trust
from securecfg.vault.anchor import lineage, state_directory
from securecfg.vault.logger import logger

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

_FILE_BYTES_MAX = 65_536
_FIRST_LINE = "securecfg-administrators-1"


def choose_trust(
    path: str | os.PathLike[str], vault_id: bytes, claimed: Collection[Trust], *, is_required: bool = False
) -> Trust | None:
    """Return which of those that a vault names its administrators are to be believed, None where none are.

    The first time that this is asked for a place the answer is written down.

    Args:
        path: Where the vault lies.
        vault_id: Its id, 16 bytes.
        claimed: What the memberships in it say.
        is_required: Whether to refuse a place that nothing was written down of.

    Raises:
        AnchorMissing: Nothing was written down, and it is required.
        RollbackSuspected: Another vault, or one with other administrators, took the place of the one that was here.
        Tampered: Nothing was written down, and the vault names several sets of administrators.
        StoreFailed: What was written down cannot be read.
    """
    place = Path(state_directory(), "administrators", lineage(path))
    known = _read(place)
    if known is None and is_required:
        message = "the administrators of this vault are not known on this machine, and they are required to be"
        raise AnchorMissing(message, hint="open it once without requiring that, where nobody can have changed it")
    if known is None and len(claimed) == 1:
        (only,) = claimed
        known = _write(place, vault_id, only)
    elif known is None and claimed:
        message = "the vault names more than one set of administrators, and none is known on this machine"
        raise Tampered(message, hint="somebody who may write the file has added one; ask for an untouched copy")
    if known is None or not claimed:
        return None
    if known[0] != vault_id or known[1] not in claimed:
        message = "this is not the vault whose administrators are known on this machine"
        hint = f"somebody may have put another one in its place; if you know better, remove `{place}`"
        raise RollbackSuspected(message, hint=hint)
    return known[1]


def _read(place: Path) -> tuple[bytes, Trust] | None:
    try:
        text = read_bounded(place, _FILE_BYTES_MAX).decode("ascii")
    except FileMissing:
        return None
    except (StoreFailed, ValueTooLarge, UnicodeDecodeError):
        raise _unreadable(place) from None
    with suppress(ValueError):
        first, vault_id, threshold, *keys = text.splitlines()
        trust = Trust(tuple(bytes.fromhex(key) for key in keys), int(threshold))
        is_whole = first == _FIRST_LINE and keys and all(len(key) == PUBLIC_KEY_BYTES for key in trust.administrators)
        if is_whole and 0 < trust.threshold <= len(keys):
            return bytes.fromhex(vault_id), trust
    raise _unreadable(place)


def _write(place: Path, vault_id: bytes, trust: Trust) -> tuple[bytes, Trust]:
    keys = [key.hex() for key in trust.administrators]
    content = "\n".join([_FIRST_LINE, vault_id.hex(), str(trust.threshold), *keys, ""]).encode()
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(place, content)
    except AlreadyExists:
        # Another process was here first, for the same vault or another one.
        return _read(place) or (vault_id, trust)
    except (OSError, StoreFailed) as error:
        logger().warning(
            "whom to believe cannot be written to `%s`: %s; other administrators may pass unnoticed",
            place,
            getattr(error, "strerror", None) or "the file system refuses",
            extra={"event": "trust.failed"},
        )
    return vault_id, trust


def _unreadable(place: Path) -> StoreFailed:
    message = f"whom to believe cannot be read from `{place}`"
    return StoreFailed(message, hint="if you know the administrators of the vault, remove the file")
