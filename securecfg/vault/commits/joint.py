"""One change of several parts of a vault: all of it is durable, or nothing.

What moves over the edge of a sealed scope leaves one part and comes to another in a single commit. So there is never a
state in which it is in both or in neither, whoever looks and whoever dies.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import HeadMoved, IntegrityError, StoreBusy
from securecfg.store import PartCommit
from securecfg.vault.commits.unfinished import UnfinishedPart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.vault.commits.publisher import Share
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.opened import OpenVault

    Planner = Callable[[Publication], Plan]

_ATTEMPTS_MAX = 12
_ATTEMPTS_IN_RACE = 3
_PAUSE_S = 0.000_5


class PartChange(NamedTuple):
    """What becomes of one part.

    Attributes:
        opened: The part.
        planners: What is published in it, one after the other in one publication; what they raise ends the change.
            Where there are none and it does not end, `verify_settled` looks at it, and nothing is published in it.
        verify_end: Where the part ends: raises unless it may. It then loses its head, and nothing is published in it.
        verify_settled: Raises where there is what changes no head and has to be dealt with before. Looks while nobody
            else can write, as such a row could else be put beside the commit.
    """

    opened: OpenVault
    planners: Sequence[Planner] = ()
    verify_end: Callable[[], None] | None = None
    verify_settled: Callable[[], None] | None = None


def publish_together(
    changes: Sequence[PartChange], *, reserves: bool = False, complete: Sequence[UnfinishedPart] = ()
) -> None:
    """Publish in several parts of one store with a single commit.

    A part that is not finished yet gets its head, and is there for others from then on.

    Args:
        changes: What becomes of each part.
        reserves: Whether to keep other writers out from the first attempt on.
        complete: Parts whose rows are all there, and that get their head.

    Raises:
        CommitUnknown: The store failed while committing; all of it or nothing may be durable.
        StoreBusy: Other writers kept the store for too long; nothing was written.
        StoreFailed: The store failed before committing; nothing was written.
        As for what the planners raise.
    """
    # Whoever takes several locks takes them in one order.
    changes = sorted(changes, key=lambda change: change.opened.store.part)
    is_alone = reserves or any(change.verify_settled is not None for change in changes)
    for attempt in range(_ATTEMPTS_MAX):
        with ExitStack() as stack:
            for change in changes:
                change.opened.check_open()
                stack.enter_context(change.opened.replica.lock)
            if is_alone or attempt >= _ATTEMPTS_IN_RACE:
                stack.enter_context(changes[0].opened.store.reserve())
            try:
                _commit(changes, complete)
            except HeadMoved:
                pass
            except IntegrityError:
                if not any(_has_moved(change.opened) for change in changes):
                    raise
            else:
                return
        time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))  # noqa: S311 - no secret
    message = "other writers were faster every time"
    raise StoreBusy(message, hint="try again in a moment")


def _commit(changes: Sequence[PartChange], complete: Sequence[UnfinishedPart]) -> None:
    """Plan from the newest heads, and commit.

    Raises:
        HeadMoved: Another writer was faster.
    """
    for change in changes:
        change.opened.replica.refresh()
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(change.opened.replica.held())  # the plan of one part may read another one
        shares = _plan(changes)
    commits = [_part_commit(change.opened, share) for change, share in shares]
    commits += [PartCommit(part.part, (), None, part.head()) for part in complete]
    changes[0].opened.store.commit_parts(commits)
    for change, share in shares:
        if share is not None and not isinstance(change.opened.store, UnfinishedPart):
            change.opened.publisher.take_up(share)


def _plan(changes: Sequence[PartChange]) -> list[tuple[PartChange, Share | None]]:
    """Return what is published in each part, None where it ends."""
    for change in changes:
        if change.verify_settled is not None:
            change.verify_settled()
    shares: list[tuple[PartChange, Share | None]] = []
    for change in changes:
        if not change.planners and change.verify_end is None:
            continue
        share = None
        if change.verify_end is None:
            share = change.opened.publisher.make_share(change.planners)
        else:
            change.verify_end()
        shares.append((change, share))
    return shares


def _has_moved(opened: OpenVault) -> bool:
    """Return whether somebody else changed a part since its state was read: its rows may rightly be gone."""
    return opened.store.head() != opened.replica.head


def _part_commit(opened: OpenVault, share: Share | None) -> PartCommit:
    store = opened.store
    if share is None:
        return PartCommit(store.part, (), opened.replica.head, None)
    expect = None if isinstance(store, UnfinishedPart) else share.publication.head
    return PartCommit(store.part, share.finished.operations, expect, share.finished.head)
