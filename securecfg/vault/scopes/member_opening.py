"""Opening the scopes of a vault with nothing but an identity: the roles it is a member of, and whom it believes."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from securecfg.errors import NotAuthenticated, SecurecfgError, Tampered
from securecfg.store import open_sqlite
from securecfg.vault.drops.boxes import DropBoxes, find_box, put_back
from securecfg.vault.paths import check_principal, scope_among
from securecfg.vault.scopes.completion import complete
from securecfg.vault.scopes.memberships import find_roles, no_role, trust_of
from securecfg.vault.scopes.opening import Doorway, charter_of, trusts_of, verify_succeeded
from securecfg.vault.scopes.parts import Parts, close_part
from securecfg.vault.scopes.scoped import ScopedVault
from securecfg.vault.state.replica import read_header
from securecfg.vault.trust.first_seen import Line, choose_trusts, verify_led_to
from securecfg.vault.trust.successions import former_administrators
from securecfg.vault.vault import Vault

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping, Sequence

    from securecfg.clock import Clock
    from securecfg.errors import WrongKey
    from securecfg.keys import IdentityProvider, KeyProvider
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.vault.administrators.introductions import Introduction
    from securecfg.vault.drops.boxes import DropBox
    from securecfg.vault.opened import Options
    from securecfg.vault.session import Identity


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
            from securecfg.vault.administrators.introduced import verify_introduced

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
            from securecfg.vault.drops.dropping import DropVault

            return DropVault(DropBoxes(boxes, principal), Parts(lambda: parts, open_part, parts), close, clock)
        return ScopedVault(None, Parts(lambda: parts, open_part, parts), close, DropBoxes(boxes, principal))
    except BaseException:
        # The caller gets nothing to close.
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

    from securecfg.vault.administrators.break_glass import record_opening  # for those without the root, as this is

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
        _verify_nesting(parts, boxes)
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
        # The caller gets nothing to close.
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
        # The caller gets nothing to close.
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


def _verify_nesting(parts: Mapping[str, Vault], boxes: Mapping[str, DropBox]) -> None:
    """Check that what lies in another scope is none of its subtrees any more, as that one's charter says.

    Raises:
        Tampered: Somebody has put back a scope that was merged, or made one up.
    """
    known = {**boxes, **parts}
    for scope in known:
        outer = scope_among(known, scope.removesuffix("/"))
        if outer is None:
            continue
        if outer in parts:
            around = parts[outer].opened
            around.refresh()  # both may have been changed together since the first one was opened
            is_left_out = charter_of(around).leaves_out(scope) is not None
        else:
            is_left_out = boxes[outer].leaves_out(scope)
        has_head = parts[scope].opened.has_head() if scope in parts else boxes[scope].has_head()
        if not is_left_out and has_head:
            raise put_back(scope, outer)
