"""A PostgreSQL server for tests: the real one, in a folder of its own, on a Unix socket and a port of this machine.

with postgresql_server() as server:
    server.ask("CREATE ROLE web LOGIN PASSWORD 'canary'")
    server.login("web", "canary")
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from securecfg.rotation.rotators import postgresql
from tests.rotation.databases import PASSWORD, DatabaseUsers
from tests.rotation.unprivileged import folder_of_identity, free_port, give, identity, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import LiteralString

    from securecfg.rotation import Options, Rotator

ADMIN = "admin"
ADMIN_PASSWORD = "canary-admin-password"
# Nothing of it has to survive, and nobody else uses it.
_SETTINGS = {"fsync": "off", "shared_buffers": "2MB", "max_connections": "20", "autovacuum": "off"}


class PostgresqlServer(NamedTuple):
    """A server that asks everybody for a password, as SCRAM-SHA-256.

    Attributes:
        folder: Where its socket is, which a client takes as host.
        port: Where it listens on `127.0.0.1`; a part of the socket's name too.
        log: The file that it writes its log to.
    """

    folder: Path
    port: int
    log: Path

    def ask(self, sql: str, parameters: tuple[object, ...] = (), dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Return the rows that the superuser gets."""
        from psycopg import connect

        described = f"host={self.folder} port={self.port} dbname={dbname} user={ADMIN} password={ADMIN_PASSWORD}"
        with connect(described, autocommit=True) as connection:
            # Composed by tests; without parameters several commands may be sent at once.
            found = connection.execute(sql.encode(), parameters or None)
            return found.fetchall() if found.description else []

    def login(self, user: str, password: str, dbname: str = "postgres") -> bool:
        """Return whether somebody gets in, over TCP."""
        from psycopg import OperationalError, connect

        try:
            described = f"host=127.0.0.1 port={self.port} sslmode=disable"
            connect(described, user=user, password=password, dbname=dbname).close()
        except OperationalError:
            return False
        return True


class PostgresqlRoles(DatabaseUsers):
    """Roles that a test has for itself."""

    scheme = "postgresql"
    rest_of_url = "@db.internal:6432/postgres?sslmode=require"

    def rotator(self, options: Options) -> Rotator:
        return postgresql.from_options(options)

    def create(self, user: str) -> None:
        self.ask("CREATE ROLE {} LOGIN PASSWORD {}", user)

    def create_manager(self, user: str) -> None:
        self.ask("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}", user)

    def set_password(self, user: str, password: str) -> None:
        from psycopg.sql import SQL, Identifier, Literal

        self.server.ask(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(user), Literal(password)).as_string())

    def ask(self, command: LiteralString, *roles: str) -> None:
        """Run commands in which `{}` stands for each role, and `PASSWORD {}` is the password of all."""
        from psycopg.sql import SQL, Identifier

        text = command.replace("PASSWORD {}", f"PASSWORD '{PASSWORD}'")
        self.server.ask(SQL(text).format(*map(Identifier, roles)).as_string())


@contextmanager
def postgresql_server(
    settings: Mapping[str, str] | None = None, rules: str = "", certificate: bytes = b""
) -> Iterator[PostgresqlServer]:
    """Run a server, which takes about two seconds to start; it is killed in the end.

    Args:
        settings: As in `postgresql.conf`.
        rules: Lines that `pg_hba.conf` begins with.
        certificate: Of the server and its key, in PEM, where it offers TLS.
    """
    programs = _find_programs()
    with folder_of_identity() as folder:
        data, log, port = folder / "data", folder / "log", free_port()
        (password := folder / "password").write_text(ADMIN_PASSWORD)
        command = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-A",
            "scram-sha-256",
            "-U",
            ADMIN,
            "--pwfile",
            str(password),
        ]
        command += ["--no-sync", "--no-instructions", "--locale=C", "--encoding=UTF8"]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, **identity())
        if rules:
            (hba := data / "pg_hba.conf").write_text(f"{rules}\n{hba.read_text()}")
        arguments = ["-D", str(data), "-k", str(folder), "-p", str(port), "-h", "127.0.0.1"]
        offered = _put_certificate(folder / "server.pem", certificate) if certificate else {}
        for name, value in {**_SETTINGS, **offered, **(settings or {})}.items():
            arguments += ["-c", f"{name}={value}"]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [programs / "postgres", *arguments], cwd="/", stdout=output, stderr=output, **identity()
            ) as process,
        ):
            try:
                wait_until(lambda: _is_ready(data), process)
                yield PostgresqlServer(folder, port, log)
            finally:
                process.send_signal(3)  # SIGQUIT: its children end too, which they do not when it is killed


def _put_certificate(file: Path, certificate: bytes) -> dict[str, str]:
    give(file, certificate)
    return {"ssl": "on", "ssl_cert_file": str(file), "ssl_key_file": str(file)}


def _find_programs() -> Path:
    # Debian has each version in a folder of its own, of which none is on the path.
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path(shutil.which("postgres") or "/none/x").parent]
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("needs the program `postgres`")


def _is_ready(data: Path) -> bool:
    # The last line of it says how far it is; it is written when that changes.
    lines = (data / "postmaster.pid").read_text().splitlines() if (data / "postmaster.pid").exists() else []
    return bool(lines) and lines[-1].strip() == "ready"
