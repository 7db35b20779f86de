"""A D-Bus session of its own with an unlocked keyring, as a desktop has one."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TIMEOUT_S = 30
_SERVICE = "org.freedesktop.secrets"


@contextmanager
def unlocked_keyring(program: Callable[[str], str], home: Path) -> Iterator[dict[str, str]]:
    """Start a bus and gnome-keyring; yields the variables with which programs find them.

    Args:
        program: Returns the path of a program.
        home: The home directory, whose keyring it is.
    """
    bus, daemon, send = program("dbus-daemon"), program("gnome-keyring-daemon"), program("dbus-send")
    with ExitStack() as stack:
        address = _start(stack, [bus, "--session", "--nofork", "--print-address"], b"", read_line=True)
        variables = {"DBUS_SESSION_BUS_ADDRESS": address}
        command = [daemon, "--foreground", "--unlock", "--components=secrets", f"--control-directory={home}/run"]
        _start(stack, ["env", f"DBUS_SESSION_BUS_ADDRESS={address}", *command], b"canary")
        ask = [send, f"--bus={address}", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
        end = time.monotonic() + _TIMEOUT_S
        while b"boolean true" not in _output([*ask, "org.freedesktop.DBus.NameHasOwner", f"string:{_SERVICE}"]):
            assert time.monotonic() < end, "gnome-keyring did not start"
            time.sleep(0.05)
        yield variables


def _start(stack: ExitStack, command: list[str], stdin: bytes, *, read_line: bool = False) -> str:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if read_line else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.enter_context(process)
    stack.callback(process.terminate)
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    return process.stdout.readline().decode().strip() if process.stdout is not None else ""


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False).stdout
