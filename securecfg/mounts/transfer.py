"""Whole stores in one go: into the vault, out of it, and from one store of a mount to another.

What is copied, and when not, is as for any synchronisation (`docs/security/synchronisation.md`); nothing is written
over unless that is said, and nothing is deleted.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.backends import State, open_backend
from securecfg.crypto import KEY_BYTES
from securecfg.errors import Conflict, InvalidMetadata, SecretNotFound, SecurecfgError, Unsupported
from securecfg.mounts.mounted import MountedVault
from securecfg.mounts.sides import FolderSide, GivenOut, StoreSide
from securecfg.mounts.sync_plan import Action, Item, Plan, Rules, Seen, digest_of
from securecfg.mounts.sync_run import Copying
from securecfg.mounts.table import Mounts, find_mount, read_mounts
from securecfg.policy import Decision
from securecfg.vault.listing import VersionState
from securecfg.vault.paths import RESERVED_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from securecfg.mounts.sides import Side
    from securecfg.mounts.sync_run import Outcome
    from securecfg.vault import Vault
    from securecfg.vault.values import SecretVersion, VersionId

    Progress = Callable[[int, int], None]
    Show = Callable[[str], AbstractContextManager[Progress]]

    SecretId = tuple[VersionId, tuple[str, ...]]

PASSES_MAX = 8
_FINE = frozenset((Action.SAME, Action.NEW, Action.ONLY_THERE))


class Transfer:
    """What is copied once, between a store and a folder of the vault.

    Args:
        vault: Decides and records.
        here: Where secrets come from.
        there: Where they go.
        replaces: Whether another value is written over.
    """

    def __init__(self, vault: Vault, here: Side, there: Side, *, replaces: bool) -> None:
        """Read nothing yet."""
        self._vault, self._here, self._there = vault, here, there
        self._rules = Rules(replaces=replaces)
        self._copying = Copying(here, there, os.urandom(KEY_BYTES), vault.opened.clock)

    @classmethod
    def into(cls, vault: Vault, uri: str, folder: str, *, replaces: bool) -> Transfer:
        """Return the way of a store into a folder; each path there needs the right to write.

        Raises:
            InvalidBackendUri: The URI names no store.
            InvalidPath: It is no folder.
            Conflict: Stores are mounted inside the folder.
        """
        there = FolderSide(vault, folder)
        return cls(vault, StoreSide(vault, folder, open_backend(uri), "write"), there, replaces=replaces)

    @classmethod
    def out_of(cls, vault: Vault, folder: str, uri: str, *, replaces: bool) -> Transfer:
        """Return the way of a folder into a store; each path there needs the rights to export and to read.

        Raises:
            InvalidBackendUri: The URI names no store.
            InvalidPath: It is no folder.
            Conflict: Stores are mounted inside the folder.
        """
        here = GivenOut(vault, folder)
        return cls(vault, here, StoreSide(vault, folder, open_backend(uri), "export"), replaces=replaces)

    def plan(self, progress: Progress) -> Plan:
        """Return what is to be copied; see `Copying.plan`."""
        return self._copying.plan({}, self._rules, progress)

    def run(self, plan: Plan, progress: Progress) -> Outcome:
        """Copy what a plan says, and record what it came to; see `Copying.run`."""
        outcome = self._copying.run(plan, progress)
        record_end(self._vault, self._here.name, self._there.name, len(outcome.done))
        return outcome


class Survey(NamedTuple):
    """What is known before a mount goes to another store.

    Attributes:
        plan: What is to be copied.
        versions: How many earlier versions go along.
        obstacles: What is in the way: another value there, or what that store cannot hold or this one not give.
        lost: What does not go along, by name.
    """

    plan: Plan
    versions: int
    obstacles: list[Item]
    lost: list[tuple[str, str]]


class Rehousing:
    """A mount that goes to other backends, with everything in it.

    Args:
        vault: The vault, open itself.
        folder: Of the mount.
        uris: The new backends; the first one is written.
        show: Shows the progress of a step.
        takes_versions: Whether earlier live versions go along.

    Raises:
        AccessDenied: The caller may not `mount.manage`.
        SecretNotFound: Nothing is mounted there.
        InvalidBackendUri: A URI names no store.
        Unsupported: The new store keeps no versions, and they are to go along.
    """

    def __init__(self, vault: Vault, folder: str, uris: Sequence[str], show: Show, *, takes_versions: bool) -> None:
        """Ask nothing yet."""
        vault.authority.require("mount.manage", "")
        self._mount = find_mount(read_mounts(vault.opened), folder)
        if not isinstance(vault, MountedVault):
            message = f"a store is mounted at `{folder}` since the vault was opened"
            raise Conflict(message, hint="open the vault again")
        self._vault, self._folder, self._uris, self._show = vault, folder, tuple(uris), show
        handle = open_backend(uris[0])
        if takes_versions and not handle.capabilities.keeps_versions:
            message = "the new store keeps no versions"
            raise Unsupported(message, hint="migrate with `--versions current`")
        self._takes_versions = takes_versions
        self._here = FolderSide(vault, folder)
        # Not with the credentials of the mount, which are for its own store.
        # What is read there is given to the new store: whoever may read it and manages mounts may have it there.
        self._there = StoreSide(vault, folder, handle, "read")
        self._key = os.urandom(KEY_BYTES)
        self._copying = Copying(self._here, self._there, self._key, vault.opened.clock)
        self._earlier: dict[str, list[SecretId]] = {}

    def survey(self) -> Survey:
        """Return what is to be done, and what is in the way. Nothing is written.

        Raises:
            AccessDenied: The caller may not read every path below the mount.
            BackendUnavailable, BackendLoginRefused: A store gives no answer.
        """
        self._verify_rights()
        with self._show("comparing") as progress:
            plan = self._copying.plan({}, Rules(replaces=False), progress)
        self._earlier = {}
        obstacles: list[Item] = []
        lost: list[tuple[str, str]] = []
        for item in plan.items:
            if self._takes_versions and item.action in {Action.NEW, Action.CONFLICT}:
                self._earlier[item.name], gone = self._live(item.name)
                lost += gone
            if item.action not in _FINE and not self._is_begun(item):
                obstacles.append(item)
            kept_labels = self._takes_versions and self._there.capabilities.labels
            lost += [(item.name, loss) for loss in item.losses if not (loss == "labels" and kept_labels)]
        versions = sum(max(len(ids) - 1, 0) for ids in self._earlier.values())
        return Survey(plan, versions, obstacles, lost)

    def run(self, survey: Survey) -> tuple[int, list[tuple[str, str]]]:
        """Copy everything, verify it, and give the mount its new backends.

        Returns:
            How many secrets are in the new store, and what else did not go along.

        Raises:
            Conflict: Something is in the way, or the old store changes faster than it can be copied.
            As for `survey`.
        """
        written, lost = 0, list[tuple[str, str]]()
        for _ in range(PASSES_MAX):
            if survey.obstacles:
                message = f"of what is mounted at `{self._folder}` some cannot go to the new store"
                raise Conflict(message, hint="`--dry-run` says what and why; nothing was written over")
            if all(item.action is not Action.NEW and item.name not in self._earlier for item in survey.plan.items):
                break
            for name, ids in sorted(self._earlier.items()):
                lost += self._copy_versions(name, ids)
                written += 1
            left = Plan(tuple(item for item in survey.plan.items if item.name not in self._earlier), survey.plan.rules)
            with self._show("copying") as progress:
                outcome = self._copying.run(left, progress)
            if outcome.failed:
                raise outcome.failed[0].error
            written += len(outcome.done)
            survey = self.survey()
        else:
            message = f"what is mounted at `{self._folder}` changes faster than it can be copied"
            raise Conflict(message, hint="try again when less is written to it; what was copied is there")
        for item in survey.plan.items if self._takes_versions else ():
            if isinstance(item.here, Seen) and isinstance(item.there, Seen):
                missing = sorted(set(item.here.labels) - set(item.there.labels))
                lost += self._label(item.name, str(item.there.version), missing)
        moved = self._mount._replace(backends=self._uris, credentials={})
        Mounts(self._vault.authority).replace(moved, self._mount)
        record_end(self._vault, self._folder, self._there.name, written)
        same = sum(item.action is Action.SAME for item in survey.plan.items)
        return same, list(dict.fromkeys(lost))

    def _verify_rights(self) -> None:
        """Refuse who may not read all of it, and would leave something behind.

        Raises:
            AccessDenied: He may not.
        """
        authority = self._vault.authority
        listed = self._vault.sources[self._folder].list_now("").paths
        session = authority.session()
        paths = [self._folder + name for name in listed]
        for action in ("read", "list"):
            if not all(session.decide_many(action, paths)):
                raise authority.deny(session, action, self._folder, Decision(allowed=False))

    def _live(self, name: str) -> tuple[list[SecretId], list[tuple[str, str]]]:
        """Return the live versions of a secret with their labels, oldest first and the current one last."""
        infos = self._vault.history(self._folder + name)
        live = [info for info in reversed(infos) if info.state is VersionState.LIVE]
        gone = [
            (name, f"version {info.version}: {info.state}") for info in infos if info.state is not VersionState.LIVE
        ]
        current = self._here.look([name])[name].expect
        live.sort(key=lambda info: info.version == current)
        return [(info.version, info.labels) for info in live], gone

    def _is_begun(self, item: Item) -> bool:
        """Return whether the new store has the first of the versions already, of a run that was interrupted."""
        if item.action is not Action.CONFLICT or not self._earlier.get(item.name):
            return False
        return self._find_alike(item.name, self._earlier[item.name]) is not None

    def _find_alike(self, name: str, ids: Sequence[SecretId]) -> list[str] | None:
        """Return what the new store calls those of the first versions that it has, None where it has others."""
        stored = [version for version in reversed(self._there.handle.versions(name)) if version.state is State.LIVE]
        if len(stored) > len(ids):
            return None
        for version, (id_, _) in zip(stored, ids, strict=False):
            theirs, ours = self._there.read_version(name, version.id), self._read(name, id_)
            if not hmac.compare_digest(digest_of(self._key, theirs), digest_of(self._key, ours)):
                return None
        return [version.id for version in stored]

    def _copy_versions(self, name: str, ids: Sequence[SecretId]) -> list[tuple[str, str]]:
        """Write the versions that the new store lacks, and make labels point at them; return what it refuses."""
        standing = self._there.look([name])[name]
        if isinstance(standing.found, SecurecfgError) and not isinstance(standing.found, SecretNotFound):
            raise standing.found  # what cannot be seen may be there
        expect: VersionId = standing.expect
        alike = self._find_alike(name, ids) if expect else []
        if alike is None:
            message = f"`{name}` has been changed in the new store meanwhile"
            raise Conflict(message, hint="run it again")
        lost: list[tuple[str, str]] = []
        for number, (id_, labels) in enumerate(ids):
            # What was interrupted may have the version and not its labels.
            is_new = number >= len(alike)
            version = self._there.write(name, self._read(name, id_), expect, None) if is_new else alike[number]
            expect = version if is_new else expect
            lost += self._label(name, str(version), labels)
        return lost

    def _label(self, name: str, version: str, labels: Iterable[str]) -> list[tuple[str, str]]:
        """Make labels point at a version in the new store; return those that it refuses."""
        lost: list[tuple[str, str]] = []
        for label in labels:
            if label in RESERVED_LABELS:
                continue
            try:
                self._there.label(name, label, version)
            except (InvalidMetadata, Unsupported) as error:
                lost.append((name, f"label {label}: {error.message}"))
        return lost

    def _read(self, name: str, version: VersionId) -> SecretVersion:
        return self._vault.read(self._folder + name, at=version)


def record_end(vault: Vault, from_: str, to: str, count: int) -> None:
    """Record what a transfer came to.

    Raises:
        AuditUnavailable: It cannot be recorded; what was copied is there.
    """
    session = vault.authority.session()
    vault.authority.publish_records([session.record(Event.SYNC_FINISHED, {"path": from_, "to": to, "count": count})])
