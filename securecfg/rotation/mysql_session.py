"""A session with a MySQL or MariaDB server that ends in time, and passes on nothing of the server's words."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from securecfg.errors import CredentialRefused, ExtraMissing, InvalidRotation, PrivilegeMissing, TargetUnavailable
from securecfg.keys.uri import distribution_for
from securecfg.rotation.addresses import is_readable, open_line
from securecfg.rotation.deadline import broken_off, left_of
from securecfg.rotation.servers import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.rotation.logins import Login
    from securecfg.rotation.servers import Server

# Access denied, with a password or without; from this machine; the account is locked (MariaDB, MySQL); it has expired.
_REFUSED = frozenset({1045, 1698, 1130, 4151, 3118, 1862, 1820})
_NOT_FOR_THIS_LOGIN = frozenset({1044, 1049})  # the database is another's, or there is none
# Too many connections, out of memory, shutting down, killed, waiting for a lock, deadlock, read-only, too slow.
_UNAVAILABLE = frozenset({1040, 1203, 1226, 1037, 1038, 1041, 1053, 1317, 1205, 1213, 1836, 1969, 3024})
PREVENTED = 1290
"""By an option of the server: it is read-only, or checks passwords and was given a hash of one."""

NOT_VALID = 1819
"""The password breaks a rule of the server."""

_FAILED = 1396
_OWN_MIN = 2_000  # codes from here to 2,999 are of the client: connections that are lost or not made
_OWN_MAX = 2_999
# PyMySQL trips over what is no answer of such a server, in many ways.
_TRIPS = (OSError, ValueError, LookupError, RuntimeError, AttributeError, TypeError, AssertionError, struct.error)


class MysqlSession:
    """An open session.

    Args:
        server: With whom.
        connection: Of PyMySQL.
    """

    def __init__(self, server: Server, connection: Any) -> None:  # noqa: ANN401 - imported on use
        """Ask nothing yet."""
        self._server = server
        self._connection = connection

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB, whose commands for passwords are others."""
        return "mariadb" in self._connection.get_server_info().lower()

    def ask(self, command: str) -> list[tuple[Any, ...]]:
        """Return the rows that one command gives. Several in one text are refused by the server.

        Raises:
            Refusal: The server refuses it.
            TargetUnavailable: There is no answer, or none in time.
        """
        rows: list[tuple[Any, ...]] = []
        self._each_row(command, rows.append)
        return rows

    def run(self, command: str) -> None:
        """Run one command. What it gives may be more than memory holds: it is dropped row by row.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        self._each_row(command, lambda _: None)

    def _each_row(self, command: str, take: Callable[[tuple[Any, ...]], None]) -> None:
        from pymysql import MySQLError
        from pymysql.cursors import SSCursor

        try:
            with self._connection.cursor(SSCursor) as cursor:
                cursor.execute(command)
                for row in cursor:
                    take(row)
                return
        except (MySQLError, *_TRIPS) as error:
            code = _code_of(error)
        if code in _UNAVAILABLE or code == 0 or _OWN_MIN <= code <= _OWN_MAX:
            raise _lost(self._server)
        raise Refusal(code)

    def limit_commands(self, left_s: float) -> None:
        """Have the server itself give up what it has not done in time, and take text as it is quoted here.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        # Without NO_BACKSLASH_ESCAPES and ANSI_QUOTES, whatever the server's own mode is.
        limit = f"max_statement_time = {left_s:.3f}" if self.is_mariadb else f"max_execution_time = {left_s * 1000:.0f}"
        self.ask(f"SET SESSION sql_mode = '', {limit}")

    def set_password(self, username: str, host: str, password: str) -> None:
        """Give an account another password. One that does not exist is not made.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        account = f"ALTER USER {quoted(username)}@{quoted(host)} IDENTIFIED "
        self._set(f"{account}VIA mysql_native_password USING", f"{account}BY {quoted(password)}", password)

    def set_own_password(self, password: str) -> None:
        """Give the account that has logged in another password, which needs no privilege.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        plain = f"SET PASSWORD = PASSWORD({quoted(password)})" if self.is_mariadb else ""
        self._set("SET PASSWORD =", plain or f"ALTER USER USER() IDENTIFIED BY {quoted(password)}", password)

    def _set(self, hashed: str, plain: str, password: str) -> None:
        # The log of MariaDB's commands holds what it is sent; MySQL blackens passwords in its own.
        if self.is_mariadb:
            try:
                self._change(f"{hashed} {quoted(_hash(password))}")
                return
            except Refusal as refusal:
                if refusal.code != PREVENTED:
                    raise
        self._change(plain)

    def _change(self, command: str) -> None:
        try:
            self.ask(command)
        except Refusal as refusal:
            # Of several errors the last one is told, and it is the most general.
            told = {row[1] for row in self.ask("SHOW WARNINGS")} if refusal.code == _FAILED else set()
            raise Refusal(next((code for code in (PREVENTED, NOT_VALID) if code in told), refusal.code)) from None


