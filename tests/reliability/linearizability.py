"""Whether a history of reads and writes of one path could have happened one after the other.

Every write has a version of its own, and versions only grow. So it is enough to look at intervals, in O(n log n):
nobody may see less than what had certainly happened before, or more than what had certainly begun.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Operation(NamedTuple):
    """One call, with the moments when it began and ended.

    Attributes:
        kind: `write`; `read`; `maybe` for a write whose outcome is not known, with version 0.
        version: The version that it made or saw; 0 for a read that found nothing.
        value: What it wrote or saw.
    """

    kind: Literal["write", "read", "maybe"]
    begin: int
    end: int
    version: int
    value: str


class NotLinearizable(AssertionError):
    """No order of the operations explains what they saw."""


def verify_history(operations: Iterable[Operation]) -> None:
    """Check the history of one path.

    Raises:
        NotLinearizable: No order explains it.
    """
    operations = list(operations)
    values: dict[int, str] = {0: ""}
    for operation in operations:
        if operation.kind == "maybe":
            continue
        if values.setdefault(operation.version, operation.value) != operation.value:
            message = f"version {operation.version} was seen with two values"
            raise NotLinearizable(message)
    written = [operation.version for operation in operations if operation.kind == "write"]
    if len(set(written)) != len(written):
        message = "two writes made the same version"
        raise NotLinearizable(message)
    doubtful = {operation.value for operation in operations if operation.kind == "maybe"}
    for version in set(values) - set(written) - {0}:
        if values[version] not in doubtful:
            message = f"version {version} was seen and never written"
            raise NotLinearizable(message)
    _verify_order([operation for operation in operations if operation.kind != "maybe"])


def _verify_order(operations: list[Operation]) -> None:
    by_end = sorted(operations, key=lambda operation: operation.end)
    ends = [operation.end for operation in by_end]
    # The largest version that somebody had certainly seen or made by the end of each operation.
    seen = list(accumulate((operation.version for operation in by_end), max))
    writes = sorted((one for one in operations if one.kind == "write"), key=lambda operation: operation.version)
    versions = [operation.version for operation in writes]
    # No version may be seen before the write of it, or of a larger one, began.
    for operation in operations:
        before = bisect_left(ends, operation.begin)
        least = seen[before - 1] if before else 0
        if operation.version < least or (operation.kind == "write" and operation.version == least):
            message = f"{operation.kind} of version {operation.version} after version {least} was seen"
            raise NotLinearizable(message)
        place = bisect_right(versions, operation.version) - 1
        if place >= 0 and versions[place] == operation.version and writes[place].begin > operation.end:
            message = f"version {operation.version} was seen before it was written"
            raise NotLinearizable(message)
