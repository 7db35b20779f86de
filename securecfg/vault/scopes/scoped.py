"""A vault with sealed scopes: each path is read and written where it lies, as far as the key at hand opens that."""

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

from securecfg.errors import (
    AccessDenied,
    IntegrityError,
    ScopeSealed,
    SecretNotFound,
    SecurecfgError,
    Unsupported,
    VaultClosed,
)
from securecfg.vault.closed import Closed
from securecfg.vault.drops.boxes import DropBoxes, only_drops
from securecfg.vault.paths import check_prefix, check_principal, path_to_bytes, scope_among
from securecfg.vault.scopes.completion import complete
from securecfg.vault.scopes.opening import Doorway, charter_of, gone, trusts_of
from securecfg.vault.scopes.parts import Parts, not_opened
from securecfg.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta
    from typing import BinaryIO

    from securecfg.policy import Explanation
    from securecfg.vault.administration import Administration
    from securecfg.vault.administrators.introductions import Introduction
    from securecfg.vault.auditlog import AuditLog
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.outcomes import Outcome
    from securecfg.vault.drops.boxes import DropBox, Receipt
    from securecfg.vault.drops.dropping import Dropped
    from securecfg.vault.listing import VersionInfo
    from securecfg.vault.moves.relocation import Place
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.reading import At
    from securecfg.vault.references import SecretRef
    from securecfg.vault.values import Plain, SecretVersion, VersionId
    from securecfg.vault.writing import Wanted

    T = TypeVar("T")
    Paths = list[str]
    Versions = list[VersionInfo]
    Results = list[SecretVersion | SecurecfgError]
    Changed = list[object]

# What a part may say of a path that lies elsewhere by now. Nothing was done then.
_ELSEWHERE = (SecretNotFound, AccessDenied, ScopeSealed, IntegrityError)
_GATHERINGS_MAX = 8


