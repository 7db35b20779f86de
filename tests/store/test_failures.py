"""What people read of SQLite's failures: words and something to do, never SQLite's own text."""

from __future__ import annotations

import errno
import os

import apsw
import pytest

from securecfg.errors import SecurecfgError, StoreBusy, StoreFailed, Tampered
from securecfg.store.failures import translated, words_of

STATEMENT = "INSERT INTO canary VALUES (1)"
# What is no failure, and what only a log gets to see.
NO_FAILURES = {"SQLITE_OK", "SQLITE_ROW", "SQLITE_DONE", "SQLITE_NOTICE", "SQLITE_WARNING"}
CODES = sorted(
    str(name)
    for name in (*apsw.mapping_result_codes, *apsw.mapping_extended_result_codes)
    if isinstance(name, str) and not name.startswith(("SQLITE_OK_", "SQLITE_NOTICE_", "SQLITE_WARNING_"))
)


def error_with(name: str) -> Exception:
    error = apsw.exception_for(getattr(apsw, name))
    error.args = (f"{name}: near {STATEMENT}",)
    return error


@pytest.mark.parametrize("name", [name for name in CODES if name not in NO_FAILURES])
def test_every_code_of_sqlite_becomes_words_and_a_hint(name: str) -> None:
    error = translated(error_with(name), "a.vault")
    shown = f"{error.message}\n{error.hint}"
    assert isinstance(error, SecurecfgError)
    assert error.message.startswith(("`a.vault` ", "cannot use `a.vault`: ", "the disk that holds `a.vault` "))
    assert error.hint
    assert not any(word in shown.upper() for word in ("SQLITE", "APSW", "CANARY", name.removeprefix("SQLITE_") + ":"))


@pytest.mark.parametrize(
    ("name", "kind", "what", "hint"),
    [
        ("SQLITE_READONLY_DIRECTORY", StoreFailed, "its folder cannot be written", "let this user write the folder"),
        ("SQLITE_READONLY", StoreFailed, "it cannot be written", "permissions"),
        ("SQLITE_READONLY_DBMOVED", StoreFailed, "moved, removed or replaced", "open it again"),
        ("SQLITE_CANTOPEN_ISDIR", StoreFailed, "cannot be opened", "permissions"),
        ("SQLITE_IOERR_FSYNC", StoreFailed, "does not confirm what was written", "the system's log"),
        ("SQLITE_IOERR_SEEK", StoreFailed, "the disk reports an error", "the system's log"),
        ("SQLITE_IOERR_NOMEM", StoreFailed, "not enough memory", "try again"),
        ("SQLITE_RANGE", StoreFailed, "the database reports a defect", "the system's log"),
        ("SQLITE_FULL", StoreFailed, "is full", "make room"),
        ("SQLITE_BUSY_SNAPSHOT", StoreBusy, "is locked by another process", "try again"),
        ("SQLITE_PROTOCOL", StoreBusy, "is locked by another process", "try again"),
        ("SQLITE_CORRUPT", Tampered, "is damaged inside", "backup"),
    ],
)
def test_the_words_say_what_is_the_matter(name: str, kind: type[SecurecfgError], what: str, hint: str) -> None:
    error = translated(error_with(name), "a.vault")
    assert type(error) is kind
    assert what in error.message
    assert hint in error.hint


def test_the_operating_system_speaks_for_itself() -> None:
    what, hint = words_of(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/a/path"))
    assert (what, hint) == (os.strerror(errno.EDQUOT), "look at the disk and the system's log")
    assert words_of(OSError("canary"))[0] == "the database reports a defect"
