"""What is to be done when: the next moment of each of many rotations. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from securecfg.rotation.machine import State

if TYPE_CHECKING:
    from securecfg.rotation.document import Rotation


class Agenda:
    """The next moment of each rotation, by the number of its secret. Finding the first costs the same at any size."""

    def __init__(self) -> None:
        """Know of nothing."""
        self._moments: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Return how many rotations have a next moment."""
        return len(self._moments)

    def put(self, record: int, at_ns: int | None) -> None:
        """Set the next moment of a rotation; None where nothing is to be done."""
        if at_ns is None:
            self._moments.pop(record, None)
            return
        if self._moments.get(record) != at_ns:
            self._moments[record] = at_ns
            heapq.heappush(self._heap, (at_ns, record))
        if len(self._heap) > 2 * len(self._moments) + 64:
            self._heap = [(moment, each) for each, moment in self._moments.items()]
            heapq.heapify(self._heap)

    def next_ns(self) -> int | None:
        """Return the first moment of all, None where there is none."""
        while self._heap:
            moment, record = self._heap[0]
            if self._moments.get(record) == moment:
                return moment
            heapq.heappop(self._heap)
        return None

    def take(self, now_ns: int, at_most: int) -> list[int]:
        """Return the rotations whose moment has come, the first ones first, and forget their moments."""
        taken: list[int] = []
        while len(taken) < at_most and (moment := self.next_ns()) is not None and moment <= now_ns:
            _, record = heapq.heappop(self._heap)
            del self._moments[record]
            taken.append(record)
        return taken


def next_moment(rotation: Rotation) -> int | None:
    """Return when something is to be done about a rotation, None where that is when somebody says so."""
    progress = rotation.progress
    if rotation.is_paused:
        return None
    if progress is None or progress.is_over:
        return rotation.due_ns or None
    if progress.state is State.FAILED:
        return None
    consumers = rotation.rules.consumers
    if progress.state is State.CURRENT and consumers and set(consumers) <= set(progress.acknowledged):
        return 0
    return progress.not_before_ns
