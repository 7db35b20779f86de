"""`awskms:` against moto's server, with a proxy before it where the service has to fail."""

from __future__ import annotations

import base64
import json
import logging
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
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
    WrongKey,
)
from securecfg.keys import Patience, WrapContext, call_unwrap, call_wrap, open_provider, parse_params
from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, FaultyProxy, Reset, Silence, SlowBody
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, KeyProviderConformance
from securecfg.testing.key_services import ServiceFault
from securecfg.vault.slots import Slots
from tests.keys.aws import ACCESS_KEY, ANOTHER_REGION, REGION, SECRET_KEY, Client, client, moto, refusal
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import KeyProvider
    from securecfg.testing.faulty_proxy import Fault

HASTY = Patience(deadline_s=20.0, pauses_s=(0.01, 0.01))
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


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


FAULTS: dict[ServiceFault, Fault] = {
    ServiceFault.RESET: Reset(),
    ServiceFault.SILENT: Silence(),
    ServiceFault.BROKEN: refusal("KMSInternalException", 500),
    ServiceFault.THROTTLED: refusal("ThrottlingException"),
    ServiceFault.DENIED: refusal("AccessDeniedException"),
    ServiceFault.DELETED: refusal("NotFoundException"),
}


class TestAwsKms(KeyProviderConformance):
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
            self._proxy.fail(FAULTS[fault])
        return self.provider()

    def canaries(self) -> tuple[bytes, ...]:
        return ACCESS_KEY.encode(), SECRET_KEY.encode(), b"canary", *sent_keks(self._proxy)


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


def test_every_slot_has_a_key_encryption_key_of_its_own(provider: KeyProvider, proxy: FaultyProxy) -> None:
    for number in range(5):
        provider.wrap(KEY, WrapContext(CONTEXT.vault_id, bytes((number,)) * 16))
    assert len(set(sent_keks(proxy))) == 10


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


def test_a_refused_or_failed_request_is_made_once(provider: KeyProvider, proxy: FaultyProxy) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    for fault in [*FAULTS.values(), CutOff()]:
        if not isinstance(fault, Silence):
            proxy.exchanges.clear()
            proxy.fail(fault)
            with pytest.raises(SecurecfgError):
                provider.unwrap(wrapped, CONTEXT)
            assert len(proxy.exchanges) == 1, fault


