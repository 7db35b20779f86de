"""A vault in which stores in memory can be mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from securecfg.backends import open_backend, uri
from securecfg.mounts import Mount, Mounts, Rules
from securecfg.patience import Patience
from securecfg.testing.memory_backend import MemoryStore
from tests.mounts.memory import CAPABILITIES, STORES
from tests.vault.world import World, grant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.backends import OpenBackend
    from securecfg.vault import Vault


class MountWorld(World):
    """A vault with a policy, and stores of the scheme `memory:`."""

    __slots__ = ()

    def mount(self, folder: str = "app/corp/", *names: str, **rules: Any) -> Vault:  # noqa: ANN401 - those of `Rules`
        """Mount stores at a folder of a new vault, and open it."""
        vault = self.create()
        grant(vault)
        uris = tuple(f"memory:{name}" for name in names or ("one",))
        Mounts(vault.authority).add(Mount(folder, uris, Rules(**rules)))
        return self.open()

    def handle(self, name: str) -> OpenBackend:
        """Return a handle of a store, as somebody has it who knows nothing of the vault."""
        return open_backend(f"memory:{name}")

    def store(self, name: str = "one") -> MemoryStore:
        return STORES.setdefault(name, MemoryStore())


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MountWorld]:
    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")
    monkeypatch.setattr("securecfg.mounts.source.PATIENCE", Patience(5.0, (0.01,)))
    STORES.clear()
    CAPABILITIES.clear()
    world = MountWorld(tmp_path)
    yield world
    world.close()
