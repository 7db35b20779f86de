"""`composite:` - several keys, all or some of which open a slot together (format, section 4.16)."""

from __future__ import annotations

import copy
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import TYPE_CHECKING, Final

from securecfg.crypto import KEY_BYTES, KeyBytes, generate_key, split_secret
from securecfg.errors import KeyProviderRefused, KeyProviderUnavailable, SecurecfgError, WrongKey
from securecfg.keys.calls import call_unwrap, call_wrap, gravest
from securecfg.keys.kek import MOST_PARAMS_BYTES, open_under_kek, parse_params, seal_under_kek, wrong_key
from securecfg.keys.parts import PARTS_MAX, SCHEME, Part, Parts, asking_for, derive_kek, part_context, split_uris
from securecfg.keys.provider import PartState, UnattendedProvider, is_remote
from securecfg.keys.remote import is_hinted
from securecfg.keys.slots import KIND_COMPOSITE
from securecfg.keys.uri import open_provider
from securecfg.patience import PATIENCE, Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.keys.provider import Ask, KeyProvider, KeyUri, WrapContext

    _Ask = Callable[[KeyProvider, Patience], bytes]
    _Outcome = bytes | SecurecfgError


class CompositeProvider:
    """Stands for several keys. Those that ask no person are tried at the same time, others in their order, if needed.

    Args:
        needed: How many of the keys open a slot.
        providers: Who holds them; to make a slot all of them, to open one at least as many as are needed.
        patience: How long the services may take, all of them together.

    Raises:
        ValueError: There cannot be so many, or one of them stands for several keys itself.
    """

    scheme: Final = SCHEME
    kind: Final = KIND_COMPOSITE

    def __init__(self, needed: int, providers: Sequence[KeyProvider], *, patience: Patience = PATIENCE) -> None:
        """Hold the providers without calling one."""
        if not 2 <= needed <= len(providers) <= PARTS_MAX or any(one.kind == self.kind for one in providers):  # noqa: PLR2004 - one key is no composite
            message = f"from 2 to {PARTS_MAX} keys of other kinds open a slot together"
            raise ValueError(message)
        self._needed = needed
        self.providers = tuple(providers)
        self._patience = patience
        self._away: dict[int, KeyProviderUnavailable] | None = None

    def for_one_attempt(self) -> CompositeProvider:
        """Return what tries the slots of one vault one after the other, and asks no service again that was away."""
        same = copy.copy(self)
        same._away = {}  # noqa: SLF001 - its own kind
        return same

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under all keys together; each wraps its part, so none of them may be away.

        Raises:
            KeyProviderUnavailable, KeyProviderRefused: By one of the providers, whose kind the message begins with.
            FileMissing, SettingMissing: The same.
            KeyProviderRefused: What they wrap does not fit into a slot, or two of them are the same key.
        """
        secret = generate_key()
        shares = split_secret(secret, self._needed, len(self.providers))

        def wrap_part(number: int) -> _Ask:
            share = KeyBytes(shares[number - 1][:KEY_BYTES])
            return lambda provider, patience: call_wrap(provider, share, part_context(context, number), patience)

        asks = [(provider, wrap_part(number)) for number, provider in enumerate(self.providers, start=1)]
        wrapped = {number: _answer(self.providers[number], outcome) for number, outcome in self._ask_all(asks)}
        each = (Part(provider.kind, wrapped[number]) for number, provider in enumerate(self.providers))
        parts = Parts(self._needed, tuple(each))
        self._refuse_one_twice(parts, context)
        params = parts.to_bytes()
        if len(params) > MOST_PARAMS_BYTES:
            message = f"what these keys wrap takes {len(params)} bytes, and a slot has room for {MOST_PARAMS_BYTES}"
            raise KeyProviderRefused(message, hint="take fewer keys; those of identities and of RSA are large")
        return seal_under_kek(derive_kek(shares[: self._needed], context), self.kind, params, key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under these keys.

        Raises:
            WrongKey: Too few of the keys are the right ones, or the bytes or the context are other ones.
            KeyProviderUnavailable: Too few of them can be used now; the message says which cannot.
            KeyProviderRefused, FileMissing, SettingMissing: The same, for another reason.
        """
        parts = self._parse(wrapped)
        attempt = _Attempt(parts, context, self._patience, self._away)
        shares = attempt.open_enough(self.providers)
        if len(shares) < parts.needed:
            raise _too_few(parts.needed, attempt.states(self.providers))
        return open_under_kek(derive_kek(shares[: parts.needed], context), self.kind, wrapped, context)

    def try_parts(self, wrapped: bytes, context: WrapContext) -> Sequence[PartState]:
        """Return what becomes of each key where all are tried.

        Raises:
            WrongKey: The bytes are not those of a slot with so many parts.
        """
        attempt = _Attempt(self._parse(wrapped), context, self._patience)
        attempt.open_all(self.providers)
        return tuple(attempt.states(self.providers))

    def verify_parts(self, wrapped: bytes, context: WrapContext) -> None:
        """Check that the keys open all parts, in the order in which they lie there.

        Raises:
            WrongKey: There are fewer keys than parts, they are of other kinds, or one is another key.
            KeyProviderUnavailable, KeyProviderRefused, FileMissing, SettingMissing: One cannot be used now.
        """
        parts = self._parse(wrapped)
        if parts.kinds != tuple(provider.kind for provider in self.providers):
            message = f"the slot has {len(parts.each)} parts, and these are not their keys in their order"
            raise WrongKey(message, hint="name all keys of the slot as when it was made: `securecfg key list`")
        asks = [
            (provider, _unwrap_part(part, number, context))
            for number, (provider, part) in enumerate(zip(self.providers, parts.each, strict=True), start=1)
        ]
        for number, outcome in self._ask_all(asks):
            _answer(self.providers[number], outcome)

    def _refuse_one_twice(self, parts: Parts, context: WrapContext) -> None:
        """Refuse keys of which one opens the part of another: it may have two names, and would count twice."""
        asks = [
            (provider, _unwrap_part(part, number, context))
            for own, provider in enumerate(self.providers, start=1)
            for number, part in enumerate(parts.each, start=1)
            if number != own and part.kind == provider.kind
        ]
        for number, outcome in self._ask_all(asks):
            if isinstance(outcome, WrongKey | KeyProviderRefused):
                continue
            provider = asks[number][0]
            _answer(provider, outcome)
            message = f"two of the keys, both `{provider.scheme}:`, are the same key"
            raise KeyProviderRefused(message, hint="whoever had this one would need no other")

    def _ask_all(self, asks: Sequence[tuple[KeyProvider, _Ask]]) -> Iterator[tuple[int, _Outcome]]:
        """Yield the outcome of each question with its number: first of those who ask no person, all asked at once."""
        deadline = _Deadline(self._patience)
        unattended: dict[int, list[int]] = {}
        for number, (provider, _) in enumerate(asks):
            if _asks_nobody(provider):
                unattended.setdefault(id(provider), []).append(number)
        outcomes: dict[int, _Outcome] = {}

        def ask(number: int) -> _Outcome:
            provider, question = asks[number]
            try:
                return KeyBytes(question(provider, deadline.left(provider)))
            except SecurecfgError as error:
                return error

        def ask_in_turn(own: list[int]) -> None:
            for number in own:
                outcomes[number] = ask(number)

        wait([_fly(partial(ask_in_turn, own)) for own in unattended.values()])
        yield from sorted(outcomes.items())
        for number, (provider, _) in enumerate(asks):
            if not _asks_nobody(provider):
                yield number, ask(number)

    def _parse(self, wrapped: bytes) -> Parts:
        parts = Parts.parse(wrapped)
        # Another slot's keys; nobody is asked for them in vain.
        if parts.needed != self._needed or len(self.providers) > len(parts.each):
            raise wrong_key()
        return parts


