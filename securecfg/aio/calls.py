"""Calls that wait, run in threads so that no event loop does.

What becomes of a call whose task is cancelled, a time limit of the caller's included:

1. it has not begun, since as many as may be run already      it never does
2. it has begun                                               it goes on in its thread, and what it gives is dropped

A read that is left behind may be in the log although nobody got its value; a change that is left behind is made, or
fails, without anybody being told. Who cancels a change looks afterwards, as after `CommitUnknown`. A process that ends
waits for the calls that run, so that none is torn.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from securecfg.errors import UsageError, VaultClosed
from securecfg.keys.per_process import PerProcess
from securecfg.secret import behind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

T = TypeVar("T")

CALLS_AT_ONCE = 128
"""More than tasks of one program are likely to wait at once, and few enough for the threads to cost little."""

_NAME = "securecfg-aio"


class Calls:
    """The calls of one handle. May be used from several event loops, each in a thread of its own.

    Args:
        what: What the handle is called in errors.
        at_once: How many calls may run at once, from 1; more wait for one of them to end.

    Raises:
        UsageError: That is less than one.
    """

    def __init__(self, what: str, at_once: int = CALLS_AT_ONCE) -> None:
        """Start no thread yet."""
        if at_once < 1:
            message = "at least one call has to run at once"
            raise UsageError(message)
        self._what = what
        self._lock = threading.Lock()
        self._is_closed = False
        # A forked child has none of its parent's threads.
        self._pools = PerProcess(lambda: ThreadPoolExecutor(at_once, _NAME))

    def verify_open(self) -> None:
        """Refuse what comes after the end.

        Raises:
            VaultClosed: The handle was closed.
        """
        if self._is_closed:
            message = f"the {self._what} is closed"
            raise VaultClosed(message)

    async def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns, in the caller's context variables.

        Raises:
            VaultClosed: The handle was closed.
            As the call raises it.
        """
        return await asyncio.wrap_future(self._submit(call))

    def leave(self, call: Callable[[], object]) -> None:
        """Run a call that nobody waits for, after the end too. What it raises is dropped."""
        try:
            self._submit(call)
        except VaultClosed:
            threading.Thread(target=_settle, args=(Future(), call), name=_NAME).start()

    async def iterate(self, steps: Generator[T]) -> AsyncIterator[T]:
        """Yield what a generator yields, each step in a thread. It is closed when its user is done with it.

        Raises:
            As for `run`, and as the generator raises it.
        """
        lock = threading.Lock()  # a step that was left behind may still run when the generator is closed

        def step() -> Callable[[], T] | None:
            with lock:
                for item in steps:
                    return behind(item)
            return None

        def close() -> None:
            with lock:
                steps.close()

        try:
            while (load := await self.run(step)) is not None:
                yield load()
        finally:
            self.leave(close)

    async def close(self, last: Callable[[], object] | None = None) -> None:
        """Take no more calls, wait for those that there are, and make a last one. May be called again.

        Where the task is cancelled meanwhile the end comes all the same, in its thread.

        Raises:
            As the last call raises it.
        """
        with self._lock:
            self._is_closed = True
        pool = self._pools.get()

        def end() -> None:
            pool.shutdown(wait=True)
            if last is not None:
                last()

        # Not in the pool, which it waits for, and not in that of the loop, which somebody may have filled.
        done: Future[object] = Future()
        threading.Thread(target=_settle, args=(done, end), name=_NAME).start()
        await asyncio.wrap_future(done)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        context = contextvars.copy_context()
        with self._lock:
            self.verify_open()
            return self._pools.get().submit(context.run, call)


def _settle(done: Future[object], call: Callable[[], object]) -> None:
    done.set_running_or_notify_cancel()  # from here on it cannot be cancelled
    try:
        done.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
        done.set_exception(error)


def pieces(content: Iterator[T]) -> Generator[T]:
    """Return an iterator as a generator, which can be closed."""
    yield from content
