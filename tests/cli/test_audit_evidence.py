from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from securecfg import Vault
from securecfg.audit import parse_vkey
from securecfg.audit.tiles import open_tiles
from securecfg.store import Space
from securecfg.vault.commits.epochs import rotate_signing_key
from tests.cli.running import CANARY, Cli, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.vault import Vault as OpenVault

LOG, TILE = f"s{Space.LOG.value}", f"s{Space.TILE.value}"


def vault_file(project: Path) -> Path:
    (path,) = (project / ".securecfg").glob("*.vault")
    return path


def tamper(project: Path, *statements: str) -> None:
    """Change the database directly, as a person with an editor would."""
    connection = apsw.Connection(str(vault_file(project)))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


def overwrite(table: str, row: int) -> str:
    """Return what replaces a row by as many zeros."""
    return f"UPDATE {table} SET b = zeroblob(length(b)) WHERE i = {row}"  # noqa: S608 - the test's own constants


@pytest.fixture
def long(stored: Path) -> Path:
    """A project with some hundred records in its log."""
    with Vault.open() as vault:
        for number in range(300):
            vault.write(f"app/{number}", CANARY)
    return stored


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_whole_log_is_sound_at_every_level(long: Path, cli: Cli) -> None:
    for level in ("1", "2", "3", "4"):
        data = cli("audit", "verify", "--level", level, "--json")
        assert (data.code, data.json["result"], data.json["level"]) == (0, "sound", int(level))
        assert data.json["record_count"] > 300
        assert (data.json["newest"] is not None) == (int(level) >= 3)


def test_verification_says_what_it_found(stored: Path, cli: Cli) -> None:
    outcome = cli("audit", "verify", "--max-age", "1h")
    assert outcome.code == 0
    assert outcome.text.startswith("sound   ")
    assert "1 signing key, newest 20" in outcome.text
    assert "vkey    securecfg/" in outcome.text


