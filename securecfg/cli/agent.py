"""An agent: a process of this user that keeps small secrets in its memory for a while, where the kernel cannot.

It listens on a socket that only this user can reach, asks the kernel who connects, and ends when nothing is left to
keep. One connection is one request and one answer, each a line of JSON.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securecfg.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_BYTES_MAX = 4_096
_TIMEOUT_S = 2.0
_MOST_KEPT = 64
_PEER = struct.Struct("3i")


class Agent:
    """Keeps small secrets by name for a while, in a process that is started when it is needed.

    Raises:
        Unsupported: There is no folder for this user's sockets.
    """

    where = "agent process"

    def __init__(self) -> None:
        """Know the place; start nothing."""
        self._path = _socket_path()

    def remember(self, name: str, secret: bytes, seconds: int) -> None:
        """Keep a secret for some seconds.

        Raises:
            Unavailable: The agent cannot be started or refuses.
        """
        request = {"op": "remember", "name": name, "secret": secret.hex(), "seconds": seconds}
        answer = self._ask(request)
        if answer is None:
            _start(self._path)
            answer = self._ask(request)
        if answer is None or "error" in answer:
            message = "the agent process does not keep the key"
            raise Unavailable(message)

    def recall(self, name: str) -> bytes | None:
        """Return a secret, or None where it is not kept any more."""
        answer = self._ask({"op": "recall", "name": name}) or {}
        secret = answer.get("secret")
        return bytes.fromhex(secret) if isinstance(secret, str) else None

    def forget(self) -> int:
        """Forget everything, and return how much it was."""
        return int((self._ask({"op": "forget"}) or {}).get("count", 0))

    def names(self) -> list[str]:
        """Return the names of what is kept."""
        return list((self._ask({"op": "names"}) or {}).get("names", ()))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the agent's answer, or None where there is no agent of this user."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(_TIMEOUT_S)
            try:
                link.connect(str(self._path))
                if _peer_uid(link) != os.geteuid():
                    return None
                link.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(_read_line(link))
            except (OSError, ValueError):
                return None
        return answer if isinstance(answer, dict) else None


class Keeper:
    """What the agent keeps.

    Nothing is ever written; a secret is overwritten when it is forgotten.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._kept: dict[str, tuple[bytearray, float]] = {}

    def answer(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            KeyError, TypeError, ValueError: The request is malformed.
        """
        self.expire(now)
        if request["op"] == "remember":
            name = str(request["name"])
            if len(self._kept) >= _MOST_KEPT and name not in self._kept:
                return {"error": "full"}
            self._drop(name)
            self._kept[name] = (bytearray.fromhex(request["secret"]), now + int(request["seconds"]))
            return {}
        if request["op"] == "recall":
            secret, _ = self._kept.get(str(request["name"]), (None, 0.0))
            return {"secret": None if secret is None else secret.hex()}
        if request["op"] == "forget":
            count = len(self._kept)
            for name in list(self._kept):
                self._drop(name)
            return {"count": count}
        if request["op"] == "names":
            return {"names": sorted(self._kept)}
        raise ValueError

    def expire(self, now: float) -> None:
        """Forget what has been kept long enough."""
        for name, (_, end) in list(self._kept.items()):
            if end <= now:
                self._drop(name)

    def seconds_left(self, now: float) -> float:
        """Return how long there is something to keep; 0 where there is nothing."""
        return max((end - now for _, end in self._kept.values()), default=0.0)

    def _drop(self, name: str) -> None:
        secret, _ = self._kept.pop(name, (bytearray(), 0.0))
        secret[:] = bytes(len(secret))


def serve(listener: socket.socket) -> None:
    """Answer until there is nothing left to keep."""
    keeper = Keeper()
    # The first connection is the one for which the agent was started.
    left = _TIMEOUT_S * 5
    while left > 0:
        listener.settimeout(left)
        try:
            link, _ = listener.accept()
        except TimeoutError:
            keeper.expire(time.monotonic())
        else:
            with link, suppress(OSError, ValueError, KeyError, TypeError):
                link.settimeout(_TIMEOUT_S)
                if _peer_uid(link) == os.geteuid():
                    answer = keeper.answer(json.loads(_read_line(link)), time.monotonic())
                    link.sendall(json.dumps(answer).encode() + b"\n")
        left = keeper.seconds_left(time.monotonic())


def _start(path: Path) -> None:
    """Start the agent on a socket that is bound before, so that nobody has to wait for it.

    Raises:
        Unavailable: It cannot be started.
    """
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with _locked(path.parent), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(16)
            listener.set_inheritable(True)
            os.posix_spawn(  # -P: a module of the working directory must not take the agent's place
                sys.executable,
                [sys.executable, "-P", "-m", "securecfg.cli.agent", str(listener.fileno())],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)],
                setsid=True,
            )
    except OSError as error:
        message = f"the agent process cannot be started: {error.strerror}"
        raise Unavailable(message) from None


def _socket_path() -> Path:
    folder = os.environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{os.geteuid()}"
    try:
        status = os.stat(folder)  # noqa: PTH116 - the owner and the mode of what the link leads to
    except OSError:
        status = None
    if not folder.startswith("/") or status is None or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        message = "there is no folder for sockets that only this user can reach"
        raise Unsupported(message, hint="set XDG_RUNTIME_DIR to a folder of yours with mode 0700")
    return Path(folder) / "securecfg" / "agent.sock"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _peer_uid(link: socket.socket) -> int:
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(raw)
    return int(uid)


def _read_line(link: socket.socket) -> bytes:
    content = b""
    while not content.endswith(b"\n"):
        piece = link.recv(_LINE_BYTES_MAX)
        content += piece
        if not piece or len(content) > _LINE_BYTES_MAX:
            message = "not a line"
            raise ValueError(message)
    return content


def _harden() -> None:
    """Keep the memory of this process out of core dumps, swap, and the reach of debuggers."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    set_dumpable, current, future = 4, 1, 2
    libc.prctl(set_dumpable, 0, 0, 0, 0)
    # Under a limit, locking future memory would make an allocation fail later; locking what there is may be refused.
    is_limited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY
    libc.mlockall(current if is_limited else current | future)


if __name__ == "__main__":
    os.chdir("/")
    _harden()
    serve(socket.socket(fileno=int(sys.argv[1])))
