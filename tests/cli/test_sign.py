from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Cli, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACE = "securecfg-config@v1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]) -> Path:
    """A folder with two files, keys made by `ssh-keygen`, and a trust file; the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("a: 1\n")
    Path("b.yaml").write_bytes(b"\x00\xff not text")
    for name, passphrase in (("key", ""), ("other", ""), ("locked", CANARY)):
        make = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", name]
        subprocess.run(make, check=True)
    Path("trust").write_text("ops@shop " + Path("key.pub").read_text())
    return tmp_path


def ssh_keygen(*arguments: str, content: bytes) -> int:
    done = subprocess.run(["ssh-keygen", "-Y", *arguments], input=content, capture_output=True, check=False)
    return done.returncode


def test_ssh_keygen_accepts_what_it_signs(folder: Path, cli: Cli) -> None:
    outcome = cli("sign", "a.yaml", "b.yaml", "--key", "key")
    assert outcome.text == "signed  a.yaml  in a.yaml.sig\nsigned  b.yaml  in b.yaml.sig\n"
    for name in ("a.yaml", "b.yaml"):
        check = ("verify", "-f", "trust", "-I", "ops@shop", "-n", NAMESPACE, "-s", f"{name}.sig")
        assert ssh_keygen(*check, content=Path(name).read_bytes()) == 0
        assert ssh_keygen(*check, content=b"other") != 0


def test_accepts_what_ssh_keygen_signs(folder: Path, cli: Cli) -> None:
    assert ssh_keygen("sign", "-f", "key", "-n", NAMESPACE, "a.yaml", content=b"") == 0
    outcome = cli("verify", "a.yaml", "--signers", "trust", "--json")
    assert outcome.json == {"files": [{"file": "a.yaml", "signer": "ops@shop"}]}


def test_an_edited_file_is_named_and_the_others_are_shown(folder: Path, cli: Cli) -> None:
    assert cli("sign", "a.yaml", "b.yaml", "--key", "key").code == 0
    Path("a.yaml").write_text("a: 2\n")
    outcome = cli("verify", "a.yaml", "b.yaml", "--signers", "trust")
    assert outcome.code == 8
    assert outcome.text == "signed  b.yaml  by ops@shop\n"
    assert outcome.err.startswith("error: `a.yaml`: the signature does not match\n")


def test_every_wrong_file_is_named(folder: Path, cli: Cli) -> None:
    assert cli("sign", "a.yaml", "--key", "other").code == 0
    outcome = cli("verify", "a.yaml", "b.yaml", "--signers", "trust", "--json")
    assert (outcome.code, outcome.error) == (8, "signature-invalid")
    message = outcome.json["error"]["message"]
    assert message.startswith("2 of 2 files")
    assert "`a.yaml`: the signature is by a key that is not trusted" in message
    assert "`b.yaml` has no signature" in message


@pytest.mark.parametrize("signature", [b"", b"x" * 70_000, b"-----BEGIN SSH SIGNATURE-----\n", b"\xff\x00"])
def test_refuses_what_is_no_signature(folder: Path, cli: Cli, signature: bytes) -> None:
    Path("a.yaml.sig").write_bytes(signature)
    outcome = cli("verify", "a.yaml", "--signers", "trust", "--json")
    assert (outcome.code, outcome.error) == (8, "signature-invalid")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("sign", "a.yaml"), 2, "usage"),
        (("sign", "--key", "key"), 2, "usage"),
        (("sign", "a.yaml", "--key", "nowhere"), 3, "file-missing"),
        (("sign", "nowhere", "--key", "key"), 3, "file-missing"),
        (("sign", "a.yaml", "--key", "key.pub"), 2, "invalid-signing-key"),
        (("sign", "a.yaml", "--key", "a.yaml"), 2, "invalid-signing-key"),
        (("sign", "a.yaml", "--key", "locked", "--no-input"), 2, "invalid-signing-key"),
        (("verify", "a.yaml"), 2, "usage"),
        (("verify", "a.yaml", "--signers", "nowhere"), 3, "file-missing"),
        (("verify", "nowhere", "--signers", "trust"), 3, "file-missing"),
    ],
)
def test_refuses_what_cannot_be_signed_or_verified(
    folder: Path, cli: Cli, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    outcome = cli(*arguments, "--json")
    assert (outcome.code, outcome.error) == (exit_code, code)
    assert not Path("a.yaml.sig").exists()


def test_a_malformed_trust_file_is_named_with_its_line(folder: Path, cli: Cli) -> None:
    assert cli("sign", "a.yaml", "--key", "key").code == 0
    Path("trust").write_text("# signers\nops@shop ssh-ed25519 nonsense\n")
    outcome = cli("verify", "a.yaml", "--signers", "trust", "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-trust-file")
    assert "trust:2:" in outcome.json["error"]["message"]


def test_signs_nothing_if_one_file_cannot_be_read(folder: Path, cli: Cli) -> None:
    assert cli("sign", "a.yaml", "nowhere", "--key", "key").code == 3
    assert not Path("a.yaml.sig").exists()


def test_asks_for_the_passphrase_of_a_key_on_a_terminal(folder: Path, cli: Cli) -> None:
    pytest.importorskip("bcrypt")
    terminal = Terminal("sign", "a.yaml", "--key", "locked")
    terminal.expect("passphrase of the signing key: ")
    terminal.type(CANARY)
    assert terminal.end() == 0
    assert CANARY not in terminal.shown
    Path("trust").write_text("ops@shop " + Path("locked.pub").read_text())
    assert cli("verify", "a.yaml", "--signers", "trust").code == 0
