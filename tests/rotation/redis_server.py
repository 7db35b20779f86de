"""A Redis server for tests: the real one, with users in a file, on a port and a socket of this machine."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import plain
from tests.rotation.targets import login, run_of
from tests.rotation.unprivileged import folder_of_identity, free_port, give, identity, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from securecfg.rotation import Fields, Run
    from tests.rotation.tcp_relay import TcpRelay

ROOT_PASSWORD = "canary-root-password"
ADMIN, ADMIN_PASSWORD = "rotator", "canary-admin-password"
USER_RULES = ("on", "~app:*", "-@all", "+ping", "+get", "+acl|whoami")
ADMIN_RULES = ("+acl|getuser", "+acl|setuser", "+acl|save", "+acl|dryrun", "+config|get")
_NUMBERS = count()


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
        wait_until(self._answers, self._process)

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

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.ConnectionError:
            return False

    def _client(self, username: str, password: str) -> redis.Redis:
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(
            unix_socket_path=self.socket, username=username, password=password, retry=retry, decode_responses=True
        )


class RedisUser:
    """A user of a server, or of two, perhaps each behind a relay; changed by an administrator, or by itself."""

    is_remote = True

    def __init__(
        self, servers: Sequence[RedisServer], relays: Sequence[TcpRelay] = (), *, administers: bool = True
    ) -> None:
        self.servers = servers
        self.relays = relays
        self.name = f"web{next(_NUMBERS)}"
        self.password = f"canary-password-{self.name}"
        rules = USER_RULES if administers else (*USER_RULES, *ADMIN_RULES)
        for server in servers:
            server.ask("ACL", "SETUSER", self.name, *rules)
        reached = relays or servers
        self.options: Any = {"hosts": ",".join(f"127.0.0.1:{each.port}" for each in reached), "persist": "acl-save"}
        if administers:
            self.options |= {"username": self.name, "admin-user": ADMIN, "admin-password": Secret(ADMIN_PASSWORD)}
        self.current = login(self.name, self.password, team="payments-team")
        self.hold(self.current)

    def accepts(self, value: Fields, /) -> bool:
        password = str(plain(value)["password"])
        return all(server.accepts(self.name, password) for server in self.servers)

    def hold(self, *values: Fields) -> None:
        digests = [digest(str(plain(value)["password"])) for value in values]
        for server in self.servers:
            server.ask("ACL", "SETUSER", self.name, "resetpass", *(f"#{each}" for each in digests))

    def cut_off(self) -> None:
        self.relays[-1].cut_off()

    def restore(self) -> None:
        self.relays[-1].restore()

    def run(self, timeout_s: float = 5.0) -> Run:
        return run_of(self.current, timeout_s=timeout_s)


@contextmanager
def redis_server(*arguments: str, has_file: bool = True) -> Iterator[RedisServer]:
    """Run a server; its users are in a file of their own, or in its configuration."""
    with folder_of_identity() as folder:
        users = [
            f"user default on #{digest(ROOT_PASSWORD)} ~* &* +@all",
            f"user {ADMIN} on #{digest(ADMIN_PASSWORD)} {' '.join(('-@all', *ADMIN_RULES))}",
        ]
        lines = "\n".join(users) + "\n"
        give(folder / "users.acl", lines.encode())
        give(folder / "config", f"aclfile {folder}/users.acl\n".encode() if has_file else lines.encode())
        server = RedisServer(folder, free_port(), arguments)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def digest(password: str) -> str:
    """Return what a server keeps of a password."""
    return sha256(password.encode()).hexdigest()
