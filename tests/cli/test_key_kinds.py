"""Vaults that open with a passphrase and a key file together, or with what a program prints; slots wrapped anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from securecfg.crypto import Argon2Costs
from securecfg.keys import PassphraseProvider
from securecfg.secret import Secret
from securecfg.vault.keys.slots import Slots
from tests.cli.running import CANARY, Terminal

if TYPE_CHECKING:
    from tests.cli.running import Cli

CHEAP = Argon2Costs(memory_kib=64, passes=1, lanes=1)


# --- passphrase+file --------------------------------------------------------------------------------------------------


def test_a_passphrase_and_a_key_file_open_together(stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", CANARY)
    cli("key", "generate", "half.key")
    uri = "passphrase+file:half.key?env=PW"
    assert cli("key", "add", uri, "--label", "both", "--json").json == {
        "slot": 3,
        "kind": "passphrase+file",
        "label": "both",
    }
    assert cli("secret", "get", "db/main", "--reveal", "--key", uri, reveals=True).text == CANARY
    assert cli("vault", "status", "--json").json["slots_by_kind"]["passphrase+file"] == 1
    for wrong in ("file:half.key", "passphrase:?env=PW"):
        assert cli("vault", "open", "--key", wrong, "--json").error == "wrong-key"
    monkeypatch.setenv("PW", "another")
    assert cli("vault", "open", "--key", uri, "--json").error == "wrong-key"


def test_a_new_passphrase_beside_a_key_file_is_asked_for_twice(project: Path, cli: Cli) -> None:
    cli("key", "generate", "half.key")
    terminal = Terminal("key", "add", "passphrase+file:half.key")
    for prompt in ("passphrase: ", "passphrase again: "):
        terminal.expect(prompt)
        terminal.type(CANARY)
    assert terminal.end() == 0
    opening = Terminal("vault", "open", "--key", "passphrase+file:half.key")
    opening.expect("passphrase: ")
    opening.type(CANARY)
    assert opening.end() == 0


# --- command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def printed(stored: Path, cli: Cli) -> str:
    """The URI of a program that prints the key of slot 3."""
    cli("key", "generate", "kept.key")
    uri = f"command:cat '{stored / 'kept.key'}'"
    assert cli("key", "add", uri, "--json").json == {"slot": 3, "kind": "command", "label": ""}
    return uri


def test_what_a_program_prints_opens_the_vault(printed: str, cli: Cli) -> None:
    assert cli("secret", "get", "db/main", "--reveal", "--key", printed, reveals=True).text == CANARY
    assert cli("key", "test", printed, "--json").json["slot"] == 3
    assert cli("vault", "status", "--json").json["slots_by_kind"]["command"] == 1


def test_the_ways_of_a_program_to_fail_have_their_exit_codes(printed: str, cli: Cli) -> None:
    for uri, code, error in (
        ("command:false", 7, "key-provider-refused"),
        ("command:echo nonsense", 7, "key-provider-refused"),
        ("command:no-such-program-of-ours", 9, "key-provider-unavailable"),
        ("command:sh -c 'exit 75'", 9, "key-provider-unavailable"),
        (f"command:printf {'A' * 43}=", 7, "wrong-key"),
        ("command:", 2, "invalid-key-uri"),
    ):
        outcome = cli("vault", "open", "--key", uri, "--json")
        assert (outcome.code, outcome.error) == (code, error), uri


@pytest.mark.parametrize("name", ["securecfg.toml", ".securecfg/local.toml"])
@pytest.mark.parametrize(
    "key",
    ["command:touch started", "COMMAND:touch started", "pkcs11:object=x?module-path={}", "PKCS11:id=1?module-path={}"],
)
def test_settings_start_no_program_and_load_no_library(
    printed: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    settings = Path(name)
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("key")]
    settings.write_text("\n".join([*lines, f'key = "{key.format(Path("evil.so").resolve())}"']))
    for arguments in (["vault", "open"], ["secret", "list"], ["vault", "status"], ["init"], ["key", "test", "file:x"]):
        outcome = cli(*arguments, "--json")
        assert (outcome.code, outcome.error) == (2, "config-type")
    assert cli("doctor").code == 2
    assert not Path("started").exists()
    settings.write_text("\n".join(lines))
    assert cli("vault", "open", "--key", printed).code == 0
    monkeypatch.setenv("SECURECFG_KEY", printed)
    assert cli("vault", "open").code == 0


def test_a_project_whose_key_a_program_prints_does_not_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("key", "generate", "kept.key")
    monkeypatch.setenv("SECURECFG_KEY", f"command:cat '{tmp_path}/kept.key'")
    outcome = cli("init")
    assert outcome.code == 0
    assert "SECURECFG_KEY" in outcome.err
    for name in ("securecfg.toml", ".securecfg/local.toml"):
        assert "key =" not in Path(name).read_text()
    assert cli("vault", "open").code == 0


# --- rotate slot ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cheap(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose slot 3 takes the passphrase in PW, at costs of long ago."""
    with Vault.open() as vault:
        Slots(vault.authority).add(PassphraseProvider(Secret(CANARY), costs=CHEAP))
    monkeypatch.setenv("PW", CANARY)
    return project


