"""Keep what client libraries log of a call out of the logs: at level DEBUG they log bodies, and keys lie in these."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Discretion(logging.Filter):
    """Lets nothing below WARNING through that a thread logs while it is discreet."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not getattr(self.thread, "discreet", False)


_FILTER = _Discretion()


@contextmanager
def discreet(library: str) -> Iterator[None]:
    """Let a library log nothing below WARNING from this thread meanwhile.

    A filter at a logger does not see what loggers below it log, so it is put at each one; libraries make theirs when
    they are imported, which is therefore done before.

    Args:
        library: The package whose loggers are meant.
    """
    loggers = logging.Logger.manager.loggerDict
    for name in [name for name in loggers if name == library or name.startswith(f"{library}.")]:
        logger = logging.getLogger(name)
        if _FILTER not in logger.filters:
            logger.addFilter(_FILTER)
    _FILTER.thread.discreet = True
    try:
        yield
    finally:
        _FILTER.thread.discreet = False
