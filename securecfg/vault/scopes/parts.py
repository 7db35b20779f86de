"""The open scopes of a vault, or of a member of roles: each is opened when it is first used."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from securecfg.errors import IntegrityError, ScopeSealed
from securecfg.vault.paths import scope_among

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.vault.vault import Vault


class Parts:
    """The open scopes of one vault, by path. May be used by any thread.

    Args:
        names: Returns the paths of all scopes that are known, as keys.
        open_part: Opens one of them.
        together: What `names` returns, where all scopes were opened at once: one that has ended is taken out.
    """

    def __init__(
        self,
        names: Callable[[], Mapping[str, object]],
        open_part: Callable[[str], Vault],
        together: dict[str, Vault] | None = None,
    ) -> None:
        """Open nothing yet."""
        self.names = names
        self.together = together
        self._open_part = open_part
        self._open: dict[str, tuple[object, Vault]] = {}
        self._ended: list[Vault] = []
        self._lock = threading.Lock()

    def of(self, path: str) -> str | None:
        """Return the scope that a path lies in, None where it lies in none that is known."""
        return scope_among(self.names(), path)

    def get(self, scope: str) -> Vault:
        """Return an open scope.

        Raises:
            ScopeSealed: The key at hand does not open it.
        """
        known, place = self._open.get(scope), self.names().get(scope)
        if place is None:
            raise not_opened(scope)
        if known is None or known[0] != place:
            with self._lock:
                known = self._open.get(scope)
                if known is not None and known[0] != place:
                    # A scope was merged, and another one made at the same path.
                    self._ended.append(self._open.pop(scope)[1])
                    known = None
                if known is None:
                    known = self._open[scope] = place, self._open_part(scope)
        return known[1]

    def first(self) -> Vault:
        """Return the first open scope.

        Raises:
            ScopeSealed: All have ended.
        """
        return self.get(next(iter(list(self.names())), "/"))

    def drop(self, part: Vault) -> None:
        """Forget a scope that has ended, where nothing else says that it has; it may be lent."""
        if self.together is None or part.opened.has_head():
            return
        number = part.opened.store.part
        for scope in [scope for scope, known in list(self.together.items()) if known.opened.store.part == number]:
            self.together.pop(scope, None)  # another thread may have met the end of it too

    def close(self) -> None:
        """Close what is open.

        Raises:
            SecurecfgError: Something could not be closed properly; all is closed.
        """
        with self._lock, ExitStack() as stack:
            for part in (*self._ended, *(part for _, part in self._open.values())):
                stack.callback(close_part, part)


def close_part(part: Vault) -> None:
    """Close a scope; of one that was merged meanwhile nothing can be recorded any more.

    Raises:
        SecurecfgError: It could not be closed properly.
    """
    try:
        part.close()
    except IntegrityError:
        if part.opened.has_head():
            raise


def not_opened(path: str) -> ScopeSealed:
    """Return the error for what lies in no scope that the key at hand opens."""
    message = f"`{path}` lies in no scope that this key opens"
    return ScopeSealed(message, hint="an administrator may grant it: `securecfg scope grant PATH --read ROLE`")
