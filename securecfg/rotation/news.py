"""Which rotations were changed last: a document that whoever waits for the next one looks at, instead of at all.

Each version of it says what was changed in its transaction and in those before, as far as there is room. Its number
tells whoever has seen an earlier one how many of them are news.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from securecfg.crypto import KIND_TEXT
from securecfg.vault.documents import decode_document, parsing, verify_shape
from securecfg.vault.drafts import Content
from securecfg.vault.paths import ROTATION_NEWS_PATH

if TYPE_CHECKING:
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts, NewVersion
    from securecfg.vault.opened import OpenVault

KEPT = 128
"""How many changes are remembered; who has missed more looks at all rotations."""


class News(NamedTuple):
    """What was changed.

    Attributes:
        number: Of the document's version, 0 where nothing ever was.
        records: The numbers of the secrets whose rotations were changed, the newest first.
    """

    number: int = 0
    records: tuple[int, ...] = ()

    def since(self, number: int) -> tuple[int, ...] | None:
        """Return whose rotations were changed since a version, None where they are too many to tell."""
        count = self.number - number
        if not 0 <= count <= len(self.records):
            return None
        return tuple(dict.fromkeys(self.records[:count]))


def read_news(opened: OpenVault) -> News:
    """Return the news as of the state that was read last.

    Raises:
        Tampered: The document is damaged.
    """
    found = opened.numbered_bytes(ROTATION_NEWS_PATH)
    if found is None:
        return News()
    with parsing(opened, ROTATION_NEWS_PATH):
        records = decode_document(found[1])
        verify_shape(records, list, int)
        return News(found[0], tuple(records))


def draft_news(drafts: Drafts, record: int, new: NewVersion) -> Plan:
    """Return the draft that tells of a change, with those that are drafted before it in the same transaction."""
    _, content = drafts.document(ROTATION_NEWS_PATH)
    try:
        known = decode_document(content) if content else []
        verify_shape(known, list, int)
    except (TypeError, ValueError):
        known = []  # who reads it finds that it is damaged; a change is not kept from happening
    encoded = json.dumps([record, *known][:KEPT], separators=(",", ":")).encode()
    return drafts.supersede(ROTATION_NEWS_PATH, Content.of(KIND_TEXT, encoded), new._replace(expect=None))
