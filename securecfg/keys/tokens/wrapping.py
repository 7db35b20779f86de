"""How a key of a token wraps 32 bytes: what it offers is tried, in an order, and not assumed (format, section 4.2)."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.mechanisms import MGF, GCMParams

from securecfg.crypto import KEY_BYTES, KeyBytes, generate_key
from securecfg.errors import KeyMissing, KeyProviderRefused, KeyProviderUnavailable
from securecfg.keys.kek import wrong_key
from securecfg.keys.tokens.cryptoki import DEAD, LOST, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from securecfg.keys.tokens.uri import TokenUri

_NONCE_BYTES = 12
_WRAPPED_BYTES = KEY_BYTES + 8
_LEAST_RSA_BITS = 2048


class Wrapping(IntEnum):
    """The mechanisms of the format, in the order in which they are preferred."""

    AES_GCM = 1
    AES_KEY_WRAP = 2
    AES_KEY_WRAP_PADDED = 3
    RSA_OAEP_SHA256 = 5
    RSA_OAEP_SHA1 = 4


NAMES = {
    Wrapping.AES_GCM: "AES-GCM",
    Wrapping.AES_KEY_WRAP: "AES key wrap (RFC 3394)",
    Wrapping.AES_KEY_WRAP_PADDED: "AES key wrap with padding (RFC 5649)",
    Wrapping.RSA_OAEP_SHA256: "RSA-OAEP with SHA-256",
    Wrapping.RSA_OAEP_SHA1: "RSA-OAEP with SHA-1",
}
_OFFERED_AS = {
    Wrapping.AES_GCM: (Mechanism.AES_GCM,),
    Wrapping.AES_KEY_WRAP: (Mechanism.AES_KEY_WRAP,),
    # PKCS#11 3.0 calls it KWP; SoftHSM gives it the number whose meaning was disputed before.
    Wrapping.AES_KEY_WRAP_PADDED: (Mechanism.AES_KEY_WRAP_KWP, Mechanism.AES_KEY_WRAP_PAD),
    Wrapping.RSA_OAEP_SHA256: (Mechanism.RSA_PKCS_OAEP,),
    Wrapping.RSA_OAEP_SHA1: (Mechanism.RSA_PKCS_OAEP,),
}
_OAEP = {
    Wrapping.RSA_OAEP_SHA256: (Mechanism.SHA256, MGF.SHA256, None),
    Wrapping.RSA_OAEP_SHA1: (Mechanism.SHA_1, MGF.SHA1, None),
}
_NOTHING_BUT_THE_KEY = {
    Attribute.SENSITIVE: False,
    Attribute.EXTRACTABLE: True,
    Attribute.TOKEN: False,
    Attribute.PRIVATE: True,
}


class TokenKey(NamedTuple):
    """A key of a token, as it was when it was found.

    Attributes:
        key: The object.
        offered: The mechanisms of its token.
        candidates: The mechanisms of the format that key and token announce, the preferred first.
    """

    key: Any
    offered: frozenset[int]
    candidates: tuple[Wrapping, ...]

    def wrap(self, kek: KeyBytes, aad: bytes) -> bytes:
        """Return mechanism and ciphertext of the first mechanism that gives back what it took.

        Raises:
            KeyProviderRefused: There is none.
            PKCS11Error: The session is dead, or the module in trouble.
        """
        trouble: pkcs11.PKCS11Error | None = None
        for wrapping in self.candidates:
            try:
                ciphertext = self._encrypt(wrapping, kek, aad)
                if self._decrypt(wrapping, ciphertext, aad) == kek:
                    return bytes((wrapping,)) + ciphertext
            except DEAD:
                raise
            except LOST as error:
                trouble = error
            except pkcs11.PKCS11Error:
                continue  # announced, and not done: SoftHSM announces OAEP and does not do it with SHA-256
        if trouble is not None:
            raise trouble
        message = "the key of the token can neither decrypt nor unwrap with any of the mechanisms that are known here"
        raise KeyProviderRefused(
            message, hint="it has to be AES, or RSA of at least 2,048 bits, and allowed to decrypt"
        )

    def unwrap(self, params: bytes, aad: bytes) -> KeyBytes:
        """Return the key that was wrapped.

        Raises:
            WrongKey: The key, the bytes or the associated data are other ones.
            KeyProviderUnavailable: The token is out of order.
        """
        wrapping = next((known for known in self.candidates if params[:1] == bytes((known,))), None)
        if wrapping is None:
            raise wrong_key()
        try:
            return self._decrypt(wrapping, params[1:], aad)
        except DEAD:
            raise
        except pkcs11.PKCS11Error as error:
            # Tokens report altered bytes in every possible way, also as a general error.
            said = in_words(error)
        if any(self._is_sound(candidate, aad) for candidate in self.candidates):
            raise wrong_key()
        message = f"the token is out of order: it neither decrypts the slot nor what it has just encrypted ({said})"
        raise KeyProviderUnavailable(message, hint="look at the logs of its module")

    def describe(self) -> dict[str, str]:
        """Return what people may want to know of it."""
        exportable = _has(self.key, Attribute.EXTRACTABLE) or not _has(self.key, Attribute.SENSITIVE)
        kind = f"{self.key.key_type.name}-{self.key.key_length}"
        return {"key": f"{kind}, {'can' if exportable else 'cannot'} be exported"}

    def _encrypt(self, wrapping: Wrapping, kek: KeyBytes, aad: bytes) -> bytes:
        if wrapping in _OAEP:
            return self._public_encrypt(wrapping, kek)
        if wrapping is Wrapping.AES_GCM:
            nonce = os.urandom(_NONCE_BYTES)
            gcm = GCMParams(nonce, aad)
            ciphertext: bytes = self.key.encrypt(kek, mechanism=Mechanism.AES_GCM, mechanism_param=gcm)
            return nonce + ciphertext
        template = {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
            Attribute.VALUE: kek,
            **_NOTHING_BUT_THE_KEY,
        }
        carried = self.key.session.create_object(template)
        try:
            wrapped: bytes = self.key.wrap_key(carried, mechanism=self._mechanism(wrapping))
        finally:
            carried.destroy()
        return wrapped

    def _decrypt(self, wrapping: Wrapping, ciphertext: bytes, aad: bytes) -> KeyBytes:
        if wrapping in _OAEP:
            oaep = _OAEP[wrapping]
            return KeyBytes(self.key.decrypt(ciphertext, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=oaep))
        if wrapping is Wrapping.AES_GCM:
            if len(ciphertext) != _NONCE_BYTES + KEY_BYTES + 16:
                raise wrong_key()
            gcm = GCMParams(ciphertext[:_NONCE_BYTES], aad)
            sealed = ciphertext[_NONCE_BYTES:]
            return KeyBytes(self.key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=gcm))
        if len(ciphertext) != _WRAPPED_BYTES:
            raise wrong_key()
        carried = self.key.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.GENERIC_SECRET,
            ciphertext,
            mechanism=self._mechanism(wrapping),
            template=_NOTHING_BUT_THE_KEY,
        )
        try:
            return KeyBytes(carried[Attribute.VALUE])
        finally:
            carried.destroy()

    def _public_encrypt(self, wrapping: Wrapping, kek: KeyBytes) -> bytes:
        """Encrypt for the key's public half, here: the token is not needed for that."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        modulus = int.from_bytes(self.key[Attribute.MODULUS])
        exponent = int.from_bytes(self.key[Attribute.PUBLIC_EXPONENT])
        hash_ = hashes.SHA256() if wrapping is Wrapping.RSA_OAEP_SHA256 else hashes.SHA1()  # noqa: S303 - OAEP does not need collision resistance, and many tokens know no other
        oaep = padding.OAEP(mgf=padding.MGF1(hash_), algorithm=hash_, label=None)
        return rsa.RSAPublicNumbers(exponent, modulus).public_key().encrypt(bytes(kek), oaep)

    def _is_sound(self, wrapping: Wrapping, aad: bytes) -> bool:
        """Return whether the token decrypts what it has just encrypted."""
        probe = generate_key()
        try:
            return self._decrypt(wrapping, self._encrypt(wrapping, probe, aad), aad) == probe
        except pkcs11.PKCS11Error:
            return False

    def _mechanism(self, wrapping: Wrapping) -> Mechanism:
        return next(mechanism for mechanism in _OFFERED_AS[wrapping] if mechanism in self.offered)