def test_verification_needs_no_principal_and_writes_nothing(
    stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vault_file(stored).read_bytes()
    assert cli("audit", "verify", "--as", "svc:nobody").code == 0
    assert vault_file(stored).read_bytes() == before


@pytest.mark.parametrize("row", [0, 7, 200, 299])
def test_an_altered_record_is_named(long: Path, cli: Cli, row: int) -> None:
    tamper(long, overwrite(LOG, row))
    outcome = cli("audit", "verify", "--json")
    assert (outcome.code, outcome.error, outcome.json["error"]["index"]) == (8, "log-tampered", row)
    assert f"record {row}" in outcome.json["error"]["message"]
    assert cli("audit", "verify").err.startswith("error: record ")


def test_an_altered_record_is_found_although_the_vault_no_longer_opens(stored: Path, cli: Cli) -> None:
    tamper(stored, overwrite(LOG, 2))
    refused = cli("audit", "show", "--json")
    assert refused.code == 8
    outcome = cli("audit", "verify", "--json")
    assert (outcome.error, outcome.json["error"]["index"]) == ("log-tampered", 2)


@pytest.mark.parametrize(
    ("change", "index"),
    [
        ("DELETE FROM s6 WHERE i = 5", 5),
        ("UPDATE s6 SET b = (SELECT b FROM s6 WHERE i = 6) WHERE i = 5", 5),
        (overwrite(TILE, 0), 0),
    ],
)
def test_a_missing_swapped_or_untiled_record_is_named(long: Path, cli: Cli, change: str, index: int) -> None:
    tamper(long, change)
    outcome = cli("audit", "verify", "--json")
    assert (outcome.code, outcome.error, outcome.json["error"]["index"]) == (8, "log-tampered", index)


def test_a_log_that_was_cut_is_truncated(long: Path, cli: Cli) -> None:
    tamper(long, "DELETE FROM s6 WHERE i >= 290")
    outcome = cli("audit", "verify", "--json")
    assert (outcome.code, outcome.error) == (8, "log-truncated")


def test_an_older_copy_is_truncated_against_what_the_machine_recorded(stored: Path, cli: Cli) -> None:
    path = vault_file(stored)
    copy = shutil.copy(path, stored / "old")
    assert cli("secret", "put", "app/new", stdin=CANARY).code == 0
    shutil.copy(copy, path)
    outcome = cli("audit", "verify", "--json")
    assert (outcome.code, outcome.error) == (8, "log-truncated")
    assert cli("audit", "verify", "--level", "3").code == 0


def test_a_log_without_recent_records_is_stale(stored: Path, cli: Cli) -> None:
    class Yesterday:
        def now_ns(self) -> int:
            import time

            return time.time_ns() + int(timedelta(days=1).total_seconds()) * 10**9

    from securecfg.errors import LogStale
    from securecfg.keys import open_provider
    from securecfg.vault.settings import find_settings
    from securecfg.vault.state.storedlog import Expectation, verify_log_file

    settings = find_settings(None, None, None)
    provider = open_provider(settings.key)
    with pytest.raises(LogStale) as caught:
        verify_log_file(settings.vault, provider, expected=Expectation(timedelta(hours=1)), clock=Yesterday())
    assert caught.value.exit_code == 8


def test_stale_has_its_own_code(stored: Path, cli: Cli) -> None:
    import time

    time.sleep(1.1)
    outcome = cli("audit", "verify", "--max-age", "0s", "--json")
    assert (outcome.code, outcome.error) == (8, "log-stale")


def test_the_log_continues_a_checkpoint_that_was_kept(stored: Path, cli: Cli) -> None:
    kept = stored / "kept"
    kept.write_bytes(cli("audit", "checkpoint").out)
    assert cli("secret", "put", "app/new", stdin=CANARY).code == 0
    assert cli("audit", "verify", "--against", str(kept)).code == 0
    data = cli("audit", "checkpoint", "--json").json
    assert data["checkpoint"].splitlines()[1] == str(data["record_count"])


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda lines: [lines[0], "9999", *lines[2:]], "log-truncated"),
        (lambda lines: [lines[0], str(int(lines[1]) - 1), *lines[2:]], "log-tampered"),
        (lambda lines: ["securecfg/" + "0" * 32, *lines[1:]], "log-tampered"),
        (lambda lines: lines[:2], "log-tampered"),
        (lambda lines: ["\x00\xff", *lines], "log-tampered"),
    ],
)
def test_a_log_that_does_not_continue_a_checkpoint_is_found(
    stored: Path, cli: Cli, edit: Callable[[list[str]], list[str]], code: str
) -> None:
    lines = cli("audit", "checkpoint").text.splitlines()
    kept = stored / "kept"
    kept.write_text("\n".join(edit(lines)) + "\n")
    outcome = cli("audit", "verify", "--against", str(kept), "--json")
    assert (outcome.code, outcome.error) == (8, code)


