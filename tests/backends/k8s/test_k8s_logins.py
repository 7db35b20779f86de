"""Which cluster is asked, and as whom: URIs, kubeconfigs, programs, pods, TLS; and what the client is kept from."""

from __future__ import annotations

import json
import logging
import os
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from securecfg.backends import OpenBackend, open_backend
from securecfg.backends.k8s_given import AUTHORITY, CERTIFICATE, CREDENTIALS, KEY
from securecfg.backends.uri import known_credentials
from securecfg.errors import (
    BackendLoginRefused,
    BackendNotReached,
    BackendUnavailable,
    ExtraMissing,
    InvalidBackendUri,
    SecurecfgError,
    SettingMissing,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import plain
from securecfg.testing.faulty_proxy import Answer, FaultyProxy
from securecfg.testing.kubernetes_api import KubernetesApi
from tests.backends.k8s.cluster import VARIABLES, point_at, write_kubeconfig
from tests.keys.certificates import make_certificates
from tests.keys.key_service import closed_port, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator

HASTY = Patience(deadline_s=10.0, pauses_s=(0.01, 0.01))
CANARY = "canary-secret-4711"
TOKEN = "kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME"
POD_AUTHORITY = "kubernetes.config.incluster_config.SERVICE_CERT_FILENAME"


def opened(options: str = "", **given: str) -> OpenBackend:
    credentials = {name: Secret(text) for name, text in given.items()}
    return open_backend(f"k8s:team?{options}".rstrip("?"), credentials=credentials, patience=HASTY)


def shown(error: BaseException) -> str:
    """Return all that an error says, and what it drags along."""
    told = ""
    found: BaseException | None = error
    while found is not None:
        told += f"{found} {found!r} {getattr(found, 'hint', '')}\n"
        found = found.__cause__ or found.__context__
    return told


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "team/",
        "team/app",
        "Team",
        "te_am",
        "-team",
        "team-",
        "team%2Fapp",
        "x" * 64,
        "team?kind=pod",
        "team?kind=",
        "team?kind=secret&kind=secret",
        "team?context=",
        "team?token=canary",
        "team?password=canary",
        "team?server=https://canary",
        "team?endpoint=http://canary",
        "team?endpoint=canary:6443",
        "team?endpoint=https://",
        "team?endpoint=https://me:canary@127.0.0.1",
        "team?endpoint=https://127.0.0.1?canary",
        "team?endpoint=https://127.0.0.1%23canary",
        "team?endpoint=https://127.0.0.1%5c.canary",
        "team?endpoint=https://127.0.0.1%20canary",
        "team?endpoint=https://127.0.0.1&context=canary",
        "team?endpoint=https://127.0.0.1&kubeconfig=canary",
        "team?cacert=canary",
    ],
)
def test_what_is_no_uri_is_refused_without_being_shown(rest: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(f"k8s:{rest}")
    assert "canary" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("rest", "name"),
    [
        ("team", "team, secrets"),
        ("kube-system?kind=secret", "kube-system, secrets"),
        ("x?kind=configmap&context=prod@eu&kubeconfig=/etc/kube%20config", "x, configmaps"),
        ("x?endpoint=https://rancher.example/k8s/clusters/c-1&cacert=/etc/ca.pem", "x, secrets"),
    ],
)
def test_takes_a_namespace_and_options(rest: str, name: str) -> None:
    assert open_backend(f"k8s:{rest}").name == name


def test_the_client_is_imported_when_it_is_needed_and_no_sooner() -> None:
    program = "import sys; from securecfg.backends import open_backend; open_backend('k8s:team').capabilities; "
    assert run_python(f"{program} print({{'kubernetes', 'urllib3', 'yaml'}} & set(sys.modules))") == "set()"


def test_what_has_to_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(ExtraMissing) as missing:
        opened().read("a")
    assert missing.value.hint == "pip install 'securecfg-vault[k8s]'"


# --- which cluster ----------------------------------------------------------------------------------------------------


def test_it_has_to_be_said_which_cluster_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SettingMissing) as missing:
        opened().read("a")
    assert "KUBECONFIG" in missing.value.hint
    for options in ("context=here", f"kubeconfig={tmp_path}/none"):
        with pytest.raises(SettingMissing):
            opened(options).read("a")
    with pytest.raises(SettingMissing):
        next(opened().watch())


