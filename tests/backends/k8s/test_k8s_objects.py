"""What is kept in objects of Kubernetes: paths, values, metadata, versions; what others wrote; and what changes."""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.backends import Changes, Deletion, Kind, OpenBackend, State, open_backend
from securecfg.backends.interface import Writing
from securecfg.backends.k8s_objects import CONFIG_MAPS, MACHINERY, SECRETS, to_found, to_name, to_new, to_patch, to_path
from securecfg.errors import (
    AlreadyExists,
    BackendDenied,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidMetadata,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    Unsupported,
    ValueTooLarge,
)
from securecfg.patience import Patience
from securecfg.testing.backend_conformance import plain
from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, Reset
from securecfg.testing.kubernetes_api import VERBS, KubernetesApi, merged
from securecfg.testing.kubernetes_api import _Request as Handler
from securecfg.vault.paths import path_to_bytes
from tests.backends.k8s.cluster import backend as plug_in
from tests.backends.k8s.cluster import point_at, refusal, write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.backends import Content
    from securecfg.backends.k8s_objects import ObjectKind
    from securecfg.testing.faulty_proxy import FaultyProxy

HASTY = Patience(deadline_s=10.0, pauses_s=(0.01, 0.01))
PARTS = st.builds(
    "".join, st.tuples(st.sampled_from("a0"), st.text("a-0z9", max_size=8), st.sampled_from("z9"))
) | st.sampled_from("a0")


@pytest.fixture
def backend(token: str) -> OpenBackend:
    return open_backend("k8s:team", patience=HASTY)


@pytest.fixture
def config_maps(token: str) -> OpenBackend:
    return open_backend("k8s:team?kind=configmap", patience=HASTY)


def b64(part: str | bytes) -> str:
    return b64encode(part.encode() if isinstance(part, str) else part).decode()


def about(api: KubernetesApi, name: str, resource: str = "secrets") -> dict[str, Any]:
    found: dict[str, Any] = api.find("team", resource, name)["metadata"]
    return found


def asked(proxy: FaultyProxy) -> list[str]:
    return [f"{exchange.method} {exchange.path.partition('?')[0]}" for exchange in proxy.exchanges]


# --- paths ------------------------------------------------------------------------------------------------------------


@given(st.lists(PARTS, min_size=1, max_size=5).map("/".join))
def test_every_path_that_is_taken_comes_back_from_its_name(path: str) -> None:
    path_to_bytes(path)
    assert to_path(to_name(path)) == path


@given(st.lists(PARTS, min_size=1, max_size=5).map(".".join))
def test_every_name_of_an_object_is_a_path(name: str) -> None:
    assert to_name(to_path(name)) == name


@pytest.mark.parametrize("path", ["A", "a_b", "a.b", "a b", "-a", "a-", "a/-b", "a-/b", "ä", "a/B", "x" * 254, "a\n"])
def test_what_can_be_no_name_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath) as refused:
        to_name(path)
    assert "lower-case" in refused.value.hint


@pytest.mark.parametrize("name", ["", "A", "a..b", ".a", "a/b", "a_b", "a\n"])
def test_what_is_no_name_is_no_path(name: str) -> None:
    assert to_path(name) == ""


def test_the_longest_name_is_taken(backend: OpenBackend, api: KubernetesApi) -> None:
    path = "/".join(["x" * 62] * 4) + "-1"
    assert len(path) == 253
    backend.write(path, "1")
    assert list(api.all("team", "secrets")) == [path.replace("/", ".")]
    with pytest.raises(InvalidPath):
        backend.write(path + "2", "1")


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_text_is_the_key_value_and_fields_are_keys(backend: OpenBackend, api: KubernetesApi) -> None:
    backend.write("a", "Grüße")
    assert api.find("team", "secrets", "a")["data"] == {"value": b64("Grüße")}
    assert api.find("team", "secrets", "a")["type"] == "Opaque"
    backend.write("a", {"user": "web", "password": ""})
    assert api.find("team", "secrets", "a")["data"] == {"user": b64("web"), "password": ""}


def test_what_is_bytes_is_said_beside_a_secret_as_long_as_it_is(backend: OpenBackend, api: KubernetesApi) -> None:
    backend.write("a", {"text": "x", "key": b"also text", "zero": b"\0\xff"})
    assert about(api, "a")["annotations"] == {"securecfg/bytes": "key,zero"}
    assert plain(backend.read("a")) == {"text": "x", "key": b"also text", "zero": b"\0\xff"}
    backend.write("a", "text")
    assert about(api, "a")["annotations"] == {}
    backend.write("a", b"text")
    assert plain(backend.read("a")) == b"text"


