"""`gcpkms:` against a servicer made of Google's published classes, with a proxy before it where it has to fail."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from securecfg.errors import (
    KeyAccessDenied,
    KeyDisabled,
    KeyMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    WrongKey,
)
from securecfg.keys import call_unwrap, open_provider, parse_params
from securecfg.keys.gcp import crc32c
from securecfg.keys.provider import DescribedProvider
from securecfg.testing.faulty_proxy import Answer, FaultyProxy, Reset, Silence
from securecfg.testing.key_provider_conformance import CONTEXT, KEY
from securecfg.testing.key_services import ServiceFault
from tests.keys.gcp import (
    ADMIN,
    NOBODY,
    READER,
    RING,
    SERVER,
    Ports,
    client,
    cloud_kms,
    everything_logged,
    refusal,
    write_account,
)
from tests.keys.key_service import (
    HASTY,
    AnsweredOverHttp,
    BehindAProxy,
    NamedByUri,
    SendsKeyEncryptionKeys,
    closed_port,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import KeyProvider
    from securecfg.testing.faulty_proxy import Exchange, Fault
    from tests.keys.gcp import Client

NAME = f"{RING}/cryptoKeys/vault"


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    with cloud_kms() as ports:
        yield ports


@pytest.fixture(autouse=True)
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The service account that the platform's own chain of credentials finds."""
    path = write_account(tmp_path / "account.json", ADMIN)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return path


@pytest.fixture
def proxy(ports: Ports) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", ports.http) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def kms(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return client(ports.http, write_account(tmp_path_factory.mktemp("gcp") / "account.json", ADMIN))


@pytest.fixture
def name(kms: Client) -> str:
    return new_key(kms)


@pytest.fixture
def provider(name: str, proxy: FaultyProxy) -> KeyProvider:
    return open_provider(f"gcpkms:{name}?endpoint={proxy.url}")


def new_key(kms: Client, purpose: int = 1) -> str:
    key = f"key-{time.monotonic_ns()}"
    made: str = kms.create_crypto_key(
        request={"parent": RING, "crypto_key_id": key, "crypto_key": {"purpose": purpose}}
    ).name
    return made


def set_state(kms: Client, name: str, state: int, version: int = 1) -> None:
    kms.update_crypto_key_version(
        request={
            "crypto_key_version": {"name": f"{name}/cryptoKeyVersions/{version}", "state": state},
            "update_mask": {"paths": ["state"]},
        }
    )


ENABLED, DISABLED = 1, 2

FAULTS: dict[ServiceFault, Fault] = {
    ServiceFault.RESET: Reset(),
    ServiceFault.SILENT: Silence(),
    ServiceFault.BROKEN: refusal(500, "INTERNAL"),
    ServiceFault.THROTTLED: refusal(429, "RESOURCE_EXHAUSTED"),
    ServiceFault.DENIED: refusal(403, "PERMISSION_DENIED"),
    ServiceFault.DELETED: refusal(404, "NOT_FOUND"),
}


class TestGcpKms(BehindAProxy):
    faults = FAULTS

    @pytest.fixture(autouse=True)
    def _service(self, kms: Client, proxy: FaultyProxy) -> None:
        self._kms, self._proxy = kms, proxy
        self._name, self._other = new_key(kms), new_key(kms)

    def provider(self) -> KeyProvider:
        return open_provider(f"gcpkms:{self._name}?endpoint={self._proxy.url}")

    def stranger(self) -> KeyProvider:
        return open_provider(f"gcpkms:{self._other}?endpoint={self._proxy.url}")

    def faulty(self, fault: ServiceFault) -> KeyProvider:
        if fault is ServiceFault.UNREACHABLE:
            return open_provider(f"gcpkms:{self._name}?endpoint=http://127.0.0.1:{closed_port()}")
        if fault is ServiceFault.DISABLED:
            set_state(self._kms, self._name, DISABLED)
        else:
            self._proxy.fail(self.faults[fault])
        return self.provider()

    def canaries(self) -> tuple[bytes, ...]:
        tokens = {exchange.headers["authorization"].encode() for exchange in self._proxy.exchanges}
        return b"PRIVATE KEY", b"canary", *tokens, *sent_keks(self._proxy)


