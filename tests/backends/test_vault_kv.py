"""What is kept in KV engines of Vault: values, versions, metadata, paths; and engines that are others."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.backends import Deletion, Kind, State, open_backend
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
    StaleWrite,
    Unsupported,
    ValueTooLarge,
    VersionNotFound,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import plain
from securecfg.testing.faulty_proxy import Answer, Delay, Reset
from tests.backends.kv import DENIED, RIGHTS, SEALED, kv_engine
from tests.keys.transit import refusal, vault_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.backends import OpenBackend
    from securecfg.testing.faulty_proxy import Fault
    from tests.backends.kv import Kv

HASTY = Patience(deadline_s=10.0, pauses_s=(0.01, 0.01))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with vault_server() as port:
        yield port


@pytest.fixture
def kv(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kv]:
    with kv_engine(port, monkeypatch) as kv:
        yield kv


@pytest.fixture
def plain_kv(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kv]:
    with kv_engine(port, monkeypatch, "1") as kv:
        yield kv


@pytest.fixture
def backend(kv: Kv) -> OpenBackend:
    return open_backend(f"vault:{kv.mount}", patience=HASTY)


def put(kv: Kv, path: str, **data: Any) -> None:  # noqa: ANN401 - JSON
    """Write as somebody else would."""
    kv.root.secrets.kv.v2.create_or_update_secret(path, data, mount_point=kv.mount)


def held(kv: Kv, path: str) -> Any:  # noqa: ANN401 - JSON
    found = kv.root.secrets.kv.v2.read_secret_version(path, mount_point=kv.mount, raise_on_deleted_version=True)
    return found["data"]["data"]


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"bytes", {"a": b"bytes"}, {"value": "text"}], ids=["bytes", "field", "value"])
def test_what_would_come_back_as_something_else_is_refused(content: Any, backend: OpenBackend, kv: Kv) -> None:  # noqa: ANN401 - of any kind
    backend.list()
    before = len(kv.proxy.exchanges)
    with pytest.raises(Unsupported):
        backend.write("a", content)
    assert len(kv.proxy.exchanges) == before


def test_a_text_is_the_field_value(backend: OpenBackend, kv: Kv) -> None:
    backend.write("a", "hunter2")
    assert held(kv, "a") == {"value": "hunter2"}
    put(kv, "b", value="by others")
    assert plain(backend.read("b")) == "by others"
    backend.write("c", {"value": "x", "user": "web"})
    assert held(kv, "c") == {"value": "x", "user": "web"}
    assert plain(backend.read("c")) == {"value": "x", "user": "web"}


def test_what_others_have_put_there_is_given_as_json(backend: OpenBackend, kv: Kv) -> None:
    put(kv, "a", text="5", number=5, share=1.5, is_on=True, none=None, hosts=["a", "ü"], nested={"b": {"c": 1}})
    assert plain(backend.read("a")) == {
        "text": "5",
        "number": "5",
        "share": "1.5",
        "is_on": "true",
        "none": "null",
        "hosts": '["a","ü"]',
        "nested": '{"b":{"c":1}}',
    }
    put(kv, "b", value=5)
    assert plain(backend.read("b")) == "5"
    put(kv, "c")
    assert plain(backend.read("c")) == {}


def test_what_is_read_is_masked(backend: OpenBackend, kv: Kv) -> None:
    put(kv, "a", user="web", nested={"password": "canary"})
    found = backend.read("a")
    assert not isinstance(found.value, Secret)
    assert all(isinstance(part, Secret) for part in found.value.values())
    assert "canary" not in repr(found)


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a..b", "a/..b", "..a/b"])
def test_two_dots_in_a_row_are_refused_before_anything_is_sent(path: str, backend: OpenBackend, kv: Kv) -> None:
    for call in (lambda: backend.read(path), lambda: backend.write(path, "x"), lambda: backend.delete(path)):
        with pytest.raises(InvalidPath):
            call()
    assert kv.proxy.exchanges == []


def test_names_that_are_no_paths_are_passed_over_and_not_asked_for(backend: OpenBackend, kv: Kv) -> None:
    for path in ("good", "st*r", "st*r/below", "nu\u0308", "a..b", "folder/x@y", "folder/fine"):
        put(kv, path, a="b")
    found = backend.list()
    assert found.paths == ["folder/fine", "good"]
    assert found.passed_over == 5  # the folder `st*r/` is one
    assert not any("%2A" in path or "*" in path or ".." in path for path in kv.paths)


def test_a_path_is_a_secret_and_a_folder_at_once(backend: OpenBackend) -> None:
    for path in ("app", "app/db", "app/db/main", "app/db/main/user"):
        backend.write(path, path)
    assert backend.list().paths == ["app", "app/db", "app/db/main", "app/db/main/user"]
    assert backend.list("app/db/").paths == ["app/db/main", "app/db/main/user"]
    backend.delete("app/db")
    assert backend.list().paths == ["app", "app/db/main", "app/db/main/user"]


def test_a_folder_in_the_uri_stands_before_every_path(kv: Kv) -> None:
    backend = open_backend(f"vault:{kv.mount}/team%20a/prod")
    backend.write("db/main", "x")
    put(kv, "team a/other", a="b")
    assert held(kv, "team a/prod/db/main") == {"value": "x"}
    assert backend.list().paths == ["db/main"]
    assert backend.list("db/").paths == ["db/main"]
    assert backend.name == f"{kv.mount}/team a/prod"


def test_a_mount_point_may_have_slashes(kv: Kv) -> None:
    kv.root.sys.enable_secrets_engine("kv", f"{kv.mount}-team/x/kv", options={"version": "2"})
    kv.root.sys.create_or_update_acl_policy(
        kv.mount, json.dumps({"path": {f"{kv.mount}-team/*": {"capabilities": RIGHTS}}})
    )
    backend = open_backend(f"vault:{kv.mount}-team%2Fx%2Fkv/shop")
    backend.write("a", "x")
    assert backend.list().paths == ["a"]
    with pytest.raises((BackendRefused, BackendDenied)):
        open_backend(f"vault:{kv.mount}-team/x/kv/shop").read("a")


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0", "-1", "01", "1.0", "+1", " 1", "1_0", "٣", "9" * 19, "latest"])
def test_a_text_that_is_no_number_is_no_version_and_not_sent(version: str, backend: OpenBackend, kv: Kv) -> None:
    backend.write("a", "x")
    before = len(kv.proxy.exchanges)
    with pytest.raises(VersionNotFound):
        backend.read("a", version)
    with pytest.raises(StaleWrite):
        backend.write("a", "y", expect=version)
    assert len(kv.proxy.exchanges) == before
    assert plain(backend.read("a")) == "x"


def test_versions_are_in_the_order_of_numbers(backend: OpenBackend) -> None:
    for number in range(1, 13):
        assert backend.write("a", str(number)) == str(number)
    assert [version.id for version in backend.versions("a")] == [str(number) for number in range(12, 2, -1)]
    with pytest.raises(VersionNotFound):
        backend.read("a", "2")  # one of ten that are kept it is not


def test_each_state_has_its_error_where_it_is_read(backend: OpenBackend, kv: Kv) -> None:
    for number in range(1, 5):
        backend.write("a", str(number))
    kv.root.secrets.kv.v2.delete_secret_versions("a", [2], mount_point=kv.mount)
    kv.root.secrets.kv.v2.destroy_secret_versions("a", [3], mount_point=kv.mount)
    states = {version.id: version.state for version in backend.versions("a")}
    assert states == {"4": State.LIVE, "3": State.DESTROYED, "2": State.DELETED, "1": State.LIVE}
    with pytest.raises(VersionNotFound):
        backend.read("a", "2")
    with pytest.raises(SecretDestroyed):
        backend.read("a", "3")
    assert plain(backend.read("a", "1")) == "1"
    kv.root.secrets.kv.v2.destroy_secret_versions("a", [4], mount_point=kv.mount)
    with pytest.raises(SecretDestroyed):
        backend.read("a")
    assert backend.list().paths == []


def test_a_secret_whose_newest_version_others_deleted_is_not_there_and_comes_back(backend: OpenBackend, kv: Kv) -> None:
    backend.write("a", "1")
    backend.write("a", "2")
    kv.root.secrets.kv.v2.delete_latest_version_of_secret("a", mount_point=kv.mount)
    with pytest.raises(SecretNotFound):
        backend.read("a")
    assert backend.list().paths == []
    assert plain(backend.read("a", "1")) == "1"
    assert [version.state for version in backend.versions("a")] == [State.DELETED, State.LIVE]
    backend.recover("a")
    assert plain(backend.read("a")) == "2"


def test_what_is_deleted_is_so_in_all_its_versions_and_comes_back_in_all(backend: OpenBackend, kv: Kv) -> None:
    for number in range(1, 4):
        backend.write("a", str(number))
    kv.root.secrets.kv.v2.destroy_secret_versions("a", [2], mount_point=kv.mount)
    backend.delete("a")
    for version in ("1", "3"):
        with pytest.raises(VersionNotFound):
            backend.read("a", version)
    with pytest.raises(SecretNotFound):
        backend.versions("a")
    with pytest.raises(SecretNotFound):
        backend.delete("a")
    backend.recover("a")
    assert [version.state for version in backend.versions("a")] == [State.LIVE, State.DESTROYED, State.LIVE]
    kv.root.secrets.kv.v2.destroy_secret_versions("a", [1, 3], mount_point=kv.mount)
    with pytest.raises(SecretNotFound):
        backend.recover("a")
    with pytest.raises(SecretNotFound):
        backend.delete("a")
    assert {version.state for version in backend.versions("a")} == {State.DESTROYED}


def test_a_version_that_is_going_to_be_deleted_is_live(backend: OpenBackend, kv: Kv) -> None:
    kv.root.secrets.kv.v2.configure(delete_version_after="30m", mount_point=kv.mount)
    backend.write("a", "x")
    assert [version.state for version in backend.versions("a")] == [State.LIVE]
    assert plain(backend.read("a")) == "x"
    assert backend.list().paths == ["a"]


def test_the_clock_of_the_server_decides_what_is_deleted(backend: OpenBackend, kv: Kv) -> None:
    version = {"created_time": "2030-01-01T00:00:00.123456789Z", "destroyed": False}
    version["deletion_time"] = "2031-01-01T00:00:00.123456789Z"
    body = json.dumps({"request_id": "x", "data": {"versions": {"1": version}}}).encode()
    backend.list()
    for year, state in (("2030", State.LIVE), ("2032", State.DELETED)):
        kv.proxy.fail_next(Answer(200, body, {"Date": f"Tue, 01 Jan {year} 00:00:00 GMT"}))
        if state is State.LIVE:
            assert [each.state for each in backend.versions("a")] == [state]
        else:
            with pytest.raises(SecretNotFound):
                backend.versions("a")


# --- what the writer expects ------------------------------------------------------------------------------------------


def test_a_deleted_secret_is_not_nothing(backend: OpenBackend) -> None:
    version = backend.write("a", "1")
    backend.delete("a")
    with pytest.raises(AlreadyExists) as refused:
        backend.write("a", "2", expect="")
    assert "recover" in refused.value.hint
    with pytest.raises(SecretNotFound):
        backend.read("a")
    assert backend.write("a", "2", expect=version) == "2"
    assert plain(backend.read("a")) == "2"


def test_an_engine_that_takes_only_comparing_writes_says_so(backend: OpenBackend, kv: Kv) -> None:
    kv.root.secrets.kv.v2.configure(cas_required=True, mount_point=kv.mount)
    with pytest.raises(BackendRefused) as refused:
        backend.write("a", "x")
    assert "`expect`" in refused.value.hint
    assert backend.write("a", "x", expect="") == "1"
    assert backend.write("a", "y", expect="1") == "2"


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {"owner": ""},
        {"owner": "x" * 513},
        {"owner": "é" * 257},
        {"x" * 129: "y"},
        {"owner": "a\nb"},
        {"owner": "a\u200bb"},
        {str(number): "x" for number in range(65)},
    ],
    ids=["empty", "long", "long in bytes", "long key", "line", "unseen", "many"],
)
def test_metadata_that_vault_refuses_are_refused_before_the_value_is_sent(
    metadata: dict[str, str], backend: OpenBackend, kv: Kv
) -> None:
    with pytest.raises(InvalidMetadata):
        backend.write("a", "x", metadata=metadata)
    assert not any(exchange.body for exchange in kv.proxy.exchanges)


def test_metadata_are_written_after_the_value_and_only_by_who_won(backend: OpenBackend, kv: Kv) -> None:
    backend.write("a", "1", metadata={"owner": "pay"})
    assert kv.paths[-2:] == ["data/a", "metadata/a"]
    with pytest.raises(StaleWrite):
        backend.write("a", "2", expect="7", metadata={"owner": "loser"})
    with pytest.raises(AlreadyExists):
        backend.write("a", "2", expect="", metadata={"owner": "loser"})
    assert backend.read("a").metadata == {"owner": "pay"}
    backend.write("a", "2", metadata={})
    assert backend.read("a").metadata == {}


def test_other_settings_of_a_secret_stay_as_they_are(backend: OpenBackend, kv: Kv) -> None:
    kv.root.secrets.kv.v2.update_metadata(
        "a", max_versions=3, cas_required=False, delete_version_after="1h0m0s", mount_point=kv.mount
    )
    backend.write("a", "1", expect="", metadata={"owner": "pay"})
    settings = kv.root.secrets.kv.v2.read_secret_metadata("a", mount_point=kv.mount)["data"]
    assert (settings["max_versions"], settings["delete_version_after"]) == (3, "1h0m0s")


@pytest.mark.parametrize("fault", [DENIED, SEALED, refusal(500, "canary"), Reset(), Answer(200, b"{}")])
def test_a_value_that_was_written_without_its_metadata_is_said_to_be(
    fault: Fault, backend: OpenBackend, kv: Kv
) -> None:
    backend.write("a", "1", metadata={"owner": "pay"})
    kv.root.sys.create_or_update_acl_policy(
        kv.mount, json.dumps({"path": {f"{kv.mount}/data/*": {"capabilities": RIGHTS}}})
    )
    with pytest.raises(CommitUnknown) as doubt:
        backend.write("a", "2", metadata={"owner": "web"})
    assert "version 2 of `a` was written" in doubt.value.message
    kv.allow(*RIGHTS)
    kv.proxy.fail(None)
    # The request for the value goes through, and the next one does not.
    kv.proxy.fail_next(*[Delay(0), fault])
    with pytest.raises(CommitUnknown) as doubt:
        backend.write("a", "3", metadata={"owner": "web"})
    assert "version 3 of `a` was written" in doubt.value.message
    assert "canary" not in f"{doubt.value} {doubt.value.hint}"
    assert [version.id for version in backend.versions("a")] == ["3", "2", "1"]


# --- listing ----------------------------------------------------------------------------------------------------------


def test_a_listing_that_may_not_be_whole_is_denied(backend: OpenBackend, kv: Kv) -> None:
    backend.write("app/a", "x")
    backend.write("db/a", "x")
    rules = {f"{kv.mount}/metadata/": ["list"], f"{kv.mount}/metadata/app/*": ["list", "read"]}
    rules[f"{kv.mount}/data/*"] = ["read"]
    kv.root.sys.create_or_update_acl_policy(
        kv.mount, json.dumps({"path": {path: {"capabilities": rights} for path, rights in rules.items()}})
    )
    with pytest.raises(BackendDenied) as refused:
        backend.list()
    assert "`list`" in refused.value.hint
    assert backend.list("app/").paths == ["app/a"]
    assert plain(backend.read("db/a")) == "x"


def test_a_secret_with_metadata_and_no_version_is_not_there(backend: OpenBackend, kv: Kv) -> None:
    kv.root.secrets.kv.v2.update_metadata("a", custom_metadata={"owner": "pay"}, mount_point=kv.mount)
    assert backend.list().paths == []
    for call in (lambda: backend.read("a"), lambda: backend.versions("a"), lambda: backend.delete("a")):
        with pytest.raises(SecretNotFound):
            call()
    assert backend.write("a", "x", expect="") == "1"
    assert backend.read("a").metadata == {"owner": "pay"}


# --- policies ---------------------------------------------------------------------------------------------------------


def policies_of_the_page() -> list[dict[str, list[str]]]:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "backend-vault.md").read_text(encoding="utf-8")
    rule = re.compile(r'^path "(?P<path>[^"]+)" \{ capabilities = (?P<rights>\[.*\]) \}$', re.MULTILINE)
    blocks = re.findall(r"^```hcl\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [{each["path"]: json.loads(each["rights"]) for each in rule.finditer(block)} for block in blocks]


def test_the_policies_of_the_page_are_enough_and_not_more(kv: Kv, backend: OpenBackend) -> None:
    reading, everything = policies_of_the_page()
    shop = open_backend(f"vault:{kv.mount}/shop", patience=HASTY)

    def apply(rules: dict[str, list[str]]) -> None:
        paths = {path.replace("secret/", f"{kv.mount}/"): {"capabilities": rights} for path, rights in rules.items()}
        kv.root.sys.create_or_update_acl_policy(kv.mount, json.dumps({"path": paths}))

    def use() -> None:
        version = shop.write("a", "1", metadata={"owner": "pay"})
        shop.write("a", "2", expect=version)
        assert shop.list().paths == ["a"]
        assert len(shop.versions("a")) == 2
        shop.delete("a")
        shop.recover("a")
        assert plain(shop.read("a")) == "2"

    apply(everything)
    use()
    with pytest.raises(BackendDenied):
        backend.list()
    for path in everything:
        kv.root.secrets.kv.v2.delete_metadata_and_all_versions("shop/a", mount_point=kv.mount)
        apply({other: rights for other, rights in everything.items() if other != path})
        with pytest.raises((BackendDenied, CommitUnknown)):
            use()
    apply(everything)
    shop.write("a", "2")
    apply(reading)
    assert plain(shop.read("a")) == "2"
    for call in (lambda: shop.write("a", "3"), shop.list, lambda: shop.delete("a")):
        with pytest.raises(BackendDenied):
            call()


# --- which engine it is -----------------------------------------------------------------------------------------------


def test_an_engine_of_the_other_version_is_refused_before_anything_is_written(kv: Kv, plain_kv: Kv) -> None:
    for mount, kv_version, right in ((plain_kv.mount, "2", "?kv=1"), (kv.mount, "1", "?kv=2")):
        plain_kv.root.sys.create_or_update_acl_policy(
            plain_kv.mount, json.dumps({"path": {f"{mount}/*": {"capabilities": RIGHTS}}})
        )
        backend = open_backend(f"vault:{mount}?kv={kv_version}")
        for call in (lambda: backend.write("a", "x"), lambda: backend.read("a"), backend.list):  # noqa: B023 - called at once
            with pytest.raises(BackendRefused) as refused:
                call()
            assert right in refused.value.hint
        sent = [exchange for exchange in plain_kv.proxy.exchanges if exchange.path.startswith(f"/v1/{mount}/")]
        assert sent == []


def test_the_engine_is_looked_at_once(backend: OpenBackend, kv: Kv) -> None:
    for number in range(3):
        backend.write("a", str(number))
    looked = [exchange.path for exchange in kv.proxy.exchanges if "/sys/" in exchange.path]
    assert looked == [f"/v1/sys/internal/ui/mounts/{kv.mount}"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"data": {"path": "canary/", "type": "kv", "options": {"version": "2"}}}, BackendRefused),
        ({"data": {"path": "MOUNT/", "type": "transit", "options": None}}, BackendRefused),
        ({"data": {"path": "MOUNT/", "type": "kv", "options": None}}, BackendRefused),
        ({"data": {}}, BackendUnavailable),
        ({"data": None}, BackendUnavailable),
        ([], BackendUnavailable),
    ],
)
def test_what_is_no_such_engine_is_refused(
    body: Any,  # noqa: ANN401 - JSON
    error: type[Exception],
    backend: OpenBackend,
    kv: Kv,
) -> None:
    kv.proxy.fail(Answer(200, json.dumps(body).replace("MOUNT", kv.mount).encode()))
    with pytest.raises(error) as refused:
        backend.read("a")
    assert "canary" not in str(refused.value)


# --- version 1 --------------------------------------------------------------------------------------------------------


def test_version_1_keeps_one_value_and_declares_no_more(plain_kv: Kv) -> None:
    backend = open_backend(f"vault:{plain_kv.mount}/team?kv=1")
    can = backend.capabilities
    assert can.kinds == {Kind.TEXT, Kind.FIELDS}
    assert (can.creates, can.compares, can.keeps_versions, can.metadata) == (False,) * 4
    assert can.deletes is Deletion.FINAL
    assert backend.write("a", {"ttl": "1h", "user": "web"}) == backend.read("a").version.id
    found = plain_kv.root.secrets.kv.v1.read_secret("team/a", mount_point=plain_kv.mount)
    assert found["data"] == {"ttl": "1h", "user": "web"}
    assert plain(backend.read("a")) == {"ttl": "1h", "user": "web"}


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(400, "canary"), BackendRefused),
        (refusal(404, 'no handler for route "canary". route entry not found.'), BackendRefused),
        (refusal(405, "unsupported operation canary"), BackendRefused),
        (refusal(413, "canary"), ValueTooLarge),
        (refusal(418, "canary"), BackendRefused),
        (refusal(400, "Upgrading from non-versioned to versioned data. This backend will be"), BackendUnavailable),
        (refusal(412, "required index state not present"), BackendUnavailable),
        (refusal(473), BackendUnavailable),
        (refusal(501, "Vault is not initialized"), BackendUnavailable),
        (SEALED, BackendUnavailable),
        (Answer(502, b"<html>canary</html>"), CommitUnknown),
        (refusal(500, "canary"), CommitUnknown),
        (Answer(200, b"{}"), CommitUnknown),
        (Answer(200, b'{"data": {"version": "canary"}}'), CommitUnknown),
        (Answer(200, b"\xff"), CommitUnknown),
        (Answer(404, b'{"errors": []}'), CommitUnknown),
        (Answer(307, b"", {"Location": "http://127.0.0.1:1/"}), BackendUnavailable),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), BackendUnavailable),
    ],
)
def test_each_answer_to_a_write_has_its_error(
    answer: Answer, error: type[Exception], backend: OpenBackend, kv: Kv
) -> None:
    backend.list()
    kv.proxy.fail(answer)
    with pytest.raises(error) as refused:
        backend.write("a", "value-of-the-secret")
    told = f"{refused.value} {refused.value.__notes__}"
    assert type(refused.value) in {error, *error.__subclasses__()}
    assert "canary" not in told
    assert "value-of-the-secret" not in told


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'{"data": null}',
        b'{"data": {"data": null, "metadata": {"version": 1, "created_time": ""}}}',
        b'{"data": {"data": ["canary"], "metadata": {"version": 1, "created_time": ""}}}',
        b'{"data": {"data": {}, "metadata": {"version": "canary", "created_time": ""}}}',
        b'{"data": {"data": {}, "metadata": {"version": 1, "created_time": "canary"}}}',
        b'{"data": {"data": {}, "metadata": {"version": 1, "created_time": "", "custom_metadata": ["canary"]}}}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_makes_no_sense_is_none(body: bytes, backend: OpenBackend, kv: Kv) -> None:
    backend.list()
    kv.proxy.fail(Answer(200, body))
    with pytest.raises(BackendUnavailable) as refused:
        backend.read("a")
    assert "can be understood" in refused.value.message
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("after", ["0", "1", "later", "Tue, 01 Jan 2030 00:00:00 GMT", "-1", "1e9"])
def test_when_to_come_back_is_kept_as_far_as_there_is_time(after: str, backend: OpenBackend, kv: Kv) -> None:
    backend.write("a", "x")
    kv.proxy.fail_next(Answer(429, b"", {"Retry-After": after}))
    begun = time.monotonic()
    if after.startswith("Tue"):
        with pytest.raises(BackendUnavailable):
            backend.read("a")
        assert len(kv.paths) == 3
    else:
        assert plain(backend.read("a")) == "x"
        assert after != "1" or time.monotonic() - begun >= 1
