"""What systemd is told of a service (`sd_notify(3)`): one datagram for each message, and nothing where it does not ask.

Written here because the protocol is a line of text on a socket, and the packages for it are no longer kept.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Systemd:
    """Who started this process and wants to know how it is; nobody where `NOTIFY_SOCKET` is not set."""

    def __init__(self) -> None:
        """Take what the environment says of it, and of the watchdog."""
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        is_number = watchdog.isascii() and watchdog.isdecimal() and len(watchdog) <= len("1000000000000")
        self.watchdog_s = int(watchdog) / 1_000_000 if is_number and is_ours else 0.0
        """Within how long it wants a sign of life; 0 where it wants none."""

    def ready(self, status: str) -> None:
        """Say that the service does its work."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Say in words how the service is; one line, nothing secret."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """Say that the service looks at everything anew; `ready` ends that."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # Who does not listen any more is not told, and the work goes on.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(message.encode(), address)
