"""Rotations as the command line sets, runs, watches and takes them back."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.cli.rotation_words import REASONS
from securecfg.rotation import Strategy, names
from securecfg.rotation.document import Holder
from securecfg.rotation.step_protocol import ERRORS
from securecfg.rotation.steps import Steps
from securecfg.testing.account import Account, Mood
from securecfg.vault import Vault
from securecfg.vault.imports.exposures import Exposures, Mark
from tests.cli.running import CANARY, ROOT, Cli, Terminal
from tests.rotation.accounts import ACCOUNTS, MISSING
from tests.rotation.test_documents import put_newer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH = "app/db"
SOON = ("--wait", "0s")


@pytest.fixture(autouse=True)
def rotators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The rotator `account`."""
    monkeypatch.setitem(names.BUILT_IN, "account", "tests.rotation.accounts")
    ACCOUNTS.append(Account(CANARY))
    yield
    ACCOUNTS.clear()
    MISSING.clear()


@pytest.fixture
def shop(project: Path, cli: Cli) -> Path:
    """A project with a credential, which nothing rotates yet."""
    value = json.dumps({"username": "shop", "password": CANARY})
    assert cli("secret", "put", PATH, "--fields", stdin=value).code == 0
    return project


@pytest.fixture
def rotated(shop: Path, cli: Cli) -> Path:
    """The same, whose credential is rotated when that is asked for."""
    outcome = cli("rotation", "set", PATH, "--rotator", "account")
    assert outcome.code == 0, outcome.err
    return shop


def account() -> Account:
    return ACCOUNTS[-1]


def password(at: int | str | None = None) -> str:
    with Vault.open(principal="user:ana") as vault:
        return str(vault.read(PATH, at=at).field("password").reveal())


def status(cli: Cli, *arguments: str) -> Any:  # noqa: ANN401 - a JSON object
    [one] = cli("rotation", "status", "--json", *arguments).json["rotations"]
    return one


def give(cli: Cli, actions: str, path: str = "app/**") -> None:
    """Let svc:daemon do some things."""
    listed = ", ".join(f'"{action}"' for action in actions.split())
    grants = f'[roles.r]\nmembers = ["svc:daemon"]\n[[roles.r.grants]]\nactions = [{listed}]\npaths = ["{path}"]\n'
    with open("grants.toml", "w", encoding="utf-8") as file:
        file.write(grants)
    assert cli("policy", "apply", "grants.toml", "--yes").code == 0


# --- set and unset ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ([PATH], 3, "rotation-not-found"),
        ([PATH, "--rotator", "nowhere"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "../os"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--option", "length"], 2, "usage"),
        ([PATH, "--rotator", "random", "--option", "length=64", "--option", "length=65"], 2, "usage"),
        ([PATH, "--rotator", "random", "--option", "length=2"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--option", "size=64"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--no-options"], 2, "usage"),
        ([PATH, "--rotator", "random", "--grace", "5"], 2, "usage"),
        ([PATH, "--rotator", "random", "--grace", "500d"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--timeout", "0s"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--consumer", "nobody"], 2, "invalid-metadata"),
        ([PATH, "--rotator", "random", "--every", "often"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--every", "30d", "--cron", "0 3 * * 6"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--cron", "0 3 * * 9"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--ttl-fraction", "1.5"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--window", "Sat 02:00-05:00"], 2, "usage"),
        ([PATH, "--rotator", "random", "--zone", "Europe/Berlin"], 2, "usage"),
        ([PATH, "--rotator", "random", "--every", "30d", "--window", "Caturday"], 2, "invalid-rotation"),
        ([PATH, "--rotator", "random", "--every", "30d", "--no-schedule"], 2, "usage"),
        (["/app/db", "--rotator", "random"], 2, "invalid-path"),
        (["app/nothing", "--rotator", "random"], 3, "secret-not-found"),
    ],
)
def test_refuses_what_is_no_rotation(shop: Path, cli: Cli, arguments: list[str], code: int, error: str) -> None:
    if "--cron" in arguments:
        pytest.importorskip("cronsim", reason="needs the package `cronsim`")
    outcome = cli("rotation", "set", *arguments, "--json")
    assert (outcome.code, outcome.error) == (code, error)
    assert cli("rotation", "status", "--json").json == {"rotations": []}


def test_a_secret_is_no_argument_and_is_not_repeated(shop: Path, cli: Cli) -> None:
    for given in (CANARY, f"admin={CANARY}", f"admin=x${{secret:{CANARY}}}", f"{CANARY}=x"):
        outcome = cli("rotation", "set", PATH, "--rotator", "account", "--option", given, "--json")
        assert (outcome.code, outcome.error) in {(2, "usage"), (2, "invalid-rotation")}


