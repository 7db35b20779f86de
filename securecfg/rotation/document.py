"""What is stored of a rotation: a system document of the vault, one for each secret (section 3 of the contract)."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.crypto import KIND_TEXT
from securecfg.errors import InvalidPath, UnsupportedFormat
from securecfg.rotation.machine import RETRIED, WITH_CANDIDATE, Progress, State
from securecfg.vault.documents import decode_document, parsing
from securecfg.vault.drafts import Content
from securecfg.vault.index.history import check_number
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import ROTATIONS, path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.vault.opened import OpenVault

DOCUMENT_VERSION = 1
GRACE_S = 3_600
PROPAGATION_S = 60
LEASE_S = 30
LEASE_MAX_S = 86_400
SECONDS_MAX = 366 * 86_400
CONSUMERS_MAX = 64
OPTIONS_MAX = 64
OPTION_BYTES_MAX = 4_096
NS = 1_000_000_000

RANGES = (("grace_s", 0, SECONDS_MAX), ("propagation_s", 0, 86_400), ("timeout_s", 1, 900))
"""Of the numbers of `Rules`: from, and up to."""

_TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)
_INTEGER_MAX = (1 << 63) - 1


class Rules(NamedTuple):
    """How a secret is rotated.

    Attributes:
        rotator: The rotator's name.
        options: What it is told: plain text, and references such as `${secret:db/admin}`.
        schedule: When, as `Schedule` is stored; None for only when asked.
        grace_s: How long the old version goes on to be accepted after the swap, at most.
        propagation_s: How long a target may take until it knows a candidate.
        timeout_s: How long one call of the rotator may take.
        consumers: The principals that acknowledge new versions, which ends the grace early.
        is_hard_cut: Whether it is acknowledged that the old version is refused at once.
    """

    rotator: str
    options: Mapping[str, str] = MappingProxyType({})
    schedule: Mapping[str, object] | None = None
    grace_s: int = GRACE_S
    propagation_s: int = PROPAGATION_S
    timeout_s: int = 30
    consumers: tuple[str, ...] = ()
    is_hard_cut: bool = False


class Holder(NamedTuple):
    """The process that is at work.

    Attributes:
        id: Which process, on which machine; see `lease`.
        lease_s: For how long it holds from each new version of the document on.
    """

    id: str
    lease_s: int = LEASE_S


class Rotation(NamedTuple):
    """The rotation of one secret.

    Attributes:
        record: The number of the secret, which stays when it is moved.
        path: Where it was when the document was written last.
        rules: How it is rotated.
        set_by: The principal that set it.
        due_ns: When it is due; 0 for only when asked.
        is_paused: Whether it begins nothing by itself, and goes no step.
        progress: How far the present rotation, or the last one, is; None before the first.
        holder: Who is at work; None where nobody is.
        rotations: How many were finished.
        finished_ns: When the last of them was.
    """

    record: int
    path: str
    rules: Rules
    set_by: str
    due_ns: int = 0
    is_paused: bool = False
    progress: Progress | None = None
    holder: Holder | None = None
    rotations: int = 0
    finished_ns: int = 0

    @property
    def is_running(self) -> bool:
        """Whether something has begun that is not over."""
        return self.progress is not None and not self.progress.is_over


class Stored(NamedTuple):
    """A rotation, and which version of its document that is: what a change of it is compared with."""

    rotation: Rotation
    number: int


def document_path(record: int) -> bytes:
    """Return where the rotation of a secret lies."""
    return ROTATIONS + b"%016x" % record


def encode_rotation(rotation: Rotation) -> Content:
    """Return the content of a document."""
    document = {
        "v": DOCUMENT_VERSION,
        "record": rotation.record,
        "path": rotation.path,
        "rules": _rules_of(rotation.rules),
        "set_by": rotation.set_by,
        "due": rotation.due_ns,
        "paused": rotation.is_paused,
        "progress": None if rotation.progress is None else rotation.progress._asdict(),
        "holder": None if rotation.holder is None else rotation.holder._asdict(),
        "rotations": rotation.rotations,
        "finished": rotation.finished_ns,
    }
    encoded = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Content.of(KIND_TEXT, encoded)


def _rules_of(rules: Rules) -> dict[str, object]:
    schedule = None if rules.schedule is None else dict(rules.schedule)
    return rules._asdict() | {"options": dict(rules.options), "schedule": schedule}


def find_rotation(opened: OpenVault, record: int) -> Stored | None:
    """Return the rotation of a secret as of the state that was read last, None where nothing rotates it.

    Raises:
        Tampered: The document is damaged.
        UnsupportedFormat: A newer version has written it.
    """
    return _read(opened, document_path(record))


def all_rotations(opened: OpenVault, newer: set[int] | None = None) -> Iterator[Stored]:
    """Return the rotations of a vault, as of the state that was read last.

    Args:
        opened: The vault.
        newer: Gets the numbers of the secrets whose documents a newer version has written, which are left out.

    Raises:
        Tampered: A document is damaged.
    """
    for name in [path for path, entry in opened.entries(ROTATIONS, prefix_end(ROTATIONS)) if entry.live]:
        try:
            stored = _read(opened, name)
        except UnsupportedFormat:
            if newer is not None:
                with parsing(opened, name):
                    newer.add(int(name.removeprefix(ROTATIONS), 16))
            continue
        if stored is not None:
            yield stored


def _read(opened: OpenVault, name: bytes) -> Stored | None:
    found = opened.numbered_bytes(name)
    if found is None:
        return None
    number, content = found
    with parsing(opened, name):
        rotation = parse_rotation(decode_document(content))
        if document_path(rotation.record) != name:
            raise ValueError
        return Stored(rotation, number)


def parse_rotation(document: Any) -> Rotation:  # noqa: ANN401 - whatever the document holds
    """Return what a document says.

    Raises:
        LookupError, TypeError, ValueError: It is malformed.
        UnsupportedFormat: A newer version has written it.
    """
    version = document["v"]
    if type(version) is int and DOCUMENT_VERSION < version <= _INTEGER_MAX:
        message = f"a rotation is stored in format {version}, this program knows {DOCUMENT_VERSION}"
        raise UnsupportedFormat(message, hint="use the version of securecfg that has set it, or a later one")
    if version != DOCUMENT_VERSION:
        raise ValueError
    path = _text(document["path"])
    try:
        path_to_bytes(path)
    except InvalidPath:
        raise ValueError from None
    progress, holder = document["progress"], document["holder"]
    return Rotation(
        _integer(document["record"]),
        path,
        _parse_rules(document["rules"]),
        _text(document["set_by"]),
        _integer(document["due"]),
        _truth(document["paused"]),
        None if progress is None else _parse_progress(progress),
        None if holder is None else Holder(_text(holder["id"]), _between(holder["lease_s"], 1, LEASE_MAX_S)),
        _integer(document["rotations"]),
        _integer(document["finished"]),
    )


def _parse_rules(rules: Any) -> Rules:  # noqa: ANN401 - as above
    options, schedule = rules["options"], rules["schedule"]
    if not isinstance(options, dict) or not (schedule is None or isinstance(schedule, dict)):
        raise TypeError
    grace_s, propagation_s, timeout_s = (_between(rules[name], first, last) for name, first, last in RANGES)
    return Rules(
        _text(rules["rotator"]),
        MappingProxyType({_text(name): _text(value) for name, value in options.items()}),
        None if schedule is None else MappingProxyType(schedule),
        grace_s,
        propagation_s,
        timeout_s,
        _texts(rules["consumers"]),
        _truth(rules["is_hard_cut"]),
    )


def _parse_progress(document: Any) -> Progress:  # noqa: ANN401 - as above
    token, failed_in = _text(document["token"]), document["failed_in"]
    if not _TOKEN.fullmatch(token):
        raise ValueError
    for number in (document["version"], document["former"]):
        if number:
            check_number(_integer(number))
    state = State(_text(document["state"]))
    if (state is State.FAILED) is (failed_in is None) or (failed_in is not None and failed_in not in RETRIED):
        raise ValueError
    if state in WITH_CANDIDATE and not document["version"]:
        raise ValueError
    return Progress(
        token,
        state,
        _integer(document["began_ns"]),
        _integer(document["since_ns"]),
        _text(document["why"]),
        _integer(document["version"]),
        _integer(document["former"]),
        _truth(document["is_known"]),
        _integer(document["attempts"]),
        _integer(document["rejections"]),
        _integer(document["candidates"]),
        _integer(document["setbacks"]),
        _integer(document["not_before_ns"]),
        _integer(document["tried_ns"]),
        _integer(document["swapped_ns"]),
        None if failed_in is None else State(_text(failed_in)),
        _integer(document["failed_ns"]),
        _text(document["reason"]),
        _texts(document["acknowledged"]),
    )


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError
    return tuple(map(_text, values))


def _between(value: object, at_least: int, at_most: int) -> int:
    number = _integer(value)
    if not at_least <= number <= at_most:
        raise ValueError
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _INTEGER_MAX:
        raise ValueError
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value
