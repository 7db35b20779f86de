"""Vaults and backends for `asyncio`: many calls at once, cancelled ones, and what comes after the end."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import gc
import io
import logging
import os
import threading
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import securecfg
from securecfg.aio import AsyncBackend, AsyncVault, open_backend
from securecfg.aio.calls import Calls
from securecfg.backends import uri
from securecfg.backends.interface import Capabilities, Changes
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    BackendDenied,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    Unsupported,
    UsageError,
    VaultClosed,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.memory_backend import ALL, MemoryBackend, MemoryStore
from tests.backends.test_handle import raising
from tests.mounts.memory import CAPABILITIES, STORES
from tests.vault.world import ADMIN, READER, World, grant

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from securecfg.backends import Found
    from securecfg.vault import SecretVersion, Vault

CANARY = "canary-3c9e-p@ss word"
PATIENCE = Patience(20.0, (0.01,))
TASKS = 100


class Gate:
    """Holds calls back until it is opened, and knows how many have come."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self) -> None:
        self.arrived.release()
        assert self.open.wait(20)

    async def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert await asyncio.to_thread(self.arrived.acquire, timeout=20)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")
    monkeypatch.setattr("securecfg.mounts.source.PATIENCE", PATIENCE)
    STORES.clear()
    CAPABILITIES.clear()
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def vault(world: World) -> Vault:
    """A vault with a policy, in which a store is mounted at `app/corp/`."""
    from securecfg.mounts import Mount, Mounts, Rules

    made = world.create()
    grant(made)
    Mounts(made.authority).add(Mount("app/corp/", ("memory:one",), Rules(calls_per_s=0)))
    return world.open()


def backend_of(store: MemoryStore, can: Capabilities = ALL, calls_at_once: int = 128) -> AsyncBackend:
    return open_backend(MemoryBackend(store, can), patience=PATIENCE, calls_at_once=calls_at_once)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 60), debug=True)


def text_in(found: Found | SecretVersion) -> str:
    assert isinstance(found.value, Secret)
    return str(found.value.reveal())


def refuse() -> NoReturn:
    message = "the store does not allow it"
    raise BackendDenied(message)


# --- many at once -----------------------------------------------------------------------------------------------------


def test_a_hundred_reads_of_a_slow_store_are_under_way_at_once(store: MemoryStore) -> None:
    barrier = threading.Barrier(TASKS, timeout=20)

    async def main() -> None:
        async with backend_of(store) as backend:
            for number in range(TASKS):
                await backend.write(f"a/{number}", str(number))
            store.fail(barrier.wait)  # nobody goes on before all have come
            found = await asyncio.gather(*(backend.read(f"a/{number}") for number in range(TASKS)))
            assert [text_in(each) for each in found] == [str(number) for number in range(TASKS)]

    run(main)


def test_a_hundred_reads_through_a_mount_are_under_way_at_once(vault: Vault) -> None:
    for number in range(TASKS):
        vault.write(f"app/corp/{number}", str(number))
    barrier = threading.Barrier(TASKS, timeout=20)

    async def main() -> None:
        async with AsyncVault(vault) as asynchronous:
            STORES["one"].fail(barrier.wait)
            found = await asyncio.gather(*(asynchronous.read(f"app/corp/{number}") for number in range(TASKS)))
            assert [text_in(each) for each in found] == [str(number) for number in range(TASKS)]

    run(main)


def test_a_hundred_secrets_are_fetched_ahead_in_as_few_calls_as_the_store_allows(vault: Vault) -> None:
    for number in range(TASKS):
        vault.write(f"app/corp/{number}", str(number))

    async def main() -> None:
        async with AsyncVault(vault) as asynchronous:
            before = STORES["one"].asked
            paths = [f"app/corp/{number}" for number in range(TASKS)]
            assert await asynchronous.prefetch(iter(paths)) == TASKS
            assert STORES["one"].asked - before == TASKS // 10
            found = await asyncio.gather(*(asynchronous.read(path) for path in paths))
            assert [text_in(each) for each in found] == [str(number) for number in range(TASKS)]
            assert STORES["one"].asked - before == TASKS // 10
            with pytest.raises(InvalidPath):
                await asynchronous.prefetch(["/"])

    run(main)


def test_no_more_calls_run_at_once_than_were_allowed(store: MemoryStore) -> None:
    gate = Gate()

    async def main() -> None:
        async with backend_of(store, calls_at_once=2) as backend:
            for number in range(3):
                await backend.write(f"a{number}", "x")
            store.fail(gate)
            reads = [asyncio.ensure_future(backend.read(f"a{number}")) for number in range(3)]
            await gate.wait_for(2)
            assert not await asyncio.to_thread(gate.arrived.acquire, timeout=0.2)
            gate.open.set()
            assert [text_in(found) for found in await asyncio.gather(*reads)] == ["x"] * 3

    run(main)