@contextmanager
def open_session(server: Server, login: Login, until: float) -> Iterator[MysqlSession]:
    """Give a session, which is over at the end of the block, or when its time is.

    Args:
        server: With whom.
        login: Who logs in; into its database, if it names one.
        until: When to give up, by `time.monotonic`.

    Raises:
        CredentialRefused: The login is refused.
        PrivilegeMissing: It may not use its database, or there is none of that name.
        TargetUnavailable: The server cannot be reached, is not the right one, or gives no answer in time.
        InvalidRotation: It would let this login in whatever the password is, or asks for it in the clear.
        ExtraMissing: The package `pymysql` is not installed.
    """
    try:
        import pymysql
    except ImportError:
        message = "`mysql` needs the package `pymysql`"
        raise ExtraMissing(message, hint=f"pip install {distribution_for('mysql')}") from None
    if not login.is_usable:
        raise CredentialRefused(_refused(server))
    if server.is_socket:
        _verify_password_is_asked_for(login.username)
    channel = _open_channel(server, until)
    # It is the same connection, by another number: TLS takes the first over.
    guard = socket.socket(fileno=os.dup(channel.fileno()))
    with guard, channel, broken_off(until, lambda: _shut(guard)):
        connection = pymysql.connect(
            host=server.host,
            port=server.port,
            user=login.username,
            password=login.password.reveal().encode(),  # of text PyMySQL takes Latin-1 only
            database=login.database or None,
            charset="utf8mb4",
            autocommit=True,
            ssl=_trust(server),
            ssl_disabled=not server.is_verified,
            local_infile=False,
            auth_plugin_map=dict.fromkeys(("mysql_clear_password", "dialog", "mysql_old_password"), _Unwanted),
            program_name="securecfg",
            defer_connect=True,
        )
        try:
            _log_in(server, connection, channel)
            session = MysqlSession(server, connection)
            session.limit_commands(left_of(until))
            yield session
        finally:
            with suppress(pymysql.MySQLError):
                connection.close()


def quoted(text: str) -> str:
    r"""Return a text as SQL in which `\` begins an escape and `"` is no quote of names."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0")
    return f"'{escaped}'"


def _hash(password: str) -> str:
    # What `mysql_native_password` stores.
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()  # noqa: S324 - as MariaDB does


class _Unwanted:
    """Stands for ways of logging in that hand the password itself to the server."""

    def __init__(self, connection: object) -> None:
        """Take what PyMySQL gives."""

    def authenticate(self, _packet: object) -> NoReturn:
        """Send nothing.

        Raises:
            InvalidRotation: Always.
        """
        message = "the server asks for the password in the clear, or in a way that is broken"
        raise InvalidRotation(message, hint="let the account have a password of the server's own")


def _verify_password_is_asked_for(username: str) -> None:
    import pwd

    try:
        own = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return
    if username == own:
        message = "over its socket the server may let the user of this process in whatever the password is"
        raise InvalidRotation(message, hint="give the `host` as `localhost`, or rotate another user")


def _open_channel(server: Server, until: float) -> socket.socket:
    try:
        return open_line(server.host, server.port, until)
    except OSError:
        raise TargetUnavailable(_unreached(server)) from None


def _trust(server: Server) -> ssl.SSLContext | None:
    if not server.is_verified:
        return None
    if not server.authorities or is_readable(server.authorities):
        with suppress(OSError):
            return ssl.create_default_context(cafile=server.authorities or None)
    message = "the file of `tls-ca` cannot be read, or holds no certificates"
    raise InvalidRotation(message)


def _log_in(server: Server, connection: Any, channel: socket.socket) -> None:  # noqa: ANN401 - imported on use
    from pymysql import MySQLError

    try:
        connection.connect(channel)
        return
    except (MySQLError, *_TRIPS) as error:
        code = _code_of(error)
    if code in _REFUSED:
        raise CredentialRefused(_refused(server))
    if code in _NOT_FOR_THIS_LOGIN:
        message = f"the login may not use its database of `{server}`, or there is no such database"
        raise PrivilegeMissing(message, hint="GRANT ... ON DATABASE.* TO ...")
    raise TargetUnavailable(_unreached(server), hint=server.hint)


def _code_of(error: Exception) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def _shut(guard: socket.socket) -> None:
    with suppress(OSError):
        guard.shutdown(socket.SHUT_RDWR)


def _refused(server: Server) -> str:
    return f"`{server}` refuses the login"


def _unreached(server: Server) -> str:
    return f"`{server}` cannot be reached, lets nobody in now, or gave no answer in time"


def _lost(server: Server) -> TargetUnavailable:
    return TargetUnavailable(f"`{server}` has broken off, or is not able to answer in time")
