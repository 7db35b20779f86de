"""`azurekeyvault:` against the service on this machine: what is special about Azure Key Vault."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from securecfg.backends import State, open_backend
from securecfg.backends.uri import known_credentials
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidBackendUri,
    InvalidMetadata,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    ValueTooLarge,
    VersionDisabled,
    VersionNotFound,
)
from securecfg.keys.azure_hosts import CREDENTIALS
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.azure_key_vault import (
    CLIENT_ID,
    CLIENT_SECRET,
    FEDERATED_TOKEN,
    IDENTITY_HEADER,
    LOGIN_HOST,
    TENANT,
)
from securecfg.testing.backend_conformance import HASTY, plain
from securecfg.testing.faulty_proxy import Answer, FaultyProxy, Reset
from tests.keys.azure import VAULT_HOST, refusal
from tests.keys.key_service import closed_port, run_python

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.backends import OpenBackend
    from securecfg.testing.azure_key_vault import AzureKeyVault
    from securecfg.testing.azure_secrets import VaultSecrets
    from securecfg.testing.faulty_proxy import Fault
    from tests.keys.azure import AzureProxy

URI = f"azurekeyvault:{VAULT_HOST}"
ONCE = Patience(20.0, ())
DAY_S = 86_400


@pytest.fixture
def backend(service: AzureKeyVault) -> OpenBackend:
    return open_backend(URI, patience=HASTY)


def asked(proxy: AzureProxy) -> list[str]:
    """Return what was asked for, without the version of the interface."""
    return [f"{exchange.method} {exchange.path.partition('?')[0]}" for exchange in proxy.exchanges]


def answer(content: object) -> Answer:
    return Answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_ordered_by_age_and_not_as_they_are_listed(backend: OpenBackend, secrets: VaultSecrets) -> None:
    written = [secrets.put(VAULT_HOST, "a", str(number)).number for number in range(60)]
    assert written != sorted(written)
    assert [version.id for version in backend.versions("a")] == written[::-1]


def test_of_versions_of_one_second_the_current_one_comes_first(
    backend: OpenBackend, secrets: VaultSecrets, proxy: AzureProxy
) -> None:
    secrets.clock = lambda: 1_700_000_000
    for _ in range(12):
        newest = secrets.put(VAULT_HOST, "a", "x")
        assert backend.versions("a")[0].id == newest.number
    newest.attributes["enabled"] = False
    assert len(backend.versions("a")) == 12
    proxy.forget()
    secrets.clock = lambda: 1_700_000_001
    newest = secrets.put(VAULT_HOST, "a", "x")
    assert backend.versions("a")[0].id == newest.number
    assert asked(proxy) == ["GET /secrets/a/versions"]


@pytest.mark.parametrize("version", ["1", "A" * 32, "g" * 32, "0" * 31, "0" * 33, "../" + "0" * 29, "0" * 32])
def test_what_is_no_version_is_not_found(version: str, backend: OpenBackend, proxy: AzureProxy) -> None:
    backend.write("a", "x")
    proxy.forget()
    with pytest.raises(VersionNotFound):
        backend.read("a", version)
    assert "GET /secrets/a/" in asked(proxy)
    assert len(proxy.exchanges) == (2 if version == "0" * 32 else 1)
    with pytest.raises(SecretNotFound):
        backend.read("b", version)


def test_a_disabled_version_is_kept_back_and_shown_as_such(backend: OpenBackend, secrets: VaultSecrets) -> None:
    first = backend.write("a", "1")
    second = backend.write("a", "2")
    secrets.secret(VAULT_HOST, "a").versions[-1].attributes["enabled"] = False
    for version in (None, second):
        with pytest.raises(VersionDisabled) as refused:
            backend.read("a", version)
        assert "--enabled true" in refused.value.hint
    assert plain(backend.read("a", first)) == "1"
    assert [version.state for version in backend.versions("a")] == [State.DISABLED, State.LIVE]
    assert backend.list().paths == ["a"]
    with pytest.raises(VersionNotFound):
        backend.read("a", "0" * 31)
    assert backend.write("a", "3") == backend.read("a").version.id


@pytest.mark.parametrize("attributes", [{"exp": 1_000_000_000}, {"nbf": int(time.time()) + DAY_S}])
def test_what_has_expired_or_is_not_valid_yet_is_given_out_as_azure_does(
    attributes: dict[str, int], backend: OpenBackend, secrets: VaultSecrets
) -> None:
    secrets.put(VAULT_HOST, "a", "x", attributes={"enabled": True, **attributes})
    found = backend.read("a")
    assert plain(found) == "x"
    assert found.version.state is State.LIVE
    assert backend.versions("a") == [found.version]


@pytest.mark.parametrize("code", ["SecretExpired", "SecretNotYetValid"])
def test_were_azure_to_keep_expired_secrets_back_they_are_disabled(
    code: str, backend: OpenBackend, proxy: AzureProxy
) -> None:
    proxy.fail(refusal(403, "Forbidden", code))
    with pytest.raises(VersionDisabled):
        backend.read("a")


def test_a_new_version_has_no_expiry_and_is_enabled(backend: OpenBackend, secrets: VaultSecrets) -> None:
    secrets.put(VAULT_HOST, "a", "x", attributes={"enabled": False, "exp": 1_000_000_000})
    backend.write("a", "y")
    assert secrets.secret(VAULT_HOST, "a").versions[-1].attributes == {"enabled": True}


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_tags_are_metadata_of_each_version(backend: OpenBackend, secrets: VaultSecrets) -> None:
    first = backend.write("a", "1", metadata={"owner": "pay"})
    backend.write("a", "2", metadata={"owner": "web", "Note": ""})
    assert backend.read("a", first).metadata == {"owner": "pay"}
    assert backend.read("a").metadata == {"owner": "web", "Note": ""}
    assert secrets.secret(VAULT_HOST, "a").versions[-1].tags == {"owner": "web", "Note": ""}


def test_tags_that_others_made_stay(backend: OpenBackend, secrets: VaultSecrets) -> None:
    secrets.put(VAULT_HOST, "a", "x", tags={"team": "pay"})
    backend.write("a", "y")
    assert backend.read("a").metadata == {"team": "pay"}
    newest = secrets.put(VAULT_HOST, "a", "z", tags={"team": "web"})
    newest.attributes["enabled"] = False
    backend.write("a", "y")
    assert backend.read("a").metadata == {"team": "web"}


def test_who_may_only_write_gives_metadata(backend: OpenBackend, secrets: VaultSecrets, proxy: AzureProxy) -> None:
    secrets.permissions = {"set"}
    backend.write("a", "x", metadata={})
    assert asked(proxy) == ["PUT /secrets/a"]
    with pytest.raises(BackendDenied) as refused:
        backend.write("a", "y")
    assert "`get`" in refused.value.hint
    assert len(secrets.secret(VAULT_HOST, "a").versions) == 1


@pytest.mark.parametrize(
    "metadata", [{f"tag{number}": "x" for number in range(16)}, {"note": "x" * 513}], ids=["many", "long"]
)
def test_metadata_that_can_be_no_tags_are_refused_before_anything_is_sent(
    metadata: dict[str, str], backend: OpenBackend, proxy: AzureProxy
) -> None:
    with pytest.raises(InvalidMetadata):
        backend.write("a", "x", metadata=metadata)
    assert proxy.exchanges == []


def test_a_look_at_the_tags_that_fails_leaves_nothing_in_doubt(backend: OpenBackend, proxy: AzureProxy) -> None:
    proxy.fail(Reset())
    with pytest.raises(BackendNotReached):
        backend.write("a", "x")
    assert {exchange.method for exchange in proxy.exchanges} == {"GET"}


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_a_deleted_name_is_kept_from_writers_until_it_is_back_or_gone(
    backend: OpenBackend, secrets: VaultSecrets
) -> None:
    backend.write("a", "1")
    backend.delete("a")
    with pytest.raises(BackendRefused) as refused:
        backend.write("a", "2")
    assert "bring it back" in refused.value.hint
    backend.recover("a")
    assert plain(backend.read("a")) == "1"
    backend.delete("a")
    secrets.permissions.add("purge")
    secrets.answer("DELETE", VAULT_HOST, "/deletedsecrets/a", "", b"")
    backend.write("a", "2")
    assert len(backend.versions("a")) == 1


def test_what_is_deleted_already_is_not_there(backend: OpenBackend) -> None:
    version = backend.write("a", "1")
    backend.delete("a")
    for call in (
        lambda: backend.delete("a"),
        lambda: backend.read("a"),
        lambda: backend.read("a", version),
        lambda: backend.versions("a"),
    ):
        with pytest.raises(SecretNotFound):
            call()


def test_where_soft_deletion_is_off_nothing_is_deleted(
    backend: OpenBackend, secrets: VaultSecrets, proxy: AzureProxy
) -> None:
    backend.write("a", "x")
    secrets.recovery_level = "Purgeable"
    with pytest.raises(BackendRefused) as refused:
        backend.delete("a")
    assert "soft deletion" in refused.value.hint
    assert plain(backend.read("a")) == "x"
    assert "DELETE" not in {exchange.method for exchange in proxy.exchanges}


@pytest.mark.parametrize(
    "level",
    ["Recoverable", "Recoverable+ProtectedSubscription", "CustomizedRecoverable+Purgeable", "CustomizedRecoverable"],
)
def test_every_level_of_recovery_lets_secrets_come_back(
    level: str, backend: OpenBackend, secrets: VaultSecrets
) -> None:
    secrets.recovery_level = level
    backend.write("a", "x")
    backend.delete("a")
    backend.recover("a")
    assert plain(backend.read("a")) == "x"


def test_a_service_that_is_busy_with_a_secret_is_asked_again(backend: OpenBackend, secrets: VaultSecrets) -> None:
    backend.write("a", "x")
    secrets.settling = 2
    backend.delete("a")
    backend.recover("a")
    backend.write("a", "y")
    assert plain(backend.read("a")) == "y"


def test_a_disabled_secret_is_there_for_who_wants_it_back(backend: OpenBackend, secrets: VaultSecrets) -> None:
    backend.write("a", "x")
    secrets.secret(VAULT_HOST, "a").versions[-1].attributes["enabled"] = False
    backend.recover("a")
    backend.delete("a")
    backend.recover("a")
    assert backend.versions("a")[0].state is State.DISABLED


# --- names and pages --------------------------------------------------------------------------------------------------


def test_a_name_of_others_is_read_in_small_letters(backend: OpenBackend, secrets: VaultSecrets) -> None:
    secrets.put(VAULT_HOST, "DbPassword", "x")
    secrets.put(VAULT_HOST, "Shop--Db---Main", "y")
    assert backend.list().paths == ["dbpassword", "shop/db_main"]
    assert plain(backend.read("dbpassword")) == "x"
    assert plain(backend.read("shop/db_main")) == "y"
    backend.write("dbpassword", "z")
    assert secrets.secret(VAULT_HOST, "dbpassword").versions[-1].value == "z"
    with pytest.raises(SecretNotFound):
        backend.read("DbPassword")


def test_names_that_are_no_paths_are_counted(backend: OpenBackend, secrets: VaultSecrets) -> None:
    for name in ("a", "a-", "-b", "a----b", "a--", "b----61", "a--..--b".replace(".", "----2e")):
        secrets.put(VAULT_HOST, name, "x")
    assert backend.list() == (["a"], 6)


def test_paths_that_differ_in_case_are_two(backend: OpenBackend) -> None:
    backend.write("app/Key", "1")
    backend.write("app/key", "2")
    assert [plain(backend.read(path)) for path in ("app/Key", "app/key")] == ["1", "2"]
    assert backend.list().paths == ["app/Key", "app/key"]


@pytest.mark.parametrize("path", ["a" * 128, "a/" * 45 + "a", "x" * 60 + "é" * 12])
def test_a_path_whose_name_would_be_too_long_is_refused_before_anything_is_sent(
    path: str, backend: OpenBackend, proxy: AzureProxy
) -> None:
    for call in (
        lambda: backend.read(path),
        lambda: backend.read(path, "0" * 32),
        lambda: backend.write(path, "x"),
        lambda: backend.versions(path),
        lambda: backend.delete(path),
        lambda: backend.recover(path),
    ):
        with pytest.raises(InvalidPath):
            call()
    assert proxy.exchanges == []


def test_pages_are_of_25_and_asked_for_one_by_one(
    backend: OpenBackend, secrets: VaultSecrets, proxy: AzureProxy
) -> None:
    secrets.fill(VAULT_HOST, [f"a-{number}" for number in range(51)])
    assert len(backend.list().paths) == 51
    assert asked(proxy) == ["GET /secrets"] * 3
    assert all("maxresults=25" in exchange.path for exchange in proxy.exchanges)


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.vault.azure.net/secrets?api-version=7.4",
        "https://evil.example/secrets?api-version=7.4",
        f"https://{VAULT_HOST}/keys?api-version=7.4",
        f"https://{VAULT_HOST}/secrets",
        f"https://{VAULT_HOST}/secrets?a b",
        f"//{VAULT_HOST}@evil.example/secrets?a=b",
        "https://[/secrets?x",
        5,
        ["x"],
    ],
)
def test_a_page_elsewhere_is_not_asked_for(link: object, proxy: AzureProxy, service: AzureKeyVault) -> None:
    proxy.fail(answer({"value": [], "nextLink": link}))
    with pytest.raises(BackendUnavailable):
        open_backend(URI, patience=ONCE).list()
    assert len(proxy.exchanges) == 1


def test_a_page_that_follows_itself_is_read_twice_at_most(proxy: AzureProxy, service: AzureKeyVault) -> None:
    proxy.fail(answer({"value": [], "nextLink": f"https://{VAULT_HOST}:443/secrets?$skiptoken=again"}))
    with pytest.raises(BackendUnavailable):
        open_backend(URI, patience=ONCE).list()
    assert len(proxy.exchanges) == 2


def test_an_empty_list_of_versions_and_a_refusal_mean_the_same(backend: OpenBackend, proxy: AzureProxy) -> None:
    for said in (answer({"value": [], "nextLink": None}), refusal(404, "SecretNotFound")):
        proxy.fail(said)
        for call in (lambda: backend.versions("a"), lambda: backend.delete("a")):
            with pytest.raises(SecretNotFound):
                call()


# --- several writers --------------------------------------------------------------------------------------------------


def test_every_one_of_many_writers_makes_a_version(backend: OpenBackend) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = set(pool.map(lambda number: backend.write("a", str(number)), range(16)))
    assert len(written) == 16
    assert {version.id for version in backend.versions("a")} == written


def test_the_longest_bytes_are_three_quarters(backend: OpenBackend, proxy: AzureProxy) -> None:
    backend.write("a", os.urandom(19_200))
    proxy.forget()
    with pytest.raises(ValueTooLarge) as refused:
        backend.write("a", bytes(19_201))
    assert "base64" in refused.value.hint
    assert proxy.exchanges == []


# --- answers ----------------------------------------------------------------------------------------------------------

ID = f"https://{VAULT_HOST}/secrets/a/{'0' * 32}"
BUNDLE = {"value": "canary", "id": ID, "attributes": {"enabled": True, "created": 1}}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (refusal(403, "Forbidden", "ForbiddenByRbac"), BackendDenied),
        (refusal(403, "Forbidden", "ForbiddenByFirewall"), BackendDenied),
        (Answer(403, b"<html>canary</html>"), BackendDenied),
        (Answer(403, b'{"error": {"code": {"canary": 1}}}'), BackendDenied),
        (Answer(403, b'{"error": {"code": "Forbidden", "innerError": {"code": "SecretDisabled"}}}'), VersionDisabled),
        (refusal(401, "Unauthorized"), BackendLoginRefused),
        (refusal(400, "BadParameter"), BackendRefused),
        (refusal(413, "RequestEntityTooLarge"), BackendRefused),
        (Answer(400, b"<html>canary</html>"), BackendUnavailable),
        (Answer(404, b"<html>canary</html>"), BackendUnavailable),
        (refusal(404, "SecretNotFound"), SecretNotFound),
        (refusal(409, "Conflict", "ObjectIsBeingDeleted"), BackendNotReached),
        (refusal(409, "Conflict", "ObjectIsBeingRecovered"), BackendNotReached),
        (refusal(409, "Conflict", "ObjectIsDeletedButRecoverable"), SecretNotFound),
        (refusal(429, "Throttled"), BackendNotReached),
        (refusal(503, "ServiceUnavailable"), BackendNotReached),
        (refusal(500, "InternalServerError"), BackendUnavailable),
        (Answer(502, b"canary", {"Content-Type": "application/json"}), BackendUnavailable),
        (Answer(301, b"", {"Location": "https://127.0.0.1:1/"}), BackendUnavailable),
        (Answer(200, b"<html>canary</html>"), BackendUnavailable),
        (Answer(200, b"\xff", {"Content-Type": "application/json"}), BackendUnavailable),
        (Answer(200, b'{"value": "canary'), BackendUnavailable),
        (Answer(200, b"[" * 100_000, {"Content-Type": "application/json"}), BackendUnavailable),
        (Answer(204, b""), BackendUnavailable),
        (answer([]), BackendUnavailable),
        (answer({}), BackendUnavailable),
        (answer({**BUNDLE, "value": None}), BackendUnavailable),
        (answer({**BUNDLE, "value": ["canary"]}), BackendUnavailable),
        (answer({**BUNDLE, "contentType": 5}), BackendUnavailable),
        (answer({**BUNDLE, "id": ID.replace("shop", "evil")}), BackendUnavailable),
        (answer({**BUNDLE, "id": ID.replace("/a/", "/b/")}), BackendUnavailable),
        (answer({**BUNDLE, "id": ID[:-1]}), BackendUnavailable),
        (answer({**BUNDLE, "id": "https://[canary"}), BackendUnavailable),
        (answer({**BUNDLE, "id": 5}), BackendUnavailable),
        (answer({**BUNDLE, "attributes": None}), BackendUnavailable),
        (answer({**BUNDLE, "attributes": {"created": "canary"}}), BackendUnavailable),
        (answer({**BUNDLE, "attributes": {"created": 10**30}}), BackendUnavailable),
        (answer({**BUNDLE, "tags": ["canary"]}), BackendUnavailable),
    ],
    ids=lambda given: f"{given.status}" if isinstance(given, Answer) else given.code,
)
def test_gives_each_answer_its_name(
    given: Fault, error: type[SecurecfgError], proxy: AzureProxy, service: AzureKeyVault
) -> None:
    proxy.fail(given)
    with pytest.raises(SecurecfgError) as refused:
        open_backend(URI, patience=ONCE).read("a")
    assert isinstance(refused.value, error)
    assert issubclass(error, BackendNotReached) == isinstance(refused.value, BackendNotReached)
    assert "canary" not in (refused.value.message + refused.value.hint).lower()
    assert refused.value.hint or error is SecretNotFound
    assert refused.value.__cause__ is None


def test_comes_back_when_it_is_told_to(proxy: AzureProxy, service: AzureKeyVault) -> None:
    proxy.fail(Answer(429, refusal(429, "Throttled").body, {"Retry-After": "7"}))
    with pytest.raises(BackendNotReached) as refused:
        open_backend(URI, patience=ONCE).read("a")
    assert refused.value.retry_after_s == 7.0
    assert len(proxy.exchanges) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(status: int, proxy: AzureProxy, service: AzureKeyVault) -> None:
    with FaultyProxy("127.0.0.1", closed_port()) as elsewhere:
        proxy.fail(Answer(status, b"", {"Location": f"{elsewhere.url}/elsewhere"}))
        backend = open_backend(URI, patience=ONCE)
        for call in (lambda: backend.read("a"), backend.list):
            with pytest.raises(BackendUnavailable):
                call()
        with pytest.raises(CommitUnknown):
            backend.write("a", "canary", metadata={})
        assert elsewhere.exchanges == []


# --- logins -----------------------------------------------------------------------------------------------------------


def test_a_token_that_ends_in_mid_run_is_replaced_once(
    backend: OpenBackend, service: AzureKeyVault, proxy: AzureProxy
) -> None:
    backend.write("a", "x")
    logins = len([exchange for exchange in proxy.logins if exchange.path.endswith("/token")])
    service.tokens.clear()
    assert plain(backend.read("a")) == "x"
    service.tokens.clear()
    backend.write("a", "y")
    assert plain(backend.read("a")) == "y"
    assert len([exchange for exchange in proxy.logins if exchange.path.endswith("/token")]) == logins + 2
    proxy.exchanges.clear()
    proxy.fail(refusal(401, "Unauthorized"))
    with pytest.raises(BackendLoginRefused):
        backend.read("a")
    assert len(proxy.exchanges) == 2


def test_connections_are_used_again(backend: OpenBackend, proxy: AzureProxy) -> None:
    for _ in range(5):
        backend.write("a", "x")
    assert len(proxy.probes) == 1
    assert len({exchange.headers["authorization"] for exchange in proxy.exchanges}) == 1


def test_a_login_service_that_is_away_leaves_nothing_in_doubt(backend: OpenBackend, proxy: AzureProxy) -> None:
    proxy.login_fault = Reset()
    with pytest.raises(BackendNotReached) as refused:
        backend.write("a", "x", metadata={})
    assert "login service" in refused.value.message
    proxy.forget()
    proxy.token_fault = refusal(500, "x")
    with pytest.raises(BackendNotReached):
        backend.read("a")


def test_a_challenge_for_a_token_of_another_service_gets_none(
    backend: OpenBackend, service: AzureKeyVault, proxy: AzureProxy
) -> None:
    from azure.keyvault.secrets._shared import http_challenge_cache

    http_challenge_cache.clear()
    service.resource = "https://evil.example"
    with pytest.raises(BackendRefused) as refused:
        backend.read("a")
    assert "another service" in refused.value.message
    assert not any(exchange.path.endswith("/token") for exchange in proxy.logins)
    assert proxy.exchanges == []


@pytest.fixture
def nobody(service: AzureKeyVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials, and the folder in which programs are looked for."""
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_without_credentials_says_how_to_get_some(nobody: Path, proxy: AzureProxy) -> None:
    with pytest.raises(BackendLoginRefused) as refused:
        open_backend(URI).read("a")
    assert "az login" in refused.value.hint
    assert "metadata=yes" in refused.value.hint
    assert {exchange.headers["host"] for exchange in proxy.logins} <= {LOGIN_HOST}


