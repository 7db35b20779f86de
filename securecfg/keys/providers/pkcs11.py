"""`pkcs11:...` (RFC 7512) - a key that a token holds: a hardware security module, a TPM, a smart card."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from securecfg.crypto import KEY_BYTES, generate_key
from securecfg.errors import ExtraMissing, InvalidKeyUri, KeyProviderUnavailable, SettingMissing, WrongKey
from securecfg.keys.kek import open_under_kek, parse_params, seal_under_kek, wrong_key
from securecfg.keys.provider import KeyUri
from securecfg.keys.secret_input import open_secret_input
from securecfg.keys.slots import KIND_PKCS11
from securecfg.keys.tokens import parse_token_uri
from securecfg.keys.uri import distribution_for
from securecfg.patience import PATIENCE
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.crypto import KeyBytes
    from securecfg.keys.provider import Ask, WrapContext
    from securecfg.keys.tokens import TokenUri
    from securecfg.keys.tokens.cryptoki import Cryptoki
    from securecfg.keys.tokens.wrapping import TokenKey

T = TypeVar("T")

_PIN_SOURCE = re.compile(
    r"(?P<env>env:[A-Za-z_][A-Za-z0-9_]{0,254})|(?P<fd>fd:[0-9]{1,9})|(?P<file>file:(?://)?/(?!/)[^\x00]+)", re.ASCII
)


class Pkcs11Provider:
    """Has a token encrypt a key-encryption key, with what the key and the token offer.

    Args:
        uri: Which key, on which token, through which module.
        pin: Logs in where the token asks for it.
        timeout_s: How long each use of the token may take, the person who is asked for the PIN apart.
    """

    scheme: Final = "pkcs11"
    kind: Final = KIND_PKCS11

    def __init__(self, uri: TokenUri, pin: Secret[str], *, timeout_s: float = PATIENCE.deadline_s) -> None:
        """Load no module, and reveal no PIN yet."""
        self._timeout_s = timeout_s
        self._uri = uri
        self._pin = pin
        self._facts: Mapping[str, str] = {}
        self._known: tuple[Any, TokenKey] | None = None

    @property
    def asks_nobody(self) -> bool:
        """Whether the PIN comes from where the URI says, and from no person."""
        return self._uri.pin_source is not None

    def __repr__(self) -> str:
        """Show which key."""
        return f"Pkcs11Provider({self._uri.token_name!r}, {self._uri.key_name!r})"

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under a key-encryption key that the token has encrypted, and has proved that it can decrypt.

        Raises:
            ExtraMissing: The package `python-pkcs11` is not installed.
            ModuleMissing: The module is not there.
            TokenMissing: The token is not there.
            KeyMissing: The token has no such key; `create_missing` makes it.
            PinIncorrect: The token does not accept the PIN.
            KeyProviderRefused: The key, or the token, cannot do what is needed.
            KeyProviderUnavailable: The token is out of order, or does not answer in time.
            SettingMissing: There is nobody to ask for the PIN.
        """
        kek = generate_key()
        params = self._use(lambda session: self._find(session).wrap(kek, _associated(context)))
        return seal_under_kek(kek, self.kind, params, key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped.

        Raises:
            WrongKey: The key, the bytes or the context are other ones.
            ExtraMissing: The package `python-pkcs11` is not installed.
            ModuleMissing: The module is not there.
            TokenMissing: The token is not there.
            KeyMissing: The token has no such key.
            PinIncorrect: The token does not accept the PIN.
            KeyProviderRefused: The key URI is ambiguous.
            KeyProviderUnavailable: The token is out of order, or does not answer in time.
            SettingMissing: There is nobody to ask for the PIN.
        """
        params = parse_params(wrapped)
        if not params:
            raise wrong_key()
        kek: KeyBytes = self._use(lambda session: self._unwrap(session, params, _associated(context)))
        if len(kek) != KEY_BYTES:
            raise wrong_key()
        return open_under_kek(kek, self.kind, wrapped, context)

    def create_missing(self) -> bool:
        """Make the key if the token does not have it, such that it never leaves the token; return whether it was made.

        It is AES-256, or RSA where the token makes no AES keys or the URI says `type=private`.

        Raises:
            InvalidKeyUri: The key URI has no label to give it.
            ExtraMissing: The package `python-pkcs11` is not installed.
            ModuleMissing, TokenMissing, PinIncorrect: As for `wrap`.
            KeyProviderRefused: The token makes no key of a kind that is known here.
        """
        if self._uri.object is None:
            message = "a new key needs a label"
            raise InvalidKeyUri(message, hint="add `object=NAME` to the key URI")
        from securecfg.keys.tokens.creating import create_key, has_key

        if self._use(lambda session: has_key(session, self._uri)):
            return False
        self._cryptoki().change(self._uri, self._pin, lambda session: create_key(session, self._uri), self._timeout_s)
        return True

    def describe(self) -> Mapping[str, str]:
        """Return what people may want to know of the key."""
        return self._facts

    def _use(self, work: Callable[[Any], T]) -> T:
        return self._cryptoki().use(self._uri, self._pin, work, self._timeout_s)

    def _unwrap(self, session: Any, params: bytes, aad: bytes) -> KeyBytes:  # noqa: ANN401 - the classes of the library are made in C
        known = self._known
        if known is not None and known[0] is session:
            # To look for a key takes far longer than to use it. What another program did to it meanwhile shows below.
            with suppress(WrongKey, KeyProviderUnavailable):
                return known[1].unwrap(params, aad)
        return self._find(session).unwrap(params, aad)

    def _find(self, session: Any) -> TokenKey:  # noqa: ANN401 - as above
        from securecfg.keys.tokens.wrapping import find_key

        self._known = None
        key = find_key(session, self._uri)
        token = session.token
        self._facts = {"token": f"{token.label}, {token.manufacturer_id} {token.model}", **key.describe()}
        self._known = session, key
        return key

    @staticmethod
    def _cryptoki() -> Cryptoki:
        try:
            import pkcs11  # noqa: F401 - so that a failure below is not taken for its absence
        except ImportError:
            message = "`pkcs11:` keys need the package `python-pkcs11`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for('pkcs11')}") from None
        from securecfg.keys.tokens.cryptoki import CRYPTOKI

        return CRYPTOKI


def from_uri(uri: KeyUri, ask: Ask | None) -> Pkcs11Provider:
    """Return the provider for a PKCS#11 URI.

    The PIN comes from `pin-source=env:NAME`, `pin-source=fd:N` or `pin-source=file:PATH`, or is asked for.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    token = parse_token_uri(uri)
    return Pkcs11Provider(token, _open_pin(token, ask))


def _open_pin(uri: TokenUri, ask: Ask | None) -> Secret[str]:
    what = f"PIN of the token `{uri.token_name}`"
    if uri.pin_source is None:
        if ask is None:
            return Secret.deferred(lambda: _nobody_to_ask(what), label="PIN")
        return open_secret_input(KeyUri("pkcs11", ""), ask, what=what, sources=())
    match = _PIN_SOURCE.fullmatch(uri.pin_source)
    if match is None or match.lastgroup is None:
        message = "the `pin-source` of a `pkcs11:` key is `env:NAME`, `fd:N` or `file:` with a whole path"
        raise InvalidKeyUri(message, hint="programs that print a PIN are not run")
    source = uri.pin_source.replace(":", "=", 1).replace("=//", "=", 1)
    return open_secret_input(KeyUri("pkcs11", f"?{source}"), None, what=what, sources=(match.lastgroup,))


def _nobody_to_ask(what: str) -> NoReturn:
    message = f"the {what} is needed and there is nobody to ask"
    raise SettingMissing(message, hint="add `pin-source=env:NAME`, `fd:N` or `file:PATH` to the key URI")


def _associated(context: WrapContext) -> bytes:
    return context.vault_id + context.slot_id
