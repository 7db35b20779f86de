"""At a terminal: prompts that show nothing, confirmations, tables, and passphrases that are typed once."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.cli.agent import Agent, Keeper, serve
from securecfg.cli.remembered import Recalling, Remembering, remembered
from securecfg.errors import Unavailable, Unsupported, WrongKey
from securecfg.keys import FileProvider, WrapContext, generate_key_file
from tests.cli.running import CANARY, Cli, Terminal, call

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    """A project whose vault opens with a passphrase that is asked for."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PW", CANARY)
    assert cli("init", "--key", "passphrase:?env=PW").code == 0
    monkeypatch.delenv("PW")
    settings = folder / ".securecfg" / "local.toml"
    settings.write_text(settings.read_text().replace("?env=PW", ""))
    return folder


@pytest.fixture
def unlocking(guarded: Path) -> Iterator[Path]:
    """The same, while no other test uses what all processes of this user share: the kernel's keyring."""
    with open(Path(tempfile.gettempdir()) / f"securecfg-tests-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield guarded


def test_a_value_is_asked_for_twice_and_never_shown(project: Path, cli: Cli) -> None:
    terminal = Terminal("secret", "put", "db/main")
    terminal.expect("value: ")
    terminal.type(CANARY)
    terminal.expect("value again: ")
    terminal.type(CANARY)
    assert terminal.end() == 0
    assert CANARY not in terminal.shown
    assert cli("secret", "get", "db/main", "--reveal", reveals=True).text == CANARY


def test_two_different_entries_write_nothing(project: Path, cli: Cli) -> None:
    terminal = Terminal("secret", "put", "db/main")
    terminal.expect("value: ")
    terminal.type(CANARY)
    terminal.expect("value again: ")
    terminal.type("another")
    assert terminal.end() == 2
    assert CANARY not in terminal.shown
    assert cli("secret", "list").text == ""


@pytest.mark.parametrize(
    ("arguments", "prompt", "hint"),
    [((), "value: ", "with `--file`"), (("--field", "user"), "user: ", "with `--fields`")],
)
def test_an_empty_answer_writes_nothing(
    project: Path, cli: Cli, arguments: tuple[str, ...], prompt: str, hint: str
) -> None:
    terminal = Terminal("secret", "put", "db/main", *arguments)
    terminal.expect(prompt)
    terminal.type("")
    assert terminal.end() == 2
    assert f"error: the {prompt.removesuffix(': ')} is empty" in terminal.shown
    assert hint in terminal.shown
    assert cli("secret", "list").text == ""


def test_fields_are_asked_for_by_name(project: Path, cli: Cli) -> None:
    terminal = Terminal("secret", "put", "db/main", "--field", "user", "--field", "password")
    for prompt, text in (
        ("user: ", "app"),
        ("user again: ", "app"),
        ("password: ", CANARY),
        ("password again: ", CANARY),
    ):
        terminal.expect(prompt)
        terminal.type(text)
    assert terminal.end() == 0
    assert cli("secret", "get", "db/main", "--reveal", reveals=True).json == {"password": CANARY, "user": "app"}


def test_nobody_is_asked_with_no_input(project: Path) -> None:
    for arguments in (["secret", "put", "a"], ["secret", "put", "a", "--fields"]):
        terminal = Terminal(*arguments, "--no-input")
        assert terminal.end() == 2
        assert "nobody may be asked" in terminal.shown


def test_reveal_ends_with_a_newline_on_a_terminal(stored: Path) -> None:
    terminal = Terminal("secret", "get", "db/main", "--reveal")
    assert terminal.end() == 0
    assert terminal.shown == f"{CANARY}\r\n"


@pytest.mark.parametrize(("answer", "code"), [("", 2), ("n", 2), ("y", 0), ("YES", 0)])
def test_destroying_asks(stored: Path, answer: str, code: int) -> None:
    terminal = Terminal("secret", "destroy", "db/main", "1")
    terminal.expect("Destroy version 1 of db/main for ever? [y/N] ")
    terminal.type(answer)
    assert terminal.end() == code
    assert call("secret", "get", "db/main", "--reveal").code == (3 if code == 0 else 0)


def test_an_interruption_at_a_prompt_writes_nothing(project: Path, cli: Cli) -> None:
    terminal = Terminal("secret", "put", "db/main")
    terminal.expect("value: ")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "error" not in terminal.shown
    assert cli("secret", "list").text == ""


def test_tables_are_drawn_on_a_terminal(stored: Path) -> None:
    terminal = Terminal("secret", "history", "db/main")
    assert terminal.end() == 0
    assert "VERSION" in terminal.shown
    assert "current" in terminal.shown


def test_json_is_indented_on_a_terminal(stored: Path) -> None:
    terminal = Terminal("secret", "list", "--json")
    assert terminal.end() == 0
    assert terminal.shown.startswith('{\r\n  "secrets": [')


def test_a_passphrase_is_asked_for(guarded: Path) -> None:
    terminal = Terminal("secret", "list")
    terminal.expect("passphrase: ")
    terminal.type(CANARY)
    assert terminal.end() == 0
    assert CANARY not in terminal.shown
    wrong = Terminal("secret", "list")
    wrong.expect("passphrase: ")
    wrong.type("wrong")
    assert wrong.end() == 7


def test_a_new_passphrase_is_asked_for_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    terminal = Terminal("init", "--key", "passphrase:")
    for prompt in ("passphrase: ", "passphrase again: "):
        terminal.expect(prompt)
        terminal.type(CANARY)
    assert terminal.end() == 0
    assert CANARY not in terminal.shown
    assert "recovery code" in terminal.shown


@pytest.mark.parametrize("key", ["passphrase:", "recovery:"])
def test_nobody_is_asked_for_a_key_with_no_input(guarded: Path, key: str) -> None:
    terminal = Terminal("secret", "list", "--key", key, "--no-input")
    assert terminal.end() == 2
    assert "there is nobody to ask" in terminal.shown


def test_an_empty_new_passphrase_makes_no_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    terminal = Terminal("init", "--key", "passphrase:")
    terminal.expect("passphrase: ")
    terminal.type("")
    assert terminal.end() == 2
    assert "error: the passphrase is empty" in terminal.shown
    assert list(tmp_path.glob(".securecfg/*.vault")) == []


def test_a_weak_passphrase_is_accepted_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    terminal = Terminal("init", "--key", "passphrase:")
    for prompt in ("passphrase: ", "passphrase again: "):
        terminal.expect(prompt)
        terminal.type("canary-weak")
    assert terminal.end() == 0
    assert "warning: the passphrase has fewer than 12 characters" in terminal.shown
    assert terminal.shown.count("guess as long as they like") == 1
    assert "hint: add a longer one" in terminal.shown
    assert "canary-weak" not in terminal.shown


def test_unlock_spares_the_passphrase_until_it_is_forgotten(unlocking: Path, cli: Cli) -> None:
    refused = cli("secret", "list", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "setting-missing")
    assert "securecfg unlock" in refused.json["error"]["hint"]
    terminal = Terminal("unlock", "--for", "5m")
    terminal.expect("passphrase: ")
    terminal.type(CANARY)
    assert terminal.end() == 0
    assert CANARY not in terminal.shown
    try:
        vault_id = cli("vault", "open", "--no-input", "--json").json["id"]
        unlocked = cli("unlock", "--status", "--json").json["unlocked"]
        assert vault_id in {item["id"] for item in unlocked}
        assert vault_id in cli("unlock", "--status").text
    finally:
        assert cli("unlock", "--forget").code == 0
    assert cli("secret", "list", "--no-input").code == 2
    assert cli("unlock", "--status").text == "nothing is unlocked\n"


def test_unlock_keeps_nothing_on_disk(unlocking: Path, cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path for path in home.rglob("*") if path.is_file()}
    monkeypatch.setenv("PW", CANARY)
    assert cli("unlock", "--for", "1m", "--key", "passphrase:?env=PW").code == 0
    assert cli("unlock", "--forget").code == 0
    assert {path for path in home.rglob("*") if path.is_file()} == before


def test_unlock_refuses_keys_that_ask_nobody(project: Path, cli: Cli) -> None:
    outcome = cli("unlock", "--json")
    assert (outcome.code, outcome.error) == (2, "usage")


class Refusing:
    """A place that keeps nothing."""

    where = "nowhere"

    def remember(self, name: str, secret: bytes, seconds: int) -> None:
        message = "refused"
        raise Unavailable(message)

    def recall(self, name: str) -> bytes | None:
        return None

    def forget(self) -> int:
        return 0

    def names(self) -> list[str]:
        return []


class Keeping(Refusing):
    """A place that keeps everything."""

    where = "here"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def remember(self, name: str, secret: bytes, seconds: int) -> None:
        self.kept[name] = secret

    def recall(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def names(self) -> list[str]:
        return sorted(self.kept)


def test_what_one_place_refuses_the_next_one_keeps(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "k")
    provider, context, place = FileProvider(tmp_path / "k"), WrapContext(bytes(16), bytes(16)), Keeping()
    root = bytes(range(32))
    wrapped = provider.wrap(root, context)
    remembering = Remembering(provider, [Refusing(), place], end_s=1_900_000_000, seconds=60)
    assert remembering.unwrap(wrapped, context) == root
    assert remembering.where == "here"
    assert remembered([place]) == [("00" * 16, 1_900_000_000, "here")]
    (tmp_path / "k").unlink()
    assert Recalling(provider, [Refusing(), place]).unwrap(wrapped, context) == root


def test_a_changed_slot_is_not_recognized(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "k")
    provider, context, place = FileProvider(tmp_path / "k"), WrapContext(bytes(16), bytes(16)), Keeping()
    wrapped = provider.wrap(bytes(32), context)
    Remembering(provider, [place], end_s=0, seconds=60).unwrap(wrapped, context)
    altered = wrapped[:-1] + bytes((wrapped[-1] ^ 1,))
    for raw, where in ((altered, context), (wrapped, WrapContext(bytes(16), b"\x01" * 16))):
        with pytest.raises(WrongKey):
            Recalling(provider, [place]).unwrap(raw, where)


def test_says_so_where_no_place_keeps_a_key(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "k")
    provider, context = FileProvider(tmp_path / "k"), WrapContext(bytes(16), bytes(16))
    wrapped = provider.wrap(bytes(32), context)
    with pytest.raises(Unsupported):
        Remembering(provider, [Refusing()], end_s=0, seconds=60).unwrap(wrapped, context)


# --- the agent --------------------------------------------------------------------------------------------------------


def test_the_agent_keeps_and_forgets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cli.running import ROOT

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    agent = Agent()
    assert agent.recall("a") is None
    agent.remember("a", b"root", 60)
    agent.remember("b", b"other", 60)
    try:
        assert (agent.recall("a"), agent.names()) == (b"root", ["a", "b"])
        path = home / "run" / "securecfg" / "agent.sock"
        assert oct(path.stat().st_mode & 0o777) == "0o600"
        assert oct(path.parent.stat().st_mode & 0o777) == "0o700"
    finally:
        assert agent.forget() == 2
    assert agent.recall("a") is None


def test_the_agent_ends_when_nothing_is_left_to_keep(home: Path) -> None:
    folder = home / "run" / "securecfg"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(folder / "agent.sock"))
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        agent = Agent()
        agent.remember("a", b"root", 60)
        assert agent.recall("a") == b"root"
        for malformed in (b"\n", b"{}\n", b"[" * 5_000 + b"\n", b'{"op": "remember", "name": 1}\n', b"\xff\n", b""):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                link.connect(os.fspath(folder / "agent.sock"))
                link.sendall(malformed)
        assert agent.names() == ["a"]
        assert agent.forget() == 1
        server.join(timeout=30)
        assert not server.is_alive()


def test_the_agent_needs_a_folder_of_its_own_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "run").chmod(0o755)
    with pytest.raises(Unsupported):
        Agent()
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(home / "none"))
    with pytest.raises(Unsupported):
        Agent()


