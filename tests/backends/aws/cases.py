"""What the tests of both backends of AWS share."""

from __future__ import annotations

import json
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from securecfg.backends.uri import BUILT_IN, open_backend, parse_backend_uri
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
    SettingMissing,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from securecfg.testing.faulty_proxy import Answer, CutOff, FaultyProxy, Reset, Silence
from tests.keys.aws import ACCESS_KEY, REGION, SECRET_KEY, refusal
from tests.keys.key_service import closed_port, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from securecfg.backends import Backend
    from securecfg.testing.faulty_proxy import Exchange, Fault

ONCE = Patience(20.0, ())
SETTINGS = (
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)
FAULTS: dict[BackendFault, Fault] = {
    BackendFault.RESET: Reset(),
    BackendFault.CUT_OFF: CutOff(),
    BackendFault.SILENT: Silence(),
    BackendFault.BROKEN: refusal("InternalServiceError", 500),
    BackendFault.NONSENSE: Answer(200, b"<html>canary of the service</html>"),
    BackendFault.THROTTLED: refusal("ThrottlingException"),
    BackendFault.EXPIRED: refusal("ExpiredTokenException"),
    BackendFault.DENIED: refusal("AccessDeniedException"),
}


def make_backend(uri: str) -> Backend:
    """Return the backend that a URI names, without the handle."""
    from importlib import import_module

    parsed = parse_backend_uri(uri)
    backend: Backend = import_module(BUILT_IN[parsed.scheme]).from_uri(parsed)
    return backend


def actions(exchanges: Sequence[Exchange]) -> list[str]:
    """Return what was asked for, by AWS's names."""
    return [exchange.headers["x-amz-target"].rpartition(".")[2] for exchange in exchanges]


class AwsConformance(BackendConformance):
    """The public suite behind a proxy; `uri` is for the subclass to define.

    Attributes:
        uri: Without the place.
    """

    uri: str

    @pytest.fixture(autouse=True)
    def _place(self, port: int, empty: None) -> Iterator[None]:
        with ExitStack() as self._listening:
            self._port = port
            self._proxy = self._listening.enter_context(FaultyProxy("127.0.0.1", port))
            mark = "&" if "?" in self.uri else "?"
            self._uri = f"{self.uri}{mark}region={REGION}&endpoint={self._proxy.url}"
            yield

    def backend(self) -> Backend:
        return make_backend(self._uri)

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        if fault is BackendFault.UNREACHABLE:
            self._proxy.fail(Reset())  # to who is connected already
            self._listening.close()
        elif fault is not None and times is not None:
            self._proxy.fail_next(*[FAULTS[fault]] * times)
        else:
            self._proxy.fail(FAULTS[fault] if fault else None)

    def asked(self) -> int:
        return len(self._proxy.exchanges)

    def canaries(self) -> tuple[str, ...]:
        return ACCESS_KEY, SECRET_KEY, "canary of the service"


