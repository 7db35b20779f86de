"""Stores of others under folders of a vault, as the command line mounts, shows and reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.backends import Deletion, OpenBackend, State, uri
from securecfg.errors import BackendDenied, BackendUnavailable, InvalidBackendUri
from securecfg.mounts import Mount
from securecfg.mounts.table import draft_mounts, read_mounts
from securecfg.patience import Patience
from securecfg.testing.memory_backend import ALL, MemoryBackend, MemoryStore
from securecfg.vault import Vault
from securecfg.vault.drafts import Drafts
from tests.backends.test_handle import UNAVAILABLE, raising
from tests.cli.running import CANARY, Cli, Terminal
from tests.mounts.memory import CAPABILITIES, STORES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.policy import Decision
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.session import Session


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scheme `memory:`, and nobody who waits long."""
    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")
    for module in ("source", "table"):
        monkeypatch.setattr(f"securecfg.mounts.{module}.PATIENCE", Patience(5.0, (0.01,)))
    STORES.clear()
    CAPABILITIES.clear()
    yield
    STORES.clear()
    CAPABILITIES.clear()


@pytest.fixture
def mounted(project: Path, cli: Cli) -> Path:
    """A project with a store of one secret in one version at `corp/`."""
    outcome = cli("vault", "mount", "corp/", "memory:one")
    assert outcome.code == 0, outcome.err
    assert cli("secret", "put", "corp/db", stdin=CANARY).code == 0
    return project


def store(name: str = "one") -> MemoryStore:
    return STORES.setdefault(name, MemoryStore())


def version_of(cli: Cli, path: str = "corp/db") -> str:
    return str(cli("secret", "get", path, "--json").json["version"])


def shown_mount(cli: Cli, *arguments: str) -> dict[str, Any]:
    [one] = cli("vault", "mounts", "--json", *arguments).json["mounts"]
    assert isinstance(one, dict)
    return one


# --- mount ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["corp/"], 2, "usage"),
        (["corp", "memory:one"], 2, "invalid-path"),
        (["/corp/", "memory:one"], 2, "invalid-path"),
        (["corp/", "nowhere:x"], 2, "invalid-backend-uri"),
        (["corp/", "memory:one", "--max-age", "5"], 2, "usage"),
        (["corp/", "memory:one", "--calls-per-s", "-1"], 2, "usage"),
        (["corp/", "memory:one", "--keep", "1s"], 2, "invalid-metadata"),
        (["corp/", "memory:one", "--replace"], 3, "secret-not-found"),
        (["corp/", *[f"memory:{number}" for number in range(9)]], 2, "invalid-metadata"),
        (["db/", "memory:one"], 6, "conflict"),
    ],
)
def test_refuses_what_is_no_mount(stored: Path, cli: Cli, arguments: list[str], code: int, error: str) -> None:
    outcome = cli("vault", "mount", *arguments, "--json")
    assert (outcome.code, outcome.error) == (code, error)
    assert cli("vault", "mounts", "--json").json == {"mounts": []}


def test_a_uri_that_may_hold_a_token_is_not_repeated(project: Path, cli: Cli) -> None:
    assert cli("vault", "mount", "corp/", f"token {CANARY}", "--json").error == "invalid-backend-uri"
    assert cli("vault", "mount", "corp/", f"vault:secret?token={CANARY}", "--json").error == "invalid-backend-uri"


def test_refuses_a_second_mount_at_one_place(mounted: Path, cli: Cli) -> None:
    for folder in ("corp/", "corp/deeper/"):
        outcome = cli("vault", "mount", folder, "memory:two", "--json")
        assert (outcome.code, outcome.error) == (6, "already-exists")


