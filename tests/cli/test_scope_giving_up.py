"""`securecfg scope abandon`: giving up what was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.vault import Vault
from securecfg.vault.scope_making import begin_making
from tests.cli.test_scope import people

if TYPE_CHECKING:
    from tests.cli.running import Cli

__all__ = ["people"]


def begin(path: str) -> None:
    """Begin to make a scope, as a process does that dies then."""
    with Vault.open() as vault:
        begin_making(vault.authority, path, {}, bytes(16))


@pytest.fixture
def begun(people: Cli) -> Cli:
    """A scope that `role:pay` takes part in, and one whose making was interrupted."""
    assert people("scope", "create", "web", "--read", "role:pay").code == 0
    begin("payments/")
    return people


def test_a_making_that_was_interrupted_is_shown_and_given_up(begun: Cli) -> None:
    refused = begun("role", "rotate", "pay")
    assert refused.code == 6
    assert "`securecfg scope abandon payments/`" in refused.err
    (shown,) = begun("scope", "list", "--json").json["making"]
    assert shown.pop("begun").endswith("Z")
    assert 0 <= shown.pop("age_s") < 60
    assert shown == {"path": "payments/", "is_in_the_way": True}
    assert "being made, begun less than a minute ago" in begun("scope", "list").text
    checks = begun("doctor", "--json").json["checks"]
    (check,) = (each for each in checks if each["name"] == "scopes")
    assert (check["grade"], check["message"]) == ("note", "`payments/` is being made, begun less than a minute ago")
    assert "`securecfg scope abandon payments/`" in check["hint"]
    given_up = begun("scope", "abandon", "payments", "--yes", "--reason", "lost power")
    assert (given_up.code, given_up.text) == (0, "given up  the making of payments/, begun less than a minute ago\n")
    assert begun("scope", "list", "--json").json["making"] == []
    assert begun("role", "rotate", "pay").code == 0
    assert "lost power" in begun("audit", "show", "--json").text


def test_nothing_is_given_up_without_a_word(begun: Cli) -> None:
    refused = begun("scope", "abandon", "payments", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    dry = begun("scope", "abandon", "payments", "--dry-run", "--json").json
    assert (dry["path"], dry["is_done"]) == ("payments/", False)
    assert len(begun("scope", "list", "--json").json["making"]) == 1
    done = begun("scope", "abandon", "payments", "--yes", "--json").json
    assert (done["path"], done["is_done"]) == ("payments/", True)


@pytest.mark.parametrize(("path", "code", "error"), [("web", 3, "secret-not-found"), ("../x", 2, "invalid-path")])
def test_what_is_not_being_made_is_not_given_up(begun: Cli, path: str, code: int, error: str) -> None:
    refused = begun("scope", "abandon", path, "--yes", "--json")
    assert (refused.code, refused.error) == (code, error)
    assert len(begun("scope", "list", "--json").json["making"]) == 1


def test_a_vault_without_scopes_has_nothing_to_say_of_them(people: Cli) -> None:
    checks = people("doctor", "--json").json["checks"]
    assert [each for each in checks if each["name"] == "scopes"] == []
