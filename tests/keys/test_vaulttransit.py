"""`vaulttransit:` against a double of Vault's published API, with a proxy before it where the server has to fail."""

from __future__ import annotations

import base64
import json
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from securecfg import Vault
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
from securecfg.keys.provider import DescribedProvider
from securecfg.testing.faulty_proxy import Answer, CutOff, FaultyProxy, Reset, Silence
from securecfg.testing.key_provider_conformance import CONTEXT, KEY
from securecfg.testing.key_services import ServiceFault
from securecfg.vault.keys.slots import Slots
from tests.keys.certificates import make_certificates
from tests.keys.key_service import AnsweredOverHttp, BehindAProxy, NamedByUri, SendsKeyEncryptionKeys, closed_port
from tests.keys.transit import allow, client, refusal, vault_server
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import KeyProvider
    from securecfg.testing.faulty_proxy import Exchange, Fault
    from tests.keys.transit import Client

SEALED = refusal(503, "Vault is sealed")
DENIED = refusal(403, "permission denied")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with vault_server() as port:
        yield port


@pytest.fixture(scope="module")
def root(port: int) -> Client:
    return client(port)


@pytest.fixture(scope="module")
def token(root: Client) -> str:
    return allow(root, "app", encrypt=["update"], decrypt=["update"])