def test_a_kubeconfig_is_found_as_kubectl_finds_it(
    proxy: FaultyProxy, api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = {"token": api.give_token()}
    nowhere = write_kubeconfig(tmp_path / "nowhere", f"http://127.0.0.1:{closed_port()}", user)
    here = write_kubeconfig(tmp_path / "here", proxy.url, user)
    point_at(monkeypatch, nowhere)
    opened(f"kubeconfig={here}").write("a", "x")
    with pytest.raises(BackendNotReached):  # and not in doubt
        opened().write("a", "x")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{here}:{nowhere}")
    assert plain(opened("context=here").read("a")) == "x"
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    here.rename(tmp_path / ".kube/config")
    assert plain(opened().read("a")) == "x"
    with pytest.raises(SettingMissing) as missing:
        opened("context=other").read("a")
    assert "context" in missing.value.hint


@pytest.mark.parametrize(
    "server",
    ["http://192.0.2.1:6443", "192.0.2.1:6443", "https://", "https://me:canary@127.0.0.1", "ftp://127.0.0.1", "", None],
)
def test_an_address_that_would_show_secrets_to_the_network_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", server, {"token": "x"}))
    with pytest.raises(SettingMissing) as refused:
        opened().read("a")
    assert "canary" not in shown(refused.value)


BROKEN = [
    "",
    "canary: [",
    "- canary",
    "canary",
    "current-context: canary",
    '{"current-context": "a", "contexts": [{"name": "a"}]}',
    '{"current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "b"}}], "clusters": [{"canary": 1}]}',
    '{"current-context": "a", "contexts": 5}',
    '{"users": [{"token": "canary"}]}',
    '{"users": [{"name": "a", "user": {"token": "canary"}}], "contexts": [], "current-context": "x"}',
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_kubeconfig_that_says_too_little_is_not_shown(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "kubeconfig"
    broken.write_text(text)
    point_at(monkeypatch, broken)
    with pytest.raises(SettingMissing) as refused:
        opened().read("a")
    assert "canary" not in shown(refused.value)


@pytest.mark.parametrize(
    "user",
    [
        {"auth-provider": {"name": "oidc", "config": {"id-token": "canary"}}},
        {"token": "x", "auth-provider": {"name": "gcp"}},
        {"token": "x", "as": "somebody"},
        {"token": "x", "as-groups": ["some"]},
    ],
)
def test_what_the_client_would_pass_over_or_do_unsafely_is_refused(
    user: object, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, user))
    with pytest.raises(SettingMissing):
        opened().read("a")
    assert proxy.exchanges == []


def test_a_proxy_is_not_told_what_is_for_this_machine(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyProxy("127.0.0.1", closed_port()) as other:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, other.url)
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        opened().write("a", "x")
        assert other.exchanges == []


# --- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [{}, {"username": "me"}])
def test_who_shows_nothing_is_told_so(
    user: object, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, user))
    with pytest.raises(BackendLoginRefused) as refused:
        opened().read("a")
    assert "nothing to log in" in refused.value.message
    proxy.fail(Answer(401, b"canary"))
    with pytest.raises(BackendLoginRefused) as refused:
        opened().read("a")
    assert "nothing to log in" in refused.value.message


def test_a_cluster_that_lets_everybody_in_is_used(
    proxy: FaultyProxy, api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, {}))  # as `kubectl proxy` does
    api.tokens[""] = {"get", "patch", "create"}
    opened().write("a", "x")
    assert plain(opened().read("a")) == "x"


def test_a_token_that_was_replaced_is_read_anew_once(
    proxy: FaultyProxy, api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, first = tmp_path / "token", api.give_token()
    file.write_text(f"{first}\n")
    config = write_kubeconfig(tmp_path / "kubeconfig", proxy.url, {"tokenFile": "token"})  # beside the kubeconfig
    point_at(monkeypatch, config)
    backend = opened()
    backend.write("a", "1")
    del api.tokens[first]
    before = len(proxy.exchanges)
    with pytest.raises(BackendLoginRefused) as refused:
        backend.write("a", "2")
    assert len(proxy.exchanges) - before == 1  # the same token again would be as little use
    assert first not in shown(refused.value)
    file.write_text(api.give_token())
    backend.write("a", "3")
    assert len(proxy.exchanges) - before == 3
    assert plain(backend.read("a")) == "3"
    next(backend.watch())


def test_a_new_token_that_is_not_taken_either_is_no_loop(
    proxy: FaultyProxy, api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, {"tokenFile": str(file)}))
    backend = opened()
    with pytest.raises(BackendLoginRefused):
        backend.read("a")
    file.write_text("two")
    before = len(proxy.exchanges)
    with pytest.raises(BackendLoginRefused):
        backend.read("a")
    assert len(proxy.exchanges) - before == 2


