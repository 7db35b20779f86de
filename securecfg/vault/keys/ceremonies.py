"""Transcripts of key ceremonies in an open vault: signed, and later compared with its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import consistency_proof
from securecfg.audit.transcript import SlotNamed, Transcript, format_moment, open_transcript, sign_transcript
from securecfg.audit.verify import verify_continues
from securecfg.errors import SignatureInvalid
from securecfg.vault.auditlog import AuditLog, hand_overs_of
from securecfg.vault.keys.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.audit.transcript import Holder, Kind
    from securecfg.keys import Share
    from securecfg.vault.authority import Authority


class Ceremony(NamedTuple):
    """What was done, as whoever led a ceremony knows it.

    Attributes:
        kind: What was done.
        begun_ns: When it began, nanoseconds since 1970.
        share: Any of the shares, for what they have in common.
        holders: Who was given a share, or gave one.
        slot: The number of the slot of the shares.
        new: The number of the slot that was added in a recovery, or None.
    """

    kind: Kind
    begun_ns: int
    share: Share
    holders: Sequence[Holder]
    slot: int
    new: int | None = None


def transcribe(authority: Authority, ceremony: Ceremony) -> bytes:
    """Return the transcript of a ceremony, signed by the log's key of now.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        UsageError: What is known of the ceremony breaks the layout of transcripts.
        LogTampered: A record does not open.
    """
    slots = {slot.number: SlotNamed(slot.number, slot.slot_id, slot.kind) for slot in Slots(authority).list()}
    seal = AuditLog(authority).seal()
    identity, share = authority.identity, ceremony.share
    transcript = Transcript(
        kind=ceremony.kind,
        begun=format_moment(ceremony.begun_ns),
        ended=format_moment(authority.opened.clock.now_ns()),
        auth="proved" if identity.is_proved else "asserted",
        principal=identity.principal,
        slot=slots[ceremony.slot],
        threshold=share.threshold,
        total=share.total,
        set_id=share.set_id.hex(),
        holders=tuple(sorted(ceremony.holders)),
        new=None if ceremony.new is None else slots[ceremony.new],
        checkpoint=seal.checkpoint,
        hand_overs=seal.hand_overs,
    )
    raw = sign_transcript(transcript, seal.signer)
    open_transcript(raw, seal.genesis)
    return raw


def verify_transcript(authority: Authority, raw: bytes) -> Transcript:
    """Verify a transcript of this vault, and that its log continues what the transcript knows of it.

    Raises:
        SignatureInvalid: It is no transcript, was altered, is of another vault, or is signed by a key that was not the
            log's at that time.
        LogTampered, LogTruncated: The log does not contain what it contained then.
    """
    log = AuditLog(authority).stored()
    transcript = open_transcript(raw, log.genesis)
    older, newer = transcript.checkpoint, log.checkpoint
    proof = consistency_proof(log.tree, older.size, newer.size) if 0 < older.size <= newer.size else ()
    verify_continues(older, newer, proof)
    # Whoever stole an old key leaves out those that came after it.
    if transcript.hand_overs != hand_overs_of(log, older.size):
        message = "the transcript is not signed by the key that the log had then"
        raise SignatureInvalid(
            message, hint="somebody used an old signing key; `securecfg audit verify` checks the log"
        )
    return transcript
