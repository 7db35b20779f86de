"""Values as callers give and get them, and the bytes they are sealed as."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from securecfg.crypto import KIND_BYTES, KIND_FIELDS, KIND_TEXT, decode_fields, encode_fields
from securecfg.errors import InvalidMetadata, Tampered, UsageError, VersionNotFound
from securecfg.secret import Secret
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

T = TypeVar("T", str, bytes)
Fields = Mapping[str, Secret[str] | Secret[bytes]]
Value = Secret[str] | Secret[bytes] | Fields
Plain = (
    str | bytes | bytearray | Secret[str] | Secret[bytes] | Mapping[str, "str | bytes | Secret[str] | Secret[bytes]"]
)

VersionId = int | str
"""What names a version: its number from 1, or in a mount the text that the store calls it."""


class SecretVersion(NamedTuple):
    """One version of a secret, as `read` returns it.

    Attributes:
        path: The secret's path.
        version: The version's number, from 1, or what a store that is mounted calls it.
        value: A `Secret`, or a mapping of field names to `Secret`s.
        created: When it was written, aware and in UTC; None where a store that is mounted does not say.
        expires: When it stops being readable, or None.
        labels: The labels that point at it: `current`, `previous`, `pending`, and those that people set.
        metadata: Text that is shown with it.
        author: The principal that wrote it.
        content_type: Of a configuration document, such as `application/yaml`; empty otherwise.
    """

    path: str
    version: VersionId
    value: Value
    created: datetime | None
    expires: datetime | None
    labels: tuple[str, ...]
    metadata: Mapping[str, str]
    author: str
    content_type: str

    def field(self, name: str) -> Secret[str] | Secret[bytes]:
        """Return a field of the value; an empty name stands for a value without fields.

        Raises:
            VersionNotFound: The value has no such field, or has fields and none is named.
        """
        if isinstance(self.value, Secret):
            if not name:
                return self.value
            message = f"`{self.path}` has no fields"
            hint = f"leave out `#{name}`, or write it anew: `securecfg secret put {self.path} --field {name} --replace`"
            raise VersionNotFound(message, hint=hint)
        if name in self.value:
            return self.value[name]
        message = f"`{self.path}` has no field `{name}`" if name else f"`{self.path}` has fields, and none is named"
        raise VersionNotFound(message, hint="its fields are " + ", ".join(f"`{known}`" for known in self.value))


def as_number(version: VersionId) -> int:
    """Return what names a version in the vault itself.

    Raises:
        UsageError: It is the name that a store has given, and nothing here has one.
    """
    if not isinstance(version, int):
        message = "versions in the vault itself are named by their numbers"
        raise UsageError(message, hint="other names are those of stores that are mounted; `history` lists the versions")
    return version


to_secret_version = partial(tuple.__new__, SecretVersion)
"""Makes one from a tuple of its fields, in half the time."""


def encode_value(value: Plain) -> tuple[int, bytes]:
    """Return the kind and the content of a value.

    Raises:
        UsageError: It is neither text, bytes nor a mapping of names to those.
        InvalidMetadata: A field's name or text breaks the rules.
        ValueTooLarge: It has too many fields.
    """
    plain_value = value.reveal() if isinstance(value, Secret) else value
    if isinstance(plain_value, str):
        try:
            return KIND_TEXT, plain_value.encode()
        except UnicodeEncodeError:
            message = "the value is not valid Unicode text"
            raise InvalidMetadata(message, hint="give bytes instead of text") from None
    if isinstance(plain_value, bytes | bytearray):
        return KIND_BYTES, bytes(plain_value)
    if isinstance(plain_value, Mapping):
        plain = {name: _revealed(content) for name, content in plain_value.items()}
        if plain and all(isinstance(name, str) and isinstance(content, str | bytes) for name, content in plain.items()):
            return KIND_FIELDS, encode_fields(cast("dict[str, str | bytes]", plain))
    message = "a value is text, bytes, or a mapping of field names to text or bytes"
    raise UsageError(message)


def decode_value(kind: int, content: bytes, label: str) -> Value:
    """Return the value of a content.

    Raises:
        Tampered: The content is not of its kind.
    """
    try:
        # The types are known here; the constructor's check of them would take as long as all the rest.
        if kind == KIND_TEXT:
            return Secret.deferred(_held(content.decode()), label=label)
        if kind == KIND_BYTES:
            return Secret.deferred(_held(content), label=label)
        if kind == KIND_FIELDS:
            return _fields_of(content, label)
    except UnicodeDecodeError:
        pass
    message = f"the value of `{label}` is malformed"
    raise Tampered(message)


def stream_length(source: BinaryIO) -> int:
    """Return how many bytes follow in a seekable stream.

    Raises:
        UsageError: It cannot be seeked.
    """
    try:
        start = source.tell()
        end = source.seek(0, 2)
        source.seek(start)
    except (OSError, ValueError):
        message = "a value that is streamed must come from a seekable file"
        raise UsageError(message, hint="save it to a file first") from None
    return end - start


def _held(value: T) -> Callable[[], T]:
    return lambda: value


def _fields_of(content: bytes, label: str) -> Fields:
    fields = decode_fields(content)
    return MappingProxyType({name: _secret(part, f"{label}#{name}") for name, part in fields.items()})


def _secret(content: str | bytes, label: str) -> Secret[str] | Secret[bytes]:
    if isinstance(content, str):
        return Secret(content, label=label)
    return Secret(content, label=label)


def _revealed(value: object) -> object:
    return value.reveal() if isinstance(value, Secret) else value
