"""The rotator `http` against a server that issues tokens, with a proxy before it where it has to fail."""

from __future__ import annotations

import gc
import json
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import (
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    RotationFailed,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation import ChecksPrivileges, open_rotator
from securecfg.rotation.rotators.http import from_options
from securecfg.secret import Secret
from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, FaultyProxy, Reset, Silence, SlowBody
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from securecfg.testing.rotator_conformance import RotatorConformance, begin, plain, propose, propose_and_apply, swap
from tests.keys.certificates import make_tls
from tests.keys.key_service import closed_port
from tests.rotation.token_server import ADMIN, TokenServer, token_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.rotation import Fields, Options, Rotator
    from securecfg.testing.faulty_proxy import Fault


def options_for(url: str) -> dict[str, str | Secret[str] | Secret[bytes]]:
    return {
        "create": f"{url}/v1/tokens",
        "create-body": '{"name": "{name}", "scopes": ["read"]}',
        "revoke": f"{url}/v1/tokens/{{id}}",
        "verify": f"{url}/v1/me",
        "list": f"{url}/v1/tokens",
        "list-pointer": "/items",
        "token-pointer": "/data/token",
        "id-pointer": "/data/id",
        "owner-pointer": "/owner",
        "field": "api_token",
        "id-field": "token_id",
    }


class Tokens:
    """A server with one token."""

    is_remote = True

    def __init__(self, server: TokenServer, proxy: FaultyProxy) -> None:
        self.server, self.proxy = server, proxy
        self.current = self.issue("by hand")
        self.options: Options = options_for(proxy.url)

    def issue(self, name: str, owner: str = "payments") -> Fields:
        number, token = self.server.issue(name, owner)
        return {"api_token": Secret(token), "token_id": Secret(number), "note": Secret("payments-team")}

    def accepts(self, value: Fields, /) -> bool:
        return self.server.owner_of(str(plain(value)["api_token"])) is not None

    def cut_off(self) -> None:
        self.proxy.fail(Reset())

    def restore(self) -> None:
        self.proxy.fail(None)

    def rotator(self) -> Rotator:
        return from_options(self.options)


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as server:
        yield server


@pytest.fixture
def tokens(server: TokenServer) -> Iterator[Tokens]:
    with FaultyProxy("127.0.0.1", server.port) as proxy:
        yield Tokens(server, proxy)


class TestHttp(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    def spoil(self, rotator: Rotator, value: Fields) -> Fields:
        return {**value, "api_token": Secret("canary-token-that-nobody-issued")}

    @pytest.fixture(params=["itself", "login", "idempotent"])
    def target(self, request: pytest.FixtureRequest, tokens: Tokens) -> Tokens:
        if request.param == "login":
            tokens.options = {**tokens.options, "login": Secret(ADMIN)}
        if request.param == "idempotent":
            tokens.server.is_idempotent = True
            kept = {name: value for name, value in tokens.options.items() if not name.startswith("list")}
            tokens.options = {**kept, "idempotent": "yes"}
        return tokens


# --- what an attempt has left -----------------------------------------------------------------------------------------


def test_a_token_that_nobody_has_stored_is_revoked_and_no_other(tokens: Tokens) -> None:
    others = [tokens.issue("by hand"), tokens.issue("securecfg-" + "0" * 32), tokens.issue("")]
    run = begin(tokens)
    tokens.proxy.fail_next(Delay(0), CutOff())
    with pytest.raises(TargetUnavailable):
        tokens.rotator().propose(run)
    assert len(tokens.server.tokens) == 5
    pending = propose(tokens.rotator(), run).pending
    assert pending is not None
    assert all(map(tokens.accepts, [*others, tokens.current, pending]))
    assert len(tokens.server.tokens) == 5
    assert plain(pending)["note"] == "payments-team"


def test_a_stored_token_is_not_revoked_whatever_it_is_called(tokens: Tokens) -> None:
    run = begin(tokens)
    current = tokens.issue(f"securecfg-{run.token}")
    propose(tokens.rotator(), run._replace(current=current))
    assert tokens.accepts(current)


def test_a_stored_token_that_is_handed_out_again_is_no_candidate(tokens: Tokens) -> None:
    stored = plain(tokens.current)
    again = json.dumps({"data": {"token": stored["api_token"], "id": stored["token_id"]}})
    tokens.proxy.fail_next(Delay(0), Answer(201, again.encode()))
    with pytest.raises(RotationFailed):
        tokens.rotator().propose(begin(tokens))


def test_a_previous_value_that_holds_no_token_is_in_nobodys_way(tokens: Tokens) -> None:
    run = begin(tokens)._replace(previous={"": Secret("canary-by-mistake")})
    assert tokens.accepts(propose(tokens.rotator(), run).pending or {})


# --- whose token it is ------------------------------------------------------------------------------------------------


def test_a_token_of_somebody_else_is_not_taken(tokens: Tokens) -> None:
    run = propose_and_apply(tokens.rotator(), tokens)
    with pytest.raises(InvalidRotation):
        tokens.rotator().verify(tokens.issue("x", owner="canary"), run)


def test_a_token_is_taken_where_the_current_one_is_gone(tokens: Tokens) -> None:
    run = propose_and_apply(tokens.rotator(), tokens)
    assert run.pending is not None
    del tokens.server.tokens[str(plain(tokens.current)["token_id"])]
    tokens.rotator().verify(run.pending, run)


def test_the_current_token_is_not_retired(tokens: Tokens) -> None:
    with pytest.raises(InvalidRotation):
        tokens.rotator().retire(begin(tokens)._replace(previous=tokens.current))
    assert tokens.accepts(tokens.current)


@pytest.mark.parametrize("number", ["", ".", "..", "a\nb", "\udcff", "x" * 2_000])
def test_refuses_an_id_that_leads_elsewhere(number: str, tokens: Tokens) -> None:
    wrong = {**tokens.current, "token_id": Secret(number)}
    with pytest.raises(InvalidRotation):
        tokens.rotator().retire(begin(tokens)._replace(previous=wrong))
    assert tokens.server.calls == []


@pytest.mark.parametrize("number", ["../me", "a/../../x", "%2e%2e", "id?all=1", "é", "a b"])
def test_an_id_is_sent_as_one_step_of_the_path(number: str, tokens: Tokens) -> None:
    tokens.rotator().retire(begin(tokens)._replace(previous={**tokens.current, "token_id": Secret(number)}))
    [call] = tokens.server.calls
    assert call.startswith("DELETE /v1/tokens/")
    assert not set("/? ") & set(call.removeprefix("DELETE /v1/tokens/"))


@pytest.mark.parametrize("token", ["canary\r\nX-Admin: 1", "canary\x00", "cänary", "", " canary", "\udcff"])
def test_refuses_a_token_that_breaks_out_of_its_header(token: str, tokens: Tokens) -> None:
    with pytest.raises(InvalidRotation) as refused:
        tokens.rotator().verify({**tokens.current, "api_token": Secret(token)}, begin(tokens))
    assert "canary" not in str(refused.value)
    assert tokens.server.calls == []


# --- how it fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Answer(401, b"canary"), CredentialRefused),
        (Answer(403, b"canary"), PrivilegeMissing),
        (Answer(400, b"canary"), RotationFailed),
        (Answer(405, b"canary"), RotationFailed),
        (Answer(429, b"canary"), TargetUnavailable),
        (Answer(503, b"canary"), TargetUnavailable),
        (Answer(302, b"canary", {"Location": "http://127.0.0.1:1/canary"}), TargetUnavailable),
        (Answer(307, b"canary", {"Location": "/v1/me"}), TargetUnavailable),
        (Reset(), TargetUnavailable),
        (CutOff(), TargetUnavailable),
    ],
)
def test_what_the_server_says_is_told_apart_and_not_shown(
    fault: Fault, error: type[SecurecfgError], tokens: Tokens
) -> None:
    tokens.proxy.fail(fault)
    run, rotator = begin(tokens), tokens.rotator()
    old = run._replace(previous={**tokens.current, "token_id": Secret("old")})
    for call in (
        lambda: rotator.propose(run),
        lambda: rotator.verify(tokens.current, run),
        lambda: rotator.retire(old),
    ):
        asked = len(tokens.proxy.exchanges)
        with pytest.raises(error) as failed:
            call()
        assert "canary" not in str(failed.value) + failed.value.hint
        assert len(tokens.proxy.exchanges) == asked + 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"canary",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"null",
        b'{"data": 1}',
        b'{"data": {"token": "", "id": "1"}}',
        b'{"data": {"token": "a\\r\\nb", "id": "1"}}',
        b'{"data": {"token": {"canary": 1}, "id": "1"}}',
        b'{"data": {"token": "canary", "id": null}}',
        b'{"data": {"token": "canary", "id": true}}',
        b'{"data": {"token": "canary", "id": ".."}}',
        b'{"data": {"token": "canary", "id": "\\ud800"}}',
        b'{"data": {"token": "canary", "id": ' + b"9" * 5_000 + b"}}",
        b" " * (1 << 20) + b'{"data": {"token": "canary", "id": "1"}}',
    ],
)
def test_an_answer_that_makes_no_sense_is_no_token(body: bytes, tokens: Tokens) -> None:
    gc.collect()  # what earlier tests have left would be closed where no stack is left
    tokens.proxy.fail_next(Delay(0), Answer(201, body))
    with pytest.raises(TargetUnavailable) as failed:
        tokens.rotator().propose(begin(tokens))
    assert "canary" not in str(failed.value)


