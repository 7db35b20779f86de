"""The rotator `webhook` against a service that verifies its signatures, and that verification by itself."""

from __future__ import annotations

import base64
import gc
import hmac
import json
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import (
    InvalidRotation,
    PrivilegeMissing,
    RotationFailed,
    SecurecfgError,
    SignatureInvalid,
    TargetUnavailable,
)
from securecfg.rotation import Run, Strategy, open_rotator
from securecfg.rotation.rotators.webhook import from_options
from securecfg.rotation.step_protocol import ERRORS
from securecfg.rotation.webhook import parse_webhook_secret, sign_webhook, verify_webhook
from securecfg.secret import Secret
from securecfg.testing.faulty_proxy import Answer, CutOff, FaultyProxy, Reset, Silence, SlowBody
from securecfg.testing.quiet_http import QuietRequest, QuietServer
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix, SimulatedTime
from securecfg.testing.rotator_conformance import RotatorConformance, begin, plain
from tests.keys.certificates import make_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from securecfg.rotation import Fields, Options, Rotator
    from securecfg.testing.faulty_proxy import Fault

SECRET = "whsec_" + base64.b64encode(b"canary-key-of-the-webhook-4711").decode()
ANOTHER = "whsec_" + base64.b64encode(b"canary-key-of-somebody-else-0815").decode()
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Service(QuietServer):
    """Rotates tokens as it is told by who knows the secret, and takes no message twice."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.tokens = {"the-current-token-4711"}
        self.seen = set[str]()
        self.made = 0

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def do(self, told: Mapping[str, object], values: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
        match told["step"]:
            case "propose":
                self.made += 1
                return {"v": 1, "value": {**values["current"], "token": f"canary-token-{self.made}-{id(self)}"}}
            case "apply":
                self.tokens.add(values["pending"]["token"])
            case "verify" if values["value"]["token"] not in self.tokens:
                return {"v": 1, "error": "credential-refused"}
            case "retire":
                self.tokens.discard(values["previous"]["token"])
        return {"v": 1}


class _Call(QuietRequest):
    def _handle(self) -> None:
        service = cast("Service", self.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = 200, {}
        try:
            message_id = verify_webhook(dict(self.headers.items()), body, SECRET)
        except SignatureInvalid:
            status = 401
        else:
            status = 409 if message_id in service.seen else 200
            service.seen.add(message_id)
            told = json.loads(body)
            answer = service.do(told, told["values"])
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = _handle  # noqa: N815 - as http.server calls it


class Hook:
    """A service, behind a proxy."""

    is_remote = True

    def __init__(self, service: Service, proxy: FaultyProxy) -> None:
        self.service, self.proxy = service, proxy
        self.current: Fields = {"token": Secret("the-current-token-4711"), "owner": Secret("payments")}
        self.options: Options = options_for(f"{proxy.url}/rotate?for=payments")

    def accepts(self, value: Fields, /) -> bool:
        return plain(value)["token"] in self.service.tokens

    def cut_off(self) -> None:
        self.proxy.fail(Reset())

    def restore(self) -> None:
        self.proxy.fail(None)


def options_for(url: str) -> dict[str, str | Secret[str] | Secret[bytes]]:
    return {"url": url, "secret": Secret(SECRET), "strategy": "overlapping", "identity": "owner"}


def serving(service: Service) -> Iterator[Service]:
    threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    yield from serving(Service())


@pytest.fixture
def hook(service: Service) -> Iterator[Hook]:
    with FaultyProxy("127.0.0.1", service.port) as proxy:
        yield Hook(service, proxy)


class TestWebhook(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self, hook: Hook) -> Hook:
        return hook


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_each_request_is_a_message_of_its_own_and_says_the_step(hook: Hook) -> None:
    rotator = from_options({**hook.options, "option.db": "main", "option.admin": Secret("canary-admin")})
    run = begin(hook)
    for _ in range(2):
        rotator.verify({"token": Secret("the-current-token-4711"), "key": Secret(b"\xff")}, run)
    first, second = hook.proxy.exchanges
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert first.path == "/rotate?for=payments"
    told = json.loads(first.body)
    values = told.pop("values")
    assert (told["v"], told["step"], told["token"], told["options"]) == (1, "verify", run.token, {"db": "main"})
    assert values["value"] == {"token": "the-current-token-4711", "key": {"base64": "/w=="}}
    assert values["options"] == {"admin": "canary-admin"}


def test_a_service_that_knows_another_secret_takes_nothing(hook: Hook) -> None:
    rotator = from_options({**hook.options, "secret": Secret(ANOTHER)})
    for call in (lambda: rotator.verify(hook.current, begin(hook)), lambda: rotator.propose(begin(hook))):
        with pytest.raises(PrivilegeMissing):
            call()
    assert hook.service.seen == set()


# --- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_an_error_is_named_by_its_code(code: str, hook: Hook) -> None:
    hook.proxy.fail(Answer(200, json.dumps({"v": 1, "error": code}).encode()))
    with pytest.raises(SecurecfgError) as failed:
        from_options(hook.options).retire(begin(hook)._replace(previous=hook.current))
    assert failed.value.code == code


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Answer(401, b"canary"), PrivilegeMissing),
        (Answer(403, b'{"v":1}'), PrivilegeMissing),
        (Answer(400, b"canary"), RotationFailed),
        (Answer(404, b'{"v":1,"error":"credential-refused"}'), RotationFailed),
        (Answer(429, b"canary"), TargetUnavailable),
        (Answer(500, b'{"v":1}'), TargetUnavailable),
        (Answer(307, b"", {"Location": "http://127.0.0.1:1/canary"}), TargetUnavailable),
        (Answer(200, b""), RotationFailed),
        (Answer(204, b""), RotationFailed),
        (Answer(200, b"canary"), RotationFailed),
        (Answer(200, b'{"v":2}'), RotationFailed),
        (Answer(200, b'{"v":1,"error":"canary"}'), RotationFailed),
        (Answer(200, b'{"v":1,"canary":1}'), RotationFailed),
        (Answer(200, b'{"v":1}' + b" " * (1 << 20)), TargetUnavailable),
        (Answer(200, b"[" * 100_000), RotationFailed),
        (Reset(), TargetUnavailable),
        (CutOff(), TargetUnavailable),
    ],
)
def test_nothing_else_is_taken_for_done(fault: Fault, error: type[SecurecfgError], hook: Hook) -> None:
    gc.collect()  # what earlier tests have left would be closed where no stack is left
    hook.proxy.fail(fault)
    with pytest.raises(error) as failed:
        from_options(hook.options).verify(hook.current, begin(hook))
    assert "canary" not in str(failed.value) + failed.value.hint
    assert len(hook.proxy.exchanges) == 1


def test_no_value_is_no_candidate(hook: Hook) -> None:
    hook.proxy.fail(Answer(200, b'{"v":1,"value":{}}'))
    with pytest.raises(RotationFailed):
        from_options(hook.options).propose(begin(hook))


@pytest.mark.parametrize("fault", [Silence(), SlowBody(0.05)])
def test_a_slow_service_is_not_waited_for(fault: Fault, hook: Hook) -> None:
    hook.proxy.fail(fault)
    begun = time.monotonic()
    with pytest.raises(TargetUnavailable):
        from_options(hook.options).verify(hook.current, begin(hook)._replace(timeout_s=0.3))
    assert time.monotonic() - begun < 1.3


def test_the_certificate_of_the_service_is_verified(tmp_path: Path) -> None:
    authority, tls = make_tls(tmp_path, ["localhost"])
    for service in serving(Service(tls)):
        options = options_for(f"https://localhost:{service.port}/")
        run = Run("a1" * 16, datetime.now(UTC), 10.0)
        value = {"token": Secret("the-current-token-4711")}
        with pytest.raises(TargetUnavailable):
            from_options(options).verify(value, run)
        assert service.seen == set()
        from_options({**options, "cacert": str(authority)}).verify(value, run)
        assert len(service.seen) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://hooks.example/"},
        {"url": "http://localhost.evil.example/"},
        {"url": "https://user:canary@hooks.example/"},
        {"url": "https://hooks.example/#canary"},
        {"secret": SECRET},
        {"secret": Secret("canary")},
        {"secret": Secret("whsec_")},
        {"secret": Secret("whsec_canary!")},
        {"secret": Secret("whsec_" + base64.b64encode(bytes(23)).decode())},
        {"secret": Secret("whsec_" + base64.b64encode(bytes(65)).decode())},
        {"secret": Secret(SECRET.encode())},
        {"strategy": "canary"},
        {"identity": "a b"},
        {"cacert": "ca.pem"},
        {"option.a b": "x"},
        {"retries": "3"},
    ],
)
def test_refuses_options_that_make_no_sense(wrong: Options) -> None:
    with pytest.raises(InvalidRotation) as refused:
        from_options({**options_for("https://hooks.example/"), **wrong})
    assert "canary" not in str(refused.value) + refused.value.hint


def test_is_found_by_its_name() -> None:
    rotator = open_rotator("webhook", {**options_for("https://hooks.example:8443/x"), "strategy": "leased"})
    assert rotator.target == "webhook hooks.example:8443"
    assert rotator.strategy is Strategy.LEASED
    assert rotator.identity == {"owner"}


def test_a_secret_is_needed() -> None:
    with pytest.raises(InvalidRotation) as refused:
        from_options({"url": "https://hooks.example/", "strategy": "overlapping"})
    assert "secret" in refused.value.message


# --- signatures -------------------------------------------------------------------------------------------------------


def signed(body: bytes = b'{"test": 1}', message_id: str = "msg_1") -> dict[str, str]:
    return sign_webhook(message_id, body, parse_webhook_secret(SECRET), now=NOW)


def test_the_vector_of_the_convention_is_verified() -> None:
    # Of the tests of the libraries of Standard Webhooks.
    headers = {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    now = datetime.fromtimestamp(1614265330, UTC)
    assert verify_webhook(headers, b'{"test": 2432232314}', secret, now=now) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@pytest.mark.parametrize("body", [b"", b'{"v":1}', bytes(range(256)) * 9])
def test_openssl_makes_the_same_signature(body: bytes, program: Callable[[str], str]) -> None:
    headers = signed(body)
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    command = [program("openssl"), "dgst", "-sha256", "-mac", "HMAC"]
    key = f"hexkey:{parse_webhook_secret(SECRET).hex()}"
    made = subprocess.run([*command, "-macopt", key, "-binary"], input=content, capture_output=True, check=True).stdout
    as_text = ["openssl", "dgst", "-sha256", "-hmac", parse_webhook_secret(SECRET).decode(), "-binary"]
    assert subprocess.run(as_text, input=content, capture_output=True, check=True).stdout == made
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(made).decode()}"


IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="."), min_size=1, max_size=256)


@given(st.binary(max_size=200), IDS)
def test_what_is_signed_is_verified(body: bytes, message_id: str) -> None:
    assert verify_webhook(signed(body, message_id), body, Secret(SECRET), now=NOW) == message_id


def test_headers_are_found_in_any_case_and_one_signature_of_several_is_enough() -> None:
    headers = {name.upper(): value for name, value in signed().items()}
    right = headers["WEBHOOK-SIGNATURE"]
    others = ["v1a,abc", "v2,abc", "v1,", "v1,====", f"v1,{base64.b64encode(bytes(32)).decode()}"]
    headers["WEBHOOK-SIGNATURE"] = " ".join([*others, right, "v1,x"])
    assert verify_webhook(headers, b'{"test": 1}', SECRET, now=NOW) == "msg_1"


@pytest.mark.parametrize("seconds", [-301, 301, 86_400, -86_400])
def test_a_message_of_another_time_is_refused(seconds: int) -> None:
    with pytest.raises(SignatureInvalid):
        verify_webhook(signed(), b'{"test": 1}', SECRET, now=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_clocks_may_differ_by_the_tolerance(seconds: int) -> None:
    verify_webhook(signed(), b'{"test": 1}', SECRET, now=NOW + timedelta(seconds=seconds))
    with pytest.raises(SignatureInvalid):
        verify_webhook(signed(), b'{"test": 1}', SECRET, now=NOW + timedelta(seconds=2), tolerance=timedelta(seconds=1))


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": None},
        {"webhook-id": ""},
        {"webhook-id": "msg_2"},
        {"webhook-id": "msg_1 "},
        {"webhook-id": "msg_1\n"},
        {"webhook-id": "x" * 257},
        {"webhook-timestamp": None},
        {"webhook-timestamp": "1767323046"},
        {"webhook-timestamp": "+1767323045"},
        {"webhook-timestamp": "1767323045.0"},
        {"webhook-timestamp": "01767323045"},
        {"webhook-timestamp": "1_767_323_045"},
        {"webhook-timestamp": "١٧٦٧٣٢٣٠٤٥"},
        {"webhook-timestamp": "9" * 5_000},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": ""},
        {"webhook-signature": None},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1,\udcff"},
        {"webhook-signature": "v1," + "A" * 44},
        {"webhook-signature": "v1,A " * 10_000},
        {"Webhook-Id": "msg_1"},
        {"Webhook-Signature": "v1,AAAA"},
    ],
)
def test_refuses_headers_that_are_not_as_they_were_signed(change: dict[str, str | None]) -> None:
    headers = {name: value for name, value in {**signed(), **change}.items() if value is not None}
    with pytest.raises(SignatureInvalid) as refused:
        verify_webhook(headers, b'{"test": 1}', SECRET, now=NOW)
    assert refused.value.code == "signature-invalid"


@pytest.mark.parametrize("body", [b"", b'{"test": 1} ', b'{"test":1}', b'{"test": 2}'])
def test_refuses_another_body(body: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify_webhook(signed(), body, SECRET, now=NOW)


def test_refuses_another_secret_and_a_signature_that_is_cut() -> None:
    with pytest.raises(SignatureInvalid):
        verify_webhook(signed(), b'{"test": 1}', ANOTHER, now=NOW)
    for length in range(len(signed()["webhook-signature"])):
        cut = {**signed(), "webhook-signature": signed()["webhook-signature"][:length]}
        with pytest.raises(SignatureInvalid):
            verify_webhook(cut, b'{"test": 1}', SECRET, now=NOW)


@pytest.mark.parametrize("message_id", ["msg.1", "", "msg 1", "m\n", "é", "x" * 257])
def test_an_id_that_could_be_taken_apart_in_another_place_is_neither_signed_nor_verified(message_id: str) -> None:
    with pytest.raises(InvalidRotation):
        signed(b"x", message_id)
    second = str(int(NOW.timestamp()))
    right = hmac.digest(parse_webhook_secret(SECRET), f"{message_id}.{second}.x".encode(), "sha256")
    headers = {**signed(), "webhook-id": message_id, "webhook-signature": f"v1,{base64.b64encode(right).decode()}"}
    with pytest.raises(SignatureInvalid):
        verify_webhook(headers, b"x", SECRET, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "canary", "whsec_canary=", SECRET.removeprefix("whsec_"), "whsec_é"])
def test_what_is_no_secret_verifies_nothing(secret: str) -> None:
    with pytest.raises(InvalidRotation) as refused:
        verify_webhook(signed(), b'{"test": 1}', secret, now=NOW)
    assert "canary" not in str(refused.value)


class TestWebhookCutOff(RotationKillMatrix):
    sample = 1

    @cached_property
    def time(self) -> SimulatedTime:
        """Begins now: a service takes no message of another time."""
        return SimulatedTime(time.time_ns())

    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self, hook: Hook) -> Hook:
        return hook
