"""Reading and writing of length-prefixed fields, big-endian."""

from __future__ import annotations

import struct

U8 = struct.Struct(">B")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")


class Malformed(ValueError):
    """Bytes end too early, go on too long or break a fixed rule. Internal: callers turn it into a named error."""


class Cursor:
    """A position in bytes that refuses to read past the end."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        """Start at a position."""
        self.data = data
        self.position = position

    def take(self, size_bytes: int) -> bytes:
        """Return the next bytes.

        Raises:
            Malformed: There are fewer.
        """
        start = self.position
        end = start + size_bytes
        if end > len(self.data):
            message = "ends too early"
            raise Malformed(message)
        self.position = end
        return self.data[start:end]

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next two bytes as an integer."""
        return int.from_bytes(self.take(2))

    def u32(self) -> int:
        """Return the next four bytes as an integer."""
        return int.from_bytes(self.take(4))

    def u64(self) -> int:
        """Return the next eight bytes as an integer."""
        return int.from_bytes(self.take(8))

    def str8(self) -> str:
        """Return text with a one-byte length.

        Raises:
            Malformed: It is cut off or not UTF-8.
        """
        return self._text(self.take(self.u8()))

    def str16(self) -> str:
        """Return text with a two-byte length.

        Raises:
            Malformed: It is cut off or not UTF-8.
        """
        return self._text(self.take(self.u16()))

    def var8(self) -> bytes:
        """Return bytes with a one-byte length."""
        return self.take(self.u8())

    def var16(self) -> bytes:
        """Return bytes with a two-byte length."""
        return self.take(self.u16())

    def var32(self) -> bytes:
        """Return bytes with a four-byte length."""
        return self.take(self.u32())

    def finish_padding(self, multiple: int) -> None:
        """Require that the fewest zero bytes follow that fill the whole up to a multiple, as `pad` adds them.

        Raises:
            Malformed: Something else follows, or more zeros or fewer.
        """
        size = len(self.data) - self.position
        if size != -self.position % multiple or self.data.count(0, self.position) != size:
            message = "is followed by other bytes than padding"
            raise Malformed(message)

    def finish(self) -> None:
        """Require that nothing follows.

        Raises:
            Malformed: Something follows.
        """
        if self.position != len(self.data):
            message = "is followed by other bytes"
            raise Malformed(message)

    @staticmethod
    def _text(raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            message = "is not UTF-8"
            raise Malformed(message) from None


def var8(content: bytes) -> bytes:
    """Return bytes with a one-byte length in front."""
    return U8.pack(len(content)) + content


def var16(content: bytes) -> bytes:
    """Return bytes with a two-byte length in front."""
    return U16.pack(len(content)) + content


def var32(content: bytes) -> bytes:
    """Return bytes with a four-byte length in front."""
    return U32.pack(len(content)) + content


def pad(content: bytes, multiple: int) -> bytes:
    """Return bytes filled with zeros to a multiple."""
    size = len(content)
    return content.ljust(size + -size % multiple, b"\x00")
