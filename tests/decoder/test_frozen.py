"""Vaults of an earlier day: decoder and package open them for ever, and find what was put into them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from securecfg import Vault
from securecfg.vault.commits.maintenance import compact
from tests.decoder import Passphrase, RecoveryCode, decode
from tests.decoder.agreement import assert_agrees, revealed
from tests.decoder.keys import KeyFile
from tests.decoder.vaults.generate import FOLDER, VAULTS, describe, describe_content

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(params=sorted(VAULTS))
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a frozen vault, which lies as `vault` with its key file in the temporary folder."""
    shutil.copyfile(FOLDER / f"{request.param}.vault", tmp_path / "vault")
    shutil.copyfile(FOLDER / f"{request.param}.key", tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    return str(request.param)


def test_the_decoder_finds_what_was_put_in(name: str, tmp_path: Path) -> None:
    found = describe(decode(tmp_path / "vault", KeyFile(tmp_path / "key")))
    assert found == {member: EXPECTED[name][member] for member in found}


def test_the_package_finds_what_was_put_in(name: str, tmp_path: Path) -> None:
    with Vault.open(tmp_path / "vault", key=f"file:{tmp_path / 'key'}", principal="user:alice") as vault:
        vault.log.verify()
        for path, secret in EXPECTED[name]["secrets"].items():
            states = {str(info.version): info.state for info in vault.history(path)}
            assert states == {number: version[0] for number, version in secret["versions"].items()}
            for number, version in secret["versions"].items():
                if version[0] == "live":
                    assert describe_content(revealed(vault.read(path, at=int(number)))) == version[2]


def test_the_package_goes_on_writing(name: str, tmp_path: Path) -> None:
    with Vault.open(tmp_path / "vault", key=f"file:{tmp_path / 'key'}", principal="user:alice") as vault:
        paths = vault.list()
        for path in paths[:3]:
            vault.write(path, "new")
        vault.move(paths[3 % len(paths)], "elsewhere")
        compact(vault.opened)
        vault.write("elsewhere", "newer")
        assert_agrees(tmp_path / "vault", KeyFile(tmp_path / "key"), vault)


@pytest.mark.parametrize("name", ["every-change"], indirect=True)
def test_passphrase_and_recovery_code_open_it_too(name: str, tmp_path: Path) -> None:
    phrase, code = EXPECTED[name]["passphrase"], EXPECTED[name]["recovery_code"]
    for key in (Passphrase(phrase), RecoveryCode(code)):
        assert decode(tmp_path / "vault", key).vault_id.hex() == EXPECTED[name]["vault_id"]
