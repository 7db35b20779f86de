"""The scheme `memory:` for tests: stores of this process, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.backends.uri import take_options
from securecfg.testing.memory_backend import ALL, MemoryBackend, MemoryStore

if TYPE_CHECKING:
    from securecfg.backends import Backend, Capabilities
    from securecfg.backends.interface import BackendUri

CREDENTIALS = ("MEMORY_TOKEN",)
GIVEN: list[str] = []
STORES: dict[str, MemoryStore] = {}
CAPABILITIES: dict[str, Capabilities] = {}


class NamedMemory(MemoryBackend):
    """A store in memory that is called as its URI calls it."""

    def __init__(self, name: str) -> None:
        super().__init__(STORES.setdefault(name, MemoryStore()), CAPABILITIES.get(name, ALL))
        self.name = f"memory {name}"  # type: ignore[misc]  # of one store only


def from_uri(uri: BackendUri) -> Backend:
    take_options(uri, (), CREDENTIALS)
    GIVEN.extend(secret.reveal() for secret in uri.credentials.values())
    return NamedMemory(uri.rest)