# --- what it answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
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
    ],
    ids=lambda value: (
        json.loads(value.body)["__type"] if isinstance(value, Answer) and b"__type" in value.body else None
    ),
)
def test_gives_each_refusal_its_name(
    answer: Answer, error: type[SecurecfgError], provider: KeyProvider, proxy: FaultyProxy
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    proxy.fail(answer)
    with pytest.raises(SecurecfgError) as refused:
        provider.unwrap(wrapped, CONTEXT)
    assert type(refused.value) is error
    assert "canary" not in refused.value.message.lower() + refused.value.hint.lower()
    assert refused.value.hint


@pytest.mark.parametrize("plaintext", [b"", b"x", bytes(31), bytes(33), bytes(4096)])
def test_what_is_no_key_encryption_key_is_a_wrong_key(
    plaintext: bytes, provider: KeyProvider, proxy: FaultyProxy
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    proxy.fail(Answer(200, json.dumps({"Plaintext": base64.b64encode(plaintext).decode()}).encode()))
    with pytest.raises(WrongKey):
        provider.unwrap(wrapped, CONTEXT)


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


@pytest.mark.parametrize(
    "fault", [Reset(), CutOff(), refusal("KMSInternalException", 500), refusal("ThrottlingException")]
)
def test_a_caller_gets_its_key_from_a_service_that_recovers(
    fault: Fault, provider: KeyProvider, proxy: FaultyProxy
) -> None:
    proxy.fail_next(fault, fault)
    wrapped = call_wrap(provider, KEY, CONTEXT, HASTY)
    proxy.fail_next(fault, fault)
    assert call_unwrap(provider, wrapped, CONTEXT, HASTY) == KEY
    assert len(proxy.exchanges) == 6


def test_a_slow_service_is_waited_for_and_a_dripping_one_is_not(provider: KeyProvider, proxy: FaultyProxy) -> None:
    wrapped = call_wrap(provider, KEY, CONTEXT, HASTY)
    proxy.fail(Delay(0.5))
    assert call_unwrap(provider, wrapped, CONTEXT, HASTY) == KEY
    # Each byte comes within the client's own limit; all of them would take half a minute.
    proxy.fail(SlowBody(0.2))
    started = time.monotonic()
    with pytest.raises(KeyProviderUnavailable) as refused:
        call_unwrap(provider, wrapped, CONTEXT, Patience(deadline_s=1.0, pauses_s=(0.1,)))
    assert time.monotonic() - started < 5
    assert "within 1 s" in refused.value.message


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
    assert "AWS_REGION" in refused.value.hint


@pytest.mark.parametrize("endpoint", ["http://192.0.2.1", "http://localhost.example.com:8000", "ftp://127.0.0.1"])
def test_an_endpoint_of_the_settings_that_shows_the_key_to_the_network_is_refused(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", endpoint)
    with pytest.raises(KeyProviderRefused) as refused:
        open_provider(f"awskms:{ARN}").wrap(KEY, CONTEXT)
    assert "AWS_ENDPOINT_URL_KMS" in refused.value.hint


def test_without_the_package_says_what_to_install() -> None:
    program = (
        "import sys\nsys.modules['botocore.exceptions'] = sys.modules['boto3'] = None\n"
        "from securecfg.errors import ExtraMissing\nfrom securecfg.keys import WrapContext, open_provider\n"
        f"provider = open_provider('awskms:{ARN}')\n"
        "try:\n    provider.wrap(bytes(32), WrapContext(bytes(16), bytes(16)))\n"
        "except ExtraMissing as error:\n    print(error.hint)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "pip install 'securecfg-vault[awskms]'"
    assert ExtraMissing.exit_code == 10


def test_naming_a_key_imports_no_client() -> None:
    program = (
        "import sys\nfrom securecfg.keys import open_provider\n"
        f"open_provider('awskms:{ARN}')\nprint([name for name in sys.modules if name.startswith('boto')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


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


# --- in a vault -------------------------------------------------------------------------------------------------------


def test_a_vault_is_opened_with_one_request_and_used_with_none(
    kms: Client,
    proxy: FaultyProxy,
    tmp_path: Path,
) -> None:
    uris = [f"awskms:{new_key(kms)}?endpoint={proxy.url}" for _ in range(3)]
    with Vault.create(tmp_path / "a.vault", key=uris[0], admin=ADMIN) as vault:
        vault.write("app/a", "canary")
        for uri in uris[1:]:
            Slots(vault.authority).add(open_provider(uri))
    for uri in uris:
        proxy.exchanges.clear()
        with Vault.open(tmp_path / "a.vault", key=uri, principal=ADMIN) as vault:
            assert text_of(vault, "app/a") == "canary"
            vault.write("app/b", "2")
        # Hints have one byte: hardly ever two slots have the same one.
        assert 1 <= len(proxy.exchanges) <= 3
        assert {exchange.headers["x-amz-target"] for exchange in proxy.exchanges} == {"TrentService.Decrypt"}


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


@pytest.mark.parametrize(
    "rest",
    [
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
    ],
)
def test_refuses_what_names_no_key(rest: str) -> None:
    with pytest.raises(InvalidKeyUri) as refused:
        open_provider(f"awskms:{rest}")
    assert refused.value.hint
    assert "canary" not in refused.value.message + refused.value.hint


def test_providers_of_the_same_key_in_the_same_place_are_equal() -> None:
    def make(rest: str) -> KeyProvider:
        return open_provider(f"awskms:{rest}")

    assert make(ARN) == make(ARN) == make(f"{ARN}?region=eu-west-1")
    assert hash(make(ARN)) == hash(make(ARN))
    different = [make(ARN), make("alias/app"), make("alias/app?region=a"), make(f"{ARN}?endpoint=https://a")]
    assert len(set(different)) == 4
    assert object() not in different
