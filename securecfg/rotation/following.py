"""Programs that follow secrets wherever these lie: in the vault itself, and in the sealed scopes that are open."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from securecfg.errors import ScopeSealed, SecurecfgError
from securecfg.rotation.consumers import Consumers, parse_followed
from securecfg.rotation.parts import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation.consumers import Callback
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.vault import Vault


def open_consumers(vault: Vault) -> Consumers | Following:
    """Return the callbacks of a vault handle, of which there are none yet."""
    return Consumers(vault) if vault.is_by_root and not vault.opened.has_scopes else Following(vault)


class Following:
    """The callbacks of a handle that opens several parts of a vault. Any thread may use it.

    Args:
        vault: The handle.
    """

    def __init__(self, vault: Vault) -> None:
        """Follow nothing yet."""
        self._vault = vault
        self._lock = threading.Lock()
        self._consumers: dict[Vault, Consumers] = {}
        self._followed: list[_Followed] = []
        self._scopes: object = None

    def follow(self, pattern: str, callback: Callback) -> Callable[[], None]:
        """Call something after each new current version of the secrets that match; see `Vault.on_rotate`."""
        followed = _Followed(pattern, callback)
        with self._lock:
            self._scopes = self._known_scopes()
            self._attach(followed)
            if not followed.stops:
                message = f"`{pattern}` matches nothing of which this key opens the values"
                raise ScopeSealed(
                    message, hint="an administrator may grant it: `securecfg scope grant PATH --read ROLE`"
                )
            self._followed.append(followed)

        def stop() -> None:
            with self._lock:
                if followed in self._followed:
                    self._followed.remove(followed)
                followed.stop()

        return stop

    def _attach(self, followed: _Followed, since_ns: int | None = None) -> None:
        """Follow in the parts that are open and that are not followed yet, from a time or from now on.

        Raises:
            As for `Vault.on_rotate`; then nothing is followed that was not before.
        """
        failures: dict[str, SecurecfgError] = {}  # what is damaged is told by whoever reads it
        parts = list(parts_of(self._vault, failures))
        with ExitStack() as undo:
            for scope, part in parts:
                if part in followed.stops or not _concerns(followed.beginning, scope, [each for each, _ in parts]):
                    continue
                if not _is_read(part.opened):
                    continue
                stop = self._consumers_of(scope, part).follow(followed.pattern, followed.callback, since_ns)
                followed.stops[part] = stop
                undo.callback(followed.end, part)
            undo.pop_all()

    def _consumers_of(self, scope: str, part: Vault) -> Consumers:
        consumers = self._consumers.get(part)
        if consumers is None:
            # Only the vault itself knows of scopes that are made; what one that is merged leaves behind lies around it.
            look = self._look_for_scopes if self._vault.is_by_root else lambda _=None: None
            consumers = Consumers(
                self._vault, part, lambda: None if scope else look(), lambda: look(self._consumers[part].looked_ns)
            )
            self._consumers[part] = consumers
        return consumers

    def _look_for_scopes(self, since_ns: int | None = None) -> None:
        with self._lock:
            scopes = self._known_scopes()
            if scopes != self._scopes or since_ns is not None:
                for followed in self._followed:
                    self._attach(followed, since_ns)
                self._scopes = scopes

    def _known_scopes(self) -> object:
        if not self._vault.is_by_root:
            return None
        self._vault.opened.refresh()
        registry = self._vault.opened.scopes()
        return None if registry is None else registry.scopes


class _Followed:
    """A pattern and its callback, with what ends the calls in each part."""

    def __init__(self, pattern: str, callback: Callback) -> None:
        self.pattern, self.callback = pattern, callback
        self.beginning = parse_followed(pattern).beginning
        self.stops: dict[Vault, Callable[[], None]] = {}

    def end(self, part: Vault) -> None:
        self.stops.pop(part)()

    def stop(self) -> None:
        for part in list(self.stops):
            self.end(part)


def _concerns(beginning: str, scope: str, scopes: list[str]) -> bool:
    """Return whether what begins so may lie in a part, and not only in another one inside of it."""
    if not (scope.startswith(beginning) or beginning.startswith(scope)):
        return False
    return not any(len(other) > len(scope) and beginning.startswith(other) for other in scopes)


def _is_read(opened: OpenVault) -> bool:
    """Return whether the key at hand opens the values of a part."""
    grants = opened.replica.data_keys.grants
    return opened.replica.seat is None or grants is None or grants.is_granted(grants.active)