def test_the_event_loop_goes_on_while_a_store_is_slow(store: MemoryStore) -> None:
    gate = Gate()

    async def main() -> None:
        async with backend_of(store) as backend:
            await backend.write("a", "x")
            store.fail(gate)
            read = asyncio.ensure_future(backend.read("a"))
            await gate.wait_for(1)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not read.done()
            gate.open.set()
            assert text_in(await read) == "x"

    run(main)


def test_one_handle_serves_several_event_loops(store: MemoryStore, vault: Vault) -> None:
    backend, asynchronous = backend_of(store), AsyncVault(vault)
    vault.write("app/a", "own")
    barrier = threading.Barrier(4, timeout=20)
    failures: list[BaseException] = []

    async def one(number: int) -> None:
        await backend.write(f"a/{number}", str(number))
        assert text_in(await backend.read(f"a/{number}")) == str(number)
        assert text_in(await asynchronous.read("app/a")) == "own"

    def loop(number: int) -> None:
        try:
            barrier.wait()
            asyncio.run(one(number))
        except BaseException as error:  # noqa: BLE001 - it is looked at in the thread of the test
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []

    async def last() -> None:
        assert len((await backend.list("a/")).paths) == 4
        await backend.close()
        await asynchronous.close()

    run(last)  # one more loop, after the others have ended


def test_calls_see_the_context_of_who_makes_them() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")

    async def ask(calls: Calls, name: str) -> str:
        request.set(name)
        return await calls.run(request.get)

    async def main() -> None:
        calls = Calls("test")
        assert await asyncio.gather(*(ask(calls, name) for name in "abc")) == ["a", "b", "c"]
        await calls.close()

    run(main)


def test_refuses_to_run_no_call_at_all(store: MemoryStore) -> None:
    with pytest.raises(UsageError):
        backend_of(store, calls_at_once=0)


# --- the methods ------------------------------------------------------------------------------------------------------


def test_a_backend_does_what_its_handle_does(store: MemoryStore) -> None:
    async def main() -> None:
        async with backend_of(store) as backend:
            assert (backend.name, backend.capabilities) == ("of a test", ALL)
            assert repr(backend) == "<AsyncOpenBackend('memory', 'of a test')>"
            first = await backend.write("db/main", {"user": "web"}, expect="", metadata={"owner": "pay"})
            second = await backend.write("db/main", "two", expect=first)
            assert text_in(await backend.read("db/main")) == "two"
            assert (await backend.read("db/main", first)).metadata == {"owner": "pay"}
            assert [version.id for version in await backend.versions("db/main")] == [second, first]
            assert (await backend.list("db/")).paths == ["db/main"]
            assert set(await backend.read_many(path for path in ("db/main", "none"))) == {"db/main"}
            await backend.label("db/main", "stable", first)
            assert (await backend.read("db/main", "stable")).version.id == first
            await backend.delete("db/main")
            with pytest.raises(SecretNotFound):
                await backend.read("db/main")
            await backend.recover("db/main")
            assert text_in(await backend.read("db/main")) == "two"

    run(main)


def test_a_vault_does_what_a_vault_does(vault: Vault) -> None:
    async def main() -> None:
        async with AsyncVault(vault) as own:
            assert (own.principal, repr(own)) == (ADMIN, f"<AsyncVault open as {ADMIN}>")
            assert await own.write("app/a", b"1", ttl=timedelta(days=1), metadata={"owner": "web"}) == 1
            assert await own.write("app/a", {"user": Secret("x")}, expect=1) == 2
            assert (await own.read("app/a", at=1)).value.reveal() == b"1"  # type: ignore[union-attr]  # a value without fields
            first, none = await own.read_many([("app/a", 1), ("app/none", None)])
            assert not isinstance(first, SecurecfgError)
            assert isinstance(none, SecretNotFound)
            assert [info.version for info in await own.history("app/a")] == [2, 1]
            assert (await own.current("app/a")).version == 2
            assert await own.list(depth=1) == ["app/"]
            assert await own.search("APP") == ["app/a"]
            assert await own.rollback("app/a", 1) == 3
            await own.label("app/a", "stable", 1)
            await own.delete("app/a")
            await own.undelete("app/a", 3)
            await own.move("app/a", "app/b")
            await own.destroy("app/b", 2)
            assert (await own.explain("read", "app/b")).decision.allowed
            await own.write("app/doc", "x: 1", content_type="application/yaml")
            assert await own.read_document("app/doc") == (b"x: 1", "application/yaml")
            assert await own.resolve("0" * 32) is None
            assert "admin" in await own.call(lambda inner: inner.administration.roles())
            with pytest.raises(SecurecfgError):
                await own.drop("app/a", "x")

    run(main)


