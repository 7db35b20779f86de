"""Doing what a plan says, where both sides are still as planned: section 3 of `docs/security/synchronisation.md`."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, NamedTuple

from securecfg.clock import to_datetime
from securecfg.errors import AccessDenied, AlreadyExists, CommitUnknown, Conflict, NotFound, SecurecfgError, StaleWrite
from securecfg.mounts.sides import FolderSide, batch_size, is_of_the_side, verify_apart
from securecfg.mounts.sync_plan import (
    Action,
    Pair,
    Plan,
    Rules,
    Seen,
    Way,
    digest_of,
    make_plan,
    next_last,
    see,
    without_hidden,
)
from securecfg.mounts.sync_state import LastRun, LastRuns
from securecfg.vault.values import SecretVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from securecfg.clock import Clock
    from securecfg.mounts.sides import Side, Standing
    from securecfg.mounts.sync_plan import Item
    from securecfg.vault import Vault
    from securecfg.vault.values import VersionId

    Progress = Callable[[int, int], None]

_WRITTEN_AT_ONCE = 50


class Failure(NamedTuple):
    """A line of a plan that was not done.

    Attributes:
        item: Which.
        error: Why.
    """

    item: Item
    error: SecurecfgError


class Outcome(NamedTuple):
    """What a run came to.

    Attributes:
        done: The lines that were done.
        moved: Those of secrets that have changed since they were planned; nothing was done.
        failed: Those that a side refused, or whose outcome nobody knows.
        digests: What is on both sides of what was done now; None for what is on none.
    """

    done: list[Item]
    moved: list[Item]
    failed: list[Failure]
    digests: dict[str, bytes | None]


class Copying:
    """A first side and a second one, and what is done to make them alike.

    Args:
        here: The first side.
        there: The second one.
        key: What digests are made with.
        clock: The time.
    """

    def __init__(self, here: Side, there: Side, key: bytes, clock: Clock) -> None:
        """Read nothing yet."""
        self.here, self.there, self._key, self._clock = here, there, key, clock

    def plan(self, last: Mapping[str, bytes], rules: Rules, progress: Progress) -> Plan:
        """Return what is to be done, from what is there at this moment.

        Raises:
            BackendUnavailable, BackendLoginRefused: A store gives no answer.
            AuditUnavailable: The reads cannot be recorded.
        """
        names = self.here.list(), self.there.list()
        total = sum(map(len, names))
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        here, there = (self._see(side, own, advance) for side, own in zip((self.here, self.there), names, strict=True))
        pair = Pair(self.here.capabilities, self.there.capabilities, self.here.is_store, self.there.is_store)
        plan = make_plan(here, there, last, pair, rules)
        return without_hidden(plan, self._find_hidden(plan))

    def run(self, plan: Plan, progress: Progress) -> Outcome:
        """Do what a plan says.

        Raises:
            BackendUnavailable, BackendLoginRefused: A store gives no answer; what was done until then is done.
            AuditUnavailable: Something cannot be recorded.
        """
        outcome = Outcome([], [], [], {})
        todo = plan.todo
        count = 0
        for part in self._parts(todo):
            names = [item.name for item in part]
            here, there = self.here.look(names), self.there.look(names)
            for item in part:
                self._do(item, here[item.name], there[item.name], outcome)
            count += len(part)
            progress(count, len(todo))
        return outcome

    def _find_hidden(self, plan: Plan) -> set[str]:
        """Return the names of new secrets of which a side does not say that it has none, and cannot tell in a write."""
        hidden: set[str] = set()
        for side in (self.here, self.there):
            new = [item.name for item in plan.items if item.action is Action.NEW and self._goal(item) is side]
            size = batch_size(side)
            for start in range(0, 0 if side.capabilities.creates else len(new), size):
                standings = side.look(new[start : start + size])
                hidden |= {name for name, standing in standings.items() if _find_hiding(side, standing)}
        return hidden

    def _see(
        self, side: Side, names: Sequence[str], advance: Callable[[int], None]
    ) -> dict[str, Seen | SecurecfgError]:
        seen: dict[str, Seen | SecurecfgError] = {}
        size = batch_size(side)
        for start in range(0, len(names), size):
            part = names[start : start + size]
            for name, standing in side.look(part).items():
                found = standing.found
                if isinstance(found, SecretVersion):
                    seen[name] = see(self._key, found)
                elif is_of_the_side(found):
                    raise found
                elif not isinstance(found, NotFound) or found.code != "secret-not-found":
                    seen[name] = found
            advance(len(part))
        return seen

    def _parts(self, todo: Sequence[Item]) -> list[Sequence[Item]]:
        """Return what is looked at together: one by one where the side that is written cannot compare by itself."""
        parts: list[Sequence[Item]] = []
        together: list[Item] = []
        for item in todo:
            can = self._goal(item).capabilities
            if item.action is Action.DELETED or not (can.compares and can.creates):
                parts.append([item])
            else:
                together.append(item)
        size = _WRITTEN_AT_ONCE
        return [together[start : start + size] for start in range(0, len(together), size)] + parts

    def _goal(self, item: Item) -> Side:
        return self.there if item.way is Way.FORTH else self.here

    def _do(self, item: Item, here: Standing, there: Standing, outcome: Outcome) -> None:
        if not (self._is_as_planned(item.here, here) and self._is_as_planned(item.there, there)):
            outcome.moved.append(item)
            return
        source, goal = (here, there) if item.way is Way.FORTH else (there, here)
        side = self._goal(item)
        hiding = _find_hiding(side, goal)
        if hiding is not None:
            outcome.failed.append(Failure(item, hiding))
            return
        digest: bytes | None = None
        try:
            if item.action is Action.DELETED:
                side.delete(item.name)
            elif isinstance(source.found, SecretVersion):
                digest = digest_of(self._key, source.found)
                self._write(side, item.name, source.found, goal.expect, digest)
        except (StaleWrite, AlreadyExists):
            outcome.moved.append(item)
        except SecurecfgError as error:
            if is_of_the_side(error):
                raise
            outcome.failed.append(Failure(item, error.with_traceback(None)))
        else:
            outcome.done.append(item)
            outcome.digests[item.name] = digest

    def _write(self, side: Side, name: str, version: SecretVersion, expect: VersionId, digest: bytes) -> None:
        try:
            side.write(name, version, expect, self._time_left(version))
        except CommitUnknown:
            found = side.look([name])[name].found
            if not isinstance(found, SecretVersion) or not hmac.compare_digest(digest_of(self._key, found), digest):
                raise

    def _time_left(self, version: SecretVersion) -> timedelta | None:
        return None if version.expires is None else version.expires - to_datetime(self._clock.now_ns())

    def _is_as_planned(self, planned: Seen | SecurecfgError | None, standing: Standing) -> bool:
        found = standing.found
        if isinstance(planned, Seen):
            return isinstance(found, SecretVersion) and hmac.compare_digest(digest_of(self._key, found), planned.digest)
        # Who may not list a path may not know whether there is something; the write itself finds out, where it can.
        return isinstance(found, NotFound | AccessDenied)


class Synchronisation:
    """Two folders of a vault that are made alike, again and again.

    Args:
        vault: The vault.
        from_: The first folder.
        to: The second one.
        rules: How.

    Raises:
        InvalidPath: One is no folder.
        Conflict: They are not apart, or stores are mounted inside one.
        Unsupported: The vault itself is not open.
    """

    def __init__(self, vault: Vault, from_: str, to: str, rules: Rules) -> None:
        """Read what the last run has left."""
        here, there = FolderSide(vault, from_), FolderSide(vault, to)
        verify_apart(here, there)
        self._runs, self._rules = LastRuns(vault.authority), rules
        self.last = self._runs.find(from_, to)
        self._copying = Copying(here, there, self.last.key, vault.opened.clock)

    def plan(self, progress: Progress) -> Plan:
        """Return what is to be done; see `Copying.plan`."""
        return self._copying.plan(self.last.digests, self._rules, progress)

    def run(self, plan: Plan, progress: Progress) -> Outcome:
        """Do what a plan says, record what it came to, and keep what is alike now; see `Copying.run`."""
        outcome = self._copying.run(plan, progress)
        digests = next_last(plan, self.last.digests, outcome.digests)
        counts = {str(action): count for action, count in plan.counts.items()}
        run = LastRun(self.last.from_, self.last.to, self.last.key, digests, counts=counts)
        self._runs.finish(run, len(outcome.done))
        return outcome


def _find_hiding(side: Side, standing: Standing) -> AccessDenied | None:
    """Return why there may be a secret that a write would replace without a word, None where it would not."""
    found = standing.found
    return found if isinstance(found, AccessDenied) and not side.capabilities.creates else None


def verify_planned(plan: Plan, wanted: str | None) -> None:
    """Refuse a plan that is not the one that was shown.

    Raises:
        Conflict: It is another one.
    """
    if wanted is not None and plan.id != wanted:
        message = "the sides are not as they were when the plan was shown"
        raise Conflict(message, hint="look at the plan again")
