"""What is known of the last run of a synchronisation: a document of the vault, of one principal and two sides.

Section 4 of `docs/security/synchronisation.md`. It lies at one of two paths; a new one is written at the other, and
the old one destroyed in the same publication, so that the vault does not grow with each run.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.audit import Event
from securecfg.clock import to_datetime
from securecfg.crypto import KEY_BYTES, KIND_TEXT
from securecfg.errors import Conflict, DestroyPending
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.documents import parsing, verify_shape
from securecfg.vault.drafts import Content, NewVersion
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import SYNCS
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.writing import WantedChange, Writes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts
    from securecfg.vault.opened import OpenVault

_ID_DIGITS = 32
_VERSION = 1
_PLACES = (b"/0", b"/1")


class LastRun(NamedTuple):
    """What the last run of a synchronisation saw.

    Attributes:
        from_: The first side.
        to: The second one.
        key: What the digests are made with, 32 bytes.
        digests: Of each name, when both sides were alike last.
        finished: When the run ended that said this first; None where there was none.
        counts: What that run found, by line.
    """

    from_: str
    to: str
    key: bytes
    digests: Mapping[str, bytes]
    finished: datetime | None = None
    counts: Mapping[str, int] = {}

    def __repr__(self) -> str:
        """Show which sides, and neither key nor digests."""
        return f"LastRun({self.from_!r}, {self.to!r})"


class LastRuns:
    """The last runs of one principal.

    Args:
        authority: For whom; of the vault itself.

    Raises:
        NotAuthenticated: Nobody says for whom.
    """

    def __init__(self, authority: Authority) -> None:
        """Read nothing yet."""
        self._authority, self._opened = authority, authority.opened
        authority.filter_listed(["-"])  # what is nobody's would be everybody's

    def find(self, from_: str, to: str) -> LastRun:
        """Return the last run between two sides; one with a new key where there was none.

        Raises:
            Tampered: The document is damaged.
        """
        self._opened.refresh()
        live = _live(self._opened, self._path(from_, to))
        if live is None:
            return LastRun(from_, to, os.urandom(KEY_BYTES), {})
        return _read(self._opened, live)

    def all(self) -> list[LastRun]:
        """Return the last run between any two sides.

        Raises:
            Tampered: A document is damaged.
        """
        self._opened.refresh()
        live = [path for path, entry in self._opened.entries(SYNCS, prefix_end(SYNCS)) if entry.live]
        runs = [(path, _read(self._opened, path)) for path in live]
        own = [run for path, run in runs if path.startswith(self._path(run.from_, run.to))]
        return sorted(own, key=lambda run: (run.from_, run.to))

    def finish(self, run: LastRun, count: int) -> None:
        """Record what a run came to, and keep what it saw where that is news.

        Args:
            run: What is to be kept.
            count: How many secrets were written or deleted.

        Raises:
            Conflict: Another run between the sides ends in the same moment.
        """
        obj = {"path": run.from_, "to": run.to, "count": count}
        known = self.find(run.from_, run.to)
        if (known.key, known.digests, known.counts) == (run.key, run.digests, run.counts):
            session = self._authority.session()
            self._authority.publish_records([session.record(Event.SYNC_FINISHED, obj)])
            return
        path = self._path(run.from_, run.to)
        principal, now = self._authority.identity.principal, self._opened.clock.now_ns()
        content = _encode(run, principal, now)

        def draft(drafts: Drafts) -> Plan:
            if not drafts.is_settled(path + place for place in _PLACES):
                message = "another run between these sides ends in the same moment"
                raise Conflict(message, hint="run it again")
            live = _live(self._opened, path)
            goal = next(path + place for place in _PLACES if path + place != live)
            plan = drafts.write(goal, content, NewVersion(principal, now))
            if live is not None:
                plan.join(drafts.destroy(live, drafts.number(live, "current")))
                plan.state["flags"] = self._opened.replica.state.flags | FLAG_DESTRUCTION_PENDING
            return plan

        Writes(self._authority).apply(WantedChange((), draft, Event.SYNC_FINISHED, lambda _: obj))
        if self._opened.is_destruction_pending:
            with suppress(DestroyPending):  # it stays noted, and what the run came to is told
                finish_destruction(self._opened)

    def _path(self, from_: str, to: str) -> bytes:
        name = f"{self._authority.identity.principal}\x00{from_}\x00{to}"
        return SYNCS + sha256(name.encode()).hexdigest()[:_ID_DIGITS].encode()


def _live(opened: OpenVault, path: bytes) -> bytes | None:
    for place in _PLACES:
        entry = opened.entry(path + place)
        if entry is not None and entry.live:
            return path + place
    return None


def _read(opened: OpenVault, path: bytes) -> LastRun:
    document: Any = opened.system_document(path, {})
    with parsing(opened, path):
        verify_shape(document["digests"], dict, str)
        verify_shape(document["counts"], dict, int)
        return LastRun(
            document["from"],
            document["to"],
            bytes.fromhex(document["key"]),
            {name: bytes.fromhex(digest) for name, digest in document["digests"].items()},
            to_datetime(document["finished"]),
            document["counts"],
        )


def _encode(run: LastRun, principal: str, now_ns: int) -> Content:
    document = {
        "v": _VERSION,
        "by": principal,
        "from": run.from_,
        "to": run.to,
        "key": run.key.hex(),
        "finished": now_ns,
        "counts": dict(run.counts),
        "digests": {name: digest.hex() for name, digest in run.digests.items()},
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Content.of(KIND_TEXT, text.encode())
