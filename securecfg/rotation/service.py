"""A daemon as a service: signals, a sign of life for who started it, and the end."""

from __future__ import annotations

import signal
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from securecfg.errors import SecurecfgError

if TYPE_CHECKING:
    from securecfg.rotation.daemon import Daemon
    from securecfg.rotation.systemd import Systemd

_ASKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOKED_AT_S = 1.0
_END_LOOKED_AT_S = 0.05


class Interrupted(Exception):
    """Somebody asked for the end a second time, and does not want to wait for steps that are under way."""


def serve(daemon: Daemon, manager: Systemd) -> None:
    """Run a daemon until SIGTERM or SIGINT; SIGHUP lets it look at everything anew. To be called by the main thread.

    Raises:
        Interrupted: There was a second SIGTERM or SIGINT.
        SecurecfgError: As for `Daemon.run`.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except BaseException as error:  # noqa: BLE001 - it is raised by whoever waits for the thread
            failures.append(error)

    # A handler may come while a lock is held, so that it does nothing but put its signal into a queue that takes that.
    asked: SimpleQueue[int] = SimpleQueue()
    former = {each: signal.signal(each, lambda number, _: asked.put(number)) for each in _ASKED}
    try:
        thread = threading.Thread(target=run, name="securecfg-rotation-daemon", daemon=True)
        thread.start()
        _attend(daemon, manager, thread, asked)
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)
    for error in failures:
        raise error.with_traceback(None) if isinstance(error, SecurecfgError) else error


def _attend(daemon: Daemon, manager: Systemd, thread: threading.Thread, asked: SimpleQueue[int]) -> None:
    pause_s = min(_LOOKED_AT_S, manager.watchdog_s / 3) if manager.watchdog_s else _LOOKED_AT_S
    status, is_stopping = "", False
    while thread.is_alive():
        health = daemon.health()
        if health.is_alive and manager.watchdog_s:
            manager.alive()
        said = _in_words(health.reason, sum(health.rotations.values()), health.working)
        if said != status and not is_stopping:
            status = said
            (manager.ready if health.is_ready else manager.status)(said)
        try:
            received = asked.get(timeout=_END_LOOKED_AT_S if is_stopping else pause_s)
        except Empty:
            continue
        if received == signal.SIGHUP:
            if health.is_ready:
                # Only `ready` ends that, which somebody who waits for the vault does not say.
                manager.reloading()
                status = ""
            daemon.reload()
        elif is_stopping:
            raise Interrupted
        else:
            is_stopping = True
            manager.stopping()
            daemon.stop()


def _in_words(reason: str, count: int, working: int) -> str:
    return f"waiting: {reason}" if reason else f"{count} rotations, {working} under way"
