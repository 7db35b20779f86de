"""Every store passes the public suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.store import MemoryBacking, MemoryStore, SqliteStore, create_sqlite, open_sqlite
from securecfg.testing.store_conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestSqlite(StoreConformance):
    def create_store(self, place: Path) -> SqliteStore:
        return create_sqlite(place / "a.vault")

    def open_store(self, place: Path) -> SqliteStore:
        return open_sqlite(place / "a.vault")

    @pytest.fixture(autouse=True)
    def _leaves_one_file(self, _folder: None, tmp_path: Path) -> Iterator[None]:
        yield
        for handle in self._handles:
            handle.close()
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.vault"]


class TestSqliteWithoutMappedIndex(TestSqlite):
    """The same where the WAL-index cannot be mapped."""

    def create_store(self, place: Path) -> SqliteStore:
        store = super().create_store(place)
        store._header = None
        return store

    def open_store(self, place: Path) -> SqliteStore:
        store = super().open_store(place)
        store._header = None
        return store


class TestMemory(StoreConformance):
    def create_store(self, place: Path) -> MemoryStore:
        self.backing = MemoryBacking()
        return MemoryStore(self.backing)

    def open_store(self, place: Path) -> MemoryStore:
        return MemoryStore(self.backing)
