"""A disk whose syncs take longer by a fixed time, so that a row says the same on every machine."""

from __future__ import annotations

import itertools
import time
from typing import Self

import apsw

_numbers = itertools.count(1)


class SlowDisk(apsw.VFS):
    """The ordinary VFS with slower syncs; a context manager.

    Reads and writes do not pass through Python: that would cost the contender that reads more than its floor does.

    Attributes:
        vfs_name: The name to open databases with.
    """

    def __init__(self, delay_s: float) -> None:
        self.vfs_name = f"securecfg-slow-{next(_numbers)}"
        self.delay_s = delay_s
        super().__init__(self.vfs_name, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return _SlowFile(self.delay_s, name, flags)


class _SlowFile(apsw.VFSFile):
    def __init__(self, delay_s: float, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._delay_s = delay_s

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        time.sleep(self._delay_s)
        super().xSync(flags)