def test_config_maps_tell_bytes_by_where_they_lie(config_maps: OpenBackend, api: KubernetesApi) -> None:
    config_maps.write("a", {"text": "x", "key": b"also text"})
    held = api.find("team", "configmaps", "a")
    assert (held["data"], held["binaryData"]) == ({"text": "x"}, {"key": b64("also text")})
    config_maps.write("a", b"\xff")
    held = api.find("team", "configmaps", "a")
    assert "data" not in held
    assert plain(config_maps.read("a")) == b"\xff"
    config_maps.write("a", "x")
    assert "binaryData" not in api.find("team", "configmaps", "a")
    assert plain(config_maps.read("a")) == "x"


@pytest.mark.parametrize("name", ["ключ", "a b", "a/b", ".", "..", "..a", "$patch", "x" * 254, "a\n"])
def test_a_field_that_can_be_no_key_is_refused(name: str, backend: OpenBackend, proxy: FaultyProxy) -> None:
    with pytest.raises(Unsupported):
        backend.write("a", {"b": "x", name: "x"})
    assert proxy.exchanges == []


def test_fields_of_which_value_is_the_only_one_are_refused(backend: OpenBackend, config_maps: OpenBackend) -> None:
    for store in (backend, config_maps):
        for part in ("text", b"bytes"):
            with pytest.raises(Unsupported):
                store.write("a", {"value": part})
        store.write("a", {"value": "x", "more": "y"})
        assert plain(store.read("a")) == {"value": "x", "more": "y"}


CONTENTS = st.one_of(
    st.text(),
    st.binary(),
    st.dictionaries(
        st.builds("".join, st.tuples(st.sampled_from("aZ0_-"), st.text("aZ0_-.", max_size=4))),
        st.one_of(st.text(), st.binary()),
        min_size=1,
    ).filter(lambda fields: fields.keys() != {"value"}),
)


@given(st.sampled_from([SECRETS, CONFIG_MAPS]), CONTENTS, CONTENTS, st.dictionaries(st.text(min_size=1), st.text()))
def test_a_value_comes_back_from_a_new_object_and_from_one_that_was_patched(
    kind: ObjectKind, first: Content, second: Content, metadata: dict[str, str]
) -> None:
    metadata = {key: text for key, text in metadata.items() if key.isprintable()}
    made = to_new(kind, "a", first, metadata)
    made["metadata"]["resourceVersion"] = "1"
    found = to_found(kind, json.loads(json.dumps(made)), "a")
    assert (plain(found), found.metadata) == (first, metadata)
    patched = merged(made, to_patch(kind, second, None, "1"))
    found = to_found(kind, patched, "a")
    assert (plain(found), found.metadata) == (second, metadata)
    assert to_found(kind, merged(patched, to_patch(kind, second, {}, None)), "a").metadata == {}


def test_the_limit_counts_values_and_not_their_keys(backend: OpenBackend, proxy: FaultyProxy, token: str) -> None:
    can = backend.capabilities
    assert can.value_bytes_max == 1 << 20
    # The handle counts names too, so a plug-in of its own shows what the server says.
    with pytest.raises(ValueTooLarge):
        plug_in().write("a", {"b": "x" * (1 << 19), "c": "x" * (1 << 19) + "x"}, Writing(None, None, ""))
    plug_in("k8s:team?kind=configmap").write("a", {"b": "x" * (1 << 19), "c": b"x" * (1 << 19)}, Writing("", None, ""))
    with pytest.raises(ValueTooLarge):
        plug_in("k8s:team?kind=configmap").write("a", "x" * (1 + (1 << 20)), Writing(None, None, ""))
    proxy.fail_next(refusal(413, "RequestEntityTooLarge"))
    with pytest.raises(ValueTooLarge):
        backend.write("a", "x")


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_metadata_are_one_annotation_and_those_of_others_stay(backend: OpenBackend, api: KubernetesApi) -> None:
    backend.write("a", "1", metadata={"owner": "pay", "of whom?": "Grüße\n"})
    api.put(
        "secrets", "a", metadata={"annotations": about(api, "a")["annotations"] | {"theirs": "x"}, "labels": {"b": "c"}}
    )
    backend.write("a", b"2", metadata={"owner": "web"})
    assert about(api, "a")["annotations"] == {
        "securecfg/metadata": '{"owner":"web"}',
        "securecfg/bytes": "value",
        "theirs": "x",
    }
    backend.write("a", "3", metadata={})
    assert about(api, "a")["annotations"] == {"theirs": "x"}
    assert about(api, "a")["labels"] == {"b": "c"}
    assert backend.read("a").metadata == {}


