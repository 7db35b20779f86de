"""`securecfg secret`: what it prints, and what it never prints."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Cli

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = json.dumps({"user": "app", "password": CANARY})


def records(cli: Cli) -> int:
    return int(cli("vault", "open", "--json").json["record_count"])


# --- get --------------------------------------------------------------------------------------------------------------


def test_get_shows_metadata_and_a_mask(stored: Path, cli: Cli) -> None:
    outcome = cli("secret", "get", "db/main")
    assert outcome.code == 0
    assert "version   1  (current)" in outcome.text
    assert "***" in outcome.text


def test_get_without_reveal_records_nothing(stored: Path, cli: Cli) -> None:
    before = records(cli)
    assert cli("secret", "get", "db/main", "--json").code == 0
    assert records(cli) == before


def test_get_with_reveal_records_the_read(stored: Path, cli: Cli) -> None:
    before = records(cli)
    assert cli("secret", "get", "db/main", "--reveal", reveals=True).code == 0
    assert records(cli) == before + 1


@pytest.mark.parametrize("value", [b"x", b"with newline\n", "žluť".encode(), b"\xff\x00\xfe", b"a\r\nb", b" "])
def test_reveal_prints_exactly_what_was_put(project: Path, cli: Cli, value: bytes) -> None:
    assert cli("secret", "put", "a", stdin=value).code == 0
    assert cli("secret", "get", "a", "--reveal", reveals=True).out == value


def test_get_as_json_has_no_value(stored: Path, cli: Cli) -> None:
    shown = cli("secret", "get", "db/main", "--json").json
    assert shown["version"] == 1
    assert shown["state"] == "live"
    assert shown["size_bytes"] == len(CANARY)
    assert "value" not in shown


def test_get_with_reveal_as_json_has_the_value(stored: Path, cli: Cli) -> None:
    assert cli("secret", "get", "db/main", "--reveal", "--json", reveals=True).json["value"] == CANARY


def test_bytes_are_base64_in_json(project: Path, cli: Cli) -> None:
    cli("secret", "put", "a", stdin=b"\xff\xfe")
    shown = cli("secret", "get", "a", "--reveal", "--json").json
    assert base64.b64decode(shown["value"]["base64"]) == b"\xff\xfe"


def test_fields_are_printed_as_one_object(project: Path, cli: Cli) -> None:
    cli("secret", "put", "a", "--fields", stdin=FIELDS)
    assert cli("secret", "get", "a", "--reveal", reveals=True).json == json.loads(FIELDS)
    assert cli("secret", "get", "a", "--reveal", "--json", reveals=True).json["fields"] == json.loads(FIELDS)


def test_large_fields_are_printed_as_one_object_too(project: Path, cli: Cli) -> None:
    fields = {"small": "x", "large": "y" * 2_000_000}
    cli("secret", "put", "a", "--fields", stdin=json.dumps(fields))
    assert cli("secret", "get", "a", "--reveal").json == fields


def test_one_field_is_printed_exactly(project: Path, cli: Cli) -> None:
    cli("secret", "put", "a", "--fields", stdin=FIELDS)
    assert cli("secret", "get", "a", "--field", "password", "--reveal", reveals=True).out == CANARY.encode()


def test_refuses_a_field_that_is_not_there(stored: Path, cli: Cli) -> None:
    outcome = cli("secret", "get", "db/main", "--field", "user", "--reveal", "--json")
    assert (outcome.code, outcome.error) == (3, "version-not-found")


def test_what_get_reveals_can_be_put_again(project: Path, cli: Cli) -> None:
    given = json.dumps({"key": {"base64": base64.b64encode(b"\xff").decode()}, "user": "app"})
    cli("secret", "put", "a", "--fields", stdin=given)
    revealed = cli("secret", "get", "a", "--reveal").text
    assert cli("secret", "put", "b", "--fields", stdin=revealed).code == 0
    assert cli("secret", "get", "b", "--reveal").text == revealed


def test_old_versions_are_found_by_number_and_label(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "db/main", stdin="second")
    assert cli("secret", "get", "db/main", "--at", "1", "--reveal", reveals=True).text == CANARY
    assert cli("secret", "get", "db/main", "--at", "previous", "--json").json["version"] == 1
    assert cli("secret", "get", "db/main", "--at", "2000-01-01", "--json").error == "version-not-found"
    assert cli("secret", "get", "db/main", "--at", "2999-01-01", "--json").json["version"] == 2


@pytest.mark.parametrize("at", ["9", "nolabel"])
def test_refuses_versions_that_are_not_there(stored: Path, cli: Cli, at: str) -> None:
    for reveal in ([], ["--reveal"]):
        outcome = cli("secret", "get", "db/main", "--at", at, "--json", *reveal)
        assert (outcome.code, outcome.error) == (3, "version-not-found")


def test_refuses_a_moment_without_a_time_zone(stored: Path, cli: Cli) -> None:
    assert cli("secret", "get", "db/main", "--at", "2026-01-01T12:00:00").code == 2


def test_a_deleted_secret_is_not_found_with_or_without_reveal(stored: Path, cli: Cli) -> None:
    cli("secret", "delete", "db/main")
    for reveal in ([], ["--reveal"]):
        outcome = cli("secret", "get", "db/main", "--json", *reveal)
        assert (outcome.code, outcome.error) == (3, "secret-not-found")


def test_absent_and_forbidden_look_the_same_to_who_may_not_list(stored: Path, cli: Cli) -> None:
    forbidden = cli("secret", "get", "db/main", "--as", "user:eve", "--reveal")
    absent = cli("secret", "get", "db/none", "--as", "user:eve", "--reveal")
    assert forbidden.code == absent.code == 5
    assert forbidden.err == absent.err.replace("db/none", "db/main")


# --- put --------------------------------------------------------------------------------------------------------------


def test_refuses_a_value_as_an_argument_and_does_not_repeat_it(project: Path, cli: Cli) -> None:
    outcome = cli("secret", "put", "db/main", CANARY)
    assert outcome.code == 2
    assert "never taken from an argument" in outcome.err
    assert cli("secret", "list").text == ""


@pytest.mark.parametrize(
    "given", [f"-{CANARY}", f"--{CANARY}", "--meta=" + CANARY, f"--ttl={CANARY}", f"--expect={CANARY}"]
)
def test_does_not_repeat_what_may_be_a_secret(project: Path, cli: Cli, given: str) -> None:
    assert cli("secret", "put", "db/main", given, stdin="x").code == 2
    assert cli("secret", "put", "db/main", given, "--json", stdin="x").error == "usage"


@pytest.mark.parametrize("arguments", [(), ("--field", "password"), ("--fields",)])
def test_refuses_an_empty_standard_input(project: Path, cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("secret", "put", "db/main", *arguments, "--json").error == "usage"
    assert cli("secret", "list").text == ""


def test_an_empty_file_is_an_empty_value(project: Path, cli: Cli) -> None:
    (project / "empty").touch()
    assert cli("secret", "put", "a", "--file", "empty").code == 0
    assert cli("secret", "get", "a", "--reveal").out == b""
    assert cli("secret", "put", "b", "--file", "empty", "--field", "user").code == 0
    assert cli("secret", "get", "b", "--field", "user", "--reveal").out == b""


def test_says_how_to_bring_fields_back(stored: Path, cli: Cli) -> None:
    outcome = cli("secret", "get", "db/main", "--field", "password", "--reveal", "--json")
    assert (outcome.code, outcome.error) == (3, "version-not-found")
    hint = outcome.json["error"]["hint"]
    assert "`securecfg secret put db/main --field password --replace`" in hint
    assert cli("secret", "put", "db/main", "--field", "password", "--replace", stdin=CANARY).code == 0
    assert cli("secret", "get", "db/main", "--field", "password", "--reveal", reveals=True).out == CANARY.encode()


def test_a_field_is_empty_where_json_says_so(project: Path, cli: Cli) -> None:
    assert cli("secret", "put", "a", "--fields", stdin='{"user": ""}').code == 0
    assert cli("secret", "get", "a", "--field", "user", "--reveal").out == b""


def test_refuses_a_file_that_is_not_there(project: Path, cli: Cli) -> None:
    outcome = cli("secret", "put", "a", "--file", "nope", "--json")
    assert (outcome.code, outcome.error) == (3, "file-missing")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "[]",
        "{}",
        '"x"',
        '{"a": 1}',
        '{"a": "x", "a": "y"}',
        '{"a": {"base64": "?"}}',
        "{" * 2000,
        '{"a": NaN}',
        "\xff",
    ],
)
def test_refuses_fields_that_are_not_an_object_of_texts(project: Path, cli: Cli, given: str) -> None:
    outcome = cli("secret", "put", "a", "--fields", "--json", stdin=given.encode("latin-1"))
    assert (outcome.code, outcome.error) == (2, "usage")


def test_notes_a_newline_that_echo_added(project: Path, cli: Cli) -> None:
    outcome = cli("secret", "put", "a", stdin="x\n")
    assert (outcome.code, outcome.text) == (0, "written  a@1\n")
    assert "newline" in outcome.err
    assert cli("secret", "put", "pem", stdin="a\nb\n").err == ""


def test_refuses_a_stale_write(stored: Path, cli: Cli) -> None:
    outcome = cli("secret", "put", "db/main", "--expect", "0", "--json", stdin="x")
    assert (outcome.code, outcome.error) == (6, "stale-write")
    assert cli("secret", "put", "db/main", "--expect", "1", stdin="x").code == 0


def test_metadata_and_time_to_live_are_kept(project: Path, cli: Cli) -> None:
    cli("secret", "put", "a", "--meta", "owner=web", "--meta", "n=1", "--ttl", "90d", stdin="x")
    shown = cli("secret", "get", "a", "--json").json
    assert shown["metadata"] == {"owner": "web", "n": "1"}
    assert shown["expires"].endswith("Z")


def test_escapes_what_would_move_the_cursor(project: Path, cli: Cli) -> None:
    cli("secret", "put", "a", "--meta", "x=\x1b[2Jgone", stdin="x")
    for shown in (cli("secret", "get", "a").out, cli("secret", "history", "a").out):
        assert b"\x1b" not in shown
        assert b"\\x1b[2Jgone" in shown


def test_a_large_file_comes_back_unchanged(project: Path, cli: Cli) -> None:
    content = bytes(range(256)) * 12_000
    (project / "big").write_bytes(content)
    assert cli("secret", "put", "a", "--file", "big").code == 0
    assert cli("secret", "put", "b", stdin=content).code == 0
    for path in ("a", "b"):
        assert cli("secret", "get", path, "--reveal").out == content


def test_whoever_may_not_write_is_refused_before_anything_is_read(project: Path, cli: Cli) -> None:
    outcome = cli("secret", "put", "a", "--as", "user:eve", "--file", "nope", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_list_is_objects_under_a_plural_key(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "a/b/c", stdin="x")
    assert cli("secret", "list").text == "a/b/c\ndb/main\n"
    assert cli("secret", "list", "--json").json == {"secrets": [{"path": "a/b/c"}, {"path": "db/main"}]}
    assert cli("secret", "list", "--depth", "1").text == "a/\ndb/\n"
    assert cli("secret", "list", "db/").text == "db/main\n"


def test_list_shows_only_what_may_be_listed(stored: Path, cli: Cli) -> None:
    assert cli("secret", "list", "--as", "user:eve", "--json").json == {"secrets": []}


def test_search_ignores_case(stored: Path, cli: Cli) -> None:
    assert cli("secret", "search", "MAIN").text == "db/main\n"


def test_history_is_newest_first(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "db/main", stdin="x")
    shown = cli("secret", "history", "db/main", "--json").json
    assert [version["version"] for version in shown["versions"]] == [2, 1]
    assert cli("secret", "history", "db/main").text.splitlines()[0].startswith("VERSION  STATE")


def test_diff_names_the_fields_and_masks_them(project: Path, cli: Cli) -> None:
    cli("secret", "put", "a", "--fields", stdin=json.dumps({"user": "app", "password": CANARY}))
    cli("secret", "put", "a", "--fields", "--meta", "by=me", stdin=json.dumps({"user": "app", "token": CANARY}))
    shown = cli("secret", "diff", "a", "1", "2", "--json").json
    assert [(item["field"], item["change"]) for item in shown["changes"]] == [
        ("password", "removed"),
        ("token", "added"),
    ]
    assert shown["metadata_changed"] == ["by"]
    text = cli("secret", "diff", "a", "1", "current").text
    assert "field password" in text
    assert "***" in text


def test_diff_reveals_when_asked(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "db/main", stdin="other")
    assert CANARY in cli("secret", "diff", "db/main", "1", "2", "--reveal", reveals=True).text
    assert cli("secret", "diff", "db/main", "2", "2").text == "no difference\n"


def test_diff_needs_the_right_to_read(stored: Path, cli: Cli) -> None:
    assert cli("secret", "diff", "db/main", "1", "1", "--as", "user:eve", "--json").error == "denied"


def test_rollback_writes_a_new_version(stored: Path, cli: Cli) -> None:
    cli("secret", "put", "db/main", stdin="x")
    assert cli("secret", "rollback", "db/main", "--to", "1", "--json").json["version"] == 3
    assert cli("secret", "get", "db/main", "--reveal", reveals=True).text == CANARY
    assert cli("secret", "rollback", "db/main", "--to", "2026-01-01").code == 2


def test_delete_can_be_undone(stored: Path, cli: Cli) -> None:
    assert cli("secret", "delete", "db/main").code == 0
    assert cli("secret", "undelete", "db/main", "1").text == "undeleted  db/main@1\n"
    assert cli("secret", "get", "db/main").code == 0


def test_destroy_needs_a_yes(stored: Path, cli: Cli) -> None:
    outcome = cli("secret", "destroy", "db/main", "1", "--no-input", "--json")
    assert (outcome.code, outcome.error) == (2, "confirmation-required")
    assert cli("secret", "destroy", "db/main", "1", "--no-input", "--yes").code == 0
    gone = cli("secret", "get", "db/main", "--at", "1", "--reveal", "--json")
    assert (gone.code, gone.error) == (3, "secret-destroyed")


def test_policy_is_decided_before_confirmation_and_before_arguments_are_looked_up(stored: Path, cli: Cli) -> None:
    for path, version in (("db/main", "1"), ("db/none", "77")):
        outcome = cli("secret", "destroy", path, version, "--no-input", "--as", "user:eve", "--json")
        assert (outcome.code, outcome.error) == (5, "denied")


def test_move_takes_all_versions_along(stored: Path, cli: Cli) -> None:
    assert cli("secret", "move", "db/main", "db/primary").code == 0
    assert cli("secret", "get", "db/primary", "--reveal", reveals=True).text == CANARY
    assert cli("secret", "get", "db/main").code == 3


def test_labels_come_and_go(stored: Path, cli: Cli) -> None:
    assert cli("secret", "label", "db/main", "stable", "1").code == 0
    assert cli("secret", "get", "db/main", "--at", "stable", "--json").json["version"] == 1
    assert cli("secret", "label", "db/main", "stable", "--remove").code == 0
    assert cli("secret", "get", "db/main", "--at", "stable").code == 3
    assert cli("secret", "label", "db/main", "stable").code == 2
    assert cli("secret", "label", "db/main", "current", "1", "--json").error == "invalid-metadata"


@pytest.mark.parametrize("path", ["", "/a", "a//b", "a/../b", "a#b", "a@1", "a\x00b", "a\u200bb"])
def test_refuses_bad_paths(project: Path, cli: Cli, path: str) -> None:
    for verb in (["get", path], ["get", path, "--reveal"], ["put", path], ["history", path], ["delete", path]):
        outcome = cli("secret", *verb, "--json", stdin="x")
        assert (outcome.code, outcome.error) == (2, "invalid-path")
    assert cli("secret", "destroy", path, "1", "--yes", "--json").error == "invalid-path"