@pytest.mark.parametrize("command", [["mount", "corp/", "memory:one"], ["mounts"], ["unmount", "corp/"]])
def test_who_may_not_mount_sees_and_changes_nothing(mounted: Path, cli: Cli, command: list[str]) -> None:
    outcome = cli("vault", *command, "--as", "user:eve", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")
    assert "memory" not in outcome.text


def test_mounting_says_how_many_secrets_the_store_has(project: Path, cli: Cli) -> None:
    cli("vault", "mount", "first/", "memory:one", "--no-check")
    cli("secret", "put", "first/a", stdin="x")
    outcome = cli("vault", "mount", "corp/", "memory:one", "memory:two")
    assert outcome.text.startswith("mounted  corp/   from  memory:one, memory:two\nanswers  memory:one   1 secret, in ")
    assert "answers  memory:two   0 secrets, in " in outcome.text


def test_a_mount_whose_store_does_not_answer_is_there_all_the_same(project: Path, cli: Cli) -> None:
    store().fail(raising(BackendUnavailable("the store is away", hint="wait")))
    outcome = cli("vault", "mount", "corp/", "memory:one")
    assert (outcome.code, outcome.err) == (
        0,
        "warning: `memory:one` did not list its secrets: the store is away (wait)\n",
    )
    assert shown_mount(cli)["folder"] == "corp/"
    store().fail(raising(BackendDenied("the store refuses")))
    [check] = cli("vault", "mount", "corp/", "--replace", "--json").json["checks"]
    assert (check["is_answered"], check["secret_count"], check["error"]["code"]) == (False, None, "backend-denied")


@pytest.mark.parametrize("flag", ["--no-check", "--offline"])
def test_the_store_is_not_asked_where_it_is_not_wanted(project: Path, cli: Cli, flag: str) -> None:
    assert cli("vault", "mount", "corp/", "memory:one", flag, "--json").json["checks"] == []
    assert store().asked == 0


def test_rules_that_are_not_given_stay_when_a_mount_is_replaced(project: Path, cli: Cli) -> None:
    given = ("--max-age", "5m", "--refresh", "0s", "--keep", "7d", "--missing", "1s")
    calls = ("--calls-per-s", "7", "--calls-per-day", "0", "--watch")
    assert cli("vault", "mount", "corp/", "memory:one", *given, *calls).code == 0
    changed = cli("vault", "mount", "corp/", "--replace", "--offline", "--calls-per-day", "500", "--json").json
    assert changed["backends"] == ["memory:one"]
    assert changed["rules"] == {
        "max_age_s": 300,
        "refresh_s": 0,
        "keep_s": 604_800,
        "missing_s": 1,
        "calls_per_s": 7,
        "calls_per_day": 500,
        "is_offline": True,
        "is_watched": True,
    }
    again = cli("vault", "mount", "corp/", "memory:two", "memory:one", "--replace", "--online", "--no-watch").text
    assert again.startswith("mounted  corp/   from  memory:two, memory:one")
    assert shown_mount(cli)["rules"] == {
        "max_age_s": 300,
        "refresh_s": 0,
        "keep_s": 604_800,
        "missing_s": 1,
        "calls_per_s": 7,
        "calls_per_day": 500,
    }
    assert "max-age=5m refresh=0s keep=7d missing=1s" in cli("vault", "mounts").text


def test_credentials_are_sealed_and_shown_by_nothing(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    uri_of = "vault:secret/team?address=https://vault.internal:8200"
    mount = ("vault", "mount", "corp/", uri_of, "--no-check")
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    assert cli(*mount, "--credential", "VAULT_TOKEN", "--json", stdin="").error == "usage"
    assert cli(*mount, "--credential", "VAULT_TOKEN", "--credentials", "--json", stdin="{}").error == "usage"
    assert cli(*mount, "--credential", "NOBODY_KNOWS", "--json", stdin=CANARY).error == "invalid-metadata"
    assert cli(*mount, "--credential", "VAULT_TOKEN", "--json", stdin=b"\xff").error == "usage"
    denied = cli(*mount, "--credential", "VAULT_TOKEN", "--as", "user:eve", "--json", stdin=CANARY)
    assert denied.error == "denied"
    made = cli(*mount, "--credential", "VAULT_TOKEN", "--json", stdin=f"{CANARY}\n").json
    assert made["credentials"] == ["VAULT_TOKEN"]
    assert "VAULT_TOKEN=***" in cli("vault", "mounts").text
    assert shown_mount(cli)["credentials"] == ["VAULT_TOKEN"]
    assert token_of() == CANARY
    again = ("vault", "mount", "corp/", "--replace", "--no-check")
    assert cli(*again, "--max-age", "1s", "--json").json["credentials"] == ["VAULT_TOKEN"]
    assert cli(*again, "--credentials", stdin=json.dumps({"VAULT_TOKEN": "other"})).code == 0
    assert token_of() == "other"
    assert cli(*again, "--no-credentials", "--credential", "VAULT_TOKEN", "--json", stdin="x").error == "usage"
    assert cli(*again, "--no-credentials", "--json").json["credentials"] == []
    assert CANARY not in cli("audit", "show", "--json").text


def token_of() -> str:
    with Vault.open(principal="user:ana") as vault:
        return read_mounts(vault.opened)[0].credentials["VAULT_TOKEN"].reveal()


# --- mounts and unmount -----------------------------------------------------------------------------------------------


def test_what_is_mounted_is_shown(mounted: Path, cli: Cli) -> None:
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).text == CANARY
    heading, line = cli("vault", "mounts").text.splitlines()
    assert heading.split() == ["FOLDER", "BACKEND", "RULES", "COPIES", "CALLS", "CAN"]
    assert line.startswith("corp/   memory:one")
    assert "1, 0 s old" in line or "1, 1 s old" in line
    assert line.endswith(
        "bytes fields text, writes, creates, compares, versions, labels, metadata, watches, deletes (soft), "
        "reads 10 at once"
    )
    one = shown_mount(cli)
    assert (one["folder"], one["rules"], one["hidden_count"]) == ("corp/", {}, 0)
    [backend] = one["backends"]
    assert (backend["uri"], backend["store"]) == ("memory:one", "memory one")
    assert backend["capabilities"]["kinds"] == ["bytes", "fields", "text"]
    assert backend["capabilities"]["deletes"] == "soft"
    assert "check" not in backend


def test_only_what_was_asked_for_is_asked_of_a_store(mounted: Path, cli: Cli) -> None:
    before = store().asked
    assert cli("vault", "mounts").code == 0
    assert store().asked == before
    assert "1 secret, in " in cli("vault", "mounts", "--check").text
    assert store().asked == before + 1


def test_each_backend_says_whether_it_answers(mounted: Path, cli: Cli) -> None:
    cli("vault", "mount", "corp/", "memory:one", "memory:two", "--replace")
    store().fail(UNAVAILABLE)
    one = shown_mount(cli, "--check")
    first, second = one["backends"]
    assert (first["check"]["is_answered"], first["check"]["error"]["code"]) == (False, "backend-unavailable")
    assert (second["check"]["is_answered"], second["check"]["secret_count"]) == (True, 0)
    assert "backend-unavailable, in " in cli("vault", "mounts", "--check").text


def test_a_backend_that_is_not_installed_any_more_hides_no_other_secret(
    mounted: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("secret", "put", "own", stdin="mine").code == 0
    monkeypatch.delitem(uri.BUILT_IN, "memory")
    assert cli("secret", "get", "own", "--reveal").text == "mine"
    assert cli("secret", "get", "corp/db", "--reveal", "--json").error == InvalidBackendUri.code
    assert "no backend has the scheme" in cli("vault", "mounts").text
    [backend] = shown_mount(cli)["backends"]
    assert (backend["store"], backend["error"]["code"]) == (None, InvalidBackendUri.code)
    assert cli("vault", "unmount", "corp/").code == 0


def test_a_secret_of_the_vault_below_a_mount_is_told(project: Path, cli: Cli) -> None:
    assert cli("secret", "put", "corp/hidden", stdin=CANARY).code == 0
    with Vault.open(principal="user:ana") as vault:
        opened = vault.opened

        def planner(publication: Publication, session: Session, _decision: Decision) -> Plan:
            made = Mount("corp/", ("memory:one",), id=b"i" * 16, key=b"k" * 32)
            plan = draft_mounts(opened, Drafts(opened, publication), [*read_mounts(opened), made], session)
            plan.records = [session.record(Event.MOUNT_ADDED, {"path": "corp/", "store": "memory:one"})]
            return plan

        vault.authority.publish_allowed("mount.manage", planner)
    outcome = cli("vault", "mounts")
    assert "nobody sees 1 secret of the vault itself below `corp/`, such as `corp/hidden`" in outcome.err
    assert shown_mount(cli)["hidden"] == ["corp/hidden"]
    assert "corp/hidden" in cli("doctor").text
    cli("vault", "unmount", "corp/")
    assert cli("secret", "get", "corp/hidden", "--reveal", reveals=True).text == CANARY


def test_a_table_of_mounts_fits_the_terminal(project: Path, cli: Cli) -> None:
    cli("vault", "mount", "corp/", "vault:secret/team?address=https://vault.internal:8200", "--no-check")
    terminal = Terminal("vault", "mounts", columns=80)
    assert terminal.end() == 0
    assert "corp/" in terminal.shown
    assert max(map(len, terminal.shown.splitlines())) <= 80


def test_unmounting_leaves_the_store_and_erases_the_copies(mounted: Path, cli: Cli) -> None:
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).code == 0
    assert list(mounted.glob("**/*.mounts/*/*")) != []
    outcome = cli("vault", "unmount", "corp/")
    assert (outcome.code, outcome.text) == (0, "unmounted  corp/   what memory:one holds stays there\n")
    assert list(mounted.glob("**/*.mounts/*")) == []
    assert list(store().secrets) == ["db"]
    assert cli("secret", "list").text == ""
    assert cli("vault", "unmount", "corp/", "--json").error == "secret-not-found"


def test_other_rules_keep_the_copies_and_other_backends_erase_them(mounted: Path, cli: Cli) -> None:
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).code == 0
    assert cli("vault", "mount", "corp/", "--replace", "--offline").code == 0
    asked = store().asked
    shown = cli("secret", "get", "corp/db", "--json").json
    assert shown["served"] == "last-good"
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).text == CANARY
    refused = cli("secret", "put", "corp/db", "--json", stdin="x")
    assert (refused.code, refused.error) == (9, "backend-unavailable")
    assert "`securecfg vault mount corp/ --replace --online`" in refused.json["error"]["hint"]
    assert store().asked == asked
    assert list(mounted.glob("**/*.mounts/*/*")) != []
    assert cli("vault", "mount", "corp/", "memory:one", "memory:two", "--replace").code == 0
    assert list(mounted.glob("**/*.mounts/*")) == []
    assert cli("secret", "get", "corp/db", "--reveal", "--json").error == "backend-unavailable"


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_what_is_mounted_is_read_and_listed_as_any_secret(mounted: Path, cli: Cli) -> None:
    assert cli("secret", "put", "own", stdin="x").code == 0
    assert cli("secret", "list").text == "corp/db\nown\n"
    assert cli("secret", "list", "--depth", "1").text == "corp/\nown\n"
    assert cli("secret", "search", "CORP").text == "corp/db\n"
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).text == CANARY
    assert cli("secret", "get", "corp/none", "--json").error == "secret-not-found"
    assert cli("secret", "get", "corp/none", "--reveal", "--json").error == "secret-not-found"


