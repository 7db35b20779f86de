"""What can be told about a vault: without its key, and with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from securecfg.cli.output import shown_size, shown_time, timestamp
from securecfg.clock import to_datetime
from securecfg.crypto import SUITE
from securecfg.errors import WrongKey
from securecfg.keys.header import FORMAT, Header
from securecfg.keys.parts import Part, parts_of
from securecfg.keys.roots import FIRST_ROOT_ROW
from securecfg.keys.slots import FIRST_SLOT_ROW, KIND_PASSPHRASE, KIND_PASSPHRASE_AND_FILE, Slot, name_of_kind
from securecfg.words import counted

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from securecfg.vault import Vault

CLOCK_HINT = "set this clock if it is wrong; if another one was ahead, an administrator runs `securecfg vault adopt`"
_SUITES = {1: "AES-256-GCM, AES-256-SIV, XAES-256-GCM, Ed25519"}


@dataclass(frozen=True, slots=True)
class Front:
    """What a vault shows without its key. None of it is authentic.

    Attributes:
        path: The file.
        header: Its header.
        kinds: How many unlock slots there are of each kind.
        cheap: The numbers of slots whose passphrase costs less to guess than that of a new slot.
        fragile: The numbers of slots that one lost key closes, since they take all of several.
        size_bytes: The size of the file.
    """

    path: Path
    header: Header
    kinds: dict[str, int]
    cheap: tuple[int, ...]
    fragile: tuple[int, ...]
    size_bytes: int

    @classmethod
    def read(cls, path: Path) -> Front:
        """Read it.

        Raises:
            VaultNotFound: There is no such file.
            NotAVault: It is not a vault.
            UnsupportedFormat: It needs a newer version.
        """
        from securecfg.store import open_sqlite
        from securecfg.vault.state.replica import read_header

        store = open_sqlite(path, read_only=True)
        try:
            header, rows = read_header(store)
        finally:
            store.close()
        slots = {row_id: Slot.parse(row) for row_id, row in sorted(rows.items()) if row_id < FIRST_ROOT_ROW}
        kinds = Counter(name_of_kind(slot.kind) for slot in slots.values())
        numbered = [(row_id - FIRST_SLOT_ROW + 1, slot) for row_id, slot in slots.items()]
        cheap = tuple(number for number, slot in numbered if _is_cheap(slot))
        fragile = tuple(number for number, slot in numbered if _is_fragile(slot))
        return cls(path, header, dict(sorted(kinds.items())), cheap, fragile, path.stat().st_size)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "vault": str(self.path),
            "id": self.header.vault_id.hex(),
            "size_bytes": self.size_bytes,
            "format": FORMAT,
            "suite": SUITE,
            "created": timestamp(to_datetime(self.header.created_ns)),
            "slots_by_kind": self.kinds,
        }

    def to_lines(self) -> list[str]:
        """Return it as people read it."""
        return [
            f"vault        {self.path}",
            f"id           {self.header.vault_id.hex()}",
            f"size         {shown_size(self.size_bytes)}",
            f"format       {FORMAT}, suite {SUITE} ({_SUITES[SUITE]})",
            f"created      {shown_time(to_datetime(self.header.created_ns))}",
            f"opened by    {', '.join(f'{count} {kind}' for kind, count in self.kinds.items())}",
        ]


@dataclass(frozen=True, slots=True)
class Inside:
    """What an open vault shows an operator; no names.

    Attributes:
        principal: On whose behalf it was opened.
        secrets: How many live secrets there are.
        deleted: How many have no live version.
        records: The size of the log.
        epoch: The epoch of the key that signs the log, from 0.
        published: When something was last written.
        anchor_records: The size of the log as this machine recorded it, or None.
        pending: What waits to be finished.
        uncompacted: Records since the index was last compacted.
        segments: How many segments the index has.
        is_clock_behind: Whether that lies more than five minutes in the future of this machine's clock.
        mounts: How many stores of others are mounted; what they hold is not counted.
    """

    principal: str
    secrets: int
    deleted: int
    records: int
    epoch: int
    published: datetime
    anchor_records: int | None
    pending: tuple[str, ...]
    uncompacted: int
    segments: int
    is_clock_behind: bool
    mounts: int

    @classmethod
    def look(cls, vault: Vault, path: Path) -> Inside:
        """Look at an open vault.

        Raises:
            Tampered: The index is damaged.
        """
        from securecfg.vault.state.anchor import AnchorFile

        opened = vault.opened
        opened.refresh()
        replica = opened.replica
        state = replica.state
        live = [entry.live for _, entry in replica.index.scan(b"\x02", None)]
        try:
            anchor = AnchorFile(replica.vault_id, path).read()
        except OSError:
            anchor = None
        pending = [counted(len(state.stagings), "unfinished write")] if state.stagings else []
        if opened.is_destruction_pending:
            pending.append("bytes of something destroyed")
        return cls(
            principal=vault.principal,
            secrets=sum(live),
            deleted=len(live) - sum(live),
            records=replica.checkpoint.size,
            epoch=state.epoch,
            published=to_datetime(state.published),
            anchor_records=anchor.mark.size if anchor is not None else None,
            pending=tuple(pending),
            uncompacted=replica.checkpoint.size - state.base_size,
            segments=len(replica.index.manifest.lines),
            is_clock_behind=not opened.is_clock_trusted(),
            mounts=len(opened.mounts()) if vault.is_by_root else 0,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "state": "open",
            "principal": self.principal or None,
            "secret_count": self.secrets,
            "deleted_count": self.deleted,
            "record_count": self.records,
            "epoch": self.epoch,
            "last_publication": timestamp(self.published),
            "anchor_record_count": self.anchor_records,
            "pending": list(self.pending),
            "uncompacted_records": self.uncompacted,
            "segment_count": self.segments,
            "clock_behind": self.is_clock_behind,
            "mount_count": self.mounts,
        }

    def to_lines(self) -> list[str]:
        """Return it as people read it."""
        anchor = "none on this machine" if self.anchor_records is None else counted(self.anchor_records, "record")
        clock = f"  (in the future of this machine's clock: {CLOCK_HINT})" if self.is_clock_behind else ""
        return [
            f"state        open, as {self.principal or 'nobody'}",
            f"secrets      {self.secrets}, and {self.deleted} deleted",
            *([f"mounts       {self.mounts}: `securecfg vault mounts`"] if self.mounts else []),
            f"log          {counted(self.records, 'record')}, signing key of epoch {self.epoch}",
            f"last write   {shown_time(self.published)}{clock}",
            f"anchor       {anchor}",
            f"pending      {', '.join(self.pending) or 'nothing'}",
            f"index        {counted(self.segments, 'segment')}, {counted(self.uncompacted, 'record')} on top",
        ]


def _is_cheap(slot: Slot) -> bool:
    try:
        parts = parts_of(slot)
        return any(map(_costs_little, parts.each if parts is not None else (Part(slot.kind, slot.wrapped),)))
    except WrongKey:
        return False


def _costs_little(part: Part) -> bool:
    if part.kind not in {KIND_PASSPHRASE, KIND_PASSPHRASE_AND_FILE}:
        return False
    from securecfg.crypto import DEFAULT_COSTS
    from securecfg.keys.stretching import costs_of

    return costs_of(part.wrapped).is_below(DEFAULT_COSTS)


def _is_fragile(slot: Slot) -> bool:
    try:
        parts = parts_of(slot)
    except WrongKey:
        return False
    return parts is not None and parts.needed == len(parts.each)
