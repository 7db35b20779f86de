"""Bringing the data keys of a sealed scope to the value key in use, as far as the key at hand reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto import DEK_FORM_GRANTED, DEK_FORM_WRAPPED, ROOT_SCOPE, DekWrap, parse_dek
from securecfg.errors import Tampered
from securecfg.keys import Purpose
from securecfg.store import STAGE_LIMIT_OPERATIONS, Replace, Space
from securecfg.vault.drops.rows import epoch_of_drop, waiting_rows
from securecfg.vault.keys.sealed_rows import SealedRows
from securecfg.vault.scopes.opening import grants_of

if TYPE_CHECKING:
    from securecfg.vault.opened import OpenVault


def count_waiting(opened: OpenVault) -> int:
    """Return how many data keys of a sealed scope are under older value keys, and wait for a reader."""
    opened.refresh()
    active = opened.replica.keyring.active(Purpose.VALUE).epoch
    counts = SealedRows(opened).count_sealed_values()
    return sum(count for epoch, count in counts.items() if epoch != active)


def epochs_of_drops(opened: OpenVault) -> list[int]:
    """Return the epochs that dropped values which wait say they are under; without its key one would be lost."""
    known = {entry.epoch for entry in opened.replica.keyring.keys if entry.purpose == Purpose.VALUE}
    epochs = (epoch_of_drop(row) for _, row in waiting_rows(opened.store))
    return [epoch for epoch in epochs if epoch in known]


def rewrap_values(opened: OpenVault) -> int:
    """Wrap every data key that is under an older value key under the one in use; return how many that were.

    It changes no data: a data key is named by its row's id, whatever wraps it. So who reads and does not write may do
    it, at the same time as others, and be interrupted anywhere. What the key at hand does not open stays as it is.

    Raises:
        StoreBusy, StoreFailed: The store cannot write.
    """
    replica = opened.replica
    grants, data_keys, vault_id = grants_of(opened), replica.data_keys, replica.vault_id
    active = grants.active
    known = [entry.epoch for entry in replica.keyring.keys if entry.purpose == Purpose.VALUE]
    if known == [active] or not grants.is_granted(active):
        return 0
    readable = {epoch for epoch in known if epoch != active and grants.is_granted(epoch)}
    wrap = DekWrap(grants.wrap(active), vault_id, ROOT_SCOPE, active, DEK_FORM_GRANTED)

    def rewrapped(dek_id: int, row: bytes) -> Replace | None:
        try:
            form, epoch = parse_dek(row)
            if form == DEK_FORM_WRAPPED or epoch not in readable:
                return None
            dek = data_keys.open(dek_id, row)
        except Tampered:
            return None  # who reads the secret is told, and who verifies the scope
        return Replace(Space.DEK, dek_id, row, wrap.seal(dek, dek_id))

    count = first = 0
    end = replica.state.next_id
    while readable and (rows := opened.store.scan(Space.DEK, first, end, STAGE_LIMIT_OPERATIONS)):
        replacing = [replace for dek_id, row in rows if (replace := rewrapped(dek_id, row)) is not None]
        if replacing:
            opened.store.stage(replacing)
            count += len(replacing)
        first = rows[-1][0] + 1
    return count
