"""Where a vault's rows live: spaces of (integer id -> bytes) and one head row that is replaced by compare-and-set.

Nothing here knows what a row means, and no path, name or key comes below this line. `securecfg.testing` holds the
suite that every store passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.lazy import load_names
from securecfg.store.database import read_beginning
from securecfg.store.interface import (
    BATCH_LIMIT_BYTES,
    BATCH_LIMIT_OPERATIONS,
    ID_LIMIT,
    PARTITION_LIMIT,
    ROW_LIMIT_BYTES,
    STAGE_LIMIT_BYTES,
    STAGE_LIMIT_OPERATIONS,
    Delete,
    Operation,
    PartCommit,
    Put,
    Replace,
    Space,
    Staged,
    Store,
    check_batch,
    check_staging,
    to_put,
    to_replace,
)
from securecfg.store.sqlite import SqliteStore, create_sqlite, open_sqlite

if TYPE_CHECKING:
    from securecfg.store.memory import MemoryBacking, MemoryStore

__all__ = [
    "BATCH_LIMIT_BYTES",
    "BATCH_LIMIT_OPERATIONS",
    "ID_LIMIT",
    "PARTITION_LIMIT",
    "ROW_LIMIT_BYTES",
    "STAGE_LIMIT_BYTES",
    "STAGE_LIMIT_OPERATIONS",
    "Delete",
    "MemoryBacking",
    "MemoryStore",
    "Operation",
    "PartCommit",
    "Put",
    "Replace",
    "Space",
    "SqliteStore",
    "Staged",
    "Store",
    "check_batch",
    "check_staging",
    "create_sqlite",
    "open_sqlite",
    "read_beginning",
    "to_put",
    "to_replace",
]

__getattr__ = load_names(__name__, {"MemoryBacking": "securecfg.store.memory", "MemoryStore": "securecfg.store.memory"})
