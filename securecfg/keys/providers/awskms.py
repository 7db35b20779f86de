"""`awskms:KEY` - a symmetric key of AWS KMS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

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
    SettingMissing,
)
from securecfg.keys.aws import (
    ALIAS_OR_ID,
    ARN_OF_KEY,
    ENDPOINT,
    REGION,
    Outcome,
    failure_of,
    is_private,
    open_client,
)
from securecfg.keys.discretion import discreet
from securecfg.keys.kek import wrong_key
from securecfg.keys.per_process import PerProcess
from securecfg.keys.remote import open_with_service, seal_with_service
from securecfg.keys.slots import KIND_AWSKMS
from securecfg.keys.uri import distribution_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys.aws import Failure
    from securecfg.keys.provider import Ask, KeyUri, WrapContext

_WRONG_KEY = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})
_BUSY = frozenset(
    {"DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "LimitExceededException"}
)


class AwsKmsProvider:
    """Has AWS KMS encrypt a key-encryption key. Credentials are found as the AWS command line finds them.

    Args:
        key_id: An ARN of a key or an alias, `alias/NAME`, or the id of a key.
        region: Where the key is; without it that of the ARN, else that of the AWS settings.
        endpoint_url: Where to ask instead of the region's public endpoint.
    """

    scheme: Final = "awskms"
    kind: Final = KIND_AWSKMS

    def __init__(self, key_id: str, *, region: str | None = None, endpoint_url: str | None = None) -> None:
        """Call nothing, and import nothing yet."""
        self.key_name = key_id
        arn = ARN_OF_KEY.fullmatch(key_id)
        self._region = arn["region"] if arn else region
        self._endpoint_url = endpoint_url
        self._client = PerProcess(self._make_client)

    def __repr__(self) -> str:
        """Show which key."""
        return f"AwsKmsProvider({self.key_name!r})"

    def __eq__(self, other: object) -> bool:
        """Compare which key, and where."""
        return isinstance(other, AwsKmsProvider) and self._place == other._place

    def __hash__(self) -> int:
        """Hash which key, and where."""
        return hash(self._place)

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under a key-encryption key that AWS KMS has encrypted.

        Raises:
            KeyProviderUnavailable: AWS KMS cannot be reached, is too busy, or reports an error of its own.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
            SettingMissing: No region is known.
            ExtraMissing: The package `boto3` is not installed.
        """
        return seal_with_service(self, key, context, lambda kek: self._encrypt(kek, context))

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped.

        Raises:
            WrongKey: The key, the bytes or the context are other ones.
            KeyProviderUnavailable: AWS KMS cannot be reached, is too busy, or reports an error of its own.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
            SettingMissing: No region is known.
            ExtraMissing: The package `boto3` is not installed.
        """
        return open_with_service(self, wrapped, context, lambda ciphertext: self._decrypt(ciphertext, context))

    def describe(self) -> dict[str, str]:
        """Return what people may want to know of the key."""
        endpoint = {"endpoint": self._endpoint_url} if self._endpoint_url else {}
        return {"service": f"AWS KMS in {self._where}", "bound by the service": "encryption context", **endpoint}

    @property
    def _place(self) -> tuple[str, str | None, str | None]:
        return self.key_name, self._region, self._endpoint_url

    def _encrypt(self, kek: bytes, context: WrapContext) -> bytes:
        return self._call("encrypt", {"Plaintext": kek}, "CiphertextBlob", context)

    def _decrypt(self, ciphertext: bytes, context: WrapContext) -> bytes:
        return self._call("decrypt", {"CiphertextBlob": ciphertext}, "Plaintext", context)

    def _call(
        self,
        operation: Literal["encrypt", "decrypt"],
        given: Mapping[str, bytes],
        wanted: str,
        context: WrapContext,
    ) -> KeyBytes:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            message = "`awskms:` keys need the package `boto3`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for(self.scheme)}") from None
        failure: SecurecfgError
        try:
            call = getattr(self._client.get(), operation)
            with discreet("botocore"):
                # Naming the key keeps the service from decrypting with any other that the caller may use.
                answer = call(KeyId=self.key_name, EncryptionContext=_encryption_context(context), **given)
            return KeyBytes(answer[wanted])
        except KeyError:
            failure = self._unavailable("gave no answer that can be understood")
        except (ClientError, BotoCoreError) as error:
            failure = self._error_of(failure_of(error), operation)
        raise failure  # here, so that it drags along no frame and no text of the client

    def _make_client(self) -> Any:  # noqa: ANN401 - made at run time from AWS's description of the service
        client = open_client("kms", self._region, self._endpoint_url)
        if not is_private(client.meta.endpoint_url):
            # It may come from the AWS settings; the key-encryption key would cross the network in the clear.
            message = "the endpoint that the AWS settings name for KMS is neither `https://` nor this machine"
            raise KeyProviderRefused(message, hint="look at `AWS_ENDPOINT_URL_KMS` and `endpoint_url`")
        return client

    def _error_of(self, failure: Failure, operation: str) -> SecurecfgError:
        """Return the error for a request that failed."""
        name = self.key_name
        by_code = self._of_its_own(failure)
        if by_code is not None:
            return by_code
        match failure.outcome:
            case Outcome.NO_REGION:
                return SettingMissing(
                    f"the AWS region of the key `{name}` is not known",
                    hint="name the key by its ARN, add `?region=REGION`, or set AWS_DEFAULT_REGION",
                )
            case Outcome.NO_CREDENTIALS:
                return KeyAccessDenied(
                    f"there are no usable AWS credentials for the key `{name}`",
                    hint="log in with `aws sso login` or `aws configure`, or set AWS_PROFILE",
                )
            case Outcome.LOGIN_REFUSED | Outcome.DENIED:
                return KeyAccessDenied(
                    f"AWS KMS does not let these credentials use the key `{name}`",
                    hint=f"they need `kms:{operation.capitalize()}`; `aws sts get-caller-identity` says whose they are",
                )
            case Outcome.REFUSED:
                return KeyProviderRefused(
                    f"AWS KMS refuses the key `{name}`{failure.shown_code}",
                    hint="it has to be a symmetric key for encryption",
                )
            case _:
                what = f"is busy or disturbed{failure.shown_code}" if failure.is_answer else "cannot be reached"
                return self._unavailable(what)

    def _of_its_own(self, failure: Failure) -> SecurecfgError | None:
        """Return the error for what only KMS answers."""
        name = self.key_name
        if failure.code in _WRONG_KEY:
            return wrong_key()
        if failure.code in _BUSY:
            return self._unavailable(f"is busy or disturbed{failure.shown_code}")
        if failure.code in {"DisabledException", "KMSInvalidStateException"}:
            return KeyDisabled(
                f"the AWS KMS key `{name}` is disabled, or waits for its deletion",
                hint="`aws kms enable-key` or `aws kms cancel-key-deletion` bring it back",
            )
        if failure.code == "NotFoundException":
            return KeyMissing(
                f"AWS KMS knows no key `{name}` in {self._where}", hint="is it the right account and region?"
            )
        return None

    def _unavailable(self, what: str) -> KeyProviderUnavailable:
        message = f"the key `{self.key_name}` cannot be used now: AWS KMS in {self._where} {what}"
        return KeyProviderUnavailable(message, hint="try again later")

    @property
    def _where(self) -> str:
        return f"`{self._region}`" if self._region else "the region of the AWS settings"


def from_uri(uri: KeyUri, _ask: Ask | None) -> AwsKmsProvider:
    """Return the provider for `awskms:KEY`, with `?region=REGION` and `?endpoint=URL` where needed.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    key_id, mark, query = uri.rest.partition("?")
    arn = ARN_OF_KEY.fullmatch(key_id)
    if not arn and not ALIAS_OR_ID.fullmatch(key_id):
        message = "an `awskms:` key is an ARN, an alias or an id"
        raise InvalidKeyUri(
            message, hint="for instance `awskms:arn:aws:kms:eu-west-1:111122223333:alias/app` or `awskms:alias/app`"
        )
    parts = query.split("&") if mark else []
    options = dict(part.partition("=")[::2] for part in parts)
    if len(options) < len(parts) or not options.keys() <= {"region", "endpoint"}:
        message = "an `awskms:` key has the options `region` and `endpoint`, each once"
        raise InvalidKeyUri(message, hint="for instance `awskms:alias/app?region=eu-west-1`")
    region, endpoint = options.get("region"), options.get("endpoint")
    if region is not None and (not REGION.fullmatch(region) or (arn and arn["region"] != region)):
        message = "the region of an `awskms:` key is not one, or not that of its ARN"
        raise InvalidKeyUri(message, hint="for instance `eu-west-1`; an ARN needs none")
    if endpoint is not None and not ENDPOINT.fullmatch(endpoint):
        message = "the endpoint of an `awskms:` key begins with `https://`, or is on this machine"
        raise InvalidKeyUri(message, hint="it is a host, with a port where needed, and no path")
    return AwsKmsProvider(key_id, region=region, endpoint_url=endpoint)


def _encryption_context(context: WrapContext) -> dict[str, str]:
    return {"securecfg:vault": context.vault_id.hex(), "securecfg:slot": context.slot_id.hex()}