def test_a_large_value_comes_in_pieces(vault: Vault) -> None:
    content = bytes(range(256)) * 8_000

    async def main() -> None:
        async with AsyncVault(vault) as own:
            await own.write("app/large", io.BytesIO(content))
            version, pieces = await own.stream("app/large")
            assert version.version == 1
            assert b"".join([piece async for piece in pieces]) == content

    run(main)


def test_a_batch_is_made_at_its_end_or_not_at_all(vault: Vault) -> None:
    async def main() -> None:
        async with AsyncVault(vault) as own:
            async with own.batch() as batch:
                batch.write("app/a", "1")
                batch.write("app/b", "2")
                assert await own.list() == []
            assert await own.list() == ["app/a", "app/b"]
            assert batch.results == [1, 1]
            with pytest.raises(KeyError):  # noqa: PT012 - the block is what is tested
                async with own.batch() as batch:
                    batch.delete("app/a")
                    raise KeyError
            assert await own.list() == ["app/a", "app/b"]
            with pytest.raises(VaultClosed):
                batch.delete("app/b")

    run(main)


def test_who_acts_for_somebody_may_what_they_may_and_ends_with_the_block(vault: Vault) -> None:
    async def main() -> None:
        async with AsyncVault(vault) as own:
            await own.write("app/a", "1")
            async with own.acting(READER) as reader:
                assert reader.principal == READER
                assert text_in(await reader.read("app/a")) == "1"
                with pytest.raises(AccessDenied):
                    await reader.write("app/a", "2")
                await reader.close()
                assert text_in(await own.read("app/a")) == "1"
            with pytest.raises(KeyError):
                async with own.acting(READER):
                    raise KeyError
            assert text_in(await own.read("app/a")) == "1"

    run(main)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_the_handle(store: MemoryStore) -> None:
    async def main() -> None:
        async with backend_of(store, ALL._replace(labels=False)) as backend:
            with pytest.raises(InvalidPath):
                await backend.read("/a")
            with pytest.raises(UsageError):
                await backend.write("a", 1)  # type: ignore[arg-type]  # what no value is
            await backend.write("a", "x")
            with pytest.raises(AlreadyExists):
                await backend.write("a", "x", expect="")
            store.fail(refuse)
            results = await asyncio.gather(*(backend.read("a") for _ in range(10)), return_exceptions=True)
            assert {type(result) for result in results} == {BackendDenied}

    run(main)


@pytest.mark.parametrize("value", [CANARY, CANARY.encode(), bytearray(CANARY.encode()), {"a": CANARY}, [CANARY]])
def test_no_traceback_that_shows_locals_shows_a_value(vault: Vault, store: MemoryStore, value: object) -> None:
    store.fail(refuse)

    def shown(error: BaseException) -> str:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
        package = str(Path(securecfg.__file__).parent)
        lines = [
            f"{name}={text}"
            for frame in frames.stack
            if frame.filename.startswith(package)
            for name, text in (frame.locals or {}).items()
        ]
        return "\n".join([str(error), *lines])

    async def main() -> None:
        async with AsyncVault(vault) as own, backend_of(store) as backend:
            with pytest.raises(SecurecfgError) as one:
                await backend.write("a", value)  # type: ignore[arg-type]  # one of them is no value
            with pytest.raises(SecurecfgError) as two:
                await own.write("app/a", value, expect=7)  # type: ignore[arg-type]  # the same
            with pytest.raises(SecurecfgError) as three:
                await own.drop("app/a", value)  # type: ignore[arg-type]  # the same
            STORES["one"].fail(refuse)
            with pytest.raises(SecurecfgError) as four:
                await own.write("app/corp/a", value)  # type: ignore[arg-type]  # the same
            for failure in (one, two, three, four):
                assert CANARY not in shown(failure.value)

    run(main)