def test_get_says_of_a_mounted_secret_what_is_known_and_no_more(mounted: Path, cli: Cli) -> None:
    cli("secret", "put", "corp/db", "--meta", "owner=web", stdin=CANARY)
    version = version_of(cli)
    lines = cli("secret", "get", "corp/db").text.splitlines()
    assert [line.split()[0] for line in lines] == ["path", "version", "value", "state", "created", "store", "metadata"]
    assert lines[1] == f"version   {version}"
    assert lines[2] == "value     ***"
    assert " by" not in lines[4]
    assert lines[5].startswith("store     memory one")
    shown = cli("secret", "get", "corp/db", "--json").json
    assert (shown["size_bytes"], shown["author"], shown["metadata"]) == (None, "", {"owner": "web"})
    assert (shown["store"], shown["served"]) == ("memory one", "cache")
    assert shown["fetched"].endswith("Z")


def test_get_without_reveal_needs_the_right_to_list_and_records_nothing(mounted: Path, cli: Cli) -> None:
    before = cli("vault", "open", "--json").json["record_count"]
    assert cli("secret", "get", "corp/db").code == 0
    assert cli("vault", "open", "--json").json["record_count"] == before
    asked = store().asked
    for path in ("corp/db", "corp/none"):
        assert cli("secret", "get", path, "--as", "user:eve", "--json").error == "denied"
    assert store().asked == asked


