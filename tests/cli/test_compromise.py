"""`securecfg key compromise`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.running import Cli


def test_says_what_is_exposed_and_changes_nothing(stored: Path, cli: Cli) -> None:
    before = (stored / ".securecfg" / "shop.vault").read_bytes() if (stored / ".securecfg").exists() else b""
    told = cli("key", "compromise", "--dry-run", "--json").json
    assert told["exposed"] == [{"path": "db/main", "versions": [1], "is_live": True}]
    assert (told["is_done"], told["backups"]) == (False, [])
    after = (stored / ".securecfg" / "shop.vault").read_bytes() if before else b""
    assert before == after


def test_replaces_everything_and_names_the_backups(stored: Path, cli: Cli) -> None:
    assert cli("key", "generate", "backup.key").code == 0
    assert cli("vault", "backup", "backup", "--to", "file:backup.key").code == 0
    done = cli("key", "compromise", "--reason", "a test", "--yes", "--json").json
    assert (done["epoch"], [each["part"] for each in done["backups"]]) == (1, [1])
    assert done["encrypted_count"] > 0
    keys = cli("key", "usage", "--json").json["keys"]
    assert [key["epoch"] for key in keys if key["purpose"] == "scope"] == [1]
    exposed = cli("audit", "exposed", "--json").json["secrets"]
    assert [(each["path"], each["reason"]) for each in exposed] == [("db/main", "compromise")]
    assert "compromised: everything (a test)" in cli("audit", "exposed").text
    assert cli("key", "compromise", "--resume").code == 0
    assert cli("vault", "verify").code == 0


def test_the_other_slots_go_where_that_is_wanted(stored: Path, cli: Cli) -> None:
    assert cli("key", "generate", "new.key").code == 0
    assert cli("key", "add", "file:new.key").code == 0
    done = cli("key", "compromise", "--drop-slots", "--key", "file:new.key", "--yes", "--json").json
    assert done["slots"] == 1
    assert cli("vault", "open", "--json").error == "wrong-key"
    assert cli("vault", "open", "--key", "file:new.key").code == 0


def test_is_refused_without_confirmation_right_or_beginning(stored: Path, cli: Cli) -> None:
    assert cli("key", "compromise", "--no-input", "--json").error == "confirmation-required"
    assert cli("key", "compromise", "--as", "user:nobody", "--yes", "--json").error == "denied"
    assert cli("key", "compromise", "--resume", "--json").error == "version-not-found"
