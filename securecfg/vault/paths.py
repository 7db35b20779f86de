"""What may be a path, a principal, a label or metadata, and which paths look alike.

A path is `/`-separated segments of UTF-8 in NFC, at most 1,024 bytes, case-sensitive. Forbidden are empty, `.` and `..`
segments, any of `# @ { } * ? |`, and characters that people cannot see: control, format, unassigned and private ones,
spaces other than U+0020, and fillers that Unicode calls letters.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from securecfg.errors import InvalidMetadata, InvalidPath

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

PATH_BYTES_MAX = 1_024
SYSTEM = b"\x01"
CHARTER_PATH = SYSTEM + b"charter"
MOUNTS_PATH = SYSTEM + b"mounts"
SYNCS = SYSTEM + b"sync/"
HOMECOMINGS = SYSTEM + b"homecoming/"
ROTATIONS = SYSTEM + b"rotation/"
ROTATION_NEWS_PATH = SYSTEM + b"rotation-news"
SUCCESSION_PATH = SYSTEM + b"succession"
IMPORTS = SYSTEM + b"import/"
BUNDLE_KEYS = SYSTEM + b"bundle-keys/"
UNDO_MATERIAL = b"/material/undo/"
FIRST_USER_PATH = b"\x02"

_PLAIN_PATH = re.compile(r"(?!\.{1,2}(?:/|$))[\w.\-]+(?:/(?!\.{1,2}(?:/|$))[\w.\-]+)*", re.ASCII)
_FORBIDDEN = frozenset("#@{}*?|")
_UNSEEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"))
# Letters and marks that Unicode draws as nothing (Default_Ignorable_Code_Point and the Braille blank).
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(map(chr, range(0xFE00, 0xFE10)))
_UNSEEN_PLANE_14 = range(0xE0000, 0xE1000)
_PRINCIPAL = re.compile(r"(?:user|svc):[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,126}[A-Za-z0-9])?")
_ROLE = r"(?:role:)?([A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?)"
_LABEL = r"[A-Za-z][A-Za-z0-9._-]{0,63}"
_ASCII_LOOKALIKES = str.maketrans({"1": "l", "I": "l", "|": "l", "0": "O", "m": "rn"})

RESERVED_LABELS = frozenset(("current", "previous", "pending"))


@lru_cache(maxsize=65_536)
def path_to_bytes(path: str) -> bytes:
    """Return a path's bytes.

    Raises:
        InvalidPath: It breaks the rules; the message names the first broken one.
    """
    if not isinstance(path, str):
        message = "a path is text"
        raise InvalidPath(message)
    if not _PLAIN_PATH.fullmatch(path):
        _check_unusual(path)
    encoded = path.encode()
    if len(encoded) > PATH_BYTES_MAX:
        message = f"a path of {len(encoded)} bytes is longer than {PATH_BYTES_MAX}"
        raise InvalidPath(message)
    return encoded


def is_vault_document(path: bytes) -> bool:
    """Return whether a path is that of a document of the vault itself which holds no value of a secret."""
    if not path.startswith(SYSTEM):
        return False
    is_undone = path.startswith(IMPORTS) and UNDO_MATERIAL in path
    return not (is_undone or path.startswith(BUNDLE_KEYS))


def scope_among(scopes: Container[str], path: str) -> str | None:
    """Return the innermost of some scopes that a path lies in, None where it lies in none."""
    end = path.rfind("/") + 1
    while end:
        if path[:end] in scopes:
            return path[:end]
        end = path.rfind("/", 0, end - 1) + 1
    return None


def check_prefix(prefix: str) -> bytes:
    """Return the bytes of a prefix for listing: empty, a path, or a path that ends in `/`.

    Raises:
        InvalidPath: It breaks the rules for paths.
    """
    return path_to_bytes(prefix.removesuffix("/")) + b"/" * prefix.endswith("/") if prefix else b""


def check_principal(principal: str) -> str:
    """Return a principal, `user:NAME` or `svc:NAME`.

    Raises:
        InvalidMetadata: It is something else.
    """
    if not isinstance(principal, str) or not _PRINCIPAL.fullmatch(principal):
        message = f"`{_shown(principal)}` is not a principal"
        raise InvalidMetadata(message, hint="a principal is `user:NAME` or `svc:NAME`; letters, digits and . _ @ + -")
    return principal


def check_role(role: str) -> str:
    """Return a role's name without `role:`.

    Raises:
        InvalidMetadata: It is not a role's name.
    """
    match = re.fullmatch(_ROLE, role) if isinstance(role, str) else None
    if match is None:
        message = f"`{_shown(role)}` is not a role"
        raise InvalidMetadata(message, hint="a role is `role:NAME`; a name is letters, digits and . _ -")
    return match[1]


def check_label(label: str) -> str:
    """Return a label that people may set.

    Raises:
        InvalidMetadata: It is not a label, or one of those that belong to the vault.
    """
    if not isinstance(label, str) or not re.fullmatch(_LABEL, label):
        message = f"`{_shown(label)}` is not a label"
        raise InvalidMetadata(message, hint="a label is a letter, then letters, digits and . _ -, 64 at most")
    if label in RESERVED_LABELS:
        message = f"the label `{label}` belongs to the vault"
        raise InvalidMetadata(message, hint="`current`, `previous` and `pending` move by themselves")
    return label


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata as a plain dict of text to text.

    Raises:
        InvalidMetadata: A key or value is not text, or is empty, too long or not printable.
    """
    plain: dict[str, str] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            message = "metadata maps text to text"
            raise InvalidMetadata(message)
        if not key or len(key) > 255 or not key.isprintable():  # noqa: PLR2004 - format 11
            message = "a metadata key is empty, too long or not printable"
            raise InvalidMetadata(message)
        try:
            value.encode()
        except UnicodeEncodeError:
            message = f"the metadata value of `{key}` is not valid Unicode"
            raise InvalidMetadata(message) from None
        plain[key] = value
    return plain


