"""Drafts of changes to secrets: from the state of the index to the rows and entries that replace it.

A draft is made against a `Workspace`: a publication in the making, or a staging for more rows than one publication may
hold. It writes nothing itself.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

from securecfg.crypto import (
    FORM_CHUNKED,
    FORM_INLINE,
    INLINE_LIMIT_BYTES,
    ROOT_SCOPE,
    ChunkedValueKey,
    ValueKey,
    count_value_rows,
    generate_key,
    seal_value,
    value_context,
)
from securecfg.errors import (
    AlreadyExists,
    ConfusablePath,
    InvalidMetadata,
    SecretDestroyed,
    SecretNotFound,
    StaleWrite,
    Tampered,
    ValueTooLarge,
    VersionNotFound,
)
from securecfg.store import Delete, Put, Space, to_put
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.index.deltas import FreedRun
from securecfg.vault.index.history import (
    DELETED,
    DESTROYED,
    LIVE,
    History,
    OlderPage,
    Version,
    count_overflow,
    number_of_label,
    to_history,
    to_version,
)
from securecfg.vault.index.segments import FLAG_LIVE, to_entry
from securecfg.vault.paths import is_vault_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from securecfg.vault.index.lookalikes import NewNames
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

VERSIONS_MAX = 100_000
LABELS_MAX = 255
METADATA_BYTES_MAX = 16_384
LOOKALIKE_HINT = "use the existing name, or confirm with `--yes`"


class Workspace(Protocol):
    """What a draft is made against."""

    @property
    def new_names(self) -> Sequence[NewNames]:
        """The names that earlier drafts add."""
        ...

    def entry(self, path: bytes) -> Entry | None:
        """Return the entry of a path, earlier drafts included."""
        ...

    def row(self, space: Space, id_: int) -> bytes | None:
        """Return a row, earlier drafts included."""
        ...

    def allocate(self, count: int = 1) -> int:
        """Return the first of some consecutive ids that were never used."""
        ...


class Content:
    """What is to be sealed as a version's value. No repr shows it.

    Args:
        kind: Bytes, text or fields.
        length: In bytes.
        source: The content, or what gives it in pieces, from the start each time it is called.
    """

    __slots__ = ("_source", "kind", "length")

    def __init__(self, kind: int, length: int, source: bytes | Callable[[], Iterable[bytes]]) -> None:
        """Keep where the content comes from."""
        self.kind, self.length, self._source = kind, length, source

    @classmethod
    def of(cls, kind: int, whole: bytes) -> Content:
        """Return content that is at hand."""
        return cls(kind, len(whole), whole)

    def pieces(self) -> Iterable[bytes]:
        """Return the content in pieces, from the start."""
        source = self._source
        return (source,) if isinstance(source, bytes) else source()

    def whole(self) -> bytes:
        """Return the content in one piece."""
        source = self._source
        return source if isinstance(source, bytes) else b"".join(source())

    @property
    def is_inline(self) -> bool:
        """Whether it fits into one row."""
        return self.length <= INLINE_LIMIT_BYTES


class _Place(NamedTuple):
    """Where a sealed value lies."""

    dek_id: int
    value_id: int
    value_rows: int
    commitment: bytes


_to_place = partial(tuple.__new__, _Place)


class NewVersion(NamedTuple):
    """What a write asks for besides its content.

    Attributes:
        author: The principal that writes.
        created: When.
        expires: When it stops being readable, 0 for never.
        metadata: The encoded metadata, or None to keep what the newest version has.
        content_type: Of a configuration document, or empty.
        expect: The newest version that the writer knows of, 0 for none, or None for whatever there is.
        is_lookalike_allowed: Whether a new path may look like one that exists.
    """

    author: str
    created: int
    expires: int = 0
    metadata: bytes | None = None
    content_type: str = ""
    expect: int | None = None
    is_lookalike_allowed: bool = False


class Drafts:
    """Makes drafts for one open vault, against one workspace.

    Args:
        opened: The vault.
        workspace: What there is, and where ids come from.
    """

    def __init__(self, opened: OpenVault, workspace: Workspace) -> None:
        """Make nothing yet."""
        self._opened = opened
        self._workspace = workspace
        self._replica = opened.replica

    def is_settled(self, paths: Iterable[bytes]) -> bool:
        """Return whether no earlier draft of the same publication changes one of some paths."""
        return all(self._workspace.entry(path) == self._opened.entry(path) for path in paths)

    def write(self, path: bytes, content: Content, new: NewVersion) -> Plan:
        """Return the draft of a new version; its result is the version's number.

        Raises:
            StaleWrite: The newest version is not the one expected.
            ConfusablePath: The path is new and looks like one that exists.
            ValueTooLarge: The secret has as many versions as the format allows.
        """
        entry = self._workspace.entry(path)
        history = self._history(path, entry) if entry is not None else self._new_history(path, new)
        _verify_expected(history, new)
        _verify_room(history)
        rec_id, owner, newest, current, previous, pending, older, labels, versions = history
        number = newest + 1
        plan = Plan(result=number)
        version = self._seal_value(plan, history, content, new)
        # Without `_replace`, which takes as long as sealing the page.
        history = to_history(
            (rec_id, owner, number, number, current or previous, pending, older, labels, (version, *versions))
        )
        return self._put_history(plan, path, entry, history)

    def replace(self, path: bytes, content: Content, new: NewVersion) -> Plan:
        """Return the draft of a new version in place of the current one, whose value and data key are removed for ever.

        Raises:
            As for `write`.
        """
        entry = self._workspace.entry(path)
        current = self._history(path, entry).current if entry is not None else 0
        if entry is None or not current:
            return self.write(path, content, new)
        history = self._history(path, entry)
        plan = Plan(result=history.newest + 1)
        old = self._version(history, current)
        self._remove_value(plan, old)
        history = self._replace_version(plan, _without_marks(history, current), old.destroyed())
        version = self._seal_value(plan, history, content, new)
        number = history.newest + 1
        history = history._replace(newest=number, current=number, versions=(version, *history.versions))
        return self._put_history(plan, path, entry, history)

    def supersede(self, path: bytes, content: Content, new: NewVersion) -> Plan:
        """Return the draft of a document's new version that leaves none of its former ones in its history.

        For documents of the vault that change without end. Numbers go on, so that `expect` compares as for `write`.

        Raises:
            StaleWrite: The newest version is not the one expected.
        """
        entry = self._workspace.entry(path)
        history = self._history(path, entry) if entry is not None else self._new_history(path, new)
        _verify_expected(history, new)
        plan = Plan(result=history.newest + 1)
        for version in history.versions:
            self._remove_value(plan, version)
        version = self._seal_value(plan, history._replace(versions=()), content, new)
        number = version.number
        return self._put_history(plan, path, entry, History(history.rec_id, path, number, number, versions=(version,)))

    def propose(self, path: bytes, content: Content, new: NewVersion) -> Plan:
        """Return the draft of a version that is `pending` and not current; an earlier candidate is deleted.

        Raises:
            SecretNotFound: There is no live secret at the path.
            ValueTooLarge: The secret has as many versions as the format allows.
        """
        entry, history = self._existing(path)
        if not history.current:
            raise _no_secret(path)
        _verify_room(history)
        plan = Plan(result=history.newest + 1)
        if history.pending:
            former = self._version(history, history.pending)
            deleted = former._replace(state=DELETED, deleted=new.created)
            history = self._replace_version(plan, _without_marks(history, former.number), deleted)
        version = self._seal_value(plan, history, content, new)
        number = version.number
        history = history._replace(newest=number, pending=number, versions=(version, *history.versions))
        return self._put_history(plan, path, entry, history)

    def release_pending(self, path: bytes) -> Plan:
        """Return the draft that takes the label `pending` from a version, which stays as any other one.

        Raises:
            SecretNotFound: The path never held a secret.
        """
        entry, history = self._existing(path)
        return self._put_history(Plan(result=history.pending), path, entry, history._replace(pending=0))

    def swap(self, path: bytes, number: int) -> Plan:
        """Return the draft that makes a live version current, what was current previous, and it not pending.

        Its result is the number of the version that was current.

        Raises:
            SecretNotFound: There is no live secret at the path.
            VersionNotFound: It has no such live version.
            SecretDestroyed: The version was destroyed.
        """
        entry, history = self._existing(path)
        if not history.current:
            raise _no_secret(path)
        if self._version(history, number).state == DELETED:
            message = f"version {number} of `{path.decode()}` is deleted"
            raise VersionNotFound(message, hint=f"`securecfg secret undelete {path.decode()} {number}` brings it back")
        pending = 0 if history.pending == number else history.pending
        previous = history.current if history.current != number else history.previous
        history = history._replace(current=number, previous=previous, pending=pending)
        return self._put_history(Plan(result=previous), path, entry, history)

    def delete(self, path: bytes, number: int | None, now_ns: int) -> Plan:
        """Return the draft of a soft deletion, of the current version or of one; its result is the number.

        Raises:
            SecretNotFound: There is no live secret at the path.
            VersionNotFound: It has no such version.
            SecretDestroyed: The version was destroyed.
        """
        entry, history = self._existing(path)
        if number is None and not history.current:
            raise _no_secret(path)
        number = history.current if number is None else number
        version = self._version(history, number)
        changed = version if version.state == DELETED else version._replace(state=DELETED, deleted=now_ns)
        plan = Plan(result=number)
        history = self._replace_version(plan, _without_marks(history, number), changed)
        return self._put_history(plan, path, entry, history)

    def undelete(self, path: bytes, number: int) -> Plan:
        """Return the draft that brings a deleted version back.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version.
            SecretDestroyed: The version was destroyed.
        """
        entry, history = self._existing(path)
        version = self._version(history, number)
        plan = Plan(result=number)
        history = self._replace_version(plan, history, version._replace(state=LIVE, deleted=0))
        if number > history.current:
            history = history._replace(current=number, previous=history.current or history.previous)
        return self._put_history(plan, path, entry, history)

    def destroy(self, path: bytes, number: int) -> Plan:
        """Return the draft that removes a version's value and data key for ever.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version.
            SecretDestroyed: It was destroyed before.
        """
        entry, history = self._existing(path)
        version = self._version(history, number)
        plan = Plan(result=number)
        self._remove_value(plan, version)
        history = self._replace_version(plan, _without_marks(history, number), version.destroyed())
        return self._put_history(plan, path, entry, history)

    def label(self, path: bytes, name: str, number: int | None) -> Plan:
        """Return the draft that makes a label point at a version, or at nothing.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version, or no such label to remove.
            SecretDestroyed: The version was destroyed.
            InvalidMetadata: The secret has as many labels as the format allows.
        """
        entry, history = self._existing(path)
        labels = dict(history.labels)
        if number is None:
            if labels.pop(name, None) is None:
                message = f"`{path.decode()}` has no label `{name}`"
                raise VersionNotFound(message)
        else:
            labels[name] = self._version(history, number).number
        if len(labels) > LABELS_MAX:
            message = f"a secret has at most {LABELS_MAX} labels"
            raise InvalidMetadata(message)
        return self._put_history(Plan(result=number), path, entry, history._replace(labels=labels))

    def move(self, path: bytes, target: bytes, *, is_lookalike_allowed: bool) -> Plan:
        """Return the draft that gives a secret another path: its data keys and values stay.

        Raises:
            SecretNotFound: There is no live secret at the path.
            AlreadyExists: The target holds a secret or its history.
            ConfusablePath: The target is new and looks like a path that exists.
        """
        entry, history = self._existing(path)
        if not entry.live:
            raise _no_secret(path)
        if self._workspace.entry(target) is not None:
            message = f"`{target.decode()}` exists already"
            raise AlreadyExists(message, hint="choose another path; even a deleted secret keeps its history")
        self._check_lookalike(target, is_allowed=is_lookalike_allowed)
        plan = self._put_history(Plan(result=history.newest), target, entry, history._replace(path=target))
        plan.changes.insert(0, (path, None))
        return plan

    def roll_back(self, path: bytes, number: int, new: NewVersion) -> Plan:
        """Return the draft of a new version with the value of an old one; its result is the new number.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version, or it is deleted.
            SecretDestroyed: The version was destroyed.
            StaleWrite: The newest version is not the one expected.
        """
        entry, history = self._existing(path)
        version = self._version(history, number)
        if version.state == DELETED:
            message = f"version {number} of `{path.decode()}` is deleted"
            raise VersionNotFound(message, hint=f"`securecfg secret undelete {path.decode()} {number}` brings it back")
        content = self._content(entry.rec_id, version)
        return self.write(path, content, new._replace(metadata=version.metadata, content_type=version.content_type))

    def document(self, path: bytes) -> tuple[int, bytes]:
        """Return the number and the content of a document's current version, earlier drafts included; 0 for none."""
        entry = self._workspace.entry(path)
        if entry is None or not entry.live:
            return 0, b""
        history = self._history(path, entry)
        version = self._version(history, history.current)
        return version.number, self._content(entry.rec_id, version).whole()

    def record(self, path: bytes) -> int:
        """Return the number of the secret at a path, 0 where there never was one."""
        entry = self._workspace.entry(path)
        return entry.rec_id if entry is not None else 0

    def number(self, path: bytes, version: int | str) -> int:
        """Return the number that a version or label stands for.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: The label points at nothing.
        """
        if isinstance(version, int):
            return version
        _, history = self._existing(path)
        try:
            return number_of_label(history, version)
        except KeyError:
            message = f"`{path.decode()}` has no version `{version}`"
            hint = f"`securecfg secret history {path.decode()}` lists its versions"
            raise VersionNotFound(message, hint=hint) from None

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _history(self, path: bytes, entry: Entry) -> History:
        row = self._workspace.row(Space.HISTORY, entry.history_id)
        return self._replica.rows.open_history(row, entry.rec_id, path, entry.digest)

    def _new_history(self, path: bytes, new: NewVersion) -> History:
        self._check_lookalike(path, is_allowed=new.is_lookalike_allowed)
        return to_history((self._workspace.allocate(), path, 0, 0, 0, 0, (), {}, ()))

    def _check_lookalike(self, path: bytes, *, is_allowed: bool) -> None:
        if is_allowed or path.startswith(b"\x01"):
            return
        alike = self._opened.lookalikes.find(self._replica.index, path, self._workspace.new_names)
        if alike is not None:
            message = f"`{path.decode()}` looks like `{alike}`, which exists"
            error = ConfusablePath(message, hint=LOOKALIKE_HINT)
            error.alike = alike
            raise error

    def _existing(self, path: bytes) -> tuple[Entry, History]:
        entry = self._workspace.entry(path)
        if entry is None:
            raise _no_secret(path)
        return entry, self._history(path, entry)

    def _version(self, history: History, number: int) -> Version:
        version = history.find(number)
        if version is None:
            for page, place in enumerate(history.older):
                if place.first <= number <= place.last:
                    version = next((old for old in self._page(history, page) if old.number == number), None)
        path = history.path.decode()
        if version is None:
            message = f"`{path}` has no version `{number}`"
            raise VersionNotFound(message, hint=f"`securecfg secret history {path}` lists its versions")
        if version.state == DESTROYED:
            message = f"version {number} of `{path}` was destroyed"
            raise SecretDestroyed(message, hint=f"`securecfg secret history {path}` shows what is left")
        return version

    def _page(self, history: History, page: int) -> tuple[Version, ...]:
        place = history.older[page]
        row = self._workspace.row(Space.HISTORY, place.history_id)
        return self._replica.rows.open_older_page(row, history.rec_id, page, place.digest)

    @staticmethod
    def _remove_value(plan: Plan, version: Version) -> None:
        plan.deletes += [Delete(Space.DEK, version.dek_id), Delete(Space.VALUE, version.value_id)]
        if version.value_rows:
            plan.freed.append(FreedRun(Space.VALUE, version.value_id + 1, version.value_rows))

    def _replace_version(self, plan: Plan, history: History, changed: Version) -> History:
        if history.find(changed.number) is not None:
            return history.with_replaced(changed)
        older = list(history.older)
        for page, place in enumerate(older):
            if place.first <= changed.number <= place.last:
                versions = tuple(
                    changed if version.number == changed.number else version for version in self._page(history, page)
                )
                plan.deletes.append(Delete(Space.HISTORY, place.history_id))
                older[page] = self._put_older(plan, history.rec_id, page, versions)
        return history._replace(older=tuple(older))

    def _seal_value(self, plan: Plan, history: History, content: Content, new: NewVersion) -> Version:
        number = history.newest + 1
        author, created, expires, metadata, content_type, _, _ = new
        if metadata is None:
            metadata = history.versions[0].metadata if history.versions else b""
        if len(metadata) > METADATA_BYTES_MAX:
            message = f"metadata has at most {METADATA_BYTES_MAX} bytes"
            raise InvalidMetadata(message)
        is_system = is_vault_document(history.path)
        dek_id, value_id, value_rows, commitment = self._seal_content(
            plan, (history.rec_id, number), created, content, is_system=is_system
        )
        # In the order of its fields, which takes half the time.
        return to_version(
            (
                number,
                LIVE,
                content.kind,
                dek_id,
                value_id,
                value_rows,
                content.length,
                commitment,
                created,
                expires,
                0,  # not deleted
                author,
                content_type,
                metadata,
            )
        )

    def _seal_content(
        self, plan: Plan, record: tuple[int, int], created: int, content: Content, *, is_system: bool
    ) -> _Place:
        """Seal a value under a new data key, and return where both will lie."""
        data_keys = self._replica.data_keys
        data_keys.verify_size(content.length)
        dek = generate_key()
        rows = 0 if content.is_inline else count_value_rows(content.length)
        dek_id = self._workspace.allocate(2 + rows)
        value_id = dek_id + 1
        plan.puts.append(to_put((Space.DEK, dek_id, data_keys.seal(dek, dek_id, is_system=is_system))))
        if not rows:
            ctx = value_context(data_keys.vault_id, ROOT_SCOPE, record, created, FORM_INLINE)
            row, commitment = seal_value(dek, ctx, content.kind, content.whole())
            plan.puts.append(to_put((Space.VALUE, value_id, row)))
            return _to_place((dek_id, value_id, 0, data_keys.name(commitment, (row,))))
        ctx = value_context(data_keys.vault_id, ROOT_SCOPE, record, created, FORM_CHUNKED)
        chunked = ChunkedValueKey(dek, ctx)
        plan.puts.append(Put(Space.VALUE, value_id, chunked.record))
        sealed = chunked.seal(content.kind, content.length, content.pieces())
        if data_keys.grants is None:
            plan.streams.append((Space.VALUE, value_id + 1, sealed))
            return _Place(dek_id, value_id, rows, chunked.commitment)
        whole = list(sealed)
        plan.streams.append((Space.VALUE, value_id + 1, iter(whole)))
        return _Place(dek_id, value_id, rows, data_keys.name(chunked.commitment, (chunked.record, *whole)))

    def _content(self, rec_id: int, version: Version) -> Content:
        """Return an old version's content, to be sealed anew; it does not leave this process."""
        dek = self._opened.unwrap_data_key(version.dek_id, self._workspace.row(Space.DEK, version.dek_id))
        data_keys = self._replica.data_keys
        ctx = self._opened.value_context(rec_id, version)
        row = self._workspace.row(Space.VALUE, version.value_id) or b""
        if not version.value_rows:
            key = ValueKey(dek, ctx)
            kind, whole = key.open(row, data_keys.expect(version.commitment, key.commitment, (row,)))
            return Content.of(kind, whole)

        def pieces() -> Iterable[bytes]:
            numbers = range(version.value_id + 1, version.value_id + 1 + version.value_rows)
            rows: Iterable[bytes] = map(self._part_of_value, numbers)
            chunked = ChunkedValueKey(dek, ctx)
            if data_keys.grants is not None:
                rows = list(rows)
            expected = data_keys.expect(version.commitment, chunked.commitment, chain((row,), rows))
            return chunked.open(row, expected, rows)

        return Content(version.kind, version.length, pieces)

    def _part_of_value(self, number: int) -> bytes:
        row = self._workspace.row(Space.VALUE, number)
        if row is None:
            message = "a part of a large value is missing"
            raise Tampered(message)
        return row

    def _put_older(self, plan: Plan, rec_id: int, page: int, versions: tuple[Version, ...]) -> OlderPage:
        row = self._replica.rows.seal_older_page(rec_id, page, versions)
        history_id = self._workspace.allocate()
        plan.puts.append(Put(Space.HISTORY, history_id, row))
        return OlderPage(history_id, sha256(row).digest(), versions[-1].number, versions[0].number)

    def _put_history(self, plan: Plan, path: bytes, entry: Entry | None, history: History) -> Plan:
        while count := count_overflow(history.versions):
            moved, kept = history.versions[-count:], history.versions[:-count]
            older = self._put_older(plan, history.rec_id, len(history.older), moved)
            history = history._replace(older=(*history.older, older), versions=kept)
        row = self._replica.rows.seal_history(history)
        history_id = self._workspace.allocate()
        plan.puts.append(to_put((Space.HISTORY, history_id, row)))
        if entry is not None:
            plan.deletes.append(Delete(Space.HISTORY, entry.history_id))
        flags = FLAG_LIVE if history.current else 0
        plan.changes.append((path, to_entry((history.rec_id, history_id, sha256(row).digest(), flags))))
        return plan


def _verify_expected(history: History, new: NewVersion) -> None:
    if new.expect is not None and new.expect != history.newest:
        message = f"`{history.path.decode()}` is at version {history.newest}, not {new.expect}"
        raise StaleWrite(message, hint="read it again, and write with the version you have seen")


def _verify_room(history: History) -> None:
    if history.newest >= VERSIONS_MAX:
        message = f"`{history.path.decode()}` has {VERSIONS_MAX} versions, as many as the format allows"
        raise ValueTooLarge(message, hint="move it away and begin anew")


def _without_marks(history: History, number: int) -> History:
    """Return the page with no label pointing at a version that cannot be read any more."""
    return history._replace(
        current=0 if history.current == number else history.current,
        previous=0 if history.previous == number else history.previous,
        pending=0 if history.pending == number else history.pending,
        labels={name: target for name, target in history.labels.items() if target != number},
    )


def _no_secret(path: bytes) -> SecretNotFound:
    return SecretNotFound(f"there is no secret `{path.decode()}`", hint="`securecfg secret list` shows what there is")
