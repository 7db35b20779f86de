"""The daemon as a process of its own, started by the command line as a service manager would."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from tests.cli.running import ROOT, command
from tests.rotation.unprivileged import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PATIENCE_S = 30.0


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


class DaemonProcess:
    """Started with `with`, killed at its end unless it has ended by then.

    Args:
        arguments: Those of `securecfg rotation daemon`, besides where it listens.
        environment: Of the process.
        prefix: What starts it.

    Attributes:
        port: Where it answers.
        lines: What it has written to standard error so far.
        out: What it has written to standard output, once it has ended.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.lines: list[str] = []
        self.out = ""
        place = f"127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [*prefix, *command("rotation", "daemon", "--listen", place, *arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        self.pid = self._process.pid
        # A pipe, not a file: a limit on the size of files is not to concern what is logged.
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines.extend(self._process.stderr)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code, once it has ended."""
        code = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        if self._process.stdout is not None and not self._process.stdout.closed:
            self.out = self._process.stdout.read()
            self._process.stdout.close()
        if self._process.stderr is not None:
            self._process.stderr.close()
        return code

    def stop(self) -> int:
        """Ask for the end as a service manager does, and return the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def ask(self, path: str) -> tuple[int, str]:
        """Return how it answers over HTTP; 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            assert self._process.poll() is None, self.lines
            return 0, ""
        finally:
            connection.close()

    def until_ready(self) -> None:
        until(lambda: self.ask("/readyz") == (200, "ok\n"))

    def records(self) -> list[dict[str, Any]]:
        """Return what it has logged, each line of which is JSON."""
        return [json.loads(line) for line in list(self.lines)]

    def events(self) -> list[str]:
        return [str(record["event"]) for record in self.records()]