def test_the_keeper_forgets_what_has_expired() -> None:
    keeper = Keeper()
    keeper.answer({"op": "remember", "name": "a", "secret": "00ff", "seconds": 10}, 100.0)
    keeper.answer({"op": "remember", "name": "b", "secret": "01", "seconds": 20}, 100.0)
    assert keeper.answer({"op": "recall", "name": "a"}, 109.9) == {"secret": "00ff"}
    assert keeper.seconds_left(109.9) == pytest.approx(10.1)
    assert keeper.answer({"op": "recall", "name": "a"}, 110.0) == {"secret": None}
    assert keeper.answer({"op": "names"}, 110.0) == {"names": ["b"]}
    assert keeper.answer({"op": "names"}, 120.0) == {"names": []}
    assert keeper.seconds_left(120.0) == 0


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": "dump"},
        {"op": "remember"},
        {"op": "remember", "name": "a", "secret": "zz", "seconds": 1},
        {"op": "recall"},
    ],
)
def test_the_keeper_refuses_what_is_no_request(request_: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        Keeper().answer(request_, 0.0)


def test_the_keeper_keeps_no_more_than_its_limit() -> None:
    keeper = Keeper()
    answers = [
        keeper.answer({"op": "remember", "name": str(number), "secret": "00", "seconds": 9}, 0.0)
        for number in range(65)
    ]
    assert answers[63:] == [{}, {"error": "full"}]
