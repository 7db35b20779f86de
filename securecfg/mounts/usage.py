"""What a mount costs: calls, failures and what was handed out without a call, by day, over all processes.

The numbers lie beside the sealed copies of the mount, in a file that says nothing but numbers. Who can write there can
change them, and so what is left of a day's calls; a file that makes no sense is begun anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from securecfg.clock import to_datetime
from securecfg.errors import BackendUnavailable
from securecfg.vault.documents import MALFORMED, verify_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.clock import Clock

DAYS_KEPT = 62
_FILE = "usage"
_BYTES_MAX = 65_536
_SAVED_EVERY_NS = 60 * 1_000_000_000
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


class Numbers(NamedTuple):
    """What a mount has cost in a time.

    Attributes:
        calls: How often a backend was asked, further attempts not counted.
        failures: How often there was no answer.
        hits: How many values were handed out without asking.
        last_good: How many because nobody could be asked.
    """

    calls: int = 0
    failures: int = 0
    hits: int = 0
    last_good: int = 0

    def plus(self, other: Numbers) -> Numbers:
        """Return the sums."""
        return Numbers(*(one + two for one, two in zip(self, other, strict=True)))


def total(days: Mapping[str, Numbers]) -> Numbers:
    """Return the sums of all days."""
    whole = Numbers()
    for numbers in days.values():
        whole = whole.plus(numbers)
    return whole


class Usage:
    """The numbers of one mount: this process counts, and adds to what all have counted.

    Args:
        folder: Where the file is; None keeps it in memory.
        clock: The time.
        per_day: How many calls there may be in a day (UTC), of all processes together; 0 for any number.
    """

    def __init__(self, folder: str | None, clock: Clock, per_day: int = 0) -> None:
        """Begin with nothing."""
        self._folder, self._clock, self._per_day = folder, clock, per_day
        self._lock = threading.Lock()
        self._mine = self._unsaved = Numbers()
        self._day = self._date()
        self._saved_ns = clock.now_ns()
        self._is_made = False

    @property
    def mine(self) -> Numbers:
        """What this process has counted."""
        return self._mine

    def take(self, calls: int) -> None:
        """Count calls that are about to be made.

        Raises:
            BackendUnavailable: They are more than a day may have; nothing is counted.
        """
        with self._lock:
            self._make_folder()
            self._turn_day()
            if self._per_day:
                # Looked up and added under one lock of the file: beside a call over a network that costs nothing.
                self._save(Numbers(calls=calls))
            else:
                self._add(Numbers(calls=calls))

    def note(self, numbers: Numbers) -> None:
        """Count something else."""
        with self._lock:
            self._turn_day()
            self._add(numbers)

    def save(self) -> None:
        """Add what was counted to what all processes have counted."""
        with self._lock:
            if any(self._unsaved):
                self._save()

    def days(self) -> dict[str, Numbers]:
        """Return what all processes have counted, by day (`2026-01-31`), oldest first; what is not saved yet is not."""
        with suppress(OSError), self._opened() as descriptor:
            return _read(descriptor)
        return {}

    def _add(self, numbers: Numbers) -> None:
        self._mine, self._unsaved = self._mine.plus(numbers), self._unsaved.plus(numbers)
        if self._clock.now_ns() - self._saved_ns > _SAVED_EVERY_NS:
            self._save()

    def _verify_within(self, today: Numbers, more: Numbers) -> None:
        if self._per_day and more.calls and today.calls + more.calls > self._per_day:
            message = f"the {self._per_day} calls that the mount allows in a day are made"
            raise BackendUnavailable(message, hint="`--calls-per-day` of the mount says how many there may be")

    def _make_folder(self) -> None:
        """Make the folder before the first call, and never after: a mount that has ended has none any more."""
        if not self._is_made and self._folder is not None:
            self._is_made = True
            with suppress(OSError):
                os.makedirs(self._folder, _PRIVATE_FOLDER, exist_ok=True)  # noqa: PTH103 - as above

    def _turn_day(self) -> None:
        day = self._date()
        if day != self._day:
            self._save()
            self._day = day
            if self._folder is None:
                self._unsaved = Numbers()

    def _save(self, more: Numbers = Numbers()) -> None:  # noqa: B008 - it cannot be changed
        """Add what was counted, and more, to the file.

        Raises:
            BackendUnavailable: More would be too much for the day; the rest is added.
        """
        self._saved_ns = self._clock.now_ns()
        if self._folder is None:
            self._verify_within(self._unsaved, more)
            self._add(more)
            return
        try:
            with self._opened() as descriptor:
                self._save_into(descriptor, more)
        except OSError:
            # Where it cannot be written this process counts alone.
            self._verify_within(self._unsaved, more)
            self._mine, self._unsaved = self._mine.plus(more), self._unsaved.plus(more)

    def _save_into(self, descriptor: int, more: Numbers) -> None:
        days = _read(descriptor)
        today = days.get(self._day, Numbers()).plus(self._unsaved)
        try:
            self._verify_within(today, more)
            self._mine, today = self._mine.plus(more), today.plus(more)
        finally:
            days[self._day], self._unsaved = today, Numbers()
            kept = sorted(days)[-DAYS_KEPT:]
            text = json.dumps({day: list(days[day]) for day in kept}).encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        place = os.path.join(self._folder or os.devnull, _FILE)  # noqa: PTH118 - without `pathlib`, as the copies
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _date(self) -> str:
        return to_datetime(self._clock.now_ns()).date().isoformat()


def _read(descriptor: int) -> dict[str, Numbers]:
    try:
        document = json.loads(os.pread(descriptor, _BYTES_MAX, 0) or b"{}")
        verify_shape(document, dict, list, int)
        return {day: Numbers(*(max(0, number) for number in numbers)) for day, numbers in document.items()}
    except MALFORMED:
        return {}
