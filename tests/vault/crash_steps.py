"""Copies of a world, in each of which a process dies after other changes of the store than in the one before."""

from __future__ import annotations

import itertools
import os
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from securecfg.errors import SecurecfgError, StoreFailed
from securecfg.keys import open_provider
from securecfg.store import open_sqlite
from securecfg.vault.creation import open_rows
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from tests.vault.world import ADMIN, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from securecfg.store import Store

# `make crash` dies after each number of changes; every test run after the first ones, and then after some of them.
IS_EXHAUSTIVE = "SECURECFG_EXHAUSTIVE" in os.environ
FIRST_STEPS = 4
STRIDE = 17

W = TypeVar("W", bound=World)


class Crash(Generic[W]):
    """A copy of a world for a `with` block, removed after it.

    Attributes:
        changes: After how many changes of the store the process is to die in it.
    """

    def __init__(self, origin: W, folder: Path, changes: int) -> None:
        """Copy nothing yet."""
        self.changes = changes
        self._origin = origin
        self._folder = folder

    def __enter__(self) -> W:
        """Return the copy."""
        shutil.copytree(self._origin.folder, self._folder)
        self._world = type(self._origin)(self._folder, self._origin.clock)
        return self._world

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Remove it, and say of an error where it came up."""
        if error is not None:
            error.add_note(f"after {self.changes} changes")
        self._world.close()
        shutil.rmtree(self._folder)


class Attempt:
    """A change in which the process may die, for a `with` block. Where it does, what it held is free after the block.

    Attributes:
        is_done: Whether the change was made.
    """

    def __init__(self, world: World) -> None:
        """Change nothing yet."""
        self._world = world
        self.is_done = False

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        """Let time pass where it died."""
        self.is_done = error is None
        if isinstance(error, SecurecfgError):
            self._world.clock.advance(timedelta(hours=2))
            return True
        return False


def crashes(origin: W, folder: Path) -> Iterator[Crash[W]]:
    """Yield copies of a world, which nobody has open, until the caller has seen one in which nothing dies."""
    steps = itertools.chain(range(FIRST_STEPS), itertools.count(FIRST_STEPS, 1 if IS_EXHAUSTIVE else STRIDE))
    for changes in steps:
        yield Crash(origin, folder / f"crash-{changes}", changes)


class DyingStore:
    """A store that stops changing anything after some changes, in any of its parts.

    Args:
        store: The store.
        left: How many changes are left, shared by the parts; a negative number never comes to its end.
    """

    def __init__(self, store: Store, left: list[int]) -> None:
        """Change nothing yet."""
        self._store = store
        self.left = left

    def partition(self, number: int) -> Store:
        """Return a part that dies with the others."""
        return cast("Store", DyingStore(self._store.partition(number), self.left))

    def commit(self, *args: Any, **options: Any) -> object:  # noqa: ANN401 - those of a store
        """Commit, or die."""
        self._count()
        return self._store.commit(*args, **options)

    def commit_parts(self, *args: Any) -> None:  # noqa: ANN401 - those of a store
        """Commit, or die."""
        self._count()
        self._store.commit_parts(*args)

    def stage(self, *args: Any) -> None:  # noqa: ANN401 - those of a store
        """Stage, or die."""
        self._count()
        self._store.stage(*args)

    def purge(self) -> None:
        """Purge, or die."""
        self._count()
        self._store.purge()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any other method of a store
        """Return what changes nothing."""
        return getattr(self._store, name)

    def _count(self) -> None:
        if not self.left[0]:
            message = "the machine has lost power"
            raise StoreFailed(message)
        self.left[0] -= 1


def dying(world: World, changes: int) -> Vault:
    """Return the vault as its administrator has it open, whose store fails once some changes are made."""
    left = [-1]
    store = cast("Store", DyingStore(open_sqlite(world.path), left))
    opened, slot = open_rows(store, open_provider(world.key), world.path, world.clock, Options())
    vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    world.vaults.append(vault)
    left[0] = changes
    return vault
