"""What is the same for every provider whose service is asked over HTTP, whatever the service.

A module of tests for one of them has the fixtures `provider` and `proxy`, and a subclass of each class here.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import ExtraMissing, InvalidKeyUri, KeyProviderUnavailable, SecurecfgError, WrongKey
from securecfg.keys import WrapContext, call_unwrap, call_wrap, open_provider
from securecfg.patience import Patience
from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, FaultyProxy, SlowBody
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, RemoteKeyProviderConformance
from tests.keys.test_tracebacks import library_locals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.keys import KeyProvider
    from securecfg.testing.faulty_proxy import Exchange, Fault
    from securecfg.testing.key_services import ServiceFault

HASTY = Patience(deadline_s=20.0, pauses_s=(0.01, 0.01))


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def run_python(program: str) -> str:
    """Return what a program prints in an interpreter of its own."""
    arguments = [sys.executable, "-c", program]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


class BehindAProxy(RemoteKeyProviderConformance):
    """The public suite for a provider whose service is asked through a proxy, `_proxy`.

    Attributes:
        faults: What the proxy does for a fault that the service cannot be told to show.
    """

    faults: Mapping[ServiceFault, Fault]
    _proxy: FaultyProxy

    def asked(self) -> int:
        return len(self._proxy.exchanges)

    def fail_next(self, *faults: ServiceFault) -> None:
        self._proxy.fail_next(*(self.faults[fault] for fault in faults))


class AnsweredOverHttp:
    """What a provider makes of what its service answers.

    Attributes:
        refusals: What the service may answer to the request to unwrap, and the error that it is.
        cuts: Faults that pass, besides those of the public suite.
        wrong_sizes: How many bytes the service may give that are no key-encryption key.
    """

    refusals: Sequence[tuple[Answer, type[SecurecfgError]]]
    cuts: Sequence[Fault] = (CutOff(),)
    wrong_sizes: Sequence[int] = (0, 1, 31, 33, 4096)

    def unwrapped(self, plaintext: bytes) -> Answer:
        """Return the service's answer to the request to unwrap that gives this."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "refusal" in metafunc.fixturenames:
            # Not the answers themselves: some are made anew in each process that runs tests.
            ids = [f"{answer.status}-{error.code}" for answer, error in self.refusals]
            metafunc.parametrize("refusal", self.refusals, ids=ids)
        if "cut" in metafunc.fixturenames:
            metafunc.parametrize("cut", self.cuts)
        if "wrong_size" in metafunc.fixturenames:
            metafunc.parametrize("wrong_size", self.wrong_sizes)

    def test_gives_each_refusal_its_name(
        self, refusal: tuple[Answer, type[SecurecfgError]], provider: KeyProvider, proxy: FaultyProxy
    ) -> None:
        answer, error = refusal
        wrapped = provider.wrap(KEY, CONTEXT)
        proxy.fail(answer)
        with pytest.raises(SecurecfgError) as refused:
            provider.unwrap(wrapped, CONTEXT)
        assert type(refused.value) is error
        assert "canary" not in refused.value.message.lower() + refused.value.hint.lower()
        assert refused.value.hint

    def test_what_is_no_key_encryption_key_is_a_wrong_key(
        self, wrong_size: int, provider: KeyProvider, proxy: FaultyProxy
    ) -> None:
        wrapped = provider.wrap(KEY, CONTEXT)
        proxy.fail(self.unwrapped(bytes(wrong_size)))
        with pytest.raises(WrongKey):
            provider.unwrap(wrapped, CONTEXT)

    def test_a_redirection_is_not_followed(self, provider: KeyProvider, proxy: FaultyProxy) -> None:
        with FaultyProxy("127.0.0.1", closed_port()) as elsewhere:
            proxy.fail(Answer(307, b"", {"Location": f"{elsewhere.url}/elsewhere"}))
            with pytest.raises(KeyProviderUnavailable):
                provider.wrap(KEY, CONTEXT)
            assert elsewhere.exchanges == []

    def test_a_request_that_was_cut_off_is_made_once_and_again_by_the_caller(
        self, cut: Fault, provider: KeyProvider, proxy: FaultyProxy
    ) -> None:
        proxy.fail_next(cut, cut)
        wrapped = call_wrap(provider, KEY, CONTEXT, HASTY)
        proxy.fail_next(cut, cut)
        assert call_unwrap(provider, wrapped, CONTEXT, HASTY) == KEY
        assert len(proxy.exchanges) == 6
        proxy.exchanges.clear()
        proxy.fail(cut)
        with pytest.raises(KeyProviderUnavailable):
            provider.unwrap(wrapped, CONTEXT)
        assert len(proxy.exchanges) == 1

    def test_a_slow_service_is_waited_for_and_a_dripping_one_is_not(
        self, provider: KeyProvider, proxy: FaultyProxy
    ) -> None:
        wrapped = call_wrap(provider, KEY, CONTEXT, HASTY)
        proxy.fail(Delay(0.5))
        assert call_unwrap(provider, wrapped, CONTEXT, HASTY) == KEY
        # Each byte comes within the client's own limit; all of them would take longer than anybody waits here.
        proxy.fail(SlowBody(0.2))
        started = time.monotonic()
        with pytest.raises(KeyProviderUnavailable) as refused:
            call_unwrap(provider, wrapped, CONTEXT, Patience(deadline_s=1.0, pauses_s=(0.1,)))
        assert time.monotonic() - started < 5
        assert "within 1 s" in refused.value.message


