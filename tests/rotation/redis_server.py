"""A Redis server for tests: the real one, with users in a file, on a port and a socket of this machine."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.rotation.unprivileged import folder_of_identity, free_port, identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT_PASSWORD = "canary-root-password"
ADMIN, ADMIN_PASSWORD = "rotator", "canary-admin-password"
ADMIN_RULES = ("+acl|getuser", "+acl|setuser", "+acl|save", "+acl|dryrun", "+config|get")
_STARTED_S = 20.0


class RedisServer:
    """A running server.

    Attributes:
        folder: With its files.
        port: Where it listens.
    """

    def __init__(self, folder: Path, port: int, arguments: tuple[str, ...]) -> None:
        """Start nothing yet."""
        self.folder = folder
        self.port = port
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        """Its Unix socket."""
        return f"{self.folder}/socket"

    def start(self) -> None:
        """Start it, with the users of its file."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("needs the program `redis-server`")
        command = [program, f"{self.folder}/config", "--port", str(self.port), "--unixsocket", self.socket]
        command += ["--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder), *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity())
        until = time.monotonic() + _STARTED_S
        while True:
            with suppress(redis.ConnectionError):
                self.ask("PING")
                return
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, *command: str | bytes) -> Any:  # noqa: ANN401 - as the command answers
        """Return what it answers to somebody who may do everything."""
        with self._client("default", ROOT_PASSWORD) as client:
            return client.execute_command(*command)

    def accepts(self, username: str, password: str) -> bool:
        """Return whether a user can log in with a password."""
        try:
            with self._client(username, password) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return False

    def digests(self, username: str) -> set[str]:
        """Return what the server knows of the passwords of a user."""
        found: dict[str, Any] = self.ask("ACL", "GETUSER", username)
        return set(found["passwords"])

    def _client(self, username: str, password: str) -> redis.Redis:
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(
            unix_socket_path=self.socket, username=username, password=password, retry=retry, decode_responses=True
        )


@contextmanager
def redis_server(*arguments: str, has_file: bool = True) -> Iterator[RedisServer]:
    """Run a server; its users are in a file of their own, or in its configuration."""
    with folder_of_identity() as folder:
        users = [
            f"user default on #{digest(ROOT_PASSWORD)} ~* &* +@all",
            f"user {ADMIN} on #{digest(ADMIN_PASSWORD)} {' '.join(('-@all', *ADMIN_RULES))}",
        ]
        lines = "\n".join(users) + "\n"
        (folder / "users.acl").write_text(lines)
        (folder / "config").write_text(f"aclfile {folder}/users.acl\n" if has_file else lines)
        who = identity()
        for each in (folder / "users.acl", folder / "config"):
            if who:
                shutil.chown(each, who["user"], who["group"])
        server = RedisServer(folder, free_port(), arguments)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def digest(password: str) -> str:
    """Return what a server keeps of a password."""
    return sha256(password.encode()).hexdigest()
