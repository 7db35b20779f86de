"""`azurekeyvault:` through the vendor's client, over TLS, against the service on this machine."""

from __future__ import annotations

import base64
import json
import logging
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

import securecfg
from securecfg.errors import (
    KeyAccessDenied,
    KeyDisabled,
    KeyMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SecurecfgError,
    WrongKey,
)
from securecfg.keys import WrapContext, open_provider, parse_params
from securecfg.testing.azure_key_vault import CLIENT_ID, CLIENT_SECRET, FEDERATED_TOKEN, IDENTITY_HEADER, TENANT
from securecfg.testing.faulty_proxy import Answer, CutOff, Reset, Silence
from securecfg.testing.key_provider_conformance import CONTEXT, KEY
from securecfg.testing.key_services import ServiceFault
from tests.keys.azure import HSM_HOST, VAULT_HOST, azure, refusal, settle
from tests.keys.key_service import AnsweredOverHttp, BehindAProxy, NamedByUri, closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.keys import KeyProvider
    from securecfg.testing.azure_key_vault import AzureKeyVault, KeyVersion
    from securecfg.testing.faulty_proxy import Fault
    from tests.keys.azure import AzureProxy

URL = f"https://{VAULT_HOST}/keys/app"
HSM_URL = f"https://{HSM_HOST}/keys/app"
KID = f"{URL}/{'0' * 32}"
RSA_KEYS = [generate_private_key(65537, 2048) for _ in range(3)]
SYMMETRIC_KEYS = [bytes((number,)) * 32 for number in range(3)]
HOUR_S = 3600
PACKAGE = str(Path(securecfg.__file__).parent)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AzureKeyVault, AzureProxy, dict[str, str]]]:
    with azure(tmp_path_factory.mktemp("azure")) as place:
        yield place


