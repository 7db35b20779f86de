"""What `gcpsm:` makes of what Google answers, whom it asks, and as whom."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.backends import open_backend
from securecfg.backends.gcpsm import from_uri
from securecfg.backends.gcpsm_login import KEY, TOKEN, TOKEN_URI
from securecfg.backends.uri import known_credentials, parse_backend_uri
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidBackendUri,
    SecretNotFound,
    SecurecfgError,
)
from securecfg.keys.gcp import crc32c, needs_metadata
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import plain
from securecfg.testing.faulty_proxy import Answer, FaultyProxy
from tests.backends.gcp.secret_manager import AUDIENCE, NUMBER, SecretManager
from tests.keys.certificates import make_tls
from tests.keys.gcp import ADMIN, NOBODY, refusal, write_account
from tests.keys.key_service import closed_port, run_python

if TYPE_CHECKING:
    from pathlib import Path

ONCE = Patience(20.0, ())
PAYLOAD = {"data": "eA==", "dataCrc32c": str(crc32c(b"x"))}
LOCATION = "projects/shop/locations/europe-west3"


@pytest.fixture
def uri(proxy: FaultyProxy) -> str:
    return f"gcpsm:projects/shop?endpoint={proxy.url}"


def answer(**fields: object) -> Answer:
    return Answer(200, json.dumps(fields).encode())


def with_reason(http: int, status: str, reason: object) -> Answer:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
    error = {"code": http, "message": "canary", "status": status, "details": [{"@type": "x"}, info]}
    return Answer(http, json.dumps({"error": error}).encode())


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(401, "UNAUTHENTICATED"), BackendLoginRefused),
        (refusal(403, "PERMISSION_DENIED"), BackendDenied),
        (Answer(403, b"<html>canary</html>"), BackendDenied),
        (refusal(400, "INVALID_ARGUMENT"), BackendRefused),
        (refusal(400, "OUT_OF_RANGE"), BackendRefused),
        (refusal(400, "canary: nobody knows this one"), BackendRefused),
        (Answer(404, b"<html>canary</html>"), BackendRefused),
        (Answer(404, b'{"error": {"status": ["canary"]}}'), BackendRefused),
        (Answer(400, b"\xff\xfecanary"), BackendRefused),
        (refusal(429, "RESOURCE_EXHAUSTED"), BackendNotReached),
        (refusal(409, "ABORTED"), BackendUnavailable),
        (refusal(499, "CANCELLED"), BackendUnavailable),
        (refusal(500, "INTERNAL"), BackendUnavailable),
        (refusal(503, "UNAVAILABLE"), BackendUnavailable),
        (refusal(504, "DEADLINE_EXCEEDED"), BackendUnavailable),
        (Answer(502, b"<html>canary</html>"), BackendUnavailable),
        (Answer(500, b'["canary"]'), BackendUnavailable),
        (Answer(500, b'"canary"'), BackendUnavailable),
        (Answer(500, b'{"error": "canary"}'), BackendUnavailable),
        (Answer(200, b"<html>canary</html>"), BackendUnavailable),
        (Answer(200, b"\xff\xfe"), BackendUnavailable),
        (Answer(200, b'{"canary": ' + b"[" * 100_000), BackendUnavailable),
        (Answer(200, b'{"secrets": [{}], "name": "canary"}'), BackendUnavailable),
    ],
    ids=lambda given: f"{given.status}" if isinstance(given, Answer) else given.code,
)
def test_gives_each_answer_its_name(answer: Answer, error: type[SecurecfgError], uri: str, proxy: FaultyProxy) -> None:
    proxy.fail(answer)
    backend = from_uri(parse_backend_uri(uri))
    for call in (lambda: backend.read("a", None), lambda: list(backend.list(""))):
        with pytest.raises(SecurecfgError) as raised:
            call()
        assert isinstance(raised.value, error)
        assert issubclass(error, BackendNotReached) == isinstance(raised.value, BackendNotReached)
        assert "canary" not in (raised.value.message + raised.value.hint).lower()
        assert raised.value.hint
        assert raised.value.__cause__ is None


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[]", b'["canary"]', b"7", b'{"name": 7}', b'{"payload": []}'])
def test_an_answer_that_names_no_version_is_no_value(body: bytes, uri: str, proxy: FaultyProxy) -> None:
    proxy.fail(Answer(200, body))
    with pytest.raises(BackendUnavailable):
        open_backend(uri, patience=ONCE).read("a")
    for expect in (None, ""):
        with pytest.raises(CommitUnknown):
            open_backend(uri, patience=ONCE).write("a", "x", expect=expect)


@pytest.mark.parametrize(("reason", "is_shown"), [("SERVICE_DISABLED", True), ("canary!", False), (["CANARY"], False)])
def test_shows_the_words_of_google_that_can_quote_nothing(
    reason: object, is_shown: bool, uri: str, proxy: FaultyProxy
) -> None:
    proxy.fail(with_reason(403, "PERMISSION_DENIED", reason))
    with pytest.raises(BackendDenied) as denied:
        open_backend(uri).read("a")
    assert "`PERMISSION_DENIED`" in denied.value.message
    assert (f"`{reason}`" in denied.value.message) == is_shown
    assert "canary" not in denied.value.message.lower()


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0), ("٣", 0.0)])
def test_comes_back_when_it_is_told_to(said: str, seconds: float, uri: str, proxy: FaultyProxy) -> None:
    throttled = refusal(429, "RESOURCE_EXHAUSTED")
    said = said.encode().decode("latin-1")
    proxy.fail(Answer(429, throttled.body, {**throttled.headers, "Retry-After": said}))
    with pytest.raises(BackendNotReached) as raised:
        from_uri(parse_backend_uri(uri)).read("a", None)
    assert raised.value.retry_after_s == seconds


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        f"{NUMBER}/secrets/b/versions/1",
        f"{NUMBER}/secrets/a",
        f"{NUMBER}/secrets/a/versions/latest",
        f"{NUMBER}/secrets/a/versions/01",
        f"{NUMBER}/secrets/x/secrets/a/versions/1",
        f"{NUMBER}/secrets/aa/versions/1",
    ],
)
def test_an_answer_about_something_else_is_not_taken(name: str, uri: str, proxy: FaultyProxy) -> None:
    proxy.fail(answer(name=name, payload=PAYLOAD))
    with pytest.raises(BackendUnavailable):
        open_backend(uri, patience=ONCE).read("a")
    proxy.fail(answer(name=name, clientSpecifiedPayloadChecksum=True))
    with pytest.raises(CommitUnknown):
        open_backend(uri, patience=ONCE).write("a", "x")


def test_another_version_than_the_one_that_was_asked_for_is_not_taken(uri: str, proxy: FaultyProxy) -> None:
    proxy.fail(answer(name=f"{NUMBER}/secrets/a/versions/2", payload=PAYLOAD))
    backend = open_backend(uri, patience=ONCE)
    assert backend.read("a").version.id == backend.read("a", "2").version.id == "2"
    with pytest.raises(BackendUnavailable):
        backend.read("a", "1")


def test_a_page_that_follows_itself_is_read_twice_at_most(uri: str, proxy: FaultyProxy) -> None:
    proxy.fail(answer(secrets=[], nextPageToken="again"))
    with pytest.raises(BackendUnavailable):
        list(from_uri(parse_backend_uri(uri)).list(""))
    assert len(proxy.exchanges) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(status: int, uri: str, proxy: FaultyProxy) -> None:
    with FaultyProxy("127.0.0.1", closed_port()) as elsewhere:
        proxy.fail(Answer(status, b"", {"Location": f"{elsewhere.url}/elsewhere"}))
        backend = open_backend(uri, patience=ONCE)
        with pytest.raises(BackendUnavailable):
            backend.read("a")
        for change in (lambda: backend.write("a", "canary"), lambda: backend.delete("a")):
            with pytest.raises(CommitUnknown):
                change()
        assert elsewhere.exchanges == []


def test_a_token_that_has_ended_is_replaced_once(uri: str, service: SecretManager, proxy: FaultyProxy) -> None:
    service.put("a")
    backend = open_backend(uri, patience=ONCE)
    proxy.fail_next(refusal(401, "UNAUTHENTICATED"))
    assert backend.write("a", "1") == "1"
    proxy.exchanges.clear()
    proxy.fail(refusal(401, "UNAUTHENTICATED"))
    with pytest.raises(BackendLoginRefused):
        backend.write("a", "2")
    assert len(proxy.exchanges) == 2


# --- credentials ------------------------------------------------------------------------------------------------------


def test_who_may_do_nothing_is_denied(uri: str, account: Path, service: SecretManager) -> None:
    service.put("a", b"1")
    write_account(account, NOBODY)
    with pytest.raises(BackendDenied) as denied:
        open_backend(uri).read("a")
    assert "`secretmanager.versions.access`" in denied.value.hint


@pytest.mark.parametrize(
    "content",
    [b"", b"no JSON", b"\xff", b"[]", b"7", b"{}", b'{"type": "canary"}', b'{"type": "service_account"}', None],
)
def test_credentials_that_make_no_sense_are_none(
    content: bytes | None, uri: str, account: Path, proxy: FaultyProxy
) -> None:
    if content is None:
        account.unlink()
        account.mkdir()
    else:
        account.write_bytes(content)
    with pytest.raises(BackendLoginRefused) as refused:
        open_backend(uri, patience=ONCE).read("a")
    assert "canary" not in refused.value.message + refused.value.hint
    assert proxy.exchanges == []


def test_without_credentials_says_how_to_get_some(uri: str, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account.unlink()
    for named in (str(account), ""):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", named)
        with pytest.raises(BackendLoginRefused) as refused:
            open_backend(uri).read("a")
        assert "GOOGLE_APPLICATION_CREDENTIALS" in refused.value.hint
        assert "metadata=yes" in refused.value.hint


def test_a_token_service_that_cannot_be_reached_leaves_nothing_in_doubt(
    uri: str, account: Path, proxy: FaultyProxy
) -> None:
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "canary"}
    account.write_text(json.dumps({**user, "quota_project_id": "shop"}))
    with FaultyProxy("127.0.0.1", closed_port()) as tokens, pytest.MonkeyPatch.context() as patch:
        tokens.fail(Answer(503, b"{}"))
        patch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{tokens.url}/token")
        patch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
        with pytest.raises(BackendUnavailable) as raised:
            open_backend(uri, patience=ONCE).write("a", "1")
        assert not isinstance(raised.value, CommitUnknown)
        tokens.fail(Answer(400, b'{"error": "invalid_grant", "error_description": "canary"}'))
        with pytest.raises(BackendLoginRefused) as refused:
            open_backend(uri, patience=ONCE).write("a", "1")
        assert "canary" not in refused.value.message + refused.value.hint
    assert proxy.exchanges == []


METADATA = """\
import os, sys
from securecfg.backends import open_backend
from securecfg.errors import SecurecfgError
from securecfg.keys.gcp import crc32c, needs_metadata
from securecfg.patience import Patience
try:
    print(open_backend(sys.argv[1], patience=Patience(20.0, ())).list().paths)
