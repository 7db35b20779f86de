"""`gcpsm:` against a service made of Google's published classes, with a proxy before it where it has to fail."""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.backends import Kind, State, open_backend
from securecfg.backends.gcpsm import VALUE_BYTES_MAX
from securecfg.backends.gcpsm_names import name_of, path_of
from securecfg.errors import (
    AlreadyExists,
    BackendDenied,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidMetadata,
    InvalidPath,
    SecretDestroyed,
    SecretNotFound,
    SecurecfgError,
    Unsupported,
    ValueTooLarge,
    VersionDisabled,
    VersionNotFound,
)
from securecfg.keys.gcp import crc32c
from securecfg.patience import Patience
from securecfg.testing.backend_conformance import HASTY, plain
from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, Reset
from tests.backends.gcp.secret_manager import NUMBER, SecretManager
from tests.backends.gcp.secret_manager import State as GoogleState
from tests.keys.gcp import READER, everything_logged, refusal, write_account

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.backends import OpenBackend
    from securecfg.testing.faulty_proxy import Exchange, Fault, FaultyProxy
    from tests.backends.gcp.secret_manager import Held

Message = Any
"""A message of Google's, whose types are there when the client is installed."""

CANARY = "canary-value-4711"
HANDED_ON = Delay(0)
THROTTLED = refusal(429, "RESOURCE_EXHAUSTED")
STALE = refusal(400, "FAILED_PRECONDITION")


@pytest.fixture
def uri(proxy: FaultyProxy) -> str:
    return f"gcpsm:projects/shop?endpoint={proxy.url}"


@pytest.fixture
def backend(uri: str) -> OpenBackend:
    return open_backend(uri, patience=HASTY)


@pytest.fixture
def annotated(uri: str) -> OpenBackend:
    return open_backend(f"{uri}&annotations=yes", patience=HASTY)


@pytest.fixture
def reader(uri: str, account: Path, proxy: FaultyProxy) -> OpenBackend:
    """Whose credentials may read values, and nothing else."""
    write_account(account, READER)
    return open_backend(uri, patience=HASTY)


def held(service: SecretManager, name: str) -> Held:
    return service.secrets[f"{NUMBER}/secrets/{name}"]


def asked(exchanges: list[Exchange]) -> list[str]:
    """Return what was asked for, below the project."""
    found = [exchange.path.partition("?")[0].removeprefix("/v1/projects/shop/secrets") for exchange in exchanges]
    return [f"{exchange.method} {path}" for exchange, path in zip(exchanges, found, strict=True)]


# --- names ------------------------------------------------------------------------------------------------------------


@given(st.from_regex(r"[A-Za-z0-9_-]{1,24}", fullmatch=True))
def test_a_name_that_stands_for_a_path_is_the_one_of_that_path(name: str) -> None:
    path = path_of(name)
    assert not path or name_of(path) == name


@given(st.text("ab_9-/", min_size=1, max_size=24))
def test_a_path_that_can_be_held_is_the_one_of_its_name(path: str) -> None:
    try:
        name = name_of(path)
    except InvalidPath:
        return
    assert path_of(name) == path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a", "a"),
        ("DB_PASSWORD", "DB_PASSWORD"),
        ("db-password", "db-password"),
        ("shop/db/main-1", "shop--db--main-1"),
    ],
)
def test_a_slash_is_two_hyphens_and_everything_else_as_it_is(
    path: str, name: str, backend: OpenBackend, service: SecretManager
) -> None:
    backend.write(path, "1")
    assert list(service.secrets) == [f"{NUMBER}/secrets/{name}"]
    assert backend.list().paths == [path]


@pytest.mark.parametrize(
    "path",
    [
        "a--b",
        "-a",
        "a-",
        "a-/b",
        "a/-b",
        "a.b",
        "a b",
        "a~b",
        "a%2Fb",
        "grüße",
        "٣",
        "a:b",
        "x" * 256,
        "x/" * 100 + "x" * 56,
    ],
)
def test_what_google_takes_as_no_name_is_no_path(path: str, backend: OpenBackend, proxy: FaultyProxy) -> None:
    for call in (
        lambda: backend.read(path),
        lambda: backend.read_many(["a", path]),
        lambda: backend.versions(path),
        lambda: backend.write(path, "x"),
        lambda: backend.label(path, "canary", None),
        lambda: backend.delete(path),
    ):
        with pytest.raises(InvalidPath):
            call()
    assert [exchange for exchange in proxy.exchanges if "/secrets/a/" not in exchange.path] == []


