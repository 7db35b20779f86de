"""`bitwarden:[FOLDER OR COLLECTION]` - the items of a vault of Bitwarden, read through its program `bw`.

1. bw sync                    where the URI says so: `bw` answers from a copy of its own, as old as its last sync
2. bw list folders, ...       where a folder or collection is named by its name and not by its id
3. bw list items              all items with all that is in them, of which those are taken that are meant

`bw get item` looks for what is like a title, so it is not asked: an item is found here, by its whole title, and all
that are wanted at once in one call.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from securecfg.backends.interface import Capabilities, Kind
from securecfg.backends.password_items import (
    NOTES,
    PATH_BYTES_MAX,
    VALUE_BYTES_MAX,
    Field,
    found,
    titles,
    verify_is_one,
)
from securecfg.backends.program import SURROUNDINGS, Deadline, Program, parse_place, parse_shown, variables
from securecfg.backends.uri import is_wanted, take_options
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    InvalidBackendUri,
    SecretNotFound,
    SecurecfgError,
)
from securecfg.keys.credentials import CredentialMissing, find_credential

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.backends.interface import BackendUri, Found
    from securecfg.backends.program import Output
    from securecfg.secret import Secret

SESSION_VARIABLE = "BW_SESSION"
CREDENTIALS = (SESSION_VARIABLE,)
BATCH_MAX = 1_000

_VARIABLES = frozenset({*SURROUNDINGS, "BITWARDENCLI_APPDATA_DIR"})
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_PARTS = {1: "login", 3: "card", 4: "identity", 5: "sshKey", 6: "bankAccount", 7: "driversLicense", 8: "passport"}
_NOTE = 2
_LEFT_OUT = frozenset({"passwordRevisionDate"})
_LINKED = 3

# What `bw` says where it fails, in this order. It has one exit code for all of it.
_LOCKED = re.compile(r"not logged in|is locked|logged out|session (?:has )?expired|\b401\b", re.IGNORECASE)
_TOO_OFTEN = re.compile(r"rate limit|too many requests|\b429\b", re.IGNORECASE)
_DENIED = re.compile(r"permission|forbidden|\b403\b", re.IGNORECASE)
_SYNCING = re.compile(r"syncing failed", re.IGNORECASE)


class _Item(NamedTuple):
    """An item, in which nothing has been looked at yet."""

    title: str
    body: Mapping[str, Any]


class Session(NamedTuple):
    """Where the key of an unlocked vault is.

    Attributes:
        file: Empty where it is elsewhere.
        variable: Which variable holds it, where no file does.
        given: The key itself, under the name of its own variable; it stands before all else.
    """

    file: str = ""
    variable: str = SESSION_VARIABLE
    given: Mapping[str, Secret[str]] = MappingProxyType({})


class Bitwarden:
    """Reads the items of a vault, or of one folder or collection of it.

    Args:
        program: The command line of Bitwarden.
        place: The name or id of a folder or collection; empty for all items.
        session: Where its key is.
        is_synced: Whether to fetch what is new before each call.
    """

    scheme: Final = "bitwarden"
    capabilities: Final = Capabilities(
        frozenset({Kind.TEXT, Kind.FIELDS}), VALUE_BYTES_MAX, PATH_BYTES_MAX, reads_at_once=BATCH_MAX
    )

    def __init__(self, program: Program, place: str, session: Session, *, is_synced: bool) -> None:
        """Run nothing yet."""
        self._program, self._place, self._session, self._is_synced = program, place, session, is_synced
        self.name = f"folder or collection `{place}`" if place else "all items"
        self._title = f"`{place}` of Bitwarden" if place else "Bitwarden"

    def __repr__(self) -> str:
        """Show which items."""
        return f"Bitwarden({self.name!r})"

    def read(self, path: str, _version: str | None) -> Found:
        """Return an item.

        Raises:
            SecretNotFound: There is none with this title, or it has no field with a text.
            BackendRefused: Several have it, two fields have one name, or there is no such folder or collection.
            SecurecfgError: See section 7 of the contract.
        """
        return self._found(path, self._items())

    def read_many(self, paths: Sequence[str]) -> Mapping[str, Found]:
        """Return several items of one call, without those that are not there."""
        items = self._items()
        all_found: dict[str, Found] = {}
        for path in paths:
            try:
                all_found[path] = self._found(path, items)
            except SecretNotFound:
                continue
        return all_found

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the titles that one item each has."""
        yield from titles([item.title for item in self._items()], prefix)

    def _found(self, path: str, items: Sequence[_Item]) -> Found:
        bodies = [item.body for item in items if item.title == path]
        verify_is_one(path, len(bodies), self._title)
        try:
            changed = bodies[0]["revisionDate"]
            if not isinstance(changed, str) or not changed:
                raise _senseless()
            return found(path, _fields(bodies[0]), changed, changed)
        except (LookupError, TypeError, AttributeError, ValueError):
            failure = _senseless()
        raise failure  # here, so that it drags along nothing that quotes the item

    def _items(self) -> Sequence[_Item]:
        """Return the items that are meant, without those in the trash; the numbers are those of the module."""
        deadline, shown = Deadline(), self._variables()
        # 1
        if self._is_synced:
            self._ask(["sync"], shown, deadline)
        # 2
        place = self._place if _ID.fullmatch(self._place) or not self._place else self._named(shown, deadline)
        # 3
        answer = self._ask(["list", "items"], shown, deadline)
        try:
            items = [
                _Item(body["name"], body)
                for body in answer["data"]
                if not body.get("deletedDate")
                and (not place or body.get("folderId") == place or place in (body.get("collectionIds") or ()))
            ]
        except (LookupError, TypeError, AttributeError):
            items = None
        if items is None or not all(isinstance(item.title, str) for item in items):
            raise _senseless()
        return items

    def _named(self, shown: Mapping[str, str], deadline: Deadline) -> str:
        """Return the id of the folder or collection of this name.

        Raises:
            BackendRefused: There is none, or more than one.
        """
        ids: Sequence[str] = ()
        for what in ("folders", "collections"):
            answer = self._ask(["list", what], shown, deadline)
            try:
                ids = [*ids, *(one["id"] for one in answer["data"] if one["name"] == self._place and one["id"])]
            except (LookupError, TypeError):
                raise _senseless() from None
        if len(ids) != 1:
            how_many = "no" if not ids else "more than one"
            message = f"Bitwarden has {how_many} folder or collection `{self._place}`"
            raise BackendRefused(message, hint="name it by its id: `bw list folders`, `bw list collections`")
        return ids[0]

    def _ask(self, what: Sequence[str], shown: Mapping[str, str], deadline: Deadline) -> Any:  # noqa: ANN401 - JSON
        output = self._program.run([*what, "--nointeraction", "--response"], shown, deadline)
        try:
            answer = output.parse()
            has_succeeded, said = answer["success"], answer.get("message")
        except (LookupError, TypeError, AttributeError, ValueError):
            has_succeeded, said = None, None
        if has_succeeded is True and not output.code:
            return answer.get("data")
        if has_succeeded is False and isinstance(said, str):
            raise self._failure(said, output)
        how = f" (exit code {output.code})" if output.code > 0 else ""
        raise _senseless(how)

    def _variables(self) -> dict[str, str]:
        file, variable, given = Session(given=self._session.given) if self._session.given else self._session
        try:
            key = find_credential(file, variable, given=given)
        except CredentialMissing as error:
            message = "there is no key of an unlocked vault of Bitwarden"
            raise BackendLoginRefused(
                message, hint=f"`bw unlock --raw` prints one; looked for in {error.places}"
            ) from None
        return {**variables(_VARIABLES), SESSION_VARIABLE: key}

    def _failure(self, said: str, output: Output) -> SecurecfgError:
        """Return the error for what `bw` refuses; nothing of what it says is shown."""
        if _LOCKED.search(said):
            message = "the vault of Bitwarden is locked, or nobody is logged in"
            return BackendLoginRefused(message, hint="`bw login`, then `bw unlock --raw` for a new key of a session")
        if _TOO_OFTEN.search(said):
            return BackendNotReached("the Bitwarden server has been asked too often", hint="try again later")
        if _DENIED.search(said):
            return BackendDenied("the Bitwarden server does not let this account do that", hint="`bw sync` by itself")
        if _SYNCING.search(said):
            return BackendUnavailable("the Bitwarden server cannot be reached, or is disturbed", hint="try again later")
        message = f"`bw` refuses what was asked (exit code {output.code})"
        return BackendRefused(message, hint="run `bw list items` by itself to see what it says")