def test_metadata_and_value_are_written_in_one_request(backend: OpenBackend, proxy: FaultyProxy) -> None:
    backend.write("a", "1", expect="", metadata={"owner": "pay"})
    backend.write("a", "2", metadata={"owner": "web"})
    assert asked(proxy) == ["POST /api/v1/namespaces/team/secrets", "PATCH /api/v1/namespaces/team/secrets/a"]


def test_metadata_that_are_too_long_are_refused(backend: OpenBackend, api: KubernetesApi, proxy: FaultyProxy) -> None:
    with pytest.raises(InvalidMetadata):
        backend.write("a", "1", metadata={"note": "x" * (1 << 18)})
    assert proxy.exchanges == []
    api.put("secrets", "a", metadata={"annotations": {"theirs": "x" * 1000}})
    with pytest.raises(InvalidMetadata):
        backend.write("a", "1", metadata={"note": "x" * ((1 << 18) - 100)})


@pytest.mark.parametrize("broken", ["canary", "[]", '{"a":["canary"]}', '{"a":"b","a":"c"}', ""])
def test_metadata_that_somebody_broke_are_said_to_be(broken: str, backend: OpenBackend, api: KubernetesApi) -> None:
    backend.write("a", "1")
    api.put("secrets", "a", metadata={"annotations": {"securecfg/metadata": broken}})
    with pytest.raises(BackendRefused) as refused:
        backend.read("a")
    assert "securecfg/metadata" in refused.value.message
    assert "canary" not in str(refused.value)
    backend.write("a", "2", metadata={"owner": "pay"})
    assert backend.read("a").metadata == {"owner": "pay"}


def test_what_others_keep_in_annotations_is_no_metadata(backend: OpenBackend, api: KubernetesApi) -> None:
    # kubectl keeps a copy of the whole object there, the values with it.
    api.put("secrets", "a", metadata={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "canary"}})
    assert backend.read("a").metadata == {}


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_version_is_that_of_the_object_and_changes_with_all_that_is_in_it(
    backend: OpenBackend, api: KubernetesApi
) -> None:
    first = backend.write("a", "1")
    assert first == about(api, "a")["resourceVersion"]
    api.put("secrets", "a", metadata={"labels": {"b": "c"}})
    with pytest.raises(StaleWrite):
        backend.write("a", "2", expect=first)
    second = backend.read("a").version
    assert second.id != first
    assert second.state is State.LIVE
    assert second.created is not None
    assert abs(time.time() - second.created.timestamp()) < 60
    assert backend.write("a", "1") == second.id  # nothing changes, so nothing is written


def test_when_a_version_was_made_is_not_known_where_nobody_says(backend: OpenBackend, api: KubernetesApi) -> None:
    backend.write("a", "1")
    api.all("team", "secrets")["a"]["metadata"]["managedFields"] = [{"manager": "x"}]
    assert backend.read("a").version.created is None
    del api.all("team", "secrets")["a"]["metadata"]["managedFields"]
    assert backend.read("a").version.created is None


@pytest.mark.parametrize("expect", ["0", "00", "-1", "1.0", "abc", "٣", "9" * 21])
def test_what_can_be_no_version_is_stale_and_not_sent(expect: str, backend: OpenBackend, proxy: FaultyProxy) -> None:
    backend.write("a", "1")
    before = len(proxy.exchanges)
    with pytest.raises(StaleWrite):  # by 0 the server would compare nothing
        backend.write("a", "2", expect=expect)
    assert len(proxy.exchanges) == before


def test_a_write_that_expects_a_version_is_one_request(backend: OpenBackend, proxy: FaultyProxy) -> None:
    version = backend.write("a", "1", expect="")
    backend.write("a", "2", expect=version)
    sent = json.loads(proxy.exchanges[-1].body)
    assert sent["metadata"]["resourceVersion"] == version
    assert len(proxy.exchanges) == 2
    assert proxy.exchanges[-1].headers["content-type"] == "application/strategic-merge-patch+json"


