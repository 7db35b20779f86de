"""`awskms:` against moto's server, with a proxy before it where the service has to fail."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import (
    KeyAccessDenied,
    KeyDisabled,
    KeyMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SettingMissing,
    WrongKey,
)
from securecfg.keys import open_provider, parse_params
from securecfg.testing.faulty_proxy import Answer, FaultyProxy, Reset, Silence
from securecfg.testing.key_provider_conformance import CONTEXT, KEY
from securecfg.testing.key_services import ServiceFault
from tests.keys.aws import ACCESS_KEY, ANOTHER_REGION, REGION, SECRET_KEY, Client, client, moto, refusal
from tests.keys.key_service import AnsweredOverHttp, BehindAProxy, NamedByUri, SendsKeyEncryptionKeys, closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.keys import KeyProvider
    from securecfg.testing.faulty_proxy import Exchange, Fault

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with moto() as port:
        yield port


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def proxy(port: int) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", port) as proxy:
        yield proxy


@pytest.fixture
def kms(port: int) -> Client:
    return client("kms", port)


@pytest.fixture
def arn(kms: Client) -> str:
    return new_key(kms)


@pytest.fixture
def provider(arn: str, proxy: FaultyProxy) -> KeyProvider:
    return open_provider(f"awskms:{arn}?endpoint={proxy.url}")


def new_key(kms: Client, **options: bool) -> str:
    arn: str = kms.create_key(**options)["KeyMetadata"]["Arn"]
    return arn


def key_id(arn: str) -> str:
    return arn.partition("/")[2]


FAULTS: dict[ServiceFault, Fault] = {
    ServiceFault.RESET: Reset(),
    ServiceFault.SILENT: Silence(),
    ServiceFault.BROKEN: refusal("KMSInternalException", 500),
    ServiceFault.THROTTLED: refusal("ThrottlingException"),
    ServiceFault.DENIED: refusal("AccessDeniedException"),
    ServiceFault.DELETED: refusal("NotFoundException"),
}


class TestAwsKms(BehindAProxy):
    faults = FAULTS

    @pytest.fixture(autouse=True)
    def _service(self, kms: Client, proxy: FaultyProxy) -> None:
        self._kms, self._proxy = kms, proxy
        self._arn, self._other = new_key(kms), new_key(kms)

    def provider(self) -> KeyProvider:
        return open_provider(f"awskms:{self._arn}?endpoint={self._proxy.url}")

    def stranger(self) -> KeyProvider:
        return open_provider(f"awskms:{self._other}?endpoint={self._proxy.url}")

    def faulty(self, fault: ServiceFault) -> KeyProvider:
        if fault is ServiceFault.UNREACHABLE:
            return open_provider(f"awskms:{self._arn}?endpoint=http://127.0.0.1:{closed_port()}")
        if fault is ServiceFault.DISABLED:
            self._kms.disable_key(KeyId=key_id(self._arn))
        else:
            self._proxy.fail(self.faults[fault])
        return self.provider()

    def canaries(self) -> tuple[bytes, ...]:
        return ACCESS_KEY.encode(), SECRET_KEY.encode(), b"canary", *sent_keks(self._proxy)


class TestAnswers(AnsweredOverHttp):
    refusals = (
        (refusal("AccessDeniedException"), KeyAccessDenied),
        (refusal("ExpiredTokenException"), KeyAccessDenied),
        (refusal("UnrecognizedClientException"), KeyAccessDenied),
        (refusal("InvalidSignatureException"), KeyAccessDenied),
        (refusal("DisabledException"), KeyDisabled),
        (refusal("KMSInvalidStateException"), KeyDisabled),
        (refusal("NotFoundException"), KeyMissing),
        (refusal("IncorrectKeyException"), WrongKey),
        (refusal("InvalidCiphertextException"), WrongKey),
        (refusal("InvalidKeyUsageException"), KeyProviderRefused),
        (refusal("ValidationException"), KeyProviderRefused),
        (refusal("Canary; nobody knows this one"), KeyProviderRefused),
        (refusal("ThrottlingException"), KeyProviderUnavailable),
        (refusal("KeyUnavailableException", 500), KeyProviderUnavailable),
        (refusal("DependencyTimeoutException", 503), KeyProviderUnavailable),
        (refusal("NobodyKnowsThisOne", 403), KeyAccessDenied),
        (refusal("NobodyKnowsThisOne", 502), KeyProviderUnavailable),
        (refusal("NobodyKnowsThisOne", 429), KeyProviderUnavailable),
        (Answer(502, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(200, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(200, b"{}"), KeyProviderUnavailable),
        (Answer(301, b"", {"Location": "http://127.0.0.1:1/"}), KeyProviderUnavailable),
    )

    def unwrapped(self, plaintext: bytes) -> Answer:
        return Answer(200, json.dumps({"Plaintext": base64.b64encode(plaintext).decode()}).encode())


class TestSentKeys(SendsKeyEncryptionKeys):
    failing_answers = (FAULTS[ServiceFault.DENIED], Reset(), Answer(200, b"{}"), Answer(200, b'{"Plaintext": ""}'))

    def sent_keks(self, proxy: FaultyProxy) -> Iterator[bytes]:
        return sent_keks(proxy)

    def secrets_of(self, exchange: Exchange) -> str:
        return exchange.headers["authorization"]


class TestUri(NamedByUri):
    uri = f"awskms:{ARN}"
    extra = "awskms"
    missing = ("botocore.exceptions", "boto3")
    clients = ("boto",)
    wrong = (
        "",
        "?region=eu-west-1",
        "arn:aws:kms:eu-west-1:111122223333:key/",
        "arn:aws:kms:eu-west-1:11112222333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:s3:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms::111122223333:alias/app",
        f"{ARN}\n",
        f"{ARN} ",
        "alias/",
        "alias/a b",
        "alias/ä",
        "alias/app?",
        "alias/app?region=",
        "alias/app?region=eu west",
        "alias/app?region=eu-west-1&region=eu-west-1",
        "alias/app?profile=x",
        "alias/app?region",
        "alias/app?&region=eu-west-1",
        f"{ARN}?region=us-east-1",
        f"{ARN}?endpoint=http://kms.internal.example",
        f"{ARN}?endpoint=http://localhost.example.com",
        f"{ARN}?endpoint=http://127.0.0.1@evil.example",
        f"{ARN}?endpoint=https://user:canary@kms.internal.example",
        f"{ARN}?endpoint=https://kms.internal.example/path",
        f"{ARN}?endpoint=file:///etc/passwd",
        f"{ARN}?endpoint=",
        f"{ARN}#x",
    )
    alike = (f"awskms:{ARN}", f"awskms:{ARN}", f"awskms:{ARN}?region=eu-west-1")
    different = (
        f"awskms:{ARN}",
        "awskms:alias/app",
        "awskms:alias/app?region=a",
        f"awskms:{ARN}?endpoint=https://a",
    )


def sent_keks(proxy: FaultyProxy) -> Iterator[bytes]:
    """Give each key-encryption key that went to the service, as it is and as it was sent."""
    for exchange in proxy.exchanges:
        plaintext = json.loads(exchange.body).get("Plaintext")
        if plaintext:
            yield from (plaintext.encode(), base64.b64decode(plaintext))


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_the_service_is_told_the_slot_and_never_the_wrapped_key(
    provider: KeyProvider, proxy: FaultyProxy, arn: str
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    encrypt, decrypt = proxy.exchanges
    assert [exchange.headers["x-amz-target"] for exchange in proxy.exchanges] == [
        "TrentService.Encrypt",
        "TrentService.Decrypt",
    ]
    sent, received = json.loads(encrypt.body), json.loads(decrypt.body)
    kek = base64.b64decode(sent.pop("Plaintext"))
    assert len(kek) == 32
    assert kek != KEY
    context = {"securecfg:vault": CONTEXT.vault_id.hex(), "securecfg:slot": CONTEXT.slot_id.hex()}
    assert sent == {"KeyId": arn, "EncryptionContext": context}
    assert base64.b64decode(received.pop("CiphertextBlob")) == parse_params(wrapped)[1:]
    assert received == sent
    assert not any(base64.b64encode(KEY) in exchange.body for exchange in proxy.exchanges)


def test_the_service_itself_binds_what_it_encrypts_to_the_slot(provider: KeyProvider, kms: Client, arn: str) -> None:
    ciphertext = parse_params(provider.wrap(KEY, CONTEXT))[1:]
    context = {"securecfg:vault": CONTEXT.vault_id.hex(), "securecfg:slot": CONTEXT.slot_id.hex()}
    assert len(kms.decrypt(KeyId=arn, CiphertextBlob=ciphertext, EncryptionContext=context)["Plaintext"]) == 32
    for wrong in ({}, {"securecfg:vault": CONTEXT.vault_id.hex()}, {**context, "securecfg:slot": "00" * 16}):
        with pytest.raises(kms.exceptions.InvalidCiphertextException):
            kms.decrypt(KeyId=arn, CiphertextBlob=ciphertext, EncryptionContext=wrong)


def test_an_alias_an_id_and_an_arn_name_the_same_key(kms: Client, proxy: FaultyProxy, arn: str) -> None:
    alias = f"alias/app-{arn[-12:]}"
    kms.create_alias(AliasName=alias, TargetKeyId=arn)
    account = arn.partition(":key/")[0]
    where = f"endpoint={proxy.url}"
    names = [arn, f"{account}:{alias}", alias, key_id(arn)]
    providers = [open_provider(f"awskms:{name}?region={REGION}&{where}") for name in names]
    for wrapping in providers:
        wrapped = wrapping.wrap(KEY, CONTEXT)
        assert [unwrapping.unwrap(wrapped, CONTEXT) for unwrapping in providers] == [KEY] * 4


def test_a_copy_of_a_multi_region_key_opens_in_its_own_region(kms: Client, port: int, proxy: FaultyProxy) -> None:
    arn = new_key(kms, MultiRegion=True)
    wrapped = open_provider(f"awskms:{arn}?endpoint={proxy.url}").wrap(KEY, CONTEXT)
    copied = arn.replace(REGION, ANOTHER_REGION)
    replica = open_provider(f"awskms:{copied}?endpoint={proxy.url}")
    with pytest.raises(KeyMissing):
        replica.unwrap(wrapped, CONTEXT)
    kms.replicate_key(KeyId=key_id(arn), ReplicaRegion=ANOTHER_REGION)
    assert replica.unwrap(wrapped, CONTEXT) == KEY
    assert "/us-east-1/kms/" in proxy.exchanges[-1].headers["authorization"]


# --- what it answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 3_996, 6_144])
def test_what_fits_into_no_slot_is_no_ciphertext(size: int, provider: KeyProvider, proxy: FaultyProxy) -> None:
    proxy.fail(Answer(200, json.dumps({"CiphertextBlob": base64.b64encode(bytes(size)).decode()}).encode()))
    with pytest.raises(KeyProviderUnavailable) as refused:
        provider.wrap(KEY, CONTEXT)
    assert f"{size} bytes" in refused.value.message


def test_a_key_that_waits_for_its_deletion_is_not_used(provider: KeyProvider, kms: Client, arn: str) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    kms.schedule_key_deletion(KeyId=key_id(arn), PendingWindowInDays=7)
    with pytest.raises(KeyDisabled):
        provider.unwrap(wrapped, CONTEXT)
    with pytest.raises(KeyDisabled):
        provider.wrap(KEY, CONTEXT)
    kms.cancel_key_deletion(KeyId=key_id(arn))
    kms.enable_key(KeyId=key_id(arn))
    assert provider.unwrap(wrapped, CONTEXT) == KEY


# --- credentials ------------------------------------------------------------------------------------------------------

POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["kms:Encrypt"], "Resource": "*"}],
}


@pytest.fixture(scope="module")
def strict() -> Iterator[tuple[int, str, tuple[str, str]]]:
    """A server that checks signatures and policies; a key; a user who may encrypt and not decrypt."""
    with moto(INITIAL_NO_AUTH_ACTION_COUNT="4") as port:
        iam = client("iam", port)
        iam.create_user(UserName="writer")
        iam.put_user_policy(UserName="writer", PolicyName="encrypt", PolicyDocument=json.dumps(POLICY))
        keys = iam.create_access_key(UserName="writer")["AccessKey"]
        arn = new_key(client("kms", port))
        yield port, arn, (keys["AccessKeyId"], keys["SecretAccessKey"])


def test_what_the_callers_policy_does_not_allow_is_denied(
    strict: tuple[int, str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, arn, (access, secret) = strict
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    provider = open_provider(f"awskms:{arn}?endpoint=http://127.0.0.1:{port}")
    wrapped = provider.wrap(KEY, CONTEXT)
    with pytest.raises(KeyAccessDenied) as refused:
        provider.unwrap(wrapped, CONTEXT)
    assert "`kms:Decrypt`" in refused.value.hint


@pytest.mark.parametrize("wrong", ["id", "secret"])
def test_credentials_that_aws_does_not_know_are_denied(
    wrong: str, strict: tuple[int, str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, arn, (access, secret) = strict
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY if wrong == "id" else access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY if wrong == "secret" else secret)
    with pytest.raises(KeyAccessDenied) as refused:
        open_provider(f"awskms:{arn}?endpoint=http://127.0.0.1:{port}").wrap(KEY, CONTEXT)
    assert SECRET_KEY not in refused.value.message + refused.value.hint


def test_without_credentials_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(KeyAccessDenied) as refused:
        open_provider(f"awskms:{ARN}").wrap(KEY, CONTEXT)
    assert "AWS_PROFILE" in refused.value.hint
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(KeyAccessDenied):
        open_provider(f"awskms:{ARN}").wrap(KEY, CONTEXT)


def test_without_a_region_says_how_to_name_one() -> None:
    with pytest.raises(SettingMissing) as refused:
        open_provider("awskms:alias/app").wrap(KEY, CONTEXT)
    assert "AWS_DEFAULT_REGION" in refused.value.hint


@pytest.mark.parametrize("endpoint", ["http://192.0.2.1", "http://localhost.example.com:8000", "ftp://127.0.0.1"])
def test_an_endpoint_of_the_settings_that_shows_the_key_to_the_network_is_refused(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", endpoint)
    with pytest.raises(KeyProviderRefused) as refused:
        open_provider(f"awskms:{ARN}").wrap(KEY, CONTEXT)
    assert "AWS_ENDPOINT_URL_KMS" in refused.value.hint


# --- secrets and logs -------------------------------------------------------------------------------------------------


def test_the_client_would_log_keys_and_is_kept_from_it(
    provider: KeyProvider,
    proxy: FaultyProxy,
    kms: Client,
    arn: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        kms.encrypt(KeyId=arn, Plaintext=b"canary of another's call")
        assert base64.b64encode(b"canary of another's call").decode() in caplog.text
        caplog.clear()
        provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT)
    assert [
        record for record in caplog.records if record.name.startswith("boto") and "body" in record.getMessage()
    ] == []
    assert not any(kek in caplog.text.encode() for kek in sent_keks(proxy))


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        ARN,
        "arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/team/app_1",
        "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
        "alias/app",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "alias/app?region=eu-west-1",
        "alias/app?endpoint=https://kms.internal.example:8443&region=eu-west-1",
        f"{ARN}?region=eu-west-1",
        f"{ARN}?endpoint=http://127.0.0.1:5000",
        f"{ARN}?endpoint=http://[::1]:5000/",
    ],
)
def test_takes_an_arn_an_alias_or_an_id(rest: str) -> None:
    provider = open_provider(f"awskms:{rest}")
    assert rest.startswith(repr(provider).removeprefix("AwsKmsProvider('").removesuffix("')"))
