"""`1password:` over a stand-in for `op` that answers in its words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.backends import StoredVersion, open_backend
from securecfg.backends.onepassword import TOKEN_VARIABLE
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
    OP_AT,
    OP_CODE,
    OP_COLLISION,
    OP_DOCUMENT,
    OP_LOGIN,
    OP_PASSWORD,
    OP_VAULT_ID,
    op_item,
)
from tests.backends.passwords.stand_in import ACCOUNT, SECRET, StandIn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from securecfg.backends import OpenBackend
    from tests.backends.passwords.recorded import Json

ONCE = Patience(20.0, ())
READ = {
    "Example Login 1": {
        "username": "johndoe",
        "password": "hunter2-login",
        "Example Section/Example Field 1 Label": "Example Field 1 Text",
        "Example Section/Example Field 2 Label": "https://example-field-2.url",
        "one-time password": "otpauth://totp/johndoe?secret=AAAAY3DPEHPK3PXP",
    },
    "Example API Credential": {
        "username": "__token__",
        "credential": "hunter2-credential",
        "type": "other",
        "valid from": "1641038460",
        "expires": "1656590460",
        "hostname": "api.example.com",
    },
    "Example SSH Key": {
        "public key": "ssh-ed25519 AAAAC3Nz",
        "fingerprint": "SHA256:O+ehRdAh",
        "private key": "-----BEGIN PRIVATE KEY-----\nMFMC\n",
        "key type": "ed25519",
    },
    "Example Password": "hunter2-password",
    "Example Secure Note": "Note text here. **Markdown** supported.\n\nWhat does it look like?",
    # Recorded so: one field that is there twice in every respect is one.
    "Login Item Section Collisions": {"Security Code/399BE6B606F64D04AEF7516C8CB286BA": "8294"},
}


@pytest.fixture
def op(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    op = StandIn(tmp_path, "op", TOKEN_VARIABLE)
    items = [item for item in vars(recorded).values() if isinstance(item, dict) and item.get("title") in READ]
    op.hold(*items, OP_DOCUMENT)
    return op


def opened(
    op: StandIn,
    options: str = "",
    vault: str = "Test%20Data",
    patience: Patience = HASTY,
    credentials: Mapping[str, Secret[str]] | None = None,
) -> OpenBackend:
    return open_backend(f"1password:{vault}?program={op.path}{options}", patience=patience, credentials=credentials)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", READ)
def test_items_are_read_by_their_filled_fields(op: StandIn, title: str) -> None:
    assert plain(opened(op).read(title)) == READ[title]


def test_the_version_is_that_of_the_item(op: StandIn) -> None:
    found = opened(op).read("Example Login 1")
    assert found.version == StoredVersion("6", created=datetime(2022, 6, 27, 1, 52, 11, tzinfo=UTC))


@pytest.mark.parametrize("said", ["yesterday", "2022-06-27T01:52:11", None, 1])
def test_a_time_that_is_none_is_left_out(op: StandIn, said: object) -> None:
    op.hold({**OP_PASSWORD, "updated_at": said})
    assert opened(op).read("Example Password").version.created is None


def test_a_document_has_no_value(op: StandIn) -> None:
    with pytest.raises(SecretNotFound, match="no field with a text"):
        opened(op).read("Example Document")
    assert "Example Document" in opened(op).list().paths


def test_fields_of_one_name_are_refused_where_they_differ(op: StandIn) -> None:
    op.hold({**OP_COLLISION, "fields": [OP_CODE, {**OP_CODE, "value": "canary"}]})
    with pytest.raises(BackendRefused, match="one name") as raised:
        opened(op).read("Login Item Section Collisions")
    assert "canary" not in str(raised.value)


def test_a_field_is_told_from_another_by_its_section(op: StandIn) -> None:
    other = {**OP_CODE, "section": {"id": "x", "label": "Other"}, "value": "1"}
    op.hold({**OP_COLLISION, "fields": [OP_CODE, other]})
    id_ = OP_CODE["id"]
    assert plain(opened(op).read(OP_COLLISION["title"])) == {f"Security Code/{id_}": "8294", f"Other/{id_}": "1"}


def test_what_is_not_a_password_alone_is_fields(op: StandIn) -> None:
    op.hold(op_item("a" * 26, "a", [{"id": "x", "type": "CONCEALED", "label": "token", "value": "1"}]))
    assert plain(opened(op).read("a")) == {"token": "1"}


def test_a_stand_in_for_what_is_concealed_is_not_taken_for_it(op: StandIn) -> None:
    kept_back = f"[use 'op item get {OP_PASSWORD['id']} --reveal' to reveal]"
    op.hold({**OP_PASSWORD, "fields": [{**OP_PASSWORD["fields"][0], "value": kept_back}]})
    with pytest.raises(BackendRefused, match="concealed"):
        opened(op).read("Example Password")


# --- titles -----------------------------------------------------------------------------------------------------------


def test_a_title_that_two_items_have_is_passed_over_and_not_read(op: StandIn) -> None:
    op.hold(OP_PASSWORD, {**OP_PASSWORD, "id": "b" * 26}, OP_LOGIN)
    assert opened(op).list() == (["Example Login 1"], 2)
    with pytest.raises(BackendRefused, match="2 items"):
        opened(op).read("Example Password")
    assert opened(op).list("other/") == ([], 0)


@pytest.mark.parametrize("title", ["", "a//b", "a\nb", "/a", "e\u0301", "x" * 1_100])
def test_a_title_that_is_no_path_is_passed_over(op: StandIn, title: str) -> None:
    op.hold({**OP_PASSWORD, "title": title}, OP_LOGIN)
    assert opened(op).list() == (["Example Login 1"], 1)


def test_titles_are_compared_in_every_character(op: StandIn) -> None:
    op.hold(OP_PASSWORD, {**OP_PASSWORD, "id": "b" * 26, "title": "example password"})
    for path in ("example passwor", OP_PASSWORD["id"], "EXAMPLE PASSWORD"):
        with pytest.raises(SecretNotFound):
            opened(op).read(path)
    assert opened(op).read("example password").version.id == "1"


# --- how it is run ----------------------------------------------------------------------------------------------------


def test_an_item_is_looked_for_and_then_fetched_by_its_id(op: StandIn) -> None:
    opened(op).read("Example Password")
    common = ["--vault=Test Data", "--format=json", "--cache=false", "--no-color"]
    assert [run.arguments for run in op.runs()] == [
        ["item", "list", *common],
        ["item", "get", OP_PASSWORD["id"], *common],
    ]


def test_no_argument_holds_a_secret_and_no_variable_comes_along_unasked(
    op: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in = {"OP_CONNECT_HOST": "http://localhost:8080", "OP_CONNECT_TOKEN": SECRET, "OP_SESSION_my": SECRET}
    kept_out = {
        "LD_PRELOAD": "",
        "NODE_OPTIONS": "--require=x",
        "OP_FORMAT": "human-readable",
        "AWS_ACCESS_KEY_ID": "x",
    }
    for name, value in (let_in | kept_out).items():
        monkeypatch.setenv(name, value)
    opened(op).read("Example Password")
    for run in op.runs():
        assert SECRET not in " ".join(run.arguments)
        assert let_in.items() <= run.variables.items()
        assert not kept_out.keys() & run.variables.keys()
        assert (run.folder, run.input) == ("/", "")


@pytest.mark.parametrize("place", ["env", "file", "given"])
def test_a_token_that_the_uri_names_goes_before_all_others(
    op: StandIn, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n", encoding="utf-8")
    monkeypatch.setenv("READER_TOKEN", SECRET)
    for name in (TOKEN_VARIABLE, "OP_CONNECT_HOST", "OP_CONNECT_TOKEN", "OP_SESSION_my", "OP_ACCOUNT"):
        monkeypatch.setenv(name, "of somebody else")
    option = {"env": "&env=READER_TOKEN", "file": f"&file={tmp_path}/token", "given": ""}[place]
    given = {TOKEN_VARIABLE: Secret(SECRET)} if place == "given" else None
    assert plain(opened(op, option, credentials=given).read("Example Password")) == "hunter2-password"
    for run in op.runs():
        assert {name: value for name, value in run.variables.items() if name.startswith("OP_")} == {
            TOKEN_VARIABLE: SECRET
        }


def test_a_token_that_is_not_there_is_no_login_and_nothing_is_run(op: StandIn, tmp_path: Path) -> None:
    for option in ("&env=NO_SUCH_VARIABLE", f"&file={tmp_path}/none"):
        with pytest.raises(BackendLoginRefused):
            opened(op, option).list()
    assert op.runs() == []


def test_a_token_is_read_anew_for_each_call(op: StandIn, tmp_path: Path) -> None:
    backend = opened(op, f"&file={tmp_path}/token", patience=ONCE)
    (tmp_path / "token").write_text("old", encoding="utf-8")
    with pytest.raises(BackendLoginRefused):
        backend.list()
    (tmp_path / "token").write_text(SECRET, encoding="utf-8")
    assert backend.list().paths


def test_an_account_that_the_uri_names_is_asked_for(op: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert opened(op, f"&account={ACCOUNT}").list().paths
    assert op.runs()[0].arguments[-1] == f"--account={ACCOUNT}"


def test_a_vault_is_named_by_its_id_too_and_never_an_option(op: StandIn) -> None:
    assert opened(op, vault=OP_VAULT_ID).list().paths
    with pytest.raises(BackendRefused, match="no vault `--help`"):
        opened(op, vault="--help").list()
    assert op.runs()[-1].arguments[2] == "--vault=--help"


def test_that_it_is_not_installed_names_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExtraMissing, match="`op`") as raised:
        open_backend("1password:Test").list()
    assert "1Password CLI" in raised.value.hint


@pytest.mark.parametrize("option", ["", "&env=NO_SUCH_VARIABLE", "&file=/no/such/file"])
def test_what_is_given_with_the_uri_stands_before_all_else(
    op: StandIn, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "of somebody else")
    given = {TOKEN_VARIABLE: Secret(SECRET)}
    assert (
        open_backend(f"1password:Test%20Data?program={op.path}{option}", credentials=given, patience=ONCE).list().paths
    )
    assert known_credentials("1password:Test%20Data") == {TOKEN_VARIABLE}
    with pytest.raises(InvalidBackendUri):
        open_backend("1password:Test%20Data", credentials={"ANOTHER": Secret(SECRET)})


def test_an_account_goes_with_no_token_that_is_given() -> None:
    with pytest.raises(InvalidBackendUri):
        open_backend("1password:Test?account=a", credentials={TOKEN_VARIABLE: Secret(SECRET)})


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code", "error"),
    [
        (recorded.OP_ERRORS["not signed in"], 1, BackendLoginRefused),
        (recorded.OP_ACCOUNT_NOT_SIGNED_IN, 1, BackendLoginRefused),
        (recorded.OP_NO_ACCOUNT, 1, BackendLoginRefused),
        (recorded.OP_TOKEN_NOT_TAKEN, 1, BackendLoginRefused),
        (recorded.OP_TOKEN_DELETED, 1, BackendLoginRefused),
        (recorded.OP_NO_LEAVE, 1, BackendLoginRefused),
        (recorded.OP_LATE_LEAVE, 1, BackendLoginRefused),
        (recorded.OP_FORBIDDEN, 1, BackendDenied),
        (recorded.OP_TOO_MANY, 1, BackendNotReached),
        (recorded.OP_NO_APP, 1, BackendUnavailable),
        (recorded.OP_NO_HOST, 1, BackendUnavailable),
        (recorded.OP_SERVER_ERROR, 1, BackendUnavailable),
        (recorded.OP_PANIC, 2, BackendUnavailable),
        ("", 127, BackendUnavailable),
        (recorded.OP_ERRORS["usage"], 1, BackendRefused),
        (recorded.OP_BAD_REQUEST, 1, BackendRefused),
        pytest.param(recorded.OP_ERRORS["no vault"] % "(401) timeout", 1, BackendRefused, id="no-vault"),
        (OP_AT + "canary canary", 4, BackendRefused),
    ],
)
def test_what_it_says_has_its_error_and_is_not_shown(
    op: StandIn, said: str, code: int, error: type[SecurecfgError]
) -> None:
    op.fail({"err": said, "code": code})
    with pytest.raises(SecurecfgError) as raised:
        opened(op, patience=ONCE).read("Example Password")
    assert type(raised.value) is error
    shown = f"{raised.value}{raised.value.hint}{raised.value.__cause__}{raised.value.__context__}"
    assert not any(word in shown for word in ("canary", "goroutine", "LookupAuth", "my.1password.com", "(401)"))


def test_who_is_told_to_come_back_in_an_hour_does_not_ask_again_at_once(op: StandIn) -> None:
    op.fail({"err": recorded.OP_TOO_MANY, "code": 1})
    with pytest.raises(BackendNotReached) as raised:
        opened(op).list()
    assert raised.value.retry_after_s == 58 * 60
    assert len(op.runs()) == 1


def test_a_person_is_not_asked_again_who_gave_no_leave(op: StandIn) -> None:
    op.fail({"err": recorded.OP_LATE_LEAVE, "code": 1})
    with pytest.raises(BackendLoginRefused):
        opened(op).list()
    assert len(op.runs()) == 1


def test_an_item_that_goes_while_it_is_read_is_not_there(op: StandIn) -> None:
    op.fail(None, {}, {"err": recorded.OP_ERRORS["no item"] % (OP_PASSWORD["id"], "Test Data"), "code": 1})
    with pytest.raises(SecretNotFound):
        opened(op).read("Example Password")


def listed(**parts: Any) -> list[Json]:  # noqa: ANN401 - JSON
    return [{**OP_PASSWORD, **parts}]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"a": 1},
        "text",
        [None],
        [1],
        ["text"],
        [{}],
        listed(title=None),
        listed(title=["a"]),
        listed(id=None),
        listed(id=""),
        listed(id="--help"),
        listed(id="a b"),
        listed(id="a" * 65),
    ],
)
def test_a_listing_that_makes_no_sense_is_refused(op: StandIn, answer: object) -> None:
    op.fail({"out": json.dumps(answer)})
    if answer == {}:
        assert opened(op).list().paths == []  # no items
        return
    with pytest.raises(BackendUnavailable):
        opened(op, patience=ONCE).list()


def field(**parts: Any) -> Json:  # noqa: ANN401 - JSON
    return {**OP_PASSWORD, "fields": [{**OP_PASSWORD["fields"][0], **parts}]}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "canary",
        {},
        {**OP_PASSWORD, "id": "b" * 26},
        {**OP_PASSWORD, "version": None},
        {**OP_PASSWORD, "version": "1"},
        {**OP_PASSWORD, "version": True},
        {**OP_PASSWORD, "fields": 1},
        {**OP_PASSWORD, "fields": "canary"},
        {**OP_PASSWORD, "fields": {"canary": 1}},
        {**OP_PASSWORD, "fields": [None]},
        {**OP_PASSWORD, "fields": [["canary"]]},
        field(value=1),
        field(value=["canary"]),
        field(value="\ud800canary"),
        field(purpose=["PASSWORD"]),
        field(purpose="", section="canary"),
        {**OP_PASSWORD, "fields": [{"type": "STRING", "value": "canary"}]},
    ],
)
def test_an_item_that_makes_no_sense_is_refused(op: StandIn, answer: object) -> None:
    op.fail({"out": json.dumps(answer)}, {})
    with pytest.raises(BackendUnavailable) as raised:
        opened(op, patience=ONCE).read("Example Password")
    error: BaseException | None = raised.value
    while error is not None:
        assert "canary" not in f"{error!r}"
        error = error.__cause__ or error.__context__


# --- the URI ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "1password:",
        "1password:?env=TOKEN",
        "1password:a%0Ab",
        "1password:Test?token=canary",
        "1password:Test?program=op",
        "1password:Test?program=",
        "1password:Test?program=./op",
        "1password:Test?program=/bin/op%0A",
        "1password:Test?env=",
        "1password:Test?env=ops_canary-token",
        "1password:Test?file=",
        "1password:Test?env=A&file=/b",
        "1password:Test?account=",
        "1password:Test?account=a%0Ab",
        "1password:Test?account=a&env=B",
    ],
)
def test_a_uri_that_says_something_else_is_refused_without_what_it_may_hold(uri: str) -> None:
    with pytest.raises(InvalidBackendUri) as raised:
        open_backend(uri)
    assert "canary" not in str(raised.value) + raised.value.hint