def find_key(session: Any, uri: TokenUri) -> TokenKey:  # noqa: ANN401 - the session's class is made in C
    """Return the key that a URI names.

    Raises:
        KeyMissing: The token has no such key.
        KeyProviderRefused: It has several.
    """
    found = list(_matching(session, uri))
    if not found:
        message = f"the token `{uri.token_name}` has no key `{uri.key_name}`"
        raise KeyMissing(message, hint="`securecfg key add` makes it; `pkcs11-tool --list-objects` shows what is there")
    if len(found) > 1:
        message = f"the token `{uri.token_name}` has {len(found)} keys `{uri.key_name}`"
        raise KeyProviderRefused(message, hint="add `id=` or `type=` to the key URI")
    key, offered = found[0], frozenset(session.token.slot.get_mechanisms())
    candidates = [known for known in Wrapping if _may(key, known) and offered.intersection(_OFFERED_AS[known])]
    return TokenKey(key, offered, tuple(candidates))


def _may(key: Any, wrapping: Wrapping) -> bool:  # noqa: ANN401 - as above
    if key.key_type == KeyType.RSA:
        return wrapping in _OAEP and _has(key, Attribute.DECRYPT) and key.key_length >= _LEAST_RSA_BITS
    if key.key_type != KeyType.AES:
        return False
    if wrapping is Wrapping.AES_GCM:
        return _has(key, Attribute.ENCRYPT) and _has(key, Attribute.DECRYPT)
    return wrapping not in _OAEP and _has(key, Attribute.WRAP) and _has(key, Attribute.UNWRAP)


def _has(key: Any, attribute: Attribute) -> bool:  # noqa: ANN401 - as above
    try:
        return bool(key[attribute])
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive):
        return False


def _matching(session: Any, uri: TokenUri) -> Iterable[Any]:  # noqa: ANN401 - the classes of the library are made in C
    named: dict[Attribute, object] = {}
    if uri.object is not None:
        named[Attribute.LABEL] = uri.object
    if uri.id is not None:
        named[Attribute.ID] = uri.id
    classes = {"secret-key": ObjectClass.SECRET_KEY, "private": ObjectClass.PRIVATE_KEY}
    for name, object_class in classes.items():
        if uri.type in {None, name}:
            yield from session.get_objects({Attribute.CLASS: object_class, **named})
