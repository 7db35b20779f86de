"""What can go wrong with a service that holds keys, and a key service in memory with which it does."""

from __future__ import annotations

import os
import threading
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecfg.errors import KeyAccessDenied, KeyDisabled, KeyMissing, KeyProviderUnavailable, WrongKey
from securecfg.keys.remote import open_with_service, seal_with_service

if TYPE_CHECKING:
    from securecfg.keys import WrapContext

_NONCE_BYTES = 12
_HINT = "the test tells it what to do"


class ServiceFault(StrEnum):
    """What a key service may do instead of what it was asked.

    Attributes:
        UNREACHABLE: Nobody is at its address.
        RESET: It breaks off the connection.
        SILENT: It accepts what it is asked and never answers.
        BROKEN: It reports an error of its own.
        THROTTLED: It has been asked too often.
        DENIED: It does not let the caller use the key.
        DISABLED: The key is switched off.
        DELETED: There is no such key any more.
    """

    UNREACHABLE = "unreachable"
    RESET = "reset"
    SILENT = "silent"
    BROKEN = "broken"
    THROTTLED = "throttled"
    DENIED = "denied"
    DISABLED = "disabled"
    DELETED = "deleted"


class MemoryKms:
    """A key service in this process. It counts its calls and can be told to fail.

    Attributes:
        calls: How often it was asked, faults included.
        latency_s: How long it takes for each answer.
    """

    def __init__(self, *, filling_bytes: int = 0) -> None:
        """Hold no key yet.

        Args:
            filling_bytes: By how much ciphertexts are longer than they need to be.
        """
        self.calls = 0
        self.latency_s = 0.0
        self._filling = bytes(filling_bytes)
        self._keys: dict[str, AESGCM] = {}
        self._faults: list[ServiceFault] = []
        self._always: ServiceFault | None = None
        self._lock = threading.Lock()

    def create_key(self, name: str) -> None:
        """Make a new key, in the place of one of the same name."""
        self._keys[name] = AESGCM(os.urandom(32))

    def add_alias(self, alias: str, name: str) -> None:
        """Give a key another name."""
        self._keys[alias] = self._keys[name]

    def fail(self, fault: ServiceFault | None) -> None:
        """Show a fault from now on, or none."""
        self._always = fault

    def fail_next(self, *faults: ServiceFault) -> None:
        """Show these faults, one for each of the next calls."""
        with self._lock:
            self._faults.extend(faults)

    def encrypt(self, name: str, plaintext: bytes, context: WrapContext) -> bytes:
        """Return a ciphertext that is bound to a context.

        Raises:
            KeyProviderUnavailable, KeyProviderRefused: As it was told.
        """
        key = self._enter(name)
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + key.encrypt(nonce, plaintext, b"".join(context)) + self._filling

    def decrypt(self, name: str, ciphertext: bytes, context: WrapContext) -> bytes:
        """Return what was encrypted.

        Raises:
            WrongKey: Another key or context, or altered bytes.
            KeyProviderUnavailable, KeyProviderRefused: As it was told.
        """
        key = self._enter(name)
        body = ciphertext.removesuffix(self._filling)
        try:
            return key.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], b"".join(context))
        except (InvalidTag, ValueError):
            message = "the memory service cannot decrypt this"
            raise WrongKey(message) from None

    def _enter(self, name: str) -> AESGCM:
        with self._lock:
            self.calls += 1
            fault = self._faults.pop(0) if self._faults else self._always
        time.sleep(self.latency_s)
        if fault is not None:
            _show(fault)
        key = self._keys.get(name)
        if key is None:
            message = "the memory service knows no such key"
            raise KeyMissing(message, hint=_HINT)
        return key


class MemoryKmsProvider:
    """A provider whose key lies in a `MemoryKms`.

    Args:
        service: Where the key lies.
        key_name: What it is called there.
    """

    scheme: Final = "memory"
    kind: Final = 254

    def __init__(self, service: MemoryKms, key_name: str) -> None:
        """Call nothing yet."""
        self.service = service
        self.key_name = key_name

    def __eq__(self, other: object) -> bool:
        """Compare service and key."""
        return isinstance(other, MemoryKmsProvider) and self._identity == other._identity

    def __hash__(self) -> int:
        """Hash service and key."""
        return hash(self._identity)

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under a key of the service.

        Raises:
            KeyProviderUnavailable, KeyProviderRefused: As the service was told.
        """
        return seal_with_service(self, key, context, lambda kek: self.service.encrypt(self.key_name, kek, context))

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return what was wrapped under the key of the service.

        Raises:
            WrongKey: The key, the bytes or the context are other ones.
            KeyProviderUnavailable, KeyProviderRefused: As the service was told.
        """
        return open_with_service(
            self, wrapped, context, lambda ciphertext: self.service.decrypt(self.key_name, ciphertext, context)
        )

    @property
    def _identity(self) -> tuple[int, str]:
        return id(self.service), self.key_name


_REFUSALS = {
    ServiceFault.DENIED: KeyAccessDenied,
    ServiceFault.DISABLED: KeyDisabled,
    ServiceFault.DELETED: KeyMissing,
}


def _show(fault: ServiceFault) -> NoReturn:
    if fault is ServiceFault.SILENT:
        threading.Event().wait()
    message = f"the memory service is {fault}"
    raise _REFUSALS.get(fault, KeyProviderUnavailable)(message, hint=_HINT)
