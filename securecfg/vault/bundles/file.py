"""The file of a bundle: where it may go, and how it gets its name."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from securecfg.errors import AlreadyExists, StoreFailed
from securecfg.files import PUBLIC, give_name, take_name, write_beside
from securecfg.vault.kinds import is_bundle

_NUMBER = re.compile("[1-9][0-9]{0,8}")


def verified_target(path: str | os.PathLike[str], *, replace: bool) -> Path:
    """Return where a bundle goes; refuse early, before anything is recorded, what would fail at the end.

    Raises:
        AlreadyExists: There is something that may not be replaced, or what readers take for a bundle that builds on it.
        StoreFailed: It is a symbolic link, or there is no folder for it.
    """
    target = Path(path)
    if target.is_symlink():
        message = f"`{target}` is a symbolic link"
        raise StoreFailed(message, hint="name the file itself")
    if target.exists() and not (replace and is_bundle(target)):
        message = f"`{target}` exists already" if is_bundle(target) else f"`{target}` is there, and is no bundle"
        raise AlreadyExists(message, hint="choose another path; only a bundle is ever replaced by one")
    if not target.absolute().parent.is_dir():
        message = f"there is no folder `{target.absolute().parent}`"
        raise StoreFailed(message, hint="make it first")
    if (after := _follower(target)) is not None:
        message = f"`{after}` is there, and would no longer build on what is at `{target}`"
        raise AlreadyExists(message, hint="take it away first, or publish under a name that comes after it")
    return target


def _follower(target: Path) -> Path | None:
    """Return what readers take for the next bundle after a file, where there is something."""
    following = [target.with_name(f"{target.name}.1")]
    name, _, number = target.name.rpartition(".")
    if _NUMBER.fullmatch(number) and name and os.path.lexists(target.with_name(name)):
        following.append(target.with_name(f"{name}.{int(number) + 1}"))
    return next((path for path in following if os.path.lexists(path)), None)


def put_bundle(target: Path, content: bytes, *, replace: bool) -> None:
    """Let a bundle appear under its name, whole and durable; what came to be there meanwhile is looked at again.

    Raises:
        AlreadyExists, StoreFailed: As for `verified_target`, or the file system refuses; nothing is left behind.
    """
    temporary = write_beside(target, content, mode=PUBLIC)
    try:
        verified_target(target, replace=replace)
        if replace:
            take_name(temporary, target)
        else:
            give_name(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()
