"""Each exit code, reached as a user reaches it, with its error on the right stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest

from securecfg.cli.program import COMMANDS
from tests.cli.running import CANARY, Cli, call, command

if TYPE_CHECKING:
    from pathlib import Path


def test_0_is_done(project: Path, cli: Cli) -> None:
    assert cli("secret", "list").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["secret", "nonsense"],
        ["secret", "get"],
        ["secret", "get", "a", "b"],
        ["secret", "get", "a", "--nonsense"],
        ["secret", "destroy", "a", "first"],
        ["secret", "destroy", "a", "0"],
        ["secret", "list", "--depth", "-1"],
        ["secret", "put", "a", "--ttl", "soon"],
        ["secret", "put", "a", "--ttl", "0d"],
        ["secret", "rollback", "a"],
        ["key", "remove", "1.5"],
        ["unlock", "--for", "25h"],
        ["unlock", "--status", "--forget"],
        ["secret", "list", "--as", "nobody"],
        ["secret", "list", "--key", CANARY],
        ["secret", "list", "--key", f"passphrase:{CANARY}"],
    ],
)
def test_2_is_usage(stored: Path, cli: Cli, arguments: list[str]) -> None:
    outcome = cli(*arguments, stdin="x")
    assert outcome.code == 2
    assert outcome.out == b""
    assert outcome.err.startswith("error: ")
    as_json = cli(*arguments, "--json", stdin="x")
    assert as_json.code == 2
    assert set(as_json.json["error"]) == {"code", "message", "hint"}
    assert as_json.err == ""


@pytest.mark.parametrize("arguments", [[], ["secret"], ["vault"], ["key"]])
def test_a_noun_alone_shows_its_help_and_is_usage(cli: Cli, arguments: list[str]) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("Usage: securecfg")


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("secrets", "did you mean `secret`?"),
        ("get", "did you mean `securecfg secret get`?"),
        ("list", "did you mean `securecfg secret list`?"),
        ("nonsense", "`securecfg --help` shows how it is used"),
    ],
)
def test_2_is_an_unknown_command_with_the_one_that_is_meant(cli: Cli, command: str, hint: str) -> None:
    outcome = cli(command, "--json")
    assert (outcome.code, outcome.error) == (2, "usage")
    assert outcome.json["error"]["hint"] == hint


def test_2_is_a_missing_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("secret", "list", "--json")
    assert (outcome.code, outcome.error) == (2, "setting-missing")


def test_2_is_a_broken_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    for content in ('vault = "x', "vault = 1", 'secret = "x"'):
        (tmp_path / "securecfg.toml").write_text(content)
        outcome = cli("secret", "list", "--json")
        assert outcome.code == 2
        assert "securecfg.toml" in outcome.json["error"]["message"]


def test_3_is_not_found(stored: Path, cli: Cli) -> None:
    outcome = cli("secret", "get", "db/mian", "--json")
    assert (outcome.code, outcome.error) == (3, "secret-not-found")
    assert outcome.json["error"]["hint"] == "did you mean `db/main`?"
    assert cli("secret", "list", "--vault", "none.vault", "--json").error == "vault-not-found"


def test_4_is_not_authenticated(stored: Path, cli: Cli) -> None:
    cli("key", "generate", "web.key")
    assert cli("key", "add", "file:web.key", "--principal", "svc:web").code == 0
    outcome = cli("secret", "list", "--key", "file:web.key", "--json")
    assert (outcome.code, outcome.error) == (4, "not-authenticated")
    settings = stored / ".securecfg" / "local.toml"
    lines = settings.read_text().splitlines(keepends=True)
    settings.write_text("".join(line for line in lines if not line.startswith("as ")))
    assert cli("secret", "get", "db/main", "--reveal").code == 4


def test_5_is_denied(stored: Path, cli: Cli) -> None:
    outcome = cli("secret", "get", "db/main", "--as", "user:eve", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")


def test_6_is_a_conflict(stored: Path, cli: Cli) -> None:
    assert cli("secret", "put", "db/main", "--expect", "7", stdin="x").code == 6
    assert cli("init").code == 6
    assert cli("key", "remove", "1", "--yes").code == 0
    last = cli("key", "remove", "2", "--yes", "--json", "--key", "recovery:?env=NONE")
    assert last.code == 2


def test_7_is_a_wrong_key(stored: Path, cli: Cli) -> None:
    cli("key", "generate", "other.key")
    outcome = cli("vault", "open", "--key", "file:other.key", "--json")
    assert (outcome.code, outcome.error) == (7, "wrong-key")
    (stored / "other.key").chmod(0o644)
    assert cli("vault", "open", "--key", "file:other.key", "--json").error == "key-provider-refused"


def test_8_is_an_altered_or_older_file(stored: Path, cli: Cli) -> None:
    file = stored / ".securecfg" / "shop.vault"
    before = file.read_bytes()
    cli("secret", "put", "db/main", stdin="x")
    file.write_bytes(before)
    outcome = cli("secret", "list", "--json")
    assert (outcome.code, outcome.error) == (8, "rollback-suspected")
    file.write_bytes(b"SQLite format 3\x00" + bytes(5000))
    assert cli("vault", "status", "--json").code == 8
    file.write_bytes(b"hello")
    assert cli("vault", "open", "--json").error == "not-a-vault"


def test_9_is_unavailable(stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", CANARY)
    assert cli("key", "add", "passphrase:?env=PW").code == 0
    outcome = cli("vault", "open", "--key", "passphrase:?fd=998", "--json")
    assert (outcome.code, outcome.error) == (9, "key-provider-unavailable")


def test_10_is_unsupported(stored: Path, cli: Cli) -> None:
    outcome = cli("key", "add", "pkcs11:object=x?module-path=/absent.so", "--json")
    assert (outcome.code, outcome.error in {"extra-missing", "module-missing"}) == (10, True)
    assert "install" in outcome.json["error"]["hint"]


def test_1_is_a_bug_and_shows_no_text_of_it(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def fail(**_given: object) -> None:
        raise RuntimeError(CANARY)

    import click

    module = types.ModuleType("broken_command")
    module.broken = click.command()(fail)  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "broken_command", module)
    monkeypatch.setitem(COMMANDS, "broken", ("broken_command:broken", "Fails."))
    outcome = cli("broken")
    assert outcome.code == 1
    assert "bug in securecfg: RuntimeError at test_exit_codes.py" in outcome.err
    assert "SECURECFG_DEBUG=1" in outcome.err
    monkeypatch.setenv("SECURECFG_DEBUG", "1")
    assert "test_exit_codes.py" in cli("broken").err


def test_130_is_an_interruption_without_a_word(stored: Path) -> None:
    process = subprocess.Popen(
        command("secret", "put", "a"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    wait_until_it_reads(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert call("secret", "list").text == "db/main\n"


def wait_until_it_reads(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has taken what is in its pipe, which it does after everything else is decided."""
    import array
    import fcntl
    import termios
    import time

    assert process.stdin is not None
    unread = array.array("i", [1])
    end = time.monotonic() + 30
    while unread[0] and time.monotonic() < end:
        fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
        time.sleep(0.01)


