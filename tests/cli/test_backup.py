"""`securecfg vault backup`, `backups` and `restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.running import Cli


@pytest.fixture
def backed_up(stored: Path, cli: Cli) -> Path:
    """A project whose vault is backed up in the folder `backup`, for the key file `backup.key`."""
    assert cli("key", "generate", "backup.key").code == 0
    assert cli("vault", "backup", "backup", "--to", "file:backup.key").code == 0
    return stored


def test_a_backup_is_made_extended_and_listed(backed_up: Path, cli: Cli) -> None:
    assert cli("vault", "backup", "backup", "--dry-run", "--json").json["part"] == 2
    done = cli("vault", "backup", "backup", "--json").json
    assert (done["part"], done["recipients"], done["row_count"] > 0) == (2, ["file"], True)
    assert (backed_up / "backup" / "000002.part").stat().st_size == done["size_bytes"]
    listed = cli("vault", "backups", "--json").json["backups"]
    assert [(each["part"], each["is_finished"]) for each in listed] == [(1, True), (2, True)]
    assert cli("vault", "backups").text.count("file") == 2


def test_a_recovery_code_is_a_recipient(stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("vault", "backup", "backup", "--to", "recovery:", "--json")
    (code,) = done.json["recovery_codes"]
    monkeypatch.setenv("CODE", code)
    restored = cli("vault", "restore", "backup", "r.vault", "--with", "recovery:?env=CODE", "--json")
    assert restored.json["needs_adoption"] is True
    assert code not in restored.text
    assert (stored / "r.vault").exists()


def test_a_restored_vault_needs_to_be_adopted(backed_up: Path, cli: Cli) -> None:
    given = ("vault", "restore", "backup", "r.vault", "--with", "file:backup.key")
    tried = cli(*given, "--dry-run", "--json").json
    assert (tried["part"], tried["is_done"], len(tried["states"])) == (1, False, 1)
    assert not (backed_up / "r.vault").exists()
    outcome = cli(*given)
    assert outcome.code == 0
    assert "securecfg vault adopt" in outcome.err
    assert cli("secret", "get", "db/main", "--reveal", "--vault", "r.vault").code == 8
    assert cli("vault", "adopt", "--vault", "r.vault", "--yes").code == 0
    got = cli("secret", "get", "db/main", "--reveal", "--vault", "r.vault", reveals=True)
    assert got.text == CANARY
    assert cli(*given, "--json").error == "already-exists"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (("--part", "2"), "version-not-found"),
        (("--at", "2001-01-01"), "version-not-found"),
        (("--at", "noon"), "usage"),
        (("--at", "2030-01-01", "--part", "1"), "usage"),
        (("--as", "user:nobody"), "denied"),
        (("--as", "nobody at all"), "invalid-metadata"),
    ],
)
def test_what_cannot_be_restored(backed_up: Path, cli: Cli, given: tuple[str, ...], code: str) -> None:
    outcome = cli("vault", "restore", "backup", "r.vault", "--with", "file:backup.key", "--json", *given)
    assert outcome.error == code
    assert not (backed_up / "r.vault").exists()


def test_another_key_does_not_open_a_backup(backed_up: Path, cli: Cli) -> None:
    assert cli("key", "generate", "other.key").code == 0
    given = ("vault", "restore", "backup", "r.vault", "--json", "--with")
    assert cli(*given, "file:other.key").error == "wrong-key"
    assert (
        cli("vault", "restore", str(backed_up), "r.vault", "--with", "file:backup.key", "--json").error
        == "not-a-backup"
    )


def test_what_removes_something_names_the_backups(backed_up: Path, cli: Cli) -> None:
    for arguments in (
        ("secret", "destroy", "db/main", "1", "--yes"),
        ("key", "rotate", "root"),
    ):
        outcome = cli(*arguments)
        assert outcome.code == 0, outcome.err
        assert "1 backup made before stays readable" in outcome.err


def test_a_first_backup_needs_a_recipient(stored: Path, cli: Cli) -> None:
    assert cli("vault", "backup", "backup", "--json").error == "setting-missing"
    assert not any((stored / "backup").glob("*.part"))
