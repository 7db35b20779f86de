"""Where a test makes a vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg import Vault
from securecfg.keys.keyfile import generate_key_file
from tests.decoder.keys import KeyFile

if TYPE_CHECKING:
    from pathlib import Path


class Place:
    """A folder with a key file and a vault."""

    def __init__(self, folder: Path) -> None:
        generate_key_file(folder / "key")
        self.path = folder / "a.vault"
        self.key = KeyFile(folder / "key")
        self.uri = f"file:{folder / 'key'}"

    def create(self) -> Vault:
        return Vault.create(self.path, key=self.uri, admin="alice")
