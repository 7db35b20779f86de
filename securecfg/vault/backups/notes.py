"""What a vault knows of its backups: a sealed note of each chain, and of each part that was begun."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.clock import to_datetime
from securecfg.crypto import KIND_TEXT, KeyBytes
from securecfg.vault.documents import parsing
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from datetime import datetime

    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.opened import OpenVault

_NOTES = SYSTEM + b"backup/"
_VERSION = 1


class Recipient(NamedTuple):
    """Who can open a chain.

    Attributes:
        slot_id: 16 bytes.
        public_key: What the key of each part is sealed to.
        kind: The scheme of the key.
    """

    slot_id: bytes
    public_key: bytes
    kind: str

    @property
    def name(self) -> str:
        """The recipient as records name it."""
        return f"{self.kind}:{self.slot_id.hex()}"


class ChainNote(NamedTuple):
    """What later parts of a chain need.

    Attributes:
        chain_id: 16 bytes.
        inventory_key: Opens the inventories of its parts.
        recipients: Who can open it.
    """

    chain_id: bytes
    inventory_key: KeyBytes
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class BackupNote:
    """One part of a backup that was made, or begun.

    Attributes:
        backup: The id of its chain, in hexadecimal digits.
        part: Its number in it.
        begun: When it was begun.
        place: The folder it was written to, as it was named then.
        recipients: The schemes of the keys that open it.
        is_finished: Whether it was read back and found whole. One that is not may still lie somewhere.
        record_count: The number of records of the state that it holds.
        size_bytes: Of its file.
        digest: The SHA-256 of its file, in hexadecimal digits.
        scope_count: How many sealed scopes the state has.
        scopes: The paths of those that the vault named.
    """

    backup: str
    part: int
    begun: datetime
    place: str
    recipients: tuple[str, ...]
    is_finished: bool = False
    record_count: int = 0
    size_bytes: int = 0
    digest: str = ""
    scope_count: int = 0
    scopes: tuple[str, ...] = ()


def draft_chain(opened: OpenVault, publication: Publication, chain: ChainNote, author: str) -> Plan:
    """Return the draft of the note of a new chain."""
    recipients = [
        {"slot": each.slot_id.hex(), "public": _text(each.public_key), "kind": each.kind} for each in chain.recipients
    ]
    content = {"v": _VERSION, "key": _text(chain.inventory_key), "recipients": recipients}
    return _draft(opened, publication, _path(chain.chain_id), content, author)


def draft_part(
    opened: OpenVault, publication: Publication, chain_id: bytes, content: dict[str, object], author: str
) -> Plan:
    """Return the draft of the note of a part: with its size and digest once it is known to be whole."""
    path = _path(chain_id) + f"/{content['part']:06}".encode()
    return _draft(opened, publication, path, {"v": _VERSION} | content, author)


def find_chain(opened: OpenVault, chain_id: bytes) -> ChainNote | None:
    """Return what the vault knows of a chain, or None where it knows nothing.

    Raises:
        Tampered: The note is damaged.
    """
    content: dict[str, Any] | None = opened.system_document(_path(chain_id), None)
    if content is None:
        return None
    with parsing(opened, _path(chain_id)):
        recipients = tuple(
            Recipient(bytes.fromhex(each["slot"]), b64decode(each["public"]), each["kind"])
            for each in content["recipients"]
        )
        return ChainNote(chain_id, KeyBytes(b64decode(content["key"])), recipients)


def find_notes(opened: OpenVault) -> list[BackupNote]:
    """Return all parts that were begun, by the time they were.

    Raises:
        Tampered: A note is damaged.
    """
    opened.refresh()
    notes = []
    for path, _ in opened.entries(_NOTES, prefix_end(_NOTES)):
        with parsing(opened, path):
            note = _parse(opened, path)
            if note is not None:
                notes.append(note)
    return sorted(notes, key=lambda note: (note.begun, note.backup, note.part))


def _parse(opened: OpenVault, path: bytes) -> BackupNote | None:
    """Return what a note says of a part; None where it is about a chain."""
    chain, _, part = path.removeprefix(_NOTES).decode().partition("/")
    if not part:
        return None
    known = find_chain(opened, bytes.fromhex(chain))
    content: dict[str, Any] = opened.system_document(path, {})
    kinds = tuple(recipient.kind for recipient in known.recipients) if known is not None else ()
    return BackupNote(
        chain,
        int(part),
        to_datetime(content["begun"]),
        content["place"],
        kinds,
        "digest" in content,
        content.get("size", 0),
        content.get("bytes", 0),
        content.get("digest", ""),
        content.get("scope_count", 0),
        tuple(content.get("scopes", ())),
    )


def _path(chain_id: bytes) -> bytes:
    return _NOTES + chain_id.hex().encode()


def _draft(opened: OpenVault, publication: Publication, path: bytes, content: dict[str, object], author: str) -> Plan:
    encoded = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    written = Content.of(KIND_TEXT, encoded)
    return Drafts(opened, publication).write(path, written, NewVersion(author, opened.clock.now_ns()))


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
