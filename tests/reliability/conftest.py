"""The world of the vault's own tests."""

from tests.vault.conftest import vault, world

__all__ = ["vault", "world"]
