"""`gcpkms:KEY` - a symmetric key of Google Cloud KMS.

The client speaks HTTP here, not gRPC: a process that has used gRPC cannot be relied on to fork (decision 0014).
"""

from __future__ import annotations

import re
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
from securecfg.keys.discretion import discreet
from securecfg.keys.gcp import ANSWER_S, ENDPOINT, LOCATION, PROJECT, ask_once, crc32c, may_pass, words_of
from securecfg.keys.kek import wrong_key
from securecfg.keys.per_process import PerProcess
from securecfg.keys.remote import open_with_service, seal_with_service
from securecfg.keys.slots import KIND_GCPKMS
from securecfg.keys.uri import distribution_for

if TYPE_CHECKING:
    from securecfg.keys.provider import Ask, KeyUri, WrapContext

_KEY = re.compile(PROJECT + "/" + LOCATION + r"/keyRings/[\w-]{1,63}/cryptoKeys/[\w-]{1,63}", re.ASCII)

_DENIED_STATUSES = frozenset({401, 403})
_NOT_FOUND = 404
_TOO_MANY_REQUESTS = 429
_REFUSALS = range(400, 500)


class GcpKmsProvider:
    """Has Cloud KMS encrypt a key-encryption key. Credentials are found as Google's own clients find them.

    Args:
        key: The resource name of the key.
        endpoint: Where to ask instead of the public endpoint.
    """

    scheme: Final = "gcpkms"
    kind: Final = KIND_GCPKMS

    def __init__(self, key: str, *, endpoint: str | None = None) -> None:
        """Call nothing, and import nothing yet."""
        self.key_name = key
        self._endpoint = endpoint
        self._client = PerProcess(self._make_client)

    def __repr__(self) -> str:
        """Show which key."""
        return f"GcpKmsProvider({self.key_name!r})"

    def __eq__(self, other: object) -> bool:
        """Compare which key, and where."""
        return isinstance(other, GcpKmsProvider) and self._place == other._place

    def __hash__(self) -> int:
        """Hash which key, and where."""
        return hash(self._place)

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under a key-encryption key that Cloud KMS has encrypted with the key's primary version.

        Raises:
            KeyProviderUnavailable: Cloud KMS cannot be reached, is too busy, reports an error of its own, or what was
                asked or answered was altered on its way.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
            ExtraMissing: The package `google-cloud-kms` is not installed.
        """
        return seal_with_service(self, key, context, lambda kek: self._encrypt(kek, context))

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped. Cloud KMS finds the version of its key in the ciphertext.

        Raises:
            WrongKey: The key, the bytes or the context are other ones.
            KeyProviderUnavailable: Cloud KMS cannot be reached, is too busy, reports an error of its own, or what was
                asked or answered was altered on its way.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
            ExtraMissing: The package `google-cloud-kms` is not installed.
        """
        return open_with_service(self, wrapped, context, lambda ciphertext: self._decrypt(ciphertext, context))

    def describe(self) -> dict[str, str]:
        """Return what people may want to know of the key."""
        endpoint = {"endpoint": self._endpoint} if self._endpoint else {}
        location = self.key_name.split("/")[3]
        return {
            "service": f"Cloud KMS in `{location}`",
            "bound by the service": "additional authenticated data",
            "checked on the way": "CRC32C, both ways",
            **endpoint,
        }

    @property
    def _place(self) -> tuple[str, str | None]:
        return self.key_name, self._endpoint

    def _encrypt(self, kek: bytes, context: WrapContext) -> bytes:
        answer = self._call("encrypt", {"plaintext": kek, "plaintext_crc32c": crc32c(kek)}, context)
        ciphertext = bytes(answer.ciphertext)
        if not answer.verified_plaintext_crc32c or not answer.verified_additional_authenticated_data_crc32c:
            raise self._altered()
        if answer.ciphertext_crc32c != crc32c(ciphertext):
            raise self._altered()
        return ciphertext

    def _decrypt(self, ciphertext: bytes, context: WrapContext) -> bytes:
        answer = self._call("decrypt", {"ciphertext": ciphertext, "ciphertext_crc32c": crc32c(ciphertext)}, context)
        kek, checksum = KeyBytes(answer.plaintext), answer.plaintext_crc32c
        del answer  # a traceback that shows locals must not show it
        if checksum != crc32c(kek):
            raise self._altered()
        return kek

    def _call(self, operation: str, given: dict[str, Any], context: WrapContext) -> Any:  # noqa: ANN401 - Google's types are there when they are installed
        try:
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth.exceptions import GoogleAuthError
            from google.cloud import kms_v1  # noqa: F401 - its loggers are there before they are kept quiet
            from google.protobuf.json_format import ParseError
            from requests import RequestException
        except ImportError:
            message = "`gcpkms:` keys need the package `google-cloud-kms`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for(self.scheme)}") from None
        bound = b"".join(context)
        request = {
            "name": self.key_name,
            "additional_authenticated_data": bound,
            "additional_authenticated_data_crc32c": crc32c(bound),
            **given,
        }
        failure: SecurecfgError
        try:
            with discreet("google"):
                call = getattr(self._client.get(), operation)
                return call(request=request, retry=None, timeout=ANSWER_S)  # asking again is the caller's business
        except GoogleAPICallError as error:
            failure = self._answered(error, operation)
        except GoogleAuthError as error:
            failure = self._not_authenticated(error)
        except RequestException:
            failure = self._unavailable("cannot be reached")
        except (ParseError, UnicodeDecodeError):
            failure = self._unavailable("gave no answer that can be understood")
        raise failure  # here, so that it drags along no frame and no text of the client

    def _make_client(self) -> Any:  # noqa: ANN401 - as above
        from google.cloud.kms_v1 import KeyManagementServiceClient

        options = {"api_endpoint": self._endpoint} if self._endpoint else None
        return ask_once(KeyManagementServiceClient(transport="rest", client_options=options))

    def _answered(self, error: Any, operation: str) -> SecurecfgError:  # noqa: ANN401, PLR0911 - as above; one for each answer
        """Return the error for an answer of the service."""
        http, word = error.code or 0, words_of(error.response).status
        name, shown = self.key_name, f" (`{word}`)" if word else ""
        if http in _DENIED_STATUSES:
            return KeyAccessDenied(
                f"Cloud KMS does not let these credentials use the key `{name}`",
                hint=f"they need `cloudkms.cryptoKeyVersions.useTo{operation.capitalize()}`; or there is no such key, "
                "which only those are told who may see keys",
            )
        if http == _NOT_FOUND:
            return KeyMissing(
                f"Cloud KMS knows no key `{name}`", hint="is it the right project, location and key ring?"
            )
        if word == "FAILED_PRECONDITION":
            return KeyDisabled(
                f"the version of the Cloud KMS key `{name}` that is needed is disabled, or destroyed",
                hint="`gcloud kms keys versions enable` or `restore` bring it back, unless it is destroyed",
            )
        if word == "INVALID_ARGUMENT" and "_crc32c did not match" in error.message:
            return self._altered()  # Google documents this text; the status is that of a wrong key
        if word == "INVALID_ARGUMENT" and operation == "decrypt":
            return wrong_key()
        if http == _TOO_MANY_REQUESTS or http not in _REFUSALS:
            return self._unavailable(f"is busy or disturbed{shown}")
        return KeyProviderRefused(
            f"Cloud KMS refuses the key `{name}`{shown}", hint="it has to be a key for symmetric encryption"
        )

    def _not_authenticated(self, error: Any) -> SecurecfgError:  # noqa: ANN401 - as above
        """Return the error where there are no credentials, or no token for them."""
        if may_pass(error):
            return self._unavailable("cannot be asked, for Google gives no access token")
        return KeyAccessDenied(
            f"there are no usable Google credentials for the key `{self.key_name}`",
            hint="log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
        )

    def _altered(self) -> KeyProviderUnavailable:
        """Return the error for a checksum that does not fit, which may be chance: the caller asks again."""
        return self._unavailable("and its client see other bytes: something is altered on the way")

    def _unavailable(self, what: str) -> KeyProviderUnavailable:
        message = f"the key `{self.key_name}` cannot be used now: Cloud KMS {what}"
        return KeyProviderUnavailable(message, hint="try again later")


def from_uri(uri: KeyUri, _ask: Ask | None) -> GcpKmsProvider:
    """Return the provider for `gcpkms:RESOURCE-NAME`, with `?endpoint=URL` where needed.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    key, mark, query = uri.rest.partition("?")
    if not _KEY.fullmatch(key):
        message = "a `gcpkms:` key is the resource name of a key, without a version"
        raise InvalidKeyUri(
            message, hint="for instance `gcpkms:projects/shop/locations/europe-west3/keyRings/main/cryptoKeys/vault`"
        )
    option, _, endpoint = query.partition("=")
    if mark and (option != "endpoint" or not ENDPOINT.fullmatch(endpoint)):
        message = "a `gcpkms:` key has the option `endpoint`: a host below `googleapis.com`, or this machine"
        raise InvalidKeyUri(message, hint="for instance `?endpoint=https://cloudkms.europe-west3.rep.googleapis.com`")
    return GcpKmsProvider(key, endpoint=endpoint or None)