class ScopedVault(Vault):
    """A vault and its sealed scopes, or for a member of roles only the scopes that these open. Used as any `Vault`."""

    def __init__(
        self, whole: Vault | None, parts: Parts, close: Callable[[], None], boxes: DropBoxes | None = None
    ) -> None:
        """Take up what is open; programs call `Vault.open`."""
        self._boxes = boxes
        self._whole = whole
        self._parts = parts
        self._close = close
        one = whole or parts.first()
        self._opened, self._authority = one.opened, one.authority

    @classmethod
    def over(cls, vault: Vault, *, is_anchor_required: bool = False, introduction: Introduction | None = None) -> Self:
        """Return a vault that its root has opened with its scopes, which are opened as they are used.

        Raises:
            RollbackSuspected: It is not the one that an introduction is to.
        """
        if introduction is not None:
            from securecfg.vault.administrators.introduced import verify_administrators

            verify_administrators(vault.opened, introduction)

        from securecfg.vault.scopes.ends import erase_put_back

        erase_put_back(vault.opened)

        def open_part(scope: str) -> Vault:
            return _open_by_root(vault, scope, is_anchor_required=is_anchor_required, introduction=introduction)

        return cls(vault, Parts(lambda: _scopes_of(vault.opened), open_part), vault.close)

    @property
    def administration(self) -> Administration:
        """Policy and roles of the whole vault; changes of them reach the scopes too."""
        from securecfg.vault.scopes.scoped_administration import ScopedAdministration

        return ScopedAdministration(self._one().authority)

    @property
    def log(self) -> AuditLog:
        """The audit log of the whole vault, or of the only scope; `scope(path).log` is that of a scope."""
        return self._one().log

    @property
    def opened(self) -> OpenVault:
        """The whole vault, or the only scope."""
        return self._one().opened

    @property
    def authority(self) -> Authority:
        """As `opened`."""
        return self._one().authority

    @property
    def is_by_root(self) -> bool:
        """Whether the vault itself is open, and not only sealed scopes of it."""
        return self._whole is not None

    def parts(self, failures: dict[str, SecurecfgError] | None = None) -> Iterator[tuple[str, Vault]]:
        """Yield the vault itself, where its root opened it, and each sealed scope that the key at hand opens.

        Args:
            failures: Gets the failure of each scope that does not open, which is then passed over.

        Raises:
            Tampered: A scope that the vault knows of is not there.
        """
        if self._whole is not None:
            yield "", self._whole
        for scope, place in sorted(self._parts.names().items()):
            try:
                part = self._unless_ended(scope, place)
            except ScopeSealed:
                missing = gone(scope)
                if failures is None:
                    raise missing from None
                failures[scope] = missing
                continue
            except IntegrityError as error:
                if failures is None:
                    raise
                failures[scope] = error
                continue
            if part is not None:
                yield scope, part

    def part_of(self, path: str) -> tuple[str, Vault]:
        """Return where a path lies; see `Vault.part_of`."""
        if self._whole is not None:
            self._whole.opened.refresh()
        part = self._at(path)
        if part is not self._whole and not part.opened.has_head():
            self._parts.drop(part)
            part = self._at(path)
        return self._parts.of(path) or "", part

    def closed(self, prefix: str = "") -> Closed:
        """Return what may lie below a prefix that the key at hand does not open; see `Vault.closed`."""
        check_prefix(prefix)
        names = sorted(self._parts.names())
        sealed = []
        for scope in names:
            if scope.startswith(prefix) or prefix.startswith(scope):
                try:
                    self._parts.get(scope)
                except ScopeSealed:
                    sealed.append(scope)
        if self._whole is not None:
            return Closed(is_whole=False, scope_count=len(sealed), scopes=tuple(sealed))
        around = scope_among(names, f"{prefix}/")
        if around is not None and prefix.startswith(around):
            excluded = charter_of(self._parts.get(around).opened).excluded
            overlapping = (each for each in excluded if each.startswith(prefix) or prefix.startswith(each))
            inner = tuple(each for each in overlapping if each not in names)
            return Closed(is_whole=False, scope_count=len(inner), scopes=inner)
        if not names:
            boxes = tuple(box.path for box in self._boxes or ())
            return Closed(is_whole=True, scope_count=len(boxes), scopes=boxes)
        there = self._parts.get(names[0]).opened.store.partitions()
        return Closed(is_whole=True, scope_count=len(there) - len(names))

    def boxes(self) -> tuple[DropBox, ...]:
        """Return the scopes that the identity at hand may drop values into."""
        return tuple(self._boxes or ())

    def scope(self, path: str) -> Vault:
        """Return the sealed scope at a path, or that a path lies in, as a vault of its own; see `Vault.scope`."""
        part = self._at(path if path.endswith("/") else f"{path}/")
        return super().scope(path) if part is self._whole else part

    def authority_over(self, path: str) -> Authority:
        """Return the decisions and records that a path is under.

        Raises:
            ScopeSealed: It lies in a scope that the key at hand does not open.
        """
        return self._at(path).authority

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, path: str, *, at: At = None, allow_expired: bool = False) -> SecretVersion:
        """Return a version of a secret; see `Vault.read`.

        Raises:
            ScopeSealed: It lies in a scope whose values the key at hand does not open.
        """
        part = self._at(path)
        try:
            return part.read(path, at=at, allow_expired=allow_expired)
        except _ELSEWHERE:
            if not self._leads_elsewhere(path, part):
                raise
        return self._follow(path, lambda part: part.read(path, at=at, allow_expired=allow_expired))

    def read_many(self, wanted: Sequence[tuple[str, At]]) -> Results:
        """Return several versions, or the error of each; see `Vault.read_many`. Each scope records its own."""
        results: dict[int, SecretVersion | SecurecfgError] = {}
        groups: dict[int, tuple[Vault, list[int]]] = {}
        for position, (path, _) in enumerate(wanted):
            try:
                part = self._at(path)
                groups.setdefault(id(part), (part, []))[1].append(position)
            except SecurecfgError as error:
                results[position] = error
        for part, positions in groups.values():
            try:
                found = part.read_many([wanted[position] for position in positions])
            except _ELSEWHERE as error:
                found = [error] * len(positions)
            for position, result in zip(positions, found, strict=True):
                path, at = wanted[position]
                is_moved = isinstance(result, _ELSEWHERE) and self._leads_elsewhere(path, part)
                results[position] = self._read_or_error(path, at) if is_moved else result
        return [results[position] for position in range(len(wanted))]

    def stream(self, path: str, *, at: At = None) -> tuple[SecretVersion, Iterator[bytes]]:
        """Return a version and its content in pieces; see `Vault.stream`."""
        return self._follow(path, lambda part: part.stream(path, at=at))

    def list(self, prefix: str = "", *, depth: int | None = None) -> Paths:
        """Return the paths of live secrets that begin with a prefix and that the caller may list; see `Vault.list`."""
        from securecfg.vault.listing import cut_to_depth

        check_prefix(prefix)
        paths = self._gathered(prefix, lambda part: part.list(prefix))
        return paths if depth is None else cut_to_depth(paths, prefix, depth)

    def search(self, text: str) -> Paths:
        """Return the paths of live secrets that contain a text, in all that the key at hand opens."""
        return self._gathered("", lambda part: part.search(text))

    def history(self, path: str) -> Versions:
        """Return all versions of a secret, newest first, without their values; see `Vault.history`."""
        return self._follow(path, lambda part: part.history(path))

    def ref(self, reference: str, *, at: At = None) -> SecretRef:
        """Return a handle that follows rotation, and moves; see `Vault.ref`."""
        return super().ref(reference, at=at)

    def resolve(self, request_id: str) -> Outcome | None:
        """Return what became of a change whose commit was ambiguous, wherever it was made; see `Vault.resolve`."""
        whole = [self._whole] if self._whole is not None else []
        found = (part.resolve(request_id) for part in [*whole, *self._below("")])
        return next((outcome for outcome in found if outcome is not None), None)

    def explain(self, action: str, path: str, *, principal: str | None = None) -> Explanation:
        """Return why an action is allowed or denied by policy; see `Vault.explain`."""
        return self._at(path).explain(action, path, principal=principal)

    # --- dropping ----------------------------------------------------------------------------------------------------

    def drop(
        self,
        path: str,
        value: Plain | BinaryIO,
        *,
        ttl: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> Receipt:
        """Hand a value in to a sealed scope that one may drop into; see `Vault.drop`."""
        from securecfg.vault.changes import content_of, new_version_of
        from securecfg.vault.drops.dropping import drop_into

        try:
            content = content_of(value)
        except SecurecfgError as error:
            raise error.with_traceback(None) from None
        finally:
            del value  # a traceback that shows locals must not show it
        if self._boxes is None:
            return super().drop(path, "", ttl=ttl, metadata=metadata, content_type=content_type)
        box = self._boxes.get(path)
        new = new_version_of(self._boxes.principal, box.now_ns(), ttl, metadata, content_type)
        return drop_into(box, path, content, new)

    def may_only_drop(self, path: str) -> bool:
        """Return whether values can be dropped at a path and not written; see `Vault.may_only_drop`."""
        if self._boxes is None or self._boxes.of(path) is None:
            return False
        scope = self._parts.of(path)
        seat = self._parts.get(scope).opened.replica.seat if scope is not None else None
        return seat is None or not seat.may_write

    def find_drop(self, receipt: str) -> Dropped:
        """Return what became of a dropped value; see `Vault.find_drop`."""
        from securecfg.vault.drops.dropping import find_dropped

        return find_dropped([part.authority for part in self._below("")], self._boxes or (), receipt)

    # --- changing ----------------------------------------------------------------------------------------------------

    def destroy(self, path: str, version: VersionId) -> None:
        """Destroy a version for ever; see `Vault.destroy`."""
        self._follow(path, lambda part: part.destroy(path, version))

    def move(self, path: str, target: str, *, allow_lookalike: bool = False) -> None:
        """Give a secret another path, with all its versions; see `Vault.move`.

        Over the edge of a sealed scope every version is sealed anew, which takes a key that reads and writes the secret
        where it is, and writes where it goes. Whoever could read it before may know it: `audit exposed` lists it.

        Raises:
            ScopeSealed: The key at hand does not do that.
            ValueTooLarge: A value is larger than a sealed scope takes.
            Conflict: An import that was interrupted holds the secret, or it is rotated and would leave its part.
            DestroyPending: It is moved, but bytes of old keys may lie in the write-ahead log until another reader lets
                go; the next opener finishes.
        """
        encoded, encoded_target = path_to_bytes(path), path_to_bytes(target)
        source, destination = (self._place(self._at(each), each) for each in (path, target))
        if source.opened is destination.opened:
            super().move(path, target, allow_lookalike=allow_lookalike)
            return
        from securecfg.vault.moves.copying import Single
        from securecfg.vault.moves.relocation import Relocation

        relocation = Relocation(source, destination, Single(encoded, encoded_target, allow_lookalike))
        relocation.run()
        relocation.erase()

    @contextmanager
    def acting(self, principal: str, *, context: Mapping[str, object] | None = None) -> Iterator[Vault]:
        """Lend the vault to one request of another principal; see `Vault.acting`."""
        check_principal(principal)
        has_ended = threading.Event()
        with ExitStack() as stack:
            stack.callback(has_ended.set)
            whole = None
            if self._whole is not None:
                whole = stack.enter_context(self._whole.acting(principal, context=context))

            def lend(scope: str) -> Vault:
                if has_ended.is_set():
                    message = "the handle was lent for one request, which has ended"
                    raise VaultClosed(message, hint="use it inside its `with` block")
                return stack.enter_context(self._parts.get(scope).acting(principal, context=context))

            yield ScopedVault(whole, Parts(self._parts.names, lend, self._parts.together), stack.close)

    def close(self) -> None:
        """Close the scopes and the vault; see `Vault.close`."""
        if self._boxes is not None:
            self._boxes.close()
        try:
            self._parts.close()
        finally:
            self._close()

    def _apply(self, wanted: Wanted, *, is_large: bool = False) -> object:
        _, path = wanted.rights[0]
        return self._follow(
            path,
            lambda part: part._apply(wanted, is_large=is_large),  # noqa: SLF001 - of a vault, as this is one
            lambda: self._only(wanted.rights),
        )

    def _apply_batch(self, batch: Sequence[Wanted]) -> Changed:
        rights = [right for wanted in batch for right in wanted.rights]
        if not rights:
            return []
        return self._follow(
            rights[0][1],
            lambda part: part._apply_batch(batch),  # noqa: SLF001 - of a vault, as this is one
            lambda: self._only(rights),
        )

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _at(self, path: str) -> Vault:
        """Return where a path lies.

        Raises:
            ScopeSealed: In a scope that the key at hand does not open.
        """
        while (scope := scope_among(names := self._parts.names(), path)) is not None:
            part = self._unless_ended(scope, names.get(scope))
            if part is not None:
                return part
        if self._boxes is not None and self._boxes.of(path) is not None:
            raise only_drops(path)
        if self._whole is None:
            raise not_opened(path)
        return self._whole

    def _unless_ended(self, scope: str, place: object) -> Vault | None:
        """Return an open scope, None where it is not at its place any more: it was merged, perhaps split again.

        Raises:
            ScopeSealed: The key at hand does not open it.
        """
        try:
            return self._parts.get(scope)
        except (ScopeSealed, IntegrityError):
            if self._whole is not None:
                self._whole.opened.refresh()
            if place is not None and self._parts.names().get(scope) == place:
                raise
        return None

    def _below(self, prefix: str) -> Iterator[Vault]:
        """Yield those scopes with paths that begin with a prefix which the key at hand opens, in order."""
        for _, _, part in self._placed_below(prefix):
            yield part

    def _placed_below(self, prefix: str) -> Iterator[tuple[str, object, Vault]]:
        """Yield what `_below` does, each with its path and its place."""
        for scope, place in sorted(self._parts.names().items()):
            if scope.startswith(prefix) or prefix.startswith(scope):
                try:
                    part = self._unless_ended(scope, place)
                except ScopeSealed:
                    continue
                if part is not None:
                    yield scope, place, part

    def _gathered(self, prefix: str, read: Callable[[Vault], Paths]) -> Paths:
        """Return the paths in all parts that may hold some below a prefix.

        What is moved meanwhile from a part that is read later to one that was read is in neither. So whatever changed
        since it was read is read again; where nothing stands still, what is moved to and fro may be missing.

        Raises:
            Tampered: A scope that the vault knows of is not there any more.
        """
        whole: list[tuple[str, object, Vault]] = [("", None, self._whole)] if self._whole is not None else []
        paths: set[str] = set()
        heads: dict[int, bytes] = {}
        for _ in range(_GATHERINGS_MAX):
            is_settled = True
            for scope, place, part in itertools.chain(whole, self._placed_below(prefix)):
                try:
                    part.opened.refresh()
                    if heads.get(id(part)) == (head := part.opened.replica.head):
                        continue
                    paths.update(read(part))
                    heads[id(part)] = head
                except IntegrityError:
                    if part is self._whole or part.opened.has_head():
                        raise
                    if self._whole is not None:
                        # One commit takes its head and its place.
                        self._whole.opened.refresh()
                        if self._parts.names().get(scope) == place:
                            raise gone(scope) from None
                    self._parts.drop(part)
                is_settled = False
            if is_settled:
                break
        return sorted(paths)

    def _follow(self, path: str, use: Callable[[Vault], T], find: Callable[[], Vault] | None = None) -> T:
        """Use the part that a path lies in, and where it was moved to another one meanwhile, that one.

        Args:
            path: Where.
            use: Reads it or changes it in a part. It has done nothing where it raises one of `_ELSEWHERE`.
            find: Returns the part; None for where the path lies.
        """
        while True:
            part = find() if find is not None else self._at(path)
            try:
                return use(part)
            except _ELSEWHERE:
                if not self._leads_elsewhere(path, part):
                    raise

    def _leads_elsewhere(self, path: str, part: Vault) -> bool:
        """Return whether a path does not lie in the part any more in which it was looked for."""
        try:
            if self._whole is not None:
                self._whole.opened.refresh()
            else:
                self._parts.drop(part)
            return self._at(path) is not part
        except ScopeSealed:
            return True

    def _read_or_error(self, path: str, at: At) -> SecretVersion | SecurecfgError:
        try:
            return self.read(path, at=at)
        except SecurecfgError as error:
            return error

    def _place(self, part: Vault, path: str) -> Place:
        from securecfg.vault.moves.relocation import WHOLE, Place

        return Place(part.authority, self._parts.of(path) or WHOLE)

    def _only(self, rights: Sequence[tuple[str, str]]) -> Vault:
        """Return where all of some paths lie.

        Raises:
            Unsupported: They lie in different places, and a change is one transaction in one of them.
        """
        for _, path in rights:
            if self.may_only_drop(path):
                raise only_drops(path)
        places = {id(part): part for part in (self._at(path) for _, path in rights)}
        if len(places) > 1:
            message = "one batch cannot reach over the edge of a sealed scope"
            raise Unsupported(message, hint="make a batch for each side; `move` takes a secret over the edge")
        return next(iter(places.values()))

    def _one(self) -> Vault:
        if self._whole is not None:
            return self._whole
        names = self._parts.names()
        if len(names) > 1:
            message = "the key at hand opens several scopes, and not the vault around them"
            raise Unsupported(message, hint="name the scope: `vault.scope(path)`")
        return self._parts.first()


def _scopes_of(opened: OpenVault) -> Mapping[str, object]:
    registry = opened.scopes()
    return registry.scopes if registry is not None else {}


def _doorway_of(vault: Vault) -> Doorway | None:
    from securecfg.vault.scopes.scopes import Scopes

    return Scopes(vault.authority).doorway()


def _open_by_root(vault: Vault, scope: str, *, is_anchor_required: bool, introduction: Introduction | None) -> Vault:
    """Open a scope with the administrator's key, which the root keeps."""
    registry, door = vault.opened.scopes(), _doorway_of(vault)
    if registry is None or door is None or scope not in registry.scopes:
        raise not_opened(scope)
    place = registry.scopes[scope]
    known = introduction.marks if introduction is not None else None
    found = door._replace(is_anchor_required=is_anchor_required, known=known).open(
        place.number, (scope, place.scope_id)
    )
    if found is None:
        raise not_opened(scope)
    opened, slot = found
    part = Vault(opened, vault.authority.identity._replace(slot=slot.hex()))
    newest = trusts_of(opened)[-1]
    complete(part.authority, vault.opened.store, vault.opened.replica.vault_id, door.keys, newest)
    return part