class AnswersOfAws:
    """What a backend makes of what AWS answers, and whom it asks; its module has the fixture `uri`.

    Attributes:
        scheme: Of its URIs.
        environment: The variable that names another endpoint.
    """

    scheme: str
    environment: str

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (refusal("AccessDeniedException"), BackendDenied),
            (refusal("NobodyKnowsThisOne", 403), BackendDenied),
            (refusal("ExpiredTokenException"), BackendLoginRefused),
            (refusal("UnrecognizedClientException"), BackendLoginRefused),
            (refusal("InvalidSignatureException"), BackendLoginRefused),
            (refusal("NobodyKnowsThisOne", 401), BackendLoginRefused),
            (refusal("ValidationException"), BackendRefused),
            (refusal("LimitExceededException"), BackendRefused),
            (refusal("Canary; nobody knows this one"), BackendRefused),
            (refusal("ThrottlingException"), BackendNotReached),
            (refusal("TooManyRequestsException"), BackendNotReached),
            (refusal("NobodyKnowsThisOne", 429), BackendNotReached),
            (refusal("ServiceUnavailable", 503), BackendNotReached),
            (refusal("InternalServiceError", 500), BackendUnavailable),
            (Answer(502, b"<html>canary</html>"), BackendUnavailable),
            (Answer(200, b"<html>canary</html>"), BackendUnavailable),
            (Answer(200, b"[]"), BackendUnavailable),
            (Answer(200, b"{}"), BackendUnavailable),
        ],
        ids=lambda given: f"{given.status}" if isinstance(given, Answer) else given.code,
    )
    def test_gives_each_refusal_its_name(
        self, answer: Answer, error: type[SecurecfgError], uri: str, proxy: FaultyProxy
    ) -> None:
        proxy.fail(answer)
        backend = make_backend(uri)
        for call in (lambda: backend.read("a", None), lambda: list(backend.list(""))):
            with pytest.raises(SecurecfgError) as raised:
                call()
            assert isinstance(raised.value, error)
            assert issubclass(error, BackendNotReached) == isinstance(raised.value, BackendNotReached)
            assert "canary" not in (raised.value.message + raised.value.hint).lower()
            assert raised.value.hint
            assert raised.value.__cause__ is None

    def test_comes_back_when_it_is_told_to(self, uri: str, proxy: FaultyProxy) -> None:
        answer = refusal("ThrottlingException")
        proxy.fail(Answer(answer.status, answer.body, {**answer.headers, "Retry-After": "7"}))
        with pytest.raises(BackendNotReached) as raised:
            make_backend(uri).read("a", None)
        assert raised.value.retry_after_s == 7.0

    def test_a_page_that_follows_itself_is_read_twice_at_most(self, uri: str, proxy: FaultyProxy) -> None:
        page = {"SecretList": [], "Parameters": [], "NextToken": "again"}
        proxy.fail(Answer(200, json.dumps(page).encode()))
        with pytest.raises(BackendUnavailable):
            list(make_backend(uri).list(""))
        assert len(proxy.exchanges) == 2

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirection_is_not_followed(self, status: int, uri: str, proxy: FaultyProxy) -> None:
        with FaultyProxy("127.0.0.1", closed_port()) as elsewhere:
            proxy.fail(Answer(status, b"", {"Location": f"{elsewhere.url}/elsewhere"}))
            with pytest.raises(BackendUnavailable):
                make_backend(uri).read("a", None)
            with pytest.raises(CommitUnknown):
                open_backend(uri, patience=ONCE).write("a", "canary")
            assert elsewhere.exchanges == []

    # --- credentials --------------------------------------------------------------------------------------------------

    def test_without_credentials_says_how_to_get_some(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(BackendLoginRefused) as refused:
            open_backend(uri).read("a")
        assert "AWS_PROFILE" in refused.value.hint
        assert "metadata=yes" in refused.value.hint

    def test_credentials_that_are_given_stand_before_all_others(
        self, uri: str, monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy
    ) -> None:
        given = {"AWS_ACCESS_KEY_ID": Secret("AKIAGIVEN"), "AWS_SECRET_ACCESS_KEY": Secret("canary-given-4711")}
        for is_set in (True, False):
            if not is_set:
                monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            assert open_backend(uri, credentials=given).list().paths == []
            assert "AKIAGIVEN" in proxy.exchanges[-1].headers["authorization"]
        session = {**given, "AWS_SESSION_TOKEN": Secret("canary-session-4711")}
        open_backend(uri, credentials=session).list()
        assert proxy.exchanges[-1].headers["x-amz-security-token"] == "canary-session-4711"

    @pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OTHER"])
    def test_credentials_that_are_none_are_refused_without_being_shown(self, uri: str, name: str) -> None:
        with pytest.raises(InvalidBackendUri) as refused:
            open_backend(uri, credentials={name: Secret("canary-given-4711")})
        assert "canary" not in str(refused.value) + refused.value.hint

    def test_without_a_region_says_how_to_name_one(self, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = f"{self.scheme}:?endpoint={proxy.url}"
        with pytest.raises(SettingMissing) as refused:
            open_backend(backend).read("a")
        variable = refused.value.hint.split()[-1]
        monkeypatch.setenv(variable, REGION)
        with pytest.raises(SecretNotFound):
            open_backend(backend).read("a")

    @pytest.mark.parametrize("profile", ["", "Ec2InstanceMetadata", "EcsContainer"])
    @pytest.mark.parametrize("kind", ["machine", "container"])
    def test_metadata_services_are_asked_only_where_the_uri_says_so(
        self, kind: str, profile: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        (tmp_path / "config").write_text(
            f"[profile x]\nrole_arn = arn:aws:iam::111122223333:role/x\ncredential_source = {profile}\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        if profile:
            monkeypatch.setenv("AWS_PROFILE", "x")
        with FaultyProxy("127.0.0.1", closed_port()) as metadata:
            keys = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "t"}
            metadata.fail(Answer(200, json.dumps({**keys, "Expiration": "2100-01-01T00:00:00Z"}).encode()))
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", metadata.url)
            if kind == "container":
                monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/keys")
            for said in ("", "&metadata=no"):
                with pytest.raises(BackendLoginRefused):
                    open_backend(uri + said).read("a")
            assert metadata.exchanges == []
            if (kind == "container") >= (profile == "EcsContainer"):
                with pytest.raises(SecurecfgError):
                    open_backend(f"{uri}&metadata=yes", patience=ONCE).read("none/there")
                assert metadata.exchanges != []

    def test_settings_cannot_have_the_metadata_asked_for_a_region(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_DEFAULTS_MODE", "auto")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        with FaultyProxy("127.0.0.1", closed_port()) as metadata:
            metadata.fail(Answer(404, b""))
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
            with pytest.raises(SecretNotFound):
                open_backend(uri).read("none/there")
            assert metadata.exchanges == []

    @pytest.mark.parametrize("endpoint", ["http://192.0.2.1", "http://localhost.example.com:8000", "ftp://127.0.0.1"])
    def test_an_endpoint_of_the_settings_that_shows_values_to_the_network_is_refused(
        self, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(self.environment, endpoint)
        with pytest.raises(BackendRefused) as refused:
            open_backend(f"{self.scheme}:?region={REGION}").read("a")
        assert self.environment in refused.value.hint

    # --- URIs ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "rest",
        [
            "//",
            "a//b",
            "../a",
            "a/./b",
            "a b",
            "ä",
            "a@b",
            "a#b",
            "a%2Fb",
            "x" * 300,
            "?",
            "?region",
            "?region=",
            "?region=eu west",
            "?region=eu-west-1&region=eu-west-1",
            "?&region=eu-west-1",
            "?profile=canary",
            "?aws_secret_access_key=canary",
            "?metadata=1",
            "?metadata=YES",
            "?endpoint=",
            "?endpoint=http://secrets.internal.example",
            "?endpoint=http://localhost.example.com",
            "?endpoint=http://127.0.0.1@evil.example",
            "?endpoint=https://user:canary@secrets.internal.example",
            "?endpoint=https://secrets.internal.example/path",
            "?endpoint=file:///etc/passwd",
        ],
    )
    def test_refuses_what_names_no_place(self, rest: str) -> None:
        with pytest.raises(InvalidBackendUri) as refused:
            open_backend(f"{self.scheme}:{rest}")
        assert "canary" not in refused.value.message + refused.value.hint

    def test_without_the_package_says_what_to_install(self) -> None:
        printed = run_python(
            "import sys\nfor name in ('botocore.exceptions', 'boto3'):\n    sys.modules[name] = None\n"
            "from securecfg.backends import open_backend\nfrom securecfg.errors import ExtraMissing\n"
            f"backend = open_backend('{self.scheme}:?region=eu-west-1')\n"
            "try:\n    backend.read('a')\nexcept ExtraMissing as error:\n    print(error.hint)\n"
        )
        assert printed == f"pip install 'securecfg-vault[{self.scheme}]'"

    def test_naming_a_store_imports_no_client(self) -> None:
        printed = run_python(
            "import sys\nfrom securecfg.backends import open_backend\n"
            f"open_backend('{self.scheme}:?region=eu-west-1').capabilities\n"
            "print([name for name in sys.modules if name.startswith('boto')])"
        )
        assert printed == "[]"


def reset(port: int) -> None:
    """Empty a moto server."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/moto-api/reset")
    assert connection.getresponse().status == 200
    connection.close()
