"""What is special to keys of Consul: URIs, tokens, namespaces, values, indexes, listings, watches, refusals."""

from __future__ import annotations

import json
import logging
import re
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from securecfg.backends import Changes, Deletion, Kind, open_backend
from securecfg.backends import consul_kv as kv_module
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidBackendUri,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    SettingMissing,
    StaleWrite,
    Unsupported,
    ValueTooLarge,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import plain
from securecfg.testing.faulty_proxy import Answer, CutOff, FaultyProxy, Reset
from tests.backends.consul_agent import DENIED, TOKEN, Rights, consul_keys
from tests.keys.certificates import make_certificates
from tests.keys.key_service import closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.backends import OpenBackend
    from tests.backends.consul_agent import Keys

HASTY = Patience(deadline_s=10.0, pauses_s=(0.01, 0.01))
ONCE = Patience(deadline_s=10.0, pauses_s=())
QUICK_S = 0.1


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    with consul_keys(monkeypatch) as keys:
        yield keys


@pytest.fixture
def backend(keys: Keys) -> OpenBackend:
    return open_backend("consul:shop", patience=HASTY)


def once(options: str = "") -> OpenBackend:
    return open_backend(f"consul:shop?{options}".rstrip("?"), patience=ONCE)


# --- URIs and settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "/",
        "/shop",
        "a//b",
        "a/../b",
        "a#b",
        "?token=canary",
        "?env=",
        "?endpoint=http://canary.test:8500",
        "?endpoint=https://user:canary@consul.test",
        "?endpoint=unix:///run/canary",
        "?file=/t&env=T",
        "?env=not-a-name",
        "?key=/k",
        "?dc=a/canary",
        "?namespace=..",
        "?partition=a%20b",
        "?server_name=a%0Ab",
    ],
)
def test_a_uri_that_says_something_else_is_refused_and_not_shown(rest: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(f"consul:{rest}")
    assert "canary" not in refused.value.message + refused.value.hint


def test_what_it_is_called_and_what_it_can_do() -> None:
    backend = open_backend("consul:team/shop/")
    assert repr(backend) == "OpenBackend('consul', 'team/shop/')"
    can = backend.capabilities
    assert can.kinds == frozenset(Kind)
    assert (can.creates, can.compares, can.keeps_versions, can.deletes) == (True, True, False, Deletion.FINAL)
    assert (can.reads_at_once, can.watches) == (64, True)


@pytest.mark.parametrize(
    "address", ["http://consul.test:8500", "consul.test:8500", "unix:///run/consul.sock", "https://a@b"]
)
def test_an_address_that_is_not_safe_is_missing(address: str, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", address)
    with pytest.raises(SettingMissing) as refused:
        once().write("a", "x")
    assert "CONSUL_HTTP_ADDR" in refused.value.hint


def test_an_address_may_lack_a_scheme_or_stand_in_the_uri(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", keys.proxy.url.removeprefix("http://"))
    once().write("a", "x")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    with pytest.raises(BackendNotReached):  # as nobody speaks TLS there
        once().read("a")
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "https://consul.test")
    assert plain(once(f"endpoint={keys.proxy.url}").read("a")) == "x"


def test_tls_is_as_the_settings_of_consul_say(keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ssl

    authority, certificate = make_certificates(tmp_path, [x509.DNSName("server.dc1.consul")])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    tls.load_cert_chain(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    keys.agent._server.socket = tls.wrap_socket(keys.agent._server.socket, server_side=True)
    monkeypatch.setenv("CONSUL_HTTP_ADDR", f"127.0.0.1:{keys.agent.port}")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "1")
    with pytest.raises(BackendNotReached, match="certificate") as refused:
        once().read("a")
    assert "CONSUL_CACERT" in refused.value.hint
    monkeypatch.setenv("CONSUL_HTTP_SSL_VERIFY", "false")  # which is not kept
    monkeypatch.setenv("CONSUL_CACERT", str(authority))
    with pytest.raises(BackendNotReached, match="certificate"):
        once().read("a")
    monkeypatch.setenv("CONSUL_TLS_SERVER_NAME", "server.dc1.consul")
    with pytest.raises((BackendLoginRefused, BackendUnavailable)):  # it wants a certificate
        once().read("a")
    monkeypatch.setenv("CONSUL_CLIENT_CERT", str(certificate))
    monkeypatch.setenv("CONSUL_CLIENT_KEY", str(certificate))
    once().write("a", "x")
    for variable in ("CACERT", "TLS_SERVER_NAME", "CLIENT_CERT", "CLIENT_KEY"):
        monkeypatch.delenv(f"CONSUL_{variable}")
    options = f"cacert={authority}&cert={certificate}&key={certificate}&server_name=server.dc1.consul"
    assert plain(once(options).read("a")) == "x"


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_read_anew_for_each_call(keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONSUL_HTTP_TOKEN")
    file = tmp_path / "token"
    backend = once(f"file={file}")
    with pytest.raises(BackendLoginRefused) as refused:
        backend.read("a")
    assert refused.value.hint == f"looked for in {file}"
    file.write_text(f"{TOKEN}\n")
    backend.write("a", "x")
    keys.agent.tokens["another"] = keys.agent.tokens.pop(TOKEN)
    with pytest.raises(BackendLoginRefused, match="for none"):
        backend.read("a")
    file.write_text("another")
    assert plain(backend.read("a")) == "x"
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(file))
    assert plain(once().read("a")) == "x"
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "none")
    with pytest.raises(BackendLoginRefused):
        once().read("a")
    given = open_backend("consul:shop", credentials={"CONSUL_HTTP_TOKEN": Secret("another")})
    assert plain(given.read("a")) == "x"
    monkeypatch.setenv("SHOP_TOKEN", "another")
    assert plain(once("env=SHOP_TOKEN").read("a")) == "x"


def test_a_token_goes_into_a_header_and_never_into_a_url(backend: OpenBackend, keys: Keys) -> None:
    backend.write("a", "x")
    backend.read("a")
    backend.list()
    for exchange in keys.proxy.exchanges:
        assert exchange.headers["x-consul-token"] == TOKEN
        assert TOKEN not in exchange.path


@pytest.mark.parametrize("token", ["a\nX-Canary: 1", "ü", "a\x00b"])
def test_a_token_that_is_no_header_is_refused_and_not_shown(token: str, keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"canary{token}canary")
    with pytest.raises(BackendLoginRefused) as refused:
        once(f"file={file}").write("a", "x")
    assert "canary" not in refused.value.message
    assert keys.targets == []


def test_without_a_token_one_is_anonymous(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSUL_HTTP_TOKEN")
    keys.agent.put("shop/a", b"x")
    with pytest.raises(BackendLoginRefused, match="wants a token") as refused:
        once().read("a")
    assert "CONSUL_HTTP_TOKEN" in refused.value.hint
    with pytest.raises(BackendLoginRefused, match="wants a token"):
        once().write("a", "y")
    keys.agent.tokens[""] = Rights(("shop/",), ())
    assert plain(once().read("a")) == "x"


def test_what_may_not_be_seen_is_denied_and_not_left_out(backend: OpenBackend, keys: Keys) -> None:
    for path in ("open/a", "shut/a"):
        backend.write(path, "x")
    keys.agent.tokens[TOKEN] = Rights(("shop/open/",), ("shop/open/",))
    assert backend.list("open/").paths == ["open/a"]
    assert list(backend.read_many(["open/a", "open/b"])) == ["open/a"]
    for call in (
        backend.list,
        lambda: backend.list("shut/"),
        lambda: backend.read("shut/a"),
        lambda: backend.read_many(["open/a", "shut/a"]),
        lambda: backend.write("shut/a", "y"),
        lambda: backend.delete("shut/a"),
        lambda: next(backend.watch()),
    ):
        with pytest.raises(BackendDenied) as refused:
            call()
        assert "AccessorID" not in refused.value.message + refused.value.hint
    assert keys.agent.keys["", "shop/shut/a"].value == b"x"


def test_the_policies_of_the_page_are_enough_and_not_more(backend: OpenBackend, keys: Keys) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "backend-consul.md").read_text(encoding="utf-8")
    reading, everything = re.findall(r'^key_prefix "([^"]+)" \{ policy = "(read|write)" \}$', page, re.MULTILINE)
    assert (reading[1], everything[1]) == ("read", "write")
    keys.agent.tokens[TOKEN] = Rights((everything[0],), (everything[0],))
    version = backend.write("a", "1", expect="")
    backend.write("a", "2", expect=version)
    backend.write("b", "3")
    backend.delete("b")
    keys.agent.tokens[TOKEN] = Rights((reading[0],), ())
    assert plain(backend.read("a")) == "2"
    assert list(backend.read_many(["a"])) == backend.list().paths == ["a"]
    assert next(backend.watch()) == Changes((), is_whole=True)
    for call in (lambda: backend.write("a", "4"), lambda: backend.delete("a")):
        with pytest.raises(BackendDenied):
            call()


# --- data centers, namespaces and partitions --------------------------------------------------------------------------


def test_a_data_center_that_is_not_there_is_not_reached(keys: Keys) -> None:
    for call in (lambda: once("dc=dc9").read("a"), lambda: once("dc=dc9").write("a", "x")):
        with pytest.raises(BackendNotReached) as refused:
            call()
        assert "dc" in refused.value.hint
    once("dc=dc1").write("a", "x")
    assert all("?dc=dc" in target for target in keys.targets)


def test_a_namespace_that_consul_does_not_know_is_not_written_into_another(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ("namespace=team", "partition=team"):
        backend = once(options)
        calls: list[Callable[[], object]] = [
            partial(backend.write, "a", "x"),
            partial(backend.read, "a"),
            partial(backend.read_many, ["a"]),
        ]
        for call in calls:
            with pytest.raises(BackendRefused) as refused:
                call()
            assert "Enterprise" in refused.value.hint
    assert keys.agent.keys == {}
    assert not any("txn" in target for target in keys.targets)
    monkeypatch.setenv("CONSUL_NAMESPACE", "team")
    keys.proxy.fail_next(Reset())
    with pytest.raises(BackendNotReached):  # nothing was sent that could be in doubt
        once().write("a", "x")


def test_namespaces_are_apart(keys: Keys) -> None:
    keys.agent.is_enterprise = True
    team, other = once("namespace=team&partition=west"), once("namespace=other")
    team.write("a", "1")
    team.write("a", "2")
    other.write("a", "3")
    assert [plain(each.read("a")) for each in (team, other)] == ["2", "3"]
    assert plain(team.read_many(["a"])["a"]) == "2"
    assert sum("keys=" in target for target in keys.targets) == 2
    [operation] = json.loads(keys.proxy.exchanges[1].body)
    assert (operation["KV"]["Namespace"], operation["KV"]["Partition"]) == ("team", "west")


# --- values and keys --------------------------------------------------------------------------------------------------


def test_what_others_wrote_is_text_fields_or_bytes(backend: OpenBackend, keys: Keys) -> None:
    held: dict[str, tuple[bytes, Any]] = {
        "text": (b"hunter2", "hunter2"),
        "empty": (b"", ""),
        "fields": (b'{"user": "web", "port": 5432}', {"user": "web", "port": "5432"}),
        "bytes": (b"\xff\x00\xfe", b"\xff\x00\xfe"),
    }
    for path, (raw, _) in held.items():
        keys.agent.put(f"shop/{path}", raw)
    assert {path: plain(backend.read(path)) for path in held} == {path: value for path, (_, value) in held.items()}
    found = backend.read_many(held)
    assert {path: plain(each) for path, each in found.items()} == {path: value for path, (_, value) in held.items()}


def test_bytes_that_are_utf_8_and_values_that_are_too_long_are_refused_before_anything_is_sent(
    backend: OpenBackend, keys: Keys
) -> None:
    with pytest.raises(Unsupported):
        backend.write("a", b"text")
    with pytest.raises(ValueTooLarge):
        backend.write("a", {"a": '"' * (kv_module.VALUE_BYTES_MAX - 100)})
    with pytest.raises(InvalidPath):
        backend.write("a/\ufffd", "x")
    assert keys.targets == []


def test_the_longest_value_fits_beside_the_longest_key(backend: OpenBackend) -> None:
    backend.write('"' * 1_024, "y" * kv_module.VALUE_BYTES_MAX)


def test_a_value_that_the_agent_takes_for_too_long_is_too_long(backend: OpenBackend, keys: Keys) -> None:
    keys.proxy.fail_next(Answer(413, b"Request body(533388 bytes) too large, canary"))
    with pytest.raises(ValueTooLarge) as refused:
        backend.write("a", "x")
    assert "canary" not in refused.value.message + refused.value.hint


def test_names_that_are_no_paths_are_passed_over(backend: OpenBackend, keys: Keys) -> None:
    for key in ("good", "", "folder/", "a//b", "st*r", "nu\u0308", "\ufffd", "a\nb"):
        keys.agent.put(f"shop/{key}", b"x")
    keys.agent.put("shop2/a", b"x")
    found = backend.list()
    assert (found.paths, found.passed_over) == (["good"], 7)


def test_without_a_folder_everything_is_listed(keys: Keys) -> None:
    backend = open_backend("consul:", patience=HASTY)
    keys.agent.put("elsewhere/a", b"x")
    backend.write("b", "x")
    assert backend.list().paths == ["b", "elsewhere/a"]


# --- indexes ----------------------------------------------------------------------------------------------------------


def test_a_version_is_the_index_of_the_last_change(backend: OpenBackend, keys: Keys) -> None:
    version = backend.write("a", "x", expect="")
    assert str(keys.agent.keys["", "shop/a"].modified) == version
    keys.agent.put("shop/b", b"x")
    assert backend.read("a").version.id == version
    assert backend.write("a", "x", expect=version) == version  # nothing changes by it
    newer = backend.write("a", "y", expect=version)
    assert int(newer) > int(version)
    with pytest.raises(StaleWrite):
        backend.write("a", "z", expect=version)
    keys.agent.remove("shop/a")
    with pytest.raises(StaleWrite):
        backend.write("a", "z", expect=newer)


@pytest.mark.parametrize("version", ["0", "-1", "01", "1.0", " 1", "1_0", "٣", "9" * 19, "latest"])
def test_a_text_that_is_no_index_is_not_sent_to_compare(version: str, backend: OpenBackend, keys: Keys) -> None:
    with pytest.raises(StaleWrite):
        backend.write("a", "y", expect=version)
    assert keys.targets == []


def test_a_deletion_is_one_request_that_says_whether_there_was_anything(backend: OpenBackend, keys: Keys) -> None:
    backend.write("a", "x")
    before = len(keys.targets)
    backend.delete("a")
    with pytest.raises(SecretNotFound):
        backend.delete("a")
    assert keys.targets[before:] == ["PUT txn", "PUT txn"]


def test_what_knows_no_such_reading_is_too_old(backend: OpenBackend, keys: Keys) -> None:
    keys.agent.knows_get_or_empty = False
    with pytest.raises(BackendRefused) as refused:
        backend.read_many(["a"])
    assert "1.14" in refused.value.hint


def test_several_are_read_64_at_a_time(backend: OpenBackend, keys: Keys) -> None:
    for number in range(70):
        keys.agent.put(f"shop/{number}", str(number).encode())
    found = backend.read_many(map(str, range(71)))
    assert {path: plain(each) for path, each in found.items()} == {str(n): str(n) for n in range(70)}
    assert keys.targets == ["PUT txn", "PUT txn"]


# --- watches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_module, "WATCH_S", QUICK_S)


def test_a_watch_waits_no_longer_than_ten_seconds_with_what_consul_adds() -> None:
    assert kv_module.WATCH_S + kv_module.WATCH_S / 16 < 10


@pytest.mark.usefixtures("quick")
def test_a_watch_says_something_in_time_and_what_changed(backend: OpenBackend, keys: Keys) -> None:
    keys.agent.put("shop/before", b"x")
    watching = backend.watch()
    assert [next(watching) for _ in range(3)] == [Changes((), is_whole=True)] * 3
    keys.agent.put("shop/a", b"x")
    keys.agent.put("shop/folder/", b"x")
    keys.agent.put("elsewhere/a", b"x")
    found = next(watching).paths + next(watching).paths
    assert found == ("a",)
    keys.agent.remove("shop/before")
    keys.agent.put("shop/a", b"y")
    found = next(watching).paths + next(watching).paths
    assert set(found) == {"a", "before"}
    watching.close()
    assert keys.targets[0] == "GET kv/shop/?recurse="
    assert f"wait={QUICK_S}s" in keys.targets[-1]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", [Reset(), CutOff(), Answer(500, b"canary"), Answer(200, b"canary")])
def test_a_watch_that_is_broken_off_misses_nothing(fault: Any, backend: OpenBackend, keys: Keys) -> None:  # noqa: ANN401 - of any kind
    watching = backend.watch()
    next(watching)
    keys.proxy.fail_next(fault)
    keys.agent.put("shop/a", b"x")
    assert next(watching) == Changes(("a",), is_whole=True)
    keys.proxy.fail_next(fault, fault)
    assert next(watching) == Changes((), is_whole=False)
    watching.close()


@pytest.mark.usefixtures("quick")
def test_a_watch_that_is_asked_too_often_goes_on_when_it_may(keys: Keys) -> None:
    watching = open_backend("consul:shop", patience=ONCE).watch()
    next(watching)
    before = len(keys.targets)
    keys.proxy.fail_next(Answer(429, b"", {"Retry-After": "1"}))
    with pytest.raises(BackendNotReached):
        next(watching)
    assert len(keys.targets) - before == 1


@pytest.mark.usefixtures("quick")
def test_an_index_that_goes_back_or_is_none_neither_loops_nor_loses_anything(backend: OpenBackend, keys: Keys) -> None:
    watching = backend.watch()
    next(watching)
    entry = b'[{"Key":"shop/a","ModifyIndex":3,"Value":null,"Flags":0,"CreateIndex":3,"LockIndex":0}]'
    keys.proxy.fail_next(Answer(200, entry, {"X-Consul-Index": "3"}), Answer(200, entry, {"X-Consul-Index": "0"}))
    assert next(watching).paths == ("a",)
    assert next(watching).paths == ()
    keys.agent.put("shop/b", b"x")
    assert set(next(watching).paths) == {"a", "b"}  # the first is not there in truth
    assert "index=3&" in keys.targets[2]
    assert "index=1&" in keys.targets[3]
    watching.close()


def test_a_change_is_seen_while_it_is_waited_for(backend: OpenBackend, keys: Keys) -> None:
    watching = backend.watch()
    next(watching)
    threading.Timer(0.1, keys.agent.put, ("shop/a", b"x")).start()
    assert next(watching) == Changes(("a",), is_whole=True)
    watching.close()


# --- refusals ---------------------------------------------------------------------------------------------------------

STALE = b'{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to set key \\"canary\\", index is stale"}]}'
REFUSALS: list[tuple[Any, type[SecurecfgError]]] = [
    (Answer(403, b"ACL not found"), BackendLoginRefused),
    (Answer(403, b"token does not exist: ACL not found"), BackendLoginRefused),
    (Answer(401, b"canary"), BackendLoginRefused),
    (Answer(403, DENIED.encode()), BackendDenied),
    (Answer(403, b"Endpoint is blocked by agent configuration"), BackendDenied),
    (Answer(409, json.dumps({"Errors": [{"OpIndex": 0, "What": DENIED}]}).encode()), BackendDenied),
    (Answer(409, b'{"Errors":[{"OpIndex":0,"What":"canary"}]}'), BackendRefused),
    (Answer(409, STALE), BackendRefused),
    (Answer(400, b"Failed to parse body: canary"), BackendRefused),
    (Answer(404, b"canary"), BackendRefused),
    (Answer(413, b"canary"), ValueTooLarge),
    (Answer(429, b"canary"), BackendNotReached),
    (Answer(500, b"No cluster leader"), BackendNotReached),
    (Answer(500, b"rpc error making call: No cluster leader"), BackendNotReached),
    (Answer(503, b"rate limit exceeded for operation that can only be performed by the leader"), BackendNotReached),
    (Answer(503, b"canary"), CommitUnknown),
    (Answer(500, b"leadership lost while committing log"), CommitUnknown),
    (Answer(500, b"\xff"), CommitUnknown),
    (Reset(), CommitUnknown),
    (CutOff(), CommitUnknown),
    (Answer(200, b"true"), CommitUnknown),
    (Answer(204, b""), CommitUnknown),
    (Answer(200, b'{"Results":[],"Errors":null}'), CommitUnknown),
    (Answer(200, b'{"Results":[{"KV":{"Key":"other","Value":null,"ModifyIndex":7}}]}'), CommitUnknown),
    (Answer(200, b'{"Results":[{"KV":{"Key":"shop/a","Value":null,"ModifyIndex":0}}]}'), CommitUnknown),
    (Answer(200, b"[" * 100_000), CommitUnknown),
    (Answer(409, b"canary"), CommitUnknown),
]


@pytest.mark.parametrize(
    ("answer", "error"), REFUSALS, ids=[f"{number}-{error.code}" for number, (_, error) in enumerate(REFUSALS)]
)
def test_each_refusal_of_a_write_has_its_name(answer: Any, error: type[SecurecfgError], keys: Keys) -> None:  # noqa: ANN401 - of any kind
    keys.proxy.fail_next(answer)
    with pytest.raises(SecurecfgError) as refused:
        once().write("a", "x")
    assert type(refused.value) is error
    assert not any(word in refused.value.message + refused.value.hint for word in ("canary", "AccessorID"))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (404, {}, b"not found"),  # by something that is no Consul
        (200, {}, b"[]"),
        (200, {"X-Consul-Index": "7"}, b""),
        (200, {"X-Consul-Index": "7"}, b"canary"),
        (200, {"X-Consul-Index": "7"}, b"{}x"),
        (200, {"X-Consul-Index": "7"}, b"[1]"),
        (200, {"X-Consul-Index": "canary"}, b'[{"Key":"shop/a","ModifyIndex":"7","Value":null}]'),
        (200, {"X-Consul-Index": "7"}, b'[{"Key":"shop/a","ModifyIndex":7,"Value":"!"}]'),
        (200, {"X-Consul-Index": "7"}, b'[{"Key":"shop/b","ModifyIndex":7,"Value":"Y2FuYXJ5"}]'),
        (200, {"X-Consul-Index": "7"}, b'[{"Key":"other/a","ModifyIndex":0,"Value":null},{}]'),
        (200, {"X-Consul-Index": "7"}, b'["other/a"]'),
    ],
)
def test_an_answer_that_makes_no_sense_is_no_secret(
    status: int, headers: dict[str, str], body: bytes, keys: Keys
) -> None:
    keys.proxy.fail(Answer(status, body, headers))
    backend = once()
    for call in (lambda: backend.read("a"), backend.list, lambda: backend.read_many(["a"])):
        with pytest.raises((BackendUnavailable, BackendRefused)) as refused:
            call()
        assert "canary" not in refused.value.message + refused.value.hint


def test_connections_log_nothing_of_what_they_send(
    backend: OpenBackend, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    backend.write("a", "canary-value")
    assert plain(backend.read("a")) == "canary-value"
    assert TOKEN not in caplog.text
    assert "canary-value" not in caplog.text


def test_a_proxy_is_not_told_what_is_for_this_machine(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyProxy("127.0.0.1", closed_port()) as proxy:
        for variable in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        once().write("a", "x")
        assert proxy.exchanges == []