def test_the_longest_name_is_held(backend: OpenBackend) -> None:
    path = "x/" * 84 + "x" * 3
    assert len(name_of(path)) == 255
    backend.write(path, "1")
    assert plain(backend.read(path)) == "1"


def test_names_that_are_no_paths_are_counted(backend: OpenBackend, service: SecretManager) -> None:
    for name in ("A_b-c", "app--x", "-a", "a-", "a---b", "app----x", "--a", "app---x"):
        service.put(name, b"1")
    assert backend.list() == (["A_b-c", "app/x"], 6)
    assert backend.list("app/") == (["app/x"], 2)


def test_secrets_of_another_place_are_not_seen(uri: str, service: SecretManager, proxy: FaultyProxy) -> None:
    location = "projects/shop/locations/europe-west3"
    service.put("a", b"global")
    service.put("a", b"regional", parent=location)
    service.put("b", b"elsewhere", parent="projects/shop/locations/europe-west1")
    service.put("c", b"elsewhere", parent="projects/shopping")
    regional = open_backend(uri.replace("projects/shop", location), patience=HASTY)
    assert regional.list() == (["a"], 0)
    assert plain(regional.read("a")) == "regional"
    assert plain(open_backend(uri).read("a")) == "global"
    regional.write("new", "1")
    assert f"{NUMBER}/locations/europe-west3/secrets/new" in service.secrets


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"plain\n", "plain\n"),
        ("Grüße".encode(), "Grüße"),
        (b"\xef\xbb\xbfx", "\ufeffx"),
        (b"\x00", "\x00"),
        (b'{"engine": "postgres", "port": 5432, "ssl": true}', {"engine": "postgres", "port": "5432", "ssl": "true"}),
        (b'{"a": {"b": "c"}}', '{"a": {"b": "c"}}'),
        ("Grüße".encode("latin-1"), "Grüße".encode("latin-1")),
        ("x".encode("utf-16"), b"\xff\xfex\x00"),
        (b'{"a": "\xff"}', b'{"a": "\xff"}'),
    ],
)
def test_what_others_wrote_is_read_as_what_it_is(
    payload: bytes, value: object, backend: OpenBackend, uri: str, service: SecretManager
) -> None:
    service.put("a", payload)
    assert plain(backend.read("a")) == value
    assert plain(open_backend(f"{uri}&values=bytes").read("a")) == payload


def test_each_kind_lies_where_others_look_for_it(backend: OpenBackend, service: SecretManager) -> None:
    for path, value in (("text", "Grüße"), ("bytes", b"\x00\xff"), ("fields", {"user": "web", "Paß": "wört"})):
        backend.write(path, value)
    assert held(service, "text").versions[0].payload == "Grüße".encode()
    assert held(service, "bytes").versions[0].payload == b"\x00\xff"
    assert held(service, "fields").versions[0].payload == '{"user":"web","Paß":"wört"}'.encode()


@pytest.mark.parametrize("value", [b"text", b"\x00", "Grüße".encode(), b'{"a": "b"}'])
def test_bytes_that_would_come_back_as_text_are_refused_unless_all_values_are_bytes(
    value: bytes, backend: OpenBackend, uri: str, proxy: FaultyProxy
) -> None:
    with pytest.raises(Unsupported) as refused:
        backend.write("a", value)
    assert "values=bytes" in refused.value.hint
    assert proxy.exchanges == []
    of_bytes = open_backend(f"{uri}&values=bytes")
    assert of_bytes.capabilities.kinds == {Kind.BYTES}
    of_bytes.write("a", value)
    assert plain(of_bytes.read("a")) == value


@pytest.mark.parametrize("content", ["text", {"a": "b"}])
def test_where_all_values_are_bytes_no_others_are_written(
    content: str | dict[str, str], uri: str, proxy: FaultyProxy
) -> None:
    with pytest.raises(Unsupported):
        open_backend(f"{uri}&values=bytes").write("a", content)
    assert proxy.exchanges == []


