"""One error for each step of opening and reading a vault; its code is the one that format.md gives to the step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from cryptography.exceptions import InvalidSignature, InvalidTag

if TYPE_CHECKING:
    from collections.abc import Iterator


class Malformed(ValueError):
    """Bytes that do not have the form of the page; becomes the refusal of the step in which they were read."""


class Refused(Exception):
    """A step that failed."""

    code: ClassVar[str] = "tampered"
    step: ClassVar[str] = ""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.step}: {reason}" if self.step else reason)


class SnapshotRefused(Refused):
    code = "not-a-vault"
    step = "format 8.1, head, header, slots and keyring"


class FormatRefused(Refused):
    code = "unsupported-format"
    step = "format 8.1, format and suite"


class SlotRefused(Refused):
    code = "wrong-key"
    step = "format 8.2, slot"


class HeaderRefused(Refused):
    step = "format 8.3, MAC of the header"


class KeyringRefused(Refused):
    step = "format 8.3, keyring"


class HeadRefused(Refused):
    step = "format 8.4, head"


class ManifestRefused(Refused):
    step = "format 8.5, manifest"


class LeavesRefused(Refused):
    step = "format 8.6, leaves"


class DeltasRefused(Refused):
    step = "format 8.6, deltas"


class AnchorRefused(Refused):
    code = "rollback-suspected"
    step = "format 8.7, anchor"


class SegmentRefused(Refused):
    step = "format 6.1, segment"


class HistoryRefused(Refused):
    step = "format 6.3, history"


class DataKeyRefused(Refused):
    step = "format 5.1, data key"


class ValueRefused(Refused):
    step = "format 5.2, value"


class SpacesRefused(Refused):
    step = "format 2, rows and spaces"


class SealerRefused(Refused):
    step = "audit-log 3, sealer"


class RecordRefused(Refused):
    step = "audit-log 2 and 4, record"


class PartRefused(Refused):
    step = "format 6.5, part of a record"


class TileRefused(Refused):
    step = "audit-log 5, tile"


class EpochRefused(Refused):
    step = "audit-log 7, epochs"


class BackupRefused(Refused):
    code = "backup-altered"
    step = "format 13, backup"


class ChainRefused(Refused):
    code = "backup-chain-broken"
    step = "format 13.4, chain"


@contextmanager
def refusing(refusal: type[Refused], what: str = "") -> Iterator[None]:
    """Turn what is wrong with the bytes of a step into the step's refusal."""
    try:
        yield
    except Malformed as error:
        raise refusal(f"{what}: {error}" if what else str(error)) from error
    except (InvalidTag, InvalidSignature) as error:
        reason = "does not open" if isinstance(error, InvalidTag) else "wrong signature"
        raise refusal(f"{what}: {reason}" if what else reason) from error
    except UnicodeDecodeError as error:
        raise refusal(f"{what}: not UTF-8" if what else "not UTF-8") from error


def demand(holds: bool, reason: str) -> None:
    """Raise `Malformed` unless a sentence of the page holds."""
    if not holds:
        raise Malformed(reason)
