# ruff: noqa: D102, PLR2004, S101 - a suite of tests: names are sentences, asserts are the point
"""What every key provider must do; subclass `KeyProviderConformance`, say how to make one, and let pytest run it.

A provider that calls no service has no service that could fail: it subclasses `LocalKeyProviderConformance`. One that
asks a service (a `RemoteKeyProvider`) has to ask it sparingly: it subclasses `RemoteKeyProviderConformance`.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import (
    KeyAccessDenied,
    KeyDisabled,
    KeyMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SecurecfgError,
    WrongKey,
)
from securecfg.keys import WrapContext, call_unwrap, call_wrap, parse_params
from securecfg.keys.provider import RemoteKeyProvider
from securecfg.patience import Patience
from securecfg.testing.key_services import ServiceFault
from securecfg.vault import Vault
from securecfg.vault.keys.slots import Slots

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.keys import KeyProvider

CONTEXT = WrapContext(vault_id=bytes(range(16)), slot_id=bytes(range(16, 32)))
KEY = bytes(range(32, 64))
THREADS = 32
FORKS = 4

_ERRORS: dict[ServiceFault, type[SecurecfgError]] = {
    ServiceFault.UNREACHABLE: KeyProviderUnavailable,
    ServiceFault.RESET: KeyProviderUnavailable,
    ServiceFault.SILENT: KeyProviderUnavailable,
    ServiceFault.BROKEN: KeyProviderUnavailable,
    ServiceFault.THROTTLED: KeyProviderUnavailable,
    ServiceFault.DENIED: KeyAccessDenied,
    ServiceFault.DISABLED: KeyDisabled,
    ServiceFault.DELETED: KeyMissing,
}
_ANSWERED = [fault for fault in ServiceFault if fault is not ServiceFault.SILENT]
_REACHED = [fault for fault in _ANSWERED if fault is not ServiceFault.UNREACHABLE]
_PASSING = [ServiceFault.RESET, ServiceFault.BROKEN, ServiceFault.THROTTLED]
_CHILD_S = 30.0
_HASTY = Patience(deadline_s=20.0, pauses_s=(0.01, 0.01))
_OWNER = "user:owner"


class KeyProviderConformance:
    """The suite; `provider`, `stranger`, `faulty` and `canaries` are for the subclass to define.

    Attributes:
        altered: Of how many bytes one is altered in turn; more than each where a service takes long for every answer.
    """

    altered = 1

    def provider(self) -> KeyProvider:
        """Return a provider; every call returns another object that holds the same key."""
        raise NotImplementedError

    def stranger(self) -> KeyProvider:
        """Return a provider of the same kind that holds another key."""
        raise NotImplementedError

    def faulty(self, fault: ServiceFault) -> KeyProvider:
        """Return a provider that holds the same key as `provider`, and whose service shows this fault from now on.

        Where there can be no such fault, call `pytest.skip` with a reason that begins with `not applicable: `.
        """
        raise NotImplementedError

    def canaries(self) -> tuple[bytes, ...]:
        """Return what no error, repr or log line may contain: the passphrase, the key, a token."""
        raise NotImplementedError

    # --- round trips --------------------------------------------------------------------------------------------------

    def test_unwraps_what_it_wrapped(self) -> None:
        provider = self.provider()
        assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY

    def test_another_object_with_the_same_key_unwraps_too(self) -> None:
        assert self.provider().unwrap(self.provider().wrap(KEY, CONTEXT), CONTEXT) == KEY

    def test_names_its_scheme_and_the_kind_of_its_slots(self) -> None:
        provider = self.provider()
        assert provider.scheme.isascii()
        assert provider.scheme == provider.scheme.lower()
        assert 1 <= provider.kind <= 255

    def test_what_it_wraps_is_laid_out_as_a_slot_needs_it(self) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        assert len(wrapped) == 2 + len(parse_params(wrapped)) + 80

    def test_what_it_wraps_does_not_contain_the_key(self) -> None:
        assert KEY not in self.provider().wrap(KEY, CONTEXT)

    @pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
    def test_wraps_keys_of_32_bytes_only(self, size: int) -> None:
        with pytest.raises(ValueError, match="32"):
            self.provider().wrap(bytes(size), CONTEXT)

    # --- refusals -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "context",
        [WrapContext(b"x" * 16, CONTEXT.slot_id), WrapContext(CONTEXT.vault_id, b"x" * 16)],
        ids=["vault", "slot"],
    )
    def test_a_key_unwraps_in_its_own_context_only(self, context: WrapContext) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        with pytest.raises(WrongKey):
            provider.unwrap(wrapped, context)

    def test_refuses_what_another_key_wrapped(self) -> None:
        wrapped = self.stranger().wrap(KEY, CONTEXT)
        with pytest.raises(WrongKey):
            self.provider().unwrap(wrapped, CONTEXT)

    def test_refuses_bytes_of_which_any_was_changed(self) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        for position in range(0, len(wrapped), self.altered):
            altered = wrapped[:position] + bytes((wrapped[position] ^ 1,)) + wrapped[position + 1 :]
            # Altered parameters may ask for what a provider refuses to pay.
            with pytest.raises((WrongKey, KeyProviderRefused)):
                provider.unwrap(altered, CONTEXT)

    def test_refuses_truncated_extended_and_oversized_bytes(self) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        for wrong in [*(wrapped[:size] for size in range(len(wrapped))), wrapped + b"\x00", bytes(1_000_000)]:
            with pytest.raises(WrongKey):
                provider.unwrap(wrong, CONTEXT)

    # --- faults of a service ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", _ANSWERED)
    def test_names_what_is_wrong_with_the_service(self, fault: ServiceFault) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        provider = self.faulty(fault)
        with pytest.raises(_ERRORS[fault]) as unwrapping:
            provider.unwrap(wrapped, CONTEXT)
        with pytest.raises(_ERRORS[fault]) as wrapping:
            provider.wrap(KEY, CONTEXT)
        for error in (unwrapping.value, wrapping.value):
            self._assert_shows_nothing(provider, error)
            assert error.hint

    def test_a_caller_does_not_wait_for_a_silent_service(self) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        provider = self.faulty(ServiceFault.SILENT)
        started = time.monotonic()
        with pytest.raises(KeyProviderUnavailable) as refused:
            call_unwrap(provider, wrapped, CONTEXT, Patience(deadline_s=0.5, pauses_s=(0.1,)))
        assert time.monotonic() - started < 5
        self._assert_shows_nothing(provider, refused.value)

    # --- use ----------------------------------------------------------------------------------------------------------

    def test_one_object_serves_many_threads(self) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(provider.unwrap, wrapped, CONTEXT) for _ in range(2 * THREADS)]
            assert {future.result() for future in futures} == {KEY}

    def test_many_objects_serve_many_threads(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(self._round_trip) for _ in range(THREADS)]
            assert {future.result() for future in futures} == {KEY}

    def test_serves_a_forked_child(self) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        assert self._child_unwraps(provider, wrapped)
        assert provider.unwrap(wrapped, CONTEXT) == KEY

    @pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
    def test_serves_a_child_that_is_forked_while_threads_use_it(self) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        stop = threading.Event()

        def use() -> None:
            while not stop.is_set():
                provider.unwrap(wrapped, CONTEXT)

        with ThreadPoolExecutor(2) as pool:
            users = [pool.submit(use) for _ in range(2)]
            try:
                assert all(self._child_unwraps(provider, wrapped) for _ in range(FORKS))
            finally:
                stop.set()
            assert [user.result() for user in users] == [None, None]

    def test_shows_nothing_of_its_key(self, caplog: pytest.LogCaptureFixture) -> None:
        provider = self.provider()
        with caplog.at_level(0):
            wrapped = provider.wrap(KEY, CONTEXT)
            provider.unwrap(wrapped, CONTEXT)
            with pytest.raises(WrongKey) as refused:
                provider.unwrap(self.stranger().wrap(KEY, CONTEXT), CONTEXT)
        self._assert_shows_nothing(provider, refused.value, caplog.text)

    def _round_trip(self) -> bytes:
        provider = self.provider()
        return provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT)

    @staticmethod
    def _child_unwraps(provider: KeyProvider, wrapped: bytes) -> bool:
        child = os.fork()
        if child == 0:
            # Whatever happens, the child must not go on as a second test run, nor hang for ever.
            threading.Timer(_CHILD_S, os._exit, (3,)).start()
            try:
                os._exit(0 if provider.unwrap(wrapped, CONTEXT) == KEY else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def _assert_shows_nothing(self, provider: KeyProvider, error: SecurecfgError, logged: str = "") -> None:
        """Look for the canaries, and for what another library said."""
        shown = "\n".join([repr(provider), str(provider), repr(error), error.message, error.hint, logged])
        for canary in (KEY, *self.canaries()):
            assert canary not in shown.encode()
            assert canary.hex() not in shown
            assert repr(canary)[2:-1] not in shown
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


class LocalKeyProviderConformance(KeyProviderConformance):
    """The suite for a provider that calls no service."""

    def faulty(self, fault: ServiceFault) -> KeyProvider:
        pytest.skip(f"not applicable: there is no service that could be {fault}")


class RemoteKeyProviderConformance(KeyProviderConformance):
    """The suite for a `RemoteKeyProvider`; `asked` and `fail_next` are for the subclass to define besides."""

    def asked(self) -> int:
        """Return how often the service has been asked to use a key, whatever it answered.

        Requests to log in do not count.
        """
        raise NotImplementedError

    def fail_next(self, *faults: ServiceFault) -> None:
        """Have the service show these faults, one for each of the next times that it is asked, and then none."""
        raise NotImplementedError

    def test_says_what_its_key_is_called_and_nothing_secret(self) -> None:
        provider = self.provider()
        assert isinstance(provider, RemoteKeyProvider)
        assert provider.key_name
        assert not any(canary in provider.key_name.encode() for canary in self.canaries())

    def test_objects_are_equal_that_give_the_same_answers(self) -> None:
        provider, twin, stranger = self.provider(), self.provider(), self.stranger()
        assert provider == twin
        assert hash(provider) == hash(twin)
        assert provider != stranger
        assert provider != object()

    def test_asks_its_service_once_to_unwrap(self) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        provider, before = self.provider(), self.asked()
        provider.unwrap(wrapped, CONTEXT)
        assert self.asked() == before + 1

    @pytest.mark.parametrize("fault", _REACHED)
    def test_does_not_repeat_what_was_refused_or_failed(self, fault: ServiceFault) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        provider, before = self.faulty(fault), self.asked()
        with pytest.raises(_ERRORS[fault]):
            provider.unwrap(wrapped, CONTEXT)
        assert self.asked() == before + 1

    @pytest.mark.parametrize("fault", _PASSING)
    def test_a_caller_gets_its_key_from_a_service_that_recovers(self, fault: ServiceFault) -> None:
        provider, before = self.provider(), self.asked()
        provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT)
        needed, before = self.asked() - before, self.asked()
        self.fail_next(fault, fault)
        wrapped = call_wrap(provider, KEY, CONTEXT, _HASTY)
        self.fail_next(fault, fault)
        assert call_unwrap(provider, wrapped, CONTEXT, _HASTY) == KEY
        assert self.asked() == before + needed + 4

    def test_a_vault_is_opened_with_one_request_and_used_with_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        path = tmp_path / "a.vault"
        with Vault.create(path, key=self.provider(), admin=_OWNER) as vault:
            vault.write("app/a", "canary")
            Slots(vault.authority).add(self.stranger())
        for provider in (self.provider(), self.stranger()):
            before = self.asked()
            with Vault.open(path, key=provider, principal=_OWNER) as vault:
                opened = self.asked()
                # Hints have one byte: hardly ever two slots have the same one.
                assert 1 <= opened - before <= 2
                vault.write("app/b", "2")
                assert vault.read("app/a").field("").reveal() == "canary"
            assert self.asked() == opened
