"""What the caller of a provider sees to: time limits, further attempts, one answer for many threads, its own errors."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from securecfg.crypto import KeyBytes
from securecfg.errors import (
    KeyAccessDenied,
    KeyDisabled,
    KeyMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SecurecfgError,
    SettingMissing,
    WrongKey,
)
from securecfg.keys import (
    Header,
    NewSlot,
    RemoteKeyProvider,
    Slot,
    SlotKey,
    WrapContext,
    build_header,
    call_unwrap,
    call_wrap,
    parse_params,
    seal_slot,
    seal_under_kek,
    unlock,
)
from securecfg.keys.remote import is_hinted
from securecfg.patience import Patience
from securecfg.testing.key_services import MemoryKms, MemoryKmsProvider, ServiceFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys import PassphraseProvider

VAULT = bytes(range(16))
ROOT = bytes(range(32))
CONTEXT = WrapContext(VAULT, bytes(16))
HASTY = Patience(deadline_s=20.0, pauses_s=(0.01, 0.01, 0.01))
CANARY = "canary-of-another-library"
TEMPORARY = [
    ServiceFault.UNREACHABLE,
    ServiceFault.RESET,
    ServiceFault.BROKEN,
    ServiceFault.THROTTLED,
]


@pytest.fixture
def service() -> MemoryKms:
    service = MemoryKms()
    for name in "abcde":
        service.create_key(name)
    return service


@pytest.fixture
def provider(service: MemoryKms) -> MemoryKmsProvider:
    return MemoryKmsProvider(service, "a")


@pytest.fixture
def wrapped(service: MemoryKms, provider: MemoryKmsProvider) -> bytes:
    wrapped = provider.wrap(ROOT, CONTEXT)
    service.calls = 0
    return wrapped


# --- attempts and time limits -----------------------------------------------------------------------------------------


def test_a_service_that_recovers_is_asked_again(
    service: MemoryKms, provider: MemoryKmsProvider, wrapped: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    service.fail_next(ServiceFault.THROTTLED, ServiceFault.RESET, ServiceFault.BROKEN)
    with caplog.at_level(logging.DEBUG):
        assert call_unwrap(provider, wrapped, CONTEXT, HASTY) == ROOT
    assert service.calls == 4
    assert [(record.event, record.count) for record in caplog.records] == [  # type: ignore[attr-defined]  # of `extra`
        ("key.retried", 1),
        ("key.retried", 2),
        ("key.retried", 3),
    ]


@pytest.mark.parametrize("fault", TEMPORARY)
def test_gives_up_after_the_last_attempt_with_the_providers_own_words(
    fault: ServiceFault, service: MemoryKms, provider: MemoryKmsProvider, wrapped: bytes
) -> None:
    service.fail(fault)
    with pytest.raises(KeyProviderUnavailable) as unwrapping:
        call_unwrap(provider, wrapped, CONTEXT, HASTY)
    assert service.calls == 4
    with pytest.raises(KeyProviderUnavailable):
        call_wrap(provider, ROOT, CONTEXT, HASTY)
    assert service.calls == 8
    assert fault in unwrapping.value.message


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ServiceFault.DENIED, KeyAccessDenied),
        (ServiceFault.DISABLED, KeyDisabled),
        (ServiceFault.DELETED, KeyMissing),
    ],
)
def test_a_refusal_is_not_asked_again(
    fault: ServiceFault, error: type[SecurecfgError], service: MemoryKms, provider: MemoryKmsProvider, wrapped: bytes
) -> None:
    service.fail(fault)
    with pytest.raises(error):
        call_unwrap(provider, wrapped, CONTEXT, HASTY)
    with pytest.raises(error):
        call_wrap(provider, ROOT, CONTEXT, HASTY)
    assert service.calls == 2


def test_a_wrong_key_is_not_asked_again(service: MemoryKms, wrapped: bytes) -> None:
    with pytest.raises(WrongKey):
        call_unwrap(MemoryKmsProvider(service, "b"), wrapped, CONTEXT, HASTY)
    assert service.calls == 1


def test_makes_no_attempt_that_would_begin_after_the_deadline(
    service: MemoryKms, provider: MemoryKmsProvider, wrapped: bytes
) -> None:
    service.fail(ServiceFault.BROKEN)
    service.latency_s = 0.2
    started = time.monotonic()
    with pytest.raises(KeyProviderUnavailable):
        call_unwrap(provider, wrapped, CONTEXT, Patience(deadline_s=0.5, pauses_s=(0.1,) * 50))
    assert time.monotonic() - started < 5
    assert 1 <= service.calls <= 3


def test_a_service_that_never_answers_is_left_behind(
    service: MemoryKms, provider: MemoryKmsProvider, wrapped: bytes
) -> None:
    service.fail_next(ServiceFault.SILENT)
    started = time.monotonic()
    with pytest.raises(KeyProviderUnavailable) as refused:
        call_unwrap(provider, wrapped, CONTEXT, Patience(deadline_s=0.1, pauses_s=()))
    assert time.monotonic() - started < 5
    assert refused.value.message == "`memory:` key `a` gave no answer within 0.1 s"
    # The first call still hangs; nobody waits for it any more.
    assert call_unwrap(provider, wrapped, CONTEXT, HASTY) == ROOT
    assert service.calls == 2


# --- many threads -----------------------------------------------------------------------------------------------------


def at_once(calls: list[Callable[[], bytes]]) -> list[bytes | SecurecfgError]:
    """Return what the calls return or raise, each made by a thread of its own at the same time."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], bytes]) -> bytes | SecurecfgError:
        together.wait()
        try:
            return call()
        except SecurecfgError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_threads_that_ask_the_same_share_one_answer_which_nobody_keeps(service: MemoryKms, wrapped: bytes) -> None:
    service.latency_s = 0.5

    def call() -> bytes:
        return call_unwrap(MemoryKmsProvider(service, "a"), wrapped, CONTEXT, HASTY)

    assert at_once([call] * 32) == [ROOT] * 32
    assert service.calls == 1
    assert call() == ROOT
    assert service.calls == 2


