"""Values on their way in and out: from standard input, a prompt or a file, and to standard output."""

from __future__ import annotations

import json
import sys
from base64 import b64decode, b64encode
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from securecfg.errors import FileMissing, SettingMissing, StoreFailed, UsageError, ValueTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.cli.invocation import Invocation
    from securecfg.secret import Secret

    Plain = str | bytes | dict[str, str | bytes]

WHOLE_BYTES_MAX = 1 << 20
PIPE_BYTES_MAX = 64 << 20
_BASE64 = "base64"
# What is empty is most often a mistake: a key pressed too early, or a pipe whose program failed.
_EMPTY_VALUE = "an empty value can be written from an empty file with `--file`"
_EMPTY_FIELD = "a field that is empty on purpose can be written with `--fields` as JSON"


def is_typed() -> bool:
    """Return whether a value would be typed on a terminal rather than come through a pipe."""
    return sys.stdin is None or sys.stdin.isatty()


def note_newline(invocation: Invocation, value: Plain | BinaryIO, file: str | None) -> None:
    """Tell a person that the newline which a pipe has added is part of the value."""
    is_line = isinstance(value, str) and value.endswith("\n") and value.count("\n") == 1
    if is_line and file is None and not is_typed():
        invocation.note("note: the value ends with a newline, which is kept; `printf %s` sends none")


@contextmanager
def open_value(
    file: str | None, fields: Sequence[str], *, is_mapping: bool, is_silent: bool
) -> Iterator[Plain | BinaryIO]:
    """Lend the value that a person or a pipe gives. A large file is not held in memory.

    Args:
        file: A file to read instead of standard input.
        fields: The names of fields to ask for, each on the terminal; one may come through a pipe.
        is_mapping: Whether standard input is a JSON object of fields.
        is_silent: Whether nobody may be asked.

    Raises:
        UsageError: The input is not what the options say.
        SettingMissing: There is nothing to read and nobody to ask.
        FileMissing, StoreFailed: The file cannot be read.
        ValueTooLarge: A pipe delivers more than can be held.
    """
    with ExitStack() as stack:
        if file is not None:
            source: BinaryIO = stack.enter_context(_open_file(file))
        elif is_typed():
            yield _ask(fields, is_mapping=is_mapping, is_silent=is_silent)
            return
        else:
            source = sys.stdin.buffer
        if is_mapping:
            yield parse_fields(_read_whole(source))
        elif fields:
            name, content = _only(fields), _read_whole(source)
            if not content and file is None:
                raise _nothing_came(_EMPTY_FIELD)
            yield {name: _as_text(content)}
        else:
            start = source.tell() if source.seekable() else 0
            head = source.read(WHOLE_BYTES_MAX + 1)
            if not head and file is None:
                raise _nothing_came(_EMPTY_VALUE)
            if len(head) <= WHOLE_BYTES_MAX:
                yield _as_text(head)
            elif source.seekable():
                source.seek(start)
                yield source
            else:
                yield head + _read_whole(source, len(head))


def parse_fields(raw: bytes) -> dict[str, str | bytes]:
    """Return the fields of a JSON object of texts, or of `{"base64": TEXT}` for bytes.

    Raises:
        UsageError: It is something else.
    """
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
        if isinstance(value, dict) and value:
            return {name: _field(content) for name, content in value.items()}
    except (ValueError, RecursionError):
        pass
    message = "the fields are not one JSON object of texts"
    raise UsageError(message, hint='for instance `{"user": "app", "password": "..."}`, each name once')


def revealed(content: str | bytes) -> str | dict[str, str]:
    """Return text as it is, and bytes as JSON can hold them: `{"base64": TEXT}`."""
    return content if isinstance(content, str) else {_BASE64: b64encode(content).decode()}


def revealed_fields(fields: Mapping[str, Secret[str] | Secret[bytes]]) -> dict[str, Any]:
    """Return all fields as JSON can hold them."""
    return {name: revealed(secret.reveal()) for name, secret in fields.items()}


def _ask(fields: Sequence[str], *, is_mapping: bool, is_silent: bool) -> Plain:
    from securecfg.cli.prompts import ask_new

    if is_silent:
        message = "there is no value: standard input is a terminal and nobody may be asked"
        raise SettingMissing(message, hint="pipe the value in, or name a file with `--file`")
    if is_mapping:
        message = "fields as JSON come through a pipe"
        raise UsageError(message, hint="name each with `--field NAME` to be asked for it")
    if fields:
        return {name: ask_new(name, if_empty=_EMPTY_FIELD) for name in fields}
    return ask_new("value", if_empty=_EMPTY_VALUE)


def _open_file(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        message = f"`{path}` does not exist"
        raise FileMissing(message) from None
    except OSError as error:
        message = f"cannot read `{path}`: {error.strerror}"
        raise StoreFailed(message) from None


def _read_whole(source: BinaryIO, known: int = 0) -> bytes:
    try:
        content = source.read(PIPE_BYTES_MAX + 1 - known)
    except OSError as error:
        message = f"cannot read the value: {error.strerror}"
        raise StoreFailed(message) from None
    if known + len(content) > PIPE_BYTES_MAX:
        message = f"more than {PIPE_BYTES_MAX >> 20} MiB came through a pipe"
        raise ValueTooLarge(message, hint="name the file with `--file`; files may have 1 GiB")
    return content


def _as_text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _nothing_came(hint: str) -> UsageError:
    return UsageError("standard input is empty", hint=hint)


def _only(fields: Sequence[str]) -> str:
    if len(fields) > 1:
        message = "a pipe delivers one field"
        raise UsageError(message, hint="pipe a JSON object with `--fields` to set several")
    return fields[0]


def _field(content: object) -> str | bytes:
    if isinstance(content, str):
        return content
    if isinstance(content, dict) and set(content) == {_BASE64} and isinstance(content[_BASE64], str):
        return b64decode(content[_BASE64], validate=True)
    raise ValueError


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError
    return mapping


def _refuse(_constant: str) -> NoReturn:
    raise ValueError
