"""Which server of a database is meant, whether it has to prove that, and that it has refused something."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import InvalidRotation
from securecfg.rotation.addresses import is_local, verify_host

if TYPE_CHECKING:
    from securecfg.rotation.options import GivenOptions

PORT_MAX = 65_535
TLS = ("verified", "insecure-disabled")


class Refusal(Exception):
    """A server has refused a command.

    Args:
        code: SQLSTATE, or the number of its error.
    """

    def __init__(self, code: str | int) -> None:
        """Keep the code, and none of the server's words."""
        super().__init__(code)
        self.code = code


class Server(NamedTuple):
    """Which server.

    Attributes:
        kind: What it is, such as `postgresql`.
        host: Its name or address, or where its Unix socket is.
        port: Where it listens.
        is_verified: Whether it has to prove by TLS that it is this one.
        authorities: The file of whom to believe that; empty for those of the system.
    """

    kind: str
    host: str
    port: int
    is_verified: bool
    authorities: str = ""

    def __str__(self) -> str:
        """Say what is called."""
        return f"{self.kind} {self.host}:{self.port}"

    @property
    def where(self) -> str:
        """Its name for people, beside others of its kind."""
        return self.host if self.is_socket else f"{self.host}:{self.port}"

    @property
    def hint(self) -> str:
        """What else it may be where nobody gets through to it."""
        return (
            "if it can be reached its certificate is not trusted: see the option `tls-ca`" if self.is_verified else ""
        )

    @property
    def is_socket(self) -> bool:
        """Whether it is reached over a Unix socket."""
        return self.host.startswith("/")


def take_server(given: GivenOptions, kind: str, port: int) -> Server:
    """Return what the options `host`, `port`, `tls` and `tls-ca` say.

    Args:
        given: The options.
        kind: What kind of server it is.
        port: Where such servers listen unless they are told otherwise.

    Raises:
        InvalidRotation: They make no sense.
    """
    host = given.text("host")
    verify_host(host)
    port = given.number("port", port, 1, PORT_MAX)
    tls = given.choice("tls", TLS, "insecure-disabled" if is_local(host) else "verified")
    server = Server(kind, host, port, tls == "verified", given.text("tls-ca", ""))
    if (server.is_verified and server.is_socket) or (server.authorities and not server.is_verified):
        message = "the options `tls` and `tls-ca` are for a server that is reached over TLS"
        raise InvalidRotation(message)
    return server
