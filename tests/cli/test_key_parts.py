"""Vaults that open with several keys together: made, named in settings, tested, wrapped anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Terminal

if TYPE_CHECKING:
    from tests.cli.running import Cli


@pytest.fixture
def parted(stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose slot 3 takes two of the key files `a,1`, `b` and a passphrase, together."""
    monkeypatch.setenv("PW", CANARY)
    for name in ("a,1.key", "b.key"):
        cli("key", "generate", name)
    parts = ("file:a,1.key", "file:b.key", "passphrase:?env=PW")
    flags = [flag for part in parts for flag in ("--part", part)]
    outcome = cli("key", "add", *flags, "--need", "2", "--label", "several", "--json")
    assert outcome.json == {
        "slot": 3,
        "kind": "composite",
        "label": "several",
        "uri": "composite:2,file:a,,1.key,file:b.key,passphrase:?env=PW",
    }
    return stored


URI = "composite:2,file:a,,1.key,file:b.key,passphrase:?env=PW"


def test_two_of_three_keys_open_the_vault(parted: Path, cli: Cli) -> None:
    for uri in (URI, "composite:2,file:b.key,file:a,,1.key", "composite:all,passphrase:?env=PW,file:b.key"):
        assert cli("secret", "get", "db/main", "--reveal", "--key", uri, reveals=True).text == CANARY
    for alone in ("file:b.key", "passphrase:?env=PW"):
        assert cli("vault", "open", "--key", alone, "--json").error == "wrong-key"
    Path("b.key").unlink()
    assert cli("vault", "open", "--key", URI).code == 0
    Path("a,1.key").unlink()
    outcome = cli("vault", "open", "--key", URI)
    assert outcome.code == 3
    assert "`a,1.key` does not exist" in outcome.err
    assert "`b.key` does not exist" in outcome.err


def test_the_list_shows_what_a_slot_takes(parted: Path, cli: Cli) -> None:
    slots = cli("key", "list", "--json").json["slots"]
    assert (slots[2]["kind"], slots[2]["parts"], slots[2]["needed"]) == (
        "composite",
        ["file", "file", "passphrase"],
        2,
    )
    assert (slots[0]["parts"], slots[0]["needed"]) == ([], 1)
    assert "2 of file file passphrase" in cli("key", "list").text
    assert cli("vault", "status", "--json").json["slots_by_kind"]["composite"] == 1


def test_the_test_of_a_key_names_each_part(parted: Path, cli: Cli) -> None:
    found = cli("key", "test", URI, "--json").json
    assert found["slot"] == 3
    assert found["refusal"] is None
    assert [part["refusal"] for part in found["parts"]] == [None, None, None]
    Path("b.key").unlink()
    found = cli("key", "test", URI, "--json").json
    assert [part["kind"] for part in found["parts"]] == ["file", "file", "passphrase"]
    assert found["parts"][1]["refusal"]["code"] == "file-missing"
    assert found["wrap_ms"] is None
    assert "key 2" in cli("key", "test", URI).text


def test_doctor_says_which_of_the_keys_is_away(parted: Path, cli: Cli) -> None:
    def findings() -> list[tuple[str, str]]:
        checks = cli("doctor", "--key", URI, "--json").json["checks"]
        return [(check["grade"], check["message"]) for check in checks if check["name"] == "key parts"]

    assert [grade for grade, _ in findings()] == ["ok"]
    Path("b.key").unlink()
    [(grade, message)] = findings()
    assert grade == "warning"
    assert "slot 3 was opened without its `file:` key: `b.key` does not exist" in message


