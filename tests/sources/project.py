"""A project with secrets in all five formats, and a vault beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecfg.vault.vault import Vault
from tests.vault.world import ADMIN, World

if TYPE_CHECKING:
    from pathlib import Path

STRIPE = "sk_live_cAnArY39HqLyjWDarjtT1zdp7dc"
CANARIES: tuple[str, ...] = (
    STRIPE,
    "hunter2-canary",
    "yaml-canary-password",
    "toml-canary-password",
    "json-canary-password",
)
CANARIES += ("ini-canary-password", "p@ss/canary:1")
FILES = {
    ".env": f"# payments\nDEBUG=1\nSTRIPE_API_KEY={STRIPE}   # live\nDB_PASSWORD='hunter2-canary'\n",
    "config/prod.yaml": (
        "database:\n"
        "  url: postgres://shop:p%40ss%2Fcanary%3A1@db.internal/shop   # primary\n"
        '  password: "yaml-canary-password"\n'
        "  pool: 5\n"
    ),
    "config/mail.toml": '[smtp]\nhost = "mail.internal"\npassword = "toml-canary-password" # once a year\nport = 25\n',
    "config/cache.json": '{"redis": {"password": "json-canary-password", "ttl": 60}}\n',
    "config/search.ini": "[search]\npassword = ini-canary-password\nsize = 10\n",
}
FOUND = {
    "env/STRIPE_API_KEY",
    "env/DB_PASSWORD",
    "prod/database/url",
    "prod/database/password",
    "mail/smtp/password",
    "cache/redis/password",
    "search/search/password",
}


@dataclass(slots=True)
class Project:
    """The folder, its files and its vault."""

    folder: Path
    world: World
    vault: Vault

    @property
    def given(self) -> list[Path]:
        return [self.folder / ".env", self.folder / "config"]

    def contents(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in FILES}

    def before(self) -> dict[str, bytes]:
        return {name: text.encode() for name, text in FILES.items()}


def write_files(folder: Path) -> None:
    (folder / "config").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)


def make_project(folder: Path) -> Project:
    write_files(folder / "shop")
    world = World(folder)
    return Project(folder / "shop", world, world.create())


def open_project(folder: Path) -> Project:
    """Open a project again, for instance one that a killed process has left."""
    world = World(folder)
    vault = Vault.open(world.path, key=world.key, principal=ADMIN, clock=world.clock)
    world.vaults.append(vault)
    return Project(folder / "shop", world, vault)