def test_whoever_writes_whatever_there_is_meets_with_others(backend: OpenBackend, proxy: FaultyProxy) -> None:
    missing = refusal(404, "NotFound", name="a", kind="secrets")
    there = refusal(409, "AlreadyExists", name="a", kind="secrets")
    conflict = refusal(409, "Conflict", name="a", kind="secrets")
    backend.write("a", "1")
    proxy.fail_next(missing, CutOff())  # it went between, and making it anew has no answer
    with pytest.raises(CommitUnknown):
        backend.write("a", "2")
    proxy.fail_next(missing, there)  # and was made anew by somebody else
    backend.write("a", "3")
    assert plain(backend.read("a")) == "3"
    proxy.fail_next(missing, there, missing, there)
    backend.write("a", "4")  # an attempt later
    proxy.fail_next(conflict)
    backend.write("a", "5")
    assert plain(backend.read("a")) == "5"
    proxy.fail(conflict)
    with pytest.raises(BackendNotReached):  # nothing was written, which is known
        backend.write("a", "6")


def test_a_secret_that_is_gone_is_not_what_a_writer_expects(backend: OpenBackend) -> None:
    version = backend.write("a", "1")
    backend.delete("a")
    with pytest.raises(SecretNotFound):
        backend.write("a", "2", expect=version)


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_what_is_deleted_is_what_was_looked_at(backend: OpenBackend, api: KubernetesApi, proxy: FaultyProxy) -> None:
    backend.write("a", "1")
    uid = about(api, "a")["uid"]
    proxy.fail_next(Delay(0), refusal(409, "Conflict", name="a", kind="secrets"))
    backend.delete("a")  # another one had come into its place, and is looked at anew
    assert json.loads(proxy.exchanges[-1].body)["preconditions"] == {"uid": uid}
    assert api.all("team", "secrets") == {}
    with pytest.raises(SecretNotFound):
        backend.delete("a")


def test_what_waits_for_its_deletion_is_gone(backend: OpenBackend, api: KubernetesApi) -> None:
    version = backend.write("a", "1")
    api.put("secrets", "a", metadata={"finalizers": ["example.org/hold"]})
    backend.delete("a")
    assert "deletionTimestamp" in about(api, "a")
    assert backend.list().paths == []
    with pytest.raises(SecretNotFound):
        backend.read("a")
    with pytest.raises(SecretNotFound):
        backend.delete("a")
    with pytest.raises(AlreadyExists):
        backend.write("a", "2", expect="")
    with pytest.raises(StaleWrite):
        backend.write("a", "2", expect=version)
    with pytest.raises(BackendRefused) as refused:
        backend.write("a", "2")
    assert "goes with what was written" in refused.value.message


def test_what_fails_before_a_deletion_is_sent_leaves_nothing_in_doubt(backend: OpenBackend, proxy: FaultyProxy) -> None:
    backend.write("a", "1")
    proxy.fail_next(refusal(500), Reset())
    backend.delete("a")
    backend.write("a", "1")
    proxy.fail_next(Delay(0), Reset())
    with pytest.raises(CommitUnknown):
        backend.delete("a")


# --- what others wrote ------------------------------------------------------------------------------------------------


