"""Keep what client libraries log of a call out of the logs: at level DEBUG they log bodies, and keys lie in these."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Discretion(logging.Filter):
    """Lets only through what is bad enough of what a thread logs while it is discreet."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        least: int = getattr(self.thread, "least", logging.NOTSET)
        return record.levelno >= least


_FILTER = _Discretion()


@contextmanager
def discreet(*libraries: str, least: int = logging.WARNING) -> Iterator[None]:
    """Let libraries log nothing below a level from this thread meanwhile.

    A filter at a logger does not see what loggers below it log, so it is put at each one; libraries make theirs when
    they are imported, which is therefore done before.

    Args:
        libraries: The packages whose loggers are meant.
        least: The lowest level that is let through.
    """
    loggers = logging.Logger.manager.loggerDict
    named = [name for name in loggers if name.startswith(libraries) and name.partition(".")[0] in libraries]
    for name in named:
        known = loggers[name]
        # `getLogger` makes one where there is only the place of one, and takes a lock each time.
        logger = known if isinstance(known, logging.Logger) else logging.getLogger(name)
        if _FILTER not in logger.filters:
            logger.addFilter(_FILTER)
    _FILTER.thread.least = least
    try:
        yield
    finally:
        _FILTER.thread.least = logging.NOTSET
