"""What is to be done so that two sides are alike: decided from what both hold and when they were alike last.

Pure: nothing is read or written here. Section 2 of `docs/security/synchronisation.md`.
"""

from __future__ import annotations

import hmac
import json
from collections import Counter
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from securecfg.backends import Deletion, Kind
from securecfg.errors import SecurecfgError
from securecfg.secret import Secret
from securecfg.vault.changes import encode_metadata
from securecfg.vault.drafts import METADATA_BYTES_MAX
from securecfg.vault.paths import RESERVED_LABELS
from securecfg.vault.values import encode_value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from securecfg.backends import Capabilities
    from securecfg.vault.values import SecretVersion, VersionId

_ID_DIGITS = 32


class Action(StrEnum):
    """What a line of a plan says."""

    SAME = "same"
    NEW = "new"
    CHANGED = "changed"
    DELETED = "deleted"
    ONLY_HERE = "only-here"
    ONLY_THERE = "only-there"
    CONFLICT = "conflict"
    KEPT = "kept"
    CANNOT = "cannot"
    UNREADABLE = "unreadable"


class Way(StrEnum):
    """To which side something is done."""

    FORTH = "forth"
    BACK = "back"
    NONE = ""


class Prefer(StrEnum):
    """Whose word counts where both sides have changed."""

    FROM = "from"
    TO = "to"
    NEWEST = "newest"
    NONE = "none"


CHANGING = frozenset((Action.NEW, Action.CHANGED, Action.DELETED))
"""The lines that a run does something for."""


class Rules(NamedTuple):
    """How two sides are made alike.

    Attributes:
        is_both: Whether what has changed on the second side is done on the first one.
        deletes: Whether what one side lacks is deleted on the other.
        prefer: Whose word counts in a conflict.
        replaces: Whether one way another value is written over.
    """

    is_both: bool = False
    deletes: bool = False
    prefer: Prefer = Prefer.NONE
    replaces: bool = True


class Seen(NamedTuple):
    """What a side holds under a name, without its value.

    Attributes:
        version: Which version.
        digest: Of kind and value, under the key of the plan.
        created: When it was written; None where the side does not say.
        kind: Of the value.
        size_bytes: Of the value, with the names of its fields.
        metadata: The text beside it.
        labels: Those that people have set.
        expires: Whether it has a time to live.
        content_type: Of a configuration document.
    """

    version: VersionId
    digest: bytes
    created: datetime | None
    kind: Kind
    size_bytes: int
    metadata: Mapping[str, str]
    labels: tuple[str, ...]
    expires: bool
    content_type: str