def check_content_type(content_type: str) -> str:
    """Return a content type that can be kept and shown.

    Raises:
        InvalidMetadata: It is not ASCII, too long or not printable.
    """
    if not content_type.isascii() or not content_type.isprintable() or len(content_type) > 255:  # noqa: PLR2004 - format 11
        message = "a content type is printable ASCII and at most 255 characters"
        raise InvalidMetadata(message)
    return content_type


def skeleton(segment: str) -> str:
    """Return what a segment looks like (UTS #39): two segments with the same skeleton are confusable."""
    if not segment.isascii():
        table = _lookalikes()
        decomposed = unicodedata.normalize("NFD", segment)
        segment = unicodedata.normalize("NFD", "".join(table.get(character, character) for character in decomposed))
    return segment.translate(_ASCII_LOOKALIKES)


@cache
def _lookalikes() -> dict[str, str]:
    from confusable_homoglyphs.confusables import (  # type: ignore[import-untyped]  # the package has no types
        confusables_data,
    )

    table = {}
    for character, alike in confusables_data.items():
        if len(character) != 1 or len(alike) != 1 or character.isascii():
            continue
        target = alike[0]["c"].strip("\u200e")
        # A pair that names only each other has no direction of its own: the smaller one stands for both.
        if len(confusables_data.get(target, ())) != 1 or target < character:
            table[character] = target
    return table


def _check_unusual(path: str) -> None:
    if not path:
        message = "a path is empty"
        raise InvalidPath(message)
    for segment in path.split("/"):
        if not segment:
            message = f"`{_shown(path)}` has an empty segment"
            raise InvalidPath(message, hint="a path neither begins nor ends with `/` and has no `//`")
        if segment in {".", ".."}:
            message = f"`{_shown(path)}` has a segment `{segment}`"
            raise InvalidPath(message)
        if segment[0] == " " or segment[-1] == " ":
            message = f"`{_shown(path)}` has a segment that begins or ends with a space"
            raise InvalidPath(message)
    for character in path:
        if character in _FORBIDDEN:
            message = f"`{_shown(path)}` contains `{character}`"
            raise InvalidPath(message, hint="none of # @ { } * ? | may be in a path")
        if _is_unseen(character):
            message = f"`{_shown(path)}` contains the invisible character U+{ord(character):04X}"
            raise InvalidPath(message)
    if not unicodedata.is_normalized("NFC", path):
        message = f"`{_shown(path)}` is not in Unicode normal form C"
        raise InvalidPath(message, hint="write its accented letters as single characters")


def _is_unseen(character: str) -> bool:
    if character == " ":
        return False
    return (
        unicodedata.category(character) in _UNSEEN_CATEGORIES
        or character in _UNSEEN
        or ord(character) in _UNSEEN_PLANE_14
    )


def _shown(text: object) -> str:
    """Return text for a message: short, and with everything unprintable escaped."""
    shown = str(text)[:80]
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in shown
    )