def test_how_old_a_value_is_while_the_store_is_down_is_told(mounted: Path, cli: Cli) -> None:
    cli("vault", "mount", "corp/", "--replace", "--max-age", "0s", "--refresh", "0s")
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).code == 0
    store().fail(UNAVAILABLE)
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).text == CANARY
    shown = cli("secret", "get", "corp/db").text
    assert "store     memory one  (last-good, " in shown
    outcome = cli("secret", "get", "corp/other", "--reveal", "--json")
    assert (outcome.code, outcome.error) == (9, "backend-unavailable")


# --- prefetch ---------------------------------------------------------------------------------------------------------


def test_refuses_to_fetch_ahead_what_is_no_path(mounted: Path, cli: Cli) -> None:
    asked = store().asked
    outcome = cli("vault", "prefetch", "corp/db", "/", "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-path")
    assert store().asked == asked


def test_what_was_fetched_ahead_is_there_while_the_store_is_down(project: Path, cli: Cli) -> None:
    for folder in ("corp", "two"):
        assert cli("vault", "mount", f"{folder}/", f"memory:{folder}").code == 0
        backend = OpenBackend(MemoryBackend(store(folder)))
        for number in range(100):
            backend.write(f"{number:02}", CANARY)
    before = store("corp").asked
    assert cli("vault", "prefetch", "corp/", "corp/none").text == "known  100 secrets\n"
    assert store("corp").asked - before == 12  # ten of ten each, one of the one that is not there, and the listing
    assert cli("vault", "prefetch", "--json").json == {"known_count": 200}
    assert cli("audit", "show", "--action", "mount.read", "--json").json["records"] == []
    for folder in ("corp", "two"):
        store(folder).fail(UNAVAILABLE)
        assert cli("secret", "get", f"{folder}/42", "--reveal", reveals=True).text == CANARY
    assert len(cli("audit", "show", "--action", "mount.read", "--json").json["records"]) == 2