class TestAnswers(AnsweredOverHttp):
    refusals = (
        (refusal(401, "UNAUTHENTICATED"), KeyAccessDenied),
        (refusal(403, "PERMISSION_DENIED"), KeyAccessDenied),
        (refusal(404, "NOT_FOUND"), KeyMissing),
        (refusal(400, "FAILED_PRECONDITION"), KeyDisabled),
        (refusal(400, "INVALID_ARGUMENT"), WrongKey),
        (refusal(400, "OUT_OF_RANGE"), KeyProviderRefused),
        (refusal(400, "canary: nobody knows this one"), KeyProviderRefused),
        (refusal(409, "ABORTED"), KeyProviderRefused),
        (refusal(429, "RESOURCE_EXHAUSTED"), KeyProviderUnavailable),
        (refusal(500, "INTERNAL"), KeyProviderUnavailable),
        (refusal(503, "UNAVAILABLE"), KeyProviderUnavailable),
        (refusal(504, "DEADLINE_EXCEEDED"), KeyProviderUnavailable),
        (Answer(400, b"<html>canary</html>"), KeyProviderRefused),
        (Answer(400, b'{"error": {"status": ["canary"]}}'), KeyProviderRefused),
        (Answer(502, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(200, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(200, b"\xff\xfe"), KeyProviderUnavailable),
        (Answer(200, b'{"plaintext": "canary!"}'), KeyProviderUnavailable),
        (Answer(200, b"{}"), KeyProviderUnavailable),
        (Answer(307, b"", {"Location": "http://127.0.0.1:1/"}), KeyProviderUnavailable),
    )

    def unwrapped(self, plaintext: bytes) -> Answer:
        answer = {"plaintext": base64.b64encode(plaintext).decode(), "plaintextCrc32c": str(crc32c(plaintext))}
        return Answer(200, json.dumps(answer).encode())


class TestSentKeys(SendsKeyEncryptionKeys):
    failing_answers = (
        FAULTS[ServiceFault.DENIED],
        Reset(),
        Answer(200, b"{}"),
        Answer(200, b'{"verifiedPlaintextCrc32c": true}'),
    )

    def sent_keks(self, proxy: FaultyProxy) -> Iterator[bytes]:
        return sent_keks(proxy)

    def secrets_of(self, exchange: Exchange) -> str:
        return exchange.headers["authorization"]


class TestUri(NamedByUri):
    uri = f"gcpkms:{NAME}"
    extra = "gcpkms"
    missing = ("google.api_core.exceptions", "google.cloud")
    clients = ("google", "grpc")
    wrong = (
        "",
        "vault",
        f"{NAME}/cryptoKeyVersions/1",
        f"{NAME}/",
        f"/{NAME}",
        f"{NAME}\n",
        f"{RING}/cryptoKeys/",
        f"{RING}/cryptoKeys/a/../b",
        f"{RING}/cryptoKeys/ä",
        f"{RING}/cryptoKeys/{'a' * 64}",
        "projects//locations/global/keyRings/a/cryptoKeys/b",
        f"{NAME}?",
        f"{NAME}?endpoint=",
        f"{NAME}?region=europe-west3",
        f"{NAME}?endpoint=https://cloudkms.example.com",
        f"{NAME}?endpoint=https://googleapis.com.example.com",
        f"{NAME}?endpoint=https://evilgoogleapis.com",
        f"{NAME}?endpoint=https://cloudkms.googleapis.com/path",
        f"{NAME}?endpoint=https://user:canary@cloudkms.googleapis.com",
        f"{NAME}?endpoint=http://cloudkms.googleapis.com",
        f"{NAME}?endpoint=http://localhost.example.com",
        f"{NAME}?endpoint=http://127.0.0.1@evil.example",
        f"{NAME}?endpoint=http://127.0.0.1&endpoint=http://127.0.0.1",
        f"{NAME}#x",
    )
    alike = (f"gcpkms:{NAME}",) * 2
    different = (f"gcpkms:{NAME}", f"gcpkms:{NAME}2", f"gcpkms:{NAME}?endpoint=http://localhost")


def sent_keks(proxy: FaultyProxy) -> Iterator[bytes]:
    """Give each key-encryption key that went to the service, as it is and as it was sent."""
    for exchange in proxy.exchanges:
        plaintext = json.loads(exchange.body).get("plaintext")
        if plaintext:
            yield from (plaintext.encode(), base64.b64decode(plaintext))


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_the_service_is_told_the_slot_and_never_the_wrapped_key(
    provider: KeyProvider, proxy: FaultyProxy, name: str
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    encrypt, decrypt = proxy.exchanges
    assert [exchange.path.partition("?")[0] for exchange in proxy.exchanges] == [
        f"/v1/{name}:encrypt",
        f"/v1/{name}:decrypt",
    ]
    sent, received = json.loads(encrypt.body), json.loads(decrypt.body)
    kek, ciphertext = base64.b64decode(sent.pop("plaintext")), base64.b64decode(received.pop("ciphertext"))
    assert len(kek) == 32
    assert kek != KEY
    assert ciphertext == parse_params(wrapped)[1:]
    assert int(sent.pop("plaintextCrc32c")) == crc32c(kek)
    assert int(received.pop("ciphertextCrc32c")) == crc32c(ciphertext)
    bound = CONTEXT.vault_id + CONTEXT.slot_id
    aad = base64.b64encode(bound).decode()
    assert sent == {"additionalAuthenticatedData": aad, "additionalAuthenticatedDataCrc32c": str(crc32c(bound))}
    assert received == sent
    assert not any(base64.b64encode(KEY) in exchange.body for exchange in proxy.exchanges)


def test_the_service_itself_binds_what_it_encrypts_to_the_slot(provider: KeyProvider, kms: Client, name: str) -> None:
    from google.api_core.exceptions import BadRequest

    request = {"name": name, "ciphertext": parse_params(provider.wrap(KEY, CONTEXT))[1:]}
    bound = CONTEXT.vault_id + CONTEXT.slot_id
    assert len(kms.decrypt(request=request | {"additional_authenticated_data": bound}).plaintext) == 32
    for wrong in (b"", CONTEXT.vault_id, CONTEXT.slot_id + CONTEXT.vault_id):
        with pytest.raises(BadRequest):
            kms.decrypt(request=request | {"additional_authenticated_data": wrong})


# --- checksums --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_computes_the_checksums_of_rfc_3720(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@pytest.mark.parametrize(
    "altered",
    [
        {"ciphertextCrc32c": "1"},
        {"ciphertextCrc32c": None},
        {"verifiedPlaintextCrc32c": False},
        {"verifiedPlaintextCrc32c": None},
        {"verifiedAdditionalAuthenticatedDataCrc32c": False},
        {"ciphertext": base64.b64encode(bytes(60)).decode()},
    ],
)
def test_what_was_encrypted_is_taken_only_with_its_checksums(
    altered: dict[str, Any], provider: KeyProvider, proxy: FaultyProxy
) -> None:
    provider.wrap(KEY, CONTEXT)
    answer = json.loads(proxy.ask(proxy.exchanges[-1]).body)
    proxy.fail(Answer(200, json.dumps(answer).encode()))
    provider.wrap(KEY, CONTEXT)
    proxy.fail(Answer(200, json.dumps(answer | altered).encode()))
    with pytest.raises(KeyProviderUnavailable) as refused:
        provider.wrap(KEY, CONTEXT)
    assert refused.value.message.endswith("something is altered on the way")


@pytest.mark.parametrize("altered", [{"plaintextCrc32c": "1"}, {"plaintextCrc32c": None}, {"plaintext": "AAAA"}])
def test_what_was_decrypted_is_taken_only_with_its_checksum(
    altered: dict[str, Any], provider: KeyProvider, proxy: FaultyProxy
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    provider.unwrap(wrapped, CONTEXT)
    answer = json.loads(proxy.ask(proxy.exchanges[-1]).body)
    proxy.fail(Answer(200, json.dumps(answer).encode()))
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    proxy.fail(Answer(200, json.dumps(answer | altered).encode()))
    with pytest.raises(KeyProviderUnavailable) as refused:
        provider.unwrap(wrapped, CONTEXT)
    assert refused.value.message.endswith("something is altered on the way")


def test_a_request_that_arrives_altered_is_made_again(provider: KeyProvider, proxy: FaultyProxy) -> None:
    message = "The checksum in field ciphertext_crc32c did not match the data in field ciphertext."
    wrapped = provider.wrap(KEY, CONTEXT)
    proxy.fail_next(refusal(400, "INVALID_ARGUMENT", message))
    assert call_unwrap(provider, wrapped, CONTEXT, HASTY) == KEY
    proxy.fail(refusal(400, "INVALID_ARGUMENT", message))
    with pytest.raises(KeyProviderUnavailable):
        call_unwrap(provider, wrapped, CONTEXT, HASTY)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_the_primary_version_encrypts_and_older_ones_still_decrypt(
    provider: KeyProvider, kms: Client, name: str, proxy: FaultyProxy
) -> None:
    old = provider.wrap(KEY, CONTEXT)
    kms.create_crypto_key_version(request={"parent": name})
    kms.update_crypto_key_primary_version(request={"name": name, "crypto_key_version_id": "2"})
    new = provider.wrap(KEY, CONTEXT)
    assert json.loads(proxy.ask(proxy.exchanges[-1]).body)["name"].endswith("/cryptoKeyVersions/2")
    assert provider.unwrap(old, CONTEXT) == provider.unwrap(new, CONTEXT) == KEY
    set_state(kms, name, DISABLED, 1)
    with pytest.raises(KeyDisabled):
        provider.unwrap(old, CONTEXT)
    assert provider.unwrap(new, CONTEXT) == KEY
    set_state(kms, name, ENABLED, 1)
    assert provider.unwrap(old, CONTEXT) == KEY
    kms.destroy_crypto_key_version(request={"name": f"{name}/cryptoKeyVersions/1"})
    with pytest.raises(KeyDisabled) as refused:
        provider.unwrap(old, CONTEXT)
    assert "destroyed" in refused.value.hint


# --- what it answers --------------------------------------------------------------------------------------------------


def test_a_key_for_something_else_is_refused(kms: Client, proxy: FaultyProxy) -> None:
    signing = 5
    with pytest.raises(KeyProviderRefused) as refused:
        open_provider(f"gcpkms:{new_key(kms, signing)}?endpoint={proxy.url}").wrap(KEY, CONTEXT)
    assert type(refused.value) is KeyProviderRefused
    assert "symmetric" in refused.value.hint


def test_a_key_that_is_not_there_is_missing(proxy: FaultyProxy) -> None:
    with pytest.raises(KeyMissing):
        open_provider(f"gcpkms:{NAME}?endpoint={proxy.url}").wrap(KEY, CONTEXT)


GRPC_CALLER = """\
import sys
import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import kms_v1
from google.oauth2.service_account import Credentials

token = Credentials.from_service_account_file(sys.argv[1], always_use_jwt_access=True)
token = token.with_always_use_jwt_access(True)
token._create_self_signed_jwt("https://cloudkms.googleapis.com/")
token.refresh(None)
transport = kms_v1.services.key_management_service.transports.KeyManagementServiceGrpcTransport
client = kms_v1.KeyManagementServiceClient(
    transport=transport(channel=grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}"))
)
metadata = [("authorization", f"Bearer {token.token}")]


def ask(method, **request):
    try:
        return getattr(client, method)(request=request, metadata=metadata, retry=None, timeout=20)
    except GoogleAPICallError as error:
        print(method, error.grpc_status_code.name)


name = sys.argv[3]
answer = ask("encrypt", name=name, plaintext=b"canary", plaintext_crc32c=int(sys.argv[4]))
print(answer.verified_plaintext_crc32c, answer.name.removeprefix(name))
print(ask("decrypt", name=name, ciphertext=answer.ciphertext).plaintext.decode())
ask("encrypt", name=name, plaintext=b"canary", plaintext_crc32c=1)
ask("decrypt", name=name, ciphertext=b"x")
ask("decrypt", name=f"{name}x", ciphertext=answer.ciphertext)
"""


def test_the_servicer_answers_googles_grpc_client_as_its_json_face_does(ports: Ports, name: str, account: Path) -> None:
    # In a process of its own: one that has used gRPC could not fork any more.
    arguments = [str(account), str(ports.grpc), name, str(crc32c(b"canary"))]
    run = subprocess.run(
        [sys.executable, "-c", GRPC_CALLER, *arguments], capture_output=True, text=True, check=True, cwd=SERVER.parent
    )
    assert run.stdout.splitlines() == [
        "True /cryptoKeyVersions/1",
        "canary",
        "encrypt INVALID_ARGUMENT",
        "decrypt INVALID_ARGUMENT",
        "decrypt NOT_FOUND",
    ]


# --- credentials ------------------------------------------------------------------------------------------------------


def test_who_may_only_decrypt_opens_and_wraps_nothing(
    provider: KeyProvider, name: str, proxy: FaultyProxy, account: Path
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    write_account(account, READER)
    reader = open_provider(f"gcpkms:{name}?endpoint={proxy.url}")
    assert reader.unwrap(wrapped, CONTEXT) == KEY
    with pytest.raises(KeyAccessDenied) as refused:
        reader.wrap(KEY, CONTEXT)
    assert "`cloudkms.cryptoKeyVersions.useToEncrypt`" in refused.value.hint
    write_account(account, NOBODY)
    with pytest.raises(KeyAccessDenied):
        open_provider(f"gcpkms:{name}?endpoint={proxy.url}").unwrap(wrapped, CONTEXT)


def test_a_token_that_google_does_not_know_is_denied(name: str, proxy: FaultyProxy, account: Path) -> None:
    write_account(account, ADMIN, rsa.generate_private_key(65537, 2048))
    with pytest.raises(KeyAccessDenied):
        open_provider(f"gcpkms:{name}?endpoint={proxy.url}").wrap(KEY, CONTEXT)


def test_without_credentials_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch, account: Path) -> None:
    account.write_text("canary")
    with pytest.raises(KeyAccessDenied) as refused:
        open_provider(f"gcpkms:{NAME}").wrap(KEY, CONTEXT)
    assert "canary" not in refused.value.message + refused.value.hint
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with pytest.raises(KeyAccessDenied) as refused:
        open_provider(f"gcpkms:{NAME}").wrap(KEY, CONTEXT)
    assert "`gcloud auth application-default login`" in refused.value.hint


def test_a_token_service_that_cannot_be_reached_is_unavailable(account: Path, proxy: FaultyProxy) -> None:
    user = {"type": "authorized_user", "client_id": "x", "client_secret": "canary", "refresh_token": "canary"}
    account.write_text(json.dumps(user | {"token_uri": f"http://127.0.0.1:{closed_port()}/token"}))
    with pytest.raises(KeyProviderUnavailable) as refused:
        open_provider(f"gcpkms:{NAME}?endpoint={proxy.url}").wrap(KEY, CONTEXT)
    assert "no access token" in refused.value.message


# --- secrets and logs -------------------------------------------------------------------------------------------------


def test_the_client_would_log_keys_and_is_kept_from_it(
    provider: KeyProvider, proxy: FaultyProxy, kms: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with everything_logged() as seen:
        kms.encrypt(request={"name": name, "plaintext": b"canary of another's call"})
        assert base64.b64encode(b"canary of another's call").decode() in "".join(seen)
        seen.clear()
        provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT)
    assert seen == []
    assert list(sent_keks(proxy))


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        NAME,
        "projects/example.com:shop/locations/global/keyRings/a_b-C/cryptoKeys/9",
        f"{NAME}?endpoint=https://cloudkms.europe-west3.rep.googleapis.com",
        f"{NAME}?endpoint=https://cloudkms-shop.p.googleapis.com",
        f"{NAME}?endpoint=http://127.0.0.1:5000",
        f"{NAME}?endpoint=http://[::1]:5000",
    ],
)
def test_takes_the_name_of_a_key(rest: str) -> None:
    provider = open_provider(f"gcpkms:{rest}")
    assert rest.startswith(repr(provider).removeprefix("GcpKmsProvider('").removesuffix("')"))
    assert isinstance(provider, DescribedProvider)
    assert provider.describe().get("endpoint", "") == rest.partition("?endpoint=")[2]
