"""What a vault remembers of the bundles that it has published, so that later ones can build on them.

It is two documents. What was published, and for whom, is for everybody who sees the vault's own documents. The keys of
the messages lie in another one, which in a sealed scope only those open who read its values.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.crypto import KIND_TEXT
from securecfg.vault.bundles.format import Base, Index, PublishedVersion, message_key
from securecfg.vault.documents import parsing
from securecfg.vault.drafts import Content
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import BUNDLE_KEYS, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.crypto import KeyBytes
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts, NewVersion
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

    Commitments = Mapping[tuple[str, int], str]

_NOTES = SYSTEM + b"bundles/"
_CARRIED = SYSTEM + b"carried-bundles/"
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


class Noted(NamedTuple):
    """What a vault remembers of a bundle.

    Attributes:
        role: Whose it is.
        policy: The digest of the policy that decided.
        issued: When it was published.
        digest: The SHA-256 of its body, in hexadecimal digits.
        recipients: Who can open it, and the fingerprints of their keys.
        versions: What was published of this part of the vault: path, number, when it was written, and to which value it
            belongs.
    """

    role: str
    policy: str
    issued: int
    digest: str
    recipients: Mapping[str, str]
    versions: tuple[tuple[str, int, int, str], ...]


def note_path(bundle_id: bytes) -> bytes:
    """Return the path of the note of a bundle."""
    return _NOTES + bundle_id.hex().encode()


def keys_path(bundle_id: bytes) -> bytes:
    """Return the path of the document with the keys of a bundle."""
    return BUNDLE_KEYS + bundle_id.hex().encode()


def note_content(noted: Noted) -> Content:
    """Return the content of the note of a bundle."""
    return _content({"v": _VERSION} | noted._asdict())


def keys_content(base: Base, file_key: KeyBytes, index: Index) -> Content:
    """Return the content of the document with the keys of a bundle: its index as the next one finds it.

    Args:
        base: The bundle.
        file_key: Its key, which is not in it: it would open what lies in other parts of the vault.
        index: What is in it of one part of the vault.
    """

    def shifted(version: PublishedVersion) -> PublishedVersion:
        key = version.key if version.depth else message_key(file_key, base.bundle_id, version.message)
        return version._replace(depth=version.depth + 1, key=key)

    secrets = {
        path: secret._replace(versions=tuple(map(shifted, secret.versions))) for path, secret in index.secrets.items()
    }
    later = index._replace(bases=(base, *index.bases), secrets=secrets, scopes=())
    return _content({"v": _VERSION, "index": b64encode(later.to_bytes()).decode()})


def published_by(opened: OpenVault) -> Iterator[Noted]:
    """Yield what the vault remembers of each bundle that it has published.

    Raises:
        Tampered: What it remembers is malformed.
    """
    return _noted_below(opened, _NOTES)


def given_from(opened: OpenVault) -> Iterator[Noted]:
    """Yield what bundles gave of the secrets of a part of the vault, those included that were elsewhere then."""
    yield from published_by(opened)
    yield from _noted_below(opened, _CARRIED)


def is_about(opened: OpenVault, noted: tuple[str, int, int], path: bytes) -> bool:
    """Return whether a note of a version is about the secret at a path that has such a version.

    Secrets that were written at one time have versions of one time. The one that is where the note says is meant, and
    where there is none any more whichever it may be.

    Args:
        opened: The part.
        noted: The path then, the version's number, and when it was written.
        path: Where the secret is now.
    """
    then, number, created = noted
    encoded = then.encode()
    entry = opened.replica.index.get(encoded) if encoded != path else None
    if entry is None:
        return True
    try:
        return opened.locate(encoded, entry, number).version.created != created
    except KeyError:
        return True


def entries_of_bundles(opened: OpenVault) -> dict[bytes, Entry]:
    """Return what tells the notes of `given_from` from others, as of the state that was read last."""
    index = opened.replica.index
    return {path: entry for below in (_NOTES, _CARRIED) for path, entry in index.scan(below, prefix_end(below))}


def draft_carried_bundle(drafts: Drafts, noted: Noted, move_id: str, new: NewVersion) -> Plan:
    """Return the draft of a note of what a bundle gave of secrets that came from another part.

    Args:
        drafts: In the part that they came to.
        noted: What it gave of them, under the paths that they have now.
        move_id: Names the move.
        new: Who moved them, and when.
    """
    return drafts.write(_CARRIED + f"{move_id}-{noted.digest}".encode(), note_content(noted), new)


def find_earlier(opened: OpenVault, bundle_id: bytes) -> Earlier | None:
    """Return what the vault remembers of a bundle, or None where it published none of that id.

    Raises:
        ScopeSealed: It is a sealed scope whose values the key at hand does not open.
        Tampered: What it remembers is malformed.
    """
    note: dict[str, Any] = opened.system_document(note_path(bundle_id), {})
    keys: dict[str, Any] = opened.system_document(keys_path(bundle_id), {})
    if not (note and keys):
        return None
    with parsing(opened, keys_path(bundle_id)):
        index, noted = Index.parse(b64decode(keys["index"])), _noted(note)
    versions = {
        (path, version.number): version for path, secret in index.secrets.items() for version in secret.versions
    }
    commitments = {(path, number): text for path, number, _, text in noted.versions}
    return Earlier(noted.role, index.bases, versions, commitments)


def _noted_below(opened: OpenVault, prefix: bytes) -> Iterator[Noted]:
    for path, entry in opened.entries(prefix, prefix_end(prefix)):
        if entry.live:
            document: dict[str, Any] = opened.system_document(path, {})
            with parsing(opened, path):
                noted = _noted(document)
            yield noted


def _noted(note: dict[str, Any]) -> Noted:
    versions = tuple(
        (str(path), int(number), int(created), str(text)) for path, number, created, text in note["versions"]
    )
    told = str(note["role"]), str(note["policy"]), int(note["issued"]), str(note["digest"])
    return Noted(*told, dict(note["recipients"]), versions)


def _content(note: dict[str, Any]) -> Content:
    encoded = json.dumps(note, separators=(",", ":"), ensure_ascii=False).encode()
    return Content.of(KIND_TEXT, encoded)
