"""Records: what the log says of one event.

A record is UTF-8 JSON with sorted keys, no spaces, no floats and integers below 2^53; a field that is empty is left
out. So there is one spelling of each record, and `parse_record` accepts no other. Verification hashes the stored bytes
and never encodes anew.
"""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from securecfg.audit.events import OBJECT_FIELDS, RECORD_VERSION, SHAPES, Category, Decision, Event, Field
from securecfg.audit.leaf import MAX_RECORD_BYTES
from securecfg.clock import to_ns
from securecfg.errors import InvalidMetadata, LogTampered, UnsupportedFormat
from securecfg.tuples import NamedTuple
from securecfg.words import brief_age

if TYPE_CHECKING:
    from collections.abc import Mapping

Scalar: TypeAlias = str | int | bool | None

MAX_INTEGER = (1 << 53) - 1
MAX_TIME_NS = 253_402_300_800 * 10**9  # the year 10000
MAX_TEXT_CHARS = 4_096

_TIME = r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{9})Z"
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_PAIR = 2


class Subject(NamedTuple):
    """Who asked.

    Attributes:
        id: The principal that the decision was made for, such as `svc:web`.
        is_proved: A key proved the principal; otherwise the host program asserted it.
        roles: Its roles at that moment.
        slot: The id of the unlock slot that the session opened the vault with.
        via: The session's own principal where it acted for `id`.
    """

    id: str
    is_proved: bool = False
    roles: tuple[str, ...] = ()
    slot: str = ""
    via: str = ""


class Source(NamedTuple):
    """Where it was asked from: the process, and the host, masked."""

    pid: int
    program: str = ""
    host: str = ""


class Record:
    """One event. It does not change.

    Attributes:
        time_ns: When, nanoseconds since 1970, as the clock of the writer had it.
        event: What happened.
        subject: Who asked.
        source: From where.
        obj: What about; the catalogue says which fields an event has.
        why: The ids of the rules that decided.
        policy: The digest of the policy set that decided.
        context: What the host program said of the request; sensitive fields masked.
        request_id: 32 hexadecimal digits, or empty.
        count: How many equal accesses a counted record stands for.
        note: Free text, such as a stated purpose.
    """

    __slots__ = (
        "context",
        "count",
        "event",
        "note",
        "obj",
        "policy",
        "request_id",
        "source",
        "subject",
        "time_ns",
        "why",
    )

    def __init__(  # noqa: PLR0913 - all are keywords, and most may be left out
        self,
        *,
        time_ns: int,
        event: Event,
        subject: Subject,
        source: Source,
        obj: Mapping[str, Any] = _NOTHING,
        why: tuple[str, ...] = (),
        policy: str = "",
        context: Mapping[str, Scalar | list[Scalar]] = _NOTHING,
        request_id: str = "",
        count: int | None = None,
        note: str = "",
    ) -> None:
        """Refuse what the catalogue does not allow.

        Raises:
            InvalidMetadata: A field is missing, unknown, too long or of another type.
        """
        if not 0 <= time_ns < MAX_TIME_NS:
            raise _invalid(field="t")
        _encode_subject(subject)
        _encode_source(*source)
        _check_object(event, obj)
        _check_texts("why", why)
        _check_text("pol", policy)
        for name, value in context.items():
            _check_text("ctx", name)
            for scalar in value if isinstance(value, list) else (value,):
                _check_scalar(f"ctx.{name}", scalar)
        if request_id and not _REQUEST_ID.fullmatch(request_id):
            raise _invalid(field="req")
        if (count is not None) != SHAPES[event].is_counted or count == 0:
            raise _invalid(field="n")
        if count is not None:
            _check_number("n", count)
        _check_text("note", note)
        self.time_ns = time_ns
        self.event = event
        self.subject = subject
        self.source = source
        self.obj = obj
        self.why = why
        self.policy = policy
        self.context = context
        self.request_id = request_id
        self.count = count
        self.note = note

    def __eq__(self, other: object) -> bool:
        """Return whether another record says the same."""
        return isinstance(other, Record) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        """Return the record with all that it says; it holds no value of a secret."""
        return f"Record({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def __hash__(self) -> int:
        """Return a hash of when, what and who."""
        return hash((self.time_ns, self.event, self.subject))

    @property
    def decision(self) -> Decision:
        """What was decided; it follows from the event."""
        return SHAPES[self.event].decision

    @property
    def category(self) -> Category:
        """Under which heading a report lists the record."""
        return SHAPES[self.event].category

    def to_bytes(self) -> bytes:
        """Return the one encoding of this record.

        Raises:
            InvalidMetadata: It is longer than a leaf can hold, or has text that is not Unicode.
        """
        try:
            raw = _encode_record(self).encode()
        except UnicodeEncodeError:
            message = "a record has text that is not Unicode"
            raise InvalidMetadata(message) from None
        if len(raw) > MAX_RECORD_BYTES:
            message = f"a record of {len(raw)} bytes is longer than {MAX_RECORD_BYTES}"
            raise InvalidMetadata(message, hint="give less context with the request")
        return raw


