"""Who asks a Vault server for secrets, and where it is: logins, tokens that end, namespaces, TLS, URIs."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from securecfg.backends import OpenBackend, open_backend
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendUnavailable,
    ExtraMissing,
    InvalidBackendUri,
    SettingMissing,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import plain
from securecfg.testing.faulty_proxy import Answer, Delay, FaultyProxy
from tests.backends.kv import RIGHTS, SEALED, kv_engine
from tests.keys.certificates import make_certificates
from tests.keys.key_service import closed_port, run_python
from tests.keys.transit import client, refusal, vault_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backends.kv import Kv

HASTY = Patience(deadline_s=10.0, pauses_s=(0.01, 0.01))
CANARY = "canary-secret-4711"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with vault_server() as port:
        yield port


@pytest.fixture(scope="module")
def openbao_port() -> Iterator[int]:
    with vault_server("--openbao") as port:
        yield port


@pytest.fixture
def kv(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kv]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with kv_engine(port, monkeypatch) as kv:
        yield kv


def opened(kv: Kv, options: str = "") -> OpenBackend:
    return open_backend(f"vault:{kv.mount}?{options}".rstrip("?"), patience=HASTY)


def jwt(subject: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).decode()
    return f"e30.{claims}.{CANARY}"


def an_approle(kv: Kv, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:  # noqa: ANN401 - as Vault takes them
    """Make a role that may use the engine, put its secret id into a variable, and return what a URI says of it."""
    role = f"role-{kv.mount}"
    kv.root.auth.approle.create_or_update_approle(role, token_policies=[kv.mount], **options)
    monkeypatch.setenv("VAULT_SECRET_ID", kv.root.auth.approle.generate_secret_id(role)["data"]["secret_id"])
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    return f"login=approle&role={kv.root.auth.approle.read_role_id(role)['data']['role_id']}"


def logins(kv: Kv) -> int:
    return sum(exchange.path.endswith("/login") for exchange in kv.proxy.exchanges)


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/",
        "/secret",
        "secret/",
        "secret//a",
        "secret/../sys",
        "secret/%2e%2e/sys",
        "%2Fsecret",
        "secret/a%00b",
        "secret/a*",
        "secret?kv=3",
        "secret?kv=",
        "secret?kv=2&kv=2",
        "secret?token=canary",
        "secret?password=canary",
        "secret?secret_id=canary",
        "secret?address=http://vault.internal:8200",
        "secret?address=http://127.0.0.1@canary.example",
        "secret?address=https://user:canary@vault.internal",
        "secret?address=https://vault.internal%3Ftoken=canary",
        "secret?address=vault.internal",
        "secret?address=https://[",
        "secret?address=file:///etc",
        "secret?namespace=a%20b",
        "secret?namespace=/a",
        "secret?namespace=a/../b",
        "secret?login=ldap&role=canary",
        "secret?role=canary",
        "secret?login_mount=x",
        "secret?login=token&role=canary",
        "secret?login=approle",
        "secret?login=approle&role=a/b",
        "secret?login=approle&role=a&login_mount=/x",
        "secret?login=approle&role=a&login_mount=x/../y",
        "secret?login=userpass&role=..&env=X",
        "secret?login=approle&role=a&file=/x&env=Y",
        "secret?login=approle&role=a&env=a-b",
        "secret?login=userpass&role=web",
        "secret?login=userpass&file=/x",
        "secret?login=jwt&role=web",
        "secret?login=kubernetes",
        "secret?login=cert&file=/x",
        "secret?login=cert&key_file=/x",
        "secret?login=cert&env=X",
        "secret?login=approle&role=a&key_file=/x",
    ],
)
def test_what_is_no_uri_is_refused_without_being_shown(rest: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(f"vault:{rest}")
    assert "canary" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("rest", "name"),
    [
        ("secret", "secret"),
        ("secret/shop/prod?kv=1", "secret/shop/prod"),
        ("team%2Fkv/a%20b?address=https://vault.internal:8200&namespace=team/a&cacert=/etc/ca.pem", "team/kv/a b"),
        ("secret?address=http://127.0.0.1:8200", "secret"),
        ("secret?file=/run/vault/token", "secret"),
        ("secret?env=SHOP_TOKEN", "secret"),
        ("secret?login=approle&role=0f1e-aa&file=/run/secret-id&login_mount=team/approle", "secret"),
        ("secret?login=userpass&role=web@example.org&env=PASSWORD", "secret"),
        ("secret?login=jwt&role=ci&file=/run/token", "secret"),
        ("secret?login=kubernetes&role=shop", "secret"),
        ("secret?login=cert", "secret"),
        ("secret?login=cert&role=web&file=/run/web.pem&key_file=/run/web.key", "secret"),
    ],
)
def test_takes_a_mount_point_a_folder_and_options(rest: str, name: str) -> None:
    assert open_backend(f"vault:{rest}").name == name


def test_the_client_is_imported_when_it_is_needed_and_no_sooner() -> None:
    program = "import sys; from securecfg.backends import open_backend; open_backend('vault:secret').capabilities; "
    assert run_python(f"{program} print({{'hvac', 'requests'}} & set(sys.modules))") == "set()"


def test_what_has_to_be_installed_is_named(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hvac", None)
    with pytest.raises(ExtraMissing) as missing:
        opened(kv).read("a")
    assert missing.value.hint == "pip install 'securecfg-vault[vault]'"
    assert kv.proxy.exchanges == []


# --- where it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["", "vault.internal:8200", "http://192.0.2.1:8200", "http://127.0.0.1@evil.example", "https://["]
)
def test_an_address_that_would_show_secrets_to_the_network_is_refused(
    address: str, kv: Kv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_ADDR", address)
    with pytest.raises(SettingMissing):
        opened(kv).read("a")


def test_the_address_in_the_uri_comes_first(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{closed_port()}")
    backend = opened(kv, f"address={kv.proxy.url}")
    backend.write("a", "x")
    with pytest.raises(BackendUnavailable):
        opened(kv).read("a")
    with pytest.raises(BackendNotReached):  # and not in doubt
        opened(kv).write("a", "x")


def test_a_proxy_is_not_told_what_is_for_this_machine(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyProxy("127.0.0.1", closed_port()) as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        opened(kv).write("a", "x")
        assert proxy.exchanges == []


def test_a_certificate_is_checked_and_one_logs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, server = make_certificates(tmp_path, [x509.IPAddress(IPv4Address("127.0.0.1"))])
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
    for variable in ("VAULT_ADDR", "VAULT_CACERT", "VAULT_CAPATH", "VAULT_NAMESPACE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VAULT_TOKEN", "root")
    with vault_server(str(server), str(authority)) as port:
        address = f"https://127.0.0.1:{port}"
        root = client(port)
        root.url, root.session.verify, root.adapter._kwargs["verify"] = address, str(authority), str(authority)
        root.sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
        with pytest.raises(BackendNotReached) as refused:
            open_backend(f"vault:secret?address={address}", patience=HASTY).write("a", "x")
        assert "certificate" in refused.value.message
        backend = open_backend(f"vault:secret?address={address}&cacert={authority}")
        backend.write("a", "x")
        with pytest.raises(BackendNotReached):
            open_backend(f"vault:secret?address={address}&cacert={tmp_path}/none.pem", patience=HASTY).write("a", "x")
        with pytest.raises(BackendNotReached):  # it is not the server of that name
            open_backend(f"vault:secret?address=https://localhost:{port}&cacert={authority}", patience=HASTY).write(
                "a", "x"
            )

        monkeypatch.delenv("VAULT_TOKEN")
        rules = {"path": {"secret/*": {"capabilities": RIGHTS}}}
        root.sys.create_or_update_acl_policy("app", json.dumps(rules))
        root.adapter.put("/v1/auth/cert/certs/web", json={"certificate": "x", "token_policies": ["app"]})
        by_certificate = f"vault:secret?address={address}&cacert={authority}&login=cert&role="
        files = f"&file={server}&key_file={server}"
        assert plain(open_backend(f"{by_certificate}web{files}").read("a")) == "x"
        with pytest.raises(BackendLoginRefused):
            open_backend(f"{by_certificate}other{files}").read("a")
        with pytest.raises(BackendLoginRefused) as missing:
            open_backend(f"{by_certificate}web").read("a")
        assert "VAULT_CLIENT_CERT" in missing.value.hint
        monkeypatch.setenv("VAULT_CLIENT_CERT", str(server))
        monkeypatch.setenv("VAULT_CLIENT_KEY", str(server))
        assert plain(open_backend(f"{by_certificate}web").read("a")) == "x"


def test_a_secret_of_a_namespace_is_read_in_it(port: int, kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    with kv_engine(port, monkeypatch, namespace="team/a") as theirs:
        theirs.root.secrets.kv.v2.create_or_update_secret("a", {"value": "x"}, mount_point=theirs.mount)
        assert plain(opened(theirs, "namespace=team/a").read("a")) == "x"
        with pytest.raises(BackendLoginRefused):  # the token is of the namespace
            opened(theirs).read("a")
        monkeypatch.setenv("VAULT_NAMESPACE", "team/a")
        assert plain(opened(theirs).read("a")) == "x"


# --- each login -------------------------------------------------------------------------------------------------------


def test_a_token_lies_in_a_variable_or_a_file_and_is_read_each_time(
    kv: Kv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(kv).write("a", "x")
    agent = tmp_path / "agent-token"
    agent.write_text("hvs.another")
    by_file = opened(kv, f"file={agent}")
    with pytest.raises(BackendLoginRefused):
        by_file.read("a")
    agent.write_text(f"{kv.token}\n")
    assert plain(by_file.read("a")) == "x"
    monkeypatch.setenv("SHOP_TOKEN", kv.token)
    monkeypatch.delenv("VAULT_TOKEN")
    assert plain(opened(kv, "env=SHOP_TOKEN").read("a")) == "x"
    with pytest.raises(BackendLoginRefused) as refused:
        opened(kv).read("a")
    assert refused.value.hint == "looked for in VAULT_TOKEN or ~/.vault-token"
    (tmp_path / ".vault-token").write_text(kv.token)
    assert plain(opened(kv).read("a")) == "x"


def test_what_is_given_stands_before_the_environment(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(kv).write("a", "x")
    given = {"VAULT_TOKEN": Secret(kv.token)}
    monkeypatch.setenv("VAULT_TOKEN", "hvs.wrong")
    assert plain(open_backend(f"vault:{kv.mount}", credentials=given).read("a")) == "x"
    role = an_approle(kv, monkeypatch)
    given = {"VAULT_SECRET_ID": Secret(os.environ["VAULT_SECRET_ID"])}
    monkeypatch.setenv("VAULT_SECRET_ID", "wrong")
    assert plain(open_backend(f"vault:{kv.mount}?{role}", credentials=given).read("a")) == "x"
    with pytest.raises(BackendLoginRefused):
        opened(kv, role).read("a")
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(f"vault:{kv.mount}", credentials={"AWS_ACCESS_KEY_ID": Secret(CANARY)})
    assert CANARY not in str(refused.value) + refused.value.hint


@pytest.mark.parametrize("token", ["hvs.a\nb: canary", "hvs.cänäry", "hvs.canary\u200b"])
def test_a_token_that_cannot_be_one_is_not_shown(token: str, kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", token)
    with pytest.raises((BackendUnavailable, BackendLoginRefused)) as refused:
        opened(kv).read("a")
    told = f"{refused.value} {refused.value.hint} {refused.value.__context__} {refused.value.__cause__}"
    assert "canary" not in told
    assert "cänäry" not in told


def test_each_login_gets_a_token_once_and_a_wrong_secret_none(
    kv: Kv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(kv).write("a", "x")
    options = an_approle(kv, monkeypatch)
    secret = tmp_path / "secret"
    kv.root.auth.userpass.create_or_update_user("web", "pässword", policies=[kv.mount])
    kv.root.adapter.put("/v1/auth/jwt/role/ci", json={"bound_subject": "ci", "token_policies": [kv.mount]})
    kv.root.auth.kubernetes.create_role("shop", ["web"], ["shop"], policies=[kv.mount])
    for login, right in (
        (options, os.environ["VAULT_SECRET_ID"]),
        ("login=userpass&role=web", "pässword"),
        ("login=jwt&role=ci&login_mount=team/jwt", jwt("ci")),
        ("login=kubernetes&role=shop", jwt("system:serviceaccount:shop:web")),
    ):
        secret.write_text(right)
        backend, before = opened(kv, f"{login}&file={secret}"), logins(kv)
        assert plain(backend.read("a")) == "x"
        assert plain(backend.read("a")) == "x"
        # The path of `userpass` ends in the user.
        assert logins(kv) - before == (0 if "userpass" in login else 1)
        monkeypatch.setenv("SHOP_SECRET", right)
        assert plain(opened(kv, f"{login}&env=SHOP_SECRET").read("a")) == "x"
        monkeypatch.setenv("SHOP_SECRET", jwt(f"system:serviceaccount:shop:{CANARY}") if "." in right else CANARY)
        for wrong in (f"{login}&env=SHOP_SECRET", f"{login}&env=NONE_SUCH", f"{login}&file={tmp_path}/none"):
            with pytest.raises(BackendLoginRefused) as refused:
                opened(kv, wrong).read("a")
            assert CANARY not in f"{refused.value} {refused.value.hint}"


def test_a_login_of_the_wrong_method_is_refused(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    options = an_approle(kv, monkeypatch)
    with pytest.raises(BackendLoginRefused):
        opened(kv, f"{options}&login_mount=nowhere").read("a")


# --- tokens that end --------------------------------------------------------------------------------------------------


def test_a_token_that_was_revoked_is_a_login_refused_and_not_a_right_denied(kv: Kv) -> None:
    backend = opened(kv)
    backend.write("a", "x")
    kv.root.auth.token.revoke(kv.token)
    for call in (lambda: backend.read("a"), lambda: backend.write("a", "y"), backend.list):
        with pytest.raises(BackendLoginRefused):
            call()


@pytest.mark.parametrize("says", [True, False], ids=["vault", "openbao"])
def test_a_token_that_ends_in_mid_run_is_replaced_once(
    says: bool, port: int, openbao_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kv_engine(port if says else openbao_port, monkeypatch) as kv:
        backend = opened(kv, an_approle(kv, monkeypatch))
        backend.write("a", "1")
        for number in (2, 3):
            kv.root.adapter.put("/v1/sys/leases/revoke-force/auth")
            assert backend.write("a", str(number)) == str(number)
            assert logins(kv) == number
        assert plain(backend.read("a")) == "3"
        assert logins(kv) == 3


@pytest.mark.parametrize("says", [True, False], ids=["vault", "openbao"])
def test_a_right_that_is_denied_is_no_reason_to_log_in(
    says: bool, port: int, openbao_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kv_engine(port if says else openbao_port, monkeypatch) as kv:
        backend = opened(kv, an_approle(kv, monkeypatch))
        backend.write("a", "1")
        kv.allow("read")
        with pytest.raises(BackendDenied) as refused:
            backend.write("a", "2")
        assert f"`{kv.mount}/data/a`" in refused.value.hint
        assert logins(kv) == 1
        monkeypatch.setenv("VAULT_TOKEN", kv.token)
        with pytest.raises(BackendDenied):
            opened(kv).write("a", "2")
        assert plain(backend.read("a")) == "1"


def test_who_cannot_log_in_any_more_is_told_so_after_one_attempt(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(kv, an_approle(kv, monkeypatch))
    backend.write("a", "1")
    kv.root.adapter.put("/v1/sys/leases/revoke-force/auth")
    monkeypatch.setenv("VAULT_SECRET_ID", CANARY)
    with pytest.raises(BackendLoginRefused) as refused:
        backend.write("a", "2")
    assert CANARY not in f"{refused.value} {refused.value.hint}"
    assert logins(kv) == 2


def test_a_new_token_that_is_taken_for_none_either_is_no_loop(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(kv, an_approle(kv, monkeypatch))
    backend.write("a", "1")
    ended = refusal(403, "permission denied", "invalid token")
    token = Answer(200, json.dumps({"auth": {"client_token": "hvs.x", "lease_duration": 0}}).encode())
    kv.proxy.fail_next(ended, token, ended)
    before = len(kv.proxy.exchanges)
    with pytest.raises(BackendDenied):
        backend.write("a", "2")
    assert len(kv.proxy.exchanges) - before == 3


def test_a_token_is_renewed_in_time_and_replaced_at_its_last(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(kv, an_approle(kv, monkeypatch, token_ttl="1s", token_max_ttl="2s"))
    begun = time.monotonic()
    backend.write("a", "x")
    while time.monotonic() - begun < 2.5:
        assert plain(backend.read("a")) == "x"
        time.sleep(0.1)
    asked = [exchange.path for exchange in kv.proxy.exchanges]
    assert "/v1/auth/token/renew-self" in asked
    assert logins(kv) >= 2


def test_a_token_that_cannot_be_renewed_is_replaced_at_its_end(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(kv, an_approle(kv, monkeypatch, token_ttl="2s", token_type="batch"))
    backend.write("a", "x")
    time.sleep(1.4)  # a token that can be renewed would be
    backend.read("a")
    assert logins(kv) == 1
    time.sleep(0.7)
    assert plain(backend.read("a")) == "x"
    assert logins(kv) == 2
    assert not any("auth/token" in exchange.path for exchange in kv.proxy.exchanges)


def test_a_token_that_cannot_be_renewed_now_is_used_until_its_end(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(kv, an_approle(kv, monkeypatch, token_ttl="2s"))
    backend.write("a", "x")
    time.sleep(1.4)
    kv.proxy.fail_next(SEALED)
    assert plain(backend.read("a")) == "x"
    assert logins(kv) == 1


def test_many_threads_log_in_once(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(kv).write("a", "x")
    backend = opened(kv, an_approle(kv, monkeypatch))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: backend.write(f"many/{number}", "x"), range(16)))
        assert logins(kv) == 1
        kv.root.adapter.put("/v1/sys/leases/revoke-force/auth")
        list(pool.map(lambda number: backend.write(f"many/{number}", "y"), range(16)))
    assert logins(kv) == 2


def test_a_forked_child_logs_in_by_itself(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(kv, an_approle(kv, monkeypatch))
    backend.write("a", "x")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if plain(backend.read("a")) == "x" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert logins(kv) == 2


# --- a server that cannot answer --------------------------------------------------------------------------------------


def test_a_sealed_server_says_so_and_nothing_is_in_doubt(kv: Kv) -> None:
    backend = opened(kv)
    backend.write("a", "x")
    kv.root.sys.seal()
    try:
        with pytest.raises(BackendUnavailable) as refused:
            backend.read("a")
        with pytest.raises(BackendNotReached):
            backend.write("a", "y")
    finally:
        kv.root.adapter.put("/v1/sys/unseal")
    assert "is sealed" in refused.value.message
    assert plain(backend.read("a")) == "x"


def test_what_fails_before_a_change_is_sent_leaves_nothing_in_doubt(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(kv).write("a", "x")
    options = an_approle(kv, monkeypatch)
    for passing in ([], [Delay(0)]):  # it is the login that fails, or the look at the engine
        backend = OpenBackend(open_backend(f"vault:{kv.mount}?{options}")._backend, Patience(10.0, ()))
        for fault in (refusal(500, "internal error"), Answer(200, b"{}"), Answer(200, b"<html>")):
            kv.proxy.fail_next(*passing, fault)
            with pytest.raises(BackendNotReached):
                backend.write("a", "y")
            passing.clear()  # it is logged in by now
    backend = opened(kv, options)
    for change in (backend.delete, backend.recover):
        backend.list()
        kv.proxy.fail_next(refusal(500, "internal error"))
        change("a")
    assert plain(backend.read("a")) == "x"


def test_a_redirection_is_not_followed(kv: Kv) -> None:
    backend = opened(kv)
    backend.write("a", "x")
    before = len(kv.proxy.exchanges)
    for status in (301, 302, 307, 308):
        kv.proxy.fail(Answer(status, b"", {"Location": f"{kv.proxy.url}/v1/canary"}))
        with pytest.raises(BackendUnavailable) as refused:
            backend.write("a", "y")
        assert "points to another server" in refused.value.message
    assert not any("canary" in exchange.path for exchange in kv.proxy.exchanges[before:])


def test_nothing_is_logged_that_somebody_may_not_see(
    kv: Kv, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    backend = opened(kv, an_approle(kv, monkeypatch))
    caplog.clear()  # what hvac logged of the preparation
    backend.write("path-of-a-secret", CANARY, metadata={"owner": "pay"})
    backend.read("path-of-a-secret")
    backend.list()
    sent = {exchange.headers.get("x-vault-token", "") for exchange in kv.proxy.exchanges} - {""}
    assert sent
    for text in (CANARY, os.environ["VAULT_SECRET_ID"], "path-of-a-secret", *sent):
        assert text not in caplog.text
    assert not [record for record in caplog.records if record.name.partition(".")[0] in {"hvac", "urllib3", "requests"}]
