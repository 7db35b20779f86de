"""Handles on secrets: one that follows rotation, and the resolver that configuration loading asks."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from securecfg.errors import SecurecfgError, VaultClosed, VaultForked
from securecfg.vault.logger import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.config import Reference
    from securecfg.secret import Secret
    from securecfg.vault.reading import At
    from securecfg.vault.values import SecretVersion
    from securecfg.vault.vault import Vault


class SecretRef:
    """A handle on the current version of a secret or of one of its fields.

    It holds no value: `reveal()` reads the vault, where repeats are cheap and rotations are seen at once.

    Attributes:
        path: Which secret.
        field: Which field, or empty.
        at: Its version or label; None where it follows the current one.

    Args:
        vault: Where it lies and on whose behalf it is read.
        path: Which secret.
        field: Which field, or empty.
        at: A version or label; None follows the current one.
    """

    def __init__(self, vault: Vault, path: str, field: str = "", at: At = None) -> None:
        """Read nothing yet."""
        self.path = path
        self.field = field
        self._vault = vault
        self.at = at
        self._watcher: threading.Thread | None = None
        self._callbacks: list[Callable[[SecretRef], None]] = []
        self._lock = threading.Lock()

    def on(self, at: At) -> SecretRef:
        """Return a handle on a version or label of the same secret, or with None one that follows it."""
        return SecretRef(self._vault, self.path, self.field, at)

    def read(self) -> SecretVersion:
        """Return the version that it is on now, with all fields.

        Raises:
            As for `Vault.read`.
        """
        return self._vault.read(self.path, at=self.at)

    def secret(self) -> Secret[str] | Secret[bytes]:
        """Return the secret as it is now, masked.

        Raises:
            As for `Vault.read`; VersionNotFound where there is no such field.
        """
        return self.read().field(self.field)

    def reveal(self) -> str | bytes:
        """Return the value as it is now.

        Raises:
            As for `secret`.
        """
        return self.secret().reveal()

    def on_change(self, call: Callable[[SecretRef], None]) -> Callable[[], None]:
        """Call something with this handle after each new current version or move, from a thread of its own.

        The thread ends with the vault, or when nothing is to be called any more. What the callback raises is logged and
        stops nothing. Where the vault cannot be looked at for a while, that is logged, and looked for again after
        pauses that grow to a minute; what changed meanwhile is told then. A change that the caller may not read any
        more is not told.

        Returns:
            A function that ends the calls.

        Raises:
            AccessDenied: The caller may not read the secret, and so may not know when it changes.
            NotAuthenticated: Nobody says who asks.
            IntegrityError, Unavailable: The secret cannot be found.
        """
        part = self._part
        part.authority.require("read", self.path)
        known = self._vault.standing(self.path)
        with self._lock:
            self._callbacks.append(call)
            if self._watcher is None:
                name = f"securecfg-watch-{self.path}"
                self._watcher = threading.Thread(target=self._watch, args=(known,), name=name, daemon=True)
                self._watcher.start()

        def stop() -> None:
            with self._lock:
                if call in self._callbacks:
                    self._callbacks.remove(call)

        return stop

    @property
    def _part(self) -> Vault:
        """Where the secret lies by now: it may be moved into a sealed scope and out of one."""
        return self._vault.part_of(self.path)[1]

    def _watch(self, known: object) -> None:
        store = self._part.opened.store
        pause_s = _FIRST_PAUSE_S
        with suppress(VaultClosed, VaultForked):
            while self._is_followed():
                try:
                    revision = store.revision()
                    known = self._tell(known)
                    store.wait(revision, _WAIT_S)
                    pause_s = _FIRST_PAUSE_S
                except (VaultClosed, VaultForked):
                    raise
                except SecurecfgError as error:
                    if pause_s == _FIRST_PAUSE_S:
                        said = "a secret that is followed cannot be looked at for now: %s"
                        logger().warning(said, error.message, extra={"event": "watch.interrupted"})
                    self._rest(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _is_followed(self) -> bool:
        with self._lock:
            if not self._callbacks:
                self._watcher = None
            return bool(self._callbacks)

    def _tell(self, known: object) -> object:
        """Call what is to be called where the secret is not as it is known; return what is known now."""
        current = self._vault.standing(self.path)
        if current != known and self._part.authority.session().decide("read", self.path).allowed:
            with self._lock:
                callbacks = list(self._callbacks)
            for call in callbacks:
                self._notify(call)
        return current

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._part.opened.check_open()
            time.sleep(min(left, _CLOSING_SEEN_S))

    def _notify(self, call: Callable[[SecretRef], None]) -> None:
        try:
            call(self)
        except Exception:  # noqa: BLE001 - a callback is foreign code at the outer end of a thread
            # Its traceback could show what it did with the value.
            logger().warning("a callback for a changed secret failed", extra={"event": "callback.failed"})

    def __repr__(self) -> str:
        """Show which secret, not what it is."""
        field = f"#{self.field}" if self.field else ""
        at = "" if self.at is None else f"@{self.at}"
        return f"<SecretRef {self.path}{field}{at}>"


class VaultResolver:
    """Resolves the references of a configuration on behalf of one vault handle, with one flush of the log a call."""

    def __init__(self, vault: Vault) -> None:
        """Resolve nothing yet."""
        self._vault = vault

    def resolve(self, references: Sequence[Reference], /) -> list[Secret[str] | Secret[bytes] | SecurecfgError]:
        """Return the secret, or the error, of each reference."""
        versions = self._vault.read_many([(reference.path, reference.at) for reference in references])
        results: list[Secret[str] | Secret[bytes] | SecurecfgError] = []
        for reference, version in zip(references, versions, strict=True):
            if isinstance(version, SecurecfgError):
                results.append(version)
                continue
            try:
                results.append(version.field(reference.field or ""))
            except SecurecfgError as error:
                results.append(error)
        return results


_WAIT_S = 1.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 60.0
_CLOSING_SEEN_S = 0.1


def parse_ref(reference: str) -> tuple[str, str]:
    """Return the path and the field of `path#field`."""
    path, _, field = reference.partition("#")
    return path, field
