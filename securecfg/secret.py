"""A value that masks itself.

A `Secret` shows nothing of its value in any form that Python produces by itself: `repr`, `str`, formatting, tracebacks
with locals, `vars`, JSON. `reveal()` is the only way out; `view()` lends a copy that is wiped afterwards.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T", str, bytes)
V = TypeVar("V")
_HELD = (str, bytes)  # a union would be built and searched at every call

MASK = "***"


class Secret(Generic[T]):
    """Text or bytes that must not be shown by accident.

    It is itself when copied, compares in constant time, is not hashable, and raises `TypeError` when pickled or
    JSON-encoded.

    Args:
        value: The text or bytes to hold.
        label: What to call it where it is shown masked, for instance its path. Not a part of the value.
    """

    __slots__ = ("_label", "_load")

    _label: str
    _load: Callable[[], T]

    def __init__(self, value: T, *, label: str = "") -> None:
        """Hold a value."""
        if not isinstance(value, _HELD):
            message = "a secret holds text or bytes"
            raise TypeError(message)
        # A closure rather than an attribute: a debugger or a crash report that dumps `__slots__` finds a function.
        _set_load(self, lambda: value)
        _set_label(self, label)

    @classmethod
    def deferred(cls, load: Callable[[], T], *, label: str = "") -> Self:
        """Return a secret whose value is fetched at each `reveal()`.

        Args:
            load: Returns the value; whatever it raises reaches the caller of `reveal()`.
            label: What to call it where it is shown masked.
        """
        secret = object.__new__(cls)
        _set_load(secret, load)
        _set_label(secret, label)
        return secret

    @property
    def label(self) -> str:
        """What the secret is called where it is shown masked."""
        return self._label

    def reveal(self) -> T:
        """Return the value. From here on it is the caller's to protect."""
        return self._load()

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        """Lend the value's bytes (text as UTF-8) in a buffer that is overwritten with zeros on exit.

        The buffer is wiped; the immutable object that the value was held in cannot be.
        """
        value = self._load()
        buffer = bytearray(value.encode() if isinstance(value, str) else value)
        view = memoryview(buffer)
        try:
            yield view
        finally:
            buffer[:] = bytes(len(buffer))
            view.release()

    def __repr__(self) -> str:
        """Show the label and a mask."""
        return f"<Secret {self._label} {MASK}>" if self._label else f"<Secret {MASK}>"

    def __str__(self) -> str:
        """Show a mask."""
        return MASK

    def __format__(self, _spec: str) -> str:
        """Show a mask whatever the format."""
        return MASK

    def __eq__(self, other: object) -> bool:
        """Compare in time that does not depend on where the values differ; other types are never equal."""
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = self._load(), other._load()
        if isinstance(mine, str) and isinstance(theirs, str):
            return hmac.compare_digest(mine.encode(), theirs.encode())
        if isinstance(mine, bytes) and isinstance(theirs, bytes):
            return hmac.compare_digest(mine, theirs)
        return False

    __hash__ = None  # type: ignore[assignment]  # a hash of a low-entropy value would disclose it

    def __setattr__(self, _name: str, _value: object) -> NoReturn:
        """Refuse: a secret does not change."""
        message = "a Secret cannot be changed"
        raise AttributeError(message)

    def __copy__(self) -> Self:
        """Return itself."""
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        """Return itself."""
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """Refuse to be pickled."""
        message = "a Secret cannot be pickled; pass its path instead, or reveal() it on purpose"
        raise TypeError(message)

    def __iter__(self) -> NoReturn:
        """Refuse to be taken apart."""
        message = "a Secret cannot be iterated; reveal() it on purpose"
        raise TypeError(message)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, _handler: Any) -> Any:  # noqa: ANN401 - pydantic's own types
        """Tell pydantic how to validate a field of this type: an instance as it is, plain text or bytes by wrapping."""
        from typing import get_args

        from pydantic_core import core_schema

        wanted = get_args(source)[:1]
        kind: type = wanted[0] if wanted and isinstance(wanted[0], type) else object

        def accept(value: object) -> Secret[Any]:
            if isinstance(value, Secret):
                return value
            if value == MASK:
                message = "a mask is not a secret; it comes from a masked dump"
                raise ValueError(message)
            if isinstance(value, str | bytes) and (kind is object or isinstance(value, kind)):
                return Secret(value)
            message = "a secret is text or bytes"
            raise ValueError(message)

        return core_schema.no_info_plain_validator_function(
            accept,
            # In Python's own types a secret stays itself, so that a model can be dumped and made again.
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _secret: MASK, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:  # noqa: ANN401 - pydantic's own types
        """Tell pydantic how a field of this type looks in JSON Schema."""
        return {"type": "string", "format": "password", "writeOnly": True}


# What `__setattr__` refuses to everybody else.
_set_load, _set_label = Secret.__dict__["_load"].__set__, Secret.__dict__["_label"].__set__


def behind(value: V) -> Callable[[], V]:
    """Return a function that returns a value: what shows locals, as crash reporters do, shows a function.

    What the caller may alter or wipe meanwhile is copied.
    """
    held: object = value
    if isinstance(value, bytearray):
        held = bytes(value)
    elif isinstance(value, Mapping):
        held = dict(value)
    return lambda: held  # type: ignore[return-value]  # the same value, and of the same kind as far as its users tell
