"""Worlds that are made once in a process, and copied for each test: that takes a hundredth of the time or less."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import pytest

from securecfg.files import create_private
from securecfg.vault.state.anchor import lineage
from tests.vault.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

W = TypeVar("W", bound=World)
_STATE = "XDG_STATE_HOME"


class _Original(NamedTuple):
    """A world at rest.

    Attributes:
        kind: Its class.
        clock_ns: What its clock said at the end.
        lineage: Where its vault was.
        files: What was in its folder, by relative paths.
        state: What its machine knew of it, likewise.
    """

    kind: type[World]
    clock_ns: int
    lineage: str
    files: Mapping[str, bytes]
    state: Mapping[str, bytes]


def copy_of(make: Callable[[Path], W], folder: Path) -> W:
    """Return a copy of a world, with what this machine knows of its vault. Two copies are two places of one vault.

    Args:
        make: Makes it in an empty folder. Called once in a process, so it depends on nothing else.
        folder: Where the copy is to be.
    """
    original = _original(make)
    _write(folder, original.files)
    world = cast("W", original.kind(folder))
    world.clock.ns = original.clock_ns
    here = lineage(world.path)
    state = {name.replace(original.lineage, here): content for name, content in original.state.items()}
    _write(Path(os.environ[_STATE]), state)
    return world


@cache
def _original(make: Callable[[Path], World]) -> _Original:
    with TemporaryDirectory(prefix="sc-") as name, pytest.MonkeyPatch.context() as patch:
        folder, state = Path(name, "world"), Path(name, "state")
        folder.mkdir()
        patch.setenv(_STATE, str(state))
        world = make(folder)
        world.close()
        return _Original(type(world), world.clock.ns, lineage(world.path), _read(folder), _read(state))


def _read(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(file, content)
