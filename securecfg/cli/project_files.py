"""What `init` lays into a project, and beside it: the ignored folder, the settings, the key file."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import StoreFailed
from securecfg.vault.settings import LOCAL_FILE, LOCAL_FOLDER, SETTINGS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHARED_HEAD = "# What all who work on this project share. Nothing in here is secret: commit it.\n"
_LOCAL_HEAD = "# Yours alone; git ignores this folder. What is here wins over the project's securecfg.toml.\n"


class Footprints:
    """Files and folders that were made, to be taken away again if the rest fails."""

    def __init__(self) -> None:
        """Nothing is made yet."""
        self._made: list[Path] = []

    def add(self, path: Path) -> None:
        """Remember that a path was made."""
        self._made.append(path)

    def remove(self) -> None:
        """Take away what was made, as far as it can be."""
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()


def make_local_folder(project: Path, made: Footprints) -> None:
    """Make the folder of what is not shared, which git ignores.

    Raises:
        StoreFailed: The file system refuses.
    """
    from securecfg.files import create_private

    folder = project / LOCAL_FOLDER
    if not folder.is_dir():
        make_folder(folder)
        made.add(folder)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        create_private(ignore, b"*\n")
        made.add(ignore)


def make_folder(folder: Path) -> None:
    """Make a folder for its owner alone, and those above it.

    Raises:
        StoreFailed: The file system refuses.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot create `{folder}`: {error.strerror}"
        raise StoreFailed(message, hint="look at the permissions of the folder above it") from None


def create_key_file(project: str, made: Footprints) -> Path:
    """Write a new key file below the user's own configuration.

    Raises:
        StoreFailed: The file system refuses.
    """
    from securecfg.keys import generate_key_file

    home = os.environ.get("XDG_CONFIG_HOME", "")
    folder = (Path(home) if home.startswith("/") else Path.home() / ".config") / "securecfg" / "keys"
    make_folder(folder)
    path = folder / f"{project}-{secrets.token_hex(2)}.key"
    generate_key_file(path)
    made.add(path)
    return path


def write_shared(project: Path, settings: Mapping[str, str], made: Footprints) -> None:
    """Write the settings that the whole team shares.

    Raises:
        StoreFailed: The file system refuses.
    """
    _write(project / SETTINGS_FILE, _SHARED_HEAD, settings, made, mode=0o644)


def write_local(project: Path, settings: Mapping[str, str], made: Footprints) -> None:
    """Write the settings of one person.

    Raises:
        StoreFailed: The file system refuses.
    """
    _write(project / LOCAL_FOLDER / LOCAL_FILE, _LOCAL_HEAD, settings, made, mode=0o600)


def home_relative(path: Path) -> str:
    """Return a path as people write it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _write(path: Path, head: str, settings: Mapping[str, str], made: Footprints, *, mode: int) -> None:
    from securecfg.files import write_atomically

    # TOML's basic strings take JSON's escapes.
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}\n" for name, text in settings.items()]
    write_atomically(path, "".join((head, *lines)).encode(), mode=mode)
    made.add(path)
