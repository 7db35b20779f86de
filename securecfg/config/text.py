"""What every format has in common: bytes that must be text, positions in it, and limits."""

from __future__ import annotations

from bisect import bisect_left

from securecfg.config.tree import pack
from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError

MAX_BYTES = 64 * 1024 * 1024
"""The largest document that is read."""

MAX_DEPTH = 100
"""The deepest nesting, aliases included. No program needs more, and every walk of a tree may recurse this far."""

MAX_ALIASED_NODES = 100_000
"""How many values aliases may repeat in one YAML document. Values that are written out are not counted."""

_BOM = b"\xef\xbb\xbf"


def decode(content: bytes, path: str) -> str:
    """Return a document's text, without a byte order mark.

    Raises:
        ConfigLimitExceeded: It is too large.
        ConfigSyntaxError: It is not UTF-8, or contains a NUL.
    """
    if len(content) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES} bytes"
        raise ConfigLimitExceeded(message, place=path, hint="split it, or keep bulk data out of the configuration")
    content = content.removeprefix(_BOM)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        place = f"{path}:{Lines(content[: error.start].decode(errors='replace')).spell(None)}"
        undecodable = ConfigSyntaxError("is not UTF-8", place=place, hint="save the file as UTF-8")
    else:
        nul = text.find("\0")
        if nul < 0:
            return text
        place = f"{path}:{Lines(text).spell(nul)}"
        undecodable = ConfigSyntaxError("contains a NUL character", place=place, hint="save the file as UTF-8")
    # Outside the handler: a decoding error carries the whole document with it.
    raise undecodable


class Lines:
    """The lines of a text, for turning offsets into lines and columns."""

    __slots__ = ("_ends", "_length")

    def __init__(self, text: str) -> None:
        """Find the line ends."""
        self._length = len(text)
        self._ends: list[int] = []
        at = text.find("\n")
        while at >= 0:
            self._ends.append(at)
            at = text.find("\n", at + 1)

    def position(self, offset: int) -> int:
        """Return an offset as a packed position."""
        line, column = self._line_and_column(offset)
        return pack(line, column)

    def spell(self, offset: int | None) -> str:
        """Return an offset as `line:column`; the end of the text for None."""
        line, column = self._line_and_column(self._length if offset is None else offset)
        return f"{line}:{column}"

    def _line_and_column(self, offset: int) -> tuple[int, int]:
        before = bisect_left(self._ends, offset)
        return before + 1, offset - (self._ends[before - 1] if before else -1)
