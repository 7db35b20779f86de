"""What kind of file a path names, told by its beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.store import read_beginning

if TYPE_CHECKING:
    import os

BUNDLE_MAGIC = b"SCFP"

_DATABASE_MAGIC = b"SQLite format 3\x00"


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a bundle does; False where it cannot be read."""
    return read_beginning(path, len(BUNDLE_MAGIC)) == BUNDLE_MAGIC


def is_database(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a vault does: opening and closing it would drop the locks of an open one."""
    return read_beginning(path, len(_DATABASE_MAGIC)) == _DATABASE_MAGIC
