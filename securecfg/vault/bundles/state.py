"""What a machine remembers of the bundles that it has opened: from whom, and how new (bundles.md, section 3)."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import parse_vkey
from securecfg.audit.epoch import follow_hand_overs
from securecfg.errors import LogTampered, RollbackSuspected, SecurecfgError, SignatureInvalid, StoreFailed, UsageError
from securecfg.files import PRIVATE, read_bounded, write_atomically
from securecfg.vault.state.anchor import lineage_of_name, state_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.audit import VerifierKey
    from securecfg.audit.epoch import HandOver

_FOLDER = "bundles"
_LOCK = "lock"
_BYTES_MAX = 8_192
_TWO_VAULTS = "its name and what it points at were those of bundles of two vaults"
_ANOTHER_BEFORE = "a bundle of another one was opened at its place"


class Seen(NamedTuple):
    """A bundle, as far as later ones are compared with it.

    Attributes:
        issuer: The verifier key of the first epoch of the vault's log.
        key: That of the epoch that signed it.
        role: Whose it is.
        serial: Its serial number.
        digest: The SHA-256 of its body, in hexadecimal digits.
    """

    issuer: str
    key: str
    role: str
    serial: int
    digest: str


class Trust(NamedTuple):
    """Why a bundle is believed.

    Attributes:
        key: The verifier key that vouches for it.
        hand_overs: Those of the bundle, which lead from that key to the one that signed.
        is_named: Whether who opens it named the key, which then counts more than what is recorded for the file.
        is_verified: Whether anything but the bundle itself says so, or may be recorded of it.
    """

    key: VerifierKey
    hand_overs: Sequence[HandOver]
    is_named: bool
    is_verified: bool


class BundleState:
    """What is remembered for one file.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Find the folder; read nothing."""
        try:
            self._folder: Path | None = Path(state_directory(), _FOLDER)
        except StoreFailed:
            self._folder = None
        self._names = _names_of(os.fspath(path))
        self._places = [f"place-{_hash(os.fsencode(name))}" for name in self._names]

    def issuer(self) -> str:
        """Return the verifier key of the vault that the file must come from, or an empty text where none is recorded.

        Raises:
            SignatureInvalid: Different ones are recorded for the names that the file has.
            StoreFailed: What is recorded cannot be read, or is damaged.
        """
        found = {seen.issuer for place in self._places if (seen := self._read(place))}
        if len(found) > 1:
            raise _other_vault(_TWO_VAULTS)
        return found.pop() if found else ""

    def is_place_of_vault(self) -> bool:
        """Return whether a vault was opened at this path here."""
        if self._folder is None:
            return False
        anchors = self._folder.parent / "anchors"
        return any(any(anchors.glob(f"*-{lineage_of_name(name)}")) for name in self._names)

    def is_writable(self) -> bool:
        """Return whether something can be recorded here. It makes the folder."""
        if self._folder is None:
            return False
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                return os.access(self._folder, os.W_OK)
        return False

    def verify(self, seen: Seen, trust: Trust) -> None:
        """Check that a bundle does not fall behind what was opened: in its place, and of its vault and role.

        Raises:
            RollbackSuspected: It is older, of the same number and another one, of another role than those at its
                place, or signed by a key that the log had given up.
            SignatureInvalid: Another vault's was opened at its place, and nobody named this one.
            StoreFailed: What is recorded cannot be read, or is damaged.
        """
        for name in self._places if trust.is_verified else ():
            known = self._read(name)
            if known is None or (known.issuer != seen.issuer and trust.is_named):
                continue
            if known.issuer != seen.issuer:
                raise _other_vault(_ANOTHER_BEFORE)
            self._verify_newer(name, known, seen, trust)
        for name in _lines(seen, trust):
            known = self._read(name)
            if known is not None:
                self._verify_newer(name, known, seen, trust)

    def record(self, seen: Seen, trust: Trust) -> None:
        """Record a bundle that was opened, unless that contradicts what was recorded meanwhile.

        Raises:
            RollbackSuspected, SignatureInvalid: As for `verify`.
            StoreFailed: It cannot be written.
        """
        if self._folder is None:
            message = "the user has no home directory, where the state of bundles is kept"
            raise StoreFailed(message)
        try:
            with self._locked():
                self.verify(seen, trust)
                for name in (*self._places, *_lines(seen, trust)):
                    self._write(name, seen)
        except OSError as error:
            message = f"cannot write to `{self._folder}`: {error.strerror}"
            raise StoreFailed(message) from None

    def _verify_newer(self, name: str, known: Seen, seen: Seen, trust: Trust) -> None:
        if seen.role != known.role:
            said = f"the bundle is of the role `{seen.role}`, and one of `{known.role}` was opened at its place"
        elif seen.serial < known.serial:
            said = f"the bundle has the serial number {seen.serial}, and {known.serial} was opened here before"
        elif seen.serial == known.serial and seen.digest != known.digest:
            said = f"another bundle with the serial number {seen.serial} was opened here before"
        elif not _follows(known.key, seen.key, trust.hand_overs):
            said = "the bundle is signed by a key that does not follow the log's newest one that was seen here"
        else:
            return
        hint = "take the newest one; if the vault itself was restored from a backup, or another bundle belongs here, "
        raise RollbackSuspected(said, hint=f"{hint}remove `{self._file(name)}`")

    def _read(self, name: str) -> Seen | None:
        path = self._file(name)
        if path is None or not path.exists():
            return None
        try:
            data = json.loads(read_bounded(path, _BYTES_MAX))
            if isinstance(data, dict) and data.pop("v", None) == 1 and data.keys() == set(Seen._fields):
                serial = data.pop("serial")
                if type(serial) is int and all(isinstance(text, str) for text in data.values()):
                    seen = Seen(serial=serial, **data)
                    parse_vkey(seen.issuer)
                    parse_vkey(seen.key)
                    return seen
        except (ValueError, RecursionError, SecurecfgError):
            pass
        message = f"what this machine recorded in `{path}` cannot be read"
        raise StoreFailed(message, hint="find out why; without the file the next bundle is taken as the first one")

    def _write(self, name: str, seen: Seen) -> None:
        path = self._file(name)
        encoded = json.dumps(seen._asdict() | {"v": 1}, sort_keys=True).encode() + b"\n"
        if path is not None and not (path.exists() and read_bounded(path, _BYTES_MAX) == encoded):
            write_atomically(path, encoded)

    def _file(self, name: str) -> Path | None:
        return self._folder / name if self._folder is not None else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl

        path = self._file(_LOCK)
        descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _names_of(path: str) -> list[str]:
    """Return under which names a file is known: as it is given, in its real folder, and what it points at.

    Who can replace it by a symbolic link would otherwise choose the name that counts.
    """
    given = Path(os.path.abspath(path))  # noqa: PTH100 - links are what it must not follow
    return [str(name) for name in dict.fromkeys((given, given.parent.resolve() / given.name, given.resolve()))]


def _lines(seen: Seen, trust: Trust) -> list[str]:
    """Return where the newest of a vault and role is recorded: under its first key, and under the one it is trusted by.

    A vault's name is no secret, so it would let anybody who is trusted once hold up the bundles of others.
    """
    keys = dict.fromkeys((seen.issuer, str(trust.key)))
    return [f"role-{_hash(str((key, seen.role)).encode())}" for key in keys]


def _follows(known: str, key: str, hand_overs: Sequence[HandOver]) -> bool:
    """Return whether hand-overs lead from a key to another one, or the two are the same."""
    try:
        return str(follow_hand_overs(parse_vkey(known), hand_overs)[-1]) == key
    except (LogTampered, UsageError):
        return False


def _other_vault(why: str) -> SignatureInvalid:
    message = f"the bundle is from another vault than it must be from: {why}"
    return SignatureInvalid(message, hint="if it is right so, name its vault: `--issuer`")


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]
