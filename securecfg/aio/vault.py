"""An open vault for programs of `asyncio`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self, TypeVar

from securecfg.aio.calls import CALLS_AT_ONCE, Calls, pieces
from securecfg.secret import behind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import timedelta
    from typing import BinaryIO

    from securecfg.errors import SecurecfgError
    from securecfg.policy import Explanation
    from securecfg.vault import SecretVersion, Vault, VersionInfo
    from securecfg.vault.commits.outcomes import Outcome
    from securecfg.vault.drops.boxes import Receipt
    from securecfg.vault.reading import At
    from securecfg.vault.values import Plain, VersionId
    from securecfg.vault.vault import Batch

    # `AsyncVault.list` hides the built-in name inside the class.
    Paths = list[str]
    Versions = list[VersionInfo]
    Results = list[SecretVersion | SecurecfgError]

T = TypeVar("T")


class AsyncVault:
    """An open vault, with the methods of `Vault`, awaited. Used with `async with`, or closed.

    It takes the vault over: nobody else closes it, and it is closed with this. Every method raises what the one of
    `Vault` raises. A read is in the log before it is returned, as ever. What becomes of a call whose task is cancelled
    is said in `securecfg.aio.calls`: a change may have been made.

        vault = await asyncio.to_thread(Vault.open, "app.vault", key="file:app.key")
        async with AsyncVault(vault) as vault:
            version = await vault.read("stripe/api_key")

    Args:
        vault: The vault; a bundle works too, as far as it can be read.
        calls_at_once: How many calls may run at once; more wait.

    Raises:
        UsageError: No call may run at once.
    """

    def __init__(self, vault: Vault, calls_at_once: int = CALLS_AT_ONCE) -> None:
        """Take a vault over; nothing is called yet."""
        self._vault = vault
        self._calls = Calls("vault", calls_at_once)
        self._is_lent = False

    def __repr__(self) -> str:
        """Show on whose behalf it is open."""
        return f"<Async{repr(self._vault).strip('<>')}>"

    @property
    def principal(self) -> str:
        """On whose behalf the vault is used."""
        return self._vault.principal

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, path: str, *, at: At = None, allow_expired: bool = False) -> SecretVersion:
        """Return a version of a secret; see `Vault.read`."""
        return await self._calls.run(lambda: self._vault.read(path, at=at, allow_expired=allow_expired))

    async def read_many(self, wanted: Sequence[tuple[str, At]]) -> Results:
        """Return several versions, or the error of each; see `Vault.read_many`."""
        asked = list(wanted)
        return await self._calls.run(lambda: self._vault.read_many(asked))

    async def prefetch(self, paths: Iterable[str]) -> int:
        """Fetch what is mounted ahead of its reads; see `Vault.prefetch`. Cancelled, it is fetched all the same."""
        wanted = list(paths)
        return await self._calls.run(lambda: self._vault.prefetch(wanted))

    async def read_document(self, path: str) -> tuple[bytes, str]:
        """Return a configuration document and its content type; see `Vault.read_document`."""
        return await self._calls.run(lambda: self._vault.read_document(path))

    async def stream(self, path: str, *, at: At = None) -> tuple[SecretVersion, AsyncIterator[bytes]]:
        """Return a version, its value left empty, and its content in pieces; see `Vault.stream`."""
        version, content = await self._calls.run(lambda: self._vault.stream(path, at=at))
        return version, self._calls.iterate(pieces(content))

    async def list(self, prefix: str = "", *, depth: int | None = None) -> Paths:
        """Return the paths of live secrets; see `Vault.list`."""
        return await self._calls.run(lambda: self._vault.list(prefix, depth=depth))

    async def search(self, text: str) -> Paths:
        """Return the paths of live secrets that contain a text; see `Vault.search`."""
        return await self._calls.run(lambda: self._vault.search(text))

    async def history(self, path: str) -> Versions:
        """Return all versions of a secret, newest first, without their values; see `Vault.history`."""
        return await self._calls.run(lambda: self._vault.history(path))

    async def current(self, path: str) -> VersionInfo:
        """Return what is known of the current version, without its value; see `Vault.current`."""
        return await self._calls.run(lambda: self._vault.current(path))

    async def explain(self, action: str, path: str, *, principal: str | None = None) -> Explanation:
        """Return why an action is allowed or denied; see `Vault.explain`."""
        return await self._calls.run(lambda: self._vault.explain(action, path, principal=principal))

    async def resolve(self, request_id: str) -> Outcome | None:
        """Return what became of a change whose commit was ambiguous; see `Vault.resolve`."""
        return await self._calls.run(lambda: self._vault.resolve(request_id))

    # --- changing ----------------------------------------------------------------------------------------------------

    async def write(
        self,
        path: str,
        value: Plain | BinaryIO,
        *,
        expect: VersionId | None = None,
        ttl: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
        allow_lookalike: bool = False,
    ) -> VersionId:
        """Write a new version and return its number; see `Vault.write`. Cancelled, it may have been written.

        A file is read in a thread: leave it alone until this has returned, and open where it was cancelled.
        """
        load = behind(value)
        del value  # a traceback that shows locals must not show it
        return await self._calls.run(
            lambda: self._vault.write(
                path,
                load(),
                expect=expect,
                ttl=ttl,
                metadata=metadata,
                content_type=content_type,
                allow_lookalike=allow_lookalike,
            )
        )

    async def delete(self, path: str, version: VersionId | None = None) -> None:
        """Delete a secret or one of its versions; see `Vault.delete`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._vault.delete(path, version))

    async def undelete(self, path: str, version: VersionId) -> None:
        """Bring a deleted version back; see `Vault.undelete`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._vault.undelete(path, version))

    async def rollback(self, path: str, to: VersionId) -> VersionId:
        """Write the value of an old version anew; see `Vault.rollback`. Cancelled, it may have been written."""
        return await self._calls.run(lambda: self._vault.rollback(path, to))

    async def label(self, path: str, label: str, version: VersionId | None) -> None:
        """Make a label point at a version; see `Vault.label`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._vault.label(path, label, version))

    async def move(self, path: str, target: str, *, allow_lookalike: bool = False) -> None:
        """Give a secret another path; see `Vault.move`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._vault.move(path, target, allow_lookalike=allow_lookalike))

    async def destroy(self, path: str, version: VersionId) -> None:
        """Destroy a version for ever; see `Vault.destroy`. Cancelled, it may have been done."""
        await self._calls.run(lambda: self._vault.destroy(path, version))

    async def drop(
        self,
        path: str,
        value: Plain | BinaryIO,
        *,
        ttl: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> Receipt:
        """Hand a value in to a sealed scope; see `Vault.drop`. Cancelled, it may have been handed in."""
        load = behind(value)
        del value  # a traceback that shows locals must not show it
        return await self._calls.run(
            lambda: self._vault.drop(path, load(), ttl=ttl, metadata=metadata, content_type=content_type)
        )

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch]:
        """Collect changes, with the synchronous methods of `Vault`, and make them in one transaction at the end.

        An exception discards them all. Cancelled at the end, they may have been made, all of them or none; see
        `Vault.batch`.
        """
        self._calls.verify_open()
        manager = self._vault.batch()
        batch = manager.__enter__()
        try:
            yield batch
        except BaseException:
            batch.discard()
            raise
        await self._calls.run(lambda: manager.__exit__(None, None, None))

    @asynccontextmanager
    async def acting(self, principal: str, *, context: Mapping[str, object] | None = None) -> AsyncIterator[AsyncVault]:
        """Lend the vault to one request of another principal; see `Vault.acting`.

        The calls are those of this one. What is lent ends with the block: to close it does nothing.
        """
        manager = self._vault.acting(principal, context=context)
        lent = AsyncVault(await self._calls.run(manager.__enter__))
        lent._calls, lent._is_lent = self._calls, True
        end = lambda: manager.__exit__(None, None, None)  # noqa: E731 - said twice below
        try:
            yield lent
        except (asyncio.CancelledError, GeneratorExit):
            self._calls.leave(end)  # who was cancelled does not wait
            raise
        except BaseException:
            await self._calls.run(end)
            raise
        await self._calls.run(end)

    # --- anything else -----------------------------------------------------------------------------------------------

    async def call(self, use: Callable[[Vault], T]) -> T:
        """Return what a function returns that uses the vault in a thread: its administration, its log.

        Args:
            use: Gets the vault, and keeps it no longer than it runs.
        """
        return await self._calls.run(lambda: use(self._vault))

    async def close(self) -> None:
        """Take no more calls, wait for those that there are, and close the vault. May be called again.

        Raises:
            As for `Vault.close`.
        """
        if not self._is_lent:
            await self._calls.close(self._vault.close)

    async def __aenter__(self) -> Self:
        """Use it in an `async with` block."""
        self._calls.verify_open()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close it, and the vault."""
        await self.close()
