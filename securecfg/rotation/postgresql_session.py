"""A session with a PostgreSQL server, on libpq, that ends in time and says by its code why a login was refused.

`psycopg.connect` tells a refused login only in words, which are in the language of the server. libpq traces what it is
sent, with the code in it, so the connection is made here step by step, with the trace in memory. The higher layers of
psycopg wait for an answer for as long as it takes; here each wait has an end.
"""

from __future__ import annotations

import os
import re
import select
import ssl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from securecfg.errors import CredentialRefused, ExtraMissing, InvalidRotation, PrivilegeMissing, TargetUnavailable
from securecfg.keys.uri import distribution_for
from securecfg.rotation.addresses import find_addresses, is_readable
from securecfg.rotation.deadline import shares
from securecfg.rotation.servers import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg.pq.abc import PGconn, PGresult

    from securecfg.rotation.logins import Login
    from securecfg.rotation.servers import Server

LIBPQ_MIN = 180_000
"""Earlier ones trace nothing of a login."""

_CODE = re.compile(rb'\bErrorResponse\s+S "[^"]*"(?: V "[^"]*")? C "([0-9A-Z]{5})"')
# Of libpq itself, whose words are not translated in the packages of psycopg.
_ASKED_OTHERWISE = b"authentication method requirement"
_REFUSED = frozenset({"28000", "28P01"})
_NOT_FOR_THIS_LOGIN = frozenset({"3D000", "42501"})
_NOT_SUPPORTED = "0A000"
# Connection, resources, state of an object, intervention of somebody, system, deadlock, internal.
_UNAVAILABLE = frozenset({"08", "40", "53", "55", "57", "58", "XX"})


