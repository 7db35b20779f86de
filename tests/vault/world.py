"""A vault with its key, its clock and its policy, for tests."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.policy import Document
from securecfg.store import Put, open_sqlite
from securecfg.vault.creation import open_rows
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from pathlib import Path

    from securecfg.store import Space, Store

ADMIN = "user:ada"
READER = "svc:reader"
BLIND = "svc:blind"
GRANTS = """
[roles.reader]
members = ["svc:reader"]
[[roles.reader.grants]]
actions = ["read", "list"]
paths = ["app/**"]
[roles.blind]
members = ["svc:blind"]
[[roles.blind.grants]]
actions = ["read", "write"]
paths = ["app/**"]
"""


@dataclass(slots=True)
class ManualClock:
    """A clock that moves by a microsecond when it is read, and otherwise when it is told to."""

    ns: int = 1_800_000_000_000_000_000

    def now_ns(self) -> int:
        self.ns += 1_000
        return self.ns

    def advance(self, by: timedelta) -> None:
        self.ns += int(by.total_seconds() * 1_000_000_000)


@dataclass(slots=True)
class World:
    """A folder with a key file and room for vaults."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    vaults: list[Vault] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"file:{self.folder / 'key'}"

    @property
    def path(self) -> Path:
        return self.folder / "a.vault"

    def make_key(self) -> None:
        generate_key_file(self.folder / "key")

    def create(self) -> Vault:
        self.make_key()
        vault = Vault.create(self.path, key=self.key, admin=ADMIN, clock=self.clock)
        self.vaults.append(vault)
        return vault

    def open(self, principal: str | None = ADMIN, **options: Any) -> Vault:  # noqa: ANN401 - those of `Vault.open`
        options.setdefault("clock", self.clock)
        options.setdefault("key", self.key)
        vault = Vault.open(options.pop("path", self.path), principal=principal, **options)
        self.vaults.append(vault)
        return vault

    def put_rows(self, rows: Mapping[tuple[Space, int], bytes]) -> None:
        """Put rows into the file as somebody would who holds no key."""
        with closing(open_sqlite(self.path)) as store:
            store.stage([Put(space, number, row) for (space, number), row in rows.items()])

    def close(self) -> None:
        for vault in self.vaults:
            vault.close()


def grant(vault: Vault, text: str = GRANTS) -> None:
    """Apply a grant table."""
    vault.administration.apply_policy([Document("grants.toml", "grants", text)])


def text_of(vault: Vault, path: str, at: Any = None) -> str:  # noqa: ANN401 - that of `Vault.read`
    """Return a text value."""
    value = vault.read(path, at=at).field("").reveal()
    assert isinstance(value, str)
    return value


class InterruptedStore:
    """A store in which something happens in the middle: an action before the next call of a method on a space."""

    def __init__(self, store: Store) -> None:
        """Pass everything through until `interrupt` is called."""
        self._store = store
        self._plans: dict[tuple[str, Space | None], Callable[[], object]] = {}

    def interrupt(self, method: str, space: Space | None, action: Callable[[], object]) -> None:
        """Call `action` once, before the next call of `get` or `scan` on `space` or of another method.

        Two rows that are looked up at once count as got, each of them.
        """
        self._plans[method, space] = action

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method of a store
        method = getattr(self._store, name)
        if not callable(method):
            return method

        def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - any method of a store
            calls = [(name, args[0] if name in {"get", "scan"} else None)]
            if name == "get_many":
                calls += [("get", space) for space, _ in args[0]]
            for planned in calls:
                action = self._plans.pop(planned, None)
                if action is not None:
                    action()
            return method(*args, **options)

        return call


def interrupted(world: World, principal: str = ADMIN) -> tuple[Vault, InterruptedStore]:
    """Open a world's vault over a store that can be interrupted."""
    store = InterruptedStore(open_sqlite(world.path))
    opened, slot = open_rows(cast("Store", store), open_provider(world.key), world.path, world.clock, Options())
    vault = Vault(opened, Identity(principal, slot=slot.slot_id.hex()))
    world.vaults.append(vault)
    return vault, store
