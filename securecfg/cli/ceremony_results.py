"""What a key ceremony leaves behind: a result to print, and a transcript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import SecurecfgError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.audit.transcript import Holder, Transcript
    from securecfg.cli.ceremony_holders import Invited
    from securecfg.cli.invocation import Invocation
    from securecfg.keys import Share
    from securecfg.vault import Vault
    from securecfg.vault.keys.ceremonies import Ceremony


def taken_part(holders: Sequence[Invited], shares: Sequence[Share]) -> tuple[Holder, ...]:
    """Return who has which share, for the transcript."""
    from securecfg.audit.transcript import Holder

    return tuple(
        Holder(share.number, share.check, holder.way, holder.name)
        for holder, share in zip(holders, shares, strict=True)
    )


def write_transcript(invocation: Invocation, vault: Vault, made: Ceremony, file: str) -> None:
    """Sign the transcript of a ceremony and write it; where it cannot be written, print it.

    Raises:
        AlreadyExists, StoreFailed: The file cannot be written.
        LogTampered: A record does not open.
    """
    from securecfg.files import create_private
    from securecfg.vault.keys.ceremonies import transcribe

    raw = transcribe(vault.authority, made)
    try:
        create_private(file, raw)
    except SecurecfgError as error:
        # The keys are changed by now, and only this process knows who took part.
        invocation.note(raw.decode())
        error.hint = f"the change is made; the transcript is printed above, keep it; {error.hint}"
        raise


def result_of(invited: Sequence[Invited], shares: Sequence[Share], slot: int, file: str) -> dict[str, object]:
    """Return what was done, for programs."""
    return {
        "slot": slot,
        "threshold": shares[0].threshold,
        "shares": shares[0].total,
        "set_id": shares[0].set_id.hex(),
        "holders": [
            {"share": share.number, "check": share.check, "way": one.way, "name": one.name}
            for one, share in zip(invited, shares, strict=True)
        ],
        "transcript": file,
    }


def emit_rehearsal(invocation: Invocation, shares: Sequence[Share], line: str) -> None:
    """Print what would have been done."""
    threshold, count = shares[0].threshold, shares[0].total
    invocation.emit(
        {"threshold": threshold, "shares": count, "is_done": False},
        f"{line}   {threshold} of {count}   nothing was changed",
    )


def shown(found: Transcript) -> dict[str, object]:
    """Return what a transcript says, for programs."""
    return {
        "result": "sound",
        "kind": str(found.kind),
        "origin": found.checkpoint.origin,
        "begun": found.begun,
        "ended": found.ended,
        "principal": found.principal,
        "auth": found.auth,
        "slot": found.slot.number,
        "slot_id": found.slot.slot_id,
        "threshold": found.threshold,
        "shares": found.total,
        "set_id": found.set_id,
        "holders": [
            {"share": one.number, "check": one.check, "way": one.way, "name": one.name} for one in found.holders
        ],
        "new_slot": None if found.new is None else found.new.number,
        "record_count": found.checkpoint.size,
    }


def lines_of(found: Transcript) -> Iterator[str]:
    """Yield what a transcript says, for people."""
    from securecfg.cli.output import printable

    yield f"sound   {found.kind} by {printable(found.principal)} ({found.auth})   {found.ended[:19]}Z"
    yield f"log     {found.checkpoint.origin}, {counted(found.checkpoint.size, 'record')} then"
    yield f"slot    {found.slot.number}   {found.threshold} of {found.total}   set {found.set_id}"
    for one in found.holders:
        yield f"share   {one.number}   check {one.check}   {one.way}   {one.name}"
    if found.new is not None:
        yield f"new     slot {found.new.number}  {found.new.kind}"
