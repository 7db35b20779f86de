"""What passphrase slots keep beside what they seal: a salt, and what one guess costs (format, section 4.2, kind 1)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from securecfg.crypto import FORMAT_LIMIT, Argon2Costs, stretch
from securecfg.errors import KeyProviderRefused, KeyProviderUnavailable
from securecfg.keys.kek import parse_params, wrong_key

if TYPE_CHECKING:
    from securecfg.crypto import KeyBytes
    from securecfg.secret import Secret

_SALT_BYTES = 16
_PARAMS_BYTES = _SALT_BYTES + 6


def new_params(costs: Argon2Costs) -> bytes:
    """Return the parameters of a new slot, with a salt of its own."""
    return os.urandom(_SALT_BYTES) + costs.to_bytes()


def costs_of(wrapped: bytes) -> Argon2Costs:
    """Return what one guess at a slot costs, allowed and computable or not.

    Raises:
        WrongKey: The bytes are not those of a passphrase slot.
    """
    params = parse_params(wrapped)
    if len(params) != _PARAMS_BYTES:
        raise wrong_key()
    return Argon2Costs.from_bytes(params[_SALT_BYTES:])


def parse_allowed_params(wrapped: bytes, limit: Argon2Costs) -> bytes:
    """Return the parameters of a slot that may be tried.

    Raises:
        WrongKey: The bytes are not those of a passphrase slot, or what they ask for cannot be computed.
        KeyProviderRefused: Trying would cost more than the format or the caller allows.
    """
    costs = costs_of(wrapped)
    if costs.exceeds(FORMAT_LIMIT) or costs.exceeds(limit):
        message = f"an unlock slot asks for {costs.memory_kib // 1024} MiB and {costs.passes} passes of Argon2id"
        raise KeyProviderRefused(message, hint="the vault may be hostile; open it with another key")
    if not costs.is_computable():
        raise wrong_key()
    return parse_params(wrapped)


def stretch_with(passphrase: Secret[str], params: bytes) -> KeyBytes:
    """Return the 32 bytes that a passphrase is under some parameters.

    Raises:
        KeyProviderRefused: The passphrase is empty or not text.
        KeyProviderUnavailable: There is not enough memory.
        SettingMissing: There is nobody to ask for it.
    """
    costs = Argon2Costs.from_bytes(params[_SALT_BYTES:])
    try:
        # Not kept in a variable, which a traceback might show.
        return stretch(passphrase.reveal(), params[:_SALT_BYTES], costs)
    except ValueError:  # the costs are computable
        message = "the passphrase is empty or not Unicode text"
        raise KeyProviderRefused(message) from None
    except MemoryError:
        message = f"there is not enough memory for {costs.memory_kib // 1024} MiB of Argon2id"
        raise KeyProviderUnavailable(message) from None