@pytest.mark.parametrize("value", ["", b""])
def test_an_empty_value_is_refused_before_anything_is_sent(
    value: str | bytes, backend: OpenBackend, uri: str, proxy: FaultyProxy
) -> None:
    for each in (backend, open_backend(f"{uri}&values=bytes")):
        with pytest.raises(Unsupported):
            each.write("a", value)
    assert proxy.exchanges == []


def test_fields_are_measured_with_their_json(backend: OpenBackend, proxy: FaultyProxy) -> None:
    overhead = len('{"a":""}')
    fits = {"a": "x" * (VALUE_BYTES_MAX - overhead)}
    backend.write("a", fits)
    assert plain(backend.read("a")) == fits
    proxy.exchanges.clear()
    with pytest.raises(ValueTooLarge):
        backend.write("a", {"a": "x" * (VALUE_BYTES_MAX - overhead + 1)})
    assert proxy.exchanges == []


# --- checksums --------------------------------------------------------------------------------------------------------


def test_what_is_sent_has_its_checksum(backend: OpenBackend, service: SecretManager, proxy: FaultyProxy) -> None:
    service.put("a")
    backend.write("a", CANARY)
    sent = json.loads(proxy.exchanges[-1].body)["payload"]
    assert base64.b64decode(sent["data"]).decode() == CANARY
    assert int(sent["dataCrc32c"]) == crc32c(CANARY.encode())


