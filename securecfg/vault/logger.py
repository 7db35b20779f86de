"""The logger of the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging


def logger() -> logging.Logger:
    """Return the logger. `logging` takes longer to import than a read takes, and few sessions have anything to log."""
    import logging

    return logging.getLogger("securecfg.vault")
