"""`securecfg sync`, `migrate`, `vault pull` and `vault push`, as a user meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.backends import open_backend, uri
from securecfg.mounts import Mount, Mounts
from securecfg.testing.memory_backend import ALL
from securecfg.vault import Vault
from tests.cli.running import CANARY
from tests.mounts.memory import CAPABILITIES, STORES

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.backends import OpenBackend
    from tests.cli.running import Cli

GRANTS = """
[roles.leaver]
members = ["svc:leaver"]
[[roles.leaver.grants]]
actions = ["list", "read"]
paths = ["**"]
[[roles.leaver.grants]]
actions = ["export"]
paths = ["app/a"]
"""


@pytest.fixture
def stores(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in whose vault two stores are mounted."""
    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")
    STORES.clear()
    CAPABILITIES.clear()
    with Vault.open() as vault:
        for name in ("one", "two"):
            Mounts(vault.authority).add(Mount(f"{name}/", (f"memory:{name}",)))
    return project


def store(name: str) -> OpenBackend:
    return open_backend(f"memory:{name}")


def put(cli: Cli, path: str, value: str = CANARY) -> None:
    assert cli("secret", "put", path, stdin=value).code == 0


@pytest.mark.usefixtures("stores")
def test_a_plan_says_what_a_run_does_and_no_value_is_shown(cli: Cli) -> None:
    put(cli, "one/a")
    put(cli, "one/b", "2")
    put(cli, "two/b", "3")
    put(cli, "two/c", "4")
    planned = cli("sync", "plan", "one/", "two/")
    assert (planned.code, planned.err) == (0, "")
    lines = [line.split() for line in planned.text.splitlines()]
    assert lines[:3] == [["new", "->", "a"], ["changed", "->", "b"], ["only-there", "c"]]
    found = cli("sync", "plan", "one/", "two/", "--json").json
    assert found["counts"] == {"new": 1, "changed": 1, "only-there": 1}
    assert [secret["line"] for secret in found["secrets"]] == ["new", "changed", "only-there"]
    assert found["plan"] in planned.text
    refused = cli("sync", "run", "one/", "two/", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    done = cli("sync", "run", "one/", "two/", "--plan", found["plan"], "--json")
    assert (done.code, done.json["done"]) == (0, ["a", "b"])
    assert cli("sync", "plan", "one/", "two/", "--json").json["counts"] == {"same": 2, "only-there": 1}
    assert cli("sync", "run", "one/", "two/", "--plan", found["plan"]).code == 6
    shown = cli("sync", "status", "--json").json["runs"]
    assert [(run["from"], run["to"], run["alike"]) for run in shown] == [("one/", "two/", 2)]
    assert "one/" in cli("sync", "status").text


@pytest.mark.usefixtures("stores")
def test_a_conflict_is_left_alone_and_is_the_exit_code(cli: Cli) -> None:
    put(cli, "one/a", "1")
    assert cli("sync", "run", "one/", "two/", "--both").code == 0
    put(cli, "one/a", "here")
    put(cli, "two/a", "there")
    assert cli("sync", "plan", "one/", "two/", "--both").code == 6
    run = cli("sync", "run", "one/", "two/", "--both", "--yes")
    assert (run.code, "conflict" in run.text) == (6, True)
    assert store("two").read("a").value.reveal() == "there"  # type: ignore[union-attr]  # a text
    assert cli("sync", "run", "one/", "two/", "--both", "--prefer", "from", "--yes").code == 0
    assert store("two").read("a").value.reveal() == "here"  # type: ignore[union-attr]  # a text


@pytest.mark.usefixtures("stores")
def test_what_the_other_side_cannot_hold_is_said_with_its_reason(cli: Cli) -> None:
    put(cli, "one/a", "1234")
    CAPABILITIES["two"] = ALL._replace(value_bytes_max=3)
    found = cli("sync", "plan", "one/", "two/")
    assert found.code == 6
    assert "the other side takes values of at most 3 bytes" in found.text


@pytest.mark.usefixtures("stores")
def test_nothing_was_synchronised_yet(cli: Cli) -> None:
    assert cli("sync", "status").text == "nothing was synchronised yet\n"
    assert cli("sync", "plan", "one/", "one/").code == 6
    assert cli("sync", "plan", "one", "two/").code == 2


@pytest.mark.usefixtures("stores")
def test_a_mount_comes_home(cli: Cli) -> None:
    put(cli, "one/a")
    put(cli, "one/b", "1")
    put(cli, "one/b", "2")
    would = cli("migrate", "one/", "--versions", "all", "--dry-run")
    assert (would.code, would.text) == (
        0,
        "would take home  2 secrets with 3 versions, 0 left behind, 0 in the way\n",
    )
    assert cli("migrate", "one/", "--no-input").code == 2
    done = cli("migrate", "one/", "--versions", "all", "--yes")
    assert (done.code, done.text) == (0, "home  2 secrets below one/, 2 read back and compared\n")
    STORES.clear()
    assert cli("secret", "get", "one/a", "--reveal", reveals=True).text == CANARY
    assert cli("secret", "get", "one/b", "--at", "1", "--reveal", reveals=True).text == "1"
    assert cli("migrate", "one/", "--yes").code == 3


@pytest.mark.usefixtures("stores")
def test_a_mount_goes_to_another_store(cli: Cli) -> None:
    put(cli, "one/a")
    put(cli, "one/b", "1")
    put(cli, "one/b", "2")
    would = cli("migrate", "one/", "--to", "memory:new", "--versions", "all", "--dry-run", "--json")
    assert (would.code, would.json["earlier_version_count"], STORES["new"].secrets) == (0, 1, {})
    assert cli("migrate", "one/", "--to", "memory:new", "--versions", "all", "--yes").code == 0
    assert len(store("new").versions("b")) == 2
    STORES["one"].secrets.clear()
    assert cli("secret", "get", "one/a", "--reveal", reveals=True).text == CANARY


@pytest.mark.usefixtures("stores")
def test_nothing_is_written_over_in_another_store(cli: Cli) -> None:
    put(cli, "one/a", "1")
    store("new").write("a", "theirs")
    refused = cli("migrate", "one/", "--to", "memory:new", "--yes")
    assert (refused.code, "conflict" in refused.text) == (6, True)
    assert store("new").read("a").value.reveal() == "theirs"  # type: ignore[union-attr]  # a text


@pytest.mark.usefixtures("stores")
def test_a_store_is_pulled_in_and_nothing_is_written_over_unless_asked(cli: Cli) -> None:
    store("far").write("a", CANARY, metadata={"owner": "pay"})
    store("far").write("b", "theirs")
    put(cli, "in/b", "ours")
    planned = cli("vault", "pull", "memory:far", "in/", "--dry-run")
    assert planned.code == 6
    assert "new ->" in planned.text
    assert cli("secret", "list", "in/").text == "in/b\n"
    pulled = cli("vault", "pull", "memory:far", "in/", "--json")
    assert (pulled.code, pulled.json["done"]) == (6, ["a"])
    assert cli("secret", "get", "in/b", "--reveal", reveals=True).text == "ours"
    assert cli("vault", "pull", "memory:far", "in/", "--replace", "--yes").code == 0
    assert cli("secret", "get", "in/b", "--reveal", reveals=True).text == "theirs"
    assert cli("vault", "pull", "memory:far", "in/").code == 0
    assert "memory far" in cli("audit", "show", "--action", "sync.finished", "--json").text
    assert cli("audit", "verify").code == 0


def test_a_folder_is_pushed_out_by_who_may_export(stores: Path, cli: Cli) -> None:
    (stores / "grants.toml").write_text(GRANTS, "utf-8")
    put(cli, "app/a")
    put(cli, "app/b", "2")
    applied = cli("policy", "apply", "grants.toml", "--yes")
    assert applied.code == 0, applied.err
    assert cli("vault", "push", "app/", "memory:far", "--no-input").code == 2
    assert STORES["far"].secrets == {}
    pushed = cli("vault", "push", "app/", "memory:far", "--yes", "--as", "svc:leaver", "--json")
    assert (pushed.code, pushed.json["done"]) == (6, ["a"])
    assert list(STORES["far"].secrets) == ["a"]
    assert cli("vault", "push", "app/", "memory:far", "--yes", "--json").json["done"] == ["b"]
    assert cli("vault", "push", "app/", "nowhere:far", "--yes").code == 2