class Item(NamedTuple):
    """A line of a plan.

    Attributes:
        name: Of the secret, below both sides.
        action: What is found, or will be done.
        way: To which side.
        reason: Why nothing will be done; empty otherwise.
        losses: What does not go along.
        here: What the first side holds.
        there: What the second one holds.
    """

    name: str
    action: Action
    way: Way = Way.NONE
    reason: str = ""
    losses: tuple[str, ...] = ()
    here: Seen | SecurecfgError | None = None
    there: Seen | SecurecfgError | None = None


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        items: One line for each name, sorted.
        rules: How it was decided.
    """

    items: tuple[Item, ...]
    rules: Rules

    @property
    def counts(self) -> dict[Action, int]:
        """How many lines of each kind there are."""
        found = Counter(item.action for item in self.items)
        return {action: found[action] for action in Action if found[action]}

    @property
    def todo(self) -> list[Item]:
        """The lines for which something will be done."""
        return [item for item in self.items if item.action in CHANGING]

    @property
    def id(self) -> str:
        """What tells it from plans that would do something else: made of names, lines and versions, of no value."""
        lines = [
            [item.name, item.action, item.way, *(_version(seen) for seen in (item.here, item.there))]
            for item in self.items
        ]
        text = json.dumps([list(self.rules), lines], separators=(",", ":"), ensure_ascii=False)
        return sha256(text.encode()).hexdigest()[:_ID_DIGITS]


class Pair(NamedTuple):
    """What both sides can do.

    Attributes:
        here: The first one.
        there: The second one.
        here_is_store: Whether somebody else keeps the first one.
        there_is_store: Whether somebody else keeps the second one.
    """

    here: Capabilities
    there: Capabilities
    here_is_store: bool
    there_is_store: bool


def digest_of(key: bytes, version: SecretVersion) -> bytes:
    """Return the keyed digest of a version's kind and value.

    Raises:
        InvalidMetadata, ValueTooLarge: It is none that a vault holds.
    """
    kind, content = encode_value(version.value)
    return hmac.digest(key, bytes((kind,)) + content, "sha256")


def see(key: bytes, version: SecretVersion) -> Seen | SecurecfgError:
    """Return what a plan keeps of a version, or why it cannot be taken."""
    try:
        digest = digest_of(key, version)
    except SecurecfgError as error:
        return error.with_traceback(None)
    kind, size = _measure(version)
    return Seen(
        version.version,
        digest,
        version.created,
        kind,
        size,
        version.metadata,
        tuple(label for label in version.labels if label not in RESERVED_LABELS),
        version.expires is not None,
        version.content_type,
    )


def make_plan(
    here: Mapping[str, Seen | SecurecfgError],
    there: Mapping[str, Seen | SecurecfgError],
    last: Mapping[str, bytes],
    pair: Pair,
    rules: Rules,
) -> Plan:
    """Return what is to be done.

    Args:
        here: What the first side holds, by name.
        there: What the second side holds.
        last: The digest of each name when both were alike last.
        pair: What they can do.
        rules: How.
    """
    items = [
        _check(_decide(name, here.get(name), there.get(name), last.get(name), rules), pair)
        for name in sorted({*here, *there})
    ]
    return Plan(tuple(items), rules)


def without_hidden(plan: Plan, hidden: Collection[str]) -> Plan:
    """Return a plan that writes nothing where nobody may say whether there is something, and a write would not tell.

    Args:
        plan: The plan.
        hidden: The names of new secrets for which that is so.
    """
    reason = "nothing tells whether the other side has one, which would be written over"
    items = (
        item._replace(action=Action.CANNOT, way=Way.NONE, reason=reason, losses=()) if item.name in hidden else item
        for item in plan.items
    )
    return Plan(tuple(items), plan.rules)


def next_last(plan: Plan, last: Mapping[str, bytes], done: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Return the digest of each name when both sides were alike last, after a run.

    Args:
        plan: What was to be done.
        last: As before it.
        done: What it has done: the digest that is on both sides now, None for a name that is on none.
    """
    known: dict[str, bytes] = {}
    for item in plan.items:
        digest = last.get(item.name)
        if item.name in done:
            digest = done[item.name]
        elif item.action is Action.SAME and isinstance(item.here, Seen):
            digest = item.here.digest
        if digest is not None:
            known[item.name] = digest
    return known


def _decide(
    name: str, here: Seen | SecurecfgError | None, there: Seen | SecurecfgError | None, last: bytes | None, rules: Rules
) -> Item:
    item = Item(name, Action.SAME, here=here, there=there)
    for seen in (here, there):
        if isinstance(seen, SecurecfgError):
            return item._replace(action=Action.UNREADABLE, reason=seen.message)
    if isinstance(here, Seen) and isinstance(there, Seen):
        if hmac.compare_digest(here.digest, there.digest):
            return item
        return _differing(item, here, there, last, rules)
    if isinstance(here, Seen):
        return _only(item, here, last, rules, Way.FORTH)
    if isinstance(there, Seen):
        return _only(item, there, last, rules, Way.BACK)
    return item


def _differing(item: Item, here: Seen, there: Seen, last: bytes | None, rules: Rules) -> Item:
    if last is not None and last not in {here.digest, there.digest}:
        return _resolve(item, "both sides have changed", rules)
    if rules.is_both:
        if last is None:
            return _resolve(item, "both sides have one, and they were never seen alike", rules)
        return item._replace(action=Action.CHANGED, way=Way.BACK if last == here.digest else Way.FORTH)
    if not rules.replaces:
        return _resolve(item, "there is another value", rules)
    return item._replace(action=Action.CHANGED, way=Way.FORTH)


def _only(item: Item, seen: Seen, last: bytes | None, rules: Rules, way: Way) -> Item:
    """Decide on what one side lacks; `way` leads there."""
    is_forth = way is Way.FORTH
    if last is not None and last != seen.digest and (is_forth or rules.is_both or rules.deletes):
        return _resolve(item, "one side has changed it, and the other one has deleted it", rules)
    if is_forth and not rules.is_both:
        return item._replace(action=Action.NEW, way=way)
    if rules.is_both and last is None:
        return item._replace(action=Action.NEW, way=way)
    if rules.deletes:
        return item._replace(action=Action.DELETED, way=Way.BACK if is_forth else Way.FORTH)
    return item._replace(action=Action.ONLY_HERE if is_forth else Action.ONLY_THERE)


