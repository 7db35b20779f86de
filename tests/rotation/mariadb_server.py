"""A MariaDB server for tests: the real one, in a folder of its own, on a Unix socket and a port of this machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from securecfg.rotation.mysql_session import quoted
from securecfg.rotation.rotators import mysql
from tests.rotation.databases import PASSWORD, DatabaseUsers
from tests.rotation.unprivileged import folder_of_identity, free_port, give, identity, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from securecfg.rotation import Options, Rotator

ADMIN = "root"
ADMIN_PASSWORD = "Canary-root-password-1"
# Nothing of it has to survive, and nobody else uses it.
_SETTINGS = ("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M")
_SMALL = ("--performance-schema=OFF", "--aria-pagecache-buffer-size=8M", "--key-buffer-size=1M", "--skip-log-bin")


class MariadbServer(NamedTuple):
    """A server that asks everybody for a password.

    Attributes:
        socket: Its Unix socket.
        port: Where it listens on `127.0.0.1`.
        log: The file with all commands, as its general log writes them.
    """

    socket: Path
    port: int
    log: Path

    def ask(self, *commands: str) -> Sequence[Any]:
        """Return the rows that the administrator gets from the last of some commands."""
        from pymysql import connect

        connection = connect(
            unix_socket=str(self.socket), user=ADMIN, password=ADMIN_PASSWORD, ssl_disabled=True, autocommit=True
        )
        with connection, connection.cursor() as cursor:
            for command in commands:
                cursor.execute(command)
            return cursor.fetchall()

    def login(self, user: str, password: str) -> bool:
        """Return whether somebody gets in, over TCP."""
        from pymysql import OperationalError, connect

        try:
            connect(host="127.0.0.1", port=self.port, user=user, password=password.encode(), ssl_disabled=True).close()
        except OperationalError:
            return False
        return True


class MysqlUsers(DatabaseUsers):
    """Users that a test has for itself."""

    scheme = "mysql+pymysql"
    rest_of_url = "@db.internal:3307?charset=utf8mb4"

    def rotator(self, options: Options) -> Rotator:
        return mysql.from_options(options)

    def create(self, user: str) -> None:
        self.server.ask(f"CREATE USER {quoted(user)}@'%' IDENTIFIED BY {quoted(PASSWORD)}")

    def create_manager(self, user: str) -> None:
        self.create(user)
        self.server.ask(f"GRANT CREATE USER ON *.* TO {quoted(user)}@'%'")

    def set_password(self, user: str, password: str) -> None:
        self.server.ask(f"ALTER USER {quoted(user)}@'%' IDENTIFIED BY {quoted(password)}")


@contextmanager
def mariadb_server(*settings: str, certificate: bytes = b"") -> Iterator[MariadbServer]:
    """Run a server, which takes about three seconds to start; it is killed in the end.

    Args:
        settings: As on its command line.
        certificate: Of the server and its key, in PEM, where it offers TLS.
    """
    install = shutil.which("mariadb-install-db")
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    if install is None or program is None:
        pytest.skip("needs the program `mariadbd`")
    with folder_of_identity() as folder:
        data, where, log, port = folder / "data", folder / "socket", folder / "log", free_port()
        common = [f"--datadir={data}", *_SETTINGS, *_SMALL]
        command = [install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", *common]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity())
        (first := folder / "first.sql").write_text(f"ALTER USER root@localhost IDENTIFIED BY '{ADMIN_PASSWORD}';\n")
        first.chmod(0o644)
        command = [
            program,
            "--no-defaults",
            *common,
            f"--socket={where}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
        ]
        command += [f"--init-file={first}", f"--general-log-file={log}", "--general-log=ON", *settings]
        if certificate:
            give(file := folder / "server.pem", certificate)
            command += [f"--ssl-cert={file}", f"--ssl-key={file}"]
        with subprocess.Popen(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity()
        ) as process:
            try:
                server = MariadbServer(where, port, log)
                wait_until(lambda: _listens(server), process)
                yield server
            finally:
                process.kill()


def _listens(server: MariadbServer) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(server.socket)) == 0
