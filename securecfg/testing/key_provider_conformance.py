# ruff: noqa: D102, PLR2004, S101 - a suite of tests: names are sentences, asserts are the point
"""What every key provider must do; subclass `KeyProviderConformance`, say how to make one, and let pytest run it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import KeyProviderRefused, WrongKey
from securecfg.keys import WrapContext, parse_params

if TYPE_CHECKING:
    from securecfg.keys import KeyProvider

CONTEXT = WrapContext(vault_id=bytes(range(16)), slot_id=bytes(range(16, 32)))
KEY = bytes(range(32, 64))
THREADS = 32


class KeyProviderConformance:
    """The suite; `provider`, `stranger` and `canaries` are for the subclass to define."""

    def provider(self) -> KeyProvider:
        """Return a provider; every call returns another object that holds the same key."""
        raise NotImplementedError

    def stranger(self) -> KeyProvider:
        """Return a provider of the same kind that holds another key."""
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
        for position in range(len(wrapped)):
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

    # --- use ----------------------------------------------------------------------------------------------------------

    def test_one_object_serves_many_threads(self) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(provider.unwrap, wrapped, CONTEXT) for _ in range(THREADS)]
            assert {future.result() for future in futures} == {KEY}

    def test_serves_a_forked_child(self) -> None:
        provider = self.provider()
        wrapped = provider.wrap(KEY, CONTEXT)
        child = os.fork()
        if child == 0:
            # Whatever happens, the child must not go on as a second test run.
            try:
                os._exit(0 if provider.unwrap(wrapped, CONTEXT) == KEY else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_shows_nothing_of_its_key(self, caplog: pytest.LogCaptureFixture) -> None:
        provider = self.provider()
        with caplog.at_level(0), pytest.raises(WrongKey) as refused:
            provider.unwrap(self.stranger().wrap(KEY, CONTEXT), CONTEXT)
        error = refused.value
        shown = "\n".join([repr(provider), str(provider), repr(error), error.message, error.hint, caplog.text])
        for canary in self.canaries():
            assert canary not in shown.encode()
            assert canary.hex() not in shown
