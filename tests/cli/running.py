"""What a call of the program comes to, and a person at a pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

CANARY = "cAnArY-7d1f-hunter2"
ROOT = Path(__file__).resolve().parent.parent.parent

# Gives the child the pseudo-terminal as its own, so that it finds it as /dev/tty.
_TAKE_TERMINAL = (
    "import fcntl,os,sys,termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Outcome:
    """What one call of the program came to."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the program printed
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> str:
        return str(self.json["error"]["code"])


class Cli(Protocol):
    def __call__(self, *arguments: str, stdin: str | bytes = "", reveals: bool = False) -> Outcome: ...


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "securecfg", *arguments]


def call(*arguments: str, stdin: bytes = b"") -> Outcome:
    """Run the program in a process of its own."""
    done = subprocess.run(command(*arguments), input=stdin, capture_output=True, timeout=60, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr.decode())


class Terminal:
    """The program on a terminal, and a person who types."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self._own, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        self.shown = ""
        self.raw = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command(*arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            # The terminal says how wide it is, not that of whoever runs the tests.
            env={name: text for name, text in os.environ.items() if name not in {"COLUMNS", "LINES"}},
            start_new_session=True,
        )
        os.close(theirs)

    def expect(self, text: str) -> None:
        """Wait until a text is shown."""
        seen = len(self.shown)
        end = time.monotonic() + 30
        while text not in self.shown[seen:] and self._read(end):
            pass
        assert text in self.shown[seen:], self.shown

    def type(self, text: str) -> None:
        os.write(self._own, text.encode() + b"\n")

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal once the program waits.

        One that comes between Python's last look for signals and the call that waits is seen only after that call.
        """
        end = time.monotonic() + 30
        while not self._waits():
            assert time.monotonic() < end, "the program does not wait for anything"
            time.sleep(0.01)
        os.kill(self._process.pid, number)

    def _waits(self) -> bool:
        # What follows the name, which ends with the last bracket, is the state of the main thread: `S` for asleep.
        return Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].startswith("S")

    def settle(self) -> None:
        """Read until nothing more is shown for a second."""
        while self._read(time.monotonic() + 1):
            pass

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        end = time.monotonic() + 30
        while self._read(end):
            pass
        os.close(self._own)
        return self._process.wait(timeout=30)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._own], [], [], max(0.0, end - time.monotonic()))
        try:
            piece = os.read(self._own, 65536) if ready else b""
        except OSError:
            piece = b""
        self.raw += piece
        self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", piece.decode(errors="replace"))
        return bool(piece)