def _fields(body: Mapping[str, Any]) -> list[Field]:
    """Return the filled fields of an item under the names that Bitwarden has for them, and those that somebody added.

    Raises:
        LookupError, TypeError, AttributeError: It is none.
        BackendRefused: It is of another type.
    """
    kind = body["type"]
    if kind not in _PARTS and kind != _NOTE:
        message = "an item is of a type that is not known here"
        raise BackendRefused(message, hint="is there a newer version of this library?")
    part = body.get(_PARTS.get(kind, "")) or {}
    fields = [Field(name, text) for name, text in part.items() if name not in _LEFT_OUT and _is_filled(text)]
    if _is_filled(body.get("notes")):
        fields.append(Field(NOTES, body["notes"]))
    # One without a name cannot be asked for, and a linked one says again what is in another.
    added = [field for field in body.get("fields") or () if field["type"] != _LINKED and field.get("name")]
    return fields + [Field(_text(field["name"]), _text(field.get("value"))) for field in added]


def _is_filled(text: object) -> bool:
    return isinstance(text, str) and text != ""


def _text(text: str | None) -> str:
    if text is not None and not isinstance(text, str):
        raise TypeError
    return text or ""


def _senseless(how: str = "") -> BackendUnavailable:
    return BackendUnavailable(f"`bw` broke down, or what it prints makes no sense{how}", hint="try again later")


def from_uri(uri: BackendUri) -> Bitwarden:
    """Return the backend for `bitwarden:[FOLDER OR COLLECTION]`, with options after a `?`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, ("env", "file", "program", "sync"), CREDENTIALS)
    place, (file, variable) = unquote(uri.rest), parse_shown(uri.scheme, options)
    if not place.isprintable():
        message = "a `bitwarden:` URI names a folder or collection, by its name or its id"
        raise InvalidBackendUri(message, hint="or none: `bitwarden:` is all items")
    program = Program("bw", parse_place(uri.scheme, options), "install the Bitwarden CLI")
    session = Session(file, variable or SESSION_VARIABLE, uri.credentials)
    return Bitwarden(program, place, session, is_synced=is_wanted(uri.scheme, options, "sync"))