class SendsKeyEncryptionKeys:
    """What a provider owes the key-encryption keys that it sends to its service.

    Attributes:
        failing_answers: What the service may do instead of answering, at either request.
    """

    failing_answers: Sequence[Fault]

    def sent_keks(self, proxy: FaultyProxy) -> Iterator[bytes]:
        """Give each key-encryption key that went to the service, as it is and as it was sent."""
        raise NotImplementedError

    def secrets_of(self, exchange: Exchange) -> str:
        """Return what else of a request nobody may see."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "failing_answer" in metafunc.fixturenames:
            metafunc.parametrize("failing_answer", self.failing_answers)

    def test_every_slot_has_a_key_encryption_key_of_its_own(self, provider: KeyProvider, proxy: FaultyProxy) -> None:
        for number in range(5):
            provider.wrap(KEY, WrapContext(CONTEXT.vault_id, bytes((number,)) * 16))
        assert len(set(self.sent_keks(proxy))) == 10

    def test_a_traceback_that_shows_locals_shows_no_secret(
        self, failing_answer: Fault, provider: KeyProvider, proxy: FaultyProxy
    ) -> None:
        wrapped = provider.wrap(KEY, CONTEXT)
        proxy.fail(failing_answer)
        for call, given in ((provider.wrap, KEY), (provider.unwrap, wrapped)):
            with pytest.raises(SecurecfgError) as refused:
                call(given, CONTEXT)
            shown = library_locals(refused.value)
            assert shown
            assert self.secrets_of(proxy.exchanges[-1]) not in shown
            keks = list(self.sent_keks(proxy))
            assert keks
            for kek in keks:
                assert kek.decode(errors="replace") not in shown
                assert repr(kek)[2:-1] not in shown


class NamedByUri:
    """What the URI of a key has to be, and what it costs to read one.

    Attributes:
        uri: The URI of a key.
        extra: What has to be installed to use it.
        missing: The modules without which it is not there.
        clients: What the names of modules begin with that are not loaded before the key is used.
        wrong: What may stand behind the scheme and names no key.
        alike: URIs of one key.
        different: URIs of different keys, or of one in different places.
    """

    uri: str
    extra: str
    missing: Sequence[str]
    clients: tuple[str, ...]
    wrong: Sequence[str]
    alike: Sequence[str]
    different: Sequence[str]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "wrong_rest" in metafunc.fixturenames:
            metafunc.parametrize("wrong_rest", self.wrong)

    def test_refuses_what_names_no_key(self, wrong_rest: str) -> None:
        with pytest.raises(InvalidKeyUri) as refused:
            open_provider(f"{self.extra}:{wrong_rest}")
        assert refused.value.hint
        assert "canary" not in refused.value.message + refused.value.hint

    def test_providers_of_the_same_key_in_the_same_place_are_equal(self) -> None:
        same = [open_provider(uri) for uri in self.alike]
        assert len(same) > 1
        assert len(set(same)) == 1
        assert len({open_provider(uri) for uri in self.different}) == len(self.different)

    def test_without_the_package_says_what_to_install(self) -> None:
        hidden = "".join(f"sys.modules[{module!r}] = None\n" for module in self.missing)
        printed = run_python(
            f"import sys\n{hidden}"
            "from securecfg.errors import ExtraMissing\nfrom securecfg.keys import WrapContext, open_provider\n"
            f"provider = open_provider({self.uri!r})\n"
            "try:\n    provider.wrap(bytes(32), WrapContext(bytes(16), bytes(16)))\n"
            "except ExtraMissing as error:\n    print(error.hint)\n"
        )
        assert printed == f"pip install 'securecfg-vault[{self.extra}]'"
        assert ExtraMissing.exit_code == 10

    def test_naming_a_key_imports_no_client(self) -> None:
        printed = run_python(
            "import sys\nfrom securecfg.keys import open_provider\n"
            f"open_provider({self.uri!r})\n"
            f"print([name for name in sys.modules if name.startswith({self.clients!r})])"
        )
        assert printed == "[]"
