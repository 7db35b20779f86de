"""What a key can do, tried out: whether it opens the vault, and a round trip with how long it takes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from securecfg.cli.tables import lay_out
from securecfg.crypto import generate_key
from securecfg.errors import KeyProviderRefused, SecurecfgError, Tampered
from securecfg.keys import RemoteKeyProvider, WrapContext, call_unwrap, call_wrap
from securecfg.keys.provider import DescribedProvider, PartedProvider
from securecfg.vault.keys.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.keys import KeyProvider
    from securecfg.keys.provider import PartState
    from securecfg.vault import Vault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found.

    Attributes:
        slot: The slot that the key opens.
        kind: The scheme of its URIs.
        is_remote: Whether a service holds the key.
        open_ms: How long it took to open the slot.
        wrap_ms: How long it took to wrap a new key, or None where the key's holder refuses.
        unwrap_ms: How long it took to unwrap that.
        refusal: Why the new key could not be wrapped, or None.
        facts: What the provider says of the key.
        parts: What became of each of several keys.
    """

    slot: int
    kind: str
    is_remote: bool
    open_ms: float
    wrap_ms: float | None
    unwrap_ms: float | None
    refusal: SecurecfgError | None
    facts: Mapping[str, str]
    parts: Sequence[PartState]

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        refusal = self.refusal
        return {
            "slot": self.slot,
            "kind": self.kind,
            "remote": self.is_remote,
            "open_ms": self.open_ms,
            "wrap_ms": self.wrap_ms,
            "unwrap_ms": self.unwrap_ms,
            "refusal": _to_json(refusal),
            "facts": dict(self.facts),
            "parts": [{"kind": part.scheme, "refusal": _to_json(part.error)} for part in self.parts],
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        if self.refusal is None:
            trip = f"wraps in {self.wrap_ms} ms, unwraps in {self.unwrap_ms} ms"
        else:
            trip = f"opens slots, wraps no new key: {self.refusal.message}"
        return lay_out(
            [
                ("opens", f"slot {self.slot}, in {self.open_ms} ms"),
                *(
                    (f"key {number}", f"{part.scheme}: {part.error.message if part.error else 'opens its part'}")
                    for number, part in enumerate(self.parts, start=1)
                ),
                ("round trip", trip),
                *self.facts.items(),
            ]
        )


def _to_json(error: SecurecfgError | None) -> dict[str, str] | None:
    return {"code": error.code, "message": error.message} if error else None


def probe_key(vault: Vault, provider: KeyProvider) -> Probe:
    """Try out a key.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        WrongKey: It opens no slot.
        KeyProviderUnavailable, KeyProviderRefused: The key cannot be used.
        Tampered: It does not give back what it wrapped.
    """
    slots = Slots(vault.authority)
    slot, open_ms = _timed(lambda: slots.test(provider))
    parts = slots.try_parts(slot, provider) if isinstance(provider, PartedProvider) else ()
    wrap_ms = unwrap_ms = None
    # A new key is made of all parts, so it is not tried while one of them is away.
    refusal = next((part.error for part in parts if part.error is not None), None)
    try:
        if refusal is None:
            wrap_ms, unwrap_ms = _round_trip(provider, vault.opened.replica.vault_id)
    except KeyProviderRefused as error:
        refusal = error
    facts = provider.describe() if isinstance(provider, DescribedProvider) else {}
    is_remote = isinstance(provider, RemoteKeyProvider)
    return Probe(slot, provider.scheme, is_remote, open_ms, wrap_ms, unwrap_ms, refusal, facts, parts)


def _round_trip(provider: KeyProvider, vault_id: bytes) -> tuple[float, float]:
    key, context = generate_key(), WrapContext(vault_id, os.urandom(16))
    wrapped, wrap_ms = _timed(lambda: call_wrap(provider, key, context))
    unwrapped, unwrap_ms = _timed(lambda: call_unwrap(provider, wrapped, context))
    if unwrapped != key:
        message = f"the `{provider.scheme}:` key does not give back what it wrapped"
        raise Tampered(message, hint="do not use it")
    return wrap_ms, unwrap_ms


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.monotonic()
    result = call()
    return result, round((time.monotonic() - started) * 1_000, 1)
