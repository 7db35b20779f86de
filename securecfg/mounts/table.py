"""What is mounted: a document of the vault, its rules, and how it is changed."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.audit import Event
from securecfg.backends.uri import known_credentials, open_backend
from securecfg.crypto import KEY_BYTES, KIND_TEXT
from securecfg.errors import AlreadyExists, Conflict, DestroyPending, InvalidMetadata, InvalidPath, SecretNotFound
from securecfg.mounts.copies import copies_of
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.documents import MALFORMED, parsing, verify_shape
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import MOUNTS_PATH, check_prefix
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.backends import OpenBackend
    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.session import Session

BACKENDS_MAX = 8
MOUNTS_MAX = 256
SECONDS_MAX = 10 * 365 * 86_400
CALLS_MAX = 1_000_000_000
CREDENTIAL_MAX = 65_536
PATIENCE = Patience(deadline_s=10.0, pauses_s=(0.2, 0.4))
"""Shorter than that of a backend by itself, since somebody waits and there may be a copy."""

_ID_BYTES = 16


class Rules(NamedTuple):
    """How long what a store has said is good for, and how often it is asked.

    Attributes:
        max_age_s: How long a value is handed out without asking again.
        refresh_s: How much longer it is handed out while it is asked for again behind the back of who reads.
        keep_s: How old a value may be that is handed out where the store cannot be reached; 0 for none.
        missing_s: How long "there is no such secret" is believed.
        calls_per_s: How many calls a process makes in a second, in the mean; 0 for as many as there are.
        calls_per_day: How many calls all processes on this machine make in a day (UTC); 0 for as many as there are.
        is_offline: Whether the store is not asked at all.
        is_watched: Whether changes are followed where the store tells them.
    """

    max_age_s: int = 60
    refresh_s: int = 60
    keep_s: int = 86_400
    missing_s: int = 5
    calls_per_s: int = 100
    calls_per_day: int = 0
    is_offline: bool = False
    is_watched: bool = False


class Mount(NamedTuple):
    """A folder of the vault that is a store of somebody else.

    Attributes:
        folder: Ends in `/`.
        backends: The URIs of the store and of those that hold the same, in the order in which they are asked.
        rules: How long, and how often.
        credentials: What the backends log in with instead of what the platform has, by the names of the variables that
            would hold it. Each backend gets those that it knows.
        id: 16 random bytes, of this mount and no other.
        key: What its copies are sealed with, 32 bytes.
    """

    folder: str
    backends: tuple[str, ...]
    rules: Rules = Rules()
    credentials: Mapping[str, Secret[str]] = MappingProxyType({})
    id: bytes = b""
    key: bytes = b""

    def __repr__(self) -> str:
        """Show what is mounted where, and no key and no credential."""
        return f"Mount({self.folder!r}, {self.backends!r}, {self.rules!r}, {sorted(self.credentials)!r})"

    def open(self, uri: str, patience: Patience) -> OpenBackend:
        """Return one of the backends with the credentials that it knows. Nothing is called yet.

        Raises:
            InvalidBackendUri: The URI names no store, or its backend lacks a part of what it is given.
        """
        known = known_credentials(uri) if self.credentials else frozenset()
        given = {name: secret for name, secret in self.credentials.items() if name in known}
        return open_backend(uri, credentials=given, patience=patience)


class Mounts:
    """What is mounted in a vault, as one identity may see and change it.

    Args:
        authority: Decides and records for it; of the vault itself.
    """

    def __init__(self, authority: Authority) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened

    def all(self) -> list[Mount]:
        """Return what is mounted, by folder.

        Raises:
            AccessDenied: The caller may not `mount.manage`.
            Tampered: The document is damaged.
        """
        self._authority.require("mount.manage", "")
        return read_mounts(self._opened)

    def add(self, mount: Mount) -> Mount:
        """Mount a store at a folder where nothing is yet, and return the mount with its id and key. Calls nothing.

        Raises:
            AccessDenied: The caller may not `mount.manage`.
            InvalidPath: It is no folder.
            InvalidMetadata: The rules make no sense.
            InvalidBackendUri: A URI names no store.
            AlreadyExists: Something is mounted there, above it or below it.
            Conflict: The vault has secrets or a sealed scope there.
        """
        check_mount(mount)
        made = mount._replace(id=os.urandom(_ID_BYTES), key=os.urandom(KEY_BYTES))

        def change(mounts: list[Mount]) -> list[Mount]:
            self._verify_free(made.folder, mounts)
            if len(mounts) >= MOUNTS_MAX:
                message = f"there are {MOUNTS_MAX} mounts, as many as there can be"
                raise Conflict(message)
            return [*mounts, made]

        self._change(Event.MOUNT_ADDED, {"path": made.folder, "store": store_names(made.backends)}, change)
        return made

    def replace(self, mount: Mount, seen: Mount | None = None) -> Mount:
        """Give a mount other backends, credentials or rules. With the former its copies are forgotten.

        Where only the rules change its id and key stay, and so do its copies: what was read before a mount goes offline
        is what it has to hand out.

        Raises:
            SecretNotFound: Nothing is mounted there.
            As for `add`.
        """
        check_mount(mount)
        ended = made = mount._replace(id=os.urandom(_ID_BYTES), key=os.urandom(KEY_BYTES))

        def change(mounts: list[Mount]) -> list[Mount]:
            nonlocal ended, made
            ended = find_mount(mounts, mount.folder)
            if seen is not None and ended.id != seen.id:
                message = f"the mount at `{mount.folder}` has been changed meanwhile"
                raise Conflict(message, hint="look at it, and try again")
            if (ended.backends, dict(ended.credentials)) == (mount.backends, dict(mount.credentials)):
                made = mount._replace(id=ended.id, key=ended.key)
            return [*without(mounts, mount.folder), made]

        self._change(Event.MOUNT_ADDED, {"path": mount.folder, "store": store_names(mount.backends)}, change)
        if ended.id != made.id:
            self._erase_copies(ended)
        return made

    def remove(self, folder: str) -> Mount:
        """End a mount and return it. What the store holds stays there; the copies of it are erased.

        Raises:
            AccessDenied: The caller may not `mount.manage`.
            SecretNotFound: Nothing is mounted there.
        """
        self._authority.require("mount.manage", "")
        found = find_mount(read_mounts(self._opened), folder)
        obj = {"path": folder, "store": store_names(found.backends)}
        self._change(Event.MOUNT_REMOVED, obj, lambda mounts: without(mounts, folder))
        self._erase_copies(found)
        return found

    def _erase_copies(self, ended: Mount) -> None:
        # Nobody can open them any more; what another process may write of them yet, neither.
        copies = copies_of(self._opened, ended)
        if copies is not None:
            copies.erase()

    def _change(self, event: Event, obj: Mapping[str, object], change: Callable[[list[Mount]], list[Mount]]) -> None:
        def planner(publication: Publication, session: Session, decision: Decision) -> Plan:
            if publication.entry(MOUNTS_PATH) != self._opened.entry(MOUNTS_PATH):
                message = "what is mounted is being changed by somebody else"
                raise Conflict(message, hint="try again")
            mounts = change(read_mounts(self._opened))
            for mount in mounts:
                if publication.changes_below(mount.folder.encode()):
                    message = f"the vault gets a secret below `{mount.folder}` in this moment"
                    raise Conflict(message, hint="try again")
            plan = draft_mounts(self._opened, Drafts(self._opened, publication), mounts, session)
            plan.records = [session.record(event, obj, decision=decision)]
            plan.state["flags"] = self._opened.replica.state.flags | FLAG_DESTRUCTION_PENDING
            return plan

        self._authority.publish_allowed("mount.manage", planner)
        with suppress(DestroyPending):  # the state says so, and the next to open the vault finishes
            finish_destruction(self._opened)

    def _verify_free(self, folder: str, mounts: Sequence[Mount]) -> None:
        for mount in mounts:
            if mount.folder.startswith(folder) or folder.startswith(mount.folder):
                message = f"a store is mounted at `{mount.folder}`"
                raise AlreadyExists(message, hint=f"`securecfg vault unmount {mount.folder}` ends that")
        registry = self._opened.scopes()
        scopes = {*registry.scopes, *registry.making, *registry.reserved} if registry is not None else set()
        for scope in scopes:
            if scope.startswith(folder) or folder.startswith(scope):
                message = f"`{scope}` is a sealed scope"
                raise Conflict(message, hint="mount the store where no scope is")
        if hidden_below(self._opened, folder):
            message = f"the vault has secrets below `{folder}`, or had some"
            hint = "mount the store at another folder, or `securecfg sync` what is there into it and move it away first"
            raise Conflict(message, hint=hint)


def hidden_below(opened: OpenVault, folder: str) -> list[str]:
    """Return the paths of what the vault itself has below a folder, deleted secrets too: a mount there hides them."""
    first = folder.encode()
    return [path.decode() for path, _ in opened.entries(first, prefix_end(first))]


def check_mount(mount: Mount) -> None:
    """Check what a person has said of a mount.

    Raises:
        InvalidPath: Its folder is none.
        InvalidMetadata: Its rules make no sense.
        InvalidBackendUri: One of its URIs names no store.
    """
    check_prefix(mount.folder)
    if not mount.folder.endswith("/"):
        message = f"`{mount.folder}` does not end in `/`"
        raise InvalidPath(message, hint="a store is mounted at a folder, such as `corp/`")
    if not 0 < len(mount.backends) <= BACKENDS_MAX:
        message = f"a mount has from 1 to {BACKENDS_MAX} backends"
        raise InvalidMetadata(message)
    known = frozenset[str]()
    for uri in mount.backends:
        mount.open(uri, PATIENCE)
        known |= known_credentials(uri)
    if not mount.credentials.keys() <= known:
        names = ", ".join(f"`{name}`" for name in sorted(known)) or "none"
        message = f"the credentials that the backends of the mount know are {names}"
        raise InvalidMetadata(message, hint="others come from the platform, or from what the URI names")
    if not all(map(_is_credential, mount.credentials.values())):
        message = f"a credential is text of 1 to {CREDENTIAL_MAX} characters"
        raise InvalidMetadata(message)
    rules = mount.rules
    for name, seconds in zip(Rules._fields[:4], rules, strict=False):
        if not 0 <= seconds <= SECONDS_MAX:
            message = f"`{name}` is from 0 to {SECONDS_MAX} seconds"
            raise InvalidMetadata(message)
    if not 0 <= rules.calls_per_s <= CALLS_MAX or not 0 <= rules.calls_per_day <= CALLS_MAX:
        message = f"numbers of calls are from 0 to {CALLS_MAX}"
        raise InvalidMetadata(message)
    if rules.keep_s and rules.keep_s < rules.max_age_s + rules.refresh_s:
        message = "what is kept for a store that cannot be reached is kept for less than what is handed out without it"
        raise InvalidMetadata(message, hint="make `keep` at least `max-age` and `refresh` together, or 0")


def read_mounts(opened: OpenVault) -> list[Mount]:
    """Return what is mounted, by folder.

    Raises:
        Tampered: The document is damaged.
    """
    mounts = [_parse(folder, document) for folder, document in sorted(opened.mounts().items())]
    with parsing(opened, MOUNTS_PATH):
        if None in mounts:
            raise ValueError
    return [mount for mount in mounts if mount is not None]


def draft_mounts(opened: OpenVault, drafts: Drafts, mounts: Sequence[Mount], session: Session) -> Plan:
    """Return the draft of another document. The one before, which holds what has ended, is destroyed."""
    new = NewVersion(session.identity.principal, opened.clock.now_ns())
    return drafts.replace(MOUNTS_PATH, _encode(mounts), new)


def _encode(mounts: Sequence[Mount]) -> Content:
    """Return the document, in no other frame than this, which raises nothing."""
    document = {mount.folder: mount_to_json(mount) for mount in mounts}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Content.of(KIND_TEXT, text.encode())


def _parse(folder: str, document: Secret[str]) -> Mount | None:
    """Return a mount, None where the document is none: what raises shows its frames."""
    try:
        return mount_from_json(folder, json.loads(document.reveal()))
    except MALFORMED:
        return None


def _is_credential(secret: Secret[str]) -> bool:
    try:
        return 0 < len(secret.reveal()) <= CREDENTIAL_MAX and bool(secret.reveal().encode())
    except UnicodeEncodeError:
        return False


def find_mount(mounts: Sequence[Mount], folder: str) -> Mount:
    """Return the mount at a folder.

    Raises:
        SecretNotFound: There is none.
    """
    for mount in mounts:
        if mount.folder == folder:
            return mount
    message = f"nothing is mounted at `{folder}`"
    raise SecretNotFound(message, hint="`securecfg vault mounts` shows what is mounted")


def without(mounts: Sequence[Mount], folder: str) -> list[Mount]:
    """Return the mounts but the one at a folder.

    Raises:
        SecretNotFound: There is none.
    """
    find_mount(mounts, folder)
    return [mount for mount in mounts if mount.folder != folder]


def store_names(uris: Sequence[str]) -> str:
    """Return what the log calls the backends of a mount."""
    return " ".join(uri.partition("?")[0] for uri in uris)


def mount_to_json(mount: Mount) -> dict[str, object]:
    """Return a mount, without its folder, as documents of the vault hold it."""
    rules = {name: value for name, value in mount.rules._asdict().items() if value != Rules._field_defaults[name]}
    return {
        "id": mount.id.hex(),
        "key": mount.key.hex(),
        "backends": list(mount.backends),
        "rules": rules,
        "credentials": {name: secret.reveal() for name, secret in mount.credentials.items()},
    }


def mount_from_json(folder: str, document: Any) -> Mount:  # noqa: ANN401 - whatever it holds
    """Return the mount that a document of the vault holds; what is none raises one of `MALFORMED`."""
    verify_shape(document, dict)
    rules = document["rules"]
    verify_shape(rules, dict)
    for name, value in rules.items():
        if value.__class__ is not Rules._field_defaults[name].__class__:
            raise TypeError
    verify_shape(document["backends"], list, str)
    verify_shape(document["credentials"], dict, str)
    mount = Mount(
        folder,
        tuple(document["backends"]),
        Rules(**rules),
        {name: Secret(text, label=f"{folder} {name}") for name, text in document["credentials"].items()},
        bytes.fromhex(document["id"]),
        bytes.fromhex(document["key"]),
    )
    if len(mount.id) != _ID_BYTES or len(mount.key) != KEY_BYTES or not mount.backends:
        raise ValueError
    return mount
