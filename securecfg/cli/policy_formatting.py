"""Formatting policy files in place: all of them or none."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from securecfg.cli.policy_files import list_files, read_documents, shown
from securecfg.errors import InvalidGrants, InvalidPolicy, UsageError
from securecfg.files import write_atomically
from securecfg.policy import format_cedar, format_grants

if TYPE_CHECKING:
    from collections.abc import Sequence


def format_files(paths: Sequence[str], *, is_check: bool) -> list[str]:
    """Format policy files and return the names of those that change.

    Args:
        paths: Files and folders; extensions of the schema in folders are left as they are.
        is_check: Write nothing.

    Raises:
        InvalidPolicy, InvalidGrants: A file is wrong; nothing was changed.
        UsageError: A file has no canonical form.
        FileMissing, StoreFailed, ValueTooLarge: A file cannot be read or written.
    """
    formatted: dict[str, str] = {}
    problems: list[UsageError] = []
    for document in read_documents(paths):
        if document.kind == "schema-extension":
            if document.name in {shown(file) for file in list_files(paths) if str(file) in paths}:
                message = f"`{document.name}` extends the schema, which has no canonical form"
                raise UsageError(message, hint="`policy fmt` formats `.toml` and `.cedar` files")
            continue
        form = format_grants if document.kind == "grants" else format_cedar
        try:
            text = form(document.name, document.text)
        except (InvalidGrants, InvalidPolicy) as error:
            problems.append(error)
            continue
        if text != document.text:
            formatted[document.name] = text
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = "".join(f"\n  {problem.message}" for problem in problems)
        message = f"{len(problems)} files are wrong{lines}"
        raise InvalidPolicy(message, hint=problems[0].hint)
    for file in list_files(paths):
        if shown(file) in formatted and not is_check:
            write_atomically(file, formatted[shown(file)].encode(), mode=stat.S_IMODE(file.stat().st_mode))
    return list(formatted)