def test_a_wrong_password_is_a_refused_login(service: AzureKeyVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "canary-wrong")
    with pytest.raises(BackendLoginRefused) as refused:
        open_backend(URI).read("a")
    assert "canary" not in refused.value.message + refused.value.hint


def test_a_pod_of_kubernetes_logs_in_with_its_token(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody / "token").write_text(FEDERATED_TOKEN)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(nobody / "token"))
    backend = open_backend(URI)
    backend.write("a", "x")
    assert plain(backend.read("a")) == "x"


def test_credentials_that_are_given_stand_before_all_others(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: Secret(text) for name, text in zip(CREDENTIALS, (TENANT, CLIENT_ID, CLIENT_SECRET), strict=True)}
    assert known_credentials(URI) == set(given)
    backend = open_backend(URI, credentials=given)
    backend.write("a", "x")
    assert plain(backend.read("a")) == "x"
    for name, secret in given.items():
        monkeypatch.setenv(name, secret.reveal())
    for wrong in ({"AZURE_CLIENT_SECRET": Secret("canary")}, {"AZURE_TENANT_ID": Secret("canary/x")}):
        with pytest.raises(BackendLoginRefused) as refused:
            open_backend(URI, credentials=given | wrong).read("a")
        assert "given" in refused.value.hint
        assert "canary" not in refused.value.message + refused.value.hint
    for part in ({"AZURE_CLIENT_SECRET": given["AZURE_CLIENT_SECRET"]}, given | {"AZURE_USERNAME": Secret("canary")}):
        with pytest.raises(InvalidBackendUri):
            open_backend(URI, credentials=part)


