"""Unlock material that was remembered for a while, so that nobody has to type a passphrase again and again.

What is kept is the vault's root key as one slot gave it, named by a hash of that very slot: a slot that was changed
since is not recognized, and its passphrase is asked for.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from securecfg.errors import SettingMissing, Unavailable, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.keys import KeyProvider, WrapContext

_ROOT_BYTES = 32
_TIME_BYTES = 8


class Memory(Protocol):
    """Where small secrets are kept by name for a while, in memory only."""

    @property
    def where(self) -> str:
        """What to call it."""
        ...

    def remember(self, name: str, secret: bytes, seconds: int) -> None:
        """Keep a secret."""
        ...

    def recall(self, name: str) -> bytes | None:
        """Return a secret, or None."""
        ...

    def forget(self) -> int:
        """Forget everything, and return how much it was."""
        ...

    def names(self) -> list[str]:
        """Return the names of what is kept."""
        ...


def memories() -> list[Memory]:
    """Return what this machine has, the best one first."""
    from securecfg.cli.agent import Agent
    from securecfg.cli.kernel_keyring import KernelKeyring

    found: list[Memory] = []
    kinds: tuple[Callable[[], Memory], ...] = (KernelKeyring, Agent)
    for kind in kinds:
        try:
            found.append(kind())
        except Unsupported:
            continue
    return found


class Recalling:
    """A key provider that first asks what was remembered.

    Args:
        inner: Opens the slot where nothing was remembered.
        places: Where to look.
    """

    def __init__(self, inner: KeyProvider, places: Sequence[Memory]) -> None:
        """Look nowhere yet."""
        self.scheme = inner.scheme
        self.kind = inner.kind
        self._inner = inner
        self._places = places

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Wrap as the inner provider does."""
        return self._inner.wrap(key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return what this very slot gave before, else what the inner provider says.

        Raises:
            SettingMissing: Nothing was remembered, and there is nobody to ask.
            As for the inner provider.
        """
        name = _name(wrapped, context)
        for place in self._places:
            kept = place.recall(name)
            if kept is not None and len(kept) == _TIME_BYTES + _ROOT_BYTES:
                return kept[_TIME_BYTES:]
        try:
            return self._inner.unwrap(wrapped, context)
        except SettingMissing as error:
            error.hint = f"{error.hint}, or `securecfg unlock` where somebody can be asked"
            raise


class Remembering:
    """A key provider that remembers what its slot gave.

    Args:
        inner: Opens the slot.
        places: Where to keep it; the first that accepts it does.
        end_s: When it ends, in seconds since 1970.
        seconds: How long that is from now.

    Attributes:
        where: Which one accepted it; empty before.
    """

    def __init__(self, inner: KeyProvider, places: Sequence[Memory], *, end_s: int, seconds: int) -> None:
        """Keep nothing yet."""
        self.scheme = inner.scheme
        self.kind = inner.kind
        self.where = ""
        self._inner = inner
        self._places = places
        self._end_s = end_s
        self._seconds = seconds

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Wrap as the inner provider does."""
        return self._inner.wrap(key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return what the inner provider says, and keep it.

        Raises:
            Unsupported: There is no place to keep it.
            As for the inner provider.
        """
        root = self._inner.unwrap(wrapped, context)
        for place in self._places:
            try:
                place.remember(_name(wrapped, context), self._end_s.to_bytes(_TIME_BYTES) + root, self._seconds)
            except Unavailable:
                continue
            self.where = place.where
            return root
        message = "this machine has no place where a key can be kept in memory"
        raise Unsupported(message, hint="a kernel keyring or XDG_RUNTIME_DIR is needed; or use a key file")


def remembered(places: Sequence[Memory]) -> list[tuple[str, int, str]]:
    """Return what is kept: the vault's id, when it ends in seconds since 1970, and where."""
    found = []
    for place in places:
        for name in place.names():
            kept = place.recall(name)
            if kept is not None:
                found.append((name.partition(":")[0], int.from_bytes(kept[:_TIME_BYTES]), place.where))
    return found


def _name(wrapped: bytes, context: WrapContext) -> str:
    slot = hashlib.sha256(context.vault_id + context.slot_id + wrapped).hexdigest()
    return f"{context.vault_id.hex()}:{slot}"
