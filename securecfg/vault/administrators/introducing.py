"""Introducing a vault: an administrator vouches for what is there, towards those who have not seen it."""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.audit.record import format_time
from securecfg.errors import (
    InvalidMetadata,
    ScopeSealed,
    SecretNotFound,
)
from securecfg.vault.administrators.introductions import (
    IntroducedScope,
    seal_introduction,
    sign_introduction,
    word_introduction,
)
from securecfg.vault.members import identities_of
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.paths import check_principal
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.trust.first_seen import fingerprint_of
from securecfg.words import counted

if TYPE_CHECKING:
    from securecfg.keys import Identity
    from securecfg.vault.authority import Authority
    from securecfg.vault.scopes.opening import Doorway
    from securecfg.vault.trust.signatories import Signing

_ATTEMPTS = 8


class Made(NamedTuple):
    """An introduction that was made.

    Attributes:
        content: The file.
        fingerprint: Of the administrators, for people to compare.
        paths: The scopes in it.
        member: Whom it is sealed to, or None.
    """

    content: bytes
    fingerprint: str
    paths: tuple[str, ...]
    member: Identity | None


def introduce(authority: Authority, principal: str | None = None, signing: Signing | None = None) -> Made:
    """Vouch for the administrators of a vault and the state of its scopes, and record it.

    Args:
        authority: Over the whole vault, opened by its root.
        principal: To whom: the scopes that he may open, and sealed to him. None vouches for all scopes and names none.
        signing: Returns who signs, for some administrators; None where the vault's own key does.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        InvalidMetadata: No public key is known of the principal.
        SecretNotFound: There are no sealed scopes, or none that the principal may open.
        ScopeSealed, Tampered, RollbackSuspected: What is in a scope is not what it should be.
        SignaturesMissing: Too few administrators signed it.
        AuditUnavailable: It cannot be recorded.
    """
    session, decision = authority.require("key.manage", "")
    opened = authority.opened
    member = _member(authority, principal) if principal is not None else None
    administration = Scopes.with_signing(authority, signing)
    door = administration.doorway()
    scopes = _look_at_scopes(authority, door, member) if door is not None else []
    if door is None or not scopes:
        message = (
            f"`{principal}` may open no sealed scope" if principal is not None else "the vault has no sealed scopes"
        )
        hint = "`securecfg audit checkpoint` introduces a vault without scopes to whoever opens it by its root"
        raise SecretNotFound(message, hint=hint if principal is None else "`securecfg scope list` shows who may")
    signatories = administration.signatories()
    vault_id, trust, checkpoint = opened.replica.vault_id, signatories.trust, opened.replica.checkpoint
    told = scopes if member is not None else [scope._replace(path="") for scope in scopes]
    made = format_time(opened.clock.now_ns())
    text = word_introduction(vault_id, trust, (checkpoint.size, checkpoint.root), told, made)
    summary = f"an introduction to {counted(len(scopes), 'scope')}"
    (signatures,) = signatories.sign([text.encode()], summary)
    note = sign_introduction(text, vault_id, signatures)
    obj: dict[str, object] = {"count": len(scopes), "digest": sha256(note).hexdigest()}
    if member is not None:
        obj["recipients"] = [f"{member.name}:{member.fingerprint.hex()}"]
    authority.publish_records([session.record(Event.SCOPE_INTRODUCED, obj, decision=decision)])
    content = seal_introduction(note, member) if member is not None else note
    return Made(content, fingerprint_of(vault_id, trust), tuple(scope.path for scope in scopes), member)


def _member(authority: Authority, principal: str) -> Identity:
    name = check_principal(principal)
    authority.opened.refresh()
    member = identities_of(authority.opened).get(name)
    if member is None:
        message = f"no public key of `{name}` is known"
        hint = f"`securecfg role add ROLE --member {name} --identity PUBLIC-FILE` adds it"
        raise InvalidMetadata(message, hint=hint)
    return member


def _look_at_scopes(authority: Authority, door: Doorway, member: Identity | None) -> list[IntroducedScope]:
    """Return the state of each scope, or of each that a member may open, in the order of their paths."""
    opened = authority.opened
    members: dict[str, list[str]] = opened.system_document(ROLES_PATH, {})
    roles = {role for role, those in members.items() if member is not None and member.name in those}
    seen = []
    for path, place in sorted(read_registry(opened).scopes.items()):
        found = door.open(place.number, (path, place.scope_id))
        if found is None:
            message = f"the vault's own key does not open the scope `{path}`, which could not be vouched for"
            raise ScopeSealed(message, hint="somebody may have altered its slots; restore the vault from a backup")
        with closing(found[0]) as scope:
            charter, mark = charter_of(scope), scope.mark()
        if member is None or any(party.role in roles for party in charter.parties):
            seen.append(IntroducedScope(place.scope_id, mark.serial, mark.charter, mark.size, mark.root, path))
    return seen
