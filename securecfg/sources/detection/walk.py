"""Read the files that an import was asked for."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import ConfigSyntaxError, FileMissing, SecurecfgError, StoreFailed
from securecfg.files import read_bounded
from securecfg.sources.detection.names import word_set
from securecfg.sources.detection.plan import MAX_FILE_BYTES, Notice, SourceFile
from securecfg.sources.detection.scalars import Format
from securecfg.vault.settings import LOCAL_FOLDER, SETTINGS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SKIPPED_FOLDERS = word_set(
    ".git .hg .svn .securecfg .venv venv .tox .nox node_modules vendor __pycache__ .mypy_cache .ruff_cache "
    ".pytest_cache .terraform dist build target site-packages"
)
_BINARY_PROBE_BYTES = 8192
_ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Collected:
    """What was found under the paths asked for.

    Attributes:
        files: The configuration files, each once, those of a folder in the order of their names.
        notices: What was skipped in folders and why.
        problems: What was asked for by name and cannot be read.
    """

    files: tuple[SourceFile, ...]
    notices: tuple[Notice, ...]
    problems: tuple[SecurecfgError, ...]


def collect(paths: Iterable[str | os.PathLike[str]]) -> Collected:
    """Read configuration files, and folders with all below them, once each.

    In folders, files of other formats and folders of tools and dependencies are skipped silently, files that are
    binary, too large or unreadable with a notice. A symbolic link to a file stands for the file it names; a symbolic
    link to a folder inside a folder is not followed.
    """
    files: list[SourceFile] = []
    notices: list[Notice] = []
    problems: list[SecurecfgError] = []
    seen: set[str] = set()
    for given in map(Path, paths):
        is_folder = given.is_dir()
        for path in _walk(given) if is_folder else [given]:
            real = os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
            try:
                files.append(_read(path))
            except SecurecfgError as error:
                if is_folder:
                    notices.append(Notice(path.as_posix(), 0, "", f"skipped: {error.message}"))
                else:
                    problems.append(error)
    return Collected(tuple(files), tuple(notices), tuple(problems))


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(root, name)
            if Format.of(name) is not None and (path.is_file() or not path.exists()):
                yield path


def _read(path: Path) -> SourceFile:
    name = path.as_posix()
    if Format.of(name) is None:
        message = "not a JSON, YAML, TOML, INI or .env file by its name"
        raise ConfigSyntaxError(message, place=name, hint="rename or convert it, or move its secrets by hand")
    try:
        status = path.stat()
    except FileNotFoundError:
        message = f"`{name}` does not exist"
        raise FileMissing(message) from None
    except OSError as error:
        message = f"cannot read `{name}`: {error.strerror}"
        raise StoreFailed(message) from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        message = f"`{name}` is not a regular file"
        raise StoreFailed(message)
    content = read_bounded(path, MAX_FILE_BYTES)
    if b"\0" in content[:_BINARY_PROBE_BYTES]:
        message = "binary content"
        raise ConfigSyntaxError(message, place=name)
    if not status.st_mode & _ANY_WRITE or not os.access(path, os.W_OK):
        message = f"`{name}` is read-only"
        raise StoreFailed(message, hint="make it writable to have its secrets moved")
    return SourceFile(name, content, stat.S_IMODE(status.st_mode), _place_in_project(path))


def _place_in_project(path: Path) -> str:
    """Return the path of a file from the folder of its project: where the settings are, else where git's files are."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - a link is called what it is called, not what it points to
    for marks in ((SETTINGS_FILE, LOCAL_FOLDER), (".git",)):
        for folder in whole.parents:
            if any((folder / mark).exists() for mark in marks):
                return whole.relative_to(folder).as_posix()
    return ""
