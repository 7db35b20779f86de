"""`securecfg identity`, and vaults that open with one."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Terminal

if TYPE_CHECKING:
    from tests.cli.running import Cli


def make(cli: Cli, name: str = "svc:web", *flags: str) -> dict[str, str]:
    outcome = cli("identity", "create", name, "--out", "own.identity", "--public", "own.pub", *flags, "--json")
    assert outcome.code == 0, outcome.text
    made: dict[str, str] = outcome.json
    return made


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory: identities need no vault."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- create -----------------------------------------------------------------------------------------------------------


def test_create_writes_a_private_and_a_public_half(alone: Path, cli: Cli) -> None:
    outcome = cli("identity", "create", "svc:web", "--out", "own.identity", "--public", "own.pub")
    assert outcome.code == 0
    assert "warning: nothing protects `own.identity`" in outcome.err
    own, public = (alone / "own.identity", alone / "own.pub")
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert len(public.read_text().splitlines()) == 1
    assert own.read_text().splitlines()[0] == public.read_text().strip()
    assert own.read_text().splitlines()[1].split()[2] not in outcome.text + outcome.err


def test_a_name_without_a_kind_is_a_users(alone: Path, cli: Cli) -> None:
    assert make(cli, "ana")["name"] == "user:ana"


@pytest.mark.parametrize("name", ["", "a b", "role:x", "svc:", "user:-"])
def test_refuses_names_that_are_no_principals(alone: Path, cli: Cli, name: str) -> None:
    outcome = cli("identity", "create", name, "--out", "own", "--public", "pub", "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-metadata")
    assert list(alone.iterdir()) == []


def test_never_writes_over_anything_and_leaves_nothing_half_made(alone: Path, cli: Cli) -> None:
    Path("there").write_text("x")
    for out, public in (("there", "new"), ("new", "there"), ("new", "none/new")):
        outcome = cli("identity", "create", "svc:web", "--out", out, "--public", public, "--json")
        assert outcome.error in {"already-exists", "store-failed"}
        assert [path.name for path in alone.iterdir()] == ["there"]
    assert Path("there").read_text() == "x"
    same = cli("identity", "create", "svc:web", "--out", "new", "--public", "./new", "--json")
    assert (same.code, same.error) == (2, "usage")
    assert not Path("new").exists()


def test_a_key_protects_the_private_half(alone: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("key", "generate", "guard.key")
    made = make(cli, "svc:web", "--protect", "file:guard.key")
    assert made["protection"] == "file"
    # Named from wherever it is used.
    assert f" file:{alone}/guard.key " in Path("own.identity").read_text()
    shown = cli("identity", "show", "own.identity")
    assert "private, protection: file" in shown.text
    assert str(alone) not in shown.text


def test_a_passphrase_in_a_variable_leaves_no_trace_of_where_it_was(
    alone: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", CANARY)
    outcome = cli(
        *("identity", "create", "ana", "--out", "own.identity", "--public", "own.pub"),
        *("--protect", "passphrase:?env=PW"),
    )
    assert outcome.code == 0
    assert "warning" not in outcome.err
    assert "SECURECFG-IDENTITY-KEY-1 passphrase: " in Path("own.identity").read_text()
    assert "PW" not in Path("own.identity").read_text().split()


@pytest.mark.parametrize("uri", ["command:/bin/true", "identity:other", "nonsense:", "nothing"])
def test_refuses_keys_that_protect_no_identity(alone: Path, cli: Cli, uri: str) -> None:
    outcome = cli("identity", "create", "ana", "--out", "own", "--public", "pub", "--protect", uri, "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-key-uri")
    assert list(alone.iterdir()) == []


def test_a_passphrase_is_asked_for_twice(alone: Path, cli: Cli) -> None:
    files = ("--out", "own.identity", "--public", "own.pub")
    terminal = Terminal("identity", "create", "ana", *files, "--protect", "passphrase:")
    for prompt in ("passphrase: ", "passphrase again: "):
        terminal.expect(prompt)
        terminal.type(CANARY)
    assert terminal.end() == 0
    assert CANARY not in terminal.shown


# --- show and export --------------------------------------------------------------------------------------------------


def test_show_tells_whose_it_is_and_what_a_file_holds(alone: Path, cli: Cli) -> None:
    made = make(cli)
    for file, has_private, protection in (("own.identity", True, "none"), ("own.pub", False, None)):
        assert cli("identity", "show", file, "--json").json == {
            "name": "svc:web",
            "fingerprint": made["fingerprint"],
            "former_fingerprints": [],
            "has_private": has_private,
            "protection": protection,
        }
    grouped = "-".join(made["fingerprint"][start : start + 4] for start in range(0, 32, 4))
    assert f"fingerprint  {grouped}\n" in cli("identity", "show", "own.pub").text


def test_export_prints_the_public_half(alone: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", CANARY)
    make(cli, "svc:web", "--protect", "passphrase:?env=PW")
    monkeypatch.delenv("PW")
    for file in ("own.identity", "own.pub"):
        assert cli("identity", "export", file).text == Path("own.pub").read_text()
    assert cli("identity", "export", "own.identity", "--json").json["public"] == Path("own.pub").read_text().strip()


def test_an_altered_file_is_refused(alone: Path, cli: Cli) -> None:
    make(cli)
    for name in ("own.identity", "own.pub"):
        path = alone / name
        text = path.read_text()
        path.write_text(text.replace("svc:web", "svc:wed"))
        for verb in ("show", "export"):
            outcome = cli("identity", verb, name, "--json")
            assert (outcome.code, outcome.error) == (7, "key-provider-refused")
    assert cli("identity", "show", "absent", "--json").error == "file-missing"


# --- with a vault -----------------------------------------------------------------------------------------------------


@pytest.fixture
def admitted(stored: Path, cli: Cli) -> Path:
    """A project whose vault lets `svc:web` in by its identity, to read what is in `db`."""
    make(cli)
    added = cli("key", "add", "identity:own.pub", "--label", "web", "--json").json
    assert (added["slot"], added["kind"], added["principal"]) == (3, "identity", "svc:web")
    assert added["fingerprint"] == cli("identity", "show", "own.identity", "--json").json["fingerprint"]
    (stored / "web.toml").write_text(
        '[roles.web]\nmembers = ["svc:web"]\n[[roles.web.grants]]\nactions = ["read"]\npaths = ["db/**"]\n'
    )
    assert cli("policy", "apply", "web.toml").code == 0
    return stored


def test_an_identity_opens_as_itself_whatever_the_settings_say(admitted: Path, cli: Cli) -> None:
    read = cli("secret", "get", "db/main", "--reveal", "--key", "identity:own.identity", reveals=True)
    assert (read.code, read.text) == (0, CANARY)
    assert "svc:web (proved)" in cli("audit", "show").text
    assert cli("vault", "open", "--key", "identity:own.identity", "--json").json["principal"] == "svc:web"
    listed = cli("key", "list", "--json").json["slots"][2]
    assert (listed["kind"], listed["principals"]) == ("identity", ["svc:web"])
    assert cli("vault", "status", "--json").json["slots_by_kind"]["identity"] == 1


def test_an_identity_speaks_for_nobody_else(admitted: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("secret", "get", "db/main", "--key", "identity:own.identity", "--json")
    assert cli(*arguments, "--as", "user:ana").error == "not-authenticated"
    monkeypatch.setenv("SECURECFG_AS", "user:ana")
    assert cli(*arguments).error == "not-authenticated"
    refused = cli("key", "add", "identity:own.pub", "--principal", "svc:other", "--as", "user:ana", "--json")
    assert (refused.code, refused.error) == (2, "invalid-metadata")


def test_run_acts_for_whom_the_identity_proves(admitted: Path, cli: Cli) -> None:
    from tests.cli.running import call

    (admitted / ".env").write_text("PASSWORD=${secret:db/main}\n")
    done = call("run", "--key", "identity:own.identity", "--", "sh", "-c", "printf %s $PASSWORD")
    assert (done.code, done.text) == (0, CANARY)
    assert "svc:web (proved)" in cli("audit", "show", "--last", "1", "--principal", "svc:web").text


def test_the_public_half_opens_nothing(admitted: Path, cli: Cli) -> None:
    outcome = cli("vault", "open", "--key", "identity:own.pub", "--json")
    assert (outcome.code, outcome.error) == (7, "key-provider-refused")


def test_a_vault_is_created_for_whom_the_identity_proves(
    alone: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(cli, "user:bo")
    monkeypatch.setenv("SECURECFG_KEY", "identity:own.identity")
    refused = cli("vault", "create", "a.vault", "--admin", "ana", "--json")
    assert (refused.code, refused.error) == (4, "not-authenticated")
    assert cli("vault", "create", "a.vault", "--json").json["admin"] == "user:bo"
    monkeypatch.setenv("SECURECFG_VAULT", "a.vault")
    assert cli("secret", "put", "a", stdin=CANARY).code == 0
    assert cli("vault", "adopt", "--yes").code == 0
    assert "asserted" not in cli("audit", "show").text


def test_a_project_is_begun_with_an_identity(alone: Path, cli: Cli) -> None:
    make(cli, "user:bo")
    outcome = cli("init", "--key", "identity:own.identity", "--json")
    assert (outcome.code, outcome.json["principal"]) == (0, "user:bo")
    assert cli("secret", "put", "a", stdin=CANARY).code == 0
    assert cli("doctor").code == 0