def test_a_piece_that_was_handed_out_is_in_no_later_traceback(vault: Vault) -> None:
    async def main() -> None:
        async with AsyncVault(vault) as own:
            calls = own._calls

            def steps() -> Iterator[str]:
                yield CANARY
                refuse()

            from securecfg.aio.calls import pieces

            with pytest.raises(BackendDenied) as failure:
                async for _ in calls.iterate(pieces(steps())):
                    pass
            frames = traceback.TracebackException.from_exception(failure.value, capture_locals=True)
            inner = [frame for frame in frames.stack if frame.filename.startswith(str(Path(securecfg.__file__).parent))]
            assert inner != []
            assert all(CANARY not in text for frame in inner for text in (frame.locals or {}).values())

    run(main)


def test_what_the_caller_wipes_meanwhile_is_written_as_it_was(store: MemoryStore) -> None:
    gate = Gate()

    async def main() -> None:
        async with backend_of(store, calls_at_once=1) as backend:
            await backend.write("a", "x")
            store.fail_next(gate)
            first = asyncio.ensure_future(backend.read("a"))
            await gate.wait_for(1)
            value = bytearray(b"secret")
            fields = {"user": "web"}
            writes = [
                asyncio.ensure_future(backend.write("b", value)),
                asyncio.ensure_future(backend.write("c", fields)),
            ]
            await asyncio.sleep(0)  # they wait for the first now
            value[:] = bytes(len(value))
            fields.clear()
            gate.open.set()
            await asyncio.gather(first, *writes)
            assert (await backend.read("b")).value.reveal() == b"secret"  # type: ignore[union-attr]  # a value without fields
            assert set((await backend.read("c")).value) == {"user"}

    run(main)


# --- cancellation -----------------------------------------------------------------------------------------------------


