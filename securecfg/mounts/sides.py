"""The two sides of a transfer: a folder of the vault, mounted or its own, or a store that stands for one.

Every access goes through the vault's own methods, or is decided and recorded here as those do it (section 1 of
`docs/security/synchronisation.md`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast

from securecfg.audit import Event
from securecfg.backends import Capabilities, Deletion, Kind
from securecfg.errors import (
    AccessDenied,
    CommitUnknown,
    Conflict,
    InvalidPath,
    NotAuthenticated,
    SecretNotFound,
    SecurecfgError,
    Unavailable,
    Unsupported,
)
from securecfg.mounts.mounted import MountedVault
from securecfg.mounts.recording import ATTEMPTS, change_recorded, publish_under, too_fast
from securecfg.mounts.source import Served
from securecfg.vault.authority import PolicyMoved
from securecfg.vault.paths import PATH_BYTES_MAX, check_prefix, path_to_bytes, scope_among
from securecfg.vault.values import SecretVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from securecfg.audit import Record
    from securecfg.backends import Found, OpenBackend
    from securecfg.policy import Decision
    from securecfg.vault import Vault
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.session import Session
    from securecfg.vault.values import Plain, VersionId

    Names = list[str]

T = TypeVar("T")

_VALUE_BYTES_MAX = 1 << 30
_READ_AT_ONCE = 100


class Standing(NamedTuple):
    """What is there at a moment, and what a write that saw it expects.

    Attributes:
        found: The current version, or why there is none to be had.
        expect: The version that a write is to be made on, 0 for none.
    """

    found: SecretVersion | SecurecfgError
    expect: VersionId


class Side(Protocol):
    """Where secrets come from or go to. Names are paths below it.

    Attributes:
        name: What it is called in reports and in the log.
        is_store: Whether somebody else keeps it.
        capabilities: What it can hold and do.
    """

    @property
    def name(self) -> str:
        """What it is called in reports and in the log."""
        ...

    @property
    def is_store(self) -> bool:
        """Whether somebody else keeps it."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can hold and do."""
        ...

    def list(self) -> Names:
        """Return the names of the secrets that the caller may list, as they are at this moment, sorted."""
        ...

    def look(self, names: Sequence[str]) -> dict[str, Standing]:
        """Return what is there at this moment.

        Raises:
            BackendUnavailable, BackendLoginRefused: The store gives no answer.
            AuditUnavailable: The reads cannot be recorded.
        """
        ...

    def write(self, name: str, version: SecretVersion, expect: VersionId, ttl: timedelta | None) -> VersionId:
        """Write a value and its metadata where there is what is expected.

        Raises:
            StaleWrite, AlreadyExists: There is something else, and the side can tell.
            CommitUnknown: It may have been written.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete a secret."""
        ...


class FolderSide:
    """A folder of an open vault: a mount, a folder in one, or one of the vault itself that holds none.

    Args:
        vault: The vault.
        folder: Ends in `/`.

    Raises:
        InvalidPath: It is no folder.
        Conflict: Stores are mounted inside it.
        Unsupported: The vault is not open itself.
    """

    def __init__(self, vault: Vault, folder: str) -> None:
        """Read nothing yet."""
        check_folder(folder)
        self.vault, self.name = vault, folder
        self._mounted = vault if isinstance(vault, MountedVault) else None
        sources = self._mounted.sources if self._mounted is not None else {}
        for other in sources:
            if other.startswith(folder) and other != folder:
                message = f"a store is mounted at `{other}`, inside of `{folder}`"
                raise Conflict(message, hint="name the mount, or a folder in which nothing is mounted")
        mount = scope_among(sources, f"{folder}-")
        self.is_store = mount is not None
        room = PATH_BYTES_MAX - len(folder.encode())
        if mount is None:
            self._mounted = None
            self.capabilities = _own_capabilities(room)
        else:
            can = sources[mount].first.capabilities
            inner = len(folder.encode()) - len(mount.encode())
            self.capabilities = can._replace(path_bytes_max=min(room, can.path_bytes_max - inner))

    def list(self) -> Names:
        """Return the names of secrets; see `Side.list`."""
        paths = self.vault.list(self.name) if self._mounted is None else self._mounted.list_now(self.name)
        return sorted(path.removeprefix(self.name) for path in paths)

    def look(self, names: Sequence[str]) -> dict[str, Standing]:
        """Return what is there; see `Side.look`."""
        paths = [self.name + name for name in names]
        if self._mounted is not None:
            read = self._mounted.read_now(paths)
            return {name: _standing(one) for name, one in zip(names, read, strict=True)}
        # The newest number comes first: what is written after it makes the write stale, or is seen by the read.
        absent = [self._absent(path) for path in paths]
        wanted = [path for path, one in zip(paths, absent, strict=True) if not isinstance(one, Standing)]
        found = dict(zip(wanted, self.vault.read_many([(path, None) for path in wanted]), strict=True))
        return {
            name: one if isinstance(one, Standing) else Standing(found[path], one)
            for name, path, one in zip(names, paths, absent, strict=True)
        }

    def write(self, name: str, version: SecretVersion, expect: VersionId, ttl: timedelta | None) -> VersionId:
        """Write; see `Side.write`."""
        can = self.capabilities
        is_compared = can.compares if expect else can.creates
        return self.vault.write(
            self.name + name,
            cast("Plain", version.value),
            expect=expect if is_compared else None,
            metadata=dict(version.metadata) if can.metadata else None,
            ttl=None if self.is_store else ttl,
            content_type="" if self.is_store else version.content_type,
        )

    def delete(self, name: str) -> None:
        """Delete; see `Side.delete`."""
        self.vault.delete(self.name + name)

    def _absent(self, path: str) -> Standing | VersionId:
        """Return that there is no live secret, which the error of a read says at some length, or the newest version."""
        nothing = SecretNotFound(f"there is no secret `{path}`")
        try:
            if self.vault.standing(path) is None:
                return Standing(nothing, 0)
            infos = self.vault.history(path)
        except SecurecfgError:  # the read says what is the matter
            return 0
        is_live = any("current" in info.labels for info in infos)
        return infos[0].version if is_live else Standing(nothing, infos[0].version)


