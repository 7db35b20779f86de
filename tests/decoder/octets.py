"""Reading fields from a row: format.md section 1."""

from __future__ import annotations

from tests.decoder.refusals import demand


class Octets:
    """A row, or what was sealed in one, read from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        demand(size <= len(self.data) - self.at, f"ends at {len(self.data)}, {size} more bytes expected at {self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def u8(self) -> int:
        return self.number(1)

    def u16(self) -> int:
        return self.number(2)

    def u32(self) -> int:
        return self.number(4)

    def u64(self) -> int:
        return self.number(8)

    def str8(self) -> str:
        return self.take(self.u8()).decode()

    def str16(self) -> bytes:
        return self.take(self.u16())

    def var32(self) -> bytes:
        return self.take(self.u32())

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    def end(self) -> None:
        demand(self.at == len(self.data), f"{len(self.data) - self.at} bytes after the last field")

    def padding(self, multiple: int, least: int = 0) -> None:
        """Expect zeros up to the next multiple, and nothing after them."""
        whole = max(least, -(-self.at // multiple) * multiple)
        demand(len(self.data) == whole, f"padded to {len(self.data)} bytes instead of {whole}")
        demand(not any(self.rest()), "padding that is not zero")

    def start(self, kind: int) -> None:
        """Read the type byte and the suite with which every sealed row begins."""
        demand(self.u8() == kind, "another type of row")
        demand(self.u8() == 1, "another suite")


def u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")
