"""Values in stores that hold bytes for each secret, and do not say of what kind they are (section 4 of the contract).

What is UTF-8 is text, and fields where it is a JSON object of texts; everything else is bytes. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from securecfg.backends.byte_values import to_bytes, to_value
from securecfg.backends.interface import Kind
from securecfg.backends.json_fields import held_of
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.backends.interface import Content
    from securecfg.vault.values import Value


class Payloads(Protocol):
    """How values are held.

    Attributes:
        kinds: What can be held so.
    """

    @property
    def kinds(self) -> frozenset[Kind]:
        """What can be held so."""
        ...

    def hold(self, content: Content) -> bytes:
        """Return what is held for a value.

        Raises:
            Unsupported: It would come back as something else, or is empty.
            ValueTooLarge: It is longer than the store takes.
        """
        ...

    def show(self, payload: bytes, label: str) -> Value:
        """Return the value that is held."""
        ...


class ToldByContent(NamedTuple):
    """Values of all kinds, told apart by what they are.

    Attributes:
        bytes_max: Of the longest value.
        title: What the store is called.
        bytes_hint: How bytes can be written that are text too.
    """

    bytes_max: int
    title: str
    bytes_hint: str

    @property
    def kinds(self) -> frozenset[Kind]:
        """All kinds."""
        return frozenset(Kind)

    def hold(self, content: Content) -> bytes:
        """Return what is held for a value."""
        held_of(content, self.bytes_max, self.title)
        return to_bytes(content, self.bytes_hint)

    def show(self, payload: bytes, label: str) -> Value:
        """Return the value that is held."""
        return to_value(payload, label)


class BytesAlone(NamedTuple):
    """Values that are bytes, whatever they look like.

    Attributes:
        bytes_max: Of the longest value.
        title: What the store is called.
    """

    bytes_max: int
    title: str

    @property
    def kinds(self) -> frozenset[Kind]:
        """Bytes."""
        return frozenset({Kind.BYTES})

    def hold(self, content: Content) -> bytes:
        """Return what is held for a value."""
        held = held_of(content, self.bytes_max, self.title)
        return held.encode() if isinstance(held, str) else held

    def show(self, payload: bytes, label: str) -> Value:
        """Return the value that is held."""
        return Secret(payload, label=label)
