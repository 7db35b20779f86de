"""Programs that refuse to run as root, run by somebody who may do nothing."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

_NOBODY = "nobody"
_STARTED_S = 30.0


class Identity(TypedDict, total=False):
    """What `subprocess` takes to run a program as somebody else; empty where nobody else is needed."""

    user: int
    group: int
    extra_groups: list[int]


def identity() -> Identity:
    """Return as whom to run a program: as the caller, or for root as nobody."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_NOBODY)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def name_of_identity() -> str:
    """Return the name of who runs programs."""
    return _NOBODY if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


@contextmanager
def folder_of_identity() -> Iterator[Path]:
    """Give an empty folder of who runs programs, with a path that is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="sc-"))
    try:
        who = identity()
        if who:
            os.chown(folder, who["user"], who["group"])
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what is killed may still be writing


def give(file: Path, content: bytes) -> None:
    """Write a file that only who runs programs can read."""
    file.touch(0o600)
    file.write_bytes(content)
    if who := identity():
        os.chown(file, who["user"], who["group"])


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until a server is ready that was started, for half a minute at most."""
    until = time.monotonic() + _STARTED_S
    while not is_ready():
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < until, "the server does not start"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
