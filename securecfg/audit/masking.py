"""Masked fields: equal values can be recognised, and nothing else be learned, by whoever lacks the masking key.

Destroying the key of an epoch makes its masked fields meaningless while the log still verifies. Secret values are never
recorded, not even masked: a short one could be guessed by anyone who holds the key.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from securecfg.audit.record import Scalar

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"

_MASK_CHARS = 16
_MAX_CHARS = 1_024
_MAX_INTEGER = (1 << 53) - 1


class Masker:
    """Masks with the key of one epoch.

    Args:
        epoch: The number of the key.
        key: 32 random bytes.
    """

    __slots__ = ("_epoch", "_key")

    def __init__(self, epoch: int, key: bytes) -> None:
        """Hold the key."""
        self._epoch = epoch
        self._key = key

    def mask(self, field: str, value: Json) -> str:
        """Return `m<epoch>:` and 96 bits of a keyed hash over the field's name and the value with its type.

        Equal values of different types, such as `1` and `true`, differ when masked.
        """
        message = field.encode(errors="surrogatepass") + b"\x00" + _encode(value)
        digest = hmac.digest(self._key, message, "sha256")
        return f"m{self._epoch}:{base64.urlsafe_b64encode(digest)[:_MASK_CHARS].decode()}"

    def mask_context(self, context: Mapping[str, Json], sensitive: Collection[str]) -> dict[str, Scalar | list[Scalar]]:
        """Return a context fit for a record: sensitive fields masked, others as they are.

        What a record cannot hold (fractions, large integers, nested values) is given as JSON text, and what is too
        long for it is masked too, so that a long context never keeps an access from being recorded.
        """
        return {name: self._plain_or_masked(name, value, sensitive) for name, value in context.items()}

    def _plain_or_masked(self, name: str, value: Json, sensitive: Collection[str]) -> Scalar | list[Scalar]:
        if name in sensitive:
            return self.mask(name, value)
        plain = _plain(value)
        length = len(plain) if isinstance(plain, str) else len(_to_text(plain))
        return self.mask(name, value) if length > _MAX_CHARS else plain


def _encode(value: Json) -> bytes:
    """Return a type tag and the value, injective over all JSON."""
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"b1" if value else b"b0"
    if isinstance(value, str):
        return b"s" + value.encode(errors="surrogatepass")
    tag = b"i" if isinstance(value, int) else b"f" if isinstance(value, float) else b"j"
    return tag + _to_text(value).encode()


def _plain(value: Json) -> Scalar | list[Scalar]:
    if _is_scalar(value):
        return value  # type: ignore[return-value]  # narrowed by the check
    if isinstance(value, list | tuple) and all(_is_scalar(item) for item in value):
        return list(value)
    return _to_text(value)


def _is_scalar(value: Json) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) <= _MAX_INTEGER)


def _to_text(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