@pytest.fixture
def service(place: tuple[AzureKeyVault, AzureProxy, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> AzureKeyVault:
    service, _proxy = settle(place, monkeypatch)
    return service


@pytest.fixture
def proxy(place: tuple[AzureKeyVault, AzureProxy, dict[str, str]], service: AzureKeyVault) -> AzureProxy:
    return place[1]


@pytest.fixture
def rsa(service: AzureKeyVault) -> KeyVersion:
    return service.create_key(VAULT_HOST, "app", RSA_KEYS[0])


@pytest.fixture
def symmetric(service: AzureKeyVault) -> KeyVersion:
    return service.create_key(HSM_HOST, "app", SYMMETRIC_KEYS[0])


@pytest.fixture
def provider(rsa: KeyVersion) -> KeyProvider:
    return open_provider(f"azurekeyvault:{URL}")


@pytest.fixture
def hsm(symmetric: KeyVersion) -> KeyProvider:
    return open_provider(f"azurekeyvault:{HSM_URL}")


FAULTS: dict[ServiceFault, Fault] = {
    ServiceFault.RESET: Reset(),
    ServiceFault.SILENT: Silence(),
    ServiceFault.BROKEN: refusal(500, "InternalServerError"),
    ServiceFault.THROTTLED: Answer(429, refusal(429, "Throttled").body, {"Retry-After": "30"}),
    ServiceFault.DENIED: refusal(403, "Forbidden", "ForbiddenByRbac"),
}


class TestAzureKeyVault(BehindAProxy):
    _proxy: AzureProxy
    faults = FAULTS
    altered = 5
    host = VAULT_HOST
    material: tuple[Any, Any] = (RSA_KEYS[0], RSA_KEYS[1])

    @pytest.fixture(autouse=True)
    def _service(self, service: AzureKeyVault, proxy: AzureProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        self._azure, self._proxy, self._variables = service, proxy, monkeypatch
        self._key = service.create_key(self.host, "app", self.material[0])
        service.create_key(self.host, "other", self.material[1])

    def provider(self) -> KeyProvider:
        return open_provider(f"azurekeyvault:https://{self.host}/keys/app")

    def stranger(self) -> KeyProvider:
        return open_provider(f"azurekeyvault:https://{self.host}/keys/other")

    def faulty(self, fault: ServiceFault) -> KeyProvider:
        match fault:
            case ServiceFault.UNREACHABLE:
                self._variables.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
            case ServiceFault.DISABLED:
                self._key.attributes["enabled"] = False
            case ServiceFault.DELETED:
                self._azure.delete_key(self.host, "app")
            case _:
                self._proxy.fail(self.faults[fault])
        return self.provider()

    def canaries(self) -> tuple[bytes, ...]:
        tokens = [token.encode() for token in self._azure.tokens]
        return CLIENT_SECRET.encode(), b"canary", *tokens, *sent_keks(self._proxy)


class TestManagedHsm(TestAzureKeyVault):
    host = HSM_HOST
    material = (SYMMETRIC_KEYS[0], SYMMETRIC_KEYS[1])


class TestAnswers(AnsweredOverHttp):
    refusals = (
        (refusal(403, "Forbidden", "ForbiddenByRbac"), KeyAccessDenied),
        (refusal(403, "Forbidden", "ForbiddenByFirewall"), KeyAccessDenied),
        (refusal(403, "Forbidden"), KeyAccessDenied),
        (refusal(401, "Unauthorized"), KeyAccessDenied),
        (refusal(403, "Forbidden", "KeyDisabled"), KeyDisabled),
        (refusal(403, "Forbidden", "KeyExpired"), KeyDisabled),
        (refusal(403, "Forbidden", "KeyNotYetValid"), KeyDisabled),
        (refusal(403, "Forbidden", "KeyOperationForbidden"), KeyProviderRefused),
        (refusal(404, "KeyNotFound"), KeyMissing),
        (refusal(409, "Conflict", "ObjectIsDeletedButRecoverable"), KeyMissing),
        (refusal(400, "BadParameter"), WrongKey),
        (refusal(413, "Canary; nobody knows this one"), KeyProviderRefused),
        (refusal(429, "Throttled"), KeyProviderUnavailable),
        (refusal(500, "InternalServerError"), KeyProviderUnavailable),
        (refusal(503, "ServiceUnavailable"), KeyProviderUnavailable),
        (Answer(403, b"<html>canary</html>"), KeyAccessDenied),
        (Answer(403, b'{"error": {"code": "Forbidden", "innerError": {"code": "KeyDisabled"}}}'), KeyDisabled),
        (Answer(403, b'{"error": ["canary"]}'), KeyAccessDenied),
        (Answer(403, b'{"error": {"code": {"canary": 1}}}'), KeyAccessDenied),
        (Answer(502, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(502, b"canary", {"Content-Type": "application/json"}), KeyProviderUnavailable),
        (Answer(200, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(200, b"\xff", {"Content-Type": "application/json"}), KeyProviderUnavailable),
        (Answer(200, b"[]"), KeyProviderUnavailable),
        (Answer(200, b"{}"), KeyProviderUnavailable),
        (Answer(200, b'{"value": null}'), KeyProviderUnavailable),
        (Answer(200, b'{"value": "canary="}'), KeyProviderUnavailable),
        (Answer(200, b'{"value": "c+nary"}'), KeyProviderUnavailable),
        (Answer(200, b'{"value": "canar"}'), KeyProviderUnavailable),
        (Answer(301, b"", {"Location": "https://127.0.0.1:1/"}), KeyProviderUnavailable),
    )
    wrong_sizes = (1, 31, 33, 4096)  # of no bytes there is no answer

    def unwrapped(self, plaintext: bytes) -> Answer:
        value = base64.urlsafe_b64encode(plaintext).rstrip(b"=").decode()
        return Answer(200, json.dumps({"value": value}).encode())


class TestUri(NamedByUri):
    uri = f"azurekeyvault:{URL}"
    extra = "azurekeyvault"
    missing = ("azure.keyvault.keys",)
    clients = ("azure", "msal", "requests")
    wrong = (
        "",
        "app",
        "https://shop.vault.azure.net",
        "https://shop.vault.azure.net/",
        "https://shop.vault.azure.net/keys/",
        "https://shop.vault.azure.net/secrets/app",
        "http://shop.vault.azure.net/keys/app",
        "//shop.vault.azure.net/keys/app",
        f"{URL}/",
        f"{URL}/1",
        f"{URL}/{'A' * 32}",
        f"{KID}/",
        f"{KID}/unwrapkey",
        f"{URL}?x=1",
        f"{URL}#x",
        f"{URL}\n",
        f" {URL}",
        f"{URL}_1",
        f"{URL}ä",
        f"{URL}{'k' * 127}",
        "https://vault.azure.net/keys/app",
        "https://a.b.vault.azure.net/keys/app",
        "https://shop.vault.azure.net:443/keys/app",
        "https://user:canary@shop.vault.azure.net/keys/app",
        "https://shop.vault.azure.net.evil.example/keys/app",
        "https://shop.vault.azure.net@evil.example/keys/app",
        "https://shop.vault.azure.example/keys/app",
        "https://shopvault.azure.net/keys/app",
        "https://1shop.vault.azure.net/keys/app",
        "https://shop-.vault.azure.net/keys/app",
        "https://127.0.0.1/keys/app",
        "https://shop.vault.azure.net/keys/../keys/app",
        "https://shop.vault.azure.net/keys/a%2fb",
        "https://shop.vault.azure.net\\@evil.example/keys/app",
    )
    alike = (f"azurekeyvault:{URL}",) * 2
    different = tuple(f"azurekeyvault:{url}" for url in (URL, KID, HSM_URL, f"{URL}-1"))


def sent_keks(proxy: AzureProxy) -> Iterator[bytes]:
    """Give each key-encryption key that went to the service, as it is and as it was sent."""
    for exchange in proxy.exchanges:
        if "/wrapkey" in exchange.path:
            value = json.loads(exchange.body)["value"]
            yield from (value.encode(), base64.urlsafe_b64decode(value + "="))


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_an_rsa_key_is_looked_at_and_wraps_here(
    provider: KeyProvider, service: AzureKeyVault, proxy: AzureProxy, rsa: KeyVersion
) -> None:
    service.permissions.remove("wrapKey")
    wrapped = provider.wrap(KEY, CONTEXT)
    assert [(exchange.method, exchange.path) for exchange in proxy.exchanges] == [
        ("GET", "/keys/app/?api-version=2025-07-01")
    ]
    params = parse_params(wrapped)
    assert params[1:35] == b"\x01\x20" + rsa.number.encode()
    assert len(params) == 35 + 256


def test_a_key_is_opened_with_one_request_and_the_right_to_unwrap(
    provider: KeyProvider, service: AzureKeyVault, proxy: AzureProxy, rsa: KeyVersion
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    proxy.forget()
    service.permissions -= {"get", "wrapKey"}
    assert open_provider(f"azurekeyvault:{URL}").unwrap(wrapped, CONTEXT) == KEY
    (exchange,) = proxy.exchanges
    assert exchange.path == f"/keys/app/{rsa.number}/unwrapkey?api-version=2025-07-01"
    sent = base64.urlsafe_b64encode(parse_params(wrapped)[35:]).rstrip(b"=").decode()
    assert json.loads(exchange.body) == {"alg": "RSA-OAEP-256", "value": sent}


def test_the_hsm_itself_wraps_with_a_symmetric_key(
    hsm: KeyProvider, proxy: AzureProxy, symmetric: KeyVersion, service: AzureKeyVault
) -> None:
    wrapped = hsm.wrap(KEY, CONTEXT)
    get, wrap = proxy.exchanges
    assert get.path == "/keys/app/?api-version=2025-07-01"
    assert wrap.path == f"/keys/app/{symmetric.number}/wrapkey?api-version=2025-07-01"
    assert json.loads(wrap.body)["alg"] == "A256KW"
    params = parse_params(wrapped)
    assert params[1:35] == b"\x02\x20" + symmetric.number.encode()
    assert len(params) == 35 + 40
    # The vendor's other client would have wrapped with a key that it draws by itself.
    symmetric.material = SYMMETRIC_KEYS[1]
    with pytest.raises(WrongKey):
        hsm.unwrap(wrapped, CONTEXT)


def test_the_wrapped_key_itself_goes_nowhere(provider: KeyProvider, hsm: KeyProvider, proxy: AzureProxy) -> None:
    for each in (provider, hsm):
        assert each.unwrap(each.wrap(KEY, CONTEXT), CONTEXT) == KEY
    secret = base64.urlsafe_b64encode(KEY).rstrip(b"=")
    assert not any(secret in exchange.body for exchange in proxy.exchanges)
    assert [len(kek) for kek in sent_keks(proxy)] == [43, 32]


def test_every_slot_has_a_key_encryption_key_of_its_own(hsm: KeyProvider, proxy: AzureProxy) -> None:
    for number in range(5):
        hsm.wrap(KEY, WrapContext(CONTEXT.vault_id, bytes((number,)) * 16))
    assert len(set(sent_keks(proxy))) == 10


@pytest.mark.parametrize(("host", "material"), [(VAULT_HOST, RSA_KEYS), (HSM_HOST, SYMMETRIC_KEYS)])
def test_a_slot_opens_after_its_key_was_rotated_in_the_vault(
    host: str, material: list[Any], service: AzureKeyVault
) -> None:
    url = f"azurekeyvault:https://{host}/keys/app"
    old = service.create_key(host, "app", material[0])
    before = open_provider(url).wrap(KEY, CONTEXT)
    new = service.create_key(host, "app", material[1])
    after = open_provider(url).wrap(KEY, CONTEXT)
    assert [parse_params(wrapped)[3:35].decode() for wrapped in (before, after)] == [old.number, new.number]
    assert [open_provider(url).unwrap(wrapped, CONTEXT) for wrapped in (before, after)] == [KEY, KEY]


def test_a_url_with_a_version_means_no_other(service: AzureKeyVault, proxy: AzureProxy) -> None:
    old, new = (service.create_key(VAULT_HOST, "app", key) for key in RSA_KEYS[:2])
    pinned = open_provider(f"azurekeyvault:{URL}/{old.number}")
    wrapped = pinned.wrap(KEY, CONTEXT)
    assert parse_params(wrapped)[3:35].decode() == old.number
    assert pinned.unwrap(wrapped, CONTEXT) == open_provider(f"azurekeyvault:{URL}").unwrap(wrapped, CONTEXT) == KEY
    proxy.forget()
    with pytest.raises(WrongKey):
        open_provider(f"azurekeyvault:{URL}/{new.number}").unwrap(wrapped, CONTEXT)
    assert proxy.exchanges == []


@pytest.mark.parametrize(
    "params",
    [
        b"",
        b"h",
        b"h\x01",
        b"h\x01\x20",
        b"h\x01\x20" + b"0" * 32,
        b"h\x03\x20" + b"0" * 32 + b"x",
        b"h\x00\x20" + b"0" * 32 + b"x",
        b"h\x01\x00x",
        b"h\x01\x1f" + b"0" * 31 + b"x",
        b"h\x01\x20" + b"A" * 32 + b"x",
        b"h\x01\x20" + b"../../../secrets/canary/00000000" + b"x",
        b"h\x01\x20" + b"0" * 30 + "é".encode() + b"x",
        b"h\x01\x20" + b"0" * 31 + b"\nx",
        b"h\x01\x20" + b"\xff" * 32 + b"x",
    ],
)
def test_what_is_no_slot_of_a_vault_key_is_not_sent(params: bytes, provider: KeyProvider, proxy: AzureProxy) -> None:
    with pytest.raises(WrongKey):
        provider.unwrap(len(params).to_bytes(2) + params + bytes(80), CONTEXT)
    assert proxy.exchanges == proxy.logins == []


# --- what it answers --------------------------------------------------------------------------------------------------


def test_a_refusal_to_wrap_is_no_wrong_key(hsm: KeyProvider, symmetric: KeyVersion) -> None:
    symmetric.material = bytes(16)
    symmetric.operations.append("encrypt")
    with pytest.raises(KeyProviderRefused) as refused:
        hsm.wrap(KEY, CONTEXT)
    assert "256 bits" in refused.value.hint


def test_a_slot_of_a_key_that_is_gone_says_so_under_any_spelling_of_its_url(
    service: AzureKeyVault, proxy: AzureProxy
) -> None:
    key = service.create_key(VAULT_HOST, "app", RSA_KEYS[0])
    service.create_key(VAULT_HOST, "other", RSA_KEYS[1])
    wrapped = open_provider(f"azurekeyvault:{URL}/{key.number}").wrap(KEY, CONTEXT)
    with pytest.raises(WrongKey):
        open_provider(f"azurekeyvault:https://{VAULT_HOST}/keys/other").unwrap(wrapped, CONTEXT)
    service.delete_key(VAULT_HOST, "app")
    for spelling in (URL, f"{URL}/{key.number}"):
        with pytest.raises(KeyMissing):
            open_provider(f"azurekeyvault:{spelling}").unwrap(wrapped, CONTEXT)


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"enabled": False}, KeyDisabled),
        ({"exp": -HOUR_S}, KeyDisabled),
        ({"nbf": HOUR_S}, KeyDisabled),
        ({"exp": HOUR_S, "nbf": -HOUR_S}, None),
    ],
)
def test_a_key_that_may_not_wrap_now_makes_no_slot_and_one_that_is_over_still_opens(
    attributes: Mapping[str, Any], error: type[SecurecfgError] | None, provider: KeyProvider, rsa: KeyVersion
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    now = int(time.time())
    rsa.attributes |= {name: value if name == "enabled" else now + value for name, value in attributes.items()}
    if error is None:
        provider.wrap(KEY, CONTEXT)
    else:
        with pytest.raises(error):
            provider.wrap(KEY, CONTEXT)
    if rsa.attributes["enabled"]:
        assert provider.unwrap(wrapped, CONTEXT) == KEY


@pytest.mark.parametrize("operations", [["sign", "verify"], ["wrapKey"], ["unwrapKey"], []])
def test_a_key_that_could_never_open_its_slot_makes_none(
    operations: list[str], provider: KeyProvider, rsa: KeyVersion
) -> None:
    rsa.operations = operations
    with pytest.raises(KeyProviderRefused) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "`unwrapKey`" in refused.value.hint


@pytest.mark.parametrize("kty", ["EC", "EC-HSM", "oct", ""])
def test_a_key_of_another_type_is_refused(kty: str, provider: KeyProvider, rsa: KeyVersion) -> None:
    rsa.kty = kty
    with pytest.raises(KeyProviderRefused) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "RSA" in refused.value.hint


NUMBER = base64.urlsafe_b64encode(RSA_KEYS[0].public_key().public_numbers().n.to_bytes(256)).rstrip(b"=").decode()
GOOD: dict[str, Any] = {"kid": KID, "kty": "RSA", "key_ops": ["wrapKey", "unwrapKey"], "n": NUMBER, "e": "AQAB"}


@pytest.mark.parametrize(
    "changed",
    [
        {"kid": None},
        {"kid": f"{URL}/canary"},
        {"kid": URL},
        {"kid": KID.replace("shop", "evil")},
        {"kid": KID.replace("/app/", "/other/")},
        {"key_ops": "wrapKey unwrapKey"},
        {"n": None},
        {"n": ""},
        {"n": "canary!"},
        {"n": "AQAB"},
        {"n": NUMBER[:128]},
        {"e": "AQ"},
        {"e": "AA"},
        {"e": 65537},
    ],
    # Not the values: some are made anew in each process that runs tests.
    ids=" ".join,
)
def test_what_is_no_key_is_not_used(changed: dict[str, Any], provider: KeyProvider, proxy: AzureProxy) -> None:
    proxy.fail(Answer(200, json.dumps({"key": GOOD, "attributes": {"enabled": True}}).encode()))
    assert parse_params(provider.wrap(KEY, CONTEXT))[3:35] == b"0" * 32
    proxy.fail(Answer(200, json.dumps({"key": GOOD | changed, "attributes": {"enabled": True}}).encode()))
    with pytest.raises(KeyProviderUnavailable) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "canary" not in refused.value.message


@pytest.mark.parametrize("attributes", [{"enabled": True, "exp": "soon"}, {"enabled": True, "nbf": None}])
def test_times_that_are_none_are_no_answer(
    attributes: Mapping[str, Any], provider: KeyProvider, proxy: AzureProxy
) -> None:
    proxy.fail(Answer(200, json.dumps({"key": GOOD, "attributes": attributes}).encode()))
    with pytest.raises(KeyProviderUnavailable):
        provider.wrap(KEY, CONTEXT)


# --- who answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "resource",
    ["https://management.azure.com", "https://vault.azure.net.evil.example", "https://other.vault.azure.net"],
)
def test_a_challenge_for_a_token_of_another_service_gets_none(
    resource: str, provider: KeyProvider, service: AzureKeyVault, proxy: AzureProxy, symmetric: KeyVersion
) -> None:
    forget_challenges()
    service.resource = resource
    with pytest.raises(KeyProviderRefused) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "another service" in refused.value.message
    assert resource not in refused.value.message + refused.value.hint
    assert proxy.logins == []


def test_the_first_request_of_a_process_says_nothing_before_the_challenge(hsm: KeyProvider, proxy: AzureProxy) -> None:
    wrapped = hsm.wrap(KEY, CONTEXT)
    forget_challenges()
    proxy.probes.clear()
    assert open_provider(f"azurekeyvault:{HSM_URL}").unwrap(wrapped, CONTEXT) == KEY
    assert [probe.body for probe in proxy.probes] == [b""]


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    provider: KeyProvider, proxy: AzureProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(KeyProviderUnavailable):
        provider.wrap(KEY, CONTEXT)
    assert proxy.exchanges == []


def forget_challenges() -> None:
    """Let the client forget what it knows of vaults, as in a new process."""
    from azure.keyvault.keys._shared import http_challenge_cache

    http_challenge_cache.clear()


# --- credentials ------------------------------------------------------------------------------------------------------


def test_a_wrong_client_secret_is_denied_without_the_words_of_the_login_service(
    provider: KeyProvider, proxy: AzureProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "canary-wrong")
    with pytest.raises(KeyAccessDenied) as refused, caplog.at_level(logging.DEBUG):
        provider.wrap(KEY, CONTEXT)
    assert "az login" in refused.value.hint
    for text in (refused.value.message, refused.value.hint, caplog.text):
        assert "canary" not in text
        assert "AADSTS" not in text
    assert proxy.exchanges == []


@pytest.mark.parametrize(
    "fault",
    [
        Reset(),
        CutOff(),
        Answer(500, b"<html>canary</html>", {"Content-Type": "text/html"}),
        Answer(503, b"canary", {"Content-Type": "application/json"}),
        Answer(200, b"canary", {"Content-Type": "application/json"}),
    ],
)
def test_a_login_service_that_is_away_is_not_a_wrong_password(
    fault: Fault, provider: KeyProvider, proxy: AzureProxy
) -> None:
    proxy.login_fault = fault
    with pytest.raises(KeyProviderUnavailable) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "login service" in refused.value.message
    assert "canary" not in refused.value.message
    proxy.login_fault = None
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY


@pytest.mark.parametrize("status", [500, 503])
def test_a_login_service_that_is_too_busy_for_a_token_is_not_a_wrong_password(
    status: int, provider: KeyProvider, proxy: AzureProxy
) -> None:
    body = b'{"error": "temporarily_unavailable", "error_description": "canary"}'
    proxy.token_fault = Answer(status, body, {"Content-Type": "application/json"})
    with pytest.raises(KeyProviderUnavailable) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "login service" in refused.value.message


def test_without_credentials_says_how_to_get_some(
    provider: KeyProvider, proxy: AzureProxy, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(nobody))
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "dev")
    with pytest.raises(KeyAccessDenied) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "`az login`" in refused.value.hint
    assert proxy.logins == []


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials, and the folder in which programs are looked for."""
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_pod_of_kubernetes_logs_in_with_its_token(
    provider: KeyProvider, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nobody / "token").write_text(FEDERATED_TOKEN)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(nobody / "token"))
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY
    (nobody / "token").write_text("another")
    with pytest.raises(KeyAccessDenied):
        open_provider(f"azurekeyvault:{URL}").wrap(KEY, CONTEXT)


def test_a_machine_uses_its_managed_identity(
    provider: KeyProvider, service: AzureKeyVault, proxy: AzureProxy, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{service.port}/identity")
    monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY
    assert proxy.logins == []
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{closed_port()}/identity")
    with pytest.raises(KeyProviderUnavailable) as refused:
        open_provider(f"azurekeyvault:{URL}").wrap(KEY, CONTEXT)
    assert "login service" in refused.value.message


def test_a_person_uses_the_login_of_the_azure_command_line(
    provider: KeyProvider, service: AzureKeyVault, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    token = json.dumps(
        {
            "accessToken": service.give_token("https://vault.azure.net/.default"),
            "expires_on": int(time.time()) + HOUR_S,
            "tenant": TENANT,
            "tokenType": "Bearer",
        }
    )
    program = nobody / "az"
    program.write_text(f"#!/bin/sh\necho '{token}'\n")
    program.chmod(0o755)
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY
    program.write_text('#!/bin/sh\necho "Please run: az login" >&2\nexit 1\n')
    with pytest.raises(KeyAccessDenied):
        open_provider(f"azurekeyvault:{URL}").wrap(KEY, CONTEXT)


def test_nobody_is_asked_to_log_in_with_a_browser(service: AzureKeyVault) -> None:
    from securecfg.keys.azure_login import Login

    kinds = [type(each._credential).__name__ for each in Login(asks_metadata=True)._chain.credentials]  # type: ignore[union-attr]  # all are ours
    assert "EnvironmentCredential" in kinds
    assert "ManagedIdentityCredential" in kinds
    assert not any("Browser" in kind or "Broker" in kind or "Cache" in kind or "Code" in kind for kind in kinds)


@pytest.mark.parametrize(
    ("name", "value"), [("AZURE_TOKEN_CREDENTIALS", "canary"), ("AZURE_AUTHORITY_HOST", "http://canary.example")]
)
def test_settings_of_credentials_that_are_wrong_in_themselves_are_named(
    name: str, value: str, provider: KeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(KeyAccessDenied) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "`AZURE_`" in refused.value.hint
    assert "canary" not in refused.value.message


# --- secrets in tracebacks and logs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [FAULTS[ServiceFault.DENIED], Answer(200, b'{"value": "c+nary"}'), Reset()])
def test_a_traceback_that_shows_locals_shows_no_key_encryption_key(
    answer: Fault, hsm: KeyProvider, proxy: AzureProxy
) -> None:
    wrapped = hsm.wrap(KEY, CONTEXT)
    proxy.fail_wrapping(answer)
    with pytest.raises(SecurecfgError) as wrapping:
        hsm.wrap(KEY, CONTEXT)
    kek = base64.urlsafe_b64encode(bytes(31) + b"\x01\x02").rstrip(b"=").decode()
    proxy.fail(Answer(200, json.dumps({"value": kek}).encode()))
    with pytest.raises(WrongKey) as unwrapping:
        hsm.unwrap(wrapped, CONTEXT)
    secrets = [kek, *(repr(sent)[2:-1] for sent in sent_keks(proxy))]
    assert len(secrets) == 5
    for error in (wrapping.value, unwrapping.value):
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        shown = [repr(frame.locals) for frame in frames if frame.filename.startswith(PACKAGE)]
        assert shown
        assert not any(secret in text for text in shown for secret in secrets)


def test_neither_keys_nor_tokens_are_logged(
    provider: KeyProvider,
    hsm: KeyProvider,
    proxy: AzureProxy,
    service: AzureKeyVault,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        for each in (provider, hsm):
            each.unwrap(each.wrap(KEY, CONTEXT), CONTEXT)
    assert caplog.text
    assert "canary" not in caplog.text
    assert not any(kek.decode("latin-1") in caplog.text for kek in sent_keks(proxy))
    assert service.tokens


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        URL,
        HSM_URL,
        KID,
        "https://a-1.vault.azure.cn/keys/A-b-1",
        "https://shop.vault.usgovcloudapi.net/keys/app",
        "https://shop.managedhsm.usgovcloudapi.net/keys/" + "k" * 127,
    ],
)
def test_takes_the_url_of_a_key(rest: str) -> None:
    provider = open_provider(f"azurekeyvault:{rest}")
    assert repr(provider) == f"AzureKeyVaultProvider({rest!r})"
