"""What Azure Key Vault answers, and what it means."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from securecfg.crypto import KeyBytes
from securecfg.errors import (
    KeyAccessDenied,
    KeyDisabled,
    KeyMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SecurecfgError,
)
from securecfg.keys.kek import wrong_key

if TYPE_CHECKING:
    from collections.abc import Mapping

Operation = Literal["get", "wrapKey", "unwrapKey"]
"""What is asked for, by the name of the permission that it needs."""

RSA_OAEP_256: Final = 1
A256KW: Final = 2
_NOT_UNDERSTOOD = "Azure Key Vault gave no answer that can be understood"
VERSION = re.compile(r"[0-9a-f]{32}", re.ASCII)

_ALGORITHMS = {"RSA": RSA_OAEP_256, "RSA-HSM": RSA_OAEP_256, "oct-HSM": A256KW}
_RSA_BITS = range(2048, 16385)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}", re.ASCII)

_BAD_REQUEST = 400
_DENIED = frozenset({401, 403})
_NOT_FOUND = 404
_CONFLICT = 409
_TOO_MANY_REQUESTS = 429
_REFUSALS = range(400, 500)
_SERVER_ERRORS = 500


class VaultKey(NamedTuple):
    """A key of a vault that may wrap now.

    Attributes:
        version: 32 hexadecimal digits.
        algorithm: With which it wraps.
        public: Its public key, where it has one.
    """

    version: str
    algorithm: int
    public: RSAPublicKey | None


def parse_key(key_name: str, answer: Mapping[str, Any], now: float) -> VaultKey:
    """Return what a vault answers when it is asked for a key.

    Args:
        key_name: Its URL without a version.
        answer: A JSON object.
        now: Seconds since 1970.

    Raises:
        KeyDisabled: The key is disabled, or its time is over or has not come.
        KeyProviderRefused: It is of another type, or not made for wrapping.
        KeyProviderUnavailable: This is no answer.
    """
    key, attributes = _member(answer, "key"), _member(answer, "attributes")
    url, _, version = str(key.get("kid")).rpartition("/")
    begins, expires = attributes.get("nbf", 0), attributes.get("exp", now)
    operations = key.get("key_ops", [])
    if (
        url.lower() != key_name.lower()
        or not VERSION.fullmatch(version)
        or not (isinstance(begins, int | float) and isinstance(expires, int | float) and isinstance(operations, list))
    ):
        raise unavailable(key_name, _NOT_UNDERSTOOD)
    if attributes.get("enabled") is not True or not begins <= now <= expires:
        raise _disabled(key_name)
    algorithm = _ALGORITHMS.get(str(key.get("kty")))
    if algorithm is None:
        message = f"the Azure Key Vault key `{key_name}` is of a type that wraps nothing"
        raise _unsuitable(message)
    if not {"wrapKey", "unwrapKey"} <= {*map(str, operations)}:
        raise _not_for_wrapping(key_name)
    return VaultKey(version, algorithm, _parse_rsa(key_name, key) if algorithm == RSA_OAEP_256 else None)


def parse_value(key_name: str, answer: Mapping[str, Any]) -> KeyBytes:
    """Return what a vault wrapped or unwrapped.

    Raises:
        KeyProviderUnavailable: This is no answer.
    """
    value = _from_base64url(answer.get("value"))
    if value is None:
        del answer  # a traceback that shows locals must not show it
        raise unavailable(key_name, _NOT_UNDERSTOOD)
    return value


def refused(key_name: str, operation: Operation, status: int, answer: Mapping[str, Any]) -> SecurecfgError:
    """Return the error for an answer that is not the one that was asked for."""
    code = code_of(answer)
    shown = f" (`{code}`)" if code else ""
    if code in _STATES:
        return _STATES[code](key_name)
    if status in _DENIED:
        return KeyAccessDenied(
            f"Azure Key Vault does not let these credentials use the key `{key_name}`{shown}",
            hint=f"they need the right to `{operation}`, and the vault's firewall has to let this machine in",
        )
    if status in {_NOT_FOUND, _CONFLICT}:
        return KeyMissing(
            f"Azure Key Vault has no key `{key_name}`{shown}",
            hint="`az keyvault key list` shows the vault's keys, `az keyvault key recover` brings a deleted one back",
        )
    if is_busy(status) or status not in _REFUSALS:
        return unavailable(key_name, f"Azure Key Vault is busy or disturbed{shown}")
    if status == _BAD_REQUEST and code and operation == "unwrapKey":
        return wrong_key()
    return _unsuitable(f"Azure Key Vault refuses the key `{key_name}`{shown}")


def code_of(answer: Mapping[str, Any]) -> str:
    """Return the innermost code of a refusal; an empty text where there is none that can be shown."""
    error = _member(answer, "error")
    inner = _member(error, "innererror") or _member(error, "innerError")  # the service writes it either way
    codes = (inner.get("code"), error.get("code"))
    return next((code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)), "")


def is_busy(status: int) -> bool:
    """Return whether a service asks to be left alone for a while, or has a problem of its own."""
    return status == _TOO_MANY_REQUESTS or status >= _SERVER_ERRORS


def unavailable(key_name: str, why: str) -> KeyProviderUnavailable:
    """Return the error for a service that gives no usable answer."""
    return KeyProviderUnavailable(f"the key `{key_name}` cannot be used now: {why}", hint="try again later")


def _disabled(key_name: str) -> KeyDisabled:
    return KeyDisabled(
        f"the Azure Key Vault key `{key_name}` is disabled, expired or not valid yet",
        hint="`az keyvault key set-attributes` changes it: `--enabled true`, `--expires`, `--not-before`",
    )


def _not_for_wrapping(key_name: str) -> KeyProviderRefused:
    return KeyProviderRefused(
        f"the Azure Key Vault key `{key_name}` is not made for wrapping keys",
        hint="its permitted operations have to include `wrapKey` and `unwrapKey`",
    )


def _unsuitable(message: str) -> KeyProviderRefused:
    return KeyProviderRefused(message, hint="it has to be an RSA key, or a symmetric key of 256 bits in a managed HSM")


_STATES = {
    "KeyDisabled": _disabled,
    "KeyExpired": _disabled,
    "KeyNotYetValid": _disabled,
    "KeyOperationForbidden": _not_for_wrapping,
}


def _parse_rsa(key_name: str, key: Mapping[str, Any]) -> RSAPublicKey:
    modulus, exponent = _from_base64url(key.get("n")), _from_base64url(key.get("e"))
    try:
        public = RSAPublicNumbers(int.from_bytes(exponent or b""), int.from_bytes(modulus or b"")).public_key()
    except ValueError:  # zero, even or too small
        public = None
    if public is None or public.key_size not in _RSA_BITS:
        raise unavailable(key_name, _NOT_UNDERSTOOD)
    return public


def _from_base64url(text: object) -> KeyBytes | None:
    """Return what base64url without padding says (RFC 4648, section 5), nothing if it is something else."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return None
    return KeyBytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _member(within: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    member = within.get(name)
    return member if isinstance(member, dict) else {}