class _Attempt:
    """One slot that is tried: which parts are open, and why others are not. May be used by many threads."""

    def __init__(
        self,
        parts: Parts,
        context: WrapContext,
        patience: Patience,
        away: dict[int, KeyProviderUnavailable] | None = None,
    ) -> None:
        # Services that were away in a slot before this one, by their provider; None where nobody keeps them.
        self._away = {} if away is None else away
        self._parts = parts
        self._context = context
        self._deadline = _Deadline(patience)
        self._lock = threading.Lock()
        self._shares: dict[int, KeyBytes] = {}
        self._errors: dict[int, SecurecfgError] = {}

    def open_enough(self, providers: Sequence[KeyProvider]) -> list[KeyBytes]:
        """Try keys until enough parts are open, or cannot be any more; return what was in them, numbers last."""
        asked = self._start_all(providers)
        for provider in providers:
            flight = asked.get(id(provider))
            while flight is not None and not flight.done() and not self._is_decided(providers):
                wait([other for other in asked.values() if not other.done()], return_when=FIRST_COMPLETED)
            if self._is_decided(providers):
                break
            if flight is None:
                self.open(provider)
        if not self._is_open():
            # The error names all that failed, so those that were asked may say how it is with them.
            wait(asked.values())
        with self._lock:
            return list(self._shares.values())

    def open_all(self, providers: Sequence[KeyProvider]) -> None:
        """Try all keys."""
        asked = self._start_all(providers)
        for provider in providers:
            if id(provider) not in asked:
                self.open(provider)
        wait(asked.values())

    def open(self, provider: KeyProvider) -> None:
        """Try a key on the parts of its kind, most probable ones first; keep what it opens or why it does not."""
        candidates = self._candidates(provider)
        error: SecurecfgError = wrong_key()
        if candidates and id(provider) in self._away:
            candidates, error = [], self._away[id(provider)]
        for number, part in candidates:
            try:
                patience = self._deadline.left(provider)
                share = call_unwrap(provider, part.wrapped, part_context(self._context, number), patience)
            except SecurecfgError as refused:
                # What is wrong with the key says more than that it does not fit a part of somebody else's.
                error = error if isinstance(refused, WrongKey) and not isinstance(error, WrongKey) else refused
                if isinstance(refused, WrongKey | KeyProviderRefused):
                    continue
                if isinstance(refused, KeyProviderUnavailable) and is_remote(provider):
                    self._away[id(provider)] = refused
                break
            with self._lock:
                if number not in self._shares:
                    self._shares[number] = KeyBytes(share + bytes((number,)))
                    return
        with self._lock:
            self._errors[id(provider)] = error

    def states(self, providers: Sequence[KeyProvider]) -> Iterator[PartState]:
        """Yield what became of the keys that were tried."""
        for provider in providers:
            yield PartState(provider.scheme, self._errors.get(id(provider)))

    def _start_all(self, providers: Sequence[KeyProvider]) -> dict[int, Future[None]]:
        """Try the keys that ask no person at the same time."""
        return {id(provider): _fly(partial(self.open, provider)) for provider in providers if _asks_nobody(provider)}

    def _candidates(self, provider: KeyProvider) -> list[tuple[int, Part]]:
        found = [(number, part) for number, part in enumerate(self._parts.each, start=1) if part.kind == provider.kind]
        if is_remote(provider):
            name = provider.key_name
            found.sort(key=lambda one: not self._is_hinted(name, *one))
        return found

    def _is_hinted(self, name: str, number: int, part: Part) -> bool:
        return is_hinted(parse_params(part.wrapped), name, part_context(self._context, number).slot_id)

    def _is_open(self) -> bool:
        with self._lock:
            return len(self._shares) >= self._parts.needed

    def _is_decided(self, providers: Sequence[KeyProvider]) -> bool:
        with self._lock:
            left = len(providers) - len(self._errors)
            return len(self._shares) >= self._parts.needed or left < self._parts.needed


