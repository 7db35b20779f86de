"""Policy documents as files: which there are, what each of them is, and what they come to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import FileMissing, InvalidCases, InvalidGrants, InvalidPolicy, UsageError, ValueTooLarge
from securecfg.files import read_bounded
from securecfg.policy import SCHEMA, Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from securecfg.policy.documents import DocumentKind

FILE_BYTES_MAX = 16 << 20
_KINDS: dict[str, DocumentKind] = {".toml": "grants", ".cedar": "cedar", ".cedarschema": "schema-extension"}
_ERRORS = {".toml": InvalidGrants, ".cedar": InvalidPolicy, ".cedarschema": InvalidPolicy}


def read_documents(paths: Sequence[str]) -> list[Document]:
    """Return the documents that files and directories hold, each called by its path.

    Of a directory it takes what ends in `.toml`, `.cedar` or `.cedarschema`, but for test cases (`cases.toml`,
    `*.cases.toml`) and a copy of the built-in schema.

    Raises:
        FileMissing: A path does not exist, or a directory holds no document.
        InvalidPolicy, InvalidGrants: A file is not UTF-8.
        UsageError: A file's name does not say what it is.
        StoreFailed: A file cannot be read.
        ValueTooLarge: A file is larger than any document may be.
    """
    documents = []
    for path, is_named in _files(paths):
        text = _read_text(path, _ERRORS[path.suffix])
        if not is_named and text.endswith(SCHEMA):
            continue
        documents.append(Document(shown(path), _KINDS[path.suffix], text))
    return documents


def list_files(paths: Sequence[str]) -> list[Path]:
    """Return the files of documents that `read_documents` would read, and the copy of the schema.

    Raises:
        FileMissing, UsageError: As for `read_documents`.
    """
    return [path for path, _ in _files(paths)]


def read_cases_file(path: str) -> str:
    """Return the text of a file of test cases.

    Raises:
        FileMissing: There is none.
        InvalidCases: It is not UTF-8.
        StoreFailed: It cannot be read.
        ValueTooLarge: It is larger than any such file may be.
    """
    return _read_text(Path(path), InvalidCases)


def shown(path: Path) -> str:
    """Return what a file is called in messages and in the vault: its path from the working directory."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def _files(paths: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """Yield each file once, with whether it was named itself."""
    seen: set[Path] = set()
    for path in map(Path, paths):
        found = [(path, True)] if not path.is_dir() else [(file, False) for file in _in_directory(path)]
        for file, is_named in found:
            if file.suffix not in _KINDS:
                message = f"`{file}` is no policy document"
                raise UsageError(message, hint="names end in `.toml`, `.cedar` or `.cedarschema`")
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, is_named


def _in_directory(folder: Path) -> list[Path]:
    found = sorted(Path(where, name) for where, _, names in os.walk(folder) for name in names)
    files = [file for file in found if file.suffix in _KINDS and not _holds_cases(file)]
    if not files:
        message = f"`{folder}` holds no policy document"
        raise FileMissing(message, hint="names end in `.toml`, `.cedar` or `.cedarschema`")
    return files


def _holds_cases(file: Path) -> bool:
    return file.name == "cases.toml" or file.name.endswith(".cases.toml")


def _read_text(path: Path, error: type[UsageError]) -> str:
    try:
        content = read_bounded(path, FILE_BYTES_MAX)
    except ValueTooLarge as failure:
        failure.hint = "split the file"
        raise
    try:
        return content.decode()
    except UnicodeDecodeError as failure:
        line = content.count(b"\n", 0, failure.start) + 1
        column = len(content[content.rfind(b"\n", 0, failure.start) + 1 : failure.start].decode()) + 1
        message = f"{shown(path)}:{line}:{column}: is not UTF-8"
        raise error(message, hint="save it as UTF-8") from None


# --- what a change of policy changes ----------------------------------------------------------------------------------


def list_changes(old: Iterable[Document], new: Iterable[Document]) -> list[tuple[str, str]]:
    """Return what differs between two sets of documents that compile: `added`, `removed` or `changed`, and what."""
    before, after = _facts(old), _facts(new)
    changes = [("removed", name) for name in before if name not in after]
    changes += [("added", name) for name in after if name not in before]
    changes += [("changed", name) for name in after if name in before and after[name] != before[name]]
    return sorted(changes, key=lambda change: change[1])


def _facts(documents: Iterable[Document]) -> dict[str, str]:
    """Return what documents say: rules by id with their text, members of roles, attributes of the context."""
    from securecfg.policy.rules import read_documents as read_rules

    rules = read_rules(list(documents))
    facts = {f"rule {rule.id}": rule.cedar for rule in rules.rules}
    facts |= {f"member {each.member} of {each.role}": "" for _, each in rules.memberships}
    return facts | {f"context {name}": kind for name, kind in rules.context_types.items()}
