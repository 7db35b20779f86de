"""`bitwarden:` over a stand-in for `bw` that answers in its words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.backends import StoredVersion, open_backend
from securecfg.backends.bitwarden import SESSION_VARIABLE
from securecfg.backends.uri import known_credentials
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    ExtraMissing,
    InvalidBackendUri,
    SecretNotFound,
    SecurecfgError,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import HASTY, plain
from tests.backends.passwords import recorded
from tests.backends.passwords.recorded import (
    BW_CARD,
    BW_COLLECTION,
    BW_FOLDER,
    BW_LOGIN,
    BW_NO_FOLDER,
    BW_NOTE,
    bw_field,
    bw_item,
    bw_with_nulls,
)
from tests.backends.passwords.stand_in import SECRET, StandIn

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.backends import OpenBackend
    from tests.backends.passwords.recorded import Json

ONCE = Patience(20.0, ())
READ = {
    "Example Login": {
        "username": "johndoe",
        "password": "hunter2-login",
        "totp": "otpauth://totp/johndoe?secret=AAAAY3DPEHPK3PXP",
        "notes": "ask payments",
        "pin": "1234",
        "active": "true",
        "unset": "",
    },
    "Example Note": "one\ntwo",
    "Example Card": {
        "cardholderName": "John Doe",
        "brand": "visa",
        "number": "4242424242424242",
        "expMonth": "04",
        "expYear": "2031",
    },
    "Example SSH Key": {
        "privateKey": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "publicKey": "ssh-ed25519 AAAA",
        "keyFingerprint": "S",
    },
    "Example Identity": {"firstName": "John", "lastName": "Doe", "ssn": "123-45-6789"},
}
ITEMS = [item for item in vars(recorded).values() if isinstance(item, dict) and item.get("name") in READ]
LIST = [["list", "items", "--nointeraction", "--response"]]


@pytest.fixture
def bw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setenv(SESSION_VARIABLE, SECRET)
    bw = StandIn(tmp_path, "bw", SESSION_VARIABLE)
    bw.hold(*ITEMS, folders=[BW_FOLDER, BW_NO_FOLDER], collections=[BW_COLLECTION])
    return bw


def opened(bw: StandIn, options: str = "", place: str = "", patience: Patience = HASTY, **given: Any) -> OpenBackend:  # noqa: ANN401 - those of `open_backend`
    return open_backend(f"bitwarden:{place}?program={bw.path}{options}", patience=patience, **given)


def asked(bw: StandIn) -> list[list[str]]:
    return [run.arguments[:-2] for run in bw.runs()]


# --- values -----------------------------------------------------------------------------------------------------------


def test_items_are_read_by_their_filled_fields_and_all_at_once(bw: StandIn) -> None:
    assert {path: plain(found) for path, found in opened(bw).read_many([*READ, "none"]).items()} == READ
    assert [run.arguments for run in bw.runs()] == LIST


def test_nulls_say_the_same_as_what_is_left_out(bw: StandIn) -> None:
    bw.hold(*map(bw_with_nulls, ITEMS))
    assert {path: plain(found) for path, found in opened(bw).read_many(READ).items()} == READ


def test_the_version_is_when_it_was_changed(bw: StandIn) -> None:
    version = opened(bw).read("Example Note").version
    assert version == StoredVersion(
        "2026-01-15T08:09:10.123Z", created=datetime(2026, 1, 15, 8, 9, 10, 123_000, tzinfo=UTC)
    )


def test_a_password_alone_is_a_text(bw: StandIn) -> None:
    bw.hold(bw_item("a", "a", 1, login={"uris": [], "username": None, "password": "hunter2", "totp": None}))
    assert plain(opened(bw).read("a")) == "hunter2"


def test_fields_of_one_name_are_refused_where_they_differ(bw: StandIn) -> None:
    bw.hold({**BW_LOGIN, "fields": [bw_field("password", "canary", 1)]}, BW_NOTE)
    with pytest.raises(BackendRefused, match="one name") as raised:
        opened(bw).read("Example Login")
    assert "canary" not in str(raised.value)
    assert plain(opened(bw).read("Example Note")) == "one\ntwo"


def test_an_item_without_a_text_has_no_value(bw: StandIn) -> None:
    bw.hold(bw_item("a", "a", secureNote={"type": 0}), BW_NOTE)
    with pytest.raises(SecretNotFound, match="no field with a text"):
        opened(bw).read("a")
    assert list(opened(bw).read_many(["a", "Example Note"])) == ["Example Note"]


def test_an_item_of_a_type_to_come_is_refused_rather_than_read_in_part(bw: StandIn) -> None:
    bw.hold(bw_item("a", "a", 99, notes="canary", wallet={"seed": "canary"}), BW_NOTE)
    with pytest.raises(BackendRefused, match="type"):
        opened(bw).read("a")


# --- titles and places ------------------------------------------------------------------------------------------------


def test_what_is_in_the_trash_is_not_there(bw: StandIn) -> None:
    bw.hold({**BW_NOTE, "deletedDate": "2026-01-16T08:09:10.123Z"}, BW_CARD)
    assert opened(bw).list() == (["Example Card"], 0)
    with pytest.raises(SecretNotFound):
        opened(bw).read("Example Note")


def test_a_title_that_two_items_have_is_passed_over_and_not_read(bw: StandIn) -> None:
    bw.hold(BW_NOTE, {**BW_NOTE, "id": "b"}, BW_CARD)
    assert opened(bw).list() == (["Example Card"], 2)
    for read in (opened(bw).read, lambda path: opened(bw).read_many([path])):
        with pytest.raises(BackendRefused, match="2 items"):
            read("Example Note")


@pytest.mark.parametrize("title", ["", "a//b", "a\nb"])
def test_a_title_that_is_no_path_is_passed_over(bw: StandIn, title: str) -> None:
    bw.hold({**BW_NOTE, "name": title}, BW_CARD)
    assert opened(bw).list() == (["Example Card"], 1)


@pytest.mark.parametrize("place", ["shop%2Fprod", BW_FOLDER["id"], "payments", BW_COLLECTION["id"]])
def test_only_what_is_in_the_folder_or_collection_is_seen(bw: StandIn, place: str) -> None:
    is_folder = place in {"shop%2Fprod", BW_FOLDER["id"]}
    within = {"folderId": BW_FOLDER["id"]} if is_folder else {"collectionIds": ["x", BW_COLLECTION["id"]]}
    bw.hold({**BW_NOTE, **within}, {**BW_NOTE, "id": "b", "folderId": "another", "collectionIds": ["x"]}, BW_CARD)
    assert opened(bw, place=place).list() == (["Example Note"], 0)
    assert plain(opened(bw, place=place).read("Example Note")) == "one\ntwo"


def test_a_place_that_is_named_by_its_id_is_not_looked_for(bw: StandIn) -> None:
    opened(bw, place=BW_FOLDER["id"]).list()
    assert asked(bw) == [["list", "items"]]


@pytest.mark.parametrize("place", ["none", "No%20Folder", "Shop/prod", "twice"])
def test_a_place_that_is_not_there_or_there_twice_is_refused(bw: StandIn, place: str) -> None:
    bw.hold(
        *ITEMS, folders=[BW_NO_FOLDER, {**BW_FOLDER, "name": "twice"}], collections=[{**BW_COLLECTION, "name": "twice"}]
    )
    with pytest.raises(BackendRefused, match="more than one" if place == "twice" else "no folder"):
        opened(bw, place=place).list()


# --- how it is run ----------------------------------------------------------------------------------------------------


def test_what_is_new_is_fetched_first_where_the_uri_says_so(bw: StandIn) -> None:
    opened(bw, "&sync=yes", place="payments").read_many(["a", "b"])
    assert asked(bw) == [["sync"], ["list", "folders"], ["list", "collections"], ["list", "items"]]


def test_no_argument_holds_a_secret_and_no_variable_comes_along_unasked(
    bw: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_out = {"BW_RAW": "true", "BW_CLEANEXIT": "true", "BW_CLIENTSECRET": "x", "NODE_OPTIONS": "--require=x"}
    let_in = {"BITWARDENCLI_APPDATA_DIR": "/data", "NODE_EXTRA_CA_CERTS": "/ca.pem", SESSION_VARIABLE: SECRET}
    for name, value in (let_in | kept_out).items():
        monkeypatch.setenv(name, value)
    opened(bw, "&sync=yes").read("Example Note")
    for run in bw.runs():
        assert SECRET not in " ".join(run.arguments)
        assert let_in.items() <= run.variables.items()
        assert not kept_out.keys() & run.variables.keys()
        assert (run.folder, run.input) == ("/", "")


@pytest.mark.parametrize("place", ["env", "file", "given"])
def test_the_key_of_the_session_is_where_the_uri_says(
    bw: StandIn, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, "of somebody else")
    monkeypatch.setenv("READER_SESSION", SECRET)
    (tmp_path / "session").write_text(f"{SECRET}\n", encoding="utf-8")
    option = {"env": "&env=READER_SESSION", "file": f"&file={tmp_path}/session", "given": ""}[place]
    given = {SESSION_VARIABLE: Secret(SECRET)} if place == "given" else None
    assert opened(bw, option, credentials=given).list().paths
    with pytest.raises(BackendLoginRefused):
        opened(bw, patience=ONCE).list()


def test_a_key_that_is_not_there_is_no_login_and_nothing_is_run(
    bw: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(SESSION_VARIABLE)
    for option in ("", "&env=NO_SUCH_VARIABLE", f"&file={tmp_path}/none"):
        with pytest.raises(BackendLoginRefused):
            opened(bw, option).list()
    assert bw.runs() == []


def test_that_it_is_not_installed_names_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(SESSION_VARIABLE, SECRET)
    with pytest.raises(ExtraMissing, match="`bw`"):
        open_backend("bitwarden:").list()


@pytest.mark.parametrize("option", ["", "&env=NO_SUCH_VARIABLE", "&file=/no/such/file"])
def test_what_is_given_with_the_uri_stands_before_all_else(
    bw: StandIn, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, "of somebody else")
    given = {SESSION_VARIABLE: Secret(SECRET)}
    assert open_backend(f"bitwarden:?program={bw.path}{option}", credentials=given, patience=ONCE).list().paths
    assert known_credentials("bitwarden:") == {SESSION_VARIABLE}
    with pytest.raises(InvalidBackendUri):
        open_backend("bitwarden:", credentials={"ANOTHER": Secret(SECRET)})


# --- what it says -----------------------------------------------------------------------------------------------------


def answer(message: object, *, success: object = False, code: int = 1, **parts: object) -> Json:
    return {"out": json.dumps({"success": success, "message": message, **parts}), "code": code}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (answer(recorded.BW_ERRORS["locked"]), BackendLoginRefused),
        (answer(recorded.BW_LOGGED_OUT), BackendLoginRefused),
        (answer(recorded.BW_TOO_MANY), BackendNotReached),
        (answer(recorded.BW_NOT_REACHED), BackendUnavailable),
        (answer(recorded.BW_SERVER_ERROR), BackendUnavailable),
        (answer(recorded.BW_NO_JSON), BackendUnavailable),
        (answer("Syncing failed: You do not have permission."), BackendDenied),
        (answer(recorded.BW_ERRORS["unknown"]), BackendRefused),
        (answer("canary canary"), BackendRefused),
        ({"err": recorded.BW_CRASH, "code": 1}, BackendUnavailable),
        ({"err": "env: 'node': No such file or directory", "code": 127}, BackendUnavailable),
        (answer(None), BackendUnavailable),
        (answer(["canary"]), BackendUnavailable),
        (answer("canary", success="no"), BackendUnavailable),
        (answer("canary", success=True, code=1, data={"object": "list", "data": []}), BackendUnavailable),
    ],
)
def test_what_it_says_has_its_error_and_is_not_shown(bw: StandIn, said: Json, error: type[SecurecfgError]) -> None:
    bw.fail(said)
    with pytest.raises(SecurecfgError) as raised:
        opened(bw, patience=ONCE).read("Example Note")
    assert type(raised.value) is error
    shown = f"{raised.value}{raised.value.hint}{raised.value.__cause__}{raised.value.__context__}"
    assert not any(word in shown for word in ("canary", "FetchError", "localhost", "TypeError", "Allowed"))


def note(**parts: Any) -> list[Json]:  # noqa: ANN401 - JSON
    return [{**BW_NOTE, **parts}]


@pytest.mark.parametrize(
    "data",
    [
        None,
        "canary",
        {},
        {"data": None},
        {"data": {"canary": 1}},
        {"data": [None]},
        {"data": ["canary"]},
        {"data": [{}]},
        {"data": note(name=None)},
        {"data": note(name=1)},
        {"data": note(revisionDate=None)},
        {"data": note(revisionDate="")},
        {"data": note(type=None)},
        {"data": note(type=[1])},
        {"data": note(notes="\ud800canary")},
        {"data": note(type=1, login="canary")},
        {"data": note(fields="canary")},
        {"data": note(fields=["canary"])},
        {"data": note(fields=[{"name": "canary"}])},
        {"data": note(fields=[bw_field("a", "b"), {"type": 0, "name": ["canary"]}])},
        {"data": note(fields=[{"type": 0, "name": "a", "value": ["canary"]}])},
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(bw: StandIn, data: object) -> None:
    bw.fail({"out": json.dumps({"success": True, "data": data})})
    with pytest.raises(SecurecfgError) as raised:
        opened(bw, patience=ONCE).read("Example Note")
    assert isinstance(raised.value, BackendUnavailable | BackendRefused)
    error: BaseException | None = raised.value
    while error is not None:
        assert "canary" not in f"{error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("data", [None, [], {"data": [None]}, {"data": [{"id": "a"}]}, {"data": ["canary"]}])
def test_folders_that_make_no_sense_are_refused(bw: StandIn, data: object) -> None:
    bw.fail({"out": json.dumps({"success": True, "data": data})})
    with pytest.raises(BackendUnavailable):
        opened(bw, place="payments", patience=ONCE).list()


# --- the URI ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "bitwarden:a%0Ab",
        "bitwarden:?session=canary",
        "bitwarden:?program=bw",
        "bitwarden:?env=",
        "bitwarden:?env=canary+session==",
        "bitwarden:?file=",
        "bitwarden:?env=A&file=/b",
        "bitwarden:?sync=1",
    ],
)
def test_a_uri_that_says_something_else_is_refused_without_what_it_may_hold(uri: str) -> None:
    with pytest.raises(InvalidBackendUri) as raised:
        open_backend(uri)
    assert "canary" not in str(raised.value) + raised.value.hint