def test_secrets_of_others_are_read_as_they_are(backend: OpenBackend, api: KubernetesApi) -> None:
    docker = json.dumps({"auths": {"registry.example.org": {"auth": "eDp5"}}})
    api.put("secrets", "web-tls", type="kubernetes.io/tls", data={"tls.crt": b64("CERT"), "tls.key": b64("KEY")})
    api.put("secrets", "pull", type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": b64(docker)})
    api.put("secrets", "keystore", data={"store.jks": b64(b"\xfe\xed\xfe\xed"), "password": b64("x")})
    api.put("secrets", "alone", data={"value": b64(b"\xff")})
    api.put("secrets", "empty")
    api.put("secrets", "null", data={"a": None})
    assert plain(backend.read("web-tls")) == {"tls.crt": "CERT", "tls.key": "KEY"}
    assert plain(backend.read("pull")) == {".dockerconfigjson": docker}
    assert plain(backend.read("keystore")) == {"store.jks": b"\xfe\xed\xfe\xed", "password": "x"}
    assert plain(backend.read("alone")) == b"\xff"
    assert plain(backend.read("empty")) == {}
    assert plain(backend.read("null")) == {"a": ""}
    assert backend.list().paths == ["alone", "empty", "keystore", "null", "pull", "web-tls"]


def test_a_type_of_others_stays_and_has_its_keys(backend: OpenBackend, api: KubernetesApi) -> None:
    api.put("secrets", "tls", type="kubernetes.io/tls", data={"tls.crt": b64("1"), "tls.key": b64("1")})
    backend.write("tls", {"tls.crt": "2", "tls.key": "2"})
    assert api.find("team", "secrets", "tls")["type"] == "kubernetes.io/tls"
    with pytest.raises(BackendRefused) as refused:
        backend.write("tls", "text")
    assert "HTTP 422" in refused.value.message
    assert plain(backend.read("tls")) == {"tls.crt": "2", "tls.key": "2"}


def test_what_the_cluster_and_helm_keep_for_themselves_is_not_listed(
    backend: OpenBackend, config_maps: OpenBackend, api: KubernetesApi, proxy: FaultyProxy
) -> None:
    for number, machinery in enumerate(MACHINERY):
        api.put("secrets", f"machine-{number}", type=machinery, data={"release": b64("x")})
    backend.write("mine", "x")
    assert backend.list() == (["mine"], 0)
    assert plain(backend.read("machine-2")) == {"release": "x"}  # by its name it is read
    config_maps.list()
    assert "fieldSelector" not in proxy.exchanges[-1].path


def test_what_is_immutable_is_deleted_and_not_written(
    backend: OpenBackend, config_maps: OpenBackend, api: KubernetesApi
) -> None:
    for store, resource in ((backend, "secrets"), (config_maps, "configmaps")):
        store.write("a", "1")
        api.put(resource, "a", immutable=True)
        for value in ("2", b"\xff"):
            with pytest.raises(BackendRefused) as refused:
                store.write("a", value)
            assert "immutable" in refused.value.message
        store.delete("a")
        store.write("a", "2", expect="")


def test_the_two_kinds_do_not_know_of_each_other(backend: OpenBackend, config_maps: OpenBackend) -> None:
    backend.write("a", "secret")
    config_maps.write("a", "config")
    assert plain(backend.read("a")) == "secret"
    config_maps.delete("a")
    assert backend.list().paths == ["a"]


# --- listings ---------------------------------------------------------------------------------------------------------


def test_no_value_crosses_the_network_but_for_reading(
    backend: OpenBackend, api: KubernetesApi, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    send = Handler._send

    def note(self: Any, code: int, body: dict[str, Any], headers: dict[str, str]) -> None:  # noqa: ANN401 - a handler
        told.append((self.command, json.dumps(body)))
        send(self, code, body, headers)

    monkeypatch.setattr(Handler, "_send", note)
    backend.write("a", "canary")
    backend.write("a", "canary", expect=backend.write("a", "canary2"))
    backend.list()
    next(backend.watch())
    backend.delete("a")
    assert {command for command, _ in told} == {"POST", "PATCH", "GET", "DELETE"}
    assert not [body for _, body in told if b64("canary")[:6] in body]


def test_pages_are_asked_for_until_there_are_no_more(
    backend: OpenBackend, api: KubernetesApi, proxy: FaultyProxy
) -> None:
    for number in range(25):
        api.put("secrets", f"s-{number:02}")
    api.page_max = 10
    assert len(backend.list().paths) == 25
    assert len(proxy.exchanges) == 3
    assert "limit=500" in proxy.exchanges[0].path


def test_a_listing_whose_beginning_is_forgotten_goes_on(api: KubernetesApi, token: str) -> None:
    for number in range(25):
        api.put("secrets", f"s-{number:02}")
    api.page_max = 10
    names = plug_in().list("")
    found = [next(names) for _ in range(10)]
    api.forget()
    api.put("secrets", "s-99")
    api.remove("secrets", "s-00")
    found += names
    assert found == [f"s-{number:02}" for number in (*range(25), 99)]


def test_a_listing_that_cannot_go_on_begins_anew(backend: OpenBackend, api: KubernetesApi, proxy: FaultyProxy) -> None:
    for number in range(25):
        api.put("secrets", f"s-{number:02}")
    api.page_max = 10
    proxy.fail_next(Delay(0), refusal(410, "Expired"))
    assert len(backend.list().paths) == 25
    proxy.fail(refusal(410, "Expired"))
    with pytest.raises(BackendUnavailable):
        backend.list()


def test_a_server_that_gives_a_page_for_ever_is_left(backend: OpenBackend, proxy: FaultyProxy) -> None:
    page = {"kind": "SecretList", "items": [], "metadata": {"continue": "more", "resourceVersion": "1"}}
    proxy.fail(Answer(200, json.dumps(page).encode()))
    with pytest.raises(BackendUnavailable):
        backend.list()


def test_a_name_that_is_no_path_is_counted(backend: OpenBackend, api: KubernetesApi) -> None:
    api.put("secrets", "Not_A..Name")
    api.put("secrets", "a.b")
    assert backend.list() == (["a/b"], 1)
    assert backend.list("a/") == (["a/b"], 1)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("get", lambda backend: backend.read("a")),
        ("list", lambda backend: backend.list()),
        ("patch", lambda backend: backend.write("a", "x")),
        ("create", lambda backend: backend.write("b", "x", expect="")),
        ("delete", lambda backend: backend.delete("a")),
        ("watch", lambda backend: next(backend.watch())),
    ],
)
def test_a_right_that_is_missing_is_named(
    verb: str,
    call: Callable[[OpenBackend], object],
    backend: OpenBackend,
    api: KubernetesApi,
    token: str,
) -> None:
    backend.write("a", "1")
    api.tokens[token].remove(verb)
    with pytest.raises(BackendDenied) as refused:
        call(backend)
    assert f"`{verb}` on `secrets` in `team`" in refused.value.hint
    assert "serviceaccount" not in f"{refused.value} {refused.value.hint}"


