"""`securecfg vault`, `key` and `doctor`."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.cli.probing import probe_key
from securecfg.errors import KeyAccessDenied
from securecfg.keys import generate_key_file, open_provider
from securecfg.keys.uri import EXTRAS
from securecfg.vault import Vault
from securecfg.vault.keys.slots import Slots
from tests.cli.running import CANARY, Cli

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.keys import WrapContext


class Tomorrow:
    """A clock that is a day ahead."""

    def now_ns(self) -> int:
        return time.time_ns() + 86_400 * 10**9


class LongAgo:
    """A clock of 400 days ago."""

    def now_ns(self) -> int:
        return time.time_ns() - 400 * 86_400 * 10**9


def vault_file(project: Path) -> Path:
    return project / ".securecfg" / "shop.vault"


# --- vault ------------------------------------------------------------------------------------------------------------


def test_create_makes_a_vault_that_its_administrator_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("key", "generate", "team.key")
    made = cli("vault", "create", "team.vault", "--key", "file:team.key", "--admin", "bo", "--json").json
    assert made["admin"] == "user:bo"
    monkeypatch.setenv("SECURECFG_VAULT", "team.vault")
    monkeypatch.setenv("SECURECFG_KEY", "file:team.key")
    assert cli("secret", "put", "a", "--as", "user:bo", stdin="x").code == 0
    assert cli("secret", "put", "a", "--as", "user:ana", stdin="x").code == 5


def test_create_makes_whom_the_environment_names_the_administrator(
    project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("key", "generate", "team.key")
    monkeypatch.setenv("SECURECFG_AS", "user:eva")
    assert cli("vault", "create", "team.vault", "--key", "file:team.key", "--json").json["admin"] == "user:eva"
    assert cli("vault", "create", "third.vault", "--key", "file:team.key", "--as", "user:ina", "--json").json[
        "admin"
    ] == ("user:ina")


def test_create_refuses_what_is_there_and_asks_for_a_key(project: Path, cli: Cli) -> None:
    outcome = cli("vault", "create", str(vault_file(project)), "--key", "file:x", "--json")
    assert (outcome.code, outcome.error) == (6, "already-exists")
    assert cli("vault", "create", "new.vault", "--json").error == "setting-missing"
    assert not (project / "new.vault").exists()


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [
        ("weak", "has fewer than 12 characters"),
        ("canarycanary", "repeats"),
        ("Password-2026", "among the first"),
        (CANARY, ""),
    ],
)
def test_a_new_slot_says_whether_its_passphrase_is_weak(
    project: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    passphrase: str,
    words: str,
) -> None:
    monkeypatch.setenv("PW", passphrase)
    descriptor, end = os.pipe()
    os.write(end, passphrase.encode())
    os.close(end)
    outcomes = [
        cli("key", "add", "passphrase:?env=PW", "--no-input"),
        cli("key", "add", f"passphrase:?fd={descriptor}", "--json"),
        cli("vault", "create", "other.vault", "--key", "passphrase:?env=PW", "--no-input"),
    ]
    os.close(descriptor)
    (project / "securecfg.toml").unlink()
    outcomes.append(cli("init", "--vault", "third.vault", "--key", "passphrase:?env=PW", "--json"))
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
        assert passphrase not in outcome.err
        if words:
            warning, hint = outcome.err.splitlines()
            assert warning.startswith("warning: the passphrase")
            assert words in warning
            assert hint.startswith("hint: ")
        else:
            assert outcome.err == ""
    assert caplog.records == []


def test_opening_with_a_weak_passphrase_warns_of_nothing(
    project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "weak")
    cli("key", "add", "passphrase:?env=PW")
    assert cli("secret", "list", "--key", "passphrase:?env=PW").err == ""


def test_one_thing_is_not_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, project: Path) -> None:
    """In a vault with one record, one rule and one secret in one version."""
    cli("key", "generate", "one.key")
    cli("vault", "create", "one.vault", "--key", "file:one.key", "--admin", "ana")
    monkeypatch.setenv("SECURECFG_VAULT", "one.vault")
    monkeypatch.setenv("SECURECFG_KEY", "file:one.key")
    (project / "one.toml").write_text(
        "[roles.a]\nmembers = ['svc:a']\n[[roles.a.grants]]\nactions = ['read']\npaths = ['a']\n"
    )
    (project / "cases.toml").write_text(
        "[[cases]]\nname = 'a'\nwho = 'svc:a'\nwhat = 'read'\nwhere = 'a'\nexpected = 'allowed'\n"
    )
    (project / "c.yaml").write_text("a: ${secret:a}\n")
    commands = [
        ("audit", "verify"),
        ("vault", "verify"),
        ("vault", "status"),
        ("vault", "adopt", "--yes"),
        ("doctor",),
        ("policy", "check", "one.toml"),
        ("policy", "test", "cases.toml", "--policy", "one.toml"),
        ("config", "check", "c.yaml"),
        ("audit", "export", "--tiles", "tiles"),
        ("audit", "report", "-o", "report"),
        ("audit", "report", "verify", "report"),
        ("policy", "fmt", "one.toml", "--check"),
    ]
    said = ""
    for command in commands:
        outcome = cli(*command)
        assert outcome.code in {0, 6}, outcome.err
        said += outcome.text + outcome.err
    assert re.findall(r"\b1 (?:\w+ )?\w+s\b", said) == []
    for words in (
        "1 record",
        "1 signing key",
        "1 document, 1 rule",
        "1 case",
        "1 value, 1 secret among them",
        "1 file ",
    ):
        assert words in said, said


def test_open_tells_who_and_how_much(stored: Path, cli: Cli) -> None:
    shown = cli("vault", "open", "--json").json
    assert (shown["state"], shown["principal"]) == ("open", "user:ana")
    assert cli("vault", "open").text.startswith(f"open  {shown['id']}   as  user:ana")


def test_status_answers_an_operator(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "gone", stdin="x")
    cli("secret", "delete", "gone")
    shown = cli("vault", "status", "--json").json
    assert shown["state"] == "open"
    assert (shown["secret_count"], shown["deleted_count"]) == (1, 1)
    assert shown["slots_by_kind"] == {"file": 1, "recovery": 1}
    assert shown["anchor_record_count"] == shown["record_count"]
    assert shown["pending"] == []
    assert shown["size_bytes"] == vault_file(stored).stat().st_size
    text = cli("vault", "status").text
    assert "secrets      1, and 1 deleted" in text
    assert "db/main" not in text


def test_status_without_a_key_shows_what_the_file_tells(stored: Path, cli: Cli) -> None:
    cli("key", "generate", "other.key")
    for key in ("file:other.key", "file:none", "passphrase:"):
        outcome = cli("vault", "status", "--key", key, "--no-input", "--json")
        assert outcome.code == 0
        assert outcome.json["state"] == "sealed"
        assert outcome.json["slots_by_kind"] == {"file": 1, "recovery": 1}
        assert "secret_count" not in outcome.json


def test_verify_finds_a_sound_vault_sound(stored: Path, cli: Cli) -> None:
    before = cli("vault", "open", "--json").json["record_count"]
    shown = cli("vault", "verify", "--json").json
    assert shown["record_count"] == before
    assert shown["orphans"] == {}
    assert cli("vault", "verify").text.count("sound") == 2


def test_verify_finds_damage_and_names_only_what_may_be_listed(stored: Path, cli: Cli) -> None:
    import apsw

    from securecfg.store import Space

    database = apsw.Connection(os.fspath(vault_file(stored)))
    table = f"s{int(Space.VALUE)}"
    database.execute(f"UPDATE {table} SET b = zeroblob(length(b)) WHERE i = (SELECT max(i) FROM {table})")  # noqa: S608 - a name made here
    database.close()
    outcome = cli("vault", "verify", "--json")
    assert (outcome.code, outcome.error) == (8, "tampered")
    assert "db/main@1" in outcome.json["error"]["message"]
    hidden = cli("vault", "verify", "--as", "user:eve", "--json")
    assert "db/main" not in hidden.json["error"]["message"]


def test_a_copy_put_back_is_refused_until_it_is_adopted(stored: Path, cli: Cli) -> None:
    shutil.copy(vault_file(stored), "old")
    cli("secret", "put", "db/main", stdin="x")
    shutil.copy("old", vault_file(stored))
    refused = cli("vault", "open", "--json")
    assert (refused.code, refused.error) == (8, "rollback-suspected")
    assert "vault adopt" in refused.json["error"]["hint"]
    unconfirmed = cli("vault", "adopt", "--no-input")
    assert unconfirmed.code == 2
    assert "this machine recorded" in unconfirmed.err
    assert cli("vault", "adopt", "--yes", "--reason", "restored on purpose").code == 0
    assert cli("vault", "open").code == 0


def test_a_vault_that_another_clock_dated_into_the_future_is_told_and_adopted(stored: Path, cli: Cli) -> None:
    with Vault.open(clock=Tomorrow()) as vault:
        vault.write("db/other", "x")
    assert cli("vault", "status", "--json").json["clock_behind"]
    assert "in the future of this machine's clock: set this clock" in cli("vault", "status").text
    outcome = cli("doctor", "--json")
    (check,) = (check for check in outcome.json["checks"] if check["name"] == "clock")
    assert (outcome.code, check["grade"]) == (9, "problem")
    assert "securecfg vault adopt" in check["hint"]
    assert "in the future of this clock" in cli("vault", "adopt", "--no-input").err
    assert cli("vault", "adopt", "--yes").code == 0
    assert cli("doctor").code == 0
    assert not cli("vault", "status", "--json").json["clock_behind"]


def test_adopt_decides_before_it_asks(stored: Path, cli: Cli) -> None:
    outcome = cli("vault", "adopt", "--as", "user:eve", "--no-input", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")


# --- key --------------------------------------------------------------------------------------------------------------


def test_generate_never_writes_over_a_file(project: Path, cli: Cli) -> None:
    shown = cli("key", "generate", "a.key", "--json").json
    assert shown["uri"] == f"file:{project / 'a.key'}"
    content = (project / "a.key").read_bytes()
    assert stat.S_IMODE((project / "a.key").stat().st_mode) == 0o600
    outcome = cli("key", "generate", "a.key", "--json")
    assert (outcome.code, outcome.error) == (6, "already-exists")
    assert (project / "a.key").read_bytes() == content
    assert cli("key", "generate", "none/a.key").code == 9


def test_list_shows_slots_from_1(project: Path, cli: Cli) -> None:
    slots = cli("key", "list", "--json").json["slots"]
    assert [(slot["slot"], slot["kind"], slot["label"]) for slot in slots] == [
        (1, "file", ""),
        (2, "recovery", "recovery code"),
    ]
    assert all(slot["last_used"] is None and slot["added"].endswith("Z") for slot in slots)
    assert cli("key", "list").text.splitlines()[0].startswith("SLOT  KIND")


def test_a_key_comes_is_tested_and_goes(project: Path, cli: Cli) -> None:
    cli("key", "generate", "two.key")
    assert cli("key", "test", "file:two.key", "--json").error == "wrong-key"
    added = cli("key", "add", "file:two.key", "--label", "second", "--json").json
    assert added == {"slot": 3, "kind": "file", "label": "second"}
    assert cli("key", "test", "file:two.key", "--json").json["slot"] == 3
    assert cli("vault", "open", "--key", "file:two.key").code == 0
    refused = cli("key", "remove", "3", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    assert cli("key", "remove", "3", "--yes").code == 0
    assert cli("vault", "open", "--key", "file:two.key").code == 7
    assert cli("key", "remove", "3", "--yes").code == 3


def test_never_removes_the_last_key(project: Path, cli: Cli) -> None:
    assert cli("key", "remove", "2", "--yes").code == 0
    outcome = cli("key", "remove", "1", "--yes", "--json")
    assert (outcome.code, outcome.error) == (6, "last-slot")
    assert cli("vault", "open").code == 0


def test_a_new_recovery_code_is_shown_once_and_opens(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", cli("key", "add", "recovery:", "--json").json["recovery_code"])
    assert cli("key", "test", "recovery:?env=CODE", "--json").json["slot"] == 3


def test_managing_keys_is_decided_before_anything_else(project: Path, cli: Cli) -> None:
    for arguments in (
        ["list"],
        ["add", "nonsense"],
        ["rotate", "slot", "77", "--slot-key", "nonsense"],
        ["remove", "77"],
        ["test", "file:none"],
        ["rotate", "root"],
        ["rotate", "root", "--dry-run"],
        ["rotate", "scope"],
        ["rotate", "data", "nothing"],
        ["retire", "77"],
        ["usage"],
    ):
        outcome = cli("key", *arguments, "--as", "user:eve", "--no-input", "--json")
        assert (outcome.code, outcome.error) == (5, "denied")


def test_a_new_root_is_sealed_to_every_slot(stored: Path, cli: Cli) -> None:
    assert cli("key", "rotate", "root", "--dry-run", "--json").json == {"slots": 2, "scopes": [], "is_done": False}
    cli("key", "generate", "two.key")
    cli("key", "add", "file:two.key")
    assert cli("key", "rotate", "root").text == "rotated  root, sealed to 3 slots\n"
    for key in ((), ("--key", "file:two.key")):
        assert cli("vault", "verify", *key).code == 0


def test_a_new_scope_key_takes_everything_over(stored: Path, cli: Cli) -> None:
    planned = cli("key", "rotate", "scope", "/", "--dry-run", "--json").json
    assert planned["rows"] > 0
    assert planned["epoch"] == 1
    assert cli("key", "rotate", "scope", "/", "--keep", "--json").json == {"epoch": 1, "retired": False}
    usage = {key["epoch"]: key for key in cli("key", "usage", "--json").json["keys"] if key["purpose"] == "scope"}
    assert (usage[0]["rows"], usage[0]["is_active"], usage[1]["is_active"]) == (0, False, True)
    assert usage[1]["rows"] > 0
    assert cli("key", "retire", "0").text == "retired  scope key of epoch 0\n"
    assert cli("key", "rotate", "scope").text == "rotated  scope key of epoch 2, older ones are forgotten\n"
    assert cli("key", "rotate", "scope", "--resume", "--json").json == {"epoch": 2, "retired": False}
    assert [key["epoch"] for key in cli("key", "usage", "--json").json["keys"] if key["purpose"] == "scope"] == [2]
    assert cli("vault", "verify").code == 0
    assert cli("key", "retire", "2", "--json").error == "epoch-in-use"
    assert cli("key", "retire", "1", "--json").error == "version-not-found"
    assert cli("key", "rotate", "scope", "app/", "--json").error == "secret-not-found"
    assert cli("key", "usage").text.splitlines()[0].split()[:6] == ["KEY", "EPOCH", "STATE", "SINCE", "AGE", "USED"]


def test_data_keys_are_replaced_below_a_path(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "app/a", stdin="one")
    cli("secret", "put", "app/b", stdin="two")
    assert cli("key", "rotate", "data", "app/", "--json").json == {"path": "app/", "secret_count": 2, "left": []}
    assert cli("key", "rotate", "data", "app/a").text == "rotated  the data keys of 1 secret\n"
    assert cli("secret", "get", "app/a", "--reveal").text == "one"
    assert cli("key", "rotate", "data", "nothing", "--json").error == "secret-not-found"


# --- doctor -----------------------------------------------------------------------------------------------------------


def grades(cli: Cli, *arguments: str) -> dict[str, str]:
    return {check["name"]: check["grade"] for check in cli("doctor", "--json", *arguments).json["checks"]}


def test_doctor_finds_nothing_wrong_with_a_new_project(project: Path, cli: Cli) -> None:
    outcome = cli("doctor")
    assert outcome.code == 0
    assert "problem" not in outcome.text
    found = grades(cli)
    assert {found[name] for name in ("opens", "anchor", "policy", "clock", "SQLite", "package name")} == {"ok"}


def test_doctor_names_every_extra_that_a_key_may_need(project: Path, cli: Cli) -> None:
    (extras,) = (check for check in cli("doctor", "--json").json["checks"] if check["name"] == "extras")
    named = set(re.findall(r"[a-z0-9]+", extras["message"].replace("not installed", "").replace("installed", "")))
    assert named - {"none"} == {*EXTRAS, "pydantic", "ssh"}


def anchor_of(cli: Cli) -> dict[str, str]:
    checks = cli("doctor", "--json").json["checks"]
    return next(check for check in checks if check["name"] == "anchor")


def anchor_file(home: Path) -> Path:
    (path,) = (home / ".local" / "state" / "securecfg" / "anchors").iterdir()
    return path


def test_doctor_says_that_nothing_was_recorded_and_that_it_is_now(stored: Path, cli: Cli, home: Path) -> None:
    anchor_file(home).unlink()
    first = anchor_of(cli)
    assert first["grade"] == "warning"
    assert "had recorded nothing of the vault" in first["message"]
    assert "audit verify --against" in first["hint"]
    assert anchor_of(cli)["grade"] == "ok"


def test_doctor_says_how_far_an_anchor_was_behind(
    stored: Path, cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.cli.findings._UNSEEN_MANY", 3)
    known = cli("vault", "open", "--json").json["record_count"]
    stale = anchor_file(home).read_bytes()
    for number in range(3):
        cli("secret", "put", f"a/{number}", stdin="x")
    anchor_file(home).write_bytes(stale)
    assert anchor_of(cli)["grade"] == "ok"
    cli("secret", "put", "a/4", stdin="x")
    anchor_file(home).write_bytes(stale)
    late = anchor_of(cli)
    assert late["grade"] == "warning"
    assert f"knew only {known} of {known + 4} records" in late["message"]
    assert anchor_of(cli)["grade"] == "ok"


def test_doctor_says_that_an_anchor_cannot_be_written(stored: Path, cli: Cli, home: Path) -> None:
    path = anchor_file(home)
    path.unlink()
    path.mkdir()
    found = anchor_of(cli)
    assert found["grade"] == "warning"
    assert "cannot record more; an older copy may pass unnoticed" in found["message"]
    assert str(path) in found["hint"]


def test_doctor_warns_of_keys_that_are_old_or_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    generate_key_file("old.key")
    Vault.create("old.vault", key="file:old.key", admin="ana", clock=LongAgo()).close()
    flags = ("--vault", "old.vault", "--key", "file:old.key", "--as", "user:ana")
    assert grades(cli, *flags)["key limits"] == "warning"
    told = cli("doctor", *flags).text
    assert "the `scope` key has passed its limit: 110% of 365 days" in told
    assert "`securecfg key rotate scope /` replaces it" in told
    assert cli("key", "rotate", "scope", "--keep", *flags).code == 0
    assert grades(cli, *flags)["key limits"] == "ok"
    assert grades(cli, *flags)["older keys"] == "note"
    assert "1 older key of the scope `/` is still kept" in cli("doctor", *flags).text
    assert cli("key", "rotate", "scope", "--resume", *flags).code == 0
    assert "older keys" not in grades(cli, *flags)


def test_doctor_works_without_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("doctor").code == 0
    assert grades(cli)["settings"] == "note"
    assert cli("doctor", "--vault", "none").code == 3


def test_doctor_names_what_expired_and_what_others_can_reach(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "short", "--ttl", "1s", stdin=CANARY)
    vault_file(stored).chmod(0o644)
    cli("key", "remove", "2", "--yes")
    time.sleep(1.1)
    found = grades(cli)
    assert (found["expiry"], found["permissions"], found["keys"]) == ("warning", "warning", "warning")
    outcome = cli("doctor")
    assert outcome.code == 0
    assert "expired: `short`" in outcome.text
    assert "chmod 600" in outcome.text
    expired = cli("secret", "get", "short", "--reveal", "--json")
    assert (expired.code, expired.error) == (3, "secret-expired")


def test_doctor_exits_with_the_gravest_problem(stored: Path, cli: Cli) -> None:
    assert cli("doctor", "--key", "file:none").code == 7
    assert cli("doctor", "--key", "gcpkms:x").code == 2
    vault_file(stored).write_bytes(b"not a vault")
    outcome = cli("doctor", "--json")
    assert outcome.code == outcome.json["exit_code"] == 8


def test_doctor_notices_the_other_project_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    other = tmp_path / "site" / "securecfg-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: securecfg\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    outcome = cli("doctor")
    assert outcome.code == 10
    assert "pip uninstall securecfg securecfg-vault" in outcome.text


def test_changes_the_key_that_signs_the_log(project: Path, cli: Cli) -> None:
    assert cli("key", "rotate", "audit", "--json").json["epoch"] == 1
    assert cli("audit", "verify").code == 0
    assert cli("key", "rotate", "audit", "--as", "user:nobody").code == 5


def test_a_key_is_tried_out_with_a_round_trip(stored: Path, cli: Cli) -> None:
    cli("key", "generate", "web.key")
    assert cli("key", "add", "file:web.key").code == 0
    shown = cli("key", "test", "file:web.key", "--json").json
    assert (shown["slot"], shown["kind"], shown["remote"], shown["refusal"]) == (3, "file", False, None)
    assert all(0 <= shown[name] < 60_000 for name in ("open_ms", "wrap_ms", "unwrap_ms"))
    assert shown["facts"] == {}
    text = cli("key", "test", "file:web.key").text
    assert re.fullmatch(r"opens +slot 3, in [\d.]+ ms\nround trip +wraps in [\d.]+ ms, unwraps in [\d.]+ ms\n", text)
    cli("key", "generate", "other.key")
    assert cli("key", "test", "file:other.key", "--json").error == "wrong-key"


def test_a_key_that_only_opens_is_said_to_wrap_nothing(stored: Path, cli: Cli) -> None:
    cli("key", "generate", "web.key")
    provider = OnlyOpens("file:web.key")
    with Vault.open() as vault:
        Slots(vault.authority).add(provider.whole)
        found = probe_key(vault, provider)
    assert found.to_json()["refusal"] == {"code": "key-access-denied", "message": "it may not encrypt"}
    assert (found.slot, found.wrap_ms, found.unwrap_ms) == (3, None, None)
    assert "opens slots, wraps no new key: it may not encrypt" in found.lines()[1]
    assert found.lines()[2].split() == ["made", "of", "straw"]


class OnlyOpens:
    """A key file as somebody has it who may decrypt and not encrypt."""

    scheme = "file"
    kind = 2

    def __init__(self, uri: str) -> None:
        self.whole = open_provider(uri)

    def wrap(self, _key: bytes, _context: WrapContext) -> bytes:
        message = "it may not encrypt"
        raise KeyAccessDenied(message)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        return self.whole.unwrap(wrapped, context)

    def describe(self) -> dict[str, str]:
        return {"made of": "straw"}


def test_providers_are_listed_with_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # as if it were not installed
    shown = {one["scheme"]: one for one in cli("key", "providers", "--json").json["providers"]}
    assert {"awskms", "file", "gcpkms", "keyring", "passphrase", "pkcs11", "recovery"} <= shown.keys()
    assert shown["file"] == {"scheme": "file", "usable": True, "origin": "securecfg-vault", "install": ""}
    assert shown["gcpkms"]["usable"] is True
    assert shown["awskms"]["usable"] is False
    assert shown["awskms"]["install"] == "pip install 'securecfg-vault[awskms]'"
    assert re.search(r"^file: +usable +securecfg-vault$", cli("key", "providers").text, re.MULTILINE)