def test_141_is_a_closed_pipe_without_a_word(stored: Path) -> None:
    with subprocess.Popen(command("secret", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=30) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_full_device_is_unavailable(stored: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("secret", "get", "db/main", "--reveal"),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 9
    assert b"cannot write to standard output" in done.stderr


def test_python_m_securecfg_is_the_same_program(stored: Path) -> None:
    outcome = call("secret", "list", "--json")
    assert json.loads(outcome.out) == {"secrets": [{"path": "db/main"}]}
    assert call("--version").text.startswith("securecfg ")


def test_flags_go_before_variables_and_variables_before_settings(
    stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURECFG_AS", "user:eve")
    assert cli("secret", "get", "db/main").code == 5
    assert cli("secret", "get", "db/main", "--as", "user:ana").code == 0
    monkeypatch.setenv("SECURECFG_VAULT", os.fspath(stored / "none"))
    assert cli("secret", "list", "--json").error == "vault-not-found"
    monkeypatch.setenv("SECURECFG_VAULT", os.fspath(stored / ".securecfg" / "shop.vault"))
    monkeypatch.setenv("SECURECFG_KEY", "file:/no/such/key")
    assert cli("secret", "list", "--json").error == "file-missing"


def test_settings_are_found_from_below(stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    below = stored / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert cli("secret", "list").text == "db/main\n"