def test_a_mount_that_keeps_no_copies_has_nothing_fetched_ahead(mounted: Path, cli: Cli) -> None:
    assert cli("vault", "mount", "corp/", "--replace", "--keep", "0s").code == 0
    asked = store().asked
    assert cli("vault", "prefetch", "corp/db", "--json").json == {"known_count": 0}
    assert store().asked == asked


def test_who_may_not_read_fetches_nothing_ahead(mounted: Path, cli: Cli) -> None:
    asked = store().asked
    for path in ("corp/db", "corp/none"):
        outcome = cli("vault", "prefetch", path, "--as", "user:eve", "--json")
        assert (outcome.code, outcome.json) == (0, {"known_count": 0})
    assert store().asked == asked
    assert cli("vault", "prefetch", "corp/", "--as", "user:eve").text == "known  0 secrets\n"


def test_a_store_that_gives_no_answer_ahead_is_told(mounted: Path, cli: Cli) -> None:
    store().fail(UNAVAILABLE)
    outcome = cli("vault", "prefetch", "corp/db", "--json")
    assert (outcome.code, outcome.error) == (9, "backend-unavailable")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_named_as_the_store_names_them(mounted: Path, cli: Cli) -> None:
    first = version_of(cli)
    second = cli("secret", "put", "corp/db", "--expect", first, "--json", stdin="two").json["version"]
    stale = cli("secret", "put", "corp/db", "--expect", first, "--json", stdin="three")
    assert (stale.code, stale.error) == (6, "stale-write")
    assert cli("secret", "put", "corp/db", "--expect", "0", "--json", stdin="x").error == "already-exists"
    assert cli("secret", "get", "corp/db", "--at", first, "--reveal", reveals=True).text == CANARY
    assert cli("secret", "get", "corp/db", "--at", first, "--json").json["version"] == first
    assert cli("secret", "get", "corp/db", "--at", "2999-01-01", "--json").json["version"] == second
    assert cli("secret", "get", "corp/db", "--at", "2000-01-01", "--json").error == "version-not-found"
    versions = cli("secret", "history", "corp/db", "--json").json["versions"]
    assert [(one["version"], one["size_bytes"], one["store"]) for one in versions] == [
        (second, None, "memory one"),
        (first, None, "memory one"),
    ]
    rolled = cli("secret", "rollback", "corp/db", "--to", first, "--json").json
    assert (rolled["from"], cli("secret", "get", "corp/db", "--reveal", reveals=True).text) == (first, CANARY)
    assert cli("secret", "diff", "corp/db", first, second).code == 0


def test_labels_of_a_store_come_and_go(mounted: Path, cli: Cli) -> None:
    version = version_of(cli)
    assert cli("secret", "label", "corp/db", "stable", version).text == f"labelled  corp/db@{version} stable\n"
    assert cli("secret", "get", "corp/db", "--at", "stable", "--json").json["version"] == version
    assert cli("secret", "get", "corp/db", "--at", "stable", "--reveal", reveals=True).text == CANARY
    assert cli("secret", "label", "corp/db", "stable", "--remove").code == 0
    assert cli("secret", "get", "corp/db", "--at", "stable", "--json").error == "version-not-found"
    assert cli("secret", "label", "corp/db", "stable", "nothing", "--json").error == "version-not-found"


