from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.config import as_dict
from securecfg.crypto.sshsig import sign_message
from securecfg.errors import ConfigSyntaxError, FileMissing, SecurecfgError, SignatureInvalid, UsageError
from securecfg.sources import load
from securecfg.sources.load import NAMESPACE
from tests.config.memory_vault import MemoryVault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Signer:
    """Someone who signs files and has a line in a trust file."""

    def __init__(self, name: str) -> None:
        key = Ed25519PrivateKey.generate()
        self.pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self.line = f"{name} {public.decode()}\n"

    def sign(self, path: Path, namespace: str = NAMESPACE) -> None:
        path.with_name(path.name + ".sig").write_bytes(sign_message(path.read_bytes(), self.pem, namespace=namespace))


@pytest.fixture
def signer() -> Signer:
    return Signer("ops@example.com")


@pytest.fixture
def trust(tmp_path: Path, signer: Signer) -> Path:
    path = tmp_path / "allowed_signers"
    path.write_text(signer.line)
    return path


@pytest.fixture
def app(tmp_path: Path, signer: Signer) -> Path:
    path = tmp_path / "app.yaml"
    path.write_text("a: 1\n")
    signer.sign(path)
    return path


def test_loads_what_is_signed(app: Path, trust: Path) -> None:
    assert load(app, require_signature=trust).a == 1


def test_refuses_an_edit_before_it_is_parsed(app: Path, trust: Path) -> None:
    app.write_text("a: [this is no YAML")
    with pytest.raises(SignatureInvalid, match=r"app.yaml`: ") as caught:
        load(app, require_signature=trust)
    assert caught.value.code == "signature-invalid"
    with pytest.raises(ConfigSyntaxError):
        load(app)


def test_refuses_a_file_without_a_signature_and_says_how_to_make_one(app: Path, trust: Path) -> None:
    app.with_name("app.yaml.sig").unlink()
    with pytest.raises(SignatureInvalid, match=r"(?m)app.yaml` has no signature$") as caught:
        load(app, require_signature=trust)
    assert "ssh-keygen -Y sign" in caught.value.hint
    assert NAMESPACE in caught.value.hint


def test_refuses_a_signer_who_is_not_trusted(app: Path, trust: Path) -> None:
    Signer("ops@example.com").sign(app)
    with pytest.raises(SignatureInvalid):
        load(app, require_signature=trust)


def test_refuses_a_signature_for_another_purpose(app: Path, trust: Path, signer: Signer) -> None:
    signer.sign(app, "file")
    with pytest.raises(SignatureInvalid):
        load(app, require_signature=trust)


@pytest.mark.parametrize("signature", [b"", b"\xff", b"-----BEGIN SSH SIGNATURE-----\n", b"x" * 70_000])
def test_refuses_a_malformed_signature(app: Path, trust: Path, signature: bytes) -> None:
    app.with_name("app.yaml.sig").write_bytes(signature)
    with pytest.raises(SignatureInvalid, match=r"app.yaml"):
        load(app, require_signature=trust)


def test_refuses_every_altered_byte(app: Path, trust: Path) -> None:
    original = app.read_bytes()
    for index in range(len(original)):
        altered = bytearray(original)
        altered[index] ^= 1
        app.write_bytes(altered)
        with pytest.raises(SignatureInvalid):
            load(app, require_signature=trust)


@pytest.mark.parametrize("content", ["", "not a line of signers\n"])
def test_refuses_a_trust_file_that_trusts_nobody(app: Path, trust: Path, content: str) -> None:
    trust.write_text(content)
    with pytest.raises(SecurecfgError) as caught:
        load(app, require_signature=trust)
    assert caught.value.exit_code in {UsageError.exit_code, SignatureInvalid.exit_code}


def test_refuses_a_trust_file_that_is_not_there(app: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        load(app, require_signature=tmp_path / "nobody")


def test_every_file_of_a_directory_must_be_signed(tmp_path: Path, trust: Path, signer: Signer) -> None:
    directory = tmp_path / "config"
    directory.mkdir()
    files = {"default.yaml": "a: 1", "prod.toml": "b = 2", "base.json": '{"c": 3}', ".env": "D=4"}
    for name, text in files.items():
        (directory / name).write_text(text if name != "prod.toml" else 'extends = "base"\n' + text)
        signer.sign(directory / name)
    assert as_dict(load(directory, profile="prod", require_signature=trust)) == {"a": 1, "b": 2, "c": 3, "D": "4"}
    for name in files:
        signature = directory / f"{name}.sig"
        content = signature.read_bytes()
        signature.unlink()
        with pytest.raises(SignatureInvalid, match=rf"{name}` has no signature"):
            load(directory, profile="prod", require_signature=trust)
        signature.write_bytes(content)


def test_a_vault_vouches_for_its_documents(trust: Path) -> None:
    vault = MemoryVault(documents={"app": (b"a: 1", "application/yaml")})
    assert load("vault:app", vault=vault, require_signature=trust).a == 1


def test_what_ssh_keygen_signs_is_accepted(
    tmp_path: Path, program: Callable[[str], str], signer: Signer, trust: Path
) -> None:
    app = tmp_path / "app.yaml"
    app.write_text("a: 1\n")
    key = tmp_path / "key"
    key.write_bytes(signer.pem)
    key.chmod(0o600)
    command = [program("ssh-keygen"), "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(app)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    assert load(app, require_signature=trust).a == 1
    shutil.copy(app, tmp_path / "copy.yaml")
    with pytest.raises(SignatureInvalid):
        load(tmp_path / "copy.yaml", require_signature=trust)