def _resolve(item: Item, reason: str, rules: Rules) -> Item:
    conflict = item._replace(action=Action.CONFLICT, reason=reason)
    prefer = rules.prefer
    if prefer is Prefer.NEWEST:
        times = [seen.created if isinstance(seen, Seen) else None for seen in (item.here, item.there)]
        if times[0] is None or times[1] is None or times[0] == times[1]:
            return conflict
        prefer = Prefer.FROM if times[0] > times[1] else Prefer.TO
    if prefer is Prefer.NONE:
        return conflict
    if prefer is Prefer.TO and not rules.is_both:
        return item._replace(action=Action.KEPT, reason=reason)
    winner, other, way = (
        (item.here, item.there, Way.FORTH) if prefer is Prefer.FROM else (item.there, item.here, Way.BACK)
    )
    if winner is None:
        return item._replace(action=Action.DELETED, way=way) if rules.deletes else conflict
    return item._replace(action=Action.NEW if other is None else Action.CHANGED, way=way)


def _check(item: Item, pair: Pair) -> Item:
    """Return a line with what the side that is to be changed cannot do or hold."""
    if item.action not in CHANGING:
        return item
    is_forth = item.way is Way.FORTH
    can, is_store = (pair.there, pair.there_is_store) if is_forth else (pair.here, pair.here_is_store)
    seen = item.here if is_forth else item.there
    obstacle, losses = "", tuple[str, ...]()
    if not can.writes:
        obstacle = "the other side is only read"
    elif item.action is Action.DELETED:
        obstacle = "the other side deletes nothing" if can.deletes is Deletion.NONE else ""
    elif isinstance(seen, Seen):
        obstacle = find_obstacle(item.name, seen, can, is_store=is_store)
        losses = find_losses(seen, can, is_store=is_store)
    if obstacle:
        return item._replace(action=Action.CANNOT, way=Way.NONE, reason=obstacle)
    return item._replace(losses=losses)


def find_obstacle(name: str, seen: Seen, can: Capabilities, *, is_store: bool) -> str:
    """Return why a side cannot hold a secret, as far as that is known before it is written; empty where it can."""
    if seen.kind not in can.kinds:
        return f"the other side holds no values of {seen.kind}"
    if seen.size_bytes > can.value_bytes_max:
        return f"the other side takes values of at most {can.value_bytes_max} bytes"
    if len(name.encode()) > can.path_bytes_max:
        return f"the other side takes paths of at most {can.path_bytes_max} bytes"
    if is_store and seen.expires:
        return "a store holds no time to live, and would keep it for ever"
    return "" if is_store else find_bad_metadata(seen.metadata)


def find_bad_metadata(metadata: Mapping[str, str]) -> str:
    """Return why a vault cannot hold metadata; empty where it can."""
    try:
        size = len(encode_metadata(metadata))
    except SecurecfgError as error:
        return error.message
    return f"a vault holds at most {METADATA_BYTES_MAX} bytes of metadata" if size > METADATA_BYTES_MAX else ""


def find_losses(seen: Seen, can: Capabilities, *, is_store: bool) -> tuple[str, ...]:
    """Return what of a secret does not go along."""
    losses = []
    if seen.metadata and not can.metadata:
        losses.append("metadata")
    if seen.labels:
        losses.append("labels")
    if seen.content_type and is_store:
        losses.append("content type")
    return tuple(losses)


def _measure(version: SecretVersion) -> tuple[Kind, int]:
    """Return kind and length of a value as backends count it."""
    value = version.value
    if isinstance(value, Secret):
        content = value.reveal()
        return (Kind.TEXT, len(content.encode())) if isinstance(content, str) else (Kind.BYTES, len(content))
    parts = [part.reveal() for part in value.values()]
    size = sum(len(part.encode() if isinstance(part, str) else part) for part in parts)
    return Kind.FIELDS, size + sum(len(name.encode()) for name in value)


def _version(seen: Seen | SecurecfgError | None) -> str:
    return str(seen.version) if isinstance(seen, Seen) else ""