class _Permit(NamedTuple):
    """A decision that lets a secret be read, and the stamp of the policy that made it."""

    name: str
    authority: Authority
    stamp: Stamp
    session: Session
    decision: Decision


class StoreSide:
    """A store by its URI, that stands for a folder of the vault: the policy decides on the paths there.

    Args:
        vault: Decides and records.
        folder: Which its secrets stand for; ends in `/`.
        handle: The store.
        action: What is asked of the policy for a path, before it is read or written here.
    """

    is_store = True

    def __init__(self, vault: Vault, folder: str, handle: OpenBackend, action: str) -> None:
        """Ask nothing yet."""
        check_folder(folder)
        self._vault, self._folder, self.handle, self._action = vault, folder, handle, action
        self.name = handle.name
        can = handle.capabilities
        room = PATH_BYTES_MAX - len(folder.encode())
        self.capabilities = can._replace(path_bytes_max=min(room, can.path_bytes_max))

    def list(self) -> Names:
        """Return the names of secrets; see `Side.list`. Those that are no paths of the vault are left out."""
        return [name for name in self.handle.list().paths if _is_path(self._folder + name)]

    def look(self, names: Sequence[str]) -> dict[str, Standing]:
        """Return what is there; see `Side.look`."""
        standings: dict[str, Standing] = {}
        size = self.handle.capabilities.reads_at_once
        for start in range(0, len(names), size):
            standings |= self._look(names[start : start + size])
        return standings

    def write(self, name: str, version: SecretVersion, expect: VersionId, ttl: timedelta | None) -> VersionId:
        """Write; see `Side.write`."""
        del ttl
        can = self.handle.capabilities
        wanted = str(expect) if expect else ""
        return self._change(
            name,
            {"action": "write"},
            lambda: self.handle.write(
                name,
                cast("Plain", version.value),
                expect=wanted if (can.compares if wanted else can.creates) else None,
                metadata=dict(version.metadata) if can.metadata else None,
            ),
        )

    def delete(self, name: str) -> None:
        """Delete; see `Side.delete`."""
        self._change(name, {"action": "delete"}, lambda: self.handle.delete(name))

    def label(self, name: str, label: str, version: str) -> None:
        """Make a label point at a version."""
        self._change(name, {"action": "write", "label": label}, lambda: self.handle.label(name, label, version))

    def read_version(self, name: str, version: str) -> SecretVersion:
        """Return a version of a secret.

        Raises:
            As for `OpenBackend.read`.
        """
        for _ in range(ATTEMPTS):
            permit = self._permit(name)
            found = _to_version(self._folder + name, self.handle.read(name, version))
            with suppress(PolicyMoved):
                self._record([(permit, found)])
                return found
        raise too_fast(self._folder + name)

    def _change(self, name: str, said: Mapping[str, object], change: Callable[[], T]) -> T:
        path = self._folder + name
        obj = {"path": path, "store": self.name, **said}
        return change_recorded(self._vault.authority_over(path), self._action, obj, change)

    def _read_object(self, version: SecretVersion) -> dict[str, object]:
        return {
            "path": version.path,
            "version": str(version.version),
            "store": self.name,
            "served": str(Served.STORE),
        }

    def _permit(self, name: str) -> _Permit:
        """Return what allows to read a secret.

        Raises:
            AccessDenied: Nothing does.
        """
        path = self._folder + name
        authority = self._vault.authority_over(path)
        stamp = authority.opened.policy_stamp()
        return _Permit(name, authority, stamp, *authority.require(self._action, path))

    def _look(self, names: Sequence[str]) -> dict[str, Standing]:
        """Return what one call of the store says, under the policy that was asked before it."""
        for _ in range(ATTEMPTS):
            standings: dict[str, Standing] = {}
            permits: list[_Permit] = []
            for name in names:
                try:
                    permits.append(self._permit(name))
                except AccessDenied as error:
                    standings[name] = Standing(error, 0)
            with suppress(PolicyMoved):
                return standings | self._read(permits)
        raise too_fast(self._folder)

    def _read(self, permits: Sequence[_Permit]) -> dict[str, Standing]:
        """Read what is allowed; each read is durable in the log before the value is used.

        Raises:
            PolicyMoved: The policy is another one by now; nothing that was read is used.
        """
        if not permits:
            return {}
        try:
            found = self.handle.read_many([permit.name for permit in permits])
        except SecurecfgError as error:
            if is_of_the_side(error):
                raise
            if len(permits) == 1:
                return {permits[0].name: Standing(error, 0)}
            return {name: standing for one in permits for name, standing in self._read([one]).items()}
        standings: dict[str, Standing] = {}
        reads: list[tuple[_Permit, SecretVersion]] = []
        for permit in permits:
            name = permit.name
            if name not in found:
                standings[name] = Standing(SecretNotFound(f"there is no secret `{name}` in {self.name}"), 0)
                continue
            version = _to_version(self._folder + name, found[name])
            reads.append((permit, version))
            standings[name] = Standing(version, version.version)
        self._record(reads)
        return standings

    def _record(self, reads: Sequence[tuple[_Permit, SecretVersion]]) -> None:
        """Make reads durable in the log, by the policy that each was decided by.

        Raises:
            PolicyMoved: It is another one by now.
        """
        together: dict[tuple[int, Stamp], tuple[Authority, list[Record]]] = {}
        for permit, version in reads:
            record = permit.session.record(Event.MOUNT_READ, self._read_object(version), decision=permit.decision)
            key = id(permit.authority), permit.stamp
            together.setdefault(key, (permit.authority, []))[1].append(record)
        for (_, stamp), (authority, records) in together.items():
            publish_under(authority, stamp, records)


