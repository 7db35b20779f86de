"""Whether a log continues a checkpoint that is known from outside the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.audit import consistency_proof, verify_consistency
from securecfg.errors import LogTampered, RollbackSuspected
from securecfg.vault.state.replica import StoredTree
from securecfg.words import counted

if TYPE_CHECKING:
    from securecfg.audit import Checkpoint
    from securecfg.store import Store
    from securecfg.vault.state.anchor import Mark

ON_THIS_MACHINE = "recorded on this machine"
INTRODUCED = "in what was known beforehand"

_HINTS = {
    ON_THIS_MACHINE: "if you did so yourself, run `securecfg vault adopt`",
    INTRODUCED: "if it was restored from a backup, ask an administrator for a new introduction or checkpoint",
}


def verify_prefix(store: Store, mark: Mark, checkpoint: Checkpoint, known: str) -> None:
    """Check that a checkpoint from outside is a prefix of the log in a store, by a proof from its tiles and leaves.

    Args:
        store: The vault's, or a partition of it.
        mark: What is known.
        checkpoint: The newest of the log.
        known: How it came to be known: `ON_THIS_MACHINE` or `INTRODUCED`.

    Raises:
        RollbackSuspected: The log is shorter, or took another way.
    """
    hint = f"someone may have put back an older copy; {_HINTS[known]}"
    if mark.size > checkpoint.size:
        message = f"the vault holds {counted(checkpoint.size, 'record')}, of the {mark.size} that were {known}"
        raise RollbackSuspected(message, hint=hint)
    try:
        proof = consistency_proof(StoredTree(store), mark.size, checkpoint.size)
        verify_consistency(mark.size, checkpoint.size, mark.root, checkpoint.root, proof)
    except LogTampered:
        message = f"the log does not continue the {counted(mark.size, 'record')} {known}"
        raise RollbackSuspected(message, hint=hint) from None