def test_what_is_deleted_comes_back_by_any_of_its_versions(mounted: Path, cli: Cli) -> None:
    version = version_of(cli)
    refused = cli("secret", "delete", "corp/db", "--version", version, "--json")
    assert (refused.code, refused.error) == (10, "unsupported")
    assert cli("secret", "delete", "corp/db").code == 0
    assert cli("secret", "get", "corp/db", "--json").error == "secret-not-found"
    assert cli("secret", "undelete", "corp/db", version).text == f"undeleted  corp/db@{version}\n"
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).text == CANARY
    assert cli("secret", "destroy", "corp/db", version, "--yes", "--json").error == "unsupported"


@pytest.mark.parametrize(
    ("versions", "wanted"), [([f"{number:03}" for number in range(3)], "001"), (["7", "20260131"], "7")]
)
def test_digits_name_a_version_as_they_are_written(mounted: Path, cli: Cli, versions: list[str], wanted: str) -> None:
    held = store().secrets["db"]
    [(old, content)] = held.contents.items()
    held.contents = dict.fromkeys(versions, content)
    held.created = dict.fromkeys(versions, held.created[old])
    held.states = dict.fromkeys(versions, held.states[old])
    assert cli("secret", "get", "corp/db", "--at", wanted, "--json").json["version"] == wanted
    assert cli("secret", "get", "corp/db", "--at", wanted, "--reveal", "--json", reveals=True).json["version"] == wanted
    assert cli("secret", "label", "corp/db", "stable", wanted).code == 0
    stale = cli("secret", "put", "corp/db", "--expect", wanted, "--json", stdin="x")
    assert stale.error == "stale-write"
    assert cli("secret", "put", "corp/db", "--expect", versions[-1], stdin="x").code == 0


@pytest.mark.parametrize("version", ["0", "", "a\x1bb", "-1x"])
def test_what_names_no_version_is_refused_and_not_repeated(mounted: Path, cli: Cli, version: str) -> None:
    for verb in ("undelete", "destroy"):
        outcome = cli("secret", verb, "db/main", version, "--yes", "--json")
        assert (outcome.code, outcome.error) == (2, "usage")
        assert "\x1b" not in outcome.text


def test_the_vaults_own_versions_have_numbers_only(stored: Path, cli: Cli) -> None:
    for command in (["undelete", "db/main"], ["destroy", "db/main"], ["label", "db/main", "stable"]):
        outcome = cli("secret", *command, CANARY, "--yes", "--json")
        assert (outcome.code, outcome.error) == (2, "usage")
    assert cli("secret", "put", "db/main", "--expect", "6f1c-x", "--json", stdin="x").error == "usage"


def test_one_field_of_a_mounted_secret_is_written_and_the_others_stay(mounted: Path, cli: Cli) -> None:
    cli("secret", "put", "corp/api", "--fields", stdin=json.dumps({"user": "web", "password": CANARY}))
    first = version_of(cli, "corp/api")
    assert cli("secret", "put", "corp/api", "--field", "user", "--expect", "other", "--json", stdin="x").error == (
        "stale-write"
    )
    assert cli("secret", "put", "corp/api", "--field", "user", "--expect", first, stdin="app").code == 0
    shown = cli("secret", "get", "corp/api", "--reveal", reveals=True).json
    assert shown == {"user": "app", "password": CANARY}
    assert cli("secret", "delete", "corp/api").code == 0
    assert cli("secret", "put", "corp/api", "--field", "user", stdin="new").code == 0
    assert cli("secret", "get", "corp/api", "--reveal").json == {"user": "new"}


def test_a_store_that_compares_nothing_has_no_field_written_alone(mounted: Path, cli: Cli) -> None:
    cli("secret", "put", "corp/api", "--fields", stdin=json.dumps({"user": "web"}))
    CAPABILITIES["one"] = ALL._replace(compares=False)
    outcome = cli("secret", "put", "corp/api", "--field", "user", "--json", stdin="x")
    assert (outcome.code, outcome.error) == (10, "unsupported")
    assert cli("secret", "put", "corp/api", "--field", "user", "--replace", stdin="x").code == 0


