"""What system documents must look like: whoever may write a part chooses what is in them."""

from __future__ import annotations

import json
import struct
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from securecfg.errors import Tampered
from securecfg.secret import Secret
from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.vault.opened import OpenVault

MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
"""What taking up something fails with that is not as it must be."""


def decode_document(content: bytes) -> Any:  # noqa: ANN401 - whatever it holds
    """Return what JSON holds.

    Raises:
        ValueError: It is none, nests too deep, or holds text that is none.
    """
    text = content.decode()  # of bytes `json` would guess the encoding, and let halves of characters pass
    try:
        document = json.loads(text)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError from None
    return document


def metadata_of(content: bytes) -> Mapping[str, str]:
    """Return the metadata of a version.

    Raises:
        Tampered: They are none, which a writer left there.
    """
    try:
        document = decode_document(content) if content else {}
        verify_shape(document, dict, str)
    except (TypeError, ValueError):
        message = "the metadata of a version are malformed"
        raise Tampered(message, hint="who may write there may have done so; the log tells who changed it") from None
    return MappingProxyType(document)


@contextmanager
def parsing(opened: OpenVault, path: bytes) -> Iterator[None]:
    """Take up a document of a part; what does not fit is its writer's doing.

    Raises:
        Tampered: It is malformed.
    """
    try:
        yield
    except (*MALFORMED, OSError):  # a time that there cannot be is an `OSError` in some places
        seat = opened.replica.seat
        scope = seat.charter.charter.path if seat is not None and seat.charter is not None else ""
        name = path.removeprefix(SYSTEM).decode(errors="replace").encode("unicode_escape").decode()
        message = f"the document `{name}` of {f'the scope `{scope}`' if scope else 'the vault'} is malformed"
        raise Tampered(message, hint="who may write there may have done so; the log tells who changed it") from None


def read_shaped(opened: OpenVault, path: bytes, *levels: type) -> Any:  # noqa: ANN401 - as the levels say
    """Return a system document of a shape, empty where there is none.

    Args:
        opened: The part.
        path: Which document.
        levels: The type of the document, of what is in that, and so on.

    Raises:
        Tampered: It is of another shape, or damaged.
    """
    document = opened.system_document(path, levels[0]())
    with parsing(opened, path):
        verify_shape(document, *levels)
    return document


def split_document(content: bytes) -> dict[str, Secret[str]] | None:
    """Return the members of a document that holds secrets, each as JSON behind a `Secret`; None where it is no object.

    It raises nothing, so that nothing of it is in a frame that a traceback shows.
    """
    try:
        document = decode_document(content)
        verify_shape(document, dict, dict)
        return {name: Secret(json.dumps(member, ensure_ascii=False), label=name) for name, member in document.items()}
    except MALFORMED:
        return None


def verify_shape(document: Any, *levels: type) -> None:  # noqa: ANN401 - whatever it holds
    """Check the shape of a document; see `read_shaped`.

    Raises:
        TypeError: It is another one.
    """
    if document.__class__ is not levels[0]:
        raise TypeError
    if levels[1:]:
        inner: Any = document.values() if isinstance(document, dict) else document
        for each in inner:
            verify_shape(each, *levels[1:])