def parse_record(raw: bytes, index: int) -> Record:
    """Read a record strictly.

    Args:
        raw: Its bytes, at most 32,764.
        index: Where it stands in the log, for the error.

    Raises:
        LogTampered: It is not a record in its one encoding.
        UnsupportedFormat: It was written by a later version of this library.
    """
    message = f"record {index} is malformed"
    try:
        data = json.loads(raw[: MAX_RECORD_BYTES + 1].decode(), parse_float=_refuse, parse_constant=_refuse)
        version = data["v"]
        if type(version) is int and version > RECORD_VERSION:
            later = f"record {index} has version {version}, this program knows {RECORD_VERSION}"
            raise UnsupportedFormat(later, hint="use the version of securecfg that wrote it, or a later one")
        record = _from_json(data)
        if record.to_bytes() != raw:
            raise LogTampered(message, index=index)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidMetadata):
        raise LogTampered(message, index=index) from None
    return record


def format_time(time_ns: int) -> str:
    """Return a time in RFC 3339, UTC, with nanoseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{_format_second(seconds)}.{rest:09d}Z"


def served_of(obj: Mapping[str, Any]) -> str:
    """Return what the object of a mount's read says of where the value came from; empty where the store was asked.

    Such as `last-good, 3 h old`; of counted reads without the age.
    """
    served = str(obj.get("served", "store"))
    if served == "store":
        return ""
    return f"{served}, {brief_age(obj['age_s'])} old" if "age_s" in obj else served


@lru_cache(maxsize=16)
def _format_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


# One encoder for all records: to make one costs as much as to encode with it.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_encode_text = json.encoder.encode_basestring  # what it calls for text, in the end


def _encode_record(record: Record) -> str:
    """Return the JSON of a record, its members in the order of their names."""
    shape = SHAPES[record.event]
    context = f'"ctx":{_encode(dict(record.context))},' if record.context else ""
    count = f',"n":{record.count}' if record.count else ""
    note = f',"note":{_encode_text(record.note)}' if record.note else ""
    obj = f',"obj":{_encode_object(record.obj)}' if record.obj else ""
    policy = f',"pol":{_encode_text(record.policy)}' if record.policy else ""
    request = f',"req":"{record.request_id}"' if record.request_id else ""
    why = f',"why":{_encode_rules(tuple(record.why))}' if record.why else ""
    return (
        f'{{{context}"dec":"{shape.decision}","ev":"{record.event}"{count}{note}{obj}{policy}{request}'
        f',"src":{_encode_source(*record.source)},"sub":{_encode_subject(record.subject)}'
        f',"t":"{format_time(record.time_ns)}","v":{RECORD_VERSION}{why}}}'
    )


def _encode_object(obj: Mapping[str, Any]) -> str:
    # Text and numbers are what most objects hold; the encoder makes its machinery anew for more.
    # The names are those of the catalogue.
    members = []
    for name in sorted(obj):
        value = obj[name]
        kind = type(value)
        members.append(f'"{name}":{value if kind is int else _encode_text(value) if kind is str else _encode(value)}')
    return "{" + ",".join(members) + "}"


# A session says the same of itself in each of its records, and is mostly allowed things by the same rules.
@lru_cache(maxsize=256)
def _encode_rules(rules: tuple[str, ...]) -> str:
    return _encode(rules)


@lru_cache(maxsize=256)
def _encode_subject(subject: Subject) -> str:
    _check_text("sub.id", subject.id)
    if not subject.id:
        raise _invalid(field="sub.id")
    _check_texts("sub.roles", subject.roles)
    _check_text("sub.slot", subject.slot)
    _check_text("sub.via", subject.via)
    auth = {"auth": "proved" if subject.is_proved else "asserted", "id": subject.id}
    return _encode(auth | _without_empty({"roles": subject.roles, "slot": subject.slot, "via": subject.via}))


@lru_cache(maxsize=256, typed=True)
def _encode_source(pid: int, program: str, host: str) -> str:
    _check_number("src.pid", pid)
    _check_text("src.prog", program)
    _check_text("src.host", host)
    return _encode({"pid": pid} | _without_empty({"host": host, "prog": program}))


def _without_empty(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _from_json(data: dict[str, Any]) -> Record:
    """Build a record; what is missing, unknown or misspelt shows when the result is encoded again."""
    subject, source = data["sub"], data["src"]
    moment = re.fullmatch(_TIME, data["t"])
    if moment is None:
        raise _invalid(field="t")
    whole = datetime.fromisoformat(f"{moment[1]}+00:00")
    return Record(
        time_ns=to_ns(whole) + int(moment[2]),
        event=Event(data["ev"]),
        subject=Subject(
            id=subject["id"],
            is_proved=subject["auth"] == "proved",
            roles=tuple(subject.get("roles", ())),
            slot=subject.get("slot", ""),
            via=subject.get("via", ""),
        ),
        source=Source(source["pid"], source.get("prog", ""), source.get("host", "")),
        obj=MappingProxyType(data.get("obj", {})),
        why=tuple(data.get("why", ())),
        policy=data.get("pol", ""),
        context=MappingProxyType(data.get("ctx", {})),
        request_id=data.get("req", ""),
        count=data.get("n"),
        note=data.get("note", ""),
    )


def _check_object(event: Event, obj: Mapping[str, Any]) -> None:
    shape = SHAPES[event]
    names = obj.keys()
    if names != shape.required and not shape.required <= names <= shape.required | shape.optional:
        wrong = ", ".join(sorted((shape.required - names) | (names - shape.required - shape.optional)))
        message = f"a record of `{event}` lacks or does not have `{wrong}`"
        raise InvalidMetadata(message)
    for name, value in obj.items():
        _FIELD_CHECKS[OBJECT_FIELDS[name]](f"obj.{name}", value)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
        raise _invalid(field=name)


def _check_number(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise _invalid(field=name)


def _check_texts(name: str, value: object) -> None:
    if not isinstance(value, list | tuple):
        raise _invalid(field=name)
    for text in value:
        _check_text(name, text)


def _check_versions(name: str, value: object) -> None:
    for path, version in _pairs(name, value):
        _check_text(name, path)
        _check_number(name, version)


def _check_parts(name: str, value: object) -> None:
    for part in _pairs(name, value):
        _check_texts(name, part)


def _pairs(name: str, value: object) -> list[tuple[object, object]]:
    if not isinstance(value, list | tuple) or any(
        not isinstance(pair, list | tuple) or len(pair) != _PAIR for pair in value
    ):
        raise _invalid(field=name)
    return cast("list[tuple[object, object]]", value)


def _check_scalar(name: str, value: object) -> None:
    if isinstance(value, str):
        _check_text(name, value)
    elif value is not None and not isinstance(value, bool) and (not isinstance(value, int) or abs(value) > MAX_INTEGER):
        raise _invalid(field=name)


_FIELD_CHECKS = MappingProxyType(
    {
        Field.TEXT: _check_text,
        Field.TEXTS: _check_texts,
        Field.NUMBER: _check_number,
        Field.VERSIONS: _check_versions,
        Field.PARTS: _check_parts,
    }
)


def _refuse(text: str) -> None:
    raise ValueError(text)


def _invalid(*, field: str) -> InvalidMetadata:
    return InvalidMetadata(f"a record cannot have this `{field}`")
