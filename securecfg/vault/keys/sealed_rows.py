"""Which epoch of the scope key the rows of a vault are sealed under."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from securecfg.crypto import DEK_FORM_WRAPPED
from securecfg.errors import EpochInUse
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.index.rows import epoch_of
from securecfg.vault.state.replica import MANIFEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.vault.opened import OpenVault

_ROWS_AT_ONCE = 512
_WRAPPED = bytes((DEK_FORM_WRAPPED,))
# The spaces whose rows name the epoch of the scope key that sealed them.
_SEALED = (Space.DEK, Space.HISTORY, Space.SEGMENT, Space.DELTA)
_NAMES = {Space.DEK: "data keys", Space.HISTORY: "history pages", Space.SEGMENT: "segments", Space.DELTA: "deltas"}


class SealedRows:
    """The rows that name the epoch of the scope key that sealed them. Nothing here opens one.

    Args:
        opened: The vault.
    """

    def __init__(self, opened: OpenVault) -> None:
        """Read nothing yet."""
        self._opened = opened

    def verify_unused(self, epoch: int) -> None:
        """Check that nothing is sealed under the key of an epoch, or an older one.

        Raises:
            EpochInUse: Something is; the message says what.
        """
        needed = [
            f"{count} {_NAMES[space]}"
            for space in _SEALED
            if (count := sum(epoch_of(row) <= epoch for row in self._under_scope_key(space)))
        ]
        if self._manifest_epoch() <= epoch:
            needed.append("the manifest")
        if needed:
            message = f"the scope key of epoch {epoch} or an older one still opens {', '.join(needed)}"
            raise EpochInUse(message, hint="`securecfg key rotate scope / --resume` brings them to the key in use")

    def is_used_before(self, epoch: int) -> bool:
        """Return whether something is sealed under an older key than that of an epoch."""
        return any(count and older < epoch for older, count in self.count().items())

    def count(self) -> Counter[int]:
        """Return the number of rows of each epoch."""
        counts = Counter(epoch_of(row) for space in _SEALED for row in self._under_scope_key(space))
        counts[self._manifest_epoch()] += 1
        return counts

    def count_sealed_values(self) -> Counter[int]:
        """Return the number of data keys that only the readers of a sealed scope open, of each epoch of value keys."""
        return Counter(epoch_of(row) for _, row in self.rows(Space.DEK) if row[:1] != _WRAPPED)

    def _manifest_epoch(self) -> int:
        return epoch_of(self._opened.store.get(Space.META, MANIFEST_ID) or b"")

    def _under_scope_key(self, space: Space) -> Iterator[bytes]:
        """Yield the rows of a space but for data keys that only the readers of a sealed scope open."""
        return (row for _, row in self.rows(space) if space is not Space.DEK or row[:1] == _WRAPPED)

    def rows(self, space: Space) -> Iterator[tuple[int, bytes]]:
        """Yield the rows of a space by their ids."""
        first = 0
        while rows := self._opened.store.scan(space, first, ID_LIMIT - 1, _ROWS_AT_ONCE):
            yield from rows
            first = rows[-1][0] + 1
            if first == ID_LIMIT:
                return
