"""A store that somebody else keeps, for programs of `asyncio`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from securecfg.aio.calls import CALLS_AT_ONCE, Calls
from securecfg.backends import open_backend as open_synchronous
from securecfg.secret import behind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from securecfg.backends import Backend, Capabilities, Changes, Found, OpenBackend, StoredVersion
    from securecfg.backends.handle import Names
    from securecfg.patience import Patience
    from securecfg.secret import Secret
    from securecfg.vault.values import Plain


def open_backend(
    backend: str | Backend,
    *,
    credentials: Mapping[str, Secret[str]] | None = None,
    patience: Patience | None = None,
    calls_at_once: int = CALLS_AT_ONCE,
) -> AsyncBackend:
    """Return a handle of the store that a URI names, for `asyncio`. Nothing is called yet.

    Args:
        backend: A URI such as `awssm:?region=eu-west-1`, or a backend.
        credentials: As for `securecfg.backends.open_backend`.
        patience: The same.
        calls_at_once: How many calls may run at once; more wait.

    Raises:
        InvalidBackendUri: The URI cannot be parsed, its scheme is unknown, or it means nothing to its backend, which
            may know no such credentials either.
        UsageError: No call may run at once.
    """
    return AsyncBackend(open_synchronous(backend, credentials=credentials, patience=patience), calls_at_once)


class AsyncBackend:
    """The handle of a backend, with the methods of `OpenBackend`, awaited. Used with `async with`, or closed.

    Every method raises what the one of `OpenBackend` raises, and `VaultClosed` after the end. What becomes of a call
    whose task is cancelled is said in `securecfg.aio.calls`.

    Args:
        handle: The handle.
        calls_at_once: How many calls may run at once; more wait.
    """

    def __init__(self, handle: OpenBackend, calls_at_once: int = CALLS_AT_ONCE) -> None:
        """Call nothing yet."""
        self._handle = handle
        self._calls = Calls("backend", calls_at_once)

    def __repr__(self) -> str:
        """Show which store."""
        return f"<Async{self._handle!r}>"

    @property
    def name(self) -> str:
        """What the store is called in errors."""
        return self._handle.name

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do."""
        return self._handle.capabilities

    async def read(self, path: str, version: str | None = None) -> Found:
        """Return a secret; see `OpenBackend.read`. Tasks that ask for the same at the same time share one call."""
        return await self._calls.run(lambda: self._handle.read(path, version))

    async def read_many(self, paths: Iterable[str]) -> dict[str, Found]:
        """Return several secrets in as few calls as the store allows; see `OpenBackend.read_many`."""
        wanted = list(paths)
        return await self._calls.run(lambda: self._handle.read_many(wanted))

    async def list(self, prefix: str = "") -> Names:
        """Return the paths of live secrets; see `OpenBackend.list`."""
        return await self._calls.run(lambda: self._handle.list(prefix))

    async def versions(self, path: str) -> Sequence[StoredVersion]:
        """Return the versions of a secret, newest first; see `OpenBackend.versions`."""
        return await self._calls.run(lambda: self._handle.versions(path))

    async def write(
        self, path: str, value: Plain, *, expect: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> str:
        """Write a new version and return its id; see `OpenBackend.write`. Cancelled, it may have been written."""
        load = behind(value)
        del value  # a traceback that shows locals must not show it
        return await self._calls.run(lambda: self._handle.write(path, load(), expect=expect, metadata=metadata))

    async def label(self, path: str, label: str, version: str | None) -> None:
        """Make a label point at a version; see `OpenBackend.label`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._handle.label(path, label, version))

    async def delete(self, path: str) -> None:
        """Delete a secret with all its versions; see `OpenBackend.delete`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._handle.delete(path))

    async def recover(self, path: str) -> None:
        """Bring a deleted secret back; see `OpenBackend.recover`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._handle.recover(path))

    def watch(self, prefix: str = "") -> AsyncIterator[Changes]:
        """Return an iterator of what changes below a prefix; see `OpenBackend.watch`.

        It takes one of the calls that may run at once for as long as it is used. It ends where its user stops: with
        `aclose()`, or when its task is cancelled. The store's own connection ends with the next thing that it says,
        10 s later at the latest.
        """
        self._calls.verify_open()
        return self._calls.iterate(self._handle.watch(prefix))

    async def close(self) -> None:
        """Take no more calls, and wait for those that there are. May be called again."""
        await self._calls.close()

    async def __aenter__(self) -> Self:
        """Use it in an `async with` block."""
        self._calls.verify_open()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close it."""
        await self.close()