def test_an_id_may_be_a_number(tokens: Tokens) -> None:
    tokens.proxy.fail_next(Delay(0), Answer(201, b'{"data": {"token": "abc", "id": 4711}}'))
    assert plain(propose(tokens.rotator(), begin(tokens)).pending)["token_id"] == "4711"


@pytest.mark.parametrize("fault", [Silence(), SlowBody(0.05)])
def test_a_slow_server_is_not_waited_for(fault: Fault, tokens: Tokens) -> None:
    tokens.proxy.fail(fault)
    begun = time.monotonic()
    with pytest.raises(TargetUnavailable):
        tokens.rotator().verify(tokens.current, begin(tokens)._replace(timeout_s=0.3))
    assert time.monotonic() - begun < 1.3


def test_where_nobody_listens_is_unavailable(tokens: Tokens) -> None:
    rotator = from_options(options_for(f"http://127.0.0.1:{closed_port()}"))
    with pytest.raises(TargetUnavailable):
        rotator.verify(tokens.current, begin(tokens))


@pytest.mark.parametrize("owner", ["reader", "payments"])
def test_tells_whether_tokens_may_be_listed_before_the_first_rotation(owner: str, tokens: Tokens) -> None:
    rotator = tokens.rotator()
    assert isinstance(rotator, ChecksPrivileges)
    found = rotator.check(begin(tokens)._replace(current=tokens.issue("x", owner)))
    assert bool(found) is (owner == "reader")
    assert {call.partition(" ")[0] for call in tokens.server.calls} == {"GET"}