@pytest.mark.parametrize("token", ["a\nb: canary", "cänäry", "canary\x00"])
def test_a_token_that_cannot_be_one_is_not_shown(
    token: str, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, {"token": token}))
    with pytest.raises(BackendLoginRefused) as refused:
        opened().read("a")
    assert "canary" not in shown(refused.value)
    assert "cänäry" not in shown(refused.value)
    assert proxy.exchanges == []


# --- programs ---------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, sys
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
with open(sys.argv[1] + ".runs", "a") as runs:
    runs.write("x")
status = json.load(open(sys.argv[1]))
if status is None:
    sys.exit("canary on the standard error")
print(json.dumps({"apiVersion": asked["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


class Plugin:
    """A program of a kubeconfig, which gives what the test says."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        (folder / "program.py").write_text(PROGRAM)
        self.user = {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": sys.executable,
                "args": [str(folder / "program.py"), str(self._said)],
                "interactiveMode": "Never",
            }
        }

    def say(self, status: object) -> None:
        self._said.write_text(json.dumps(status))

    @property
    def runs(self) -> int:
        return len(Path(f"{self._said}.runs").read_text())


@pytest.fixture
def plugin(proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    plugin = Plugin(tmp_path)
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, plugin.user))
    return plugin


def in_s(seconds: float) -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def test_a_program_gives_a_token_once_for_all_threads(plugin: Plugin, api: KubernetesApi) -> None:
    plugin.say({"token": api.give_token(), "expirationTimestamp": in_s(3600)})
    backend = opened()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: backend.write(f"a-{number}", "x"), range(8)))
    assert plugin.runs == 1


def test_a_program_is_run_again_where_its_token_is_not_taken_any_more(plugin: Plugin, api: KubernetesApi) -> None:
    first = api.give_token()
    plugin.say({"token": first})
    backend = opened()
    backend.write("a", "1")
    del api.tokens[first]
    plugin.say({"token": api.give_token()})
    backend.write("a", "2")
    assert plugin.runs == 2
    assert plain(backend.read("a")) == "2"


def test_a_program_is_run_again_before_its_token_ends(
    plugin: Plugin, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.backends.k8s_login._RENEW_S_MIN", 0.3)
    plugin.say({"token": api.give_token(), "expirationTimestamp": in_s(0)})
    backend = opened()
    backend.write("a", "1")
    backend.read("a")
    assert plugin.runs == 1
    time.sleep(0.35)
    backend.read("a")
    assert plugin.runs == 2


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"token": ""},
        {"token": 5},
        [],
        {"clientCertificateData": CANARY},
        {"token": "x", "expirationTimestamp": CANARY},
    ],
)
def test_a_program_that_gives_nothing_is_not_a_login_as_nobody(
    status: object, plugin: Plugin, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plugin.say(status)
    with pytest.raises(BackendLoginRefused) as refused:
        opened().write("a", "x")
    assert "canary" not in shown(refused.value) + caplog.text
    assert proxy.exchanges == []


def test_a_program_that_is_not_there_is_said_to_give_nothing(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ({"command": "/nonexistent/canary", "apiVersion": "v1"}, {"command": "x"}, "canary"):
        point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, {"exec": program}))
        with pytest.raises(BackendLoginRefused) as refused:
            opened().read("a")
        assert "canary" not in shown(refused.value)


def test_a_forked_child_logs_in_by_itself(plugin: Plugin, api: KubernetesApi) -> None:
    plugin.say({"token": api.give_token()})
    backend = opened()
    backend.write("a", "x")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if plain(backend.read("a")) == "x" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert plugin.runs == 2


# --- what is given ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "canary token", "canary\r\nb: canary", "canary\n", "cänary", "canary\x00"])
def test_what_no_header_carries_is_refused_where_it_is_given(text: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        opened(KUBE_TOKEN=text)
    assert "canary" not in shown(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {CERTIFICATE: "canary"},
        {KEY: "canary"},
        {"KUBE_TOKEN": "canary", KEY: "canary"},
        {"KUBE_TOKEN": "canary", CERTIFICATE: "canary", KEY: "canary"},
        {AUTHORITY: "canary"},
        {"KUBE_HOST": "https://canary.example", "KUBE_TOKEN": "canary"},
        {"KUBECONFIG": "canary"},
        {"KUBE_PASSWORD": "canary", "KUBE_USER": "canary"},
    ],
)
def test_what_is_given_is_one_login_and_names_no_server(given: dict[str, str]) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        opened(**given)
    assert "canary" not in shown(refused.value)


def test_a_token_that_is_given_stands_before_all_others(
    proxy: FaultyProxy, api: KubernetesApi, plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known_credentials("k8s:team") == set(CREDENTIALS)
    mine = api.give_token()
    api.tokens["other"] = {"get"}
    plugin.say({"token": "other"})
    users: tuple[dict[str, Any], ...] = (
        {"token": "other"},
        {"username": "a", "password": "b"},
        {"token": "x", "as": "root"},
        {},
        plugin.user,
    )
    for user in users:
        point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, user))
        opened(KUBE_TOKEN=mine).write("a", "x")
        assert proxy.exchanges[-1].headers["authorization"] == f"Bearer {mine}"
    assert not Path(f"{tmp_path}/said.runs").exists()


def test_a_token_that_is_given_and_not_taken_is_asked_about_once(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: KubernetesApi
) -> None:
    user = {"token": api.give_token()}
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, user))
    with pytest.raises(BackendLoginRefused) as refused:
        opened(KUBE_TOKEN="canary").write("a", "x")
    assert "was given" in refused.value.hint
    assert "canary" not in shown(refused.value)
    assert len(proxy.exchanges) == 1


def test_an_endpoint_of_the_uri_stands_before_every_kubeconfig(
    proxy: FaultyProxy, api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", nowhere, {"token": "canary"}))
    mine = api.give_token()
    opened(f"endpoint={proxy.url}/", KUBE_TOKEN=mine).write("a", "x")
    assert proxy.exchanges[-1].headers["authorization"] == f"Bearer {mine}"
    with pytest.raises(BackendLoginRefused):  # the token of the kubeconfig is not for another server
        opened(f"endpoint={proxy.url}").read("a")
    assert "authorization" not in proxy.exchanges[-1].headers


# --- pods and TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> tuple[Path, Path]:
    return make_certificates(folder, [x509.IPAddress(IPv4Address("127.0.0.1"))])


@pytest.fixture(scope="module")
def _secure(certificates: tuple[Path, Path]) -> Iterator[KubernetesApi]:
    authority, server = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    with KubernetesApi(context) as found:
        yield found


@pytest.fixture
def secure(_secure: KubernetesApi) -> KubernetesApi:
    """A server that speaks TLS."""
    _secure.clear()
    return _secure


@pytest.fixture
def pod(
    secure: KubernetesApi, certificates: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The file of a token, as a pod has it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(secure.port))
    token = tmp_path / "token"
    token.write_text(secure.give_token())
    monkeypatch.setattr(TOKEN, str(token))
    monkeypatch.setattr(POD_AUTHORITY, str(certificates[0]))
    return token


def test_a_pod_is_who_its_service_account_is(pod: Path, secure: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened()
    backend.write("a", "1")
    secure.tokens.clear()
    pod.write_text(secure.give_token() + "\n")  # as the kubelet does long before its end
    assert plain(backend.read("a")) == "1"
    monkeypatch.setattr("securecfg.backends.k8s_login.REREAD_S", 0.0)
    backend = opened()
    backend.read("a")
    pod.unlink()
    with pytest.raises(SettingMissing):  # it is read each time now
        backend.read("a")


@pytest.mark.parametrize("lacking", ["token", "authority", "port"])
def test_a_pod_without_a_service_account_is_told_so(lacking: str, pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    match lacking:
        case "token":
            pod.write_text("")
        case "authority":
            monkeypatch.setattr(POD_AUTHORITY, "/nonexistent")
        case _:
            monkeypatch.delenv("KUBERNETES_SERVICE_PORT")
    with pytest.raises(SettingMissing):
        opened().read("a")


def test_a_certificate_is_checked(
    secure: KubernetesApi, certificates: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = {"certificate-authority": str(certificates[0])}
    user = {"token": secure.give_token()}
    kubeconfig = tmp_path / "kubeconfig"
    point_at(monkeypatch, kubeconfig)
    server = f"https://127.0.0.1:{secure.port}"
    write_kubeconfig(kubeconfig, server, user, **authority)
    opened().write("a", "x")
    other_name = f"https://localhost:{secure.port}"
    for address, cluster in ((server, {}), (other_name, authority)):  # nobody vouches for it; it has another name
        write_kubeconfig(kubeconfig, address, user, **cluster)
        with pytest.raises(BackendNotReached) as refused:
            opened().write("a", "x")
        assert "certificate" in refused.value.message
    write_kubeconfig(kubeconfig, other_name, user, **authority, **{"tls-server-name": "127.0.0.1"})
    opened().write("a", "x")
    write_kubeconfig(kubeconfig, server, user, **{"certificate-authority": f"{tmp_path}/none"})
    with pytest.raises(SettingMissing):
        opened().write("a", "x")
    write_kubeconfig(kubeconfig, server, user, **{"insecure-skip-tls-verify": True})
    with pytest.raises(SettingMissing):
        opened().read("a")


def test_a_certificate_logs_in(
    secure: KubernetesApi, certificates: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, mine = certificates
    secure.tokens[""] = {"get", "patch", "create"}  # whoever showed no token showed a certificate
    user = {"client-certificate": str(mine), "client-key": str(mine)}
    kubeconfig = tmp_path / "kubeconfig"
    point_at(monkeypatch, kubeconfig)
    server = f"https://127.0.0.1:{secure.port}"
    write_kubeconfig(kubeconfig, server, user, **{"certificate-authority": str(authority)})
    opened().write("a", "x")
    plugin = Plugin(tmp_path)
    plugin.say({"clientCertificateData": mine.read_text(), "clientKeyData": mine.read_text()})
    write_kubeconfig(kubeconfig, server, plugin.user, **{"certificate-authority": str(authority)})
    assert plain(opened().read("a")) == "x"
    assert plugin.runs == 1


def test_a_pod_asks_as_who_is_given(pod: Path, secure: KubernetesApi) -> None:
    mine = secure.give_token()
    del secure.tokens[pod.read_text()]
    opened(KUBE_TOKEN=mine).write("a", "x")
    assert plain(opened(KUBE_TOKEN=mine).read("a")) == "x"
    with pytest.raises(BackendLoginRefused):
        opened().read("a")


def test_a_pod_shows_no_token_where_a_certificate_is_given(
    pod: Path, secure: KubernetesApi, certificates: tuple[Path, Path]
) -> None:
    mine = certificates[1].read_text()
    secure.tokens.clear()  # that of the pod would be refused
    secure.tokens[""] = {"get", "patch", "create"}  # whoever showed no token showed a certificate
    opened(**{CERTIFICATE: mine, KEY: mine}).write("a", "x")


def test_who_vouches_for_a_server_is_given_only_where_the_uri_names_that(
    secure: KubernetesApi, certificates: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, authority = f"endpoint=https://127.0.0.1:{secure.port}", certificates[0].read_text()
    token = {"KUBE_TOKEN": secure.give_token()}
    with pytest.raises(BackendNotReached) as refused:
        opened(endpoint, **token).write("a", "x")
    assert "certificate" in refused.value.message
    opened(f"{endpoint}&cacert={certificates[0]}", **token).write("a", "x")
    given = token | {AUTHORITY: authority}
    assert plain(opened(endpoint, **given).read("a")) == "x"
    server = f"https://127.0.0.1:{secure.port}"
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", server, {}))
    for options in ("", "context=here", f"{endpoint}&cacert={certificates[0]}"):
        with pytest.raises(InvalidBackendUri):
            opened(options, **given)
    with pytest.raises(InvalidBackendUri):
        opened(endpoint, **token, **{AUTHORITY: "canary"})
    with pytest.raises(SettingMissing):
        opened(f"{endpoint}&cacert={tmp_path}/none", **token).read("a")


def test_a_certificate_that_is_given_logs_in_and_nobody_else_does(
    secure: KubernetesApi, certificates: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, mine = certificates
    secure.tokens[""] = {"get", "patch", "create"}  # whoever showed no token showed a certificate
    given = {CERTIFICATE: mine.read_text(), KEY: mine.read_text()}
    server = f"https://127.0.0.1:{secure.port}"
    kubeconfig = tmp_path / "kubeconfig"
    point_at(
        monkeypatch, write_kubeconfig(kubeconfig, server, {"token": "x"}, **{"certificate-authority": str(authority)})
    )
    backend = opened(**given)
    backend.write("a", "x")
    assert plain(backend.read("a")) == "x"
    assert backend._backend._cluster._clients.get().get().login.configuration.cert_file  # type: ignore[attr-defined]  # of this backend
    write_kubeconfig(kubeconfig, f"http://127.0.0.1:{secure.port}", {"token": "x"})
    with pytest.raises(SettingMissing) as refused:  # whoever a proxy logs in as is somebody else
        opened(**given).read("a")
    assert "TLS" in refused.value.message


def test_a_key_that_is_not_of_the_certificate_or_not_open_is_refused(
    certificates: tuple[Path, Path], tmp_path: Path
) -> None:
    mine = certificates[1].read_text()
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other", [x509.IPAddress(IPv4Address("127.0.0.1"))])[1].read_text()
    private = ec.generate_private_key(ec.SECP256R1())
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")).decode()
    for certificate, key in ((mine, other), (mine, locked), (mine, "canary"), ("canary", mine), (mine, ""), ("", mine)):
        with pytest.raises(InvalidBackendUri) as refused:
            opened(**{CERTIFICATE: certificate, KEY: key})
        assert "canary" not in shown(refused.value)


def test_a_file_that_is_gone_in_mid_run_is_looked_for_anew(
    pod: Path, secure: KubernetesApi, certificates: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = tmp_path / "authority"
    authority.write_bytes(certificates[0].read_bytes())
    monkeypatch.setattr(POD_AUTHORITY, str(authority))
    backend = opened()
    backend.write("a", "1")
    client = backend._backend._cluster._clients.get().get()  # type: ignore[attr-defined]  # of this backend
    client.rest.pool_manager.clear()
    authority.unlink()
    monkeypatch.setattr(POD_AUTHORITY, str(certificates[0]))
    backend.write("a", "2")
    assert plain(backend.read("a")) == "2"


# --- what the client is kept from -------------------------------------------------------------------------------------


def test_a_redirection_is_not_followed(token: str, proxy: FaultyProxy) -> None:
    backend = opened()
    backend.write("a", "x")
    before = len(proxy.exchanges)
    for status in (301, 302, 303, 307, 308):
        proxy.fail(Answer(status, b"", {"Location": f"{proxy.url}/api/v1/canary"}))
        for call in (lambda: backend.write("a", "y"), lambda: backend.read("a"), backend.list):
            with pytest.raises(BackendUnavailable) as refused:
                call()
            assert "points to another server" in refused.value.message
    assert not any("canary" in exchange.path for exchange in proxy.exchanges[before:])


def test_what_an_application_has_set_for_itself_is_not_taken_over(
    token: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.client import Configuration

    theirs = type.__call__(Configuration)
    theirs.host, theirs.verify_ssl, theirs.api_key = "http://192.0.2.1", False, {"BearerToken": "Bearer canary"}
    monkeypatch.setattr(Configuration, "_default", theirs)
    opened().write("a", "x")
    assert proxy.exchanges[-1].headers["authorization"] == f"Bearer {token}"
    assert Configuration._default is theirs


def test_a_kubeconfig_is_never_written(plugin: Plugin, api: KubernetesApi, tmp_path: Path) -> None:
    before = (tmp_path / "kubeconfig").read_bytes()
    plugin.say({"token": api.give_token()})
    opened().write("a", "x")
    assert (tmp_path / "kubeconfig").read_bytes() == before


def test_nothing_is_logged_that_somebody_may_not_see(
    token: str, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    backend = opened()
    backend.write("path-of-a-secret", CANARY, metadata={"owner": "pay"})
    backend.read("path-of-a-secret")
    backend.list()
    with pytest.raises(SecurecfgError):
        backend.write("path-of-a-secret", CANARY, expect="")
    for text in (CANARY, token, "path-of-a-secret"):
        assert text not in caplog.text
    assert not [record for record in caplog.records if record.name.partition(".")[0] in {"kubernetes", "urllib3"}]
