"""Formatting policy files in place: all of them or none."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from securecfg.cli.policy_files import list_files, read_documents, shown
from securecfg.errors import InvalidGrants, InvalidPolicy
from securecfg.files import write_atomically
from securecfg.policy import format_cedar, format_grants

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from securecfg.errors import UsageError


def format_files(paths: Sequence[str], *, is_check: bool) -> list[str]:
    """Format policy files and return the names of those that change.

    Args:
        paths: Files and folders; extensions of the schema are left as they are.
        is_check: Write nothing.

    Raises:
        InvalidPolicy, InvalidGrants: A file is wrong; nothing was changed.
        UsageError: A file's name does not say what it is.
        FileMissing, StoreFailed, ValueTooLarge: A file cannot be read or written.
    """
    formatted: dict[Path, str] = {}
    problems: list[UsageError] = []
    for file in list_files(paths):
        for document in read_documents([str(file)]):
            if document.kind == "schema-extension":
                continue
            try:
                text = (format_grants if document.kind == "grants" else format_cedar)(document.name, document.text)
            except (InvalidGrants, InvalidPolicy) as error:
                problems.append(error)
                continue
            if text != document.text:
                formatted[file] = text
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = "".join(f"\n  {problem.message}" for problem in problems)
        message = f"{len(problems)} files are wrong{lines}"
        raise InvalidPolicy(message, hint=problems[0].hint)
    for file, text in formatted.items():
        if not is_check:
            write_atomically(file, text.encode(), mode=stat.S_IMODE(file.stat().st_mode))
    return [shown(file) for file in formatted]
