"""Paths as names of secrets in Azure Key Vault, and back, one to one. Pure.

A name is 1 to 127 ASCII letters, digits and hyphens, and case does not tell two apart. So the runs of hyphens say what
letters and digits do not:

| in the path | in the name |
|---|---|
| a-z, 0-9 | the same |
| `-` between two of these | `-` |
| `/` | `--` |
| `_` between two of these | `---` |
| any other character, and any other `-` or `_` | `----` and two hexadecimal digits, for each of its bytes in UTF-8 |
"""

from __future__ import annotations

import re
from typing import Final

from securecfg.errors import InvalidPath

NAME_LENGTH_MAX: Final = 127

_NAME = re.compile(r"[0-9A-Za-z-]{1,127}", re.ASCII)
_PARTS = re.compile(r"(?P<plain>[a-z0-9]+|(?<=[a-z0-9])[_-](?=[a-z0-9])|/)|.", re.ASCII | re.DOTALL)
_RUNS = re.compile(r"(?P<slash>--)?----(?P<byte>[0-9a-f]{2})|-{1,3}(?!-)|[0-9a-z]", re.ASCII)
_HYPHENS = {"-": "-", "/": "--", "_": "---"}
_MEANINGS = {hyphens: character for character, hyphens in _HYPHENS.items()}


def to_name(path: str) -> str:
    """Return the name under which a path is held.

    Raises:
        InvalidPath: It would be longer than a name may be.
    """
    name = _encode(path)
    if len(name) > NAME_LENGTH_MAX:
        message = f"the name of `{path}` in Azure Key Vault would have {len(name)} characters"
        hint = f"it takes {NAME_LENGTH_MAX}; what is no a-z, 0-9, `-`, `_` or `/` takes six for each byte"
        raise InvalidPath(message, hint=hint)
    return name


def to_path(name: str) -> str:
    """Return the path that a name stands for, an empty text where it stands for none."""
    name = name.lower()
    content = bytearray()
    at = 0
    while at < len(name):
        found = _RUNS.match(name, at)
        if found is None:
            return ""
        if found["byte"]:
            content += b"/" * bool(found["slash"]) + bytes.fromhex(found["byte"])
        else:
            content += _MEANINGS.get(found[0], found[0]).encode()
        at = found.end()
    try:
        path = content.decode()
    except UnicodeDecodeError:
        return ""
    # Many names would be read as one path: only the one that the path is written as stands for it.
    return path if _NAME.fullmatch(name) and _encode(path) == name else ""


def _encode(path: str) -> str:
    parts = []
    for part in _PARTS.finditer(path):
        if part["plain"]:
            parts.append(_HYPHENS.get(part[0], part[0]))
        else:
            parts += [f"----{byte:02x}" for byte in part[0].encode()]
    return "".join(parts)
