"""Calls into PKCS#11 modules: one at a time, and none is waited for without end.

A module is told that one thread at a time calls it, so all calls are made under one lock. Each is made in a thread of
its own, since nothing but the module ends a call: where the time is up the thread is left behind, its module is not
called again before it has answered, and other modules go on under another lock.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from securecfg.errors import KeyProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LOOK_S = 0.05
_GLANCE_S = 0.0005
_ENDING_MAX = 64


class Turns:
    """Whose turn it is to call a module, in this process.

    Args:
        forget: Called with the path of a module that has answered after all, in turn: its sessions are not used again.
    """

    def __init__(self, forget: Callable[[str], None]) -> None:
        """Let nobody wait yet."""
        self._forget = forget
        self._lock = threading.Lock()
        self._mutex = threading.Lock()
        self._silent: set[str] = set()
        self._lost: set[str] = set()
        self._calling: str | None = None
        self._ending: list[int] = []  # the threads whose calls are over, by the system's numbers
        self._is_held_for_fork = False

    def call(self, path: str, work: Callable[[], T], timeout_s: float) -> T:
        """Return what a call into a module returns.

        Args:
            path: The module's.
            work: Calls it.
            timeout_s: How long to wait, for the turn and for the answer.

        Raises:
            KeyProviderUnavailable: It does not answer in time, or has not answered an earlier call yet.
        """
        self._refuse_silent(path)
        flight: Future[T] = Future()
        call = _Call(path)
        threading.Thread(target=self._run, args=(call, flight, work), name="securecfg-token", daemon=True).start()
        try:
            return flight.result(timeout_s)
        except TimeoutError:
            if flight.done():  # it is the call's own
                raise
            self._leave(call)
        except BaseException:
            # An interrupt: nobody waits for the answer any more.
            if not flight.done():
                self._leave(call)
            raise
        message = f"the PKCS#11 module `{path}` gave no answer within {round(timeout_s, 1):g} s"
        raise KeyProviderUnavailable(message, hint="it is not asked again in this process before it has answered")

    def _refuse_silent(self, path: str) -> None:
        with self._mutex:
            is_silent, is_lost = path in self._silent, path in self._lost
        if is_lost:
            message = f"this process was forked while the PKCS#11 module `{path}` was at work"
            raise KeyProviderUnavailable(message, hint="start a new process instead, for example with `spawn`")
        if is_silent:
            message = f"the PKCS#11 module `{path}` has not answered an earlier call yet"
            raise KeyProviderUnavailable(message, hint="look at the token, or at the network between")

    def _run(self, call: _Call, flight: Future[T], work: Callable[[], T]) -> None:
        lock = self._enter(call)
        if lock is None:
            return
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            self._end(call, lock)
            flight.set_exception(error)
        else:
            self._end(call, lock)
            flight.set_result(answer)

    def _enter(self, call: _Call) -> threading.Lock | None:
        """Wait for the turn; return the lock that is held, None where nobody waits for the answer any more."""
        while True:
            lock = self._lock
            if not lock.acquire(timeout=_LOOK_S):
                if call.is_left:
                    return None
                continue
            with self._mutex:
                if lock is self._lock and not call.is_left:
                    call.has_begun, self._calling = True, call.path
                    return lock
            lock.release()
            if call.is_left:
                return None

    def _end(self, call: _Call, lock: threading.Lock) -> None:
        with self._mutex:
            if len(self._ending) >= _ENDING_MAX:
                self._ending = [each for each in self._ending if _is_there(each)]
            self._ending.append(threading.get_native_id())
            call.has_ended = True
            if not call.is_left:
                self._calling = None
                lock.release()
                return
        lock.release()
        # It has answered after all. What the call left behind in the session nobody knows.
        turn = self._enter(cleaning := _Call(call.path))
        if turn is not None:
            try:
                self._forget(call.path)
            finally:
                self._end(cleaning, turn)
        with self._mutex:
            self._silent.discard(call.path)

    def _leave(self, call: _Call) -> None:
        """Wait for a call no longer; where it has begun, let others go on without its module."""
        with self._mutex:
            call.is_left = True
            if call.has_begun and not call.has_ended:
                self._silent.add(call.path)
                self._lock, self._calling = threading.Lock(), None

    # --- forks --------------------------------------------------------------------------------------------------------

    def hold(self, timeout_s: float) -> None:
        """Before a fork, wait until no module is called: a child that is born in the middle would wait for ever.

        So it would where a thread that made a call is just ending: OpenSSL, which modules use, holds a lock then.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            lock = self._lock
            if lock.acquire(timeout=_LOOK_S):
                if lock is self._lock:
                    self._is_held_for_fork = True
                    while any(map(_is_there, self._ending)) and time.monotonic() < until:
                        time.sleep(_GLANCE_S)
                    self._ending.clear()
                    return
                lock.release()

    def release(self) -> None:
        """After a fork, let the parent go on."""
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._lock.release()

    def begin_in_child(self) -> None:
        """After a fork, begin anew in the child, without the modules that were at work."""
        self._lost = {*self._lost, *self._silent, *({self._calling} if self._calling else ())}
        self._lock, self._mutex = threading.Lock(), threading.Lock()
        self._silent, self._calling, self._is_held_for_fork = set(), None, False
        self._ending = []


def _is_there(thread: int) -> bool:
    """Return whether a thread is there yet; Python's own word for that comes before what libraries do at its end."""
    return Path(f"/proc/self/task/{thread}").exists()


class _Call:
    """A call into a module: under which path, and what became of it."""

    __slots__ = ("has_begun", "has_ended", "is_left", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.has_begun = self.has_ended = self.is_left = False
