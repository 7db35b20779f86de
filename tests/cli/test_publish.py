"""`securecfg vault publish`, and the commands that read what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Terminal

if TYPE_CHECKING:
    from tests.cli.running import Cli

ROLES = '[roles.web]\n[[roles.web.grants]]\nactions = ["read", "list"]\npaths = ["db/**"]\n'
READING = ("--key", "identity:web.identity", "--audit-sink", "file:reads.sink")


@pytest.fixture
def shop(stored: Path, cli: Cli) -> Path:
    """A project with a role `web`, which has one member with a public key."""
    Path("roles.toml").write_text(ROLES)
    assert cli("policy", "apply", "roles.toml", "--yes").code == 0
    cli("identity", "create", "svc:web", "--out", "web.identity", "--public", "web.pub")
    assert cli("role", "add", "web", "--member", "svc:web", "--identity", "web.pub").code == 0
    cli("secret", "put", "other/x", stdin=CANARY)
    return stored


@pytest.fixture
def published(shop: Path, cli: Cli) -> Path:
    """The same, and a bundle `web.sealed`."""
    outcome = cli("vault", "publish", "--for", "web", "-o", "web.sealed")
    assert outcome.code == 0, outcome.err
    return shop


def test_says_what_it_wrote_and_for_whom(shop: Path, cli: Cli) -> None:
    cli("role", "add", "web", "--member", "svc:late")
    outcome = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--ttl", "7d")
    assert outcome.code == 0
    lines = outcome.text.splitlines()
    assert lines[0].startswith("published  web.sealed   serial  ")
    assert "1 secret   until  " in lines[0]
    assert lines[1].startswith("issuer     securecfg/")
    assert lines[2].startswith("for        svc:web   ")
    assert outcome.err == "note: svc:late cannot open it, since the vault knows no public key of it\n"


def test_json_has_all_of_it(shop: Path, cli: Cli) -> None:
    shown = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--json").json
    assert shown["secrets"] == ["db/main"]
    assert shown["recipients"][0]["principal"] == "svc:web"
    assert (shown["is_done"], shown["without_key"], shown["value_count"]) == (True, [], 1)
    assert shown["size_bytes"] == Path("web.sealed").stat().st_size
    record = next(r for r in cli("audit", "show", "--json").json["records"] if r["index"] == shown["serial"])
    assert record["event"] == "bundle.published"


def test_a_dry_run_writes_and_reads_nothing(shop: Path, cli: Cli) -> None:
    shown = cli("vault", "publish", "--for", "web", "--dry-run")
    assert shown.text.startswith("would publish  1 secret for web")
    assert "secret     db/main" in shown.text
    assert not list(Path().glob("*.sealed"))
    assert "secret.read" not in cli("audit", "show").text


def test_replaces_a_file_only_when_told_to(published: Path, cli: Cli) -> None:
    before = Path("web.sealed").read_bytes()
    refused = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    assert Path("web.sealed").read_bytes() == before
    assert cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--yes").code == 0
    assert Path("web.sealed").read_bytes() != before
    terminal = Terminal("vault", "publish", "--for", "web", "-o", "web.sealed")
    terminal.expect("Replace `web.sealed`?")
    terminal.type("n")
    assert terminal.end() == 2


@pytest.mark.parametrize(
    ("flags", "code", "error"),
    [
        (("--for", "web"), 2, "usage"),
        (("--for", "web", "-o", "x", "--ttl", "0s"), 2, "usage"),
        (("--for", "no role", "-o", "x"), 2, "invalid-metadata"),
        (("--for", "nobody", "-o", "x"), 6, "conflict"),
        (("--for", "web", "-o", "none/x"), 9, "store-failed"),
        (("--for", "web", "-o", "link", "--yes"), 9, "store-failed"),
        (("--for", "web", "-o", "config", "--yes"), 6, "already-exists"),
        (("--for", "web", "-o", "x", "--as", "svc:shop"), 5, "denied"),
        (("--for", "web", "-o", "./roles.toml", "--since", "roles.toml", "--yes"), 2, "usage"),
        (("--for", "web", "-o", "x", "--since", "roles.toml"), 8, "not-a-bundle"),
        (("--for", "web", "-o", "x", "--since", "none"), 3, "file-missing"),
    ],
)
def test_refuses_what_cannot_be(shop: Path, cli: Cli, flags: tuple[str, ...], code: int, error: str) -> None:
    Path("link").symlink_to("roles.toml")
    Path("config").mkdir(exist_ok=True)
    outcome = cli("vault", "publish", *flags, "--json")
    assert (outcome.code, outcome.error) == (code, error)
    assert not Path("x").exists()
    assert Path("roles.toml").read_text() == ROLES


def test_secrets_are_got_listed_and_searched(published: Path, cli: Cli) -> None:
    given = ("--vault", "web.sealed", *READING)
    assert cli("secret", "get", "db/main", "--reveal", *given, reveals=True).text == CANARY
    assert "***" in cli("secret", "get", "db/main", *given).text
    assert cli("secret", "list", *given).text == "db/main\n"
    assert cli("secret", "search", "MAIN", *given).text == "db/main\n"
    assert "live" in cli("secret", "history", "db/main", *given).text
    for path in ("other/x", "nothing"):
        assert cli("secret", "get", path, "--reveal", *given, "--json").error == "denied"
    refused = cli("secret", "put", "db/main", *given, "--json", stdin="x")
    assert (refused.code, refused.error) == (10, "unsupported")


def test_open_says_what_a_bundle_is(published: Path, cli: Cli) -> None:
    outcome = cli("vault", "open", "--vault", "web.sealed", *READING)
    assert outcome.code == 0, outcome.err
    assert "as  svc:web" in outcome.text
    assert "role  web   until  " in outcome.text
    assert cli("vault", "status", "--vault", "web.sealed", *READING).text == outcome.text
    shown = cli("vault", "open", "--vault", "web.sealed", *READING, "--json").json
    assert (shown["role"], shown["principal"]) == ("web", "svc:web")
    assert shown["issuer"].startswith("securecfg/")


def test_without_a_sink_nothing_opens(published: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("secret", "list", "--vault", "web.sealed", "--key", "identity:web.identity")
    refused = cli(*given, "--json")
    assert (refused.code, refused.error) == (2, "setting-missing")
    assert "--audit-sink" in refused.json["error"]["hint"]
    monkeypatch.setenv("SECURECFG_AUDIT", "file:reads.sink")
    assert cli(*given).code == 0


def test_settings_name_sink_and_issuer(published: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--yes", "--json").json["issuer"]
    place = published / "place"
    (place / "below").mkdir(parents=True)
    for name in ("web.sealed", "web.identity"):
        (place / name).write_bytes(Path(name).read_bytes())
    (place / "web.identity").chmod(0o600)
    settings = ['vault = "web.sealed"', 'key = "identity:web.identity"', 'audit = "file:reads.sink"']
    (place / "securecfg.toml").write_text("\n".join([*settings, f'issuer = "{issuer}"\n']))
    monkeypatch.chdir(place / "below")
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")
    assert cli("secret", "list").text == "db/main\n"
    assert (place / "reads.sink").exists()
    refused = cli("secret", "list", "--issuer", "unverified", "--audit-sink", "nothing", "--json")
    assert refused.error == "usage"


def test_run_works_on_a_bundle(published: Path, cli: Cli) -> None:
    Path("config").mkdir(exist_ok=True)
    Path("config/default.yaml").write_text("db:\n  password: ${secret:db/main}\n")
    program = "import os; print(len(os.environ['DB_PASSWORD']))"
    given = ("--vault", "web.sealed", *READING)
    terminal = Terminal("run", *given, "--", sys.executable, "-c", program)
    assert terminal.end() == 0, terminal.shown
    assert str(len(CANARY)) in terminal.shown
    Path("config/default.yaml").write_text("db:\n  password: ${secret:other/x}\n")
    refused = cli("run", *given, "--json", "--", "true")
    assert (refused.code, refused.error) == (5, "denied")


def test_a_bundle_is_no_vault(published: Path, cli: Cli) -> None:
    given = ("--vault", "web.sealed", *READING, "--json")
    for command in (("role", "list"), ("audit", "show"), ("key", "list"), ("policy", "history")):
        outcome = cli(*command, *given)
        assert (outcome.code, outcome.error) == (10, "unsupported"), command


def test_the_identity_file_that_others_can_read_is_refused(published: Path, cli: Cli) -> None:
    Path("web.identity").chmod(0o644)
    outcome = cli("secret", "list", "--vault", "web.sealed", *READING, "--json")
    assert (outcome.code, outcome.error) == (7, "key-provider-refused")


def test_json_of_a_dry_run_names_the_secrets(shop: Path, cli: Cli) -> None:
    shown = json.loads(cli("vault", "publish", "--for", "web", "--dry-run", "--json").out)
    assert (shown["secrets"], shown["is_done"]) == (["db/main"], False)


def test_records_of_readers_are_merged_into_the_log(published: Path, cli: Cli) -> None:
    given = ("--vault", "web.sealed", *READING)
    cli("secret", "get", "db/main", "--reveal", *given, reveals=True)
    cli("secret", "get", "other/x", "--reveal", *given)
    merged = cli("audit", "merge", "reads.sink")
    assert merged.text == "merged  reads.sink   2 records, 0 known before, of 2 sessions\n"
    assert merged.err == ""
    again = cli("audit", "merge", "reads.sink", "--json").json
    assert again["files"] == [
        {
            "path": "reads.sink",
            "record_count": 0,
            "known_count": 2,
            "session_count": 2,
            "unfinished_count": 0,
            "damaged_count": 0,
            "foreign_count": 0,
            "refused": [],
        }
    ]
    assert again["failed"] == []
    shown = cli("audit", "show", "--principal", "svc:web").text
    assert "bundle.read" in shown
    assert "other/x" in shown
    assert "db/main" in shown


def test_merge_warns_of_what_is_no_record(published: Path, cli: Cli) -> None:
    given = ("--vault", "web.sealed", *READING)
    cli("secret", "get", "db/main", "--reveal", *given, reveals=True)
    sink = Path("reads.sink")
    sink.write_bytes(b"".join(sink.read_bytes().splitlines(keepends=True)[:-1]) + b"torn")
    merged = cli("audit", "merge", "reads.sink")
    assert merged.code == 0
    assert "note: reads.sink: 1 session without an end" in merged.err
    assert "warning: reads.sink: 1 line cut off" in merged.err
    assert cli("audit", "merge", "none.sink", "--json").error == "file-missing"


def test_merge_goes_on_after_what_it_refuses_and_fails_at_the_end(published: Path, cli: Cli) -> None:
    given = ("--vault", "web.sealed", *READING)
    cli("secret", "get", "db/main", "--reveal", *given, reveals=True)
    sink = Path("reads.sink")
    lines = sink.read_bytes().splitlines(keepends=True)
    Path("cut.sink").write_bytes(b"".join((lines[0], *lines[2:])))
    merged = cli("audit", "merge", "cut.sink", "none.sink", "reads.sink")
    assert merged.code == 8
    assert "merged  reads.sink   1 record, " in merged.text
    assert "error: cut.sink: session " in merged.err
    assert "error: none.sink: " in merged.err
    shown = cli("audit", "merge", "none.sink", "cut.sink", "--json")
    assert shown.code == 8
    told = json.loads(shown.text)
    assert [refused["error"] for refused in told["files"][0]["refused"]] == ["log-tampered"]
    assert [(failed["path"], failed["error"]) for failed in told["failed"]] == [("none.sink", "file-missing")]
    missing = cli("audit", "merge", "none.sink", "reads.sink")
    assert missing.code == cli("audit", "merge", "none.sink").code != 0


def test_a_bundle_of_what_changed_is_found_beside_the_first(published: Path, cli: Cli) -> None:
    cli("secret", "put", "db/new", stdin=CANARY)
    shown = cli("vault", "publish", "--for", "web", "--since", "web.sealed", "-o", "web.sealed.1", "--json").json
    assert (shown["secrets"], shown["value_count"]) == (["db/main", "db/new"], 1)
    given = ("--vault", "web.sealed", *READING)
    assert cli("secret", "list", *given).text == "db/main\ndb/new\n"
    assert cli("secret", "get", "db/main", "--reveal", *given, reveals=True).text == CANARY
    Path("web.sealed").unlink()
    Path("web.sealed.1").rename("web.sealed")
    assert cli("secret", "list", *given, "--json").error == "bundle-chain-broken"


def test_whoever_has_the_verifier_key_can_check_a_bundle_without_any_other(
    published: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--yes", "--json").json
    place = published / "elsewhere"
    place.mkdir()
    (place / "web.sealed").write_bytes(Path("web.sealed").read_bytes())
    (place / "securecfg.toml").write_text("")
    monkeypatch.chdir(place)
    given = ("vault", "verify", "--vault", "web.sealed")
    checked = cli(*given, "--issuer", shown["issuer"], "--json").json
    assert (checked["serial"], checked["issuer"]) == (shown["serial"], shown["issuer"])
    assert cli(*given, "--issuer", shown["issuer"]).text.startswith(f"sound  web.sealed   serial  {shown['serial']}")
    assert cli(*given, "--json").error == "setting-missing"
    assert cli(*given, "--issuer", "unverified", "--json").error == "usage"
    content = bytearray(Path("web.sealed").read_bytes())
    content[2_000] ^= 1
    Path("web.sealed").write_bytes(content)
    refused = cli(*given, "--issuer", shown["issuer"], "--json")
    assert (refused.code, refused.error) == (8, "signature-invalid")


def test_what_a_replaced_key_could_read_is_listed_as_exposed(published: Path, cli: Cli) -> None:
    cli("identity", "create", "svc:web", "--out", "new.identity", "--public", "new.pub")
    replaced = cli("role", "add", "web", "--member", "svc:web", "--identity", "new.pub", "--replace")
    assert "`securecfg audit exposed` lists" in replaced.err
    shown = cli("audit", "exposed")
    assert "db/main" in shown.text
    assert "bundle of web for svc:web" in shown.text
    (listed,) = cli("audit", "exposed", "--json").json["secrets"]
    assert (listed["path"], listed["reason"], listed["principal"]) == ("db/main", "bundle", "svc:web")
    cli("secret", "put", "db/main", stdin=f"{CANARY}-new")
    assert cli("audit", "exposed").text == "no secret is known to be exposed\n"


def test_says_what_it_cannot_publish_of_sealed_scopes(shop: Path, cli: Cli) -> None:
    Path("roles.toml").write_text(ROLES.replace('"db/**"', '"**"'))
    assert cli("policy", "apply", "roles.toml", "--yes").code == 0
    assert cli("scope", "create", "payments", "--read", "role:web").code == 0
    cli("secret", "put", "payments/key", stdin=CANARY)
    refused = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--json")
    assert (refused.code, refused.error) == (7, "scope-sealed")
    assert not Path("web.sealed").exists()
    done = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--partial", "--json")
    assert done.code == 0, done.err
    assert (done.json["secrets"], done.json["scopes"]) == (["db/main", "other/x"], [])
    assert done.json["left_out"] == ["payments/"]
    assert "what the role reads in the sealed scope `payments/` is left out" in done.err
    assert cli("secret", "list", "--vault", "web.sealed", *READING).text == "db/main\nother/x\n"
    member = ("--key", "identity:web.identity", "--json")
    refused = cli("vault", "publish", "--for", "web", "-o", "x", *member)
    assert (refused.code, refused.error) == (5, "denied")
    old = cli("identity", "create", "svc:web", "--out", "new.identity", "--public", "new.pub")
    assert old.code == 0
    replaced = cli("role", "add", "web", "--member", "svc:web", "--identity", "new.pub", "--replace")
    assert "stays readable with it" in replaced.err
