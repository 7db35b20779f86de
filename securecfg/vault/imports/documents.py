"""An import as the vault keeps it: three kinds of system documents.

Its state is small and written anew at each step. Its details never change. Its material, which holds the old secrets,
takes it back or lets it go on, and is destroyed when it is finished. Pure, but for the names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from securecfg.audit import Event
from securecfg.clock import to_datetime, to_ns
from securecfg.crypto import KIND_TEXT
from securecfg.secret import Secret
from securecfg.vault.drafts import Content
from securecfg.vault.paths import IMPORTS, UNDO_MATERIAL
from securecfg.vault.values import encode_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from securecfg.vault.values import Plain

DETAILS, MATERIAL = b"/details/", b"/material/"
UNDO, REDO = UNDO_MATERIAL, MATERIAL + b"redo/"

_PIECE_CHARS = 12 * 1024  # whatever the characters and their escapes, a piece is one inline value
_FILES_IN_RECORD_CHARS = 4_096
_VERSION = 1


class ImportState(StrEnum):
    """How far an import is."""

    PLANNED = "planned"
    APPLIED = "applied"
    UNDOING = "undoing"
    UNDONE = "undone"
    CONFIRMED = "confirmed"


class FileState(StrEnum):
    """How far one file of an import is."""

    PENDING = "pending"
    REWRITTEN = "rewritten"
    LEFT = "left"
    RESTORED = "restored"


# One letter for each file keeps the state document small.
_FILE_LETTERS = MappingProxyType(
    {FileState.PENDING: "p", FileState.REWRITTEN: "w", FileState.LEFT: "l", FileState.RESTORED: "r"}
)
_FILE_STATES = MappingProxyType({letter: state for state, letter in _FILE_LETTERS.items()})

# Every step that an import may take, and what the log calls it. Taking back begins with the reads that it amounts to.
STEPS: Mapping[tuple[ImportState, ImportState], Event | None] = MappingProxyType(
    {
        (ImportState.PLANNED, ImportState.APPLIED): Event.IMPORT_APPLIED,
        (ImportState.PLANNED, ImportState.UNDOING): None,
        (ImportState.APPLIED, ImportState.UNDOING): None,
        (ImportState.UNDOING, ImportState.APPLIED): Event.IMPORT_UNDONE,
        (ImportState.UNDOING, ImportState.UNDONE): Event.IMPORT_UNDONE,
        (ImportState.APPLIED, ImportState.CONFIRMED): Event.IMPORT_CONFIRMED,
    }
)
FINISHED = frozenset((ImportState.UNDONE, ImportState.CONFIRMED))


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that an import rewrites.

    Attributes:
        path: Where it really is, an absolute path.
        state: How far it is.
    """

    path: str
    state: FileState = FileState.PENDING


@dataclass(frozen=True, slots=True)
class ImportedSecret:
    """A version that the references of an import stand for.

    Attributes:
        path: The secret's path.
        version: Its number; what is not written yet expects this newest version.
        file: Which of the import's files refers to it, from 0.
        is_own: The import wrote it; otherwise it was there with the same value.
    """

    path: str
    version: int
    file: int
    is_own: bool


@dataclass(frozen=True, slots=True)
class Import:
    """An import.

    Attributes:
        import_id: Its name; later imports have greater ones.
        state: How far it is.
        created: When it was planned.
        author: By whom.
        files: The files with secrets, in the order of the plan.
        secrets: The versions behind the references.
        marks: What its author wants to remember besides, as JSON has it; it holds no secret.
        revision: The version of the state document, for comparing before the next step.
    """

    import_id: str
    state: ImportState
    created: datetime
    author: str
    files: tuple[ImportedFile, ...]
    secrets: tuple[ImportedSecret, ...]
    marks: tuple[Mapping[str, Any], ...] = ()
    revision: int = 0

    def of_file(self, index: int) -> list[ImportedSecret]:
        """Return the versions that one file refers to."""
        return [secret for secret in self.secrets if secret.file == index]


def describe(of: Import, files: Iterable[int]) -> dict[str, object]:
    """Return what a record says of an import and some of its files."""
    chosen = set(files)
    names = [of.files[index].path for index in sorted(chosen)]
    obj: dict[str, object] = {
        "import": of.import_id,
        "count": sum(secret.file in chosen for secret in of.secrets),
    }
    if sum(map(len, names)) <= _FILES_IN_RECORD_CHARS:
        obj["files"] = names
    return obj


def document_path(import_id: str) -> bytes:
    """Return where an import's state lies."""
    return IMPORTS + import_id.encode()


def encode_state(of: Import) -> dict[str, object]:
    """Return the state document."""
    return {"v": _VERSION, "state": of.state, "files": "".join(_FILE_LETTERS[file.state] for file in of.files)}


def encode_details(of: Import) -> Secret[str]:
    """Return the details document. It holds no secret, but is split like one that does."""
    details = {
        "v": _VERSION,
        "created": to_ns(of.created),
        "author": of.author,
        "files": [file.path for file in of.files],
        "secrets": [[secret.path, secret.version, secret.file, secret.is_own] for secret in of.secrets],
        "marks": [dict(mark) for mark in of.marks],
    }
    return Secret(json.dumps(details, separators=(",", ":"), ensure_ascii=False))


def parse_import(import_id: str, state: dict[str, Any], details: dict[str, Any], revision: int) -> Import:
    """Return the import of a state and a details document, which this program wrote and the vault authenticates."""
    files = zip(details["files"], state["files"], strict=True)
    return Import(
        import_id,
        ImportState(state["state"]),
        to_datetime(details["created"]),
        details["author"],
        tuple(ImportedFile(path, _FILE_STATES[letter]) for path, letter in files),
        tuple(ImportedSecret(path, number, file, is_own) for path, number, file, is_own in details["secrets"]),
        tuple(details["marks"]),
        revision,
    )


def split(document: Secret[str]) -> list[Content]:
    """Return a document in pieces, each of which fits into one inline value."""
    text = document.reveal()
    return [json_content(text[start : start + _PIECE_CHARS]) for start in range(0, len(text), _PIECE_CHARS)]


def json_content(value: object) -> Content:
    """Return what is sealed as a document."""
    encoded = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Content.of(KIND_TEXT, encoded)


def value_content(value: Plain) -> Content:
    """Return what is sealed as a secret's value.

    Raises:
        InvalidMetadata: A field's name or text breaks the rules.
    """
    kind, encoded = encode_value(value)
    return Content.of(kind, encoded)