except SecurecfgError as error:
    print(error.code)
"""


@pytest.mark.parametrize("said", ["", "&metadata=no", "&metadata=yes"])
def test_the_metadata_service_of_a_machine_is_asked_only_where_the_uri_says_so(
    said: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.delenv("NO_GCE_CHECK")
    with FaultyProxy("127.0.0.1", closed_port()) as metadata:
        token = {"access_token": "canary", "expires_in": 3600, "token_type": "Bearer"}
        body = json.dumps({**token, "email": "x", "scopes": []}).encode()
        metadata.fail(Answer(200, body, {"Metadata-Flavor": "Google", "Content-Type": "application/json"}))
        place = metadata.url.removeprefix("http://")
        for variable in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
            monkeypatch.setenv(variable, place)
        code = run_python(METADATA.replace("sys.argv[1]", repr(uri + said)))
        assert code == "backend-login-refused"
        assert (metadata.exchanges != []) == said.endswith("yes")


@pytest.mark.parametrize(
    ("source", "is_metadata"),
    [
        ({"url": "http://169.254.169.254/metadata/identity/oauth2/token"}, True),
        ({"url": "http://localhost:9/token"}, True),
        ({"environment_id": "aws1", "regional_cred_verification_url": "https://sts.{region}.amazonaws.com"}, True),
        ({"url": "https://token.actions.example.com/x"}, False),
        ({"file": "/var/run/secrets/token"}, False),
    ],
)
def test_federation_needs_a_metadata_service_where_it_is_not_asked_over_tls(
    source: dict[str, str], is_metadata: bool, account: Path
) -> None:
    external = {"type": "external_account", "credential_source": source}
    for written in (external, {"type": "impersonated_service_account", "source_credentials": external}):
        account.write_text(json.dumps(written))
        assert needs_metadata() == is_metadata


def test_federation_asks_a_metadata_service_only_where_the_uri_says_so(
    uri: str, account: Path, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    with FaultyProxy("127.0.0.1", closed_port()) as metadata:
        metadata.fail(Answer(400, b"canary"))
        external = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{metadata.url}/exchange",
            "credential_source": {"url": f"{metadata.url}/token"},
        }
        account.write_text(json.dumps(external))
        for said in ("", "&metadata=no"):
            with pytest.raises(BackendLoginRefused) as refused:
                open_backend(uri + said).read("a")
            assert "metadata=yes" in refused.value.hint
        assert metadata.exchanges == []
        with pytest.raises(BackendLoginRefused) as refused:
            open_backend(f"{uri}&metadata=yes", patience=ONCE).read("a")
        assert "canary" not in refused.value.message + refused.value.hint
        assert [exchange.path for exchange in metadata.exchanges] == ["/token"]
    assert proxy.exchanges == []


def test_the_login_of_gcloud_is_found(uri: str, account: Path, service: SecretManager, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        (tmp_path / "gcloud").mkdir()
        account.rename(tmp_path / "gcloud" / "application_default_credentials.json")
        with pytest.raises(SecretNotFound):
            open_backend(uri).read("a")


@pytest.fixture
def key(account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The key of a service account as Google hands it out, where the platform has credentials that may do nothing."""
    found: dict[str, str] = json.loads(account.read_text()) | {"token_uri": TOKEN_URI}
    write_account(account, NOBODY)
    return found