def test_an_option_that_refers_to_a_secret_is_shown_as_a_reference(shop: Path, cli: Cli) -> None:
    reference = f"${{secret:{PATH}#password}}"
    outcome = cli("rotation", "set", PATH, "--rotator", "account", "--option", f"admin={reference}")
    assert outcome.text == f"set  {PATH}   account admin={reference}, when asked\n"
    assert status(cli)["options"] == {"admin": reference}


def test_who_cuts_off_others_has_to_say_so(shop: Path, cli: Cli) -> None:
    ACCOUNTS.append(Account(CANARY, Strategy.SINGLE_SLOT))
    outcome = cli("rotation", "set", PATH, "--rotator", "account", "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-rotation")
    assert "--hard-cut" in outcome.json["error"]["hint"]
    assert cli("rotation", "set", PATH, "--rotator", "account", "--hard-cut").code == 0
    assert status(cli)["is_hard_cut"] is True


def test_what_is_not_given_stays_unless_the_rotator_is_named(shop: Path, cli: Cli) -> None:
    first = ("--option", "length=64", "--option", "field=password", "--grace", "5m", "--consumer", "svc:web")
    cli("rotation", "set", PATH, "--rotator", "random", *first)
    made = cli("rotation", "set", PATH, "--option", "length=48", "--timeout", "5s", "--json").json["rotation"]
    assert made["options"] == {"length": "48", "field": "password"}
    assert (made["grace_s"], made["timeout_s"], made["consumers"]) == (300, 5, ["svc:web"])
    made = cli("rotation", "set", PATH, "--no-options", "--no-consumers", "--option", "field=password", "--json").json
    assert made["rotation"]["options"] == {"field": "password"}
    assert made["rotation"]["consumers"] == []
    made = cli("rotation", "set", PATH, "--rotator", "account", "--json").json["rotation"]
    assert (made["options"], made["grace_s"], made["consumers"]) == ({}, 3600, [])