def test_a_store_without_versions_shows_the_one_that_there_is(mounted: Path, cli: Cli) -> None:
    CAPABILITIES["one"] = ALL._replace(keeps_versions=False, labels=False, deletes=Deletion.FINAL)
    [one] = cli("secret", "history", "corp/db", "--json").json["versions"]
    assert one["version"] == version_of(cli)
    assert cli("secret", "get", "corp/db", "--at", "x", "--reveal", "--json").error == "unsupported"


def test_a_secret_goes_into_a_mount_and_out_of_it(mounted: Path, cli: Cli) -> None:
    assert cli("secret", "put", "own", stdin=CANARY).code == 0
    assert cli("secret", "move", "own", "corp/own").text == "moved  own -> corp/own\n"
    assert cli("secret", "list").text == "corp/db\ncorp/own\n"
    assert cli("secret", "move", "corp/own", "back").code == 0
    assert cli("secret", "get", "back", "--reveal", reveals=True).text == CANARY


def test_an_export_holds_what_is_mounted(mounted: Path, cli: Cli) -> None:
    outcome = cli("vault", "export", "--format", "json", "--yes", reveals=True)
    [one] = outcome.json["secrets"]
    assert (one["path"], one["value"]) == ("corp/db", CANARY)


# --- the log ----------------------------------------------------------------------------------------------------------


def test_the_log_says_which_store_and_from_when(mounted: Path, cli: Cli) -> None:
    version = version_of(cli)
    cli("vault", "mount", "corp/", "--replace", "--max-age", "0s", "--refresh", "0s")
    cli("secret", "get", "corp/db", "--reveal", reveals=True)
    store().fail(UNAVAILABLE)
    cli("secret", "get", "corp/db", "--reveal", reveals=True)
    cli("secret", "delete", "corp/db")
    lines = cli("audit", "show", "--path", "corp/**").text.splitlines()
    assert [line.split()[3] for line in lines][-4:] == ["read", "read", "delete", "delete"]
    assert f"corp/db@{version} from memory one  " in lines[-4]
    assert f"corp/db@{version} from memory one (last-good, " in lines[-3]
    assert " s old)" in lines[-3]
    assert "corp/db in memory one" in lines[-2]
    assert " begun " in lines[-2]
    assert " unknown " in lines[-1]
    assert lines[-1].endswith("commit-unknown")
    store().fail(raising(BackendDenied("no")))
    cli("secret", "delete", "corp/db")
    assert " failed  by admin  backend-denied" in cli("audit", "show", "--last", "1", "--path", "corp/**").text
    first, *_ = cli("audit", "show", "--action", "read", "--path", "corp/db", "--json").json["records"]
    assert first["object"] == {"path": "corp/db", "version": version, "store": "memory one", "served": "store"}
    assert len(cli("audit", "show", "--action", "mount.read", "--json").json["records"]) == 2
    assert "corp/ store memory:one" in cli("audit", "show", "--action", "mount.added").text


def test_reports_say_it_too(mounted: Path, cli: Cli) -> None:
    cli("vault", "mount", "corp/", "--replace", "--max-age", "0s", "--refresh", "0s")
    cli("secret", "get", "corp/db", "--reveal", reveals=True)
    store().fail(UNAVAILABLE)
    cli("secret", "get", "corp/db", "--reveal", reveals=True)
    version = next(iter(store().secrets["db"].contents))
    assert cli("audit", "report", "--format", "csv", "--output", "report.csv").code == 0
    rows = [line.split(",") for line in (mounted / "report.csv").read_text().splitlines()]
    column = rows[0].index("version")
    assert version in {row[column] for row in rows if row[2] == "mount.read"}
    assert cli("audit", "report", "--format", "html", "--output", "report.html").code == 0
    page = (mounted / "report.html").read_text()
    assert f'corp/db<span class="s">@{version}</span>' in page
    assert "last-good, " in page
    assert "mount changed write" in page


