"""`azurekeyvault:URL` - an RSA key of Azure Key Vault, or a symmetric one of a managed HSM."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from securecfg.errors import ExtraMissing, InvalidKeyUri, KeyMissing
from securecfg.keys.azure_answers import A256KW, RSA_OAEP_256, VERSION, parse_key, parse_value
from securecfg.keys.azure_hosts import AZURE_DOMAIN, VAULT_NAME
from securecfg.keys.kek import parse_params, wrong_key
from securecfg.keys.per_process import PerProcess
from securecfg.keys.remote import is_hinted, open_with_service, seal_with_service
from securecfg.keys.slots import KIND_AZUREKEYVAULT
from securecfg.keys.uri import distribution_for
from securecfg.octets import Cursor, Malformed, var8

if TYPE_CHECKING:
    from securecfg.keys.azure_requests import KeyVault
    from securecfg.keys.provider import Ask, KeyUri, WrapContext

# The public key of whoever else answered would encrypt the key-encryption key for him.
_KEY = re.compile(
    rf"(?P<vault>https://{VAULT_NAME}\.(?:vault|managedhsm)\.{AZURE_DOMAIN})"
    r"/keys/(?P<name>[A-Za-z0-9-]{1,127})(?:/(?P<version>[0-9a-f]{32}))?",
    re.ASCII,
)
_NAMES = {RSA_OAEP_256: "RSA-OAEP-256", A256KW: "A256KW"}
_OAEP = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)


class AzureKeyVaultProvider:
    """Has a key of Azure Key Vault unwrap a key-encryption key; for an RSA key it is wrapped here.

    Credentials are those that `azure-identity` finds without asking a person.

    Args:
        vault_url: Where the vault or the managed HSM is.
        name: The key's name there.
        version: The only version to use; without it slots are made with the newest one, and opened with their own.
    """

    scheme: Final = "azurekeyvault"
    kind: Final = KIND_AZUREKEYVAULT

    def __init__(self, vault_url: str, name: str, version: str | None = None) -> None:
        """Call nothing, and import nothing yet."""
        self.key_name = f"{vault_url}/keys/{name}"
        self._path = f"/keys/{name}"
        self._version = version
        self._vault = PerProcess(lambda: _open_vault(vault_url, self.key_name))

    def __repr__(self) -> str:
        """Show which key."""
        url = f"{self.key_name}/{self._version}" if self._version else self.key_name
        return f"AzureKeyVaultProvider({url!r})"

    def __eq__(self, other: object) -> bool:
        """Compare which key, and which version."""
        return isinstance(other, AzureKeyVaultProvider) and self._identity == other._identity

    def __hash__(self) -> int:
        """Hash which key, and which version."""
        return hash(self._identity)

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under a key-encryption key that is wrapped by the vault's key.

        Raises:
            KeyProviderUnavailable: Key Vault or the login service cannot be reached, or is too busy.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
            ExtraMissing: The packages `azure-identity` and `azure-keyvault-keys` are not installed.
        """
        return seal_with_service(self, key, context, self._encrypt)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped.

        Raises:
            WrongKey: The key, the bytes or the context are other ones.
            KeyProviderUnavailable: Key Vault or the login service cannot be reached, or is too busy.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
            ExtraMissing: The packages `azure-identity` and `azure-keyvault-keys` are not installed.
        """
        try:
            return open_with_service(self, wrapped, context, self._decrypt)
        except KeyMissing:
            # Of a slot that another key made the vault says that there is no such version of this one.
            if is_hinted(parse_params(wrapped), self.key_name, context.slot_id):
                raise
        raise wrong_key()

    def describe(self) -> dict[str, str]:
        """Return what people may want to know of the key."""
        managed = ".managedhsm." in self.key_name
        return {
            "service": "a managed HSM of Azure" if managed else "Azure Key Vault",
            "bound by the service": "nothing",
        }

    @property
    def _identity(self) -> tuple[str, str | None]:
        return self.key_name, self._version

    def _encrypt(self, kek: bytes) -> bytes:
        vault = self._vault.get()
        answer = vault.ask("get", f"{self._path}/{self._version or ''}")
        key = parse_key(self.key_name, answer, time.time())
        if key.public is not None:
            ciphertext = key.public.encrypt(kek, _OAEP)
        else:
            # Nothing that holds the key-encryption key has a name here: a traceback that shows locals must not show it.
            ciphertext = parse_value(
                self.key_name,
                vault.ask("wrapKey", f"{self._path}/{key.version}/wrapkey", _parameters(key.algorithm, kek)),
            )
        return bytes((key.algorithm,)) + var8(key.version.encode()) + ciphertext

    def _decrypt(self, sealed: bytes) -> bytes:
        algorithm, version, ciphertext = _parse_sealed(sealed)
        if self._version not in {None, version}:
            raise wrong_key()
        return parse_value(
            self.key_name,
            self._vault.get().ask("unwrapKey", f"{self._path}/{version}/unwrapkey", _parameters(algorithm, ciphertext)),
        )


def from_uri(uri: KeyUri, _ask: Ask | None) -> AzureKeyVaultProvider:
    """Return the provider for `azurekeyvault:https://VAULT.vault.azure.net/keys/NAME`, with `/VERSION` where wanted.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    key = _KEY.fullmatch(uri.rest)
    if not key:
        message = "an `azurekeyvault:` key is the URL of a key in Azure Key Vault or in a managed HSM"
        raise InvalidKeyUri(message, hint="for instance `azurekeyvault:https://shop.vault.azure.net/keys/app`")
    return AzureKeyVaultProvider(key["vault"], key["name"], key["version"])


def _open_vault(vault_url: str, key_name: str) -> KeyVault:
    try:
        from securecfg.keys.azure_requests import KeyVault
    except ImportError:
        message = "`azurekeyvault:` keys need the packages `azure-identity` and `azure-keyvault-keys`"
        raise ExtraMissing(message, hint=f"pip install {distribution_for(AzureKeyVaultProvider.scheme)}") from None
    return KeyVault(vault_url, key_name)


def _parse_sealed(sealed: bytes) -> tuple[int, str, bytes]:
    """Return algorithm, version and ciphertext.

    Raises:
        WrongKey: It is none of this. What stands in a file that anybody may have written goes into no URL otherwise.
    """
    cursor = Cursor(sealed)
    try:
        algorithm, version = cursor.u8(), cursor.str8()
    except Malformed:
        raise wrong_key() from None
    ciphertext = sealed[2 + len(version) :]
    if algorithm not in _NAMES or not VERSION.fullmatch(version) or not ciphertext:
        raise wrong_key()
    return algorithm, version, ciphertext


def _parameters(algorithm: int, value: bytes) -> dict[str, str]:
    return {"alg": _NAMES[algorithm], "value": urlsafe_b64encode(value).rstrip(b"=").decode()}