def test_a_namespace_that_is_not_there_is_empty_and_not_written(token: str) -> None:
    backend = open_backend("k8s:nowhere", patience=HASTY)
    assert backend.list().paths == []
    with pytest.raises(SecretNotFound):
        backend.read("a")
    for expect in ("", None):
        with pytest.raises(BackendRefused) as refused:
            backend.write("a", "1", expect=expect)
        assert "no namespace `nowhere`" in refused.value.message


def test_a_namespace_that_goes_or_is_full_is_no_right_that_is_missing(backend: OpenBackend, proxy: FaultyProxy) -> None:
    proxy.fail_next(
        refusal(403, "Forbidden", causes=[{"reason": "NamespaceTerminating", "field": "metadata.namespace"}])
    )
    with pytest.raises(BackendRefused) as refused:
        backend.write("a", "1", expect="")
    assert "is being deleted" in refused.value.message
    full = {"kind": "Status", "code": 403, "message": "forbidden: exceeded quota: canary", "reason": "Forbidden"}
    proxy.fail_next(Answer(403, json.dumps(full).encode()))
    with pytest.raises(BackendRefused) as refused:
        backend.write("a", "1", expect="")
    assert "quota" in refused.value.message
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("code", [429, 503])
def test_when_to_come_back_is_kept(code: int, backend: OpenBackend, proxy: FaultyProxy) -> None:
    backend.write("a", "1")
    for fault in (refusal(code, headers={"Retry-After": "60"}), refusal(code, retryAfterSeconds=60)):
        proxy.fail_next(fault)
        with pytest.raises(BackendNotReached) as refused:
            backend.write("a", "2")  # there is no time for that
        assert refused.value.retry_after_s == 60
    proxy.fail_next(refusal(code, headers={"Retry-After": "1" if code == 429 else "soon"}, retryAfterSeconds="soon"))
    begun = time.monotonic()
    backend.write("a", "3")
    assert time.monotonic() - begun >= (1 if code == 429 else 0)


