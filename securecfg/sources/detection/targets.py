"""Under which path of the vault a found value goes.

`PREFIX/FOLDERS/FILE-STEM/KEY/PATH`: `database.password` of `config/prod.yaml` is `prod/database/password`, that of
`eu/prod.yaml` is `eu/prod/database/password`, and `NAME` of `.env` is `env/NAME`. The folders are those within the
project, without `config` at its beginning. The same files always give the same paths.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from securecfg.errors import InvalidPath
from securecfg.vault.paths import PATH_BYTES_MAX, path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.sources.detection.scalars import KeyPath

CONFIGURATION_FOLDER = "config"

_MAX_SEGMENT_BYTES = 100
_UNUSUAL = re.compile(r"[^\w.-]")
_UNUSUAL_ASCII = re.compile(r"[^A-Za-z0-9_.-]")
_UNWRITABLE = re.compile(r"[\s\"'\\`$<>]")


def check_prefix(prefix: str) -> str:
    """Return a prefix without its last `/`.

    Raises:
        InvalidPath: It is no path, or holds a character that would need quoting in some of the formats.
    """
    prefix = prefix.removesuffix("/")
    if not prefix:
        return ""
    path_to_bytes(prefix)
    unwritable = _UNWRITABLE.search(prefix)
    if unwritable is not None:
        message = f"the prefix `{prefix}` contains `{unwritable.group()}`"
        raise InvalidPath(message, hint="spaces, quotes, backslashes and $ < > cannot be part of a reference in a file")
    return prefix


def segment_of(key: str | int) -> str:
    """Return one segment of a path for a key: what a path does not allow becomes `_`."""
    segment = _UNUSUAL.sub("_", unicodedata.normalize("NFC", str(key)))
    if segment in {"", ".", ".."}:
        return "_" * max(1, len(segment))
    try:
        path_to_bytes(segment[:_MAX_SEGMENT_BYTES])
    except InvalidPath:
        segment = _UNUSUAL_ASCII.sub("_", segment)
    if len(segment.encode()) <= _MAX_SEGMENT_BYTES:
        return segment
    return f"{_UNUSUAL_ASCII.sub('_', segment)[:80]}-{hashlib.sha256(segment.encode()).hexdigest()[:16]}"


def path_of(prefix: str, folder: str, keys: KeyPath) -> str:
    """Return the path for a key of a file.

    Args:
        prefix: As `check_prefix` returned it.
        folder: As `folders_of` chose it.
        keys: The way to the value.
    """
    start = f"{prefix}/{folder}" if prefix else folder
    path = "/".join([start, *map(segment_of, keys)])
    if len(path.encode()) <= PATH_BYTES_MAX - 8:  # room for a number behind it
        return path
    return f"{start}/{hashlib.sha256(path.encode()).hexdigest()[:32]}"


def folders_of(places: Mapping[str, str]) -> dict[str, str]:
    """Return the folder of the vault for each file.

    It is the file's stem, below the folders that it lies in within its project, so that it is the same whatever else is
    imported, then or later. Files that nevertheless share one are told apart by their whole names if that does it, else
    by as many parent folders as are needed, then by both.

    Args:
        places: For each file, by its name, the path from its project's folder; empty for one that lies in no project.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name, place in places.items():
        groups[_folder(place or name, _folders_within(place), whole=False)].append(name)
    folders: dict[str, str] = {}
    for common, group in sorted(groups.items()):
        if len(group) == 1:
            folders[group[0]] = common
            continue
        longest = {name: max(name, places[name], key=lambda path: len(PurePosixPath(path).parts)) for name in group}
        depth = max(len(PurePosixPath(path).parts) for path in longest.values())
        for level in range(1, 2 * depth):
            chosen = {
                name: _folder(path, max(level // 2, _folders_within(places[name])), whole=level % 2 == 1)
                for name, path in longest.items()
            }
            if len(set(chosen.values())) == len(group):
                break
        folders.update(chosen)
    return folders


def _folders_within(place: str) -> int:
    """Return how many folders are named; that for configuration, where the project keeps one, is not."""
    folders = PurePosixPath(place).parts[:-1]
    return len(folders) - (folders[:1] == (CONFIGURATION_FOLDER,))


def _folder(name: str, parents: int, *, whole: bool) -> str:
    path = PurePosixPath(name)
    base = path.name
    if base.startswith("."):
        base = base[1:]  # `.env.production` is env.production
    elif not whole:
        base = path.stem
    above = [part for part in path.parent.parts if part not in {"/", ".", ".."}]
    return "/".join(segment_of(part) for part in [*above[len(above) - parents :], base])
