"""How administrators hand over to others: a chain of trusts, each signed by the one before.

Whoever knows one of them can follow to the newest. What stands before the one that is known proves nothing to him, and
he does not look at it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import TYPE_CHECKING

from securecfg.crypto import Label
from securecfg.errors import RollbackSuspected, Tampered
from securecfg.keys.trust import Trust, read_signatures, signatures_to_bytes
from securecfg.octets import U16, Cursor, Malformed
from securecfg.tuples import NamedTuple
from securecfg.vault.documents import decode_document

if TYPE_CHECKING:
    from securecfg.keys.trust import Signatures

SUCCESSION_BYTES_MAX = 45_000

_FRONT = b"\x53\x01"


class Step(NamedTuple):
    """Administrators who succeed others, and the signatures of these."""

    trust: Trust
    signatures: Signatures


class Succession(NamedTuple):
    """All who were administrators of a vault, one after the other.

    Attributes:
        first: Who they were at first.
        steps: Who came then.
    """

    first: Trust
    steps: tuple[Step, ...] = ()

    @property
    def newest(self) -> Trust:
        """Whose signatures count now, if all before handed over rightly."""
        return self.steps[-1].trust if self.steps else self.first

    def extended(self, trust: Trust, signatures: Signatures) -> Succession:
        """Return it with one more step."""
        return self._replace(steps=(*self.steps, Step(trust, signatures)))

    def follow(self, vault_id: bytes, known: Trust) -> tuple[Trust, ...]:
        """Return the administrators from those whom somebody knows to the newest, once every hand-over is verified.

        Args:
            vault_id: Of the vault, 16 bytes.
            known: Where to begin.

        Raises:
            RollbackSuspected: It ends before those that are known.
            Tampered: It does not lead past them, or a step is not signed by those before.
        """
        trusts = [self.first, *(step.trust for step in self.steps)]
        if known not in trusts:
            if trusts[-1].serial < known.serial:
                raise former_administrators()
            message = "the administrators of the scope do not descend from those that are known"
            raise Tampered(message, hint=_HINT)
        at = trusts.index(known)
        before = known
        for step in self.steps[at:]:
            signed = step_message(vault_id, before, step.trust)
            if step.trust.serial != before.serial + 1 or not before.holds(step.signatures, signed):
                message = "administrators of the scope were replaced without the signatures of those before"
                raise Tampered(message, hint=_HINT)
            before = step.trust
        return tuple(trusts[at:])

    def to_json(self) -> dict[str, str]:
        """Return the document, as `succession_from_json` takes it."""
        parts = [step.trust.to_bytes() + signatures_to_bytes(step.signatures) for step in self.steps]
        raw = _FRONT + self.first.to_bytes() + U16.pack(len(parts)) + b"".join(parts)
        return {"succession": b64encode(raw).decode()}


def successors(vault_id: bytes, known: Trust, document: bytes | None) -> tuple[Trust, ...]:
    """Return the administrators from those whom somebody knows to the newest that a document leads to.

    Args:
        vault_id: Of the vault, 16 bytes.
        known: Where to begin.
        document: Of a scope; None or empty where nobody was succeeded.

    Raises:
        RollbackSuspected: It ends before those that are known.
        Tampered: As for `Succession.follow`.
    """
    if document:
        return parse_succession(document).follow(vault_id, known)
    if known.serial:
        raise former_administrators()
    return (known,)


def parse_succession(content: bytes) -> Succession:
    """Return the succession of a document's content; see `succession_from_json`.

    Raises:
        Tampered: It is malformed.
    """
    try:
        return succession_from_json(decode_document(content))
    except ValueError:
        raise _malformed() from None


def succession_from_json(document: object) -> Succession:
    """Return the succession of a document; no signature is verified yet, see `Succession.follow`.

    Raises:
        Tampered: It is malformed.
    """
    try:
        cursor = Cursor(b64decode(document["succession"], validate=True))  # type: ignore[index]  # else a TypeError
        if cursor.take(2) != _FRONT:
            raise _malformed()
        first = Trust.read(cursor)
        steps = tuple(Step(Trust.read(cursor), read_signatures(cursor)) for _ in range(cursor.u16()))
        cursor.finish()
    except (Malformed, Base64Error, ValueError, KeyError, TypeError):
        raise _malformed() from None
    return Succession(first, steps)


def step_message(vault_id: bytes, before: Trust, after: Trust) -> bytes:
    """Return what the administrators before sign when others take their place."""
    return Label.SUCCESSION.encode() + b"\x00" + vault_id + before.to_bytes() + after.to_bytes()


def former_administrators(path: str = "") -> RollbackSuspected:
    """Return the error for a scope that does not know of administrators who are known elsewhere."""
    message = f"the scope{f' `{path}`' if path else ''} is as former administrators left it"
    return RollbackSuspected(message, hint=_SUPERSEDED_HINT)


def _malformed() -> Tampered:
    message = "the succession of administrators is malformed"
    return Tampered(message, hint=_HINT)


_HINT = "somebody who may open the scope, and not change it, may have done so; restore the vault from a backup"
_SUPERSEDED_HINT = "an administrator who has the vault's root finishes it: `securecfg scope administrators resume`"