@pytest.mark.parametrize("code", [500, 502, 504])
def test_a_write_that_an_error_of_the_server_answers_is_in_doubt(
    code: int, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    proxy.fail_next(refusal(code, "Timeout"))
    with pytest.raises(CommitUnknown):
        backend.write("a", "1")


SENSELESS = [
    b"",
    b"null",
    b"[]",
    b'"canary"',
    b"{}",
    b'{"kind":"Secret"',
    b"\xff\xfe",
    b'{"kind":"Secret","metadata":{}}',
    b'{"kind":"Secret","metadata":{"resourceVersion":5},"data":{}}',
    b'{"kind":"Secret","metadata":{"resourceVersion":"5"},"data":{"a":"canary!"}}',
    b'{"kind":"Secret","metadata":{"resourceVersion":"5"},"data":{"a":5}}',
    b'{"kind":"Secret","metadata":{"resourceVersion":"5","annotations":"canary"},"data":{}}',
    b'{"kind":"Secret","metadata":{"resourceVersion":"5","managedFields":[{"time":"canary"}]},"data":{}}',
    b'{"kind":"Pod","metadata":{"resourceVersion":"5"}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", SENSELESS, ids=range(len(SENSELESS)))
def test_an_answer_that_makes_no_sense_is_none(body: bytes, backend: OpenBackend, proxy: FaultyProxy) -> None:
    proxy.fail(Answer(200, body))
    with pytest.raises(BackendUnavailable) as refused:
        OpenBackend(backend._backend, Patience(10.0, ())).read("a")
    assert "no answer that can be understood" in refused.value.message
    error: BaseException | None = refused.value
    while error is not None:
        assert "canary" not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "fault",
    [
        Answer(404, b"<html>canary</html>"),
        Answer(404, b'{"errors":[]}'),
        Answer(400, b"\xff"),
        Answer(409, b'"canary"'),
        Answer(418, b""),
    ],
)
def test_a_server_that_is_no_cluster_is_not_believed(fault: Answer, backend: OpenBackend, proxy: FaultyProxy) -> None:
    proxy.fail(fault)
    for call in (lambda: backend.read("a"), backend.list, lambda: next(backend.watch())):
        with pytest.raises(BackendUnavailable) as refused:
            call()
        assert "is it the API of Kubernetes" in refused.value.hint


@pytest.mark.parametrize(
    "details",
    [{"causes": "canary"}, {"causes": ["canary"]}, {"causes": [{"reason": ["canary"]}], "kind": ["canary"]}, {}],
)
def test_a_refusal_of_whatever_form_is_one(
    details: dict[str, object], backend: OpenBackend, proxy: FaultyProxy
) -> None:
    proxy.fail(refusal(422, "not a reason: canary", None, **details))
    with pytest.raises(BackendRefused) as refused:
        backend.write("a", "x")
    assert "canary" not in f"{refused.value} {refused.value.hint}"
    body = {"kind": "Status", "details": "canary", "metadata": "canary"}
    proxy.fail(Answer(400, json.dumps(body).encode()))
    with pytest.raises(BackendRefused):
        backend.write("a", "x")


def test_a_secret_that_is_not_there_is_not_another_thing_that_is_not_there(
    backend: OpenBackend, proxy: FaultyProxy
) -> None:
    proxy.fail(refusal(404, "NotFound"))  # a resource that the server does not know
    with pytest.raises(BackendRefused):
        backend.read("a")


# --- watching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def direct(api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenBackend:
    """A backend without a proxy before the server, as a proxy here collects what is streamed."""
    api.watch_s_max = 60.0
    server = f"http://127.0.0.1:{api.port}"
    point_at(monkeypatch, write_kubeconfig(tmp_path / "direct", server, {"token": api.give_token()}))
    return open_backend("k8s:team", patience=Patience(10.0, (0.01, 0.01)))


def test_a_change_is_told_at_once_on_one_connection(direct: OpenBackend, api: KubernetesApi) -> None:
    watching = direct.watch("app/")
    next(watching)
    begun = time.monotonic()
    for number in range(5):
        timer = threading.Timer(0.05, api.put, ("secrets", f"app.{number}"))
        timer.start()
        assert next(watching) == Changes((f"app/{number}",), is_whole=True)
        timer.join()
    assert time.monotonic() - begun < 5
    watching.close()


def test_closing_a_watch_ends_its_connection(direct: OpenBackend, api: KubernetesApi) -> None:
    before = threading.active_count()
    watching = direct.watch()
    next(watching)
    api.put("secrets", "a")
    next(watching)
    watching.close()
    for number in range(100):  # the server notices when it writes
        api.put("secrets", f"b-{number}")
        if threading.active_count() <= before + 1:
            break
        time.sleep(0.02)
    assert threading.active_count() <= before + 1


def test_a_watch_goes_on_where_the_one_before_ended(
    direct: OpenBackend, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.watch_s_max = 0.1
    watching = direct.watch("app/")
    assert next(watching) == Changes((), is_whole=True)
    api.put("secrets", "app.a")
    seen = [next(watching), next(watching)]  # the change, and that the next request watches
    api.put("secrets", "app.b")  # while nobody asks
    time.sleep(0.15)
    seen += [next(watching), next(watching)]
    assert [path for changes in seen for path in changes.paths] == ["app/a", "app/b"]
    assert all(changes.is_whole for changes in seen)


def test_a_bookmark_keeps_a_watch_from_being_forgotten(direct: OpenBackend, api: KubernetesApi) -> None:
    api.watch_s_max = 0.1
    watching = direct.watch("app/")
    next(watching)
    for number in range(3):
        api.put("configmaps", f"other-{number}")  # time passes elsewhere in the cluster
    assert [next(watching) for _ in range(2)] == [Changes((), is_whole=True)] * 2
    api.forgotten = api.version  # all that was before the last bookmark
    api.put("secrets", "app.a")
    seen = next(watching)
    while not seen.paths:
        assert seen.is_whole
        seen = next(watching)
    assert seen == Changes(("app/a",), is_whole=True)


def test_a_watch_whose_beginning_is_forgotten_says_so(direct: OpenBackend, api: KubernetesApi) -> None:
    api.watch_s_max = 0.1
    watching = direct.watch()
    next(watching)
    api.put("secrets", "a")
    api.forget()
    seen = next(watching)
    while seen.is_whole:
        seen = next(watching)
    assert seen == Changes((), is_whole=False)
    api.put("secrets", "b")
    assert next(watching) == Changes(("b",), is_whole=True)


def test_a_watch_that_is_always_forgotten_ends(backend: OpenBackend, proxy: FaultyProxy) -> None:
    listed = {"kind": "SecretList", "items": [], "metadata": {"resourceVersion": "5"}}
    first, gone = Answer(200, json.dumps(listed).encode()), refusal(410, "Expired")
    proxy.fail_next(*[first, gone] * 6)
    with pytest.raises(BackendUnavailable):
        next(backend.watch())
    assert len(proxy.exchanges) == 12


def stream(*events: object) -> Answer:
    return Answer(200, b"".join(json.dumps(event).encode() + b"\n" for event in events))


def event(version: str, name: str = "app.a", kind: str = "MODIFIED") -> dict[str, object]:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}}}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (stream({"type": "ERROR", "object": {"kind": "Status", "code": 500}}), BackendUnavailable),
        (stream({"type": "ERROR", "object": {"kind": "Status", "code": 429}}), BackendUnavailable),
        (stream({"type": "ERROR", "object": {"kind": "Status", "code": 403, "message": "canary"}}), BackendDenied),
        (stream({"type": "ERROR", "object": {"kind": "Status", "code": "410"}}), BackendUnavailable),
        (stream({"type": "ERROR", "object": {"kind": "Status", "code": 400}}), BackendRefused),
        (stream({"type": "ERROR"}), BackendUnavailable),
        (stream({"type": "MODIFIED", "object": {"metadata": {}}}), BackendUnavailable),
        (stream([]), BackendUnavailable),
        (Answer(200, b"\xff\n"), BackendUnavailable),
        (Answer(200, b'{"type":"canary\n'), BackendUnavailable),
    ],
)
def test_a_watch_that_says_what_makes_no_sense_ends(
    said: Answer, error: type[SecurecfgError], backend: OpenBackend, proxy: FaultyProxy
) -> None:
    watching = OpenBackend(backend._backend, Patience(10.0, ())).watch("app/")
    proxy.fail_next(Delay(0), said)
    next(watching)
    with pytest.raises(error) as refused:
        next(watching)
    assert "canary" not in f"{refused.value} {refused.value.hint}"