class PostgresqlSession:
    """An open session.

    Args:
        server: With whom.
        connection: Of libpq.
        until: When to give up, by `time.monotonic`.
    """

    def __init__(self, server: Server, connection: PGconn, until: float) -> None:
        """Ask nothing yet."""
        self._server = server
        self._connection = connection
        self._until = until

    @property
    def version(self) -> int:
        """The version of the server, such as 150018."""
        return self._connection.server_version

    def ask(self, sql: str, *parameters: str) -> list[tuple[str | None, ...]]:
        """Return the rows, as text, that one command gives. Several in one text are refused by the server.

        Raises:
            Refusal: The server refuses it.
            TargetUnavailable: There is no answer, or none in time.
        """
        return [
            tuple(_decode(result.get_value(row, column)) for column in range(result.nfields))
            for result in self._results(sql, parameters)
            for row in range(result.ntuples)
        ]

    def run(self, sql: str) -> None:
        """Run one command. What it gives may be more than memory holds: it is dropped row by row.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        for _ in self._results(sql, ()):
            pass

    def prepare_administration(self) -> None:
        """Be the login itself, whatever role it takes by itself, and find the system's own functions only.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        self.ask("SELECT pg_catalog.set_config('role', 'none', false)")
        self.ask("SELECT pg_catalog.set_config('search_path', 'pg_catalog', false)")

    def limit_commands(self) -> None:
        """Have the server itself give up what it has not done in time.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        left_ms = max(1, int((self._until - time.monotonic()) * 1_000))
        self.ask("SELECT pg_catalog.set_config('statement_timeout', $1, false)", str(left_ms))

    def set_password(self, role: str, password: str | None) -> None:
        """Give a role another password, or none. The server is sent what it stores of one, and not the password.

        Raises:
            Refusal, TargetUnavailable: As for `ask`.
        """
        from psycopg.pq import Escaping

        escaping = Escaping(self._connection)
        name = escaping.escape_identifier(role.encode())
        stored = b"NULL"
        if password is not None:
            verifier = self._connection.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
            stored = escaping.escape_literal(verifier)
        self.ask(f"ALTER ROLE {bytes(name).decode()} PASSWORD {bytes(stored).decode()}")

    def _results(self, sql: str, parameters: Sequence[str]) -> Iterator[PGresult]:
        """Yield one result for each row that a command gives, and one without rows for its end."""
        from psycopg import Error
        from psycopg.pq import DiagnosticField, ExecStatus

        connection = self._connection
        try:
            connection.send_query_params(sql.encode(), [each.encode() for each in parameters])
            connection.set_single_row_mode()
            while connection.flush():
                self._wait(select.POLLIN | select.POLLOUT)
            while (result := self._next()) is not None:
                if code := result.error_field(DiagnosticField.SQLSTATE):
                    raise _lost(self._server) if code[:2].decode() in _UNAVAILABLE else Refusal(code.decode())
                if result.status in {ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH}:
                    # It would be told of without an end, as long as nobody copies anything.
                    raise Refusal(_NOT_SUPPORTED)
                yield result
        except Error:
            raise _lost(self._server) from None

    def _next(self) -> PGresult | None:
        while self._connection.is_busy():
            self._wait(select.POLLIN)
        return self._connection.get_result()

    def _wait(self, events: int) -> None:
        _wait(self._server, self._connection, events, self._until)
        self._connection.consume_input()


@contextmanager
def open_session(server: Server, login: Login, database: str, until: float) -> Iterator[PostgresqlSession]:
    """Give a session, which is over at the end of the block.

    Args:
        server: With whom.
        login: Who logs in.
        database: Into which.
        until: When to give up, by `time.monotonic`.

    Raises:
        CredentialRefused: The login is refused.
        PrivilegeMissing: It may not use this database, or there is none of that name.
        TargetUnavailable: The server cannot be reached, is not the right one, or gives no answer in time.
        InvalidRotation: It asks for no password.
        ExtraMissing: The package `psycopg` is not installed, or is too old.
    """
    if not login.is_usable:
        raise _refused(server)
    _require_libpq()
    if server.authorities and not is_readable(server.authorities):
        message = "the file of `tls-ca` cannot be read"
        raise TargetUnavailable(message, hint="it is a file of certificates in PEM, which the daemon may read")
    connection = _connect(server, login, database, until)
    try:
        session = PostgresqlSession(server, connection, until)
        session.limit_commands()
        yield session
    finally:
        connection.finish()


def _require_libpq() -> None:
    try:
        from psycopg import pq
    except ImportError:
        message = "`postgresql` needs the package `psycopg`"
        raise ExtraMissing(message, hint=f"pip install {distribution_for('postgresql')}") from None
    if pq.version() < LIBPQ_MIN:
        message = "`postgresql` needs the library libpq 18"
        raise ExtraMissing(message, hint=f"pip install {distribution_for('postgresql')}")


def _connect(server: Server, login: Login, database: str, until: float) -> PGconn:
    """Return a connection to the first address that answers; asked step by step, libpq waits for one without an end."""
    addresses = ("",) if server.is_socket else find_addresses(server.host, server.port, until)
    failure = _lost(server)
    for address, ends in shares(addresses, until):
        try:
            return _log_in(server, _describe(server, address, login, database), ends)
        except TargetUnavailable as error:
            failure = error
    raise failure


def _describe(server: Server, address: str, login: Login, database: str) -> bytes:
    """Return what libpq is told: all that the environment or files of this user could say otherwise, too."""
    from psycopg.conninfo import make_conninfo

    authorities = server.authorities or ssl.get_default_verify_paths().cafile or "system"
    described = make_conninfo(
        host=server.host,
        hostaddr=address,
        port=str(server.port),
        user=login.username,
        password=login.password.reveal(),
        dbname=database,
        sslmode="verify-full" if server.is_verified else "disable",
        sslrootcert=authorities if server.is_verified else "",
        sslnegotiation="postgres",
        sslcertmode="disable",
        gssencmode="disable",
        # Somebody who is let in without a password would make every password look right.
        require_auth="scram-sha-256,md5",
        requirepeer="",
        target_session_attrs="any",
        load_balance_hosts="disable",
        options="",
        client_encoding="UTF8",
        application_name="securecfg",
    )
    return described.encode()


def _log_in(server: Server, described: bytes, until: float) -> PGconn:
    from psycopg.pq import PGconn, PollingStatus

    connection = PGconn.connect_start(described)
    trace = os.memfd_create("login")  # it holds what was said, and no disk does
    try:
        connection.trace(trace)
        events = {PollingStatus.READING: select.POLLIN, PollingStatus.WRITING: select.POLLOUT}
        while (status := connection.connect_poll()) in events:
            _wait(server, connection, events[PollingStatus(status)], until)
        if status == PollingStatus.OK:
            connection.nonblocking = 1
            connection.untrace()
            return connection
        problem = _problem_of(server, connection, trace)
    except BaseException:
        connection.finish()
        raise
    finally:
        os.close(trace)
    connection.finish()
    raise problem


def _problem_of(server: Server, connection: PGconn, trace: int) -> Exception:
    connection.untrace()
    codes = _CODE.findall(os.pread(trace, os.fstat(trace).st_size, 0))
    code = codes[-1].decode() if codes else ""
    if code in _REFUSED:
        return _refused(server)
    if code in _NOT_FOR_THIS_LOGIN:
        message = f"the login may not use its database of `{server}`, or there is no such database"
        return PrivilegeMissing(message, hint="GRANT CONNECT ON DATABASE ... TO ...")
    if not code and _ASKED_OTHERWISE in connection.error_message:
        message = f"`{server}` asks this login for no password by SCRAM-SHA-256, so that none can be tried"
        return InvalidRotation(message, hint="let its line of pg_hba.conf say `scram-sha-256`")
    message = f"`{server}` cannot be reached, or lets nobody in now"
    return TargetUnavailable(message, hint=server.hint)


def _wait(server: Server, connection: PGconn, events: int, until: float) -> None:
    poll = select.poll()
    poll.register(connection.socket, events)
    left = until - time.monotonic()
    if left <= 0 or not poll.poll(left * 1_000):
        message = f"`{server}` gave no answer in time"
        raise TargetUnavailable(message)


def _refused(server: Server) -> CredentialRefused:
    return CredentialRefused(f"`{server}` refuses the login")


def _lost(server: Server) -> TargetUnavailable:
    return TargetUnavailable(f"`{server}` has broken off, or is not able to answer now")


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
