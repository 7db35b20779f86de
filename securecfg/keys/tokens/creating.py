"""New keys on a token, which never leave it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag

from securecfg.errors import KeyMissing, KeyProviderRefused
from securecfg.keys.tokens.cryptoki import DEAD
from securecfg.keys.tokens.wrapping import find_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys.tokens.uri import TokenUri

AES_BITS = 256
RSA_BITS = (3072, 2048)  # a TPM may make no larger ones

_ID_BYTES = 16
_FOR_THIS_ALONE = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
_FOR_ALL_OF_A_TPM = _FOR_THIS_ALONE | MechanismFlag.SIGN | MechanismFlag.VERIFY  # whose keys do both or are not made
_STAYS = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}


def has_key(session: Any, uri: TokenUri) -> bool:  # noqa: ANN401 - the session's class is made in C
    """Return whether the token has the key that a URI names.

    Raises:
        KeyProviderRefused: It has several.
    """
    try:
        find_key(session, uri)
    except KeyMissing:
        return False
    return True


def create_key(session: Any, uri: TokenUri) -> None:  # noqa: ANN401 - the session's class is made in C
    """Make the key that a URI names.

    Args:
        session: A session that may write.
        uri: Gives label, and id and type where it has them.

    Raises:
        KeyProviderRefused: The token makes neither AES nor RSA keys, or not the type that the URI asks for.
    """
    named = {"id": uri.id or os.urandom(_ID_BYTES), "label": uri.object, "store": True}
    attempts: list[tuple[Callable[..., None], int, MechanismFlag]] = []
    if uri.type != "private":
        attempts.append((_make_aes, AES_BITS, _FOR_THIS_ALONE))
    if uri.type != "secret-key":
        attempts += [(_make_rsa, bits, may) for bits in RSA_BITS for may in (_FOR_THIS_ALONE, _FOR_ALL_OF_A_TPM)]
    for make, bits, may in attempts:
        try:
            make(session, bits, may, named)
        except DEAD:
            raise
        except pkcs11.PKCS11Error:
            continue  # tokens say in many ways that they make no such keys
        return
    message = f"the token `{uri.token_name}` makes no key that could be used here"
    raise KeyProviderRefused(message, hint="make an AES-256 or RSA key with the token's own program, and name it")


def _make_aes(session: Any, bits: int, may: MechanismFlag, named: dict[str, Any]) -> None:  # noqa: ANN401 - the session's class is made in C
    session.generate_key(KeyType.AES, bits, capabilities=may, template=_STAYS, **named)


def _make_rsa(session: Any, bits: int, may: MechanismFlag, named: dict[str, Any]) -> None:  # noqa: ANN401 - the session's class is made in C
    session.generate_keypair(KeyType.RSA, bits, capabilities=may, private_template=_STAYS, **named)