@pytest.mark.parametrize("said", ["", "prod", "ManagedIdentityCredential"])
def test_a_managed_identity_is_asked_for_only_where_the_uri_says_so(
    said: str, nobody: Path, service: AzureKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
    if said:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", said)
    with FaultyProxy("127.0.0.1", service.port) as identity:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{identity.url}/identity")
        for uri in (URI, f"{URI}?metadata=no"):
            with pytest.raises(BackendLoginRefused) as refused:
                open_backend(uri).read("a")
            assert "metadata=yes" in refused.value.hint
        assert identity.exchanges == []
        with pytest.raises(SecretNotFound):
            open_backend(f"{URI}?metadata=yes", patience=HASTY).read("a")
        assert len(identity.exchanges) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("AZURE_TOKEN_CREDENTIALS", "canary"), ("AZURE_AUTHORITY_HOST", "http://canary.example")]
)
def test_settings_of_credentials_that_are_wrong_in_themselves_are_named(
    name: str, value: str, service: AzureKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BackendLoginRefused) as refused:
        open_backend(URI).read("a")
    assert "`AZURE_`" in refused.value.hint
    assert "canary" not in refused.value.message


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        VAULT_HOST,
        f"https://{VAULT_HOST}",
        f"https://{VAULT_HOST}/",
        f"{VAULT_HOST}?metadata=yes",
        "a-1.vault.azure.cn",
        "https://Shop.vault.usgovcloudapi.net?metadata=no",
    ],
)
def test_takes_the_host_or_the_url_of_a_vault(rest: str) -> None:
    backend = open_backend(f"azurekeyvault:{rest}")
    assert backend.name in rest


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "shop",
        "http://shop.vault.azure.net",
        "//shop.vault.azure.net",
        "shop.vault.azure.net:443",
        "shop.vault.azure.net/secrets/app",
        "https://shop.vault.azure.net//",
        "shop.managedhsm.azure.net",
        "shop.vault.azure.net.evil.example",
        "shop.vault.azure.net@evil.example",
        "https://user:canary@shop.vault.azure.net",
        "evil.example",
        "127.0.0.1",
        "localhost:8443",
        "a.b.vault.azure.net",
        "-shop.vault.azure.net",
        "shop-.vault.azure.net",
        "x.vault.azure.net",
        "shop.vault.azure.net#x",
        "shop.vault.azure.net?",
        "shop.vault.azure.net?metadata=",
        "shop.vault.azure.net?metadata=1",
        "shop.vault.azure.net?client_secret=canary",
        "shop.vault.azure.net?metadata=yes&metadata=yes",
        quote("shop.vault.azure.net\\@evil.example", safe=""),
    ],
)
def test_refuses_what_names_no_vault(rest: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(f"azurekeyvault:{rest}")
    assert "canary" not in refused.value.message + refused.value.hint


def test_without_the_package_says_what_to_install() -> None:
    printed = run_python(
        "import sys\nsys.modules['azure.keyvault.secrets'] = None\n"
        "from securecfg.backends import open_backend\nfrom securecfg.errors import ExtraMissing\n"
        f"backend = open_backend({URI!r})\n"
        "try:\n    backend.read('a')\nexcept ExtraMissing as error:\n    print(error.hint)\n"
    )
    assert printed == "pip install 'securecfg-vault[azurekeyvault]'"


def test_naming_a_vault_imports_no_client() -> None:
    printed = run_python(
        "import sys\nfrom securecfg.backends import open_backend\n"
        f"open_backend({URI!r}).capabilities\n"
        "print([name for name in sys.modules if name.startswith(('azure', 'msal', 'requests'))])"
    )
    assert printed == "[]"
