"""The catalogue of events: what can be recorded, and what each record says of its object.

It is closed. A new event or field raises `RECORD_VERSION`, so that an older reader says that it is too old instead of
guessing. Listing and searching reveal no value and are not recorded; opening a vault is not either, because nothing is
revealed by it and the session's first record names its source.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORD_VERSION = 1


class Event(StrEnum):
    """What happened."""

    VAULT_CREATED = "vault.created"
    VAULT_ADOPTED = "vault.adopted"
    VAULT_RESTORED = "vault.restored"
    BACKUP_BEGUN = "backup.begun"
    BACKUP_FINISHED = "backup.finished"
    BUNDLE_PUBLISHED = "bundle.published"
    BUNDLE_MERGED = "bundle.merged"
    BUNDLE_READ = "bundle.read"
    BUNDLE_DENIED = "bundle.denied"
    SECRET_READ = "secret.read"  # noqa: S105 - the name of an event
    SECRET_READ_COUNTED = "secret.read.counted"  # noqa: S105 - as above
    SECRET_WRITTEN = "secret.written"  # noqa: S105 - as above
    SECRET_DELETED = "secret.deleted"  # noqa: S105 - as above
    SECRET_UNDELETED = "secret.undeleted"  # noqa: S105 - as above
    SECRET_DESTROYED = "secret.destroyed"  # noqa: S105 - as above
    SECRET_MOVED = "secret.moved"  # noqa: S105 - as above
    SECRET_LABELLED = "secret.labelled"  # noqa: S105 - as above
    SECRET_ROLLED_BACK = "secret.rolledback"  # noqa: S105 - as above
    BATCH_WRITTEN = "batch.written"
    ACCESS_DENIED = "access.denied"
    ACCESS_DENIED_COUNTED = "access.denied.counted"
    ACCESS_ERROR = "access.error"
    POLICY_APPLIED = "policy.applied"
    POLICY_ROLLED_BACK = "policy.rolledback"
    ROLE_CHANGED = "role.changed"
    KEY_SLOT_ADDED = "key.slot.added"
    KEY_SLOT_REMOVED = "key.slot.removed"
    KEY_ROTATED = "key.rotated"
    KEY_RETIRED = "key.retired"
    KEY_LIMITED = "key.limited"
    KEY_COMPROMISED = "key.compromised"
    AUDIT_READ = "audit.read"
    AUDIT_EXPORTED = "audit.exported"
    AUDIT_EPOCH = "audit.epoch"
    IMPORT_PLANNED = "import.planned"
    IMPORT_APPLIED = "import.applied"
    IMPORT_UNDONE = "import.undone"
    IMPORT_CONFIRMED = "import.confirmed"
    EXPOSURE_MARKED = "exposure.marked"
    EXPOSURE_CLOSED = "exposure.closed"
    CONFIG_SIGNATURE_BAD = "config.signature_bad"
    RECOVERY = "recovery"
    CLOCK_BEHIND = "clock.behind"
    SCOPE_CREATED = "scope.created"
    SCOPE_CHANGED = "scope.changed"
    SCOPE_INTRODUCED = "scope.introduced"
    BREAKGLASS_OPENED = "breakglass.opened"
    DROP_REFUSED = "drop.refused"
    SCOPE_MERGED = "scope.merged"
    SCOPE_BEGUN = "scope.begun"
    SCOPE_ABANDONED = "scope.abandoned"
    SCOPE_DISCARDED = "scope.discarded"
    SCOPE_ADOPTED = "scope.adopted"
    MOUNT_ADDED = "mount.added"
    MOUNT_REMOVED = "mount.removed"
    MOUNT_READ = "mount.read"
    MOUNT_READ_COUNTED = "mount.read.counted"
    MOUNT_CHANGING = "mount.changing"
    MOUNT_CHANGED = "mount.changed"
    MOUNT_FAILED = "mount.failed"
    SYNC_FINISHED = "sync.finished"
    ROTATION_SET = "rotation.set"
    ROTATION_REMOVED = "rotation.removed"
    ROTATION_STEPPED = "rotation.stepped"
    ROTATION_ACKNOWLEDGED = "rotation.acknowledged"
    ROTATION_CALLBACK_FAILED = "rotation.callback.failed"


class Decision(StrEnum):
    """What was decided; a record of a decision that could not be made says so."""

    ALLOW = "allow"
    DENY = "deny"
    ERROR = "error"


class Category(StrEnum):
    """Under which heading a report lists an event."""

    READ = "read"
    CHANGE = "change"
    REFUSAL = "refusal"
    ADMINISTRATION = "administration"


class Field(StrEnum):
    """The type of a field of an object."""

    TEXT = "text"
    TEXTS = "texts"
    NUMBER = "number"
    VERSIONS = "versions"  # [[path, version], ...]
    PARTS = "parts"  # [[SHA-256, key], ...], both base64


OBJECT_FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "action": Field.TEXT,
        "added": Field.TEXTS,
        "age_s": Field.NUMBER,
        "at": Field.TEXT,
        "backup": Field.TEXT,
        "behind_s": Field.NUMBER,
        "bundle": Field.NUMBER,
        "change": Field.TEXT,
        "commit": Field.TEXT,
        "count": Field.NUMBER,
        "days": Field.NUMBER,
        "digest": Field.TEXT,
        "epoch": Field.NUMBER,
        "excluded": Field.TEXTS,
        "expires": Field.TEXT,
        "file": Field.TEXT,
        "files": Field.TEXTS,
        "fingerprint": Field.TEXT,
        "first": Field.NUMBER,
        "format": Field.TEXT,
        "from": Field.TEXT,
        "import": Field.TEXT,
        "items": Field.VERSIONS,
        "kind": Field.TEXT,
        "label": Field.TEXT,
        "last": Field.NUMBER,
        "lineage": Field.TEXT,
        "max_age_s": Field.NUMBER,
        "max_uses": Field.NUMBER,
        "members": Field.TEXTS,
        "new_sig": Field.TEXT,
        "number": Field.NUMBER,
        "old_fingerprint": Field.TEXT,
        "old_sig": Field.TEXT,
        "old_size": Field.NUMBER,
        "part": Field.NUMBER,
        "parts": Field.PARTS,
        "path": Field.TEXT,
        "principals": Field.TEXTS,
        "reason": Field.TEXT,
        "recipients": Field.TEXTS,
        "removed": Field.TEXTS,
        "rev": Field.NUMBER,
        "role": Field.TEXT,
        "rotator": Field.TEXT,
        "signer": Field.TEXT,
        "served": Field.TEXT,
        "size": Field.NUMBER,
        "slot": Field.TEXT,
        "source": Field.TEXT,
        "source_rev": Field.NUMBER,
        "source_ver": Field.NUMBER,
        "store": Field.TEXT,
        "to": Field.TEXT,
        "token": Field.TEXT,
        "ver": Field.NUMBER,
        "version": Field.TEXT,
        "vkey": Field.TEXT,
    }
)


class Shape(NamedTuple):
    """What a record of an event must and may say.

    Attributes:
        category: Where a report lists it.
        required: Fields of the object that must be there.
        optional: Fields of the object that may be there.
        decision: What was decided.
        is_counted: The record stands for a number of equal accesses.
    """

    category: Category
    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    decision: Decision = Decision.ALLOW
    is_counted: bool = False


def _fields(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _change(required: str, optional: str = "") -> Shape:
    return Shape(Category.CHANGE, _fields(required), _fields(optional))


def _administration(required: str, optional: str = "") -> Shape:
    return Shape(Category.ADMINISTRATION, _fields(required), _fields(optional))


_READ = _fields("path ver")
_REFUSED = _fields("path ver to")

SHAPES: Mapping[Event, Shape] = MappingProxyType(
    {
        Event.VAULT_CREATED: _administration("vkey"),
        Event.VAULT_ADOPTED: _administration("size old_size", "lineage reason"),
        Event.VAULT_RESTORED: _administration("backup part size", "lineage reason"),
        Event.BACKUP_BEGUN: _administration("backup part recipients"),
        Event.BACKUP_FINISHED: _administration("backup part size digest"),
        Event.BUNDLE_PUBLISHED: _administration("role count expires digest recipients"),
        Event.BUNDLE_MERGED: _administration("bundle count", "file"),
        Event.BUNDLE_READ: Shape(Category.READ, _fields("bundle path ver at"), _fields("count")),
        Event.BUNDLE_DENIED: Shape(
            Category.REFUSAL, _fields("bundle action at"), _fields("path ver count"), Decision.DENY
        ),
        Event.SECRET_READ: Shape(Category.READ, _READ),
        Event.SECRET_READ_COUNTED: Shape(Category.READ, _READ, is_counted=True),
        Event.SECRET_WRITTEN: _change("path ver", "expires role"),
        Event.SECRET_DELETED: _change("path", "ver"),
        Event.SECRET_UNDELETED: _change("path ver"),
        Event.SECRET_DESTROYED: _change("path ver"),
        Event.SECRET_MOVED: _change("path to"),
        Event.SECRET_LABELLED: _change("path label", "ver"),
        Event.SECRET_ROLLED_BACK: _change("path ver source_ver"),
        Event.BATCH_WRITTEN: _change("count", "change items parts source to"),
        Event.ACCESS_DENIED: Shape(Category.REFUSAL, _fields("action"), _REFUSED, Decision.DENY),
        Event.ACCESS_DENIED_COUNTED: Shape(
            Category.REFUSAL, _fields("action"), _REFUSED, Decision.DENY, is_counted=True
        ),
        Event.ACCESS_ERROR: Shape(Category.REFUSAL, _fields("action"), _REFUSED | {"reason"}, Decision.ERROR),
        Event.POLICY_APPLIED: _administration("rev", "digest files"),
        Event.POLICY_ROLLED_BACK: _administration("rev source_rev", "digest"),
        Event.ROLE_CHANGED: _administration("role", "members added removed fingerprint old_fingerprint"),
        Event.KEY_SLOT_ADDED: _administration("slot kind", "label principals"),
        Event.KEY_SLOT_REMOVED: _administration("slot", "kind label"),
        Event.KEY_ROTATED: _administration("kind epoch", "count slot"),
        Event.KEY_RETIRED: _administration("kind epoch"),
        Event.KEY_LIMITED: _administration("kind", "max_age_s max_uses"),
        Event.KEY_COMPROMISED: _administration("epoch", "reason removed"),
        Event.AUDIT_READ: _administration("", "first last"),
        Event.AUDIT_EXPORTED: _administration("size format", "first last"),
        Event.AUDIT_EPOCH: _administration("epoch vkey old_sig new_sig"),
        Event.IMPORT_PLANNED: _administration("import count", "files"),
        Event.IMPORT_APPLIED: _administration("import count", "files"),
        Event.IMPORT_UNDONE: _administration("import", "count files"),
        Event.IMPORT_CONFIRMED: _administration("import", "count files"),
        Event.EXPOSURE_MARKED: _administration("path ver commit", "days file"),
        Event.EXPOSURE_CLOSED: _administration("path ver"),
        Event.CONFIG_SIGNATURE_BAD: Shape(Category.REFUSAL, _fields("file"), _fields("reason signer"), Decision.DENY),
        Event.RECOVERY: _administration("reason", "count"),
        Event.CLOCK_BEHIND: _administration("behind_s"),
        Event.SCOPE_CREATED: _administration("path number digest"),
        Event.SCOPE_CHANGED: _administration("path rev digest", "role added removed excluded"),
        Event.SCOPE_INTRODUCED: _administration("count digest", "recipients"),
        Event.BREAKGLASS_OPENED: _administration("path role reason"),
        Event.DROP_REFUSED: Shape(
            Category.REFUSAL, _fields("reason"), _fields("path role principals count"), Decision.DENY
        ),
        Event.SCOPE_BEGUN: _administration("path number digest"),
        Event.SCOPE_ABANDONED: _administration("path number digest", "reason"),
        Event.SCOPE_DISCARDED: _administration("path number digest kind", "reason"),
        Event.SCOPE_MERGED: _administration("path number digest size"),
        Event.MOUNT_ADDED: _administration("path store"),
        Event.MOUNT_REMOVED: _administration("path store", "count"),
        Event.MOUNT_READ: Shape(Category.READ, _fields("path version store served"), _fields("age_s")),
        Event.MOUNT_READ_COUNTED: Shape(
            Category.READ, _fields("path version store served"), _fields("age_s"), is_counted=True
        ),
        Event.MOUNT_CHANGING: _change("path action store", "label"),
        Event.MOUNT_CHANGED: _change("path action store", "version label"),
        Event.MOUNT_FAILED: _change("path action store reason", "label"),
        Event.SYNC_FINISHED: _change("path to count"),
        Event.ROTATION_SET: _administration("path rotator", "action"),
        Event.ROTATION_REMOVED: _administration("path rotator"),
        Event.ROTATION_STEPPED: _change("path token from to", "ver reason"),
        Event.ROTATION_ACKNOWLEDGED: _change("path ver"),
        Event.ROTATION_CALLBACK_FAILED: _change("path ver"),
        Event.SCOPE_ADOPTED: _administration("path size old_size", "lineage reason"),
    }
)
