"""A vault that publishes bundles, and those who read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from securecfg import Vault
from securecfg.keys.identity import read_identity_file
from securecfg.vault.bundles.bundle import Bundle
from securecfg.vault.bundles.publishing import Bundles, Published
from tests.vault.test_identities import identity_file
from tests.vault.world import World, grant

if TYPE_CHECKING:
    from pathlib import Path

WEB, OTHER = "svc:web", "svc:other"
GRANTS = """
[roles.web]
[[roles.web.grants]]
actions = ["read", "list"]
paths = ["app/**"]
[[roles.web.grants]]
actions = ["read"]
paths = ["unlisted/**"]
"""
TTL = timedelta(days=1)


@dataclass(slots=True)
class Publisher:
    """A vault with a role of one member, and a folder for its bundles."""

    world: World
    vault: Vault

    @property
    def file(self) -> Path:
        return self.world.folder / "web.sealed"

    @property
    def sink(self) -> Path:
        return self.world.folder / "web.sink"

    def key(self, name: str = WEB) -> str:
        return f"identity:{self.world.folder / name.replace(':', '-')}.identity"

    def add(self, name: str, role: str = "web") -> None:
        """Make an identity a member of a role."""
        _, public = identity_file(self.world.folder, name)
        self.vault.administration.add_member(role, name, identity=read_identity_file(public).identity)

    def publish(self, path: Path | None = None, **options: Any) -> Published:  # noqa: ANN401 - those of `publish`
        options.setdefault("ttl", TTL)
        return Bundles(self.vault.authority).publish(options.pop("role", "web"), path or self.file, **options)

    def open(self, path: Path | None = None, **options: Any) -> Bundle:  # noqa: ANN401 - those of `Vault.open`
        options.setdefault("key", self.key())
        options.setdefault("audit", f"file:{self.sink}")
        options.setdefault("clock", self.world.clock)
        opened = Vault.open(path or self.file, **options)
        self.world.vaults.append(opened)
        assert isinstance(opened, Bundle)
        return opened


def make_publisher(world: World) -> Publisher:
    """Make a vault with some secrets and a role."""
    vault = world.create()
    vault.write("app/a", "one")
    vault.write("app/a", "two")
    vault.write("app/f", {"user": "shop", "password": "canary p@ss"}, metadata={"owner": "pay"})
    vault.write("app/settings", "x: 1", content_type="application/yaml")
    vault.write("unlisted/u", b"\x00\xff")
    vault.write("other/x", "not for the web")
    grant(vault, GRANTS)
    publisher = Publisher(world, vault)
    publisher.add(WEB)
    return publisher