def test_a_key_that_is_given_stands_before_all_others(
    uri: str, key: dict[str, str], account: Path, service: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known_credentials(uri) == {KEY, TOKEN}
    for universe in ({}, {"universe_domain": "googleapis.com"}):
        backend = open_backend(uri, credentials={KEY: Secret(json.dumps(key | universe))})
        assert plain(backend.read("a", backend.write("a", "x"))) == "x"
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    account.unlink()
    assert plain(open_backend(uri, credentials={KEY: Secret(json.dumps(key))}).read("a")) == "x"
    with pytest.raises(BackendLoginRefused):
        open_backend(uri).read("a")


def test_a_token_that_is_given_is_shown_as_long_as_it_lasts(
    uri: str, key: dict[str, str], service: SecretManager, proxy: FaultyProxy
) -> None:
    from google.auth import crypt, jwt

    service.put("a", b"x")
    signer = crypt.RSASigner.from_service_account_info(key)  # type: ignore[no-untyped-call]  # no types
    claims = {"sub": ADMIN, "aud": AUDIENCE, "iat": int(time.time()), "exp": int(time.time()) + 60}
    token = jwt.encode(signer, claims).decode()  # type: ignore[no-untyped-call]  # no types
    backend = open_backend(uri, credentials={TOKEN: Secret(token)}, patience=ONCE)
    assert plain(backend.read("a")) == "x"
    assert proxy.exchanges[-1].headers["authorization"] == f"Bearer {token}"
    proxy.exchanges.clear()
    proxy.fail(refusal(401, "UNAUTHENTICATED"))
    with pytest.raises(BackendLoginRefused) as refused:
        backend.write("a", "y")
    assert "was given" in refused.value.hint
    assert token not in refused.value.message + refused.value.hint
    assert len(proxy.exchanges) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "external_account", "credential_source": {"url": "https://canary.example"}},
        {"type": "external_account", "credential_source": {"executable": {"command": "canary"}}},
        {"type": "external_account_authorized_user"},
        {"type": "authorized_user", "refresh_token": "canary"},
        {"type": "impersonated_service_account", "service_account_impersonation_url": "https://canary.example"},
        {"type": "gdch_service_account"},
        {"type": None},
        {"type": ["service_account"]},
        {"token_uri": "https://canary.example/token"},
        {"token_uri": "https://oauth2.googleapis.com/token@canary.example"},
        {"token_uri": "https://oauth2.googleapis.com/token/"},
        {"token_uri": "http://oauth2.googleapis.com/token"},
        {"token_uri": ""},
        {"token_uri": None},
        {"universe_domain": "canary.example"},
        {"universe_domain": None},
        {"universe_domain": ["googleapis.com"]},
        {"client_email": ""},
        {"client_email": 5},
        {"private_key": None},
        {"private_key_id": {}},
    ],
)
def test_a_key_that_names_another_server_is_refused_without_being_shown(
    changed: dict[str, object], uri: str, key: dict[str, str], proxy: FaultyProxy
) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(uri, credentials={KEY: Secret(json.dumps(key | changed))})
    assert "canary" not in refused.value.message + refused.value.hint
    assert proxy.exchanges == []