def test_a_token_that_may_issue_none_says_so(tokens: Tokens) -> None:
    with pytest.raises(PrivilegeMissing):
        tokens.rotator().propose(begin(tokens)._replace(current=tokens.issue("x", "reader")))


def test_without_a_login_the_first_token_is_made_by_hand(tokens: Tokens) -> None:
    with pytest.raises(InvalidRotation) as refused:
        tokens.rotator().propose(begin(tokens)._replace(current=None))
    assert "login" in refused.value.hint
    made = propose(
        from_options({**tokens.options, "login": Secret(ADMIN)}), begin(tokens)._replace(current=None)
    ).pending
    assert made is not None
    assert tokens.accepts(made)


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_the_certificate_of_the_server_is_verified(tmp_path: Path) -> None:
    authority, tls = make_tls(tmp_path, ["localhost"])
    (tmp_path / "other").mkdir()
    another, _ = make_tls(tmp_path / "other", ["localhost"])
    with token_server(tls) as server, FaultyProxy("127.0.0.1", server.port) as proxy:
        tokens = Tokens(server, proxy)
        given = options_for(f"https://localhost:{server.port}")
        run = propose_and_apply(from_options({**given, "cacert": str(authority)}), tokens)
        from_options({**given, "cacert": str(authority)}).retire(swap(run))
        assert not tokens.accepts(tokens.current)
        asked = len(server.calls)
        for wrong in ({}, {"cacert": str(another)}):
            with pytest.raises(TargetUnavailable):
                from_options({**given, **wrong}).propose(begin(tokens))
        with pytest.raises(InvalidRotation):
            from_options({**given, "cacert": "/nonexistent"}).propose(begin(tokens))
        assert len(server.calls) == asked


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"create": "http://api.example/v1/tokens"},
        {"create": "ftp://127.0.0.1/"},
        {"create": "https://"},
        {"create": "https://user:canary@api.example/"},
        {"create": "https://api.example\\@evil.example/"},
        {"create": "https://api.example:0/"},
        {"create": "https://api.example:99999/"},
        {"create": "https://api.example/a b"},
        {"create": "https://api.example/\r\nX: canary"},
        {"create": "https://api.example/#canary"},
        {"create": "https://äpi.example/"},
        {"create": Secret("canary")},
        {"verify": "http://localhost.evil.example/"},
        {"verify": "http://127.0.0.1@evil.example/"},
        {"list": "http://api.example/"},
        {"revoke": "https://api.example/tokens"},
        {"revoke": "https://{id}.evil.example/tokens"},
        {"create-body": "canary"},
        {"create-body": "[]"},
        {"create-body": "{}"},
        {"create-body": '{"{name}": "x"}'},
        {"create-body": "[" * 60_000},
        {"create-body": '{"name": "{name}"}' + " " * 70_000},
        {"idempotent": "perhaps"},
        {"list": ""},
        {"id-pointer": "id"},
        {"token-pointer": "/a~2"},
        {"header": "X Token"},
        {"header": "X:\r\n"},
        {"header": "Content-Length"},
        {"scheme": "Bearer x"},
        {"field": "token_id"},
        {"field": ""},
        {"cacert": "ca.pem"},
        {"login": "canary"},
        {"login": Secret(b"canary")},
    ],
)
def test_refuses_options_that_make_no_sense(wrong: Options) -> None:
    with pytest.raises(InvalidRotation) as refused:
        from_options({**options_for("https://api.example"), **wrong})
    assert "canary" not in str(refused.value) + refused.value.hint


def test_is_found_by_its_name_and_named_after_its_host() -> None:
    assert open_rotator("http", options_for("https://api.example:8443")).target == "http api.example:8443"


def test_sends_a_token_in_the_header_that_it_is_told(tokens: Tokens) -> None:
    rotator = from_options({**tokens.options, "header": "X-Api-Key", "scheme": ""})
    with pytest.raises(CredentialRefused):
        rotator.verify(tokens.current, begin(tokens))
    sent = tokens.proxy.exchanges[-1].headers
    assert sent["x-api-key"] == plain(tokens.current)["api_token"]
    assert "authorization" not in sent


def test_a_name_goes_into_every_text_of_the_body(tokens: Tokens) -> None:
    body = json.dumps({"name": "x", "labels": [{"by": "job {name}"}], "days": 30})
    run = begin(tokens)
    propose(from_options({**tokens.options, "create-body": body}), run)
    sent = json.loads(tokens.proxy.exchanges[-1].body)
    assert sent == {"name": "x", "labels": [{"by": f"job securecfg-{run.token}"}], "days": 30}


class TestHttpCutOff(RotationKillMatrix):
    sample = 1

    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self, tokens: Tokens) -> Tokens:
        return tokens