def test_a_watch_is_bounded_where_nothing_that_is_told_is_below_the_prefix(
    backend: OpenBackend, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.backends.k8s.WATCH_S", 0)
    watching = backend.watch("app/")
    proxy.fail_next(Delay(0), stream(event("7", "other.a"), event("8", "other.b"), event("9", kind="BOOKMARK")))
    assert [next(watching) for _ in range(4)] == [Changes((), is_whole=True)] * 4


def test_a_watch_that_breaks_off_goes_on_where_it_was(direct: OpenBackend, api: KubernetesApi) -> None:
    api.tears = [1, 0]
    watching = direct.watch("app/")
    assert next(watching) == Changes((), is_whole=True)
    api.put("secrets", "app.a")
    assert next(watching) == Changes(("app/a",), is_whole=True)
    api.put("secrets", "app.b")  # while it is broken
    assert next(watching) == Changes((), is_whole=True)
    # The second one breaks off before it has said anything, and is begun anew by the handle.
    assert next(watching) == Changes((), is_whole=False)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_roles_of_the_page_are_enough(backend: OpenBackend, api: KubernetesApi, token: str) -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/backend-k8s.md").read_text()
    roles = [set(re.findall(r"\w+", found)) for found in re.findall(r"verbs: \[(.*)\]", page)]
    assert roles == [{"get"}, set(VERBS)]
    api.tokens[token] = roles[1]
    backend.write("a", "1", expect="")
    backend.write("a", "2")
    next(backend.watch())
    api.tokens[token] = roles[0]
    assert plain(backend.read("a")) == "2"


def test_the_table_of_the_page_is_true(backend: OpenBackend) -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/backend-k8s.md").read_text()
    can = backend.capabilities
    assert (can.kinds, can.deletes) == (frozenset(Kind), Deletion.FINAL)
    said = dict(re.findall(r"^\| `(\w+)` \| (yes|no)\b", page, re.MULTILINE))
    assert {name: said[name] == "yes" for name in said} == {name: getattr(can, name) for name in said}
    assert len(said) == 7