def test_threads_that_share_a_failure_each_have_their_own(service: MemoryKms, wrapped: bytes) -> None:
    service.latency_s = 0.5
    service.fail(ServiceFault.DISABLED)
    errors = at_once([lambda: call_unwrap(MemoryKmsProvider(service, "a"), wrapped, CONTEXT, HASTY)] * 8)
    assert service.calls == 1
    assert {type(error) for error in errors} == {KeyDisabled}
    assert len({id(error) for error in errors}) == 8
    assert all(isinstance(error, KeyDisabled) and error.hint and error.__context__ is None for error in errors)


def test_only_what_is_the_same_is_shared(service: MemoryKms, wrapped: bytes) -> None:
    service.latency_s = 0.3
    other = service.encrypt("a", bytes(32), CONTEXT)
    service.calls = 0
    elsewhere = WrapContext(VAULT, b"another slot 123")
    answers = at_once(
        [
            lambda: call_unwrap(MemoryKmsProvider(service, "a"), wrapped, CONTEXT, HASTY),
            lambda: call_unwrap(MemoryKmsProvider(service, "b"), wrapped, CONTEXT, HASTY),
            lambda: call_unwrap(MemoryKmsProvider(service, "a"), wrapped, elsewhere, HASTY),
            lambda: call_unwrap(MemoryKmsProvider(service, "a"), b"\x00\x3d\x00" + other + bytes(80), CONTEXT, HASTY),
        ]
    )
    assert answers[0] == ROOT
    assert [type(answer) for answer in answers[1:]] == [WrongKey] * 3
    assert service.calls == 4


