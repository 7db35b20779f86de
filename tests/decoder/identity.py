"""Identities: format.md section 4.11."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import unquote_to_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.decoder.ciphers import context, derive, hpke_open
from tests.decoder.octets import u8, u16
from tests.decoder.refusals import demand

NO_SCOPE = bytes(16)


def plain(text: str) -> bytes:
    """Decode base64url without padding, in its one spelling."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    demand(base64.urlsafe_b64encode(raw).rstrip(b"=") == text.encode(), "base64url that is not canonical")
    return raw


@dataclass(frozen=True, slots=True)
class Identity:
    """The key of slots of kind 11, as its file holds it; where another key protects it, the seed is given too."""

    text: str
    seed: bytes = b""
    kind = 11

    def kek(self, params: bytes, place: bytes) -> bytes:
        demand(len(params) == 1088 + 32 + 32 + 16, "a message of another size")
        fields = place[16:] + u8(11) + u16(0)
        info = b"securecfg/1/identity-slot\0" + context(0x10, place[:16], NO_SCOPE, 0, fields)
        return hpke_open(self.private_keys()[:96], params, info)

    def fingerprint(self) -> bytes:
        """Read the public line and return the fingerprint."""
        line = re.match(r"SECURECFG-IDENTITY-1 ([!-~]{1,255}) ([\w-]+) ([0-9a-f]{32})\n", self.text, re.ASCII)
        demand(line is not None, "not the public half of an identity")
        assert line is not None
        public = plain(line[2])
        demand(len(public) == 1184 + 32 + 32, "a public key of another size")
        told = b"securecfg/1/identity-id\0" + u8(len(line[1])) + line[1].encode() + public
        demand(sha256(told).hexdigest()[:32] == line[3], "another fingerprint")
        self._follow(line[1].encode(), public)
        return sha256(told).digest()[:16]

    def _follow(self, name: bytes, public: bytes) -> None:
        """Read the lines of former key pairs: each and the one above have signed for each other."""
        rest = self.text.split("\n", 1)[1]
        seen = [public]
        while line := re.match(r"SECURECFG-IDENTITY-PREVIOUS-1 ([\w-]+) ([\w-]+) ([\w-]+)\n", rest, re.ASCII):
            former, signatures = plain(line[1]), (plain(line[2]), plain(line[3]))
            demand([len(former), *map(len, signatures)] == [1184 + 32 + 32, 64, 64], "fields of another size")
            told = b"securecfg/1/identity-next\0" + u8(len(name)) + name + former + seen[-1]
            try:
                for key, signature in zip((former, seen[-1]), signatures, strict=True):
                    Ed25519PublicKey.from_public_bytes(key[-32:]).verify(signature, told)
            except (InvalidSignature, ValueError):
                demand(False, "a signature that does not verify")
            demand(former not in seen and len(seen) <= 8, "a key pair twice, or too many")
            seen.append(former)
            rest = rest[line.end() :]
        demand(
            not rest or re.fullmatch(r"SECURECFG-IDENTITY-KEY-1 [^\n]+\n", rest, re.ASCII) is not None, "another line"
        )

    def protection(self) -> tuple[str, bytes]:
        """Read the private line and return what protects it, and what is protected."""
        uri = r"((?:[A-Za-z0-9\-._~:/?=,;@+&]|%[0-9A-F]{2})+)"
        pattern = rf"((?:[^\n]+\n)+SECURECFG-IDENTITY-KEY-1 {uri} ([\w-]+)) ([0-9a-f]{{8}})\n"
        line = re.fullmatch(pattern, self.text, re.ASCII)
        demand(line is not None, "no private half")
        assert line is not None
        demand(sha256(line[1].encode()).hexdigest()[:8] == line[4], "another check")
        for octet in re.findall("%(..)", line[2]):
            demand(not re.match(rb"[A-Za-z0-9\-._~:/?=,;@+&]", bytes.fromhex(octet)), "a second spelling")
        return unquote_to_bytes(line[2]).decode(), plain(line[3])

    def private_keys(self) -> bytes:
        """Check the whole file, both halves, and return what follows from the seed."""
        self.fingerprint()
        protection, content = self.protection()
        scheme, _, rest = protection.partition(":")
        demand(scheme not in {"command", "identity"}, "a protection that is not allowed")
        demand(scheme != "pkcs11" or "module-path=" not in rest.partition("?")[2], "a protection that loads a library")
        seed = content if protection == "none" else self.seed
        demand(len(seed) == 32, "a seed of another size")
        keys = derive(seed, "securecfg/1/identity", b"", 128)
        public = (
            MLKEM768PrivateKey.from_seed_bytes(keys[:64]).public_key(),
            X25519PrivateKey.from_private_bytes(keys[64:96]).public_key(),
            Ed25519PrivateKey.from_private_bytes(keys[96:]).public_key(),
        )
        line = plain(self.text.split(" ")[2])
        demand(b"".join(half.public_bytes_raw() for half in public) == line, "a seed of another public key")
        return keys
