"""Transcripts of key ceremonies, signed by the log's key (docs/security/audit-log.md, section 9).

A transcript is a signed note and holds no secret. What it proves is said there.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit.checkpoint import Checkpoint
from securecfg.audit.epoch import HandOver, follow_hand_overs
from securecfg.audit.note import decode_base64, encode_base64, open_note, parse_note, parse_vkey, sign_note
from securecfg.audit.record import format_time
from securecfg.errors import LogTampered, SignatureInvalid, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.audit.note import VerifierKey

FORMAT = "securecfg-ceremony/1"
NAME_CHARACTERS_MAX = 64

_NUMBER = r"(?:0|[1-9][0-9]{0,18})"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z"
_BASE64 = r"[A-Za-z0-9+/]+={0,2}"
_ID = r"[0-9a-f]{32}"
_WAY = rf"(?:terminal|file|identity:{_ID})"
_HOLDER = rf"holder ({_NUMBER}) ([0-9a-f]{{8}}) ({_WAY}) ([^\n]+)\n"
_EPOCH = rf"epoch ({_NUMBER}) (\S+) ({_BASE64}) ({_BASE64})\n"
_TEXT = re.compile(
    rf"{FORMAT}\n(?P<origin>securecfg/{_ID})\nkind (?P<kind>created|added|recovered)\n"
    rf"begun (?P<begun>{_TIME})\nended (?P<ended>{_TIME})\nby (?P<auth>asserted|proved) (?P<principal>\S+)\n"
    rf"slot (?P<slot>{_NUMBER}) (?P<slot_id>{_ID})\n"
    rf"shares (?P<threshold>{_NUMBER}) of (?P<count>{_NUMBER}) (?P<set_id>[0-9a-f]{{16}})\n"
    rf"(?P<holders>(?:{_HOLDER})+)"
    rf"(?:new (?P<new>{_NUMBER}) (?P<new_id>{_ID}) (?P<new_kind>[a-z][a-z0-9+.-]*)\n)?"
    rf"checkpoint (?P<size>{_NUMBER}) (?P<root>{_BASE64}) (?P<state>{_BASE64})\n"
    rf"(?P<epochs>(?:{_EPOCH})*)"
)


class Kind(StrEnum):
    """What was done in a ceremony."""

    CREATED = "created"
    ADDED = "added"
    RECOVERED = "recovered"


class Holder(NamedTuple):
    """Who was given a share, or gave it.

    Attributes:
        number: Which share, from 1.
        check: The end of the share by which its holder finds it, 8 hexadecimal digits.
        way: `terminal`, `file`, or `identity:` and its fingerprint.
        name: What the holder is called.
    """

    number: int
    check: str
    way: str
    name: str


class SlotNamed(NamedTuple):
    """A slot of the vault.

    Attributes:
        number: Its number for people.
        slot_id: 32 hexadecimal digits.
        kind: The scheme of its key URIs.
    """

    number: int
    slot_id: str
    kind: str


class Transcript(NamedTuple):
    """What happened in a ceremony.

    Attributes:
        kind: What was done.
        begun: When it began, RFC 3339.
        ended: When it ended.
        auth: Whether the principal was `proved` or `asserted`.
        principal: On whose behalf.
        slot: The slot of the shares.
        threshold: How many shares open it.
        total: How many shares there are.
        set_id: What the shares call their set, 16 hexadecimal digits.
        holders: Who was given a share, or gave one, by its number.
        new: The slot that was added in a recovery, or None.
        checkpoint: The head of the log afterwards.
        hand_overs: All hand-overs of the log's signing key so far.
    """

    kind: Kind
    begun: str
    ended: str
    auth: str
    principal: str
    slot: SlotNamed
    threshold: int
    total: int
    set_id: str
    holders: tuple[Holder, ...]
    new: SlotNamed | None
    checkpoint: Checkpoint
    hand_overs: tuple[HandOver, ...]


def is_holder_name(name: str) -> bool:
    """Return whether a holder may be called so."""
    return 0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable() and name == name.strip()


def sign_transcript(transcript: Transcript, key: Ed25519PrivateKey) -> bytes:
    """Return the signed note of a transcript.

    Args:
        transcript: What happened.
        key: The log's current signing key.

    Raises:
        UsageError: A field breaks the layout.
    """
    text = _format(transcript)
    try:
        is_read_back = _parse(text) == transcript
    except SignatureInvalid:
        is_read_back = False
    if not is_read_back:
        message = "these are not the fields of a transcript"
        raise UsageError(message)
    return sign_note(text, transcript.checkpoint.origin, key)


def open_transcript(raw: bytes, vkey: VerifierKey) -> Transcript:
    """Verify a transcript.

    1. Its text is a transcript's, and of the log whose key is trusted.
    2. The hand-overs lead from the trusted key to the one that was in use.
    3. That key has signed the text.

    Args:
        raw: The file.
        vkey: A key of the log that is trusted.

    Raises:
        SignatureInvalid: It is no transcript, was altered, or is signed by another key.
        LogTampered: Its hand-overs do not hold.
    """
    transcript = _parse(parse_note(raw).text)  # 1
    if transcript.checkpoint.origin != vkey.name:
        message = "the transcript is of another log than the key"
        raise SignatureInvalid(message)
    keys = follow_hand_overs(vkey, transcript.hand_overs)  # 2
    open_note(raw, keys[-1:])  # 3
    return transcript


def format_moment(time_ns: int) -> str:
    """Return a moment as transcripts write it."""
    return format_time(time_ns)


def _format(made: Transcript) -> str:
    head = made.checkpoint
    lines = [
        FORMAT,
        head.origin,
        f"kind {made.kind}",
        f"begun {made.begun}",
        f"ended {made.ended}",
        f"by {made.auth} {made.principal}",
        f"slot {made.slot.number} {made.slot.slot_id}",
        f"shares {made.threshold} of {made.total} {made.set_id}",
        *(f"holder {one.number} {one.check} {one.way} {one.name}" for one in made.holders),
        *([f"new {made.new.number} {made.new.slot_id} {made.new.kind}"] if made.new else []),
        f"checkpoint {head.size} {encode_base64(head.root)} {encode_base64(head.state)}",
        *(
            f"epoch {one.epoch} {one.key} {encode_base64(one.old_signature)} {encode_base64(one.new_signature)}"
            for one in made.hand_overs
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _parse(text: str) -> Transcript:
    match = _TEXT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        made = _read(match)
        # Comparing what it should have been refuses every second spelling.
        if _format(made) != text or not _is_plausible(made):
            raise ValueError
    except (ValueError, UsageError, LogTampered):
        message = "what is signed is not the transcript of a ceremony"
        raise SignatureInvalid(message) from None
    return made


def _read(match: re.Match[str]) -> Transcript:
    new = SlotNamed(int(match["new"]), match["new_id"], match["new_kind"]) if match["new"] else None
    root, state = decode_base64(match["root"]), decode_base64(match["state"])
    return Transcript(
        kind=Kind(match["kind"]),
        begun=match["begun"],
        ended=match["ended"],
        auth=match["auth"],
        principal=match["principal"],
        slot=SlotNamed(int(match["slot"]), match["slot_id"], "shamir"),
        threshold=int(match["threshold"]),
        total=int(match["count"]),
        set_id=match["set_id"],
        holders=tuple(
            Holder(int(number), check, way, name) for number, check, way, name in re.findall(_HOLDER, match["holders"])
        ),
        new=new,
        checkpoint=Checkpoint(match["origin"], int(match["size"]), root, state),
        hand_overs=tuple(
            HandOver(int(epoch), parse_vkey(vkey), decode_base64(old), decode_base64(new_signature))
            for epoch, vkey, old, new_signature in re.findall(_EPOCH, match["epochs"])
        ),
    )


def _is_plausible(made: Transcript) -> bool:
    numbers = [one.number for one in made.holders]
    least = made.threshold if made.kind is Kind.RECOVERED else made.total
    return (
        2 <= made.threshold <= made.total <= 255  # noqa: PLR2004 - what there can be of shares
        and numbers == sorted({number for number in numbers if 0 < number <= made.total})
        and len(numbers) >= least
        and all(is_holder_name(one.name) for one in made.holders)
        and (made.new is not None) == (made.kind is Kind.RECOVERED)
    )
