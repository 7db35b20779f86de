"""`securecfg role`: members and their public keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.running import Cli


def make(cli: Cli, name: str = "svc:web", stem: str = "web") -> str:
    outcome = cli("identity", "create", name, "--out", f"{stem}.identity", "--public", f"{stem}.pub", "--json")
    assert outcome.code == 0, outcome.text
    fingerprint: str = outcome.json["fingerprint"]
    return fingerprint


def grouped(fingerprint: str) -> str:
    return "-".join(fingerprint[start : start + 4] for start in range(0, 32, 4))


def test_add_shows_and_keeps_the_fingerprint(project: Path, cli: Cli) -> None:
    fingerprint = make(cli)
    outcome = cli("role", "add", "web", "--member", "svc:web", "--identity", "web.pub")
    assert outcome.code == 0, outcome.err
    assert outcome.text == f"added  svc:web to web\nkey    fingerprint  {grouped(fingerprint)}\n"
    again = cli("role", "add", "web", "--member", "svc:web", "--identity", "web.identity", "--json")
    assert again.json == {"role": "web", "member": "svc:web", "fingerprint": fingerprint}
    assert again.err == ""


def test_list_shows_fingerprints(project: Path, cli: Cli) -> None:
    fingerprint = make(cli)
    cli("role", "add", "web", "--member", "svc:web", "--identity", "web.pub")
    cli("role", "add", "web", "--member", "svc:other")
    members = {role["role"]: role["members"] for role in cli("role", "list", "--json").json["roles"]}
    assert members["web"] == [
        {"principal": "svc:other", "source": "vault", "fingerprint": None},
        {"principal": "svc:web", "source": "vault", "fingerprint": fingerprint},
    ]
    assert grouped(fingerprint) in cli("role", "list").text


def test_another_key_is_refused_unless_it_replaces_the_first(project: Path, cli: Cli) -> None:
    old = make(cli)
    new = make(cli, stem="new")
    cli("role", "add", "web", "--member", "svc:web", "--identity", "web.pub")
    refused = cli("role", "add", "web", "--member", "svc:web", "--identity", "new.pub", "--json")
    assert (refused.code, refused.error) == (6, "conflict")
    assert old in refused.json["error"]["message"]
    replaced = cli("role", "add", "web", "--member", "svc:web", "--identity", "new.pub", "--replace", "--json")
    assert (replaced.code, replaced.json["fingerprint"]) == (0, new)
    assert f"warning: what was sealed to the key {grouped(old)} of svc:web stays readable with it" in replaced.err
    shown = cli("audit", "show").text
    assert f"fingerprint {new}" in shown
    assert f"old_fingerprint {old}" in shown


@pytest.mark.parametrize(
    ("flags", "code", "error"),
    [
        (("--member", "svc:other", "--identity", "web.pub"), 2, "invalid-metadata"),
        (("--member", "svc:web", "--identity", "none.pub"), 3, "file-missing"),
        (("--member", "svc:web", "--identity", "bad.pub"), 7, "key-provider-refused"),
        (("--member", "svc:web", "--replace"), 2, "usage"),
    ],
)
def test_refuses_what_is_no_key_of_the_member(
    project: Path, cli: Cli, flags: tuple[str, ...], code: int, error: str
) -> None:
    make(cli)
    Path("bad.pub").write_text(Path("web.pub").read_text().replace("a", "b", 1))
    outcome = cli("role", "add", "web", *flags, "--json")
    assert (outcome.code, outcome.error) == (code, error)
    assert "web" not in [role["role"] for role in cli("role", "list", "--json").json["roles"]]


def test_the_key_goes_with_the_last_role(project: Path, cli: Cli) -> None:
    make(cli)
    new = make(cli, stem="new")
    cli("role", "add", "web", "--member", "svc:web", "--identity", "web.pub")
    assert cli("role", "remove", "web", "--member", "svc:web").code == 0
    added = cli("role", "add", "web", "--member", "svc:web", "--identity", "new.pub", "--json")
    assert (added.code, added.json["fingerprint"]) == (0, new)