class _Deadline:
    """One time limit for all services that are asked together."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._until = time.monotonic() + patience.deadline_s

    def left(self, provider: KeyProvider) -> Patience:
        """Return what is left for a provider; a person's time is not counted.

        Raises:
            KeyProviderUnavailable: Nothing.
        """
        left_s = self._until - time.monotonic()
        if left_s <= 0 and is_remote(provider):
            message = (
                f"`{provider.scheme}:` key `{provider.key_name}` gave no answer within {self._patience.deadline_s:g} s"
            )
            raise KeyProviderUnavailable(message, hint="try again later")
        return self._patience._replace(deadline_s=max(left_s, 0.0))


def _asks_nobody(provider: KeyProvider) -> bool:
    return is_remote(provider) or (isinstance(provider, UnattendedProvider) and provider.asks_nobody)


def _fly(work: Callable[[], None]) -> Future[None]:
    """Do something in a thread of its own, which nobody need wait for."""
    # No pool: the interpreter would wait for its threads at the end, and a service may be silent.
    flight: Future[None] = Future()

    def run() -> None:
        try:
            work()
        finally:
            flight.set_result(None)

    threading.Thread(target=run, name="securecfg-part", daemon=True).start()
    return flight


def _unwrap_part(part: Part, number: int, context: WrapContext) -> _Ask:
    return lambda provider, patience: call_unwrap(provider, part.wrapped, part_context(context, number), patience)


def _answer(provider: KeyProvider, outcome: _Outcome) -> bytes:
    """Return what a provider answered.

    Raises:
        SecurecfgError: What it raised, with whose it is.
    """
    if isinstance(outcome, SecurecfgError):
        raise _named(provider, outcome)
    return outcome


def _named(provider: KeyProvider, error: SecurecfgError) -> SecurecfgError:
    """Return an error of one of several keys, which says whose it is."""
    failure = copy.copy(error)
    failure.message = f"one of the keys, `{provider.scheme}:`, cannot be used: {error.message}"
    failure.args = (failure.message,)
    return failure


def _too_few(needed: int, states: Iterator[PartState]) -> SecurecfgError:
    """Return the error for too few keys: of the kind that matters most, with all that failed in its message."""
    failed = [(state.scheme, state.error) for state in states if state.error is not None]
    failure = copy.copy(gravest(error for _, error in failed))
    said = "; ".join(f"`{scheme}:` {error.message}" for scheme, error in failed)
    failure.message = f"{needed} of the keys are needed, and too few can be used: {said}"
    failure.args = (failure.message,)
    return failure


def from_uri(uri: KeyUri, ask: Ask | None) -> CompositeProvider:
    """Return the provider for `composite:all,URI,URI...` or `composite:K,URI,URI...`.

    Raises:
        InvalidKeyUri, ExtraMissing: It is written otherwise, or one of the URIs is wrong.
    """
    needed, uris = split_uris(uri.rest)
    providers: list[KeyProvider] = []
    failure: SecurecfgError | None = None
    for number, one in enumerate(uris, start=1):
        try:
            providers.append(open_provider(one, ask=asking_for(ask, number, len(uris))))
        except SecurecfgError as error:
            failure = copy.copy(error)  # without the frames, which hold a URI
    del uris, one
    if failure is not None:
        raise failure
    return CompositeProvider(needed, providers)