class GivenOut(FolderSide):
    """A folder whose secrets leave the vault, by those who may `export` them."""

    def look(self, names: Sequence[str]) -> dict[str, Standing]:
        """Return what is there and may be given out; see `Side.look`."""
        refused: dict[str, Standing] = {}
        for name in names:
            path = self.name + name
            try:
                self.vault.authority_over(path).require("export", path)
            except AccessDenied as error:
                refused[name] = Standing(error, 0)
        return refused | super().look([name for name in names if name not in refused])


def check_folder(folder: str) -> None:
    """Check what a person calls a folder.

    Raises:
        InvalidPath: It is none.
    """
    check_prefix(folder)
    if not folder.endswith("/"):
        message = f"`{folder}` does not end in `/`"
        raise InvalidPath(message, hint="a side is a folder, such as `corp/`")


def verify_apart(one: FolderSide, other: FolderSide) -> None:
    """Refuse two folders of which one holds the other.

    Raises:
        Conflict: It is so.
        Unsupported: Only sealed scopes of the vault are open, so that nothing can be kept of the run.
    """
    if one.name.startswith(other.name) or other.name.startswith(one.name):
        message = f"`{one.name}` and `{other.name}` are not apart"
        raise Conflict(message, hint="name two folders of which none lies in the other")
    if not one.vault.is_by_root:
        message = "this identity opens sealed scopes only, and stores are mounted in the vault itself"
        raise Unsupported(message, hint="open the vault with a key of its own")


def is_of_the_side(error: SecurecfgError) -> bool:
    """Return whether an error is none of one secret, so that the next one would meet it too."""
    return isinstance(error, Unavailable | NotAuthenticated) and not isinstance(error, CommitUnknown)


def batch_size(side: Side) -> int:
    """Return how many secrets are read together: as many as one call reads, at least so many that records share one."""
    return max(side.capabilities.reads_at_once, _READ_AT_ONCE)


def _own_capabilities(room: int) -> Capabilities:
    return Capabilities(
        kinds=frozenset(Kind),
        value_bytes_max=_VALUE_BYTES_MAX,
        path_bytes_max=room,
        writes=True,
        creates=True,
        compares=True,
        keeps_versions=True,
        labels=True,
        metadata=True,
        deletes=Deletion.SOFT,
        reads_at_once=_READ_AT_ONCE,
    )


def _standing(found: SecretVersion | SecurecfgError) -> Standing:
    return Standing(found, found.version if isinstance(found, SecretVersion) else 0)


def _to_version(path: str, found: Found) -> SecretVersion:
    value, version, metadata = found
    return SecretVersion(path, version.id, value, version.created, None, version.labels, metadata, "", "")


def _is_path(path: str) -> bool:
    try:
        path_to_bytes(path)
    except InvalidPath:
        return False
    return True
