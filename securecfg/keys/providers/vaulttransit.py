"""`vaulttransit:MOUNT/KEY` - a key of the transit engine of a Vault or OpenBao server."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from securecfg.crypto import KeyBytes
from securecfg.errors import (
    ExtraMissing,
    InvalidKeyUri,
    KeyAccessDenied,
    KeyDisabled,
    KeyMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SecurecfgError,
)
from securecfg.keys.credentials import CredentialMissing
from securecfg.keys.discretion import discreet
from securecfg.keys.kek import wrong_key
from securecfg.keys.remote import open_with_service, seal_with_service
from securecfg.keys.slots import KIND_VAULTTRANSIT
from securecfg.keys.uri import distribution_for
from securecfg.keys.vault_login import (
    Login,
    Where,
    connect,
    find_token,
    login_request,
    server_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys.provider import Ask, KeyUri, WrapContext

_PATH = re.compile(r"(?:[\w-][\w.-]{0,127}/){1,8}[\w-][\w.-]{0,127}", re.ASCII)
_NAMESPACE = re.compile(r"[\w-][\w./-]{0,255}", re.ASCII)
_ROLE = re.compile(r"[\w.-]{1,128}", re.ASCII)
_LOGINS = frozenset({"token", "approle", "kubernetes"})
_LOGIN = "log in"

# Vault has no codes; these are its words, unchanged since they were introduced. What is not among them is no secret
# told: it is only called by a less precise name.
_NO_KEY = "key not found"
_TOO_OLD = "disallowed by policy"
_NO_TOKEN = "missing client token"  # noqa: S105 - a message
_NOT_FOR_THIS = ("non-AEAD", "not supported for key type")


class VaultTransitProvider:
    """Has a transit engine encrypt a key-encryption key. Its address is found as Vault's own program does.

    Args:
        path: The engine's mount point and the key's name.
        login: How to get a token.
        namespace: The namespace; without it that of `VAULT_NAMESPACE`.
    """

    scheme: Final = "vaulttransit"
    kind: Final = KIND_VAULTTRANSIT

    def __init__(self, path: str, *, login: Login | None = None, namespace: str = "") -> None:
        """Call nothing, and import nothing yet."""
        self.key_name = path
        self._login = login or Login()
        self._namespace = namespace

    def __repr__(self) -> str:
        """Show which key."""
        return f"VaultTransitProvider({self.key_name!r})"

    def __eq__(self, other: object) -> bool:
        """Compare which key, where, and who asks."""
        return isinstance(other, VaultTransitProvider) and self._place == other._place

    def __hash__(self) -> int:
        """Hash which key, where, and who asks."""
        path, login, namespace = self._place
        return hash((path, login[:-1], namespace))  # what is given to a login has no hash

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under a key-encryption key that the engine has encrypted with the newest version of its key.

        Raises:
            KeyProviderUnavailable: The server cannot be reached, is sealed or too busy, or reports an error of its own.
            KeyProviderRefused: It refuses; `KeyAccessDenied` or `KeyMissing` where it says why.
            SettingMissing: `VAULT_ADDR` is not set, or would show the key to the network.
            ExtraMissing: The package `hvac` is not installed.
        """
        return seal_with_service(self, key, context, lambda kek: self._encrypt(kek, context))

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped. The ciphertext says which version of the engine's key it needs.

        Raises:
            WrongKey: The key, the bytes or the context are other ones.
            KeyProviderUnavailable: The server cannot be reached, is sealed or too busy, or reports an error of its own.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
            SettingMissing: `VAULT_ADDR` is not set, or would show the key to the network.
            ExtraMissing: The package `hvac` is not installed.
        """
        return open_with_service(self, wrapped, context, lambda ciphertext: self._decrypt(ciphertext, context))

    def describe(self) -> dict[str, str]:
        """Return what people may want to know of the key."""
        namespace = {"namespace": self._namespace} if self._namespace else {}
        return {
            "service": f"transit engine at `{server_address()}`",
            "bound by the service": "context, associated data",
            "login": self._login.method,
            **namespace,
        }

    @property
    def _place(self) -> tuple[str, Login, str]:
        return self.key_name, self._login, self._namespace

    def _encrypt(self, kek: bytes, context: WrapContext) -> bytes:
        # What is secret is made into text in the call itself, so that no frame of ours holds it.
        return self._call(
            "encrypt",
            lambda transit, where: transit.encrypt_data(plaintext=_base64(kek), **where),
            lambda answer: answer["data"]["ciphertext"].encode("ascii"),
            context,
        )

    def _decrypt(self, ciphertext: bytes, context: WrapContext) -> bytes:
        text = ciphertext.decode("ascii", errors="replace")
        return self._call(
            "decrypt",
            lambda transit, where: transit.decrypt_data(ciphertext=text, **where),
            lambda answer: KeyBytes(b64decode(answer["data"]["plaintext"], validate=True)),
            context,
        )

    def _call(
        self,
        operation: str,
        ask: Callable[[Any, dict[str, str]], Any],
        pick: Callable[[Any], bytes],
        context: WrapContext,
    ) -> bytes:
        try:
            from hvac.exceptions import VaultError
            from requests.exceptions import SSLError
        except ImportError:
            message = "`vaulttransit:` keys need the package `hvac`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for(self.scheme)}") from None
        mount, _, name = self.key_name.rpartition("/")
        bound = _base64(b"".join(context))
        # A key that is not derived takes no notice of the context.
        where = {"name": name, "mount_point": mount, "context": bound, "associated_data": bound}
        failure: SecurecfgError
        doing = _LOGIN
        try:
            with discreet("hvac"):
                client = self._log_in()
                doing = operation
                with closing(client.adapter):
                    return pick(ask(client.secrets.transit, where))
        except VaultError as error:
            failure = self._answered(error, doing)
        except CredentialMissing as error:
            message = f"there is nothing to log in with for the key `{self.key_name}`"
            failure = KeyAccessDenied(message, hint=f"looked for in {error.places}")
        except SSLError:
            failure = self._unavailable("has no certificate that is trusted here", "VAULT_CACERT names its authority")
        except OSError:  # the errors of its HTTP library are among them
            failure = self._unavailable("cannot be reached")
        except (LookupError, TypeError, ValueError, AttributeError):
            failure = self._unavailable("gave no answer that can be understood, or points to another server")
        raise failure  # here, so that it drags along no frame and no text of the client

    def _log_in(self) -> Any:  # noqa: ANN401 - the package has no types
        """Return a client with a token, a new one for each call: tokens end, and no two threads share one."""
        client = connect(Where(namespace=self._namespace), self._login)
        if self._login.method == "token":
            client.token = find_token(self._login)
        else:
            path, body = login_request(self._login)
            client.adapter.login(path, json=body)
        return client

    def _answered(self, error: Any, doing: str) -> SecurecfgError:  # noqa: ANN401 - as above
        """Return the error for an answer of the server."""
        from hvac import exceptions

        name = self.key_name
        if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
            return self._denied(doing)
        if doing == _LOGIN and isinstance(error, exceptions.InvalidRequest | exceptions.InvalidPath):
            return self._denied(doing)
        if isinstance(error, exceptions.InvalidRequest):
            return self._bad_request(" ".join(map(str, error.errors or ())), doing)
        if isinstance(error, exceptions.InvalidPath):
            return KeyMissing(
                f"the server has no transit engine at `{name}`", hint="is it the right namespace and mount?"
            )
        if isinstance(error, exceptions.VaultDown):
            return self._unavailable("is sealed, or being maintained")
        return self._unavailable("is busy, disturbed or a standby")

    def _bad_request(self, said: str, operation: str) -> SecurecfgError:
        name = self.key_name
        if _NO_TOKEN in said:
            return self._denied(operation)
        if _NO_KEY in said:
            return KeyMissing(f"the transit engine knows no key `{name}`", hint="is it the right namespace and mount?")
        if _TOO_OLD in said:
            return KeyDisabled(
                f"the version of the transit key `{name}` that is needed may not decrypt any more",
                hint="lower its `min_decryption_version`, and wrap the slot anew: `securecfg key rotate slot`",
            )
        if operation == "decrypt" and not any(words in said for words in _NOT_FOR_THIS):
            return wrong_key()
        return KeyProviderRefused(
            f"the transit engine refuses the key `{name}`",
            hint="its type has to be one of aes128-gcm96, aes256-gcm96 and chacha20-poly1305",
        )

    def _denied(self, doing: str) -> KeyAccessDenied:
        if doing == _LOGIN:
            return KeyAccessDenied(
                f"the server does not take what there is to log in with for the key `{self.key_name}`",
                hint="look at the role, at where its method is mounted, and whether the secret has ended",
            )
        mount, _, name = self.key_name.rpartition("/")
        return KeyAccessDenied(
            f"the server does not let this token or role use the key `{self.key_name}`",
            hint=f"its policy needs `update` on `{mount}/{doing}/{name}`; the token may have ended",
        )

    def _unavailable(self, what: str, hint: str = "try again later") -> KeyProviderUnavailable:
        return KeyProviderUnavailable(f"the key `{self.key_name}` cannot be used now: the server {what}", hint=hint)


def from_uri(uri: KeyUri, _ask: Ask | None) -> VaultTransitProvider:
    """Return the provider for `vaulttransit:MOUNT/KEY`, with options after a `?`.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    path, mark, query = uri.rest.partition("?")
    if not _PATH.fullmatch(path):
        message = "a `vaulttransit:` key is the mount point of an engine and the name of a key"
        raise InvalidKeyUri(message, hint="for instance `vaulttransit:transit/shop`")
    parts = query.split("&") if mark else []
    options = dict(part.partition("=")[::2] for part in parts)
    method = options.get("login", "token")
    role, mount, namespace = (options.get(name, "") for name in ("role", "login_mount", "namespace"))
    wrong = (
        len(options) < len(parts)
        or not options.keys() <= {"login", "role", "login_mount", "file", "namespace"}
        or "" in options.values()
        or method not in _LOGINS
        or (method == "token") == ("role" in options)
        or (method == "token" and mount)
    )
    if wrong or (role and not _ROLE.fullmatch(role)):
        message = "the options of a `vaulttransit:` key do not fit together, or are no options"
        hint = "`login=token`, `login=approle&role=ID` or `login=kubernetes&role=NAME`, with `file`, `namespace`"
        raise InvalidKeyUri(message, hint=hint)
    if any(one and not _NAMESPACE.fullmatch(one) for one in (mount, namespace)):
        message = "a mount point or a namespace of a `vaulttransit:` key is not one"
        raise InvalidKeyUri(message, hint="names with `/` between them")
    login = Login(method, role, mount, options.get("file", ""))
    return VaultTransitProvider(path, login=login, namespace=namespace)


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