def test_a_call_that_has_begun_goes_on_without_its_task(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    async def main() -> None:
        async with backend_of(store) as backend:
            store.fail_next(gate)
            write = asyncio.ensure_future(backend.write("a", "made all the same"))
            await gate.wait_for(1)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            assert "a" not in store.secrets
            gate.open.set()
        assert "a" in store.secrets  # the end waits for it

    with caplog.at_level(logging.WARNING):
        run(main)
        gc.collect()
    assert [record for record in caplog.records if record.name.startswith(("asyncio", "concurrent"))] == []


def test_a_call_that_has_not_begun_never_does(store: MemoryStore) -> None:
    gate = Gate()

    async def main() -> None:
        async with backend_of(store, calls_at_once=1) as backend:
            store.fail_next(gate)
            first = asyncio.ensure_future(backend.write("first", "x"))
            await gate.wait_for(1)
            second = asyncio.ensure_future(backend.write("second", "x"))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.open.set()
            await first
            assert (await backend.list()).paths == ["first"]

    run(main)


def test_a_time_limit_of_the_caller_ends_the_wait_and_not_the_call(store: MemoryStore) -> None:
    gate = Gate()

    async def main() -> None:
        async with backend_of(store) as backend:
            await backend.write("a", "x")
            store.fail_next(gate)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(backend.delete("a"), 0.1)
            await gate.wait_for(1)
            gate.open.set()
        assert store.secrets["a"].is_deleted

    run(main)


def test_the_failure_of_a_call_that_was_left_behind_disturbs_nobody(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    async def main() -> None:
        async with backend_of(store) as backend:
            store.fail_next(gate)
            store.fail_late(refuse)
            write = asyncio.ensure_future(backend.write("a", CANARY))
            await gate.wait_for(1)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            gate.open.set()
            await asyncio.sleep(0.05)
            assert (await backend.read("a")).version.id

    with caplog.at_level(logging.INFO):
        run(main)
        gc.collect()
    assert "never retrieved" not in caplog.text
    assert CANARY not in caplog.text


def test_a_loop_that_ends_with_calls_under_way_leaves_them_behind(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    backend = backend_of(store)

    async def main() -> None:
        store.fail_next(gate)
        task = asyncio.ensure_future(backend.write("a", "x"))
        await gate.wait_for(1)
        assert not task.done()

    with caplog.at_level(logging.WARNING):
        run(main)  # which cancels what is left, and closes the loop
        gate.open.set()
        run(backend.close)
        gc.collect()
    assert "a" in store.secrets
    assert [record for record in caplog.records if record.name.startswith(("asyncio", "concurrent"))] == []


def test_a_cancelled_batch_is_made_whole_or_not_at_all(vault: Vault) -> None:
    async def collect(own: AsyncVault, reached: asyncio.Event) -> None:
        async with own.batch() as batch:
            batch.write("app/a", "1")
            reached.set()
            await asyncio.sleep(30)

    async def main() -> None:
        async with AsyncVault(vault) as own:
            reached = asyncio.Event()
            task = asyncio.ensure_future(collect(own, reached))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await own.list() == []

    run(main)


def test_who_is_cancelled_while_acting_leaves_the_vault_as_it_was(vault: Vault) -> None:
    async def act(own: AsyncVault, reached: asyncio.Event) -> None:
        async with own.acting(READER):
            reached.set()
            await asyncio.sleep(30)

    async def main() -> None:
        async with AsyncVault(vault) as own:
            await own.write("app/a", "1")
            reached = asyncio.Event()
            task = asyncio.ensure_future(act(own, reached))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert text_in(await own.read("app/a")) == "1"

    run(main)


# --- watching ---------------------------------------------------------------------------------------------------------


def test_changes_are_iterated_over(store: MemoryStore) -> None:
    async def main() -> None:
        async with backend_of(store) as backend:
            watching = backend.watch("a/")
            assert await anext(watching) == Changes((), is_whole=True)
            await backend.write("b/other", "x")
            await backend.write("a/one", "x")
            seen: list[str] = []
            async for changes in watching:
                seen += changes.paths
                if seen:
                    break
            assert seen == ["a/one"]
            await watching.aclose()  # type: ignore[attr-defined]  # a generator

    run(main)


def test_a_watch_ends_with_its_task(store: MemoryStore) -> None:
    async def follow(backend: AsyncBackend, begun: asyncio.Event) -> None:
        async for _ in backend.watch():
            begun.set()

    async def main() -> None:
        backend = backend_of(store)
        begun = asyncio.Event()
        task = asyncio.ensure_future(follow(backend, begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.close()
        asked = store.asked
        await asyncio.sleep(0.2)
        assert store.asked == asked

    run(main)


def test_a_store_that_tells_nothing_says_so_at_once(store: MemoryStore) -> None:
    class Silent(MemoryBackend):
        watch = None  # type: ignore[assignment]  # it does not have it

    async def main() -> None:
        async with open_backend(Silent(store)) as backend:
            with pytest.raises(Unsupported):
                backend.watch()
            with pytest.raises(InvalidPath):
                backend_of(store).watch("a")

    run(main)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_nothing_is_called_after_the_end(store: MemoryStore, vault: Vault) -> None:
    async def main() -> None:
        async with backend_of(store) as backend:
            pass
        asked = store.asked
        with pytest.raises(VaultClosed):
            await backend.read("a")
        with pytest.raises(VaultClosed):
            backend.watch()
        with pytest.raises(VaultClosed):
            async with backend:
                pass
        await backend.close()
        assert store.asked == asked
        own = AsyncVault(vault)
        await own.close()
        await own.close()
        with pytest.raises(VaultClosed):
            vault.read("app/a")
        with pytest.raises(VaultClosed):
            await own.read("app/a")
        with pytest.raises(VaultClosed):
            async with own.batch():
                pass

    run(main)


def test_the_end_waits_for_the_calls_that_there_are(vault: Vault) -> None:
    vault.write("app/corp/a", "x")
    gate = Gate()

    async def main() -> None:
        own = AsyncVault(vault)
        STORES["one"].fail_next(gate)
        read = asyncio.ensure_future(own.read("app/corp/a"))
        await gate.wait_for(1)
        end = asyncio.ensure_future(own.close())
        await asyncio.sleep(0.1)
        assert not end.done()
        gate.open.set()
        await end
        assert text_in(await read) == "x"

    run(main)


def test_an_end_that_is_cancelled_comes_all_the_same(vault: Vault) -> None:
    vault.write("app/corp/a", "x")
    gate = Gate()

    async def main() -> None:
        own = AsyncVault(vault)
        STORES["one"].fail_next(gate)
        read = asyncio.ensure_future(own.read("app/corp/a"))
        await gate.wait_for(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(own.close(), 0.1)
        gate.open.set()
        assert text_in(await read) == "x"
        await own.close()
        assert vault.opened.is_closed

    run(main)


def test_what_fails_at_the_end_is_told(store: MemoryStore) -> None:
    async def main() -> None:
        calls = Calls("test")
        with pytest.raises(BackendDenied):
            await calls.close(raising(BackendDenied("no")))

    run(main)


def test_a_forked_child_has_threads_of_its_own(store: MemoryStore) -> None:
    backend = backend_of(store)

    async def main() -> None:
        await backend.write("a", "x")

    run(main)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(asyncio.wait_for(backend.write("a", "y"), 20))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    run(backend.close)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_nothing_but_this_package_knows_of_asyncio() -> None:
    package = Path(securecfg.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "asyncio" for name in names):
                found.add(path.relative_to(package).parts[0])
    assert found == {"aio"}
