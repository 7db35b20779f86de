"""Drafts that change keys and nothing that a person sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto import ROOT_SCOPE
from securecfg.store import Delete, Space
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts
from securecfg.vault.index.deltas import FreedRun
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.index.rows import epoch_of
from securecfg.vault.paths import is_vault_document

if TYPE_CHECKING:
    from securecfg.vault.index.history import History, Version

_PAGES_AT_ONCE = 4  # of at most 128 KiB each
_PAGES_MAX = 1 << 16


class KeyDrafts(Drafts):
    """Makes drafts that seal what is there under other keys."""

    def seal_some_anew(self, path: bytes) -> Plan:
        """Return the draft of `seal_anew` as far as one publication takes it; its result is how many pages are left.

        Raises:
            SecretNotFound: The path never held a secret.
        """
        return self.seal_anew(path, _PAGES_AT_ONCE)

    def seal_anew(self, path: bytes, most_pages: int = _PAGES_MAX) -> Plan:
        """Return the draft that seals the history of a secret under the scope key in use.

        Args:
            path: The secret's path.
            most_pages: How many older pages to seal at the most; the result is how many are left then.

        Raises:
            SecretNotFound: The path never held a secret.
        """
        entry, history = self._existing(path)
        active = self._replica.keyring.scope(ROOT_SCOPE).epoch
        plan = Plan()
        older = list(history.older)
        stale = [
            (page, place)
            for page, place in enumerate(history.older)
            if (row := self._workspace.row(Space.HISTORY, place.history_id)) is None or epoch_of(row) != active
        ]
        plan.result = max(0, len(stale) - most_pages)
        for page, place in stale[:most_pages]:
            plan.deletes.append(Delete(Space.HISTORY, place.history_id))
            older[page] = self._put_older(plan, history.rec_id, page, self._page(history, page))
        return self._put_history(plan, path, entry, history._replace(older=tuple(older)))

    def encrypt_anew(self, path: bytes) -> Plan:
        """Return the draft that encrypts every version of a secret under a new data key; its result is how many.

        Raises:
            SecretNotFound: The path never held a secret.
            Tampered: A version does not open.
        """
        entry, history = self._existing(path)
        plan = Plan()
        older = list(history.older)
        count = 0
        for page, place in enumerate(history.older):
            plan.deletes.append(Delete(Space.HISTORY, place.history_id))
            versions = tuple(self._encrypted(plan, history, each) for each in self._page(history, page))
            count += len(versions)
            older[page] = self._put_older(plan, history.rec_id, page, versions)
        versions = tuple(self._encrypted(plan, history, each) for each in history.versions)
        plan = self._put_history(plan, path, entry, history._replace(older=tuple(older), versions=versions))
        plan.result = count + len(versions)
        return plan

    def _encrypted(self, plan: Plan, history: History, version: Version) -> Version:
        if version.state == DESTROYED:
            return version
        content = self._content(history.rec_id, version)
        record, is_system = (history.rec_id, version.number), is_vault_document(history.path)
        place = self._seal_content(plan, record, version.created, content, is_system=is_system)
        plan.deletes += [Delete(Space.DEK, version.dek_id), Delete(Space.VALUE, version.value_id)]
        if version.value_rows:
            plan.freed.append(FreedRun(Space.VALUE, version.value_id + 1, version.value_rows))
        return version._replace(**place._asdict())
