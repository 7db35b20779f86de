"""`keyring:` - a key in the operating system's keyring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from securecfg.crypto import KeyBytes, generate_key
from securecfg.errors import ExtraMissing, InvalidKeyUri, KeyProviderRefused, KeyProviderUnavailable, WrongKey
from securecfg.keys.kek import open_under_kek, seal_under_kek
from securecfg.keys.keyfile import format_key, parse_key
from securecfg.keys.slots import KIND_KEYRING

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys.provider import Ask, KeyUri, WrapContext

SERVICE = "securecfg"

T = TypeVar("T")

# Others keep keys in plain files, keep nothing, or prompt on the terminal by themselves.
_TRUSTED_MODULES = frozenset(
    {
        "keyring.backends.SecretService",
        "keyring.backends.libsecret",
        "keyring.backends.kwallet",
        "keyring.backends.macOS",
        "keyring.backends.Windows",
    }
)
_NO_BACKEND_MODULES = frozenset({"keyring.backends.fail"})


class KeyringBackend(Protocol):
    """The part of a backend of the package `keyring` that is used."""

    def get_password(self, service: str, username: str, /) -> str | None:
        """Return what is kept, or None."""
        ...

    def set_password(self, service: str, username: str, password: str, /) -> None:
        """Keep a text."""
        ...


class KeyringProvider:
    """Keeps one random key for each vault in the keyring of the user who is logged in.

    Args:
        backend: Where to keep it; without one, the operating system's keyring. A backend given here is trusted.
    """

    scheme: Final = "keyring"
    kind: Final = KIND_KEYRING

    def __init__(self, backend: KeyringBackend | None = None) -> None:
        """Hold the backend; the operating system's is looked for when a slot is made or tried."""
        self._backend = backend

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under the vault's key in the keyring, which is made if there is none.

        Raises:
            KeyProviderUnavailable: There is no keyring, or it is locked.
            KeyProviderRefused: The keyring is not a safe one, or what it keeps is not a key.
            ExtraMissing: The package `keyring` is not installed.
        """
        backend = self._backend or find_backend()
        kek = _read(backend, context.vault_id)
        if kek is None:
            _guarded(lambda: backend.set_password(SERVICE, context.vault_id.hex(), format_key(generate_key())))
            kek = _read(backend, context.vault_id)
            if kek is None:
                message = "the keyring did not keep the key"
                raise KeyProviderUnavailable(message, hint="use `file:PATH` or `passphrase:` instead")
        return seal_under_kek(kek, self.kind, b"", key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under the vault's key in the keyring.

        Raises:
            WrongKey: The keyring keeps no key or another one, or the bytes or the context are other ones.
            KeyProviderUnavailable: There is no keyring, or it is locked.
            KeyProviderRefused: The keyring is not a safe one, or what it keeps is not a key.
            ExtraMissing: The package `keyring` is not installed.
        """
        kek = _read(self._backend or find_backend(), context.vault_id)
        if kek is None:
            message = "the operating system's keyring keeps no key for this vault"
            raise WrongKey(message, hint="it was made by another user or on another machine; open the vault otherwise")
        return open_under_kek(kek, self.kind, wrapped, context)


def from_uri(uri: KeyUri, _ask: Ask | None) -> KeyringProvider:
    """Return the provider for `keyring:`.

    Raises:
        InvalidKeyUri: Something follows the colon.
    """
    if uri.rest:
        message = "nothing follows the colon of `keyring:`"
        raise InvalidKeyUri(message, hint="the key is found by the vault's id")
    return KeyringProvider()


def find_backend() -> KeyringBackend:
    """Return the operating system's keyring.

    Raises:
        ExtraMissing: The package `keyring` is not installed.
        KeyProviderUnavailable: There is no keyring on this machine.
        KeyProviderRefused: What is configured is not the operating system's keyring.
    """
    try:
        from keyring import get_keyring
    except ImportError:
        message = "`keyring:` keys need the package `keyring`"
        raise ExtraMissing(message, hint="pip install keyring") from None
    return _choose(_guarded(get_keyring))


def _choose(configured: KeyringBackend) -> KeyringBackend:
    # A chain would hand the key to its next link, perhaps a plain file, when the first one is locked.
    links: list[KeyringBackend] = list(getattr(configured, "backends", ())) or [configured]
    for backend in links:
        if type(backend).__module__ in _TRUSTED_MODULES:
            return backend
    if {type(backend).__module__ for backend in links} <= _NO_BACKEND_MODULES:
        message = "there is no keyring on this machine"
        raise KeyProviderUnavailable(message, hint="use `file:PATH` or `passphrase:` instead")
    message = f"`{type(links[0]).__module__}` is not the operating system's keyring"
    raise KeyProviderRefused(message, hint="unset PYTHON_KEYRING_BACKEND, or use `file:PATH` or `passphrase:` instead")


def _read(backend: KeyringBackend, vault_id: bytes) -> KeyBytes | None:
    text = _guarded(lambda: backend.get_password(SERVICE, vault_id.hex()))
    if text is None:
        return None
    try:
        return parse_key(text)
    except ValueError:
        del text  # a traceback that shows locals must not show it
        message = "what the keyring keeps for this vault is not a key"
        raise KeyProviderRefused(message, hint="somebody changed it; open the vault with another key") from None


def _guarded(call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception:  # noqa: BLE001 - backends raise what D-Bus and the system libraries raise
        message = "the operating system's keyring is locked or does not answer"
        raise KeyProviderUnavailable(message, hint="unlock it, or use another key") from None
