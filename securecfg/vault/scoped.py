"""A vault with sealed scopes: each path is read and written where it lies, as far as the key at hand opens that."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from securecfg.errors import (
    AccessDenied,
    IntegrityError,
    NotAuthenticated,
    ScopeSealed,
    SecretNotFound,
    SecurecfgError,
    Tampered,
    Unsupported,
    VaultClosed,
)
from securecfg.store import open_sqlite
from securecfg.vault.closed import Closed
from securecfg.vault.drop_boxes import DropBoxes, find_box, only_drops
from securecfg.vault.paths import check_prefix, check_principal, path_to_bytes
from securecfg.vault.replica import read_header
from securecfg.vault.scope_completion import complete
from securecfg.vault.scope_members import find_roles, no_role, trust_of
from securecfg.vault.scope_opening import Doorway, charter_of, trusts_of, verify_succeeded
from securecfg.vault.scope_registry import scope_among
from securecfg.vault.scope_trust import Line, choose_trusts, verify_led_to
from securecfg.vault.successions import former_administrators
from securecfg.vault.vault import Vault

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import timedelta
    from typing import BinaryIO

    from securecfg.clock import Clock
    from securecfg.errors import WrongKey
    from securecfg.keys import IdentityProvider, KeyProvider
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.policy import Explanation
    from securecfg.vault.administration import Administration
    from securecfg.vault.auditlog import AuditLog
    from securecfg.vault.authority import Authority
    from securecfg.vault.drop_boxes import DropBox, Receipt
    from securecfg.vault.dropping import Dropped
    from securecfg.vault.introductions import Introduction
    from securecfg.vault.listing import VersionInfo
    from securecfg.vault.opened import OpenVault, Options
    from securecfg.vault.outcomes import Outcome
    from securecfg.vault.reading import At
    from securecfg.vault.references import SecretRef
    from securecfg.vault.relocation import Place
    from securecfg.vault.session import Identity
    from securecfg.vault.values import Plain, SecretVersion
    from securecfg.vault.writing import Wanted

    T = TypeVar("T")
    Paths = list[str]
    Versions = list[VersionInfo]
    Results = list[SecretVersion | SecurecfgError]
    Changed = list[object]

# What a part may say of a path that lies elsewhere by now. Nothing was done then.
_ELSEWHERE = (SecretNotFound, AccessDenied, ScopeSealed, IntegrityError)


class Parts:
    """The open scopes of one vault, by path. May be used by any thread.

    Args:
        names: Returns the paths of all scopes that are known, as keys.
        open_part: Opens one of them.
    """

    def __init__(self, names: Callable[[], Mapping[str, object]], open_part: Callable[[str], Vault]) -> None:
        """Open nothing yet."""
        self.names = names
        self._open_part = open_part
        self._open: dict[str, tuple[object, Vault]] = {}
        self._ended: list[Vault] = []
        self._lock = threading.Lock()

    def of(self, path: str) -> str | None:
        """Return the scope that a path lies in, None where it lies in none that is known."""
        return scope_among(self.names(), path)

    def get(self, scope: str) -> Vault:
        """Return an open scope.

        Raises:
            ScopeSealed: The key at hand does not open it.
        """
        known, place = self._open.get(scope), self.names().get(scope)
        if known is None or known[0] != place:
            with self._lock:
                known = self._open.get(scope)
                if known is not None and known[0] != place:
                    # A scope was merged, and another one made at the same path.
                    self._ended.append(self._open.pop(scope)[1])
                    known = None
                if known is None:
                    known = self._open[scope] = place, self._open_part(scope)
        return known[1]

    def below(self, prefix: str) -> Iterator[Vault]:
        """Yield those scopes with paths that begin with a prefix which the key at hand opens, in order."""
        for scope in sorted(self.names()):
            if scope.startswith(prefix) or prefix.startswith(scope):
                try:
                    yield self.get(scope)
                except ScopeSealed:
                    continue

    def drop(self, part: Vault) -> None:
        """Forget a scope that has ended, where it is told from others by nothing else."""
        names = self.names()
        if isinstance(names, dict) and not part.opened.has_head():
            for scope in [scope for scope, known in list(names.items()) if known is part]:
                del names[scope]
                self._ended.append(part)

    def close(self) -> None:
        """Close what is open.

        Raises:
            SecurecfgError: Something could not be closed properly; all is closed.
        """
        with self._lock, ExitStack() as stack:
            for part in (*self._ended, *(part for _, part in self._open.values())):
                stack.callback(close_part, part)


def close_part(part: Vault) -> None:
    """Close a scope; of one that was merged meanwhile nothing can be recorded any more.

    Raises:
        SecurecfgError: It could not be closed properly.
    """
    try:
        part.close()
    except IntegrityError:
        if part.opened.has_head():
            raise


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
        one = whole or parts.get(next(iter(parts.names())))
        self._opened, self._authority = one.opened, one.authority

    @classmethod
    def over(cls, vault: Vault, *, is_anchor_required: bool = False, introduction: Introduction | None = None) -> Self:
        """Return a vault that its root has opened with its scopes, which are opened as they are used.

        Raises:
            RollbackSuspected: It is not the one that an introduction is to.
        """
        if introduction is not None:
            from securecfg.vault.introduced import verify_administrators

            verify_administrators(vault.opened, introduction)

        def open_part(scope: str) -> Vault:
            return _open_by_root(vault, scope, is_anchor_required=is_anchor_required, introduction=introduction)

        return cls(vault, Parts(lambda: _scopes_of(vault.opened), open_part), vault.close)

    @property
    def administration(self) -> Administration:
        """Policy and roles of the whole vault; changes of them reach the scopes too."""
        from securecfg.vault.scopes import ScopedAdministration

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

    def parts(self) -> Iterator[tuple[str, Vault]]:
        """Yield the vault itself, where its root opened it, and each sealed scope that the key at hand opens.

        Raises:
            Tampered: A scope that the vault knows of is not there.
        """
        if self._whole is not None:
            yield "", self._whole
        for scope in sorted(self._parts.names()):
            try:
                yield scope, self._parts.get(scope)
            except ScopeSealed:
                message = f"the sealed scope `{scope}` is not there"
                hint = "if its making was interrupted, `securecfg scope create` makes it; else restore the file"
                raise Tampered(message, hint=hint) from None

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
        paths = self._whole.list(prefix) if self._whole is not None else []
        for part in self._parts.below(prefix):
            paths += part.list(prefix)
        paths = sorted(set(paths))  # one may have been moved between two parts meanwhile
        return paths if depth is None else cut_to_depth(paths, prefix, depth)

    def search(self, text: str) -> Paths:
        """Return the paths of live secrets that contain a text, in all that the key at hand opens."""
        paths = self._whole.search(text) if self._whole is not None else []
        for part in self._parts.below(""):
            paths += part.search(text)
        return sorted(set(paths))

    def history(self, path: str) -> Versions:
        """Return all versions of a secret, newest first, without their values; see `Vault.history`."""
        return self._follow(path, lambda part: part.history(path))

    def ref(self, reference: str, *, at: At = None) -> SecretRef:
        """Return a handle that follows rotation, and moves; see `Vault.ref`."""
        return super().ref(reference, at=at)

    def resolve(self, request_id: str) -> Outcome | None:
        """Return what became of a change whose commit was ambiguous, wherever it was made; see `Vault.resolve`."""
        whole = [self._whole] if self._whole is not None else []
        found = (part.resolve(request_id) for part in [*whole, *self._parts.below("")])
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
        from securecfg.vault.dropping import drop_into

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
        from securecfg.vault.dropping import find_dropped

        return find_dropped([part.authority for part in self._parts.below("")], self._boxes or (), receipt)

    # --- changing ----------------------------------------------------------------------------------------------------

    def destroy(self, path: str, version: int) -> None:
        """Destroy a version for ever; see `Vault.destroy`."""
        self._follow(path, lambda part: part.destroy(path, version))

    def move(self, path: str, target: str, *, allow_lookalike: bool = False) -> None:
        """Give a secret another path, with all its versions; see `Vault.move`.

        Over the edge of a sealed scope every version is sealed anew, which takes a key that reads and writes the secret
        where it is, and writes where it goes. Whoever could read it before may know it: `audit exposed` lists it.

        Raises:
            ScopeSealed: The key at hand does not do that.
            ValueTooLarge: A value is larger than a sealed scope takes.
            Conflict: An import that was interrupted holds the secret.
            DestroyPending: It is moved, but bytes of old keys may lie in the write-ahead log until another reader lets
                go; the next opener finishes.
        """
        encoded, encoded_target = path_to_bytes(path), path_to_bytes(target)
        source, destination = (self._place(self._at(each), each) for each in (path, target))
        if source.opened is destination.opened:
            super().move(path, target, allow_lookalike=allow_lookalike)
            return
        from securecfg.vault.copying import Single
        from securecfg.vault.relocation import Relocation

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

            yield ScopedVault(whole, Parts(self._parts.names, lend), stack.close)

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
        scope = self._parts.of(path)
        if scope is not None:
            return self._parts.get(scope)
        if self._boxes is not None and self._boxes.of(path) is not None:
            raise only_drops(path)
        if self._whole is None:
            raise _closed(path)
        return self._whole

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
        from securecfg.vault.relocation import WHOLE, Place

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
        return self._parts.get(next(iter(names)))


def open_as_member(  # noqa: PLR0913 - what `Vault.open` was given
    path: str | os.PathLike[str],
    provider: KeyProvider,
    who: Identity,
    clock: Clock,
    options: Options,
    *,
    is_anchor_required: bool,
    otherwise: WrongKey,
    introduction: Introduction | None = None,
    reason: str = "",
    is_adopting: bool = False,
) -> ScopedVault:
    """Open the scopes of a vault that the roles of an identity open, without the vault's root.

    Args:
        path: The file.
        provider: Holds the identity.
        who: The principal that was asserted, or none, and the context.
        clock: The time.
        options: How to open it.
        is_anchor_required: Whether to refuse what this machine knows nothing of.
        otherwise: What to raise where the vault has no scopes.
        introduction: What is known of it from elsewhere.
        reason: Why, where it is break-glass.
        is_adopting: Whether to accept scopes that are older than, or no continuation of, what was recorded.

    Raises:
        VaultNotFound: There is no such file.
        WrongKey: No role of the vault knows the identity.
        NotAuthenticated: It is the identity of somebody else than the principal that was asserted.
        Tampered: A scope is not what its administrators and writers signed.
        RollbackSuspected: A scope is older than what was recorded on this machine.
        AnchorMissing: Nothing was recorded, and it is required.
        SettingMissing: It is break-glass, and no reason is given.
        AuditUnavailable: It is break-glass, and cannot be recorded.
    """
    from securecfg.keys import IdentityProvider

    if not isinstance(provider, IdentityProvider):
        raise otherwise
    store = open_sqlite(path, read_only=options.read_only)
    parts: dict[str, Vault] = {}
    boxes: dict[str, DropBox] = {}
    try:
        numbers = store.partitions()
        if not numbers:
            raise otherwise
        vault_id = read_header(store)[0].vault_id
        principal = check_principal(provider.read_principal())
        if who.principal and who.principal != principal:
            message = f"this key may not speak for `{who.principal}`"
            raise NotAuthenticated(message, hint=f"it is the identity of `{principal}`")
        if introduction is not None:
            from securecfg.vault.introduced import verify_introduced

            verify_introduced(store, vault_id, introduction)
        claimed = trust_of(find_roles(store, vault_id, provider))
        who = who._replace(principal=principal, is_proved=True)

        door = partial(Doorway, store, path, clock, options, vault_id, is_anchor_required=is_anchor_required)
        door = partial(door, is_adopting=is_adopting)
        door = partial(door, known=introduction.marks if introduction is not None else None)
        introduced = introduction.trust if introduction is not None else None
        parts, boxes = _open_believed(
            door, numbers, claimed, who, provider, is_required=is_anchor_required, introduced=introduced, reason=reason
        )

        def open_part(scope: str) -> Vault:
            return parts[scope]

        # Those that end meanwhile are taken out of `parts`.
        close = _closer(list(parts.values()), store.close)
        if not parts:
            from securecfg.vault.dropping import DropVault

            return DropVault(DropBoxes(boxes, principal), Parts(lambda: parts, open_part), close, clock)
        return ScopedVault(None, Parts(lambda: parts, open_part), close, DropBoxes(boxes, principal))
    except BaseException:
        with suppress(SecurecfgError):
            _closer(list(parts.values()), store.close)()
        raise


def _open_believed(
    make_door: Callable[[Trust, Sequence[RoleKey]], Doorway],
    numbers: Sequence[int],
    claimed: Mapping[Trust, Sequence[RoleKey]],
    who: Identity,
    provider: IdentityProvider,
    *,
    is_required: bool,
    introduced: Trust | None,
    reason: str,
) -> tuple[dict[str, Vault], dict[str, DropBox]]:
    """Open the scopes and find the drop boxes of administrators whom this machine knows, or who descend from them.

    Args:
        make_door: Takes who the administrators are, and the keys of roles to open with.
        numbers: The partitions.
        claimed: The keys of roles by the administrators whose word for them there is.
        who: On whose behalf.
        provider: Holds the identity.
        is_required: Whether to refuse a place that nothing was written down of.
        introduced: Whom an introduction names.
        reason: Why, where it is break-glass.

    Raises:
        WrongKey: No role opens a scope.
        As for `choose_trusts` and `Doorway.open`.
    """

    def door_of(start: Trust, trusts: Collection[Trust]) -> Doorway:
        return make_door(start, [key for trust, keys in claimed.items() if trust in trusts for key in keys])

    def learn(start: Trust, trusts: Collection[Trust]) -> tuple[Trust, ...]:
        seen, boxes = _open_parts(door_of(start, trusts), numbers, who, provider)
        newest = _newest(seen, boxes)
        _close_all(seen)
        return newest

    from securecfg.vault.break_glass import record_opening  # for those without the root, as this is

    one = door_of(next(iter(claimed)), ()) if claimed else None
    if one is None or one.path is None:
        raise no_role()
    trusts, claims = choose_trusts(
        one.path, one.vault_id, claimed, learn, is_required=is_required, introduced=introduced
    )
    line = Line(one.path, one.vault_id, trusts)
    door = door_of(trusts[-1], claims)._replace(heard=line.follow)
    parts, boxes = _open_parts(door, numbers, who, provider)
    try:
        if not parts and not boxes:
            raise no_role()
        newest = _newest(parts, boxes)
        _verify_nesting(parts)
        for part in parts.values():
            verify_succeeded(part.opened, newest[-1])
        for box in boxes.values():
            if box.trusts[-1] != newest[-1]:
                raise former_administrators(box.path)
        verify_led_to(one.path, (*trusts[:-1], *newest), introduced)
        line.follow(newest)
        for part in parts.values():
            record_opening(part.authority, bytes.fromhex(part.authority.identity.slot), reason)
        for part in parts.values():
            complete(part.authority, door.store, door.vault_id, door.keys, newest[-1])
        for box in boxes.values():
            box.take_up()
    except BaseException:
        with suppress(SecurecfgError):
            _close_all(parts)
        raise
    return parts, boxes


def _newest(parts: Mapping[str, Vault], boxes: Mapping[str, DropBox]) -> tuple[Trust, ...]:
    """Return the administrators from those that are known to the newest that a scope leads to."""
    known = [trusts_of(part.opened) for part in parts.values()] + [box.trusts for box in boxes.values()]
    return max(known, key=len, default=())


def _close_all(parts: Mapping[str, Vault]) -> None:
    _closer(list(parts.values()), lambda: None)()


def _open_parts(
    door: Doorway, numbers: Sequence[int], who: Identity, provider: IdentityProvider
) -> tuple[dict[str, Vault], dict[str, DropBox]]:
    """Return the scopes that some keys open, and those that they may drop into, by path.

    Raises:
        Tampered: Two scopes say that they have the same path.
        As for `Doorway.open` and `find_box`.
    """
    parts: dict[str, Vault] = {}
    boxes: dict[str, DropBox] = {}
    try:
        for number in numbers:
            taken = {*parts, *boxes}
            found = door.open(number)
            if found is not None:
                opened, slot = found
                part, scope = Vault(opened, who._replace(slot=slot.hex())), charter_of(opened).path
                if scope in taken:
                    part.close()
                    raise _two_of(scope)
                parts[scope] = part
            box = find_box(number, door, provider)
            if box is not None:
                if box.path in taken:
                    raise _two_of(box.path)
                boxes[box.path] = box
    except BaseException:
        with suppress(SecurecfgError):
            _close_all(parts)
        raise
    return parts, boxes


def _two_of(scope: str) -> Tampered:
    message = f"two scopes say that they are `{scope}`"
    return Tampered(message, hint="somebody who may write the file may have copied one")


def _closer(parts: Sequence[Vault], close: Callable[[], None]) -> Callable[[], None]:
    def close_all() -> None:
        with ExitStack() as stack:
            stack.callback(close)
            for part in parts:
                stack.callback(close_part, part)

    return close_all


def _verify_nesting(parts: Mapping[str, Vault]) -> None:
    """Check that what lies in another scope is none of its subtrees any more, as that one's charter says.

    Raises:
        Tampered: Somebody has put back a scope that was merged, or made one up.
    """
    for scope, part in parts.items():
        outer = scope_among(parts, scope.removesuffix("/"))
        if outer is not None:
            around = parts[outer].opened
            around.refresh()  # both may have been changed together since the first one was opened
            if charter_of(around).leaves_out(scope) is None and part.opened.has_head():
                message = f"`{scope}` says that it is a scope, and `{outer}` around it does not"
                raise Tampered(
                    message, hint="somebody who may write the file may have put back a scope that was merged"
                )


def _scopes_of(opened: OpenVault) -> Mapping[str, object]:
    registry = opened.scopes()
    return registry.scopes if registry is not None else {}


def _doorway_of(vault: Vault) -> Doorway | None:
    from securecfg.vault.scopes import Scopes

    return Scopes(vault.authority).doorway()


def _open_by_root(vault: Vault, scope: str, *, is_anchor_required: bool, introduction: Introduction | None) -> Vault:
    """Open a scope with the administrator's key, which the root keeps."""
    registry, door = vault.opened.scopes(), _doorway_of(vault)
    if registry is None or door is None or scope not in registry.scopes:
        raise _closed(scope)
    place = registry.scopes[scope]
    known = introduction.marks if introduction is not None else None
    found = door._replace(is_anchor_required=is_anchor_required, known=known).open(
        place.number, (scope, place.scope_id)
    )
    if found is None:
        raise _closed(scope)
    opened, slot = found
    part = Vault(opened, vault.authority.identity._replace(slot=slot.hex()))
    newest = trusts_of(opened)[-1]
    complete(part.authority, vault.opened.store, vault.opened.replica.vault_id, door.keys, newest)
    return part


def _closed(path: str) -> ScopeSealed:
    message = f"`{path}` lies in no scope that this key opens"
    return ScopeSealed(message, hint="an administrator may grant it: `securecfg scope grant PATH --read ROLE`")
