"""Accepting sealed scopes that this machine's anchors do not know, by who has nothing but an identity."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.clock import SystemClock
from securecfg.errors import StoreFailed
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.opened import Options
from securecfg.vault.scopes.member_opening import open_as_member
from securecfg.vault.scopes.memberships import no_role
from securecfg.vault.session import Identity
from securecfg.vault.state.anchor import AnchorFile, lineage

if TYPE_CHECKING:
    import os

    from securecfg.clock import Clock
    from securecfg.keys import KeyProvider
    from securecfg.vault.scopes.scoped import ScopedVault
    from securecfg.vault.vault import Vault


class ScopeAdoption(NamedTuple):
    """A scope that was accepted, or would be.

    Attributes:
        path: Of its subtree.
        size: The number of records in its log.
        recorded_size: The number that the anchor knew of, or None where there was no anchor.
        is_box: Whether values are dropped into it; the two are the serials of its drop order then.
    """

    path: str
    size: int
    recorded_size: int | None
    is_box: bool = False


def compare_scopes(
    path: str | os.PathLike[str], provider: KeyProvider, principal: str = "", clock: Clock | None = None
) -> list[ScopeAdoption]:
    """Return the sizes of the scopes that an identity opens and of their anchors, without accepting anything.

    Raises:
        As for `adopt_scopes`.
    """
    with closing(_open(path, provider, principal, clock, Options(read_only=True))) as member:
        found = []
        for scope, part in member.parts():
            known = AnchorFile(part.opened.replica.vault_id, path).read()
            found.append(ScopeAdoption(scope, part.opened.replica.checkpoint.size, known.mark.size if known else None))
        return found + [ScopeAdoption(box.path, *box.compare(), is_box=True) for box in member.boxes()]


def adopt_scopes(
    path: str | os.PathLike[str],
    provider: KeyProvider,
    principal: str = "",
    *,
    reason: str = "",
    clock: Clock | None = None,
) -> list[ScopeAdoption]:
    """Accept the scopes that an identity opens as they are, record that in each, and start new anchors for them.

    Of those that it drops into it accepts the drop order; who may do no more than that can record nothing.

    No right is needed: what is accepted is what this machine has recorded, by who may read that machine's records and
    could remove them. The time that clocks are compared with stays, as that holds for everybody. Administrators whom
    this machine does not know are not accepted.

    Args:
        path: The vault.
        provider: Holds the identity.
        principal: Whose it must be; empty for whoever it is.
        reason: Why, for the logs.
        clock: The time.

    Raises:
        VaultNotFound: There is no such file.
        WrongKey: No role of the vault knows the identity.
        NotAuthenticated: It is that of somebody else.
        Tampered: A scope is not what its administrators and writers signed.
        RollbackSuspected: The vault names other administrators than are known on this machine.
        AuditUnavailable: The acceptance cannot be recorded.
        StoreFailed: An anchor cannot be written.
    """
    with closing(_open(path, provider, principal, clock, Options())) as member:
        done = [_adopt(path, scope, part, reason) for scope, part in member.parts()]
        for box in member.boxes():
            done.append(ScopeAdoption(box.path, *box.compare(), is_box=True))
            box.adopt()
        return done


def _adopt(path: str | os.PathLike[str], scope: str, part: Vault, reason: str) -> ScopeAdoption:
    opened, authority = part.opened, part.authority
    anchor = AnchorFile(opened.replica.vault_id, path)
    known = anchor.read()
    recorded_size = known.mark.size if known else None
    size = opened.replica.checkpoint.size
    obj: dict[str, object] = {"path": scope, "size": size, "old_size": recorded_size or 0, "lineage": lineage(path)}
    if reason:
        obj["reason"] = reason
    record = authority.session().record(Event.SCOPE_ADOPTED, obj)
    authority.publish(lambda _: Plan(records=[record]))
    try:
        anchor.replace(opened.mark())
    except OSError as error:
        message = f"the anchor of `{scope}` cannot be written: {error.strerror}"
        raise StoreFailed(message) from None
    finally:
        anchor.close()
    return ScopeAdoption(scope, opened.replica.checkpoint.size, recorded_size)


def _open(
    path: str | os.PathLike[str], provider: KeyProvider, principal: str, clock: Clock | None, options: Options
) -> ScopedVault:
    return open_as_member(
        path,
        provider,
        Identity(principal),
        clock or SystemClock(),
        options,
        is_anchor_required=False,
        otherwise=no_role(),
        is_adopting=True,
    )
