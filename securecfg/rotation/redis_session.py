"""A session with a Redis server that ends in time, whose answers are told apart by their codes.

Loaded when a server is first called, as it needs the package `redis`. Its connection is used, and none of its clients:
those ask again by themselves.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from securecfg.errors import CredentialRefused, PrivilegeMissing, SecurecfgError, TargetUnavailable
from securecfg.rotation.addresses import is_readable, open_line
from securecfg.rotation.deadline import broken_off, left_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.rotation.servers import Server

# It could not be asked, or is not itself at the moment; what else it refuses is for a person to look at.
_UNAVAILABLE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.InvalidResponse,
    OSError,
    ValueError,  # what the parser makes of an answer that is none
    RecursionError,
)
# The privileges are looked at before these are found out.
_ALLOWED = (redis.exceptions.AskError, redis.exceptions.ClusterCrossSlotError)
_WRONG_TYPE = "WRONGTYPE"


class AclUser(NamedTuple):
    """What a server knows of a user.

    Attributes:
        flags: Such as `on`, `off` and `nopass`.
        digests: SHA-256 of each password, in hexadecimal digits.
    """

    flags: frozenset[str]
    digests: frozenset[str]


class Session:
    """A connection over which somebody has logged in.

    Args:
        connection: It.
        where: The server's name, for errors.
    """

    def __init__(self, connection: Connection, where: str) -> None:
        """Ask nothing yet."""
        self._connection = connection
        self._where = where

    def ask(self, *command: str) -> Any:  # noqa: ANN401 - as the command answers
        """Return the answer to one command, or None where it was allowed and cannot be done for the key that it names.

        Raises:
            TargetUnavailable, CredentialRefused, PrivilegeMissing: There is none.
        """
        [answer] = self.ask_all([command])
        if isinstance(answer, SecurecfgError):
            raise answer
        return answer

    def ask_all(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        """Return the answers to several commands that are sent at once, so that the server gets all or none.

        Where one is refused its answer is the error.

        Raises:
            TargetUnavailable: It is unknown what became of them.
        """
        if not self._connection.is_connected:  # it would connect anew, and nobody has logged in there
            raise unavailable(self._where)
        try:
            packed = self._connection.pack_commands(commands)  # type: ignore[no-untyped-call]  # as it is published
            self._connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]  # as above
            return [self._answer(command) for command in commands]
        except _UNAVAILABLE:
            raise unavailable(self._where) from None

    def user(self, name: str) -> AclUser | None:
        """Return what the server knows of a user, or None where there is none of this name.

        Raises:
            TargetUnavailable, PrivilegeMissing: As for `ask`.
        """
        answer = self.ask("ACL", "GETUSER", name)
        if answer is None:
            return None
        try:
            known = dict(zip(answer[::2], answer[1::2], strict=True))
            words = [frozenset(each.decode() for each in known[field]) for field in (b"flags", b"passwords")]
        except (TypeError, KeyError, ValueError, AttributeError):
            raise unavailable(self._where) from None
        return AclUser(*words)

    def _answer(self, command: Sequence[str]) -> Any:  # noqa: ANN401 - as the command answers
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return self._refusal(error, command)
        except redis.AuthenticationError:
            message = f"the login at `{self._where}` is refused"
            return CredentialRefused(message)

    def _refusal(self, error: redis.ResponseError, command: Sequence[str]) -> SecurecfgError | None:
        if isinstance(error, _UNAVAILABLE):
            return unavailable(self._where)
        if isinstance(error, _ALLOWED) or str(error).startswith(_WRONG_TYPE):
            return None
        # Of a command only what it is, and never to whom or with what.
        words = command[:2] if command[0] in {"ACL", "CONFIG"} else command[:1]
        named = " ".join(map(str, words))
        is_denied = isinstance(error, redis.exceptions.NoPermissionError)
        message = f"`{named}` {'is not allowed' if is_denied else 'cannot be done'} at `{self._where}`"
        return PrivilegeMissing(message)


class _Line(Connection):
    """A connection whose other end is looked up in time, with TLS where that is asked for."""

    def __init__(self, server: Server, until: float) -> None:
        left_s = left_of(until)
        super().__init__(  # type: ignore[no-untyped-call]  # as it is published
            host=server.host,
            port=server.port,
            socket_timeout=left_s,
            socket_connect_timeout=left_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        self._server = server
        self._until = until
        self._end: socket.socket | None = None

    def break_off(self) -> None:
        """End whatever is under way, as a server that sends byte by byte is in time with each of them."""
        if self._end is not None:
            with suppress(OSError):
                self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, and what was opened for one that did not come about."""
        self.disconnect()  # type: ignore[no-untyped-call]  # as it is published
        if self._end is not None:
            self._end.close()

    def _connect(self) -> socket.socket:
        server = self._server
        self._end = line = open_line(server.host, server.port, self._until)
        if not server.is_verified:
            return line
        if server.authorities and not is_readable(server.authorities):
            raise FileNotFoundError
        context = ssl.create_default_context(cafile=server.authorities or None)
        self._end = wrapped = context.wrap_socket(line, server_hostname=server.host, do_handshake_on_connect=False)
        wrapped.do_handshake()
        return wrapped


@contextmanager
def open_session(server: Server, username: str, password: str, until: float) -> Iterator[Session]:
    """Give a session, which is broken off where it is not over in time.

    Args:
        server: Which one.
        username: Who logs in.
        password: With what.
        until: When to give up, by `time.monotonic`.

    Raises:
        TargetUnavailable: The server cannot be asked.
        CredentialRefused: It refuses the login.
    """
    with closing(_Line(server, until)) as line, broken_off(until, line.break_off):
        try:
            line.connect()  # type: ignore[no-untyped-call]  # as it is published
        except (redis.RedisError, *_UNAVAILABLE):
            raise unavailable(server.where, server.hint) from None
        session = Session(line, server.where)
        session.ask("AUTH", username, password)
        yield session


def unavailable(where: str, hint: str = "") -> TargetUnavailable:
    """Return the error that says that a server cannot be asked, or that it is unknown what it did."""
    message = f"`{where}` cannot be asked, or it is unknown what it did"
    return TargetUnavailable(message, hint=hint)