@pytest.mark.parametrize(
    "command",
    [
        ["set", PATH, "--rotator", "nowhere"],
        ["unset", PATH],
        ["run", PATH],
        ["run", "app/nothing"],
        ["run", PATH, "--dry-run"],
        ["run", "--all"],
        ["run", "--due"],
        ["pause", PATH],
        ["resume", PATH],
        ["retry", PATH],
        ["cancel", PATH],
        ["check", PATH],
        ["history", PATH],
    ],
)
def test_who_may_only_list_changes_nothing_and_is_denied_before_anything_else(
    rotated: Path, cli: Cli, command: list[str]
) -> None:
    give(cli, "list")
    outcome = cli("rotation", *command, "--as", "svc:daemon", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")
    assert account().calls == []
    assert status(cli)["state"] == "idle"
    assert cli("rotation", "status", "--as", "svc:daemon", "--json").json["rotations"][0]["path"] == PATH


def test_who_may_not_list_learns_of_no_rotation(rotated: Path, cli: Cli) -> None:
    assert cli("rotation", "status", "--as", "user:eve", "--json").json == {"rotations": []}
    assert cli("rotation", "status", PATH, "--as", "user:eve", "--json").error == "denied"
    assert cli("rotation", "status", "app/nothing", "--as", "user:eve", "--json").error == "denied"
    assert cli("rotation", "run", "--all", "--as", "user:eve", "--json").json == {"results": []}


def test_what_is_set_by_nobody_is_not_unset(shop: Path, cli: Cli) -> None:
    for command in ("unset", "run", "pause", "resume", "retry", "cancel", "check", "status", "history"):
        outcome = cli("rotation", command, PATH, "--json")
        assert (outcome.code, outcome.error) == (3, "rotation-not-found"), command


def test_unset_leaves_the_secret_as_it_is(rotated: Path, cli: Cli) -> None:
    assert cli("rotation", "unset", PATH).text == f"unset  {PATH}   the secret stays as it is\n"
    assert cli("rotation", "status").text == "nothing is rotated\n"
    assert password() == CANARY


# --- run --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], [PATH, "--all"], ["--due", "--exposed"], [PATH, "--wait", "soon"]])
def test_refuses_to_guess_what_is_to_be_rotated(rotated: Path, cli: Cli, arguments: list[str]) -> None:
    outcome = cli("rotation", "run", *arguments, "--json")
    assert (outcome.code, outcome.error) == (2, "usage")
    assert account().calls == []


def test_run_returns_when_readers_get_the_new_value(rotated: Path, cli: Cli) -> None:
    outcome = cli("rotation", "run", PATH)
    assert outcome.code == 0, outcome.err
    assert outcome.text.startswith(f"rotated  {PATH}@2   @1 stays as `previous` until ")
    assert password("previous") == CANARY
    assert account().accepted == {CANARY, password()}
    one = status(cli)
    assert (one["state"], one["run"]["why"], one["run"]["former"], one["run"]["version"]) == ("current", "asked", 1, 2)
    assert one["last"] == one["run"]["swapped"]
    for command in (
        ("status",),
        ("status", PATH),
        ("history", PATH),
        ("status", "--json"),
        ("history", PATH, "--json"),
    ):
        assert password() not in cli("rotation", *command).text
    assert password() not in cli("audit", "show", "--json").text


def test_a_value_without_grace_is_ended_at_once(shop: Path, cli: Cli) -> None:
    cli("rotation", "set", PATH, "--rotator", "account", "--grace", "0s")
    assert cli("rotation", "run", PATH).text == f"rotated  {PATH}@2\n"
    assert account().accepted == {password()}
    [result] = cli("rotation", "run", PATH, "--json").json["results"]
    assert (result["outcome"], result["error"], result["rotation"]["state"]) == ("rotated", None, "retired")
    assert result["rotation"]["rotation_count"] == 2


def test_a_second_run_does_not_take_the_grace_of_the_first_away(rotated: Path, cli: Cli) -> None:
    cli("rotation", "run", PATH)
    outcome = cli("rotation", "run", PATH, *SOON)
    assert (outcome.code, outcome.text) == (9, "")
    assert "before this one is not over: it waits for the end of the grace, until 20" in outcome.err
    assert status(cli)["run"]["version"] == 2
    assert CANARY in account().accepted


def test_a_target_that_does_not_answer_is_left_undone_with_its_time(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.UNREACHABLE
    outcome = cli("rotation", "run", PATH, *SOON)
    assert (outcome.code, outcome.text) == (9, "")
    assert outcome.err.startswith(f"error: the rotation of `{PATH}` is left undone, and readers get the old value: ")
    assert "it waits for the target, until 20" in outcome.err
    assert "(target-unavailable, 1 attempt)\n" in outcome.err
    assert f"hint: `securecfg rotation run {PATH}` goes on then" in outcome.err
    failed = cli("rotation", "run", PATH, *SOON, "--json")
    assert (failed.code, failed.error) == (9, "rotation-waits")
    [result] = failed.json["results"]
    assert (result["outcome"], result["rotation"]["run"]["reason"]) == ("waits", "target-unavailable")
    assert password() == CANARY
    account().mood = Mood.WELL
    assert status(cli)["run"]["not_before"].endswith("Z")


def test_what_is_slow_to_know_is_waited_for(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.SLOW_TO_KNOW
    outcome = cli("rotation", "run", PATH, "--json")
    assert outcome.code == 0
    assert account().calls.count("verify") >= 4


def test_nothing_is_waited_for_beyond_the_time_that_was_told(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.UNREACHABLE
    # The first pause is at least 2.5 s.
    assert cli("rotation", "run", PATH, "--wait", "1s", "--json").error == "rotation-waits"
    assert len(account().calls) == 1


def test_a_failed_rotation_is_a_conflict_that_says_what_to_do(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.LOCKED
    for _ in range(2):
        outcome = cli("rotation", "run", PATH)
        assert outcome.code == 6
        error, hint = outcome.err.splitlines()
        assert error.startswith(f"error: the rotation of `{PATH}` has failed: a login works, and may not do ")
        assert hint.startswith(f"hint: grant what `securecfg rotation check {PATH}` names as missing; then ")
        assert hint.endswith(f"`securecfg rotation retry {PATH}`, or take it back: `securecfg rotation cancel {PATH}`")
    assert cli("rotation", "run", PATH, "--json").error == "rotation-failed"
    assert password() == CANARY


def test_what_failed_is_shown_first_and_with_what_to_do(rotated: Path, cli: Cli) -> None:
    cli("secret", "put", "app/aaa", stdin=CANARY)
    cli("rotation", "set", "app/aaa", "--rotator", "random")
    account().mood = Mood.LOCKED
    cli("rotation", "run", PATH)
    outcome = cli("rotation", "status")
    assert outcome.code == 0
    heading, first, second, blank, failed, step = outcome.text.splitlines()
    assert heading.split("  ")[0] == "PATH"
    assert first.startswith(f"{PATH}  ")
    assert "failed: privilege-missing" in first
    assert second.startswith("app/aaa  random   not rotated yet")
    assert blank == ""
    assert failed.startswith(
        f"failed  {PATH}: a login works, and may not do what it has to (privilege-missing), 0 s ago"
    )
    assert failed.endswith("readers get the old value")
    assert step.strip().startswith("-> grant what")
    one = status(cli, "--failed")
    assert (one["run"]["failed_in"], one["run"]["reason"]) == ("set", "privilege-missing")
    assert one["run"]["next_step"].startswith("grant what")
    cli("rotation", "cancel", PATH)
    assert cli("rotation", "status", "--failed").text == "no rotation has failed\n"


def test_a_retry_goes_on_from_where_it_failed(rotated: Path, cli: Cli) -> None:
    assert cli("rotation", "retry", PATH, "--json").error == "rotation-failed"
    account().mood = Mood.LOCKED
    cli("rotation", "run", PATH)
    account().mood = Mood.WELL
    assert cli("rotation", "retry", PATH).text == f"retried  {PATH}   `securecfg rotation run {PATH}` goes on at once\n"
    assert cli("rotation", "run", PATH).code == 0
    assert status(cli)["run"]["version"] == 2


def test_cancel_takes_back_at_once_what_the_target_accepts(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.LOCKED
    cli("rotation", "run", PATH)
    assert len(account().accepted) == 2
    account().mood = Mood.WELL
    outcome = cli("rotation", "cancel", PATH)
    assert (outcome.code, outcome.text) == (0, f"taken back  {PATH}   readers get the old value, as before\n")
    assert account().accepted == {CANARY}
    assert status(cli)["state"] == "cancelled"
    assert cli("rotation", "cancel", PATH, "--json").error == "rotation-failed"
    assert cli("rotation", "run", PATH).text.startswith(f"rotated  {PATH}@3   @1 stays")
    assert cli("rotation", "cancel", PATH, "--json").error == "rotation-failed"


def test_what_cannot_be_taken_back_now_is_by_the_next_run(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.UNREACHABLE
    cli("rotation", "run", PATH, *SOON)
    outcome = cli("rotation", "cancel", PATH, "--json")
    assert (outcome.code, outcome.error) == (9, "rotation-waits")
    assert "is not taken back yet" in outcome.json["error"]["message"]
    assert "rotation cancel" not in outcome.json["error"]["hint"]
    assert status(cli)["state"] == "cancelling"
    again = cli("rotation", "run", PATH, *SOON, "--json")
    assert (again.code, again.error) == (9, "rotation-waits")


def test_a_pause_lets_nothing_begin(rotated: Path, cli: Cli) -> None:
    assert cli("rotation", "pause", PATH).text.startswith(f"paused  {PATH}   ")
    outcome = cli("rotation", "run", PATH, "--json")
    assert (outcome.code, outcome.error) == (6, "conflict")
    assert "rotation resume" in outcome.json["error"]["hint"]
    assert cli("rotation", "run", "--all", "--yes", "--json").json == {"results": []}
    assert "paused, not rotated yet" in cli("rotation", "status").text
    assert account().calls == []
    assert cli("rotation", "resume", PATH).text == f"resumed  {PATH}   nothing is under way\n"
    assert cli("rotation", "run", PATH).code == 0
    cli("rotation", "pause", PATH)
    assert cli("rotation", "status").text.rstrip().endswith("  `rotation resume`")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(rotated: Path, cli: Cli) -> None:
    assert cli("rotation", "run", PATH, "--dry-run").text == f"would rotate  {PATH}   by account\n"
    planned = cli("rotation", "run", "--all", "--dry-run", "--json").json
    assert (planned["is_done"], [each["would"] for each in planned["planned"]]) == (False, ["rotate"])
    assert account().calls == []
    cli("rotation", "run", PATH)
    assert cli("rotation", "run", PATH, "--dry-run").text.startswith("would wait for the end of the grace, until 20")
    cli("rotation", "pause", PATH)
    told = f"would do nothing, as it is paused  {PATH}   by account\n"
    assert cli("rotation", "run", PATH, "--dry-run").text == told


def test_all_are_rotated_where_that_is_confirmed_and_the_gravest_end_is_the_exit_code(rotated: Path, cli: Cli) -> None:
    cli("secret", "put", "app/key", stdin=CANARY)
    cli("rotation", "set", "app/key", "--rotator", "random")
    assert cli("rotation", "run", "--all", "--no-input", "--json").error == "confirmation-required"
    assert account().calls == []
    account().mood = Mood.LOCKED
    outcome = cli("rotation", "run", "--all", "--yes")
    assert outcome.code == 6
    failed, hint, done = outcome.text.splitlines()
    assert failed.startswith(f"failed  {PATH}: the rotation of `{PATH}` has failed")
    assert hint.strip().startswith("-> grant what")
    assert done.startswith("rotated  app/key@2   @1 stays as `previous`")
    assert outcome.err.startswith("error: 1 of 2 rotations left undone: the rotation of")


def test_of_a_wait_and_a_failure_the_failure_is_the_exit_code(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.UNREACHABLE
    cli("rotation", "run", PATH, *SOON)
    cli("secret", "put", "app/key", stdin=CANARY)
    cli("rotation", "set", "app/key", "--rotator", "random", "--option", "field=password")
    outcome = cli("rotation", "run", "--all", "--yes", *SOON, "--json")
    assert (outcome.code, outcome.error) == (6, "rotation-failed")
    assert [each["outcome"] for each in outcome.json["results"]] == ["waits", "failed"]
    assert outcome.json["error"]["message"].startswith("1 of 2 rotations left undone, 1 more for another reason: ")


def test_what_is_due_is_what_is_under_way_and_has_something_to_do(rotated: Path, cli: Cli) -> None:
    assert cli("rotation", "run", "--due").text == "nothing is to be done\n"
    cli("rotation", "run", PATH)
    assert cli("rotation", "run", "--due").text == "nothing is to be done\n"
    with Vault.open(principal="user:ana") as vault:
        stored = Steps(vault.authority).find(PATH)
        progress = stored.rotation.progress
        assert progress is not None
        over = stored.rotation._replace(progress=progress._replace(not_before_ns=1))
        obj = {"path": PATH, "rotator": "account", "action": "test"}
        Steps(vault.authority).change(stored, lambda _: over, obj)
    assert cli("rotation", "run", "--due").text == f"ended     the old value of {PATH}\n"
    assert account().accepted == {password()}


def test_what_is_due_begins(rotated: Path, cli: Cli) -> None:
    with Vault.open(principal="user:ana") as vault:
        stored = Steps(vault.authority).find(PATH)
        obj = {"path": PATH, "rotator": "account", "action": "test"}
        Steps(vault.authority).change(stored, lambda _: stored.rotation._replace(due_ns=1), obj)
    assert " ago  never" in cli("rotation", "status").text
    checks = cli("doctor", "--json").json["checks"]
    [finding] = [each for each in checks if each["name"] == "rotations"]
    assert finding["grade"] == "warning"
    assert finding["message"].startswith("overdue, for up to ")
    assert cli("rotation", "run", "--due", "--json").json["results"][0]["rotation"]["run"]["why"] == "due"


def test_another_process_that_is_at_work_is_not_disturbed(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.UNREACHABLE
    cli("rotation", "run", PATH, *SOON)
    with Vault.open(principal="user:ana") as vault:
        stored = Steps(vault.authority).find(PATH)
        progress = stored.rotation.progress
        assert progress is not None
        held = stored.rotation._replace(holder=Holder("elsewhere"), progress=progress._replace(not_before_ns=0))
        obj = {"path": PATH, "rotator": "account", "action": "test"}
        Steps(vault.authority).change(stored, lambda _: held, obj)
    calls = len(account().calls)
    outcome = cli("rotation", "run", PATH, *SOON, "--json")
    assert (outcome.code, outcome.error) == (6, "rotation-busy")
    assert len(account().calls) == calls
    assert status(cli)["is_held"] is True
    assert "a process that is at work on it" in cli("rotation", "status").text


def test_an_answer_that_is_lost_is_found_out(rotated: Path, cli: Cli) -> None:
    account().mood = Mood.LOST_ANSWER
    assert cli("rotation", "run", PATH, "--wait", "20s").code == 0
    assert account().accepts(password())


def test_what_a_removed_key_opened_is_rotated_and_what_has_no_rotation_is_named(
    rotated: Path, cli: Cli, home: Path
) -> None:
    cli("secret", "put", "app/other", stdin=CANARY)
    cli("key", "generate", str(home / "b.key"))
    assert cli("key", "add", f"file:{home / 'b.key'}").code == 0
    slots = cli("key", "list", "--json").json["slots"]
    assert cli("rotation", "run", "--exposed").text == "nothing is to be done\n"
    assert cli("key", "remove", str(max(each["slot"] for each in slots)), "--yes").code == 0
    assert cli("rotation", "run", "--exposed", "--dry-run").text == f"would rotate  {PATH}   by account\n"
    outcome = cli("rotation", "run", "--exposed")
    assert (outcome.code, outcome.text.split("   ")[0]) == (0, f"rotated  {PATH}@2")
    assert outcome.err.splitlines() == [
        "note: `app/other` has no rotation; write a new value with `securecfg secret put app/other`"
    ]
    assert status(cli)["run"]["why"] == "exposed"
    assert [each["path"] for each in cli("audit", "exposed", "--json").json["secrets"]] == ["app/other"]
    assert cli("rotation", "run", "--exposed", "--json").json == {"results": [], "without_rotation": ["app/other"]}


def test_what_stands_in_git_history_is_rotated_and_its_mark_closed(rotated: Path, cli: Cli) -> None:
    with Vault.open(principal="user:ana") as vault:
        exposures = Exposures(vault.authority)
        exposures.mark([Mark(PATH, "password", 1, "0" * 40, exposures.now(), ".env")])
    assert cli("rotation", "run", "--exposed", "--as", "user:eve", "--json").json == {"results": []}
    give(cli, "list")
    denied = cli("rotation", "run", "--exposed", "--as", "svc:daemon", "--json")
    assert (denied.code, denied.error) == (5, "denied")
    assert cli("rotation", "run", "--exposed").text.startswith(f"rotated  {PATH}@2")
    events = [each["event"] for each in cli("audit", "show", "--json").json["records"]]
    assert "exposure.closed" in events
    assert cli("rotation", "run", "--exposed").text == "nothing is to be done\n"


# --- check, history and rotators --------------------------------------------------------------------------------------


def test_a_check_says_what_will_be_missing(rotated: Path, cli: Cli) -> None:
    assert cli("rotation", "check").text == f"well     {PATH}   account\n"
    MISSING.append("the right CREATEROLE")
    outcome = cli("rotation", "check", PATH)
    assert (outcome.code, outcome.text) == (6, f"missing  {PATH}   account: the right CREATEROLE\n")
    assert outcome.err.startswith("error: 1 rotation will be missing something at the target\n")
    checked = cli("rotation", "check", PATH, "--json")
    assert checked.error == "check-failed"
    assert checked.json["checks"] == [
        {"path": PATH, "rotator": "account", "is_well": False, "missing": ["the right CREATEROLE"], "error": None}
    ]
    assert account().calls == []


def test_a_target_that_cannot_be_asked_is_not_taken_for_well(rotated: Path, cli: Cli) -> None:
    MISSING.append("nobody answers")
    for arguments in ([], [PATH]):
        outcome = cli("rotation", "check", *arguments, "--json")
        assert (outcome.code, outcome.error) == (9, "target-unavailable")
    assert (
        cli("rotation", "check").text == f"unknown  {PATH}   account: the target does not answer (target-unavailable)\n"
    )


def test_the_history_tells_each_step_to_who_may_read_the_log(rotated: Path, cli: Cli) -> None:
    cli("rotation", "run", PATH)
    steps = ("idle -> begun", "begun -> pending", "pending -> set", "set -> tested", "tested -> current")
    lines = cli("rotation", "history", PATH).text.splitlines()
    assert lines[0].split() == ["TIME", "WHO", "WHAT", "VERSION", "REASON"]
    assert "set, by account" in lines[1]
    assert [step for step, line in zip(steps, lines[2:], strict=True) if step not in line] == []
    events = cli("rotation", "history", PATH, "--json").json["events"]
    assert (events[0]["event"], events[0]["rotator"]) == ("rotation.set", "account")
    assert (events[-1]["from"], events[-1]["to"], events[-1]["version"]) == ("tested", "current", 2)
    assert len({each["token"] for each in events[1:]}) == 1
    give(cli, "list read rotate write")
    denied = cli("rotation", "history", PATH, "--as", "svc:daemon", "--json")
    assert (denied.code, denied.error) == (5, "denied")
    assert "secret history" in denied.json["error"]["hint"]


def test_the_rotators_are_listed_with_what_becomes_of_the_old_value(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(names.BUILT_IN, "broken", "tests.rotation.nowhere")
    found = {each["name"]: each for each in cli("rotation", "rotators", "--json").json["rotators"]}
    assert (found["random"]["strategy"], found["random"]["is_built_in"]) == ("overlapping", True)
    assert found["account"]["strategy"] is None
    assert found["broken"]["failure"] == "ModuleNotFoundError"
    text = cli("rotation", "rotators").text
    assert "by its options" in text
    assert "cannot be loaded: ModuleNotFoundError" in text


def test_doctor_warns_of_what_has_failed(rotated: Path, cli: Cli) -> None:
    def finding() -> Any:  # noqa: ANN401 - a JSON object
        [one] = [each for each in cli("doctor", "--json").json["checks"] if each["name"] == "rotations"]
        return one

    assert finding()["grade"] == "ok"
    account().mood = Mood.LOCKED
    cli("rotation", "run", PATH)
    assert finding()["grade"] == "warning"
    assert "privilege-missing" in finding()["message"]
    assert f"rotation retry {PATH}" in finding()["hint"]


def test_each_error_of_a_rotator_that_lets_a_rotation_fail_has_a_reason_of_its_own() -> None:
    passing = {"target-unavailable"}  # is waited for
    assert ERRORS.keys() - passing <= REASONS.keys()


def test_each_reason_has_a_row_in_the_page_of_what_to_do() -> None:
    page = (ROOT / "docs" / "how-to" / "when-a-rotation-failed.md").read_text("utf-8")
    assert [code for code in REASONS if f"| `{code}` |" not in page] == []


def test_status_names_what_a_newer_version_has_set(rotated: Path, cli: Cli) -> None:
    cli("secret", "put", "app/other", stdin=CANARY)
    cli("rotation", "set", "app/other", "--rotator", "random")
    with Vault.open(principal="user:ana") as vault:
        put_newer(vault, PATH)
    outcome = cli("rotation", "status")
    assert outcome.code == 0
    assert outcome.err == f"note: a newer version has set the rotation of `{PATH}`, and leads it on\n"
    found = cli("rotation", "status", "--json").json
    assert ([each["path"] for each in found["rotations"]], found["newer"]) == (["app/other"], [PATH])
    assert cli("rotation", "status", PATH, "--json").error == "unsupported-format"
    assert cli("rotation", "status", "app/o").err == ""


# --- schedules --------------------------------------------------------------------------------------------------------


def test_a_schedule_is_told_in_words_and_replaced_as_a_whole(rotated: Path, cli: Cli) -> None:
    window = ("--window", "Sat,Sun 02:00-05:00", "--zone", "Europe/Berlin")
    outcome = cli("rotation", "set", PATH, "--every", "30d", *window)
    words = "every 30 days, Sat and Sun 02:00-05:00 Europe/Berlin"
    assert outcome.text.startswith(f"set  {PATH}   account, {words}, due in ")
    one = status(cli)
    assert (one["when"], one["schedule"]["every_s"]) == (words, 2_592_000)
    shown = cli("rotation", "status", PATH).text
    assert f"when         {words}\n" in shown
    assert "grace        1h\npropagation  1m\ntimeout      30s\n" in shown
    cli("rotation", "set", PATH, "--grace", "5m")
    assert status(cli)["when"] == words
    cli("rotation", "set", PATH, "--ttl-fraction", "80%")
    assert status(cli)["when"] == "when 80 % of its life is over"
    cli("rotation", "set", PATH, "--no-schedule")
    one = status(cli)
    assert (one["when"], one["due"], one["schedule"]) == ("only when asked", None, None)


def test_a_rotation_that_is_over_is_due_again(rotated: Path, cli: Cli) -> None:
    cli("rotation", "set", PATH, "--every", "30d", "--jitter", "0", "--grace", "0s")
    first = status(cli)["due"]
    assert cli("rotation", "run", PATH).code == 0
    assert status(cli)["due"] > first


def test_a_plan_tells_by_day_what_begins_by_itself(rotated: Path, cli: Cli) -> None:
    pytest.importorskip("cronsim", reason="needs the package `cronsim`")
    assert cli("rotation", "plan").text == "nothing is rotated by itself in 30 days\n"
    cli("rotation", "set", PATH, "--cron", "30 3 * * *")
    cli("secret", "put", "app/asked", stdin=CANARY)
    cli("rotation", "set", "app/asked", "--rotator", "random")
    outcome = cli("rotation", "plan", "--days", "3")
    heading, *rows = outcome.text.splitlines()
    assert heading.split() == ["DAY", "TIME", "PATH", "ROTATOR", "NOTE"]
    assert [row.split()[2:] for row in rows] == [["03:30", PATH, "account"]] * 3
    assert outcome.err == "note: not planned: 1 secret only when asked\n"
    planned = cli("rotation", "plan", "--days", "3", "--json").json
    assert [len(day["rotations"]) for day in planned["days"]] == [1, 1, 1]
    assert planned["not_planned"] == [{"path": "app/asked", "why": "only when asked"}]
    assert account().calls == []
    cli("rotation", "pause", PATH)
    assert cli("rotation", "plan", "app/d").err == "note: not planned: 1 secret that is paused\n"
    assert cli("rotation", "plan", "--days", "0", "--json").error == "usage"


def test_a_simulation_finds_what_collides_and_what_lapses(project: Path, cli: Cli) -> None:
    pytest.importorskip("cronsim", reason="needs the package `cronsim`")
    for number in range(6):
        value = json.dumps({"username": "shop", "password": CANARY})
        cli("secret", "put", f"app/{number}", "--fields", stdin=value)
        cli("rotation", "set", f"app/{number}", "--rotator", "account", "--cron", "0 3 1 * *")
    cli("secret", "put", "short", "--ttl", "2d", stdin=CANARY)
    cli("rotation", "set", "short", "--rotator", "random", "--every", "1d")
    found = cli("rotation", "simulate", "--json").json
    assert found["is_complete"] is True
    assert 11 <= found["collision_count"] <= 13
    assert (found["collisions"][0]["target"], found["collisions"][0]["most"]) == ("account", 6)
    assert found["lapses"] == []
    text = cli("rotation", "simulate").text
    assert text.startswith("tried      365 days: ")
    assert "collision  account   " in text
    assert "well" not in text
    cli("rotation", "set", "short", "--cron", "0 3 1 1 *")
    assert (
        cli("rotation", "simulate", "short").text.splitlines()[-1]
        == "well       nothing collides, and no secret lapses"
    )
    assert cli("rotation", "simulate", "--as", "user:eve").text.startswith(
        "tried      365 days: 0 rotations of 0 secrets"
    )


def test_what_was_missed_begins_in_its_next_window(rotated: Path, cli: Cli) -> None:
    now = datetime.now(UTC)
    closed = f"{now + timedelta(days=3):%a} 10:00-11:00"
    cli("rotation", "set", PATH, "--every", "30d", "--window", closed)
    with Vault.open(principal="user:ana") as vault:
        stored = Steps(vault.authority).find(PATH)
        obj = {"path": PATH, "rotator": "account", "action": "test"}
        Steps(vault.authority).change(stored, lambda _: stored.rotation._replace(due_ns=1), obj)
    assert cli("rotation", "run", "--due").text == "nothing is to be done\n"
    assert account().calls == []
    assert cli("rotation", "run", PATH).code == 0


# --- on a terminal ----------------------------------------------------------------------------------------------------


def test_tables_fit_a_terminal_and_failures_are_seen(rotated: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    account().mood = Mood.LOCKED
    cli("rotation", "run", PATH)
    terminal = Terminal("rotation", "status", columns=72)
    assert terminal.end() == 0
    table = terminal.shown.split("\r\n\r\n")[0].splitlines()
    assert all(len(line) <= 72 for line in table)
    assert b"\x1b[31mfailed\x1b[0m" in terminal.raw
    assert CANARY not in terminal.shown


def test_a_person_is_asked_before_everything_is_rotated(shop: Path, cli: Cli) -> None:
    cli("rotation", "set", PATH, "--rotator", "random", "--option", "field=password")
    terminal = Terminal("rotation", "run", "--all")
    terminal.expect("Rotate 1 secret now?")
    terminal.type("n")
    assert terminal.end() == 2
    assert status(cli)["state"] == "idle"
    assert password() == CANARY


def test_the_rest_of_the_program_does_without_rotations(shop: Path) -> None:
    for arguments in (["--help"], ["secret", "get", PATH, "--field", "username", "--reveal"]):
        code = (
            f"import sys; from securecfg.cli import main; main({arguments!r})\n"
            "begins = ('securecfg.rotation', 'securecfg.cli.rotation')\n"
            "print('', [name for name in sys.modules if name.startswith(begins)], sep='\\n')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
        assert done.stdout.splitlines()[-1] == b"[]"


def test_setting_what_is_paused_says_that_it_is(rotated: Path, cli: Cli) -> None:
    cli("rotation", "pause", PATH)
    told = cli("rotation", "set", PATH, "--rotator", "account", "--every", "30d", "--hard-cut").text
    assert f"paused: `securecfg rotation resume {PATH}` lets it begin" in told
