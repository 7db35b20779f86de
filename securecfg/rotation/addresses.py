"""Where a target is: names of machines, looked up in time."""

from __future__ import annotations

import socket
import stat
import threading
import time
from ipaddress import ip_address
from pathlib import Path
from queue import Empty, SimpleQueue

from securecfg.addresses import is_this_machine
from securecfg.errors import InvalidRotation, TargetUnavailable
from securecfg.rotation.deadline import left_of, shares

_HOST_LENGTH_MAX = 253
_AUTHORITIES_BYTES_MAX = 1 << 24


def verify_host(host: str) -> None:
    """Verify that a text is the name or the address of one machine, or the path of a Unix socket.

    Raises:
        InvalidRotation: It is neither.
    """
    is_name = host.isascii() and host.isprintable() and not set(host) & set(" ,'\"\\/@?#") and host[:1] not in {"", "-"}
    is_path = host.startswith("/") and "\0" not in host and host.isprintable()
    if len(host) > _HOST_LENGTH_MAX or not (is_name or is_path):
        message = "a `host` is the name or address of one machine, or begins with `/` and is a Unix socket"
        raise InvalidRotation(message)


def is_local(host: str) -> bool:
    """Return whether what is sent to a host stays on this machine."""
    if host.startswith("/") or is_this_machine(host):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_readable(file: str) -> bool:
    """Return whether a file is one that can be read to its end: a device or a pipe has none, and no limit in time."""
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size <= _AUTHORITIES_BYTES_MAX


def find_addresses(host: str, port: int, until: float) -> tuple[str, ...]:
    """Return the addresses of a machine, in the order in which they are tried.

    The system's own lookup has no limit in time, so it is left behind in its thread where it takes too long.

    Args:
        host: Its name or address.
        port: What is called there.
        until: When to give up, by `time.monotonic`.

    Raises:
        TargetUnavailable: There are none, or nobody says so in time.
    """
    answers: SimpleQueue[tuple[str, ...]] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answers.put(())
        else:
            answers.put(tuple(dict.fromkeys(str(each[4][0]) for each in found)))

    threading.Thread(target=ask, name="rotation-lookup", daemon=True).start()
    try:
        addresses = answers.get(timeout=max(0.0, until - time.monotonic()))
    except Empty:
        addresses = ()
    if not addresses:
        message = f"no address of `{host}` was found"
        raise TargetUnavailable(message)
    return addresses


def open_line(host: str, port: int, until: float) -> socket.socket:
    """Return a connection to a machine, by the first of its addresses that answers, or over a Unix socket.

    Args:
        host: Its name or address, or the path of the socket.
        port: What is called there.
        until: When to give up, by `time.monotonic`; a call on the connection has as much time as is left now.

    Raises:
        TargetUnavailable: The machine has no address.
        OSError: Nobody answers.
    """
    if host.startswith("/"):
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(left_of(until))
            line.connect(host)
        except OSError:
            line.close()
            raise
        return line
    failure = OSError()
    for address, ends in shares(find_addresses(host, port, until), until):
        try:
            line = socket.create_connection((address, port), left_of(ends))
        except OSError as error:
            failure = error
            continue
        line.settimeout(left_of(until))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line
    raise failure
