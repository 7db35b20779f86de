"""What a machine remembers of the bundles that it has opened: from whom, and how new (bundles.md, section 3)."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import RollbackSuspected, SecurecfgError, StoreFailed
from securecfg.files import PRIVATE, read_bounded, write_atomically
from securecfg.vault.anchor import lineage, state_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = "bundles"
_LOCK = "lock"
_BYTES_MAX = 8_192


class Seen(NamedTuple):
    """The newest bundle of a role that was opened here.

    Attributes:
        epochs: How often the log's signing key had changed.
        serial: Its serial number.
        digest: The SHA-256 of its body, in hexadecimal digits.
    """

    epochs: int
    serial: int
    digest: str


class BundleState:
    """What is remembered for one file.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Find the folder; read nothing."""
        self._path = os.fspath(path)
        try:
            self._folder: Path | None = Path(state_directory(), _FOLDER)
        except StoreFailed:
            self._folder = None
        self._place = f"place-{_hash(os.fsencode(os.path.realpath(path)))}"

    def issuer(self) -> str:
        """Return the verifier key of the vault that the file must come from, or an empty text where none is recorded.

        Raises:
            StoreFailed: What is recorded cannot be read, or is damaged.
        """
        return str(self._read(self._place).get("issuer", ""))

    def is_place_of_vault(self) -> bool:
        """Return whether a vault was opened at this path here."""
        if self._folder is None:
            return False
        return any((self._folder.parent / "anchors").glob(f"*-{lineage(self._path)}"))

    def is_writable(self) -> bool:
        """Return whether something can be recorded here. It makes the folder."""
        if self._folder is None:
            return False
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                return os.access(self._folder, os.W_OK)
        return False

    def verify(self, vault_id: bytes, role: str, seen: Seen) -> None:
        """Check that a bundle is not older than the newest of the same vault and role.

        Raises:
            RollbackSuspected: It is, or it is another one of the same number.
            StoreFailed: What is recorded cannot be read, or is damaged.
        """
        name = _line(vault_id, role)
        raw = self._read(name)
        if not raw:
            return
        known = Seen(int(str(raw["epochs"])), int(str(raw["serial"])), str(raw["digest"]))
        is_other = seen.serial == known.serial and seen.digest != known.digest
        if seen.epochs < known.epochs or seen.serial < known.serial or is_other:
            message = f"the bundle has the serial number {seen.serial}, and {known.serial} was opened here before"
            hint = "take the newest one; if the vault itself was restored from a backup, remove"
            raise RollbackSuspected(message, hint=f"{hint} `{self._file(name)}`")

    def record(self, issuer: str, vault_id: bytes, role: str, seen: Seen) -> None:
        """Record a bundle that was opened, unless a newer one was recorded meanwhile.

        Args:
            issuer: Whom to record for the file, or empty to leave that as it is.
            vault_id: 16 bytes.
            role: The bundle's.
            seen: The bundle.

        Raises:
            RollbackSuspected: As for `verify`.
            StoreFailed: It cannot be written.
        """
        if self._folder is None:
            message = "the user has no home directory, where the state of bundles is kept"
            raise StoreFailed(message)
        try:
            with self._locked():
                self.verify(vault_id, role, seen)
                self._write(_line(vault_id, role), seen._asdict())
                if issuer:
                    self._write(self._place, {"issuer": issuer})
        except OSError as error:
            message = f"cannot write to `{self._folder}`: {error.strerror}"
            raise StoreFailed(message) from None

    def _read(self, name: str) -> dict[str, object]:
        path = self._file(name)
        if path is None or not path.exists():
            return {}
        try:
            data = json.loads(read_bounded(path, _BYTES_MAX))
            if isinstance(data, dict) and data.pop("v", None) == 1 and data.keys() in _FORMS:
                return data
        except (ValueError, SecurecfgError):
            pass
        message = f"what this machine recorded in `{path}` cannot be read"
        raise StoreFailed(message, hint="find out why; without the file the next bundle is taken as the first one")

    def _write(self, name: str, data: dict[str, object]) -> None:
        path = self._file(name)
        encoded = json.dumps(data | {"v": 1}, sort_keys=True).encode() + b"\n"
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


_FORMS = ({"issuer"}, set(Seen._fields))


def _line(vault_id: bytes, role: str) -> str:
    return f"role-{_hash(vault_id + role.encode())}"


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]