def test_wrapping_is_not_shared(service: MemoryKms) -> None:
    service.latency_s = 0.3
    made = at_once([lambda: call_wrap(MemoryKmsProvider(service, "a"), ROOT, CONTEXT, HASTY)] * 4)
    assert len(set(made)) == 4
    assert service.calls == 4


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_calls(
    service: MemoryKms, provider: MemoryKmsProvider, wrapped: bytes
) -> None:
    service.latency_s = 1.0
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(call_unwrap, provider, wrapped, CONTEXT, HASTY)
        while not service.calls:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            threading.Timer(20, os._exit, (3,)).start()
            try:
                service.latency_s = 0.0
                os._exit(0 if call_unwrap(provider, wrapped, CONTEXT, HASTY) == ROOT else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert under_way.result() == ROOT


# --- what a plug-in may do wrong --------------------------------------------------------------------------------------


class Broken:
    """A provider that breaks its promises."""

    scheme = "broken"
    kind = 200

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.threads: list[threading.Thread] = []

    def wrap(self, _key: bytes, _context: WrapContext) -> bytes:
        self.threads.append(threading.current_thread())
        raise self.error

    def unwrap(self, _wrapped: bytes, _context: WrapContext) -> bytes:
        self.threads.append(threading.current_thread())
        raise self.error


class BrokenRemote(Broken):
    key_name = "one"


@pytest.mark.parametrize("kind", [Broken, BrokenRemote])
@pytest.mark.parametrize("error", [RuntimeError(CANARY), OSError(5, CANARY), TimeoutError(CANARY), KeyError(CANARY)])
def test_no_exception_of_another_library_escapes(kind: type[Broken], error: Exception) -> None:
    provider = kind(error)
    calls: list[Callable[[], bytes]] = [
        lambda: call_wrap(provider, ROOT, CONTEXT, HASTY),
        lambda: call_unwrap(provider, bytes(82), CONTEXT, HASTY),
    ]
    for call in calls:
        with pytest.raises(KeyProviderUnavailable) as refused:
            call()
        assert refused.value.message == "the provider of `broken:` keys broke down"
        assert CANARY not in refused.value.hint
        assert refused.value.__suppress_context__ or refused.value.__context__ is None
    # A mistake is not a fault that passes.
    assert len(provider.threads) == 2


def test_a_local_provider_is_called_here_and_once() -> None:
    provider = Broken(KeyProviderUnavailable("locked", hint="unlock it"))
    with pytest.raises(KeyProviderUnavailable) as refused:
        call_unwrap(provider, bytes(82), CONTEXT, HASTY)
    assert refused.value is provider.error
    assert provider.threads == [threading.current_thread()]


def test_a_remote_provider_is_called_in_a_thread_that_does_not_keep_the_process_alive() -> None:
    provider = BrokenRemote(SettingMissing("nobody to ask", hint="-"))
    with pytest.raises(SettingMissing):
        call_unwrap(provider, bytes(82), CONTEXT, HASTY)
    assert [thread.daemon for thread in provider.threads] == [True]


def test_what_a_service_unwraps_is_masked(provider: MemoryKmsProvider, wrapped: bytes) -> None:
    assert type(call_unwrap(provider, wrapped, CONTEXT, HASTY)) is KeyBytes


def test_only_a_provider_with_a_name_for_its_key_is_remote(
    provider: MemoryKmsProvider, remembered: Callable[[str], PassphraseProvider]
) -> None:
    assert isinstance(provider, RemoteKeyProvider)
    assert not isinstance(remembered("x"), RemoteKeyProvider)


# --- unlocking --------------------------------------------------------------------------------------------------------


def vault_of(*slots: NewSlot) -> tuple[Header, dict[int, bytes]]:
    rows: dict[int, bytes] = {}
    for number, new in enumerate(slots, start=256):
        rows |= new.rows(number, VAULT, ROOT)
    row = build_header(ROOT, rows, vault_id=VAULT, generation=1, first_log_key=bytes(32), created_ns=1)
    return Header.parse(row), rows


@pytest.mark.parametrize("name", "abcde")
def test_of_many_slots_the_service_is_asked_for_the_right_one_only(name: str, service: MemoryKms) -> None:
    slots: list[NewSlot] = []
    # A hint has one byte, so once in 256 another slot has the one that is looked for.
    while sum(is_hinted(parse_params(new.slot.wrapped), name, new.slot.slot_id) for new in slots) != 1:
        slots = [seal_slot(VAULT, MemoryKmsProvider(service, other)) for other in "abcde"]
    header, rows = vault_of(*slots)
    service.calls = 0
    unlocked = unlock(header, rows, MemoryKmsProvider(service, name))
    assert unlocked.slot_id == slots["abcde".index(name)].slot.slot_id
    assert service.calls == 1


def test_a_key_opens_its_slot_under_another_name_too(service: MemoryKms) -> None:
    header, rows = vault_of(*(seal_slot(VAULT, MemoryKmsProvider(service, name)) for name in "abcde"))
    service.add_alias("alias", "d")
    service.calls = 0
    assert unlock(header, rows, MemoryKmsProvider(service, "alias")).root == ROOT
    assert 1 <= service.calls <= 5


def test_says_which_other_keys_open_a_vault_whose_service_is_away(
    service: MemoryKms, provider: MemoryKmsProvider, remembered: Callable[[str], PassphraseProvider]
) -> None:
    unknown = Slot(130, bytes(16), seal_under_kek(bytes(32), 130, b"", bytes(32), CONTEXT))
    foreign = NewSlot(unknown, SlotKey(bytes(32), VAULT, bytes(16)).public_key)
    header, rows = vault_of(seal_slot(VAULT, provider), seal_slot(VAULT, remembered("x")), foreign)
    for fault, error in [
        (ServiceFault.UNREACHABLE, KeyProviderUnavailable),
        (ServiceFault.SILENT, KeyProviderUnavailable),
        (ServiceFault.DENIED, KeyProviderRefused),
        (ServiceFault.DELETED, KeyProviderRefused),
    ]:
        service.fail(fault)
        with pytest.raises(error) as refused:
            unlock(header, rows, provider, Patience(deadline_s=0.3, pauses_s=()))
        assert refused.value.hint.endswith("; the vault has slots for other keys, too: `passphrase:`, kind 130")


def test_says_nothing_of_other_keys_where_there_are_none(service: MemoryKms, provider: MemoryKmsProvider) -> None:
    header, rows = vault_of(seal_slot(VAULT, provider))
    service.fail(ServiceFault.UNREACHABLE)
    with pytest.raises(KeyProviderUnavailable) as refused:
        unlock(header, rows, provider, HASTY)
    assert "other keys" not in refused.value.hint
