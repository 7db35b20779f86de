"""What a key provider is: the contract between unlock slots and whoever holds a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

from securecfg.crypto import slot_context
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from securecfg.errors import SecurecfgError

Ask = Callable[[str], str]
"""Asks a person for a text that is not shown while it is typed. Given by the host; the library never asks by itself."""


class WrapContext(NamedTuple):
    """What a wrapped key is bound to: one slot of one vault.

    Attributes:
        vault_id: 16 bytes.
        slot_id: 16 bytes.
    """

    vault_id: bytes
    slot_id: bytes

    def to_bytes(self, kind: int, params: bytes) -> bytes:
        """Return the context 0x10 of the format."""
        return slot_context(self.vault_id, self.slot_id, kind, params)


class KeyProvider(Protocol):
    """Wraps and unwraps a 32-byte key.

    What `wrap` returns is laid out as section 4.2 of the format says: parameters, commitment, SIV. A local provider
    derives a key-encryption key (KEK); a remote one draws a random KEK and keeps as parameters what its service made of
    it. Both leave the rest to `securecfg.keys.seal_under_kek` and `open_under_kek`, which bind the key to the context
    whatever the service can do by itself.

    Obligations, held by `KeyProviderConformance` of `securecfg.testing.key_provider_conformance`:

    - `unwrap` gives back what `wrap` took, in the same context only;
    - a wrong key, another context and altered bytes are one and the same `WrongKey`;
    - a service that cannot be reached is `KeyProviderUnavailable`, one that refuses is `KeyProviderRefused`, or one of
      its kinds where the reason is known;
    - no error, repr or log line holds key material, nor the text of another library's exception;
    - one object may be used by many threads, and by a forked child.

    Further attempts, time limits and exceptions that nobody expected are not its business: `securecfg.keys.calls` sees
    to them for every provider.

    Attributes:
        scheme: The URI scheme that names the provider.
        kind: The number of the slot kind; 1 to 127 belong to the format, 128 to 255 to other people's providers.
    """

    @property
    def scheme(self) -> str:
        """The URI scheme that names the provider."""
        ...

    @property
    def kind(self) -> int:
        """The number of the slot kind."""
        ...

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` wrapped for this slot.

        Raises:
            KeyProviderUnavailable: The service cannot be reached.
            KeyProviderRefused: It refuses.
        """
        ...

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that `wrap` wrapped for this slot.

        Raises:
            WrongKey: The provider holds another key, or the bytes or the context are not those of `wrap`.
            KeyProviderUnavailable: The service cannot be reached.
            KeyProviderRefused: It refuses.
        """
        ...


@runtime_checkable
class ProvesPrincipal(Protocol):
    """What a provider can do besides, whose key is one principal's own.

    A slot of such a key speaks for that principal and for nobody else.
    """

    def read_principal(self) -> str:
        """Return the principal whose key it is, as its owner wrote it: the caller checks that it is one.

        Raises:
            FileMissing, KeyProviderRefused: The key cannot be read.
        """
        ...


@runtime_checkable
class RemoteKeyProvider(KeyProvider, Protocol):
    """A provider that asks a service, which may be slow, busy or away: a second, optional interface.

    It asks once for each `wrap` and `unwrap`, does not repeat what failed, and bounds each wait for the network. It may
    be called in a thread of its own, so it asks no person. Providers that compare equal are taken to give the same
    answers: threads that open a vault at the same moment share one. `RemoteKeyProviderConformance` of the same module
    holds this besides.

    Attributes:
        key_name: What the key is called in errors; holds no secret.
    """

    @property
    def key_name(self) -> str:
        """What the key is called in errors; holds no secret."""
        ...


@runtime_checkable
class UnattendedProvider(KeyProvider, Protocol):
    """A provider that is no service and may ask no person all the same: an optional interface of its own.

    Of several keys together such a one is tried in a thread, at the same time as the services.

    Attributes:
        asks_nobody: Whether this key opens without a person.
    """

    @property
    def asks_nobody(self) -> bool:
        """Whether this key opens without a person."""
        ...


@runtime_checkable
class CreatingProvider(KeyProvider, Protocol):
    """A provider whose holder can make the key that a URI names: an optional interface of its own."""

    def create_missing(self) -> bool:
        """Have the key made where there is none, such that it never leaves its holder; return whether it was made.

        Raises:
            KeyProviderUnavailable: The holder cannot be reached.
            KeyProviderRefused: It refuses, or makes no key that could be used.
        """
        ...


@runtime_checkable
class DescribedProvider(KeyProvider, Protocol):
    """A provider that can say more of its key: an optional interface of its own."""

    def describe(self) -> Mapping[str, str]:
        """Return what people may want to know of the key: what, then the answer, both in words and not secret.

        It is called after a `wrap` or an `unwrap` and asks no service.
        """
        ...


@runtime_checkable
class PartedProvider(KeyProvider, Protocol):
    """A provider that stands for several keys, each of which opens a part of a slot: an optional interface.

    Attributes:
        providers: Who holds them.
    """

    @property
    def providers(self) -> tuple[KeyProvider, ...]:
        """Who holds the keys."""
        ...

    def for_one_attempt(self) -> KeyProvider:
        """Return what tries the slots of one vault one after the other, and asks no service again that was away."""
        ...

    def try_parts(self, wrapped: bytes, context: WrapContext) -> Sequence[PartState]:
        """Return what becomes of each key where all are tried, whether or not they are enough.

        Raises:
            WrongKey: The bytes are not those of a slot with so many parts.
        """
        ...

    def verify_parts(self, wrapped: bytes, context: WrapContext) -> None:
        """Check that the keys open all parts of a slot, not only as many as are needed.

        Raises:
            WrongKey: There are fewer keys than parts, or the bytes are not those of such a slot.
            SecurecfgError: One of the keys opens none, as its provider says it.
        """
        ...


def is_remote(provider: object) -> TypeGuard[RemoteKeyProvider]:
    """Return whether a provider asks a service. As `isinstance`, which takes far longer for a protocol."""
    return _has_interface(provider, RemoteKeyProvider)


def is_parted(provider: object) -> TypeGuard[PartedProvider]:
    """Return whether a provider stands for several keys. As `isinstance`."""
    return _has_interface(provider, PartedProvider)


def proves_principal(provider: object) -> TypeGuard[ProvesPrincipal]:
    """Return whether a provider's key is one principal's own. As `isinstance`."""
    return _has_interface(provider, ProvesPrincipal)


def _has_interface(provider: Any, protocol: type) -> bool:  # noqa: ANN401 - whatever somebody made
    return all(hasattr(provider, name) for name in _lacking(type(provider), protocol))  # type: ignore[arg-type]  # classes are hashable


@cache
def _lacking(kind: type, protocol: type) -> tuple[str, ...]:
    """Return what a class has not of a protocol; an object may have it all the same, if it sets it itself."""
    return tuple(name for name in dir(protocol) if not name.startswith("_") and not hasattr(kind, name))


def providers_in(provider: KeyProvider) -> tuple[KeyProvider, ...]:
    """Return the providers of the keys that one stands for: itself, where it stands for one."""
    return provider.providers if is_parted(provider) else (provider,)


class PartState(NamedTuple):
    """What became of one of several keys when its part was tried.

    Attributes:
        scheme: The scheme of its URIs.
        error: Why it opened none, or None.
    """

    scheme: str
    error: SecurecfgError | None


class KeyUri(NamedTuple):
    """A key URI, cut at its first colon. May contain what nobody should see, so it is never shown.

    Attributes:
        scheme: What stands before the colon, in lower case.
        rest: What stands after it, as it was written.
    """

    scheme: str
    rest: str

    def __repr__(self) -> str:
        """Show the scheme only."""
        return f"KeyUri({self.scheme!r}, ...)"


ProviderFactory = Callable[[KeyUri, Ask | None], KeyProvider]
"""What an entry point of the group `securecfg.key_providers` loads, under the scheme as its name.

It parses the URI and raises `InvalidKeyUri`; what is slow, asks a person or needs the network waits for `wrap` and
`unwrap`.
"""
