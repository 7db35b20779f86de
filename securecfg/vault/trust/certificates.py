"""Certificates of the members of roles: what administrators signed once is kept in the scopes, and is found there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.keys.role_keys import Certificate
from securecfg.keys.trust import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from securecfg.vault.documents import decode_document, verify_shape
from securecfg.vault.paths import SYSTEM
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from securecfg.keys import Identity
    from securecfg.keys.trust import Signatures
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.trust.signatories import Signatories

CERTIFICATES_PATH = SYSTEM + b"certificates"

Encoded = dict[str, dict[str, list[str]]]
"""The document: by role and member the signatures, as `signatures_to_json` gives them."""


class Certificates:
    """What administrators have signed of who is a member of which role, and what they still have to.

    Args:
        vault_id: The vault's id, 16 bytes.
        signatories: Sign what nobody has signed yet.

    Attributes:
        trust: Whose signatures these are.
    """

    def __init__(self, vault_id: bytes, signatories: Signatories) -> None:
        """Know of none yet."""
        self.trust = signatories.trust
        self._vault_id = vault_id
        self._signatories = signatories
        self._known: dict[bytes, Signatures] = {}

    def learn(self, document: Encoded, keys: Mapping[str, bytes], members: Mapping[str, Sequence[Identity]]) -> None:
        """Take up the certificates of a scope that hold.

        Args:
            document: Of the scope.
            keys: The public keys of roles.
            members: Of each of these roles.
        """
        for role, key in keys.items():
            encoded = document.get(role, {})
            for member in members.get(role, ()):
                signatures = signatures_from_json(encoded.get(member.name, []))
                certificate = self._unsigned(role, key)._replace(signatures=signatures)
                if certificate.is_signed(self._vault_id, member):
                    self._known[certificate.message(self._vault_id, member)] = signatures

    def complete(self, keys: Mapping[str, bytes], members: Mapping[str, Sequence[Identity]]) -> None:
        """Have signed what is missing of the members of some roles.

        Raises:
            SignaturesMissing: Too few administrators signed.
        """
        missing = self.missing(keys, members)
        if missing:
            self.take(missing, self._signatories.sign(missing, counted(len(missing), "membership")))

    def missing(self, keys: Mapping[str, bytes], members: Mapping[str, Sequence[Identity]]) -> list[bytes]:
        """Return the messages that nobody has signed yet of the members of some roles."""
        wanted = {
            self._unsigned(role, key).message(self._vault_id, member)
            for role, key in keys.items()
            for member in members.get(role, ())
        }
        return sorted(wanted - self._known.keys())

    def take(self, messages: Sequence[bytes], signatures: Sequence[Signatures]) -> None:
        """Take up what was signed."""
        self._known.update(zip(messages, signatures, strict=True))

    def of(self, role: str, key: bytes, member: Identity) -> Certificate:
        """Return the certificate of a member; it has no signatures where nobody has signed it."""
        unsigned = self._unsigned(role, key)
        return unsigned._replace(signatures=self._known.get(unsigned.message(self._vault_id, member), ()))

    def to_json(self, keys: Mapping[str, bytes], members: Mapping[str, Sequence[Identity]]) -> Encoded:
        """Return the document of a scope in which some roles are. It leaves out whom nobody has signed for."""
        return {
            role: {
                member.name: signatures_to_json(signatures)
                for member in members[role]
                if (signatures := self.of(role, key, member).signatures)
            }
            for role, key in keys.items()
        }

    def _unsigned(self, role: str, key: bytes) -> Certificate:
        return Certificate(role, key, self.trust)


def read_certificates(opened: OpenVault) -> Encoded:
    """Return the certificates in a scope; none are there where its writers left something else in their place.

    Each of them holds by its own signatures or counts for nothing. So whoever writes a scope cannot keep administrators
    from changing it, who write the document anew.
    """
    content = opened.system_bytes(CERTIFICATES_PATH)
    if content is None:
        return {}
    try:
        found: Encoded = decode_document(content)
        verify_shape(found, dict, dict, list, str)
    except (TypeError, ValueError):
        return {}
    return found


def signatures_to_json(signatures: Signatures) -> list[str]:
    """Return signatures as documents keep them, each with its public key in front, in hexadecimal digits."""
    return [(key + signature).hex() for key, signature in signatures]


def signatures_from_json(encoded: Iterable[str]) -> Signatures:
    """Return the signatures of a document; what is none is left out."""
    found = []
    for text in encoded:
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            continue
        if len(raw) == PUBLIC_KEY_BYTES + SIGNATURE_BYTES:
            found.append((raw[:PUBLIC_KEY_BYTES], raw[PUBLIC_KEY_BYTES:]))
    return tuple(found)
