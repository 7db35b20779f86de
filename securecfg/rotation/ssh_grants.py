"""What an SSH certificate says of its holder: who they are, for how long, and what they may do (PROTOCOL.certkeys)."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.serialization.ssh import SSHCertificateBuilder, SSHCertificateType

from securecfg.errors import InvalidRotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.serialization.ssh import SSHCertificate

    from securecfg.rotation.options import GivenOptions

KINDS = {"user": SSHCertificateType.USER, "host": SSHCertificateType.HOST}
EXTENSIONS = (
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
)
PRINCIPALS_MAX = 256
"""SSHKEY_CERT_MAX_PRINCIPALS of OpenSSH, which refuses a certificate with more."""

_COMMAND_MAX = 4_096
_DAYS_MAX = 3_650
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+=/$-]{0,254}", re.ASCII)
# `ssh` takes `*` in a certificate of a host for anything, dots too, and compares with the host's name in lower case.
_HOST = re.compile(r"(\*\.[a-z0-9_-]+\.)?[a-z0-9_:][a-z0-9_.:-]{0,252}", re.ASCII)


class Grant(NamedTuple):
    """What a certificate is made for.

    Attributes:
        type: Whether its holder is a user or a host.
        principals: As whom its holder may log in, or under which names it is reached; at least one, for a certificate
            without any is good for all.
        lifetime: How long it lasts.
        critical_options: What limits its use; a server that does not know one refuses the certificate.
        extensions: What it allows beyond running a command.
    """

    type: SSHCertificateType
    principals: tuple[str, ...]
    lifetime: timedelta
    critical_options: dict[bytes, bytes]
    extensions: tuple[str, ...]

    def builder(self) -> SSHCertificateBuilder:
        """Return a builder of such certificates, which lacks the key, the serial number, the key id and the times."""
        names = [principal.encode() for principal in self.principals]
        builder = SSHCertificateBuilder().type(self.type).valid_principals(names)
        for name, value in self.critical_options.items():
            builder = builder.add_critical_option(name, value)
        for extension in self.extensions:
            builder = builder.add_extension(extension.encode(), b"")
        return builder

    def is_of(self, certificate: SSHCertificate) -> bool:
        """Return whether a certificate says just this of its holder; its times are left to the caller."""
        return (
            certificate.type is self.type
            and certificate.valid_principals == [principal.encode() for principal in self.principals]
            and certificate.critical_options == self.critical_options
            and certificate.extensions == dict.fromkeys((name.encode() for name in self.extensions), b"")
        )


def take_grant(options: GivenOptions) -> Grant:
    """Return what the options describe.

    They are `kind`, `principals`, `days` or `hours`, and for users `force-command`, `source-address` and `extensions`.

    Raises:
        InvalidRotation: They make no sense, or say more than anybody means.
    """
    kind = options.choice("kind", tuple(KINDS))
    principals = _take_list(options, "principals", (_USER if kind == "user" else _HOST).fullmatch)
    if not principals or len(principals) > PRINCIPALS_MAX:
        message = f"the option `principals` of the rotator `ssh` names 1 to {PRINCIPALS_MAX}, joined by commas"
        raise InvalidRotation(message, hint="a certificate without principals would be good for everybody")
    days, hours = options.number("days", 0, 0, _DAYS_MAX), options.number("hours", 0, 0, _DAYS_MAX * 24)
    if bool(days) == bool(hours):
        message = "the rotator `ssh` needs one of the options `days` and `hours`"
        raise InvalidRotation(message, hint="a certificate cannot be called back, and ends by itself")
    command = options.text("force-command", "")
    addresses = _take_list(options, "source-address", _is_network)
    extensions = _take_list(options, "extensions", EXTENSIONS.__contains__)
    if kind == "host" and (command or addresses or extensions):
        message = "a certificate of a host has no `force-command`, `source-address` and `extensions`"
        raise InvalidRotation(message)
    if len(command.encode(errors="replace")) > _COMMAND_MAX or not command.isprintable():
        message = f"the option `force-command` of the rotator `ssh` is printable and has at most {_COMMAND_MAX} bytes"
        raise InvalidRotation(message)
    limits = {b"force-command": command.encode(), b"source-address": ",".join(addresses).encode()}
    critical = {name: value for name, value in limits.items() if value}
    return Grant(KINDS[kind], principals, timedelta(days=days, hours=hours), critical, extensions)


def _take_list(options: GivenOptions, name: str, is_valid: Callable[[str], object]) -> tuple[str, ...]:
    text = options.text(name, "")
    values = tuple(text.split(",")) if text else ()
    if len(set(values)) < len(values) or not all(map(is_valid, values)):
        message = f"the option `{name}` of the rotator `ssh` names something twice, or what cannot be meant"
        raise InvalidRotation(message, hint="values are joined by commas, without spaces")
    return values


def _is_network(text: str) -> bool:
    try:
        # Strict as sshd is, which refuses the login where bits of the host are set.
        ip_network(text)
    except ValueError:
        return False
    return text.isascii() and "%" not in text