def test_verifies_across_signing_keys(stored: Path, cli: Cli) -> None:
    kept = stored / "kept"
    kept.write_bytes(cli("audit", "checkpoint").out)
    with Vault.open() as vault:
        rotate_signing_key(vault.authority)
        vault.write("app/new", CANARY)
    data = cli("audit", "verify", "--against", str(kept), "--json").json
    assert data["epoch_count"] == 2
    assert data["vkey"] != data["first_vkey"]
    assert cli("audit", "verify", "--level", "2", "--json").json["epoch_count"] == 2


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("--level", "5"), 2, "usage"),
        (("--level", "2", "--max-age", "1h"), 2, "usage"),
        (("--level", "3", "--against", "x"), 2, "usage"),
        (("--max-age", "soon"), 2, "usage"),
        (("--against", "nowhere"), 3, "file-missing"),
        (("--vault", "nowhere.vault"), 3, "vault-not-found"),
        (("--key", "file:nowhere"), 3, "file-missing"),
    ],
)
def test_refuses_a_verification_without_meaning(
    stored: Path, cli: Cli, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    outcome = cli("audit", "verify", *arguments, "--json")
    assert (outcome.code, outcome.error) == (exit_code, code)


def test_a_damaged_head_or_keyring_is_tampered(stored: Path, cli: Cli) -> None:
    tamper(stored, "UPDATE h SET b = zeroblob(length(b))")
    outcome = cli("audit", "verify", "--json")
    assert (outcome.code, outcome.error) == (8, "tampered")


# --- export, prove ----------------------------------------------------------------------------------------------------


def test_exports_tiles_that_verify_with_the_key(long: Path, cli: Cli) -> None:
    outcome = cli("audit", "export", "--tiles", "out", "--json")
    assert outcome.code == 0
    assert {path.name for path in Path("out").iterdir()} == {"checkpoint", "tile", "vkey"}
    key = parse_vkey(outcome.json["vkey"])
    assert Path("out/vkey").read_text() == f"{key}\n"
    assert open_tiles(Path("out"), key).size == outcome.json["record_count"]
    again = cli("audit", "export", "--tiles", "out", "--json")
    assert again.json["record_count"] == outcome.json["record_count"] + 1
    assert not any(CANARY.encode() in path.read_bytes() for path in Path("out").rglob("*") if path.is_file())


def test_never_exports_over_something_else(stored: Path, cli: Cli) -> None:
    Path("out").mkdir()
    Path("out/checkpoint").write_text("mine\n")
    outcome = cli("audit", "export", "--tiles", "out", "--json")
    assert (outcome.code, outcome.error) == (6, "already-exists")


def test_proves_one_record_and_discloses_it_where_asked(stored: Path, cli: Cli) -> None:
    assert cli("audit", "prove", "0", "-o", "sealed").code == 0
    assert cli("audit", "prove", "verify", "sealed", "--json").json["record"] is None
    Path("open").write_bytes(cli("audit", "prove", "0", "--open").out)
    proved = cli("audit", "prove", "verify", "open", "--json").json
    assert (proved["index"], proved["record"]["event"]) == (0, "vault.created")
    assert "vault.created" in cli("audit", "prove", "verify", "open").text
    data = cli("audit", "prove", "1", "--open", "--json").json
    assert data["proof"].startswith("c2sp.org/tlog-proof@v1\n")


def test_a_proof_verifies_offline_with_the_key_alone(
    stored: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("audit", "prove", "1", "--open", "-o", str(tmp_path / "p")).code == 0
    vkey = cli("audit", "checkpoint", "--json").json["vkey"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli("audit", "prove", "verify", "../p").code == 2
    assert cli("audit", "prove", "verify", "../p", "--vkey", vkey).code == 0
    Path("trusted.vkey").write_text(f"{vkey}\n")
    assert cli("audit", "prove", "verify", "../p", "--vkey", "trusted.vkey").code == 0


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 400, b"c2sp.org/tlog-proof@v1\nextra AA==\nindex 0\n\n"])
def test_refuses_what_is_no_proof(stored: Path, cli: Cli, content: bytes) -> None:
    Path("p").write_bytes(content)
    outcome = cli("audit", "prove", "verify", "p", "--json")
    assert (outcome.code, outcome.error) == (8, "log-tampered")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("prove", "99999"), 3, "not-found"),
        (("prove", "-1"), 2, "usage"),
        (("prove", "seven"), 2, "usage"),
        (("prove",), 2, "usage"),
        (("prove", "0", "--as", "svc:shop"), 5, "denied"),
        (("prove", "99999", "--as", "svc:shop"), 5, "denied"),
        (("prove", "verify", "nowhere"), 3, "file-missing"),
        (("prove", "verify", "securecfg.toml", "--vkey", "nonsense"), 2, "usage"),
        (("export",), 2, "usage"),
        (("export", "--tiles", "out", "--as", "svc:shop"), 5, "denied"),
        (("export", "--tiles", "securecfg.toml"), 9, "store-failed"),
        (("report", "--json"), 2, "usage"),
        (("report", "--from", "2026-02-01", "--to", "2026-01-01"), 2, "usage"),
        (("report", "--from", "soon"), 2, "usage"),
        (("report", "--format", "pdf"), 2, "usage"),
        (("report", "-o", "r", "--as", "svc:shop"), 5, "denied"),
        (("report", "-o", "no/such/folder/r"), 9, "store-failed"),
        (("report", "verify", "nowhere"), 3, "file-missing"),
        (("report", "verify", "securecfg.toml"), 8, "signature-invalid"),
    ],
)
def test_refuses_evidence_that_cannot_be(
    stored: Path, cli: Cli, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    outcome = cli("audit", *arguments, "--json")
    assert (outcome.code, outcome.error) == (exit_code, code)


# --- report -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["html", "jsonl"])
def test_a_report_verifies_until_it_is_edited(stored: Path, cli: Cli, file_format: str) -> None:
    made = cli("audit", "report", "--from", "1h", "--format", file_format, "-o", "r", "--json")
    assert made.code == 0
    sound = cli("audit", "report", "verify", "r", "--json")
    assert (sound.json["result"], sound.json["row_count"]) == ("sound", made.json["record_count"])
    assert Path("r").stat().st_mode & 0o777 == 0o600
    Path("r").write_bytes(Path("r").read_bytes().replace(b"user:ana", b"user:eve", 1))
    outcome = cli("audit", "report", "verify", "r", "--json")
    assert (outcome.code, outcome.error) == (8, "signature-invalid")


def test_a_report_goes_to_standard_output_as_it_is(stored: Path, cli: Cli) -> None:
    lines = cli("audit", "report", "--format", "jsonl").text.splitlines()
    assert json.loads(lines[0])["record"]["ev"] == "vault.created"
    assert cli("audit", "report").text.startswith("<!doctype html>")
    assert cli("audit", "report", "create", "--format", "csv").text.startswith("index,time,event")


def test_a_page_does_not_go_to_a_terminal(stored: Path) -> None:
    terminal = Terminal("audit", "report")
    assert terminal.end() == 2
    assert "hint: name a file with `-o report.html`" in terminal.shown
    lines = Terminal("audit", "report", "--format", "csv")
    assert lines.end() == 0
    assert "vault.created" in lines.shown


def test_a_report_shows_no_field_without_content(stored: Path, cli: Cli) -> None:
    assert "recovery code" in (page := cli("audit", "report").text)
    assert '<span class="s">principals</span>' not in page


def test_a_report_without_a_period_begins_with_the_first_record(stored: Path, cli: Cli) -> None:
    first = cli("audit", "show", "--json").json["records"][0]["time"]
    page = cli("audit", "report").text
    assert f"<dt>Period</dt><dd>{first[:19].replace('T', ' ')} to 20" in page
    assert "1970-" not in page
    assert first[:10] in page.partition("</title>")[0]
    before = cli("audit", "report", "--to", "2020-01-01", "--json", "-o", "r")
    assert (before.code, before.error) == (2, "usage")
    assert first[:19] in before.json["error"]["hint"]


def test_a_report_shows_the_parts_of_a_batch(stored: Path, cli: Cli) -> None:
    with Vault.open() as vault, vault.batch() as batch:
        for number in range(2_000):
            batch.write(f"bulk/{number}", CANARY)
    text = cli("audit", "report", "--format", "jsonl").text
    assert '["bulk/1999",1]' in text


def test_a_report_verifies_with_the_first_key_after_others_followed(stored: Path, cli: Cli) -> None:
    first = cli("audit", "verify", "--json").json["first_vkey"]
    with Vault.open() as vault:
        rotate(vault)
        rotate(vault)
    assert cli("audit", "report", "-o", "r").code == 0
    assert cli("audit", "report", "verify", "r", "--vkey", first).code == 0
    assert cli("audit", "report", "verify", "r").code == 0


def rotate(vault: OpenVault) -> None:
    rotate_signing_key(vault.authority)


# --- where nothing can be written -------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_exported_and_shown(
    stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = vault_file(stored)
    path.chmod(0o400)
    before = path.read_bytes()
    # Root may write to everything, whatever the mode says.
    may, is_writing = os.access, os.W_OK
    monkeypatch.setattr(os, "access", lambda file, mode, **how: mode != is_writing and may(file, mode, **how))
    assert cli("audit", "verify").code == 0
    outcome = cli("audit", "export", "--tiles", "out")
    assert outcome.code == 0
    assert "not recorded" in outcome.err
    assert cli("audit", "show").code == 0
    assert path.read_bytes() == before
