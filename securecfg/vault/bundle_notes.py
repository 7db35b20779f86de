"""What a vault remembers of the bundles that it has published, so that later ones can build on them."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.crypto import KIND_TEXT, KeyBytes
from securecfg.vault.bundle_format import Base, Index, PublishedVersion, message_key
from securecfg.vault.drafts import Content
from securecfg.vault.index import prefix_end
from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.vault.opened import OpenVault

    Commitments = Mapping[tuple[str, int], str]

_NOTES = SYSTEM + b"bundles/"
_VERSION = 1


class Earlier(NamedTuple):
    """A bundle that another one may build on.

    Attributes:
        role: Whose it is.
        bases: The bundle itself, and then what it builds on, the nearest first.
        versions: Its versions by path and number, as the next bundle finds them.
        commitments: To which of the vault's values each belongs.
    """

    role: str
    bases: tuple[Base, ...]
    versions: Mapping[tuple[str, int], PublishedVersion]
    commitments: Commitments


def note_path(bundle_id: bytes) -> bytes:
    """Return the path of the note of a bundle."""
    return _NOTES + bundle_id.hex().encode()


def note_content(
    digest: bytes, file_key: KeyBytes, index: Index, commitments: Commitments, recipients: Mapping[str, str]
) -> Content:
    """Return the content of the note of a bundle.

    Args:
        digest: The SHA-256 of its body.
        file_key: Its key, from which later ones take the keys of single messages.
        index: What is in it.
        commitments: To which of the vault's values its versions belong.
        recipients: Who can open it, and the fingerprints of their keys.
    """
    note = {
        "v": _VERSION,
        "recipients": dict(recipients),
        "digest": digest.hex(),
        "key": b64encode(file_key).decode(),
        "index": b64encode(index.to_bytes()).decode(),
        "commitments": [[path, number, text] for (path, number), text in commitments.items()],
    }
    encoded = json.dumps(note, separators=(",", ":"), ensure_ascii=False).encode()
    return Content(KIND_TEXT, len(encoded), lambda: (encoded,))


def published_to(opened: OpenVault) -> Iterator[tuple[Index, Mapping[str, str]]]:
    """Yield what is in each bundle that the vault has published, and its recipients with their fingerprints."""
    for path, entry in opened.entries(_NOTES, prefix_end(_NOTES)):
        if entry.live:
            note: dict[str, Any] = opened.system_document(path, {})
            yield Index.parse(b64decode(note["index"])), note["recipients"]


def find_earlier(opened: OpenVault, bundle_id: bytes) -> Earlier | None:
    """Return what the vault remembers of a bundle, or None where it published none of that id."""
    note: dict[str, Any] = opened.system_document(note_path(bundle_id), {})
    if not note:
        return None
    index = Index.parse(b64decode(note["index"]))
    bundle, file_key = Base(bundle_id, bytes.fromhex(note["digest"])), KeyBytes(b64decode(note["key"]))
    versions = {
        (path, version.number): version._replace(
            depth=version.depth + 1,
            key=version.key if version.depth else message_key(file_key, bundle_id, version.message),
        )
        for path, secret in index.secrets.items()
        for version in secret.versions
    }
    commitments = {(str(path), int(number)): str(text) for path, number, text in note["commitments"]}
    return Earlier(index.role, (bundle, *index.bases), versions, commitments)
