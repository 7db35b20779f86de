"""Items of a password manager as secrets: their titles are paths, their filled fields the value. Pure.

A title that several items have is the path of none of them: it is passed over in listings, and a read of it is refused.

    only a password, or only a note     a text
    any other filled fields             fields
    none, as in a document              no value
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from securecfg.backends.interface import Found, StoredVersion
from securecfg.errors import BackendRefused, SecretNotFound
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from securecfg.vault.values import Value

PATH_BYTES_MAX = 1_024
VALUE_BYTES_MAX = 1 << 20
"""Longer than any value that such a program takes; the programs themselves name no limit."""

USERNAME, PASSWORD, NOTES = "username", "password", "notes"
_ALONE = frozenset({PASSWORD, NOTES})


class Field(NamedTuple):
    """A field that is filled.

    Attributes:
        name: Unique in an item, or it is refused.
        text: What is in it.
    """

    name: str
    text: str


def titles(all_titles: Iterable[str], prefix: str) -> Iterator[str]:
    """Yield the titles that begin with a prefix; an empty text for each of those that are there more than once."""
    for title, count in Counter(all_titles).items():
        if title.startswith(prefix):
            yield from [title] if count == 1 else [""] * count


def verify_is_one(path: str, count: int, title: str) -> None:
    """Verify that one item has a title.

    Raises:
        SecretNotFound: None has.
        BackendRefused: Several have.
    """
    if not count:
        raise not_found(path, title)
    if count > 1:
        message = f"{count} items of {title} are called `{path}`"
        raise BackendRefused(message, hint="give each a title of its own")


def found(path: str, fields: Sequence[Field], version: str, changed: object) -> Found:
    """Return a secret of the filled fields of an item.

    Args:
        path: Its title.
        fields: In any order.
        version: What tells one state of it from the next.
        changed: When it was changed, in RFC 3339 if it is a text.

    Raises:
        SecretNotFound: It has none.
        BackendRefused: Two have one name.
        ValueError: Something in it is no Unicode.
    """
    return Found(_value(path, fields), StoredVersion(version, created=_time(changed)), {})


def not_found(path: str, title: str) -> SecretNotFound:
    """Return the error for a path where there is nothing."""
    return SecretNotFound(f"there is no item `{path}` in {title}")


def _value(path: str, fields: Sequence[Field]) -> Value:
    if not fields:
        message = f"the item `{path}` has no field with a text"
        raise SecretNotFound(message, hint="documents and attachments are not read")
    "".join(field.name + field.text for field in fields).encode()  # a lone surrogate by an escape
    by_name = {field.name: Secret(field.text, label=f"{path}#{field.name}") for field in dict.fromkeys(fields)}
    if len(by_name) != len(set(fields)):
        message = f"two fields of the item `{path}` have one name and are not alike"
        raise BackendRefused(message, hint="give each a name of its own")
    if len(by_name) == 1 and by_name.keys() <= _ALONE:
        return Secret(fields[0].text, label=path)
    return by_name


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else None