@pytest.mark.parametrize("altered", [{"dataCrc32c": "1"}, {"dataCrc32c": None}, {"data": "AAAA"}, {"data": ""}])
def test_what_is_read_is_taken_only_with_its_checksum(
    altered: dict[str, Any], backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", CANARY.encode())
    backend.read("a")
    answer = json.loads(proxy.ask(proxy.exchanges[-1]).body)
    answer["payload"] |= altered
    proxy.fail_next(Answer(200, json.dumps(answer).encode()))
    assert plain(backend.read("a")) == CANARY
    proxy.fail(Answer(200, json.dumps(answer).encode()))
    with pytest.raises(BackendUnavailable):
        backend.read("a")


def test_a_write_that_google_did_not_check_is_in_doubt(
    backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a")
    answer = {"name": f"{NUMBER}/secrets/a/versions/1", "state": "ENABLED"}
    proxy.fail(Answer(200, json.dumps({**answer, "clientSpecifiedPayloadChecksum": True}).encode()))
    assert backend.write("a", "1") == "1"
    proxy.fail(Answer(200, json.dumps(answer).encode()))
    with pytest.raises(CommitUnknown):
        backend.write("a", "1")


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_read_is_one_request(backend: OpenBackend, service: SecretManager, proxy: FaultyProxy) -> None:
    service.put("app--a", b"1", b"2")
    assert backend.read("app/a").version == ("2", State.LIVE, None, ())
    assert backend.read("app/a", "1").version.id == "1"
    assert asked(proxy.exchanges) == ["GET /app--a/versions/latest:access", "GET /app--a/versions/1:access"]


@pytest.mark.parametrize("fault", [THROTTLED, refusal(503, "UNAVAILABLE")])
def test_a_read_that_is_refused_is_asked_once_by_the_client(fault: Fault, uri: str, proxy: FaultyProxy) -> None:
    proxy.fail(fault)
    with pytest.raises(BackendUnavailable):
        open_backend(uri, patience=Patience(20.0, ())).read("a")
    assert len(proxy.exchanges) == 1


@pytest.mark.parametrize("version", ["3", "0", "01", "99999999999999999999", "no-such", "1a", "a b", "-", "a.b", "ä"])
def test_a_version_that_can_be_none_is_not_found(version: str, backend: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1", b"2")
    with pytest.raises(VersionNotFound):
        backend.read("a", version)
    with pytest.raises(SecretNotFound):
        backend.read("b", version)


@pytest.mark.parametrize("status", ["NOT_FOUND", "INVALID_ARGUMENT"])
def test_an_alias_that_google_does_not_know_is_no_version(
    status: str, backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1")
    proxy.fail_next(refusal(404 if status == "NOT_FOUND" else 400, status))
    with pytest.raises(VersionNotFound):
        backend.read("a", "canary")


def test_what_is_not_enabled_is_said_to_be_so(backend: OpenBackend, service: SecretManager) -> None:
    versions = service.put("a", b"1", b"2", b"3").versions
    versions[0].state, versions[1].state = GoogleState.DESTROYED, GoogleState.DISABLED
    assert [(each.id, each.state) for each in backend.versions("a")] == [
        ("3", State.LIVE),
        ("2", State.DISABLED),
        ("1", State.DESTROYED),
    ]
    with pytest.raises(SecretDestroyed):
        backend.read("a", "1")
    with pytest.raises(VersionDisabled):
        backend.read("a", "2")
    assert plain(backend.read("a")) == "3"
    versions[2].state = GoogleState.DISABLED
    with pytest.raises(VersionDisabled) as refused:
        backend.read("a")
    assert "`3`" in refused.value.message
    versions[2].state = GoogleState.DESTROYED
    with pytest.raises(SecretDestroyed):
        backend.read("a")
    assert backend.list().paths == ["a"]


def test_a_version_whose_key_is_switched_off_is_refused(
    backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1")
    proxy.fail_next(STALE)
    with pytest.raises(BackendRefused) as refused:
        backend.read("a")
    assert "FAILED_PRECONDITION" in refused.value.message


def test_who_may_only_read_is_told_what_can_be_told(reader: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1", b"2").versions[0].state = GoogleState.DISABLED
    service.put("empty")
    assert plain(reader.read("a")) == "2"
    with pytest.raises(BackendRefused) as refused:
        reader.read("a", "1")
    assert "disabled or destroyed" in refused.value.message
    assert "secretmanager.versions.get" in refused.value.hint
    with pytest.raises(VersionNotFound):
        reader.read("a", "7")
    for path in ("empty", "none/there"):
        with pytest.raises(SecretNotFound):
            reader.read(path)
    for call, permission in (
        (reader.list, "secrets.list"),
        (lambda: reader.versions("a"), "secrets.get"),
        (lambda: reader.write("a", "1"), "versions.add"),
        (lambda: reader.write("b", "1", expect=""), "secrets.create"),
        (lambda: reader.delete("a"), "secrets.delete"),
    ):
        with pytest.raises(BackendDenied) as denied:
            call()
        assert f"`secretmanager.{permission}`" in denied.value.hint


def test_versions_tell_when_they_were_made(backend: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1").versions[0].created = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    (version,) = backend.versions("a")
    assert version.created == datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    assert type(version.created) is datetime


def test_many_versions_are_listed_whole(backend: OpenBackend, service: SecretManager, proxy: FaultyProxy) -> None:
    service.put("a", *(b"%d" % number for number in range(1_003)))
    assert [each.id for each in backend.versions("a")] == [str(number) for number in range(1_003, 0, -1)]
    assert len(proxy.exchanges) == 3


def test_a_secret_without_a_version_is_listed_and_not_found_until_it_gets_one(
    backend: OpenBackend, service: SecretManager
) -> None:
    service.put("a")
    with pytest.raises(SecretNotFound):
        backend.read("a")
    assert backend.list().paths == ["a"]
    assert backend.versions("a") == []
    with pytest.raises(AlreadyExists) as refused:
        backend.write("a", "1", expect="")
    assert "`expect`" in refused.value.hint
    assert backend.write("a", "1") == "1"
    assert plain(backend.read("a")) == "1"


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_write_is_held_to_no_version(backend: OpenBackend, proxy: FaultyProxy) -> None:
    assert not backend.capabilities.compares
    assert not backend.capabilities.is_write_repeatable
    with pytest.raises(Unsupported):
        backend.write("a", "1", expect="1")
    assert proxy.exchanges == []


def test_a_secret_is_made_where_there_is_none(backend: OpenBackend, service: SecretManager, proxy: FaultyProxy) -> None:
    backend.write("a", "1")
    assert asked(proxy.exchanges) == ["POST /a:addVersion", "POST ", "POST /a:addVersion"]
    proxy.exchanges.clear()
    backend.write("a", "2")
    backend.write("b", "1", expect="")
    assert asked(proxy.exchanges) == ["POST /a:addVersion", "POST ", "POST /b:addVersion"]


def test_who_is_overtaken_while_a_secret_is_made_is_told(
    backend: OpenBackend, service: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = service.create_secret

    def create_secret(request: Message) -> Message:
        made = make(request)
        service._append(service.secrets[made.name], b"somebody else's")
        return made

    monkeypatch.setattr(service, "create_secret", create_secret)
    with pytest.raises(CommitUnknown) as refused:
        backend.write("a", CANARY, expect="")
    assert "as version 2" in refused.value.message
    assert [version.payload for version in held(service, "a").versions] == [b"somebody else's", CANARY.encode()]
    assert backend.write("b", CANARY) == "2"  # who expects nothing has lost nothing


def test_a_secret_that_is_deleted_while_it_is_made_is_made_again_unless_there_was_to_be_nothing(
    backend: OpenBackend, service: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, times = service.create_secret, 1

    def create_secret(request: Message) -> Message:
        nonlocal times
        made = make(request)
        if times:
            del service.secrets[made.name]
            times -= 1
        return made

    monkeypatch.setattr(service, "create_secret", create_secret)
    assert backend.write("a", "1") == "1"
    service.secrets.clear()
    times = 99
    with pytest.raises(BackendUnavailable) as refused:
        backend.write("a", "1")
    assert not isinstance(refused.value, CommitUnknown)
    with pytest.raises(CommitUnknown):
        backend.write("a", "1", expect="")
    assert service.secrets == {}


@pytest.mark.parametrize("expect", [None, ""])
def test_a_secret_that_is_not_known_yet_where_its_value_goes_is_not_taken_for_somebody_elses(
    expect: str | None, backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    if expect is None:
        proxy.fail_next(HANDED_ON)
    proxy.fail_next(HANDED_ON, refusal(404, "NOT_FOUND"))
    if expect is None:
        assert backend.write("a", "1") == "1"
        return
    with pytest.raises(CommitUnknown):
        backend.write("a", "1", expect="")
    assert held(service, "a").versions == []


def test_a_secret_that_is_made_and_gets_no_value_is_not_taken_for_somebody_elses(
    backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    proxy.fail_next(HANDED_ON, THROTTLED)
    with pytest.raises(CommitUnknown) as refused:
        backend.write("a", "1", expect="")
    assert "is made, and has no value yet" in refused.value.message
    assert len(proxy.exchanges) == 2
    assert held(service, "a").versions == []
    proxy.fail_next(HANDED_ON, HANDED_ON, THROTTLED)
    assert backend.write("b", "1") == "1"


@pytest.mark.parametrize("fault", [Reset(), CutOff(), refusal(500, "INTERNAL"), refusal(503, "UNAVAILABLE")])
@pytest.mark.parametrize("expect", [None, ""])
@pytest.mark.parametrize("before", [0, 1])
def test_a_step_of_a_write_without_an_answer_is_made_once(
    before: int, expect: str | None, fault: Fault, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    faults = [HANDED_ON] * before + [fault]
    if expect is None:
        proxy.fail_next(HANDED_ON)
    proxy.fail_next(*faults)
    with pytest.raises(CommitUnknown):
        backend.write("a", "1", expect=expect)
    assert len(proxy.exchanges) == len(faults) + (expect is None)


def test_writers_who_expect_nothing_lose_nothing(uri: str, service: SecretManager) -> None:
    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(lambda n: open_backend(uri, patience=HASTY).write("a", str(n)), range(6)))
    assert sorted(numbers) == [str(n) for n in range(1, 7)]
    assert {version.payload for version in held(service, "a").versions} == {b"%d" % n for n in range(6)}


def test_what_is_deleted_is_gone(backend: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1", b"2")
    backend.delete("a")
    assert service.secrets == {}
    with pytest.raises(Unsupported):
        backend.recover("a")
    assert backend.write("a", "3", expect="") == "1"


# --- aliases ----------------------------------------------------------------------------------------------------------


def test_aliases_are_labels_and_those_of_others_stay(backend: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1", b"2").version_aliases = {"theirs": 1, "prod": 1}
    backend.label("a", "prod", "2")
    assert held(service, "a").version_aliases == {"theirs": 1, "prod": 2}
    assert {each.id: each.labels for each in backend.versions("a")} == {"1": ("theirs",), "2": ("prod",)}
    assert plain(backend.read("a", "theirs")) == "1"
    assert plain(backend.read("a", "latest")) == "2"
    backend.label("a", "prod", None)
    assert held(service, "a").version_aliases == {"theirs": 1}


@pytest.mark.parametrize("label", ["latest", "NEW", "1", "1a", "-a", "a.b", "a b", "ä", "x" * 64])
def test_what_google_takes_as_no_alias_is_refused_before_anything_is_sent(
    label: str, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    with pytest.raises(InvalidMetadata):
        backend.label("a", label, "1")
    assert proxy.exchanges == []


@pytest.mark.parametrize("version", ["3", "0", "01", "prod", "latest", "99999999999999999999"])
def test_an_alias_points_at_a_version_that_is_there(
    version: str, backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1", b"2").version_aliases = {"prod": 1}
    with pytest.raises(VersionNotFound):
        backend.label("a", "canary", version)
    with pytest.raises(SecretNotFound):
        backend.label("b", "canary", version)
    with pytest.raises(VersionNotFound):
        backend.label("a", "canary", None)
    assert not any(exchange.method == "PATCH" for exchange in proxy.exchanges)


def test_an_alias_that_is_there_already_is_not_sent(
    backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1").version_aliases = {"prod": 1}
    backend.label("a", "prod", "1")
    assert held(service, "a").etag == 1
    assert [exchange.method for exchange in proxy.exchanges] == ["GET", "GET"]


def test_there_are_fifty_aliases_at_most(backend: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1").version_aliases = {f"a{number}": 1 for number in range(49)}
    backend.label("a", "prod", "1")
    with pytest.raises(InvalidMetadata):
        backend.label("a", "canary", "1")


def test_two_who_set_aliases_at_the_same_time_both_do(uri: str, service: SecretManager) -> None:
    service.put("a", b"1")
    names = [f"alias-{number}" for number in range(4)]
    patience = Patience(20.0, (0.05,) * 8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: open_backend(uri, patience=patience).label("a", name, "1"), names))
    assert sorted(held(service, "a").version_aliases) == names


def test_a_change_of_somebody_else_in_between_is_seen(
    backend: OpenBackend, service: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.put("a", b"1").version_aliases = {"theirs": 1}
    update, times = service.update_secret, 2

    def update_secret(request: Message) -> Message:
        nonlocal times
        if times:
            times -= 1
            held(service, "a").version_aliases |= {f"new-{times}": 1}
            held(service, "a").etag += 1
        return update(request)

    monkeypatch.setattr(service, "update_secret", update_secret)
    backend.label("a", "prod", "1")
    assert held(service, "a").version_aliases == {"theirs": 1, "new-0": 1, "new-1": 1, "prod": 1}
    times = 99
    with pytest.raises(BackendUnavailable) as refused:
        backend.label("a", "canary", "1")
    assert "somebody else" in refused.value.message


@pytest.mark.parametrize("fault", [Reset(), CutOff(), refusal(500, "INTERNAL")])
def test_an_alias_is_looked_up_again_and_set_once(
    fault: Fault, backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1")
    proxy.fail_next(fault)
    backend.label("a", "prod", "1")
    assert held(service, "a").version_aliases == {"prod": 1}
    proxy.exchanges.clear()
    proxy.fail_next(HANDED_ON, fault)
    with pytest.raises(CommitUnknown):
        backend.label("a", "prod", None)
    assert [exchange.method for exchange in proxy.exchanges] == ["GET", "PATCH"]


# --- annotations ------------------------------------------------------------------------------------------------------


def test_metadata_are_annotations_of_ours_and_no_others(annotated: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1").annotations = {"owner": "theirs", "securecfg.old": "1"}
    assert annotated.read("a").metadata == {"old": "1"}
    annotated.write("a", "2", metadata={"owner": "pay", "note": "Grüße"})
    assert held(service, "a").annotations == {
        "owner": "theirs",
        "securecfg.owner": "pay",
        "securecfg.note": "Grüße",
    }
    annotated.write("a", "3", metadata={})
    assert held(service, "a").annotations == {"owner": "theirs"}


@pytest.mark.parametrize("expect", [None, ""])
def test_a_new_secret_has_its_metadata_from_the_beginning(
    expect: str | None, annotated: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    annotated.write("a", "1", expect=expect, metadata={"owner": "pay"})
    assert held(service, "a").annotations == {"securecfg.owner": "pay"}
    assert not any(exchange.method == "PATCH" for exchange in proxy.exchanges)


def test_a_read_with_metadata_tells_the_aliases_too(annotated: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1", b"2").version_aliases = {"prod": 2, "old": 1}
    assert annotated.read("a").version == ("2", State.LIVE, None, ("prod",))


def test_without_annotations_no_metadata_are_written(backend: OpenBackend, proxy: FaultyProxy) -> None:
    with pytest.raises(Unsupported):
        backend.write("a", "1", metadata={"owner": "pay"})
    assert proxy.exchanges == []


@pytest.mark.parametrize(
    "metadata",
    [{"": "x"}, {"a b": "x"}, {"ä": "x"}, {"a/b": "x"}, {"a-": "x"}, {"x" * 54: "x"}, {"a": "x" * 16_384}],
    ids=["empty", "space", "umlaut", "slash", "hyphen at the end", "long name", "long text"],
)
def test_metadata_that_can_be_no_annotations_are_refused_before_anything_is_sent(
    metadata: dict[str, str], annotated: OpenBackend, proxy: FaultyProxy
) -> None:
    for expect in (None, ""):
        with pytest.raises(InvalidMetadata):
            annotated.write("a", "1", expect=expect, metadata=metadata)
    assert proxy.exchanges == []


def test_annotations_of_others_count_before_a_value_is_written(annotated: OpenBackend, service: SecretManager) -> None:
    service.put("a", b"1").annotations = {"theirs": "x" * 16_000}
    with pytest.raises(InvalidMetadata):
        annotated.write("a", "2", metadata={"a": "x" * 400})
    assert len(held(service, "a").versions) == 1


@pytest.mark.parametrize("fault", [Reset(), THROTTLED, refusal(403, "PERMISSION_DENIED"), refusal(500, "INTERNAL")])
@pytest.mark.parametrize("before", [2, 3])
def test_metadata_that_are_not_written_after_their_value_are_in_doubt(
    before: int, fault: Fault, annotated: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1")
    proxy.fail_next(*[HANDED_ON] * before, fault)
    with pytest.raises(CommitUnknown) as refused:
        annotated.write("a", "2", metadata={"owner": "pay"})
    assert "is written" in refused.value.message
    assert [version.payload for version in held(service, "a").versions] == [b"1", b"2"]


def test_a_look_at_the_metadata_before_a_write_leaves_nothing_in_doubt(
    annotated: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1")
    proxy.fail_next(Reset())
    annotated.write("a", "2", metadata={"owner": "pay"})
    assert len(held(service, "a").versions) == 2


def test_a_secret_without_an_etag_is_not_changed(
    backend: OpenBackend, service: SecretManager, proxy: FaultyProxy
) -> None:
    service.put("a", b"1")
    proxy.fail(Answer(200, json.dumps({"name": f"{NUMBER}/secrets/a"}).encode()))
    with pytest.raises(BackendUnavailable):
        backend.label("a", "prod", "1")
    assert not any(exchange.method == "PATCH" for exchange in proxy.exchanges)


def test_nothing_that_goes_wrong_shows_a_value(backend: OpenBackend, proxy: FaultyProxy) -> None:
    for fault in (refusal(400, "INVALID_ARGUMENT", CANARY), Answer(200, CANARY.encode()), Answer(400, CANARY.encode())):
        proxy.fail(fault)
        with pytest.raises(SecurecfgError) as raised:
            backend.write("a", CANARY)
        assert CANARY not in f"{raised.value} {raised.value.hint} {raised.value!r}"
        assert raised.value.__cause__ is None


def test_the_client_would_log_values_and_is_kept_from_it(backend: OpenBackend, proxy: FaultyProxy) -> None:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient
    from google.oauth2.service_account import Credentials

    google = SecretManagerServiceClient(
        transport="rest",
        credentials=Credentials.from_service_account_file(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]),  # type: ignore[no-untyped-call]  # no types
        client_options={"api_endpoint": proxy.url},
    )
    with everything_logged() as seen:
        backend.write("a", CANARY)
        assert plain(backend.read("a")) == CANARY
        assert seen == []
        google.add_secret_version(request={"parent": "projects/shop/secrets/a", "payload": {"data": CANARY.encode()}})
    assert base64.b64encode(CANARY.encode()).decode() in "".join(seen)
