"""Programs that a backend asks instead of a server: the command lines of password managers.

1. where it is   found on the PATH, or where the URI says; without a shell
2. what it sees  arguments, which hold no secret; named variables of this process and no others; nothing to read
3. how long      until the time of the call is up: it is killed then, with what it has started
4. how much      up to a bound
5. what it says  is for the backend to understand, and never part of an error
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from shutil import which
from typing import TYPE_CHECKING, Any

from securecfg.errors import BackendUnavailable, ExtraMissing, InvalidBackendUri

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import IO

CALL_S = 25.0
"""For all that a backend runs for one call; less than what a handle waits."""
OUTPUT_BYTES_MAX = 64 << 20
COMPLAINT_BYTES_MAX = 16 << 10
"""How much of what a program writes to standard error is looked at; the rest is dropped."""

SURROUNDINGS = (
    # Who it runs for, and where that user's settings and agents are.
    *("HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL"),
    *("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
    # How it gets to its server, and whom it trusts.
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"),
)
"""The variables that every such program gets. None of them loads code."""

_VARIABLE = re.compile(r"[A-Za-z_]\w{0,127}", re.ASCII)
_CHUNK_BYTES = 1 << 16
_LOOK_S = 0.1


class Output:
    """What a program printed before it ended; its repr shows nothing of it."""

    def __init__(self, code: int, printed: bytes, complaint: str) -> None:
        """Keep it.

        Args:
            code: What it exited with, negative for a signal.
            printed: What it wrote to standard output.
            complaint: What it wrote to standard error, up to a bound.
        """
        self.code, self.printed, self.complaint = code, printed, complaint

    def parse(self) -> Any:  # noqa: ANN401 - JSON
        """Return what it printed, as JSON.

        Raises:
            ValueError: It is none; the error does not hold what was printed.
        """
        with suppress(ValueError, RecursionError):
            return json.loads(self.printed)
        message = "no JSON"
        raise ValueError(message)

    def __repr__(self) -> str:
        """Show how it ended."""
        return f"Output({self.code})"


class Deadline:
    """Until when a call has to be over, however many programs it runs."""

    def __init__(self, seconds: float = CALL_S) -> None:
        """Begin now."""
        self.seconds = seconds
        self._until = time.monotonic() + seconds

    def left_s(self) -> float:
        """Return how much time is left, at least zero."""
        return max(self._until - time.monotonic(), 0.0)


class Program:
    """A program on this machine.

    Args:
        name: What it is called.
        place: Its absolute path, or an empty text to find it on the PATH.
        hint: Where to get it.
    """

    def __init__(self, name: str, place: str, hint: str) -> None:
        """Look for nothing yet."""
        self.name = name
        self._place, self._hint = place, hint

    def run(self, arguments: Sequence[str], variables: Mapping[str, str], deadline: Deadline) -> Output:
        """Return what it prints when it is run with these arguments and variables, and a PATH of absolute folders.

        It runs in the folder `/` and in a process group of its own, but in this session: a password manager that asks
        a person for leave once in each terminal does not ask each time.

        Raises:
            ExtraMissing: It is not there.
            BackendUnavailable: It cannot be started, does not end in time, or prints more than any answer.
        """
        folders = os.pathsep.join(filter(os.path.isabs, os.environ.get("PATH", os.defpath).split(os.pathsep)))
        found = which(self._place or self.name, path=folders)
        if found is None:
            message = f"the program `{self._place or self.name}` is not there, or cannot be run"
            raise ExtraMissing(message, hint=self._hint)
        try:
            process = subprocess.Popen(
                [found, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**variables, "PATH": folders},
                cwd="/",
                process_group=0,
            )
        except OSError as error:
            message = f"`{self.name}` cannot be started: {error.strerror}"
            raise BackendUnavailable(message, hint="try again later") from None
        with process:
            try:
                output = _collect(process, deadline)
            finally:
                if process.returncode is None:  # until it is waited for, its number is nobody else's
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        if output is None:
            message = f"`{self.name}` does not end within {deadline.seconds:g} s, or prints without end"
            raise BackendUnavailable(message, hint="try again later; does it wait for somebody to unlock it?")
        return output


def variables(names: Collection[str], pattern: re.Pattern[str] | None = None) -> dict[str, str]:
    """Return those variables of this process that have one of the names, or all of whose name fits the pattern."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or (pattern is not None and pattern.fullmatch(name))
    }


def parse_place(scheme: str, options: Mapping[str, str]) -> str:
    """Return the absolute path of a program that the options of a URI name, empty where they name none.

    Raises:
        InvalidBackendUri: It is not absolute.
    """
    place = options.get("program", "")
    if "program" in options and not (place.startswith("/") and place.isprintable()):
        message = f"the `program` of a `{scheme}:` URI is an absolute path"
        raise InvalidBackendUri(message, hint="without it the program is found on the PATH")
    return place


def parse_shown(scheme: str, options: Mapping[str, str]) -> tuple[str, str]:
    """Return the file and the variable that the options of a URI name for what a program logs in with; one, or none.

    Raises:
        InvalidBackendUri: They name both, or no variable.
    """
    file, variable = options.get("file"), options.get("env")
    if file == "" or (variable is not None and (file is not None or not _VARIABLE.fullmatch(variable))):
        # What was given is not shown: people put tokens there all the same.
        message = f"a `{scheme}:` URI names a `file` or the `env` variable with what to log in with"
        raise InvalidBackendUri(message, hint="one of both, or none; see the backend's page")
    return file or "", variable or ""


def _collect(process: subprocess.Popen[bytes], deadline: Deadline) -> Output | None:
    """Return what a program prints until it ends, or None where it is not left to go on."""
    printed, complaint = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        _watch(selector, process.stdout, printed)
        _watch(selector, process.stderr, complaint)
        while selector.get_map():
            has_ended = process.poll() is not None  # before it is looked whether there is more
            ready = selector.select(0 if has_ended else min(_LOOK_S, deadline.left_s()))
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK_BYTES)
                key.data.extend(chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
            del complaint[COMPLAINT_BYTES_MAX:]
            if has_ended and not ready:
                break  # what it left behind may hold its output open for a day
            if len(printed) > OUTPUT_BYTES_MAX or not deadline.left_s():
                return None
    try:
        code = process.wait(deadline.left_s())
    except subprocess.TimeoutExpired:
        return None
    return Output(code, bytes(printed), complaint.decode(errors="replace"))


def _watch(selector: selectors.BaseSelector, pipe: IO[bytes] | None, kept: bytearray) -> None:
    if pipe is not None:
        selector.register(pipe, selectors.EVENT_READ, kept)
