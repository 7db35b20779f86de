"""Whom a member believes: the administrators that this machine has seen first, kept outside the vault.

What an identity opens without the root is vouched for by the signatures of administrators alone. Whoever may write the
file can add some of his own making, so what counts is whose were there before.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.crypto import Label
from securecfg.errors import (
    AlreadyExists,
    AnchorMissing,
    FileMissing,
    RollbackSuspected,
    StoreFailed,
    Tampered,
    ValueTooLarge,
)
from securecfg.files import create_private, read_bounded, write_atomically
from securecfg.keys.recovery import group_base32
from securecfg.keys.trust import Trust
from securecfg.octets import Cursor, Malformed
from securecfg.tuples import NamedTuple
from securecfg.vault.logger import logger
from securecfg.vault.state.anchor import lineage, state_directory
from securecfg.vault.trust.successions import former_administrators

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection

    Trusts = tuple[Trust, ...]
    Learn = Callable[[Trust, Collection[Trust]], Trusts]

_FILE_BYTES_MAX = 65_536
_FIRST_LINE = "securecfg-administrators-1"
_FINGERPRINT_BYTES = 15
_FINGERPRINT_CHARACTERS = 24


def fingerprint_of(vault_id: bytes, trust: Trust) -> str:
    """Return what people compare of a vault's administrators: six groups of four characters.

    It stands for the vault, the public keys in whatever order, the threshold, and how often there were others before.
    """
    told = vault_id + trust._replace(administrators=tuple(sorted(trust.administrators))).to_bytes()
    digest = hashlib.sha256(Label.ADMINISTRATORS.encode() + b"\x00" + told).digest()
    return group_base32(int.from_bytes(digest[:_FINGERPRINT_BYTES]), _FINGERPRINT_CHARACTERS)


def verify_known(path: str | os.PathLike[str], vault_id: bytes, trust: Trust) -> bool:
    """Check that administrators do not contradict those that are known for a place, and return whether any are.

    Of those who came later, or before the first that are known, nothing here can tell: scopes say by whose signatures.

    Raises:
        RollbackSuspected: Another vault is known there, or one with other administrators.
        StoreFailed: What was written down cannot be read.
    """
    place = _place_of(path)
    known = _read(place)
    if known is None:
        return False
    is_between = known[1][0].serial <= trust.serial <= known[1][-1].serial
    if known[0] != vault_id or (is_between and trust not in known[1]):
        raise _others(place)
    return True


def write_trust(path: str | os.PathLike[str], vault_id: bytes, trust: Trust) -> None:
    """Write down whom to believe in a place, where nothing else is known of it.

    Raises:
        RollbackSuspected: As for `verify_known`.
        StoreFailed: It cannot be written.
    """
    if not verify_known(path, vault_id, trust):
        _create(_place_of(path), vault_id, (trust,))
        verify_known(path, vault_id, trust)


def verify_led_to(path: str | os.PathLike[str], trusts: Trusts, introduced: Trust | None) -> None:
    """Check that those whom an introduction names are among the administrators of a vault, as its scopes lead to them.

    Raises:
        RollbackSuspected: They are not.
    """
    if introduced is not None and introduced.serial >= trusts[0].serial and introduced not in trusts:
        raise _others(_place_of(path))


class Believed(NamedTuple):
    """Whom a member believes.

    Attributes:
        trusts: The administrators that are known, the newest last.
        claims: Those of whom memberships speak that may be used.
    """

    trusts: Trusts
    claims: frozenset[Trust]


def choose_trusts(
    path: str | os.PathLike[str],
    vault_id: bytes,
    claimed: Collection[Trust],
    learn: Learn,
    *,
    is_required: bool,
    introduced: Trust | None = None,
) -> Believed:
    """Return whom to believe of those that a vault names its administrators.

    The first time that this is asked for a place the answer is written down.

    Args:
        path: Where the vault lies.
        vault_id: Its id, 16 bytes.
        claimed: What the memberships in it say, of which there is one.
        learn: Returns those who followed some administrators, by their signatures, as the scopes say that open with
            memberships of some others; none where nothing opens with these.
        is_required: Whether to refuse a place that nothing was written down of.
        introduced: Whom an introduction to this vault names; as good as written down.

    Raises:
        AnchorMissing: Nothing was written down, and it is required.
        RollbackSuspected: Another vault, or one with other administrators, took the place of the one that was here.
        Tampered: Nothing was written down, and the vault names several administrators of whom none succeeded the
            others.
        StoreFailed: What was written down cannot be read.
    """
    place = _place_of(path)
    known = _read(place)
    is_introduced = known is None and introduced is not None
    if introduced is not None:
        verify_known(path, vault_id, introduced)
        known = known or (vault_id, (introduced,))
    if known is None and is_required:
        message = "the administrators of this vault are not known on this machine, and they are required to be"
        raise AnchorMissing(message, hint="open it once without requiring that, where nobody can have changed it")
    if known is None:
        known = _write(place, vault_id, _first_seen(claimed, learn))
    trusts = known[1]
    claims = {trust for trust in claimed if known[0] == vault_id and trust in trusts}
    for trust in set(claimed) - claims if known[0] == vault_id else ():
        # What it opens is verified to be of those who are known, or of successors: they or those before let it in.
        with suppress(Tampered, RollbackSuspected):
            found = learn(trusts[-1], [trust])
            if found:
                claims.add(trust)
                trusts = max(trusts, (*trusts[:-1], *found), key=len)
    if not claims:
        raise _others(place)
    if is_introduced and introduced is not None:
        _write(place, *known)
        verify_known(path, vault_id, introduced)
    return Believed(trusts, frozenset(claims))


def note_trusts(path: str | os.PathLike[str], vault_id: bytes, trusts: Trusts) -> None:
    """Write down by whom the administrators that are known of a vault were succeeded."""
    place = _place_of(path)
    try:
        known = _read(place)
        if known is None or known[0] != vault_id or trusts[: len(known[1])] != known[1] or trusts == known[1]:
            return
        write_atomically(place, _content(vault_id, trusts))
    except StoreFailed as error:
        told = "new administrators cannot be written to `%s`: %s"
        logger().warning(told, place, error.message, extra={"event": "trust.failed"})


class Line:
    """Those whom a process believes in one place, from scope to scope, for as long as it runs.

    Args:
        path: Where the vault lies.
        vault_id: Its id, 16 bytes.
        trusts: Those who are known, the newest last; scopes are followed from there.
    """

    def __init__(self, path: str | os.PathLike[str], vault_id: bytes, trusts: Trusts) -> None:
        """Know them."""
        self._path = path
        self._vault_id = vault_id
        self._before, self._trusts = trusts[:-1], trusts[-1:]
        self._lock = threading.Lock()

    def follow(self, trusts: Trusts) -> None:
        """Take up who the administrators are by now, as a scope leads to them, and write them down.

        Raises:
            RollbackSuspected: Another scope leads to successors of theirs, or to others.
        """
        with self._lock:
            if trusts[: len(self._trusts)] != self._trusts:
                raise former_administrators()
            self._trusts = trusts
            note_trusts(self._path, self._vault_id, (*self._before, *trusts))


def _first_seen(claimed: Collection[Trust], learn: Learn) -> Trusts:
    if len(claimed) == 1:
        return tuple(claimed)
    trusts: Trusts = ()
    with suppress(Tampered, RollbackSuspected):
        trusts = learn(min(claimed, key=lambda trust: trust.serial), claimed)
    if not set(claimed) <= set(trusts):
        message = "the vault names more than one set of administrators, and none is known on this machine"
        raise Tampered(message, hint="somebody who may write the file has added one; ask for an untouched copy")
    return trusts


def _place_of(path: str | os.PathLike[str]) -> Path:
    return Path(state_directory(), "administrators", lineage(path))


def _others(place: Path) -> RollbackSuspected:
    message = "this is not the vault whose administrators are known on this machine, or from an introduction"
    hint = f"somebody may have put another one in its place; if you know better, remove `{place}`"
    return RollbackSuspected(message, hint=hint if place.exists() else "ask an administrator for a new introduction")


def _read(place: Path) -> tuple[bytes, Trusts] | None:
    try:
        text = read_bounded(place, _FILE_BYTES_MAX).decode("ascii")
    except FileMissing:
        return None
    except (StoreFailed, ValueTooLarge, UnicodeDecodeError):
        raise _unreadable(place) from None
    with suppress(ValueError):
        first, vault_id, *lines = text.splitlines()
        trusts = tuple(_parse_line(line) for line in lines)
        if first == _FIRST_LINE and trusts:
            return bytes.fromhex(vault_id), trusts
    raise _unreadable(place)


def _parse_line(line: str) -> Trust:
    serial, threshold, *keys = line.split(" ")
    trust = Trust(tuple(bytes.fromhex(key) for key in keys), int(threshold), int(serial))
    try:
        is_whole = Trust.read(Cursor(trust.to_bytes())) == trust
    except (Malformed, struct.error, ValueError):
        is_whole = False
    if not is_whole:
        raise ValueError
    return trust


def _content(vault_id: bytes, trusts: Trusts) -> bytes:
    lines = [
        " ".join([str(trust.serial), str(trust.threshold), *(key.hex() for key in trust.administrators)])
        for trust in trusts
    ]
    return "\n".join([_FIRST_LINE, vault_id.hex(), *lines, ""]).encode()


def _write(place: Path, vault_id: bytes, trusts: Trusts) -> tuple[bytes, Trusts]:
    try:
        _create(place, vault_id, trusts)
    except StoreFailed as error:
        logger().warning(
            "whom to believe cannot be written to `%s`: %s; other administrators may pass unnoticed",
            place,
            error.message,
            extra={"event": "trust.failed"},
        )
        return vault_id, trusts
    # Another process may have been here first, for the same vault or another one.
    return _read(place) or (vault_id, trusts)


def _create(place: Path, vault_id: bytes, trusts: Trusts) -> None:
    with suppress(AlreadyExists):
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot create `{place.parent}`: {error.strerror}"
            raise StoreFailed(message) from None
        create_private(place, _content(vault_id, trusts))


def _unreadable(place: Path) -> StoreFailed:
    message = f"whom to believe cannot be read from `{place}`"
    return StoreFailed(message, hint="if you know the administrators of the vault, remove the file")
