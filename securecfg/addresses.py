"""Addresses of servers to which secrets may be sent."""

from __future__ import annotations

from urllib.parse import urlsplit

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_safe_address(address: str) -> bool:
    """Return whether an address is `https://`, or `http://` to this machine itself."""
    try:
        parts = urlsplit(address)
        is_plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    except ValueError:
        return False
    return bool(parts.scheme == "https" and parts.hostname) or is_plain


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine itself, so that what is sent to it passes no network and no proxy."""
    return host in _LOOPBACK