@pytest.mark.parametrize("name", ["type", "private_key_id", "private_key", "client_email", "token_uri"])
def test_a_key_without_one_of_its_parts_is_refused(name: str, uri: str, key: dict[str, str]) -> None:
    del key[name]
    with pytest.raises(InvalidBackendUri):
        open_backend(uri, credentials={KEY: Secret(json.dumps(key))})


@pytest.mark.parametrize(
    "text", ["", "canary", "/etc/canary.json", "[]", "{}", '"canary"', "7", "[" * 20_000, '{"a": ']
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend("gcpsm:projects/shop", credentials={KEY: Secret(text)})
    assert "no JSON object" in refused.value.message
    assert "canary" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("text", ["", "canary token", "canary\r\nHost: evil.example", "canary\n", "canäry", "=", "a=b"])
def test_what_no_header_carries_is_no_access_token(text: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend("gcpsm:projects/shop", credentials={TOKEN: Secret(text)})
    assert "canary" not in refused.value.message + refused.value.hint
    assert "evil" not in refused.value.message + refused.value.hint


def test_one_credential_is_given_or_none(uri: str, key: dict[str, str]) -> None:
    given = {KEY: Secret(json.dumps(key)), TOKEN: Secret("canary")}
    for wrong in (given, {"GOOGLE_APPLICATION_CREDENTIALS": Secret("/etc/canary.json")}):
        with pytest.raises(InvalidBackendUri) as refused:
            open_backend(uri, credentials=wrong)
        assert KEY in refused.value.message + refused.value.hint
        assert "canary" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("private", ["canary", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n"])
def test_a_private_key_that_is_none_is_a_refused_login(
    private: str, uri: str, key: dict[str, str], proxy: FaultyProxy
) -> None:
    backend = open_backend(uri, credentials={KEY: Secret(json.dumps(key | {"private_key": private}))})
    with pytest.raises(BackendLoginRefused) as refused:
        backend.read("a")
    assert "was given" in refused.value.hint
    assert "canary" not in refused.value.message + refused.value.hint
    assert "canary" not in repr(backend)
    assert proxy.exchanges == []


def test_nothing_that_is_given_makes_the_metadata_service_be_asked(
    uri: str, key: dict[str, str], proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.delenv("NO_GCE_CHECK")
    with FaultyProxy("127.0.0.1", closed_port()) as metadata:
        for variable in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
            monkeypatch.setenv(variable, metadata.url.removeprefix("http://"))
        for said in ("", "&metadata=yes"):
            with pytest.raises(SecretNotFound):
                open_backend(uri + said, credentials={KEY: Secret(json.dumps(key))}).read("a")
        assert metadata.exchanges == []


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["projects/shop", "projects/example.com:shop", "projects/4711", LOCATION])
def test_takes_the_name_of_a_project_or_a_location(rest: str) -> None:
    assert rest in open_backend(f"gcpsm:{rest}").name


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "shop",
        "projects/",
        "projects/shop/",
        "/projects/shop",
        "projects/Shop",
        "projects/shop/secrets/a",
        "projects/shop/locations/",
        "projects/shop/locations/europe-west3/secrets/a",
        "projects/shop/locations/Europe",
        "projects/shop/locations/a.evil.example",
        "projects/../shop",
        "projects/shop?",
        "projects/shop?endpoint",
        "projects/shop?endpoint=",
        "projects/shop?metadata=1",
        "projects/shop?annotations=true",
        "projects/shop?values=text",
        "projects/shop?values=",
        "projects/shop?key=canary",
        "projects/shop?access_token=canary",
        "projects/shop?metadata=yes&metadata=yes",
        "projects/shop?endpoint=https://secretmanager.example.com",
        "projects/shop?endpoint=https://googleapis.com.example.com",
        "projects/shop?endpoint=https://evilgoogleapis.com",
        "projects/shop?endpoint=https://secretmanager.googleapis.com/path",
        "projects/shop?endpoint=https://user:canary@secretmanager.googleapis.com",
        "projects/shop?endpoint=http://secretmanager.googleapis.com",
        "projects/shop?endpoint=http://localhost.example.com",
        "projects/shop?endpoint=http://127.0.0.1@evil.example",
        "projects/shop#x",
    ],
)
def test_refuses_what_names_no_place(rest: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(f"gcpsm:{rest}")
    assert "canary" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("rest", "host"),
    [
        ("projects/shop", "secretmanager.googleapis.com"),
        (LOCATION, "secretmanager.europe-west3.rep.googleapis.com"),
        (f"{LOCATION}?endpoint=https://secretmanager-shop.p.googleapis.com", "secretmanager-shop.p.googleapis.com"),
    ],
)
def test_regional_secrets_are_asked_for_where_they_are(
    rest: str,
    host: str,
    server: tuple[SecretManager, int],
    service: SecretManager,
    account: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority, tls = make_tls(tmp_path, [host])
    with FaultyProxy("127.0.0.1", server[1], tls=tls) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        backend = open_backend(f"gcpsm:{rest}", patience=ONCE)
        with pytest.raises(BackendNotReached):  # nobody vouches for whoever answers
            backend.write("a", "canary")
        assert proxy.exchanges == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        backend.write("a", "1")
        assert {exchange.headers["host"] for exchange in proxy.exchanges} == {host}


def test_without_the_package_says_what_to_install() -> None:
    printed = run_python(
        "import sys\nfor name in ('google.api_core.exceptions', 'google.cloud'):\n    sys.modules[name] = None\n"
        "from securecfg.backends import open_backend\nfrom securecfg.errors import ExtraMissing\n"
        "backend = open_backend('gcpsm:projects/shop')\n"
        "try:\n    backend.read('a')\nexcept ExtraMissing as error:\n    print(error.hint)\n"
    )
    assert printed == "pip install 'securecfg-vault[gcpsm]'"


def test_naming_a_store_imports_no_client() -> None:
    printed = run_python(
        "import sys\nfrom securecfg.backends import open_backend\n"
        "open_backend('gcpsm:projects/shop').capabilities\n"
        "print([name for name in sys.modules if name.startswith(('google', 'grpc', 'requests'))])"
    )
    assert printed == "[]"