def test_doctor_warns_where_every_slot_takes_all_keys(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.key", "b.key"):
        cli("key", "generate", name)
    uri = "composite:all,file:a.key,file:b.key"
    assert cli("vault", "create", "v", "--key", uri).code == 0
    checks = cli("doctor", "--vault", "v", "--key", uri, "--json").json["checks"]
    [keys] = [check for check in checks if check["name"] == "keys"]
    assert (keys["grade"], keys["message"].split(";")[0]) == ("warning", "every slot takes all of several keys")


def test_settings_name_several_keys_with_their_files_in_the_project(
    parted: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Path(".securecfg/local.toml")
    lines = [line for line in local.read_text().splitlines() if not line.startswith("key")]
    local.write_text("\n".join([*lines, f'key = "{URI}"']))
    (parted / "below").mkdir()
    monkeypatch.chdir(parted / "below")
    assert cli("secret", "get", "db/main", "--reveal", reveals=True).text == CANARY


@pytest.mark.parametrize(
    "named", ["command:touch started", "COMMAND:touch started", "pkcs11:object=x?module-path=/x.so"]
)
def test_settings_start_no_program_as_one_of_several(stored: Path, cli: Cli, named: str) -> None:
    local = Path(".securecfg/local.toml")
    lines = [line for line in local.read_text().splitlines() if not line.startswith("key")]
    local.write_text("\n".join([*lines, f'key = "composite:2,file:a,{named}"']))
    assert cli("vault", "open", "--json").error == "config-type"
    assert not Path("started").exists()


def test_a_project_does_not_name_a_program_as_one_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("kept.key", "b.key"):
        cli("key", "generate", name)
    uri = f"composite:all,command:cat '{tmp_path}/kept.key',file:b.key"
    monkeypatch.setenv("SECURECFG_KEY", uri)
    assert cli("init").code == 0
    for name in ("securecfg.toml", ".securecfg/local.toml"):
        assert "key =" not in Path(name).read_text()
    assert cli("vault", "open").code == 0


def test_no_several_keys_protect_an_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--out", "i", "--public", "p", "--protect", "composite:all,file:a,command:true")
    assert cli("identity", "create", "ana", *flags, "--json").error == "invalid-key-uri"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("file:b.key", "--part", "file:b.key"),
        ("file:b.key", "--need", "2"),
        ("--part", "file:b.key"),
        ("--part", "file:b.key", "--part", "file:b.key"),
        ("--part", "file:b.key", "--part", "keyring:", "--need", "3"),
        ("--part", "file:b.key", "--part", "composite:all,file:x,file:y"),
    ],
)
def test_refuses_parts_that_make_no_slot(stored: Path, cli: Cli, arguments: tuple[str, ...]) -> None:
    cli("key", "generate", "b.key")
    assert cli("key", "add", *arguments, "--json").code == 2
    assert len(cli("key", "list", "--json").json["slots"]) == 2


def test_a_recovery_code_can_be_a_part_and_is_shown_once(stored: Path, cli: Cli) -> None:
    cli("key", "generate", "b.key")
    made = cli("key", "add", "--part", "file:b.key", "--part", "recovery:", "--json", reveals=True).json
    Path("code").write_text(made["recovery_code"])
    Path("code").chmod(0o600)
    assert cli("vault", "open", "--key", "composite:all,file:b.key,recovery:?file=code").code == 0


def test_people_are_told_which_of_the_keys_they_are_asked_for(stored: Path, cli: Cli) -> None:
    adding = Terminal("key", "add", "--part", "passphrase:", "--part", "passphrase:")
    for number, phrase in ((1, f"{CANARY} one"), (2, f"{CANARY} two")):
        for prompt in (f"passphrase (key {number} of 2): ", f"passphrase (key {number} of 2) again: "):
            adding.expect(prompt)
            adding.type(phrase)
    assert adding.end() == 0
    opening = Terminal("vault", "open", "--key", "composite:all,passphrase:,passphrase:")
    for number, phrase in ((1, f"{CANARY} one"), (2, f"{CANARY} two")):
        opening.expect(f"passphrase (key {number} of 2): ")
        opening.type(phrase)
    assert opening.end() == 0
    assert CANARY not in adding.shown + opening.shown


def test_a_slot_is_wrapped_anew_with_all_its_keys(parted: Path, cli: Cli) -> None:
    fewer = cli("key", "rotate", "slot", "3", "--slot-key", "composite:2,file:a,,1.key,file:b.key", "--json")
    assert fewer.error == "wrong-key"
    assert cli("key", "rotate", "slot", "3", "--slot-key", URI, "--json").json["is_done"]
    assert cli("vault", "open", "--key", "composite:2,file:b.key,passphrase:?env=PW").code == 0


def test_a_backup_can_be_for_several_keys_together(parted: Path, cli: Cli) -> None:
    assert cli("vault", "backup", "kept", "--to", "composite:all,file:a,,1.key,file:b.key").code == 0
    assert cli("vault", "restore", "kept", "copy", "--with", "file:b.key", "--json").code == 7
    uri = "composite:all,file:b.key,file:a,,1.key"
    assert cli("vault", "restore", "kept", "copy", "--with", uri).code == 0


def test_a_weak_passphrase_among_several_keys_is_warned_of(
    stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever copies the file can guess at it alone."""
    monkeypatch.setenv("WEAK", "letmein")
    cli("key", "generate", "b.key")
    outcome = cli("key", "add", "--part", "file:b.key", "--part", "passphrase:?env=WEAK")
    assert outcome.code == 0
    assert "warning: the passphrase has fewer than 12 characters" in outcome.err
    outcome = cli("vault", "create", "v", "--key", "composite:all,file:b.key,passphrase:?env=WEAK")
    assert outcome.err.count("has fewer than 12 characters") == 1
