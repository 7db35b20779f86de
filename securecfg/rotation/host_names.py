"""Names of hosts as certificates carry them: DNS names, wildcards, and addresses, taken strictly."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from securecfg.errors import InvalidRotation
from securecfg.tuples import NamedTuple

Host = str | IPv4Address | IPv6Address
"""A DNS name in lower case, perhaps with `*` as its first label, or an address."""

HOSTS_MAX = 100
_DNS_NAME_MAX = 253
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
"""A last label that makes what stands before it an address for some (WHATWG URL, section 3.5)."""

_WILDCARD = "*."
_SHOWN_MAX = 64


class AllowedHosts(NamedTuple):
    """What names of hosts must lie under.

    Attributes:
        domains: A DNS name lies under one that it is equal to, or ends in, label by label.
        networks: An address lies in one of these.
    """

    domains: tuple[str, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]

    def permits(self, host: Host) -> bool:
        """Return whether a host lies under any of them. A wildcard does where all that it stands for does."""
        if isinstance(host, str):
            return any(is_below(host.removeprefix(_WILDCARD), domain) for domain in self.domains)
        return any(host in network for network in self.networks)


def is_below(name: str, domain: str) -> bool:
    """Return whether a DNS name is a domain, or lies in it."""
    return name == domain or name.endswith(f".{domain}")


def parse_hosts(text: str) -> tuple[Host, ...]:
    """Return names and addresses that are joined by commas, each once.

    Raises:
        InvalidRotation: There is none, there are too many, or one is malformed.
    """
    hosts = tuple(dict.fromkeys(_parse_host(each.strip(" ")) for each in text.split(","))) if text else ()
    if not 0 < len(hosts) <= HOSTS_MAX:
        message = f"a certificate is for 1 to {HOSTS_MAX} names"
        raise InvalidRotation(message, hint="give them in the option `names`, joined by commas")
    return hosts


def parse_allowed(text: str) -> AllowedHosts:
    """Return domains and networks that are joined by commas.

    Raises:
        InvalidRotation: One is neither.
    """
    domains, networks = [], []
    for entry in (each.strip(" ") for each in text.split(",")):
        if "/" in entry or _is_address(entry):
            try:
                networks.append(ip_network(entry))
            except ValueError:
                message = f"`{_shown(entry)}` is no network"
                hint = "a network is such as `10.0.0.0/8`, with no bit set after its prefix"
                raise InvalidRotation(message, hint=hint) from None
        else:
            domains.append(_parse_dns_name(entry.lower()))
    return AllowedHosts(tuple(domains), tuple(networks))


def _parse_host(text: str) -> Host:
    if _is_address(text):
        address = ip_address(text)
        if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
            message = f"`{_shown(text)}` is the address of no host"
            raise InvalidRotation(message)
        return address
    lower = text.lower()
    if not lower.startswith(_WILDCARD):
        return _parse_dns_name(lower)
    name = _parse_dns_name(lower.removeprefix(_WILDCARD))
    if "." not in name:
        message = f"`{_shown(text)}` stands for too much"
        raise InvalidRotation(message, hint="a wildcard stands before two labels at least, as in `*.shop.internal`")
    return lower


def _parse_dns_name(name: str) -> str:
    labels = name.split(".")
    if not name.isascii():
        message = f"`{_shown(name)}` is not written in ASCII"
        raise InvalidRotation(message, hint="write such a name as DNS has it, with labels that begin with `xn--`")
    if len(name) > _DNS_NAME_MAX or not all(map(_LABEL.fullmatch, labels)) or _NUMBER.fullmatch(labels[-1]):
        message = f"`{_shown(name)}` is no name of a host"
        raise InvalidRotation(
            message, hint="labels of letters, digits and `-`, joined by `.`; a `*` stands for the first one as a whole"
        )
    if not all(map(_is_decodable, labels)):
        message = f"`{_shown(name)}` has a label that begins with `xn--` and stands for nothing"
        raise InvalidRotation(message)
    return name


def _is_decodable(label: str) -> bool:
    """Return whether a label that says that it stands for one in other letters does."""
    if not label.startswith("xn--"):
        return True
    try:
        meant = label.removeprefix("xn--").encode().decode("punycode")
    except UnicodeError:
        return False
    return not meant.isascii() and meant.isprintable() and f"xn--{meant.encode('punycode').decode()}" == label


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return ascii(text[:_SHOWN_MAX])[1:-1].replace("`", "'")