@pytest.fixture
def proxy(port: int) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def environment(proxy: FaultyProxy, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VAULT_NAMESPACE", "VAULT_CACERT", "VAULT_CAPATH", "VAULT_SECRET_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VAULT_ADDR", proxy.url)
    monkeypatch.setenv("VAULT_TOKEN", token)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def name(root: Client) -> str:
    return new_key(root)


@pytest.fixture
def provider(name: str) -> KeyProvider:
    return open_provider(f"vaulttransit:transit/{name}")


def new_key(root: Client, kind: str = "aes256-gcm96", **options: bool) -> str:
    name = f"key-{time.monotonic_ns()}"
    root.secrets.transit.create_key(name, key_type=kind, **options)
    return name


FAULTS: dict[ServiceFault, Fault] = {
    ServiceFault.RESET: Reset(),
    ServiceFault.SILENT: Silence(),
    ServiceFault.BROKEN: refusal(500, "internal error"),
    ServiceFault.THROTTLED: refusal(429, "request path rate limit quota exceeded"),
    ServiceFault.DENIED: DENIED,
}


class TestVaultTransit(BehindAProxy):
    faults = FAULTS
    derived = True

    @pytest.fixture(autouse=True)
    def _service(self, root: Client, proxy: FaultyProxy, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._proxy, self._token, self._patch = root, proxy, token, monkeypatch
        self._name, self._other = new_key(root, derived=self.derived), new_key(root, derived=self.derived)

    def provider(self) -> KeyProvider:
        return open_provider(f"vaulttransit:transit/{self._name}")

    def stranger(self) -> KeyProvider:
        return open_provider(f"vaulttransit:transit/{self._other}")

    def faulty(self, fault: ServiceFault) -> KeyProvider:
        if fault is ServiceFault.DISABLED:
            pytest.skip(
                "not applicable: a transit key has no such state; versions that may not decrypt have tests below"
            )
        if fault is ServiceFault.UNREACHABLE:
            self._patch.setenv("VAULT_ADDR", f"http://127.0.0.1:{closed_port()}")
        elif fault is ServiceFault.DELETED:
            self._root.secrets.transit.update_key_configuration(self._name, deletion_allowed=True)
            self._root.secrets.transit.delete_key(self._name)
        else:
            self._proxy.fail(self.faults[fault])
        return self.provider()

    def canaries(self) -> tuple[bytes, ...]:
        return self._token.encode(), *sent_keks(self._proxy)


class TestVaultTransitWithAKeyThatIsNotDerived(TestVaultTransit):
    derived = False


class TestAnswers(AnsweredOverHttp):
    refusals = (
        (refusal(400, "cipher: message authentication failed"), WrongKey),
        (refusal(400, "invalid ciphertext: unable to decrypt"), WrongKey),
        (refusal(400, "invalid ciphertext: version is too new"), WrongKey),
        (refusal(400, "canary; nobody knows this one"), WrongKey),
        (refusal(400, "encryption key not found"), KeyMissing),
        (refusal(400, "missing client token"), KeyAccessDenied),
        (refusal(400, "ciphertext or signature version is disallowed by policy (too old)"), KeyDisabled),
        (refusal(400, "'[0].associated_data' provided for non-AEAD cipher suite rsa-2048"), KeyProviderRefused),
        (refusal(400, "message decryption not supported for key type ed25519"), KeyProviderRefused),
        (DENIED, KeyAccessDenied),
        (refusal(403, "permission denied", "invalid token"), KeyAccessDenied),
        (refusal(404, 'no handler for route "transit/decrypt/canary". route entry not found.'), KeyMissing),
        (refusal(412, "required index state not present"), KeyProviderUnavailable),
        (refusal(429, "request path canary: rate limit quota exceeded"), KeyProviderUnavailable),
        (refusal(472), KeyProviderUnavailable),
        (refusal(473), KeyProviderUnavailable),
        (refusal(500, "1 error occurred: canary"), KeyProviderUnavailable),
        (refusal(501, "Vault is not initialized"), KeyProviderUnavailable),
        (SEALED, KeyProviderUnavailable),
        (Answer(502, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(200, b"<html>canary</html>"), KeyProviderUnavailable),
        (Answer(200, b"{}"), KeyProviderUnavailable),
        (Answer(200, b'{"data": {"plaintext": "canary!"}}'), KeyProviderUnavailable),
        (Answer(200, b'{"data": {"plaintext": 7}}'), KeyProviderUnavailable),
        (Answer(204, b""), KeyProviderUnavailable),
        (Answer(400, b"[]", {"Content-Type": "application/json"}), KeyProviderUnavailable),
        (Answer(307, b"", {"Location": "http://127.0.0.1:1/"}), KeyProviderUnavailable),
    )
    cuts = (CutOff(), SEALED)

    def unwrapped(self, plaintext: bytes) -> Answer:
        return Answer(200, json.dumps({"data": {"plaintext": base64.b64encode(plaintext).decode()}}).encode())


class TestSentKeys(SendsKeyEncryptionKeys):
    failing_answers = (DENIED, Reset(), Answer(200, b"{}"), Answer(200, b'{"data": {"ciphertext": ""}}'))

    def sent_keks(self, proxy: FaultyProxy) -> Iterator[bytes]:
        return sent_keks(proxy)

    def secrets_of(self, exchange: Exchange) -> str:
        return exchange.headers["x-vault-token"]


class TestUri(NamedByUri):
    uri = "vaulttransit:transit/shop"
    extra = "vaulttransit"
    missing = ("hvac", "hvac.exceptions")
    clients = ("hvac", "requests")
    wrong = (
        "",
        "shop",
        "/shop",
        "transit/",
        "transit//shop",
        "transit/../sys/seal",
        "transit/.",
        "transit/ä",
        "transit/a b",
        "transit/shop\n",
        "a/" * 9 + "shop",
        "transit/shop?",
        "transit/shop?file=",
        "transit/shop?token=canary",
        "transit/shop?secret_id=canary",
        "transit/shop?login=userpass&role=canary",
        "transit/shop?login=approle",
        "transit/shop?login=approle&role=",
        "transit/shop?login=approle&role=a/b",
        "transit/shop?login=token&role=shop",
        "transit/shop?login_mount=approle",
        "transit/shop?login=approle&role=a&login_mount=/x",
        "transit/shop?namespace=a b",
        "transit/shop?login=token&login=token",
        "transit/shop?&file=x",
        "transit/shop#x",
    )
    alike = ("vaulttransit:transit/a", "vaulttransit:transit/a", "vaulttransit:transit/a?login=token")
    different = (
        "vaulttransit:transit/a",
        "vaulttransit:transit/b",
        "vaulttransit:transit/a?namespace=x",
        "vaulttransit:transit/a?file=/x",
    )


def sent_keks(proxy: FaultyProxy) -> Iterator[bytes]:
    """Give each key-encryption key that went to the server, as it is and as it was sent."""
    for exchange in proxy.exchanges:
        plaintext = json.loads(exchange.body or b"{}").get("plaintext")
        if plaintext:
            yield from (plaintext.encode(), base64.b64decode(plaintext))


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_the_server_is_told_the_slot_and_never_the_wrapped_key(
    provider: KeyProvider, proxy: FaultyProxy, name: str, token: str
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    encrypt, decrypt = proxy.exchanges
    assert [exchange.path for exchange in proxy.exchanges] == [
        f"/v1/transit/encrypt/{name}",
        f"/v1/transit/decrypt/{name}",
    ]
    assert {exchange.headers["x-vault-token"] for exchange in proxy.exchanges} == {token}
    sent, received = json.loads(encrypt.body), json.loads(decrypt.body)
    kek = base64.b64decode(sent.pop("plaintext"))
    assert len(kek) == 32
    assert kek != KEY
    bound = base64.b64encode(CONTEXT.vault_id + CONTEXT.slot_id).decode()
    assert sent == {"context": bound, "associated_data": bound}
    text = received.pop("ciphertext")
    assert text.startswith("vault:v1:")
    assert text.encode() == parse_params(wrapped)[1:]
    assert received == sent
    assert not any(base64.b64encode(KEY) in exchange.body for exchange in proxy.exchanges)


@pytest.mark.parametrize("derived", [True, False])
def test_the_server_itself_binds_what_it_encrypts_to_the_slot(derived: bool, root: Client) -> None:
    from hvac.exceptions import InvalidRequest

    name = new_key(root, derived=derived)
    text = parse_params(open_provider(f"vaulttransit:transit/{name}").wrap(KEY, CONTEXT))[1:].decode()
    right, wrong = (base64.b64encode(bound).decode() for bound in (b"".join(CONTEXT), CONTEXT.slot_id))
    decrypt = root.secrets.transit.decrypt_data
    assert len(base64.b64decode(decrypt(name, text, context=right, associated_data=right)["data"]["plaintext"])) == 32
    for context, data in ((right, wrong), (right, ""), *([(wrong, right), ("", right)] if derived else [])):
        with pytest.raises(InvalidRequest):
            decrypt(name, text, context=context, associated_data=data)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_the_newest_version_encrypts_and_those_decrypt_that_may(provider: KeyProvider, root: Client, name: str) -> None:
    transit = root.secrets.transit
    old = provider.wrap(KEY, CONTEXT)
    transit.rotate_key(name)
    new = provider.wrap(KEY, CONTEXT)
    assert parse_params(new)[1:].startswith(b"vault:v2:")
    assert provider.unwrap(old, CONTEXT) == provider.unwrap(new, CONTEXT) == KEY
    transit.update_key_configuration(name, min_decryption_version=2)
    with pytest.raises(KeyDisabled) as refused:
        provider.unwrap(old, CONTEXT)
    assert "`min_decryption_version`" in refused.value.hint
    assert provider.unwrap(new, CONTEXT) == KEY


def test_a_slot_that_is_wrapped_anew_is_so_in_the_newest_version(root: Client, name: str, tmp_path: Path) -> None:
    uri = f"vaulttransit:transit/{name}"
    with Vault.create(tmp_path / "a.vault", key=uri, admin=ADMIN) as vault:
        vault.write("app/a", "canary")
        root.secrets.transit.rotate_key(name)
        assert Slots(vault.authority).rewrap(1, open_provider(uri))
    root.secrets.transit.update_key_configuration(name, min_decryption_version=2)
    with Vault.open(tmp_path / "a.vault", key=uri, principal=ADMIN) as vault:
        assert text_of(vault, "app/a") == "canary"


# --- what it answers --------------------------------------------------------------------------------------------------


def test_a_sealed_server_says_so(provider: KeyProvider, root: Client) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    root.sys.seal()
    try:
        with pytest.raises(KeyProviderUnavailable) as refused:
            provider.unwrap(wrapped, CONTEXT)
    finally:
        root.adapter.put("/v1/sys/unseal")
    assert "is sealed" in refused.value.message
    assert provider.unwrap(wrapped, CONTEXT) == KEY


def test_a_redirection_is_said_to_be_one(provider: KeyProvider, proxy: FaultyProxy) -> None:
    proxy.fail(Answer(307, b"", {"Location": "http://127.0.0.1:1/"}))
    with pytest.raises(KeyProviderUnavailable) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "points to another server" in refused.value.message


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-4096"])
def test_a_key_that_binds_nothing_is_refused(kind: str, root: Client) -> None:
    with pytest.raises(KeyProviderRefused) as refused:
        open_provider(f"vaulttransit:transit/{new_key(root, kind)}").wrap(KEY, CONTEXT)
    assert type(refused.value) is KeyProviderRefused
    assert "aes256-gcm96" in refused.value.hint


@pytest.mark.parametrize("text", ["", "x" * 3_996, "vault:v1:ä"])
def test_what_fits_into_no_slot_is_no_ciphertext(text: str, provider: KeyProvider, proxy: FaultyProxy) -> None:
    proxy.fail(Answer(200, json.dumps({"data": {"ciphertext": text}}).encode()))
    with pytest.raises(KeyProviderUnavailable):
        provider.wrap(KEY, CONTEXT)


# --- who asks ---------------------------------------------------------------------------------------------------------


def test_a_token_that_may_only_decrypt_opens_and_wraps_nothing(
    provider: KeyProvider, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = provider.wrap(KEY, CONTEXT)
    monkeypatch.setenv("VAULT_TOKEN", allow(root, "reader", decrypt=["update"]))
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    with pytest.raises(KeyAccessDenied) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "needs `update` on `transit/encrypt/key-" in refused.value.hint
    monkeypatch.setenv("VAULT_TOKEN", "hvs.canary-that-ended")
    with pytest.raises(KeyAccessDenied):
        provider.unwrap(wrapped, CONTEXT)


def test_a_key_that_is_not_there_is_missing_and_is_not_made(root: Client) -> None:
    from hvac.exceptions import InvalidRequest

    with pytest.raises(KeyMissing):
        open_provider("vaulttransit:transit/nobody").wrap(KEY, CONTEXT)
    with pytest.raises(InvalidRequest):
        root.secrets.transit.rotate_key("nobody")
    with pytest.raises(KeyMissing):
        open_provider("vaulttransit:nowhere/x").wrap(KEY, CONTEXT)


def test_a_token_lies_in_a_file_where_the_variable_has_none(
    name: str, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = tmp_path / "agent-token"
    agent.write_text(f"{token}\n")
    by_file = open_provider(f"vaulttransit:transit/{name}?file={agent}")
    monkeypatch.setenv("VAULT_TOKEN", "hvs.another")
    wrapped = by_file.wrap(KEY, CONTEXT)
    monkeypatch.delenv("VAULT_TOKEN")
    by_default = open_provider(f"vaulttransit:transit/{name}")
    with pytest.raises(KeyAccessDenied) as refused:
        by_default.unwrap(wrapped, CONTEXT)
    assert refused.value.hint == "looked for in VAULT_TOKEN or ~/.vault-token"
    (tmp_path / ".vault-token").write_text(token)
    assert by_default.unwrap(wrapped, CONTEXT) == KEY
    agent.write_bytes(b"\xff canary")
    with pytest.raises(KeyAccessDenied) as refused:
        by_file.unwrap(wrapped, CONTEXT)
    assert "canary" not in refused.value.message + refused.value.hint


def test_an_approle_logs_in_for_each_call(
    root: Client, name: str, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approle = root.auth.approle
    approle.create_or_update_approle("shop", token_policies=["app"])
    secret_id = approle.generate_secret_id("shop")["data"]["secret_id"]
    (tmp_path / "secret-id").write_text(secret_id)
    monkeypatch.delenv("VAULT_TOKEN")
    rest = f"transit/{name}?login=approle&role={approle.read_role_id('shop')['data']['role_id']}"
    provider = open_provider(f"vaulttransit:{rest}&file={tmp_path / 'secret-id'}")
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    assert [exchange.path.split("/")[2] for exchange in proxy.exchanges] == ["auth", "transit"] * 2
    monkeypatch.setenv("VAULT_SECRET_ID", secret_id)
    assert open_provider(f"vaulttransit:{rest}").unwrap(wrapped, CONTEXT) == KEY
    monkeypatch.setenv("VAULT_SECRET_ID", "canary")
    for wrong in (rest, f"{rest}&login_mount=nowhere"):
        with pytest.raises(KeyAccessDenied) as refused:
            open_provider(f"vaulttransit:{wrong}").unwrap(wrapped, CONTEXT)
        assert "log in" in refused.value.message
        assert "canary" not in refused.value.message + refused.value.hint


def test_a_pod_logs_in_with_the_token_of_its_service_account(
    root: Client, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.auth.kubernetes.create_role("shop", ["web"], ["shop"], policies=["app"])
    monkeypatch.delenv("VAULT_TOKEN")
    service_account = tmp_path / "token"
    uri = f"vaulttransit:transit/{name}?login=kubernetes&role=shop"
    provider = open_provider(f"{uri}&file={service_account}")

    def write(subject: str) -> None:
        claims = base64.urlsafe_b64encode(json.dumps({"sub": subject, "canary": ""}).encode()).decode()
        service_account.write_text(f"e30.{claims}.canary")

    write("system:serviceaccount:shop:web")
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    write("system:serviceaccount:shop:other")
    with pytest.raises(KeyAccessDenied):
        provider.unwrap(wrapped, CONTEXT)
    with pytest.raises(KeyAccessDenied) as refused:
        open_provider(uri).unwrap(wrapped, CONTEXT)
    assert "/var/run/secrets/kubernetes.io/serviceaccount/token" in refused.value.hint


def test_a_key_of_a_namespace_is_used_in_it(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    team = client(port, "team/a")
    name = new_key(team)
    monkeypatch.setenv("VAULT_TOKEN", allow(team, "app", encrypt=["update"], decrypt=["update"]))
    wrapped = open_provider(f"vaulttransit:transit/{name}?namespace=team/a").wrap(KEY, CONTEXT)
    elsewhere = open_provider(f"vaulttransit:transit/{name}")
    with pytest.raises(KeyAccessDenied):
        elsewhere.unwrap(wrapped, CONTEXT)
    monkeypatch.setenv("VAULT_NAMESPACE", "team/a")
    assert elsewhere.unwrap(wrapped, CONTEXT) == KEY


# --- where it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "",
        "vault.internal:8200",
        "http://192.0.2.1:8200",
        "http://localhost.example.com",
        "http://127.0.0.1@evil.example",
        "https://",
        "https://[",
        "file:///etc",
    ],
)
def test_an_address_that_would_show_the_key_to_the_network_is_refused(
    address: str, provider: KeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_ADDR", address)
    with pytest.raises(SettingMissing) as refused:
        provider.wrap(KEY, CONTEXT)
    assert "VAULT_ADDR" in refused.value.hint


def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, server = make_certificates(tmp_path, [x509.IPAddress(IPv4Address("127.0.0.1"))])
    with vault_server(str(server)) as port:
        monkeypatch.setenv("VAULT_ADDR", f"https://127.0.0.1:{port}")
        monkeypatch.setenv("VAULT_TOKEN", "root")
        monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
        provider = open_provider("vaulttransit:transit/shop")
        with pytest.raises(KeyProviderUnavailable) as refused:
            provider.wrap(KEY, CONTEXT)
        assert "certificate" in refused.value.message
        assert "VAULT_CACERT" in refused.value.hint
        monkeypatch.setenv("VAULT_CACERT", str(authority))
        assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY
        monkeypatch.setenv("VAULT_ADDR", f"https://localhost:{port}")
        with pytest.raises(KeyProviderUnavailable):
            provider.wrap(KEY, CONTEXT)
        monkeypatch.setenv("VAULT_CACERT", str(tmp_path / "nowhere.pem"))
        with pytest.raises(KeyProviderUnavailable):
            provider.wrap(KEY, CONTEXT)


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "transit/shop",
        "team/a/transit/shop_1.x-y",
        "transit/shop?login=token",
        "transit/shop?file=/run/vault/token",
        "transit/shop?login=approle&role=0f1e2d3c-aaaa-bbbb-cccc-0123456789ab",
        "transit/shop?login=approle&role=x&file=/run/secret-id&login_mount=team/approle",
        "transit/shop?login=kubernetes&role=shop&namespace=team/a",
    ],
)
def test_takes_a_mount_point_and_a_name(rest: str) -> None:
    provider = open_provider(f"vaulttransit:{rest}")
    assert rest.startswith(repr(provider).removeprefix("VaultTransitProvider('").removesuffix("')"))
    assert isinstance(provider, DescribedProvider)
    facts = provider.describe()
    assert facts["login"] == (rest.partition("login=")[2].partition("&")[0] or "token")
    assert ("namespace" in facts) == ("namespace" in rest)
