"""A world for each test; every handle is closed at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vault.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.vault.vault import Vault


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def vault(world: World) -> Vault:
    """An empty vault, open as its administrator."""
    return world.create()
