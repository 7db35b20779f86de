"""Vaults and backends for programs of `asyncio`: the same methods, awaited.

    from securecfg.aio import AsyncVault, open_backend

Calls run in a pool of threads of their own, at most so many at once; an event loop is never kept waiting by one. What
may have become of a call whose task was cancelled is said in `securecfg.aio.calls`.
"""

from __future__ import annotations

from securecfg.lazy import load_names

TYPE_CHECKING = False

if TYPE_CHECKING:
    from securecfg.aio.backend import AsyncBackend, open_backend
    from securecfg.aio.vault import AsyncVault

__all__ = ["AsyncBackend", "AsyncVault", "open_backend"]

__getattr__ = load_names(
    __name__,
    {
        "AsyncBackend": "securecfg.aio.backend",
        "AsyncVault": "securecfg.aio.vault",
        "open_backend": "securecfg.aio.backend",
    },
)