def warnings(cli: Cli) -> list[str]:
    checks = cli("doctor", "--json").json["checks"]
    return [check["message"] for check in checks if check["name"] == "passphrase" and check["grade"] == "warning"]


def test_doctor_tells_of_a_cheap_passphrase_until_it_is_wrapped_anew(cheap: Path, cli: Cli) -> None:
    assert warnings(cli) == ["the passphrase of slot 3 costs less to guess than that of a new slot"]
    assert "key rotate slot 3" in cli("doctor").text
    outcome = cli("key", "rotate", "slot", "3", "--slot-key", "passphrase:?env=PW", "--json")
    assert outcome.json == {"slot": 3, "kind": "passphrase", "is_done": True}
    assert warnings(cli) == []
    assert cli("vault", "open", "--key", "passphrase:?env=PW").code == 0
    assert [slot["slot"] for slot in cli("key", "list", "--json").json["slots"]] == [1, 2, 3]


def test_the_key_that_opens_the_vault_may_be_the_slots_own(cheap: Path, cli: Cli) -> None:
    assert cli("key", "rotate", "slot", "3", "--key", "passphrase:?env=PW").text == "rotated  slot 3\n"
    assert warnings(cli) == []
    assert cli("key", "rotate", "slot", "1").text.startswith("unchanged  slot 1")


def test_a_passphrase_is_asked_for_once(cheap: Path, cli: Cli) -> None:
    terminal = Terminal("key", "rotate", "slot", "3", "--key", "passphrase:")
    terminal.expect("passphrase: ")
    terminal.type(CANARY)
    assert terminal.end() == 0
    assert terminal.shown.count("passphrase: ") == 1


def test_a_dry_run_of_a_rotation_changes_nothing(cheap: Path, cli: Cli) -> None:
    arguments = ("key", "rotate", "slot", "3", "--slot-key", "passphrase:?env=PW", "--dry-run")
    assert cli(*arguments).text == "would wrap  slot 3 anew\n"
    assert cli(*arguments, "--json").json == {"slot": 3, "is_done": False}
    assert len(warnings(cli)) == 1


def test_rotating_a_slot_needs_its_key_and_the_right(cheap: Path, cli: Cli) -> None:
    for number, flags, code, error in (
        ("3", [], 7, "wrong-key"),
        ("9", [], 3, "secret-not-found"),
        ("1", ["--slot-key", "passphrase:?env=PW"], 7, "wrong-key"),
        ("3", ["--slot-key", "nonsense"], 2, "invalid-key-uri"),
        ("3", ["--as", "user:eve"], 5, "denied"),
    ):
        outcome = cli("key", "rotate", "slot", number, *flags, "--json")
        assert (outcome.code, outcome.error) == (code, error)
    assert len(warnings(cli)) == 1