def test_what_a_store_calls_a_version_is_escaped(mounted: Path, cli: Cli) -> None:
    held = store().secrets["db"]
    [(old, content)] = held.contents.items()
    evil = "<script>\u202e\x1b[2J"
    held.contents = {"first": "other", evil: content}
    held.created, held.states = (
        dict.fromkeys(held.contents, held.created[old]),
        dict.fromkeys(held.contents, State.LIVE),
    )
    held.labels = {"stable": evil}
    assert cli("secret", "get", "corp/db", "--reveal", reveals=True).code == 0
    shown = [
        cli("secret", "get", "corp/db"),
        cli("secret", "history", "corp/db"),
        cli("secret", "diff", "corp/db", "first", "stable"),
        cli("audit", "show"),
    ]
    assert [outcome.code for outcome in shown] == [0, 0, 0, 0]
    assert all(b"\x1b" not in outcome.out and "\u202e" not in outcome.text for outcome in shown)
    assert cli("audit", "report", "--format", "html", "--output", "report.html").code == 0
    assert "<script>" not in (mounted / "report.html").read_text().replace('<script type="application/json"', "")


# --- elsewhere --------------------------------------------------------------------------------------------------------


def test_doctor_asks_no_store_and_says_what_is_mounted(mounted: Path, cli: Cli) -> None:
    store().fail(UNAVAILABLE)
    before = store().asked
    checks = {check["name"]: check for check in cli("doctor", "--json").json["checks"]}
    assert store().asked == before
    assert (checks["mounts"]["grade"], checks["mounts"]["message"]) == (
        "ok",
        "1 store is mounted; `securecfg vault mounts --check` asks whether they answer",
    )
    assert checks["expiry"]["grade"] == "ok"


def test_the_status_counts_mounts_and_bundles_have_none(mounted: Path, cli: Cli) -> None:
    assert cli("vault", "status", "--json").json["mount_count"] == 1
    assert "mounts       1: `securecfg vault mounts`" in cli("vault", "status").text
    cli("identity", "create", "svc:web", "--out", "web.identity", "--public", "web.pub")
    assert cli("role", "add", "web", "--member", "svc:web", "--identity", "web.pub").code == 0
    (mounted / "roles.toml").write_text(
        '[roles.web]\n[[roles.web.grants]]\nactions = ["read", "list"]\npaths = ["**"]\n'
    )
    assert cli("policy", "apply", "roles.toml", "--yes").code == 0
    cli("secret", "put", "own", stdin="x")
    published = cli("vault", "publish", "--for", "web", "-o", "web.sealed")
    assert published.code == 0, published.err
    bundle = ("--vault", "web.sealed", "--key", "identity:web.identity", "--audit-sink", "file:reads.sink")
    issuer = ("--issuer", "unverified")
    assert cli("secret", "list", *bundle, *issuer).text == "own\n"
    assert cli("secret", "get", "own", *bundle, *issuer).code == 0
    outcome = cli("vault", "mounts", *bundle, *issuer, "--json")
    assert (outcome.code, outcome.error) == (10, "unsupported")


def test_an_identity_of_a_scope_has_no_mounts(mounted: Path, cli: Cli) -> None:
    cli("identity", "create", "svc:pay", "--out", "pay.identity", "--public", "pay.pub")
    assert cli("role", "add", "pay", "--member", "svc:pay", "--identity", "pay.pub").code == 0
    made = cli("scope", "create", "payments/", "--read", "pay", "--write", "pay", "--yes")
    assert made.code == 0, made.err
    for command in (["mounts"], ["prefetch"], ["mount", "payments/x/", "memory:one"], ["unmount", "corp/"]):
        outcome = cli("vault", *command, "--key", "identity:pay.identity", "--json")
        assert (outcome.code, outcome.error) == (7, "scope-sealed")
    assert cli("vault", "mount", "payments/x/", "memory:one", "--json").error == "conflict"


def test_doctor_names_a_backend_that_is_not_installed(mounted: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(uri.BUILT_IN, "memory")
    checks = {check["name"]: check for check in cli("doctor", "--json").json["checks"]}
    assert checks["mounts"]["grade"] == "problem"
    assert "`corp/`" in checks["mounts"]["message"]


def test_the_right_to_mount_is_explained(project: Path, cli: Cli) -> None:
    assert cli("policy", "explain", "mount.manage").text.startswith("allowed")
    close = cli("policy", "explain", "mount.mange", "--json").json["error"]
    assert "mount.manage" in close["hint"]


def test_the_actions_of_a_policy_are_completed(
    project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("_SECURECFG_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "securecfg policy explain mou")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        cli()
    assert capfdbinary.readouterr().out.decode() == "plain,mount.manage\n"
