"""A secrets vault that a program can import.

    from securecfg import Vault, Secret, load, bind, get, origin

Names are loaded when they are first used, so that `import securecfg` alone costs almost nothing.
"""

from __future__ import annotations

from securecfg.lazy import load_names

# Type checkers take this name for true; importing `typing` for it would cost more than the rest of this module.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from securecfg.config import Config, bind, get, origin
    from securecfg.secret import Secret
    from securecfg.sources.load import load
    from securecfg.vault import SecretRef, SecretVersion, Vault

__all__ = ["Config", "Secret", "SecretRef", "SecretVersion", "Vault", "bind", "get", "load", "origin"]

__getattr__ = load_names(
    __name__,
    {
        "Config": "securecfg.config",
        "Secret": "securecfg.secret",
        "SecretRef": "securecfg.vault",
        "SecretVersion": "securecfg.vault",
        "Vault": "securecfg.vault",
        "bind": "securecfg.config",
        "get": "securecfg.config",
        "load": "securecfg.sources",
        "origin": "securecfg.config",
    },
)


def __dir__() -> list[str]:
    """Name what is public."""
    return __all__
