"""`securecfg key` with a PKCS#11 token: SoftHSM."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Cli, Terminal
from tests.keys.softhsm import PIN, SoftHsm, make_softhsm

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A SoftHSM for the processes that a test starts."""
    hsm = make_softhsm(tmp_path / "hsm")
    monkeypatch.setenv("SOFTHSM2_CONF", str(hsm.configuration))
    monkeypatch.setenv("TOKEN_PIN", PIN)
    return hsm


def run(*arguments: str) -> tuple[int, str]:
    """Run a command in a process of its own: a module looks at its configuration once in each."""
    terminal = Terminal(*arguments)
    return terminal.end(), terminal.shown


def test_adding_a_key_makes_it_and_testing_it_says_what_it_is(stored: Path, cli: Cli, hsm: SoftHsm) -> None:
    uri = hsm.uri("object=shop")
    code, shown = run("key", "add", uri, "--label", "HSM")
    assert code == 0
    assert shown.splitlines() == ["made   the key, which never leaves its holder", "added  slot 3  pkcs11"]
    code, shown = run("key", "test", uri)
    assert code == 0
    assert "AES-256, cannot be exported" in shown
    code, shown = run("secret", "get", "db/main", "--reveal", "--key", uri)
    assert (code, CANARY in shown) == (0, True)


def test_the_pin_is_asked_for_once_and_not_shown(stored: Path, hsm: SoftHsm) -> None:
    terminal = Terminal("key", "add", hsm.uri("object=shop", pin=""))
    terminal.expect("PIN of the token `canary token`: ")
    terminal.type(PIN)
    assert terminal.end() == 0
    assert PIN not in terminal.shown
    assert "added  slot 3  pkcs11" in terminal.shown


def test_a_wrong_pin_a_missing_token_and_a_missing_module_have_codes_of_their_own(
    stored: Path, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG_PIN", "canary-wrong")
    for uri, code, said in [
        (hsm.uri("object=aes", pin="pin-source=env:WRONG_PIN"), 7, "does not accept the PIN"),
        (hsm.uri("object=aes", token="absent"), 9, "no token `absent` is there"),
        (hsm.uri("object=aes").replace(".so", ".dll"), 10, "there is no PKCS#11 module"),
        (hsm.uri("object=aes", pin="pin-value=4711"), 2, "a PIN does not belong into a key URI"),
    ]:
        found, shown = run("key", "add", uri)
        assert (found, said in shown) == (code, True), shown
        assert "canary-wrong" not in shown
        assert "4711" not in shown


def test_a_token_is_never_asked_about_slots_of_other_kinds(stored: Path, hsm: SoftHsm) -> None:
    code, shown = run("secret", "list", "--key", hsm.uri("object=aes"))
    assert (code, "no unlock slot takes a key of the kind `pkcs11:`" in shown) == (7, True)
    assert os.environ["TOKEN_PIN"] == PIN


def test_settings_name_a_library_of_the_system_and_none_by_its_path(
    tmp_path: Path, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    by_path = hsm.uri("object=aes")
    monkeypatch.setenv("SECURECFG_KEY", by_path)
    code, shown = run("init")
    assert (code, "name the key in SECURECFG_KEY" in shown) == (0, True)
    settings = tmp_path / "shop" / ".securecfg" / "local.toml"
    kept = settings.read_text()
    assert "pkcs11" not in kept
    assert run("vault", "open")[0] == 0
    monkeypatch.delenv("SECURECFG_KEY")
    settings.write_text(f'{kept}key = "{by_path}"\n')
    code, shown = run("vault", "open")
    assert (code, "has no `module-path`" in shown, "`module-name=`" in shown) == (2, True, True)
    settings.write_text(f'{kept}key = "{by_path.replace(f"module-path={hsm.module}", "module-name=softhsm2")}"\n')
    assert run("vault", "open")[0] == 0
