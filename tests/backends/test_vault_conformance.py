"""The public suite of backends, for both versions of the KV engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.backends.uri import parse_backend_uri
from securecfg.backends.vault import from_uri
from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from securecfg.testing.faulty_proxy import Answer, CutOff, Reset, Silence
from tests.backends.kv import kv_engine
from tests.keys.transit import refusal, vault_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.backends import Backend
    from securecfg.testing.faulty_proxy import Fault

FAULTS: dict[BackendFault, Fault] = {
    BackendFault.RESET: Reset(),
    BackendFault.CUT_OFF: CutOff(),
    BackendFault.SILENT: Silence(),
    BackendFault.BROKEN: refusal(500, "internal error: canary"),
    BackendFault.NONSENSE: Answer(200, b"<html>canary</html>"),
    BackendFault.THROTTLED: refusal(429, "request path canary: rate limit quota exceeded"),
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with vault_server() as port:
        yield port


class TestVersionedKv(BackendConformance):
    many = 300
    kv = "2"

    @pytest.fixture(autouse=True)
    def _engine(self, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with kv_engine(port, monkeypatch, self.kv) as self._kv:
            yield

    def backend(self) -> Backend:
        return from_uri(parse_backend_uri(f"vault:{self._kv.mount}/team?kv={self.kv}"))

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        proxy = self._kv.proxy
        if fault is BackendFault.UNREACHABLE:
            proxy.fail(Reset())  # connections that are there already
            proxy.__exit__()
        elif fault is BackendFault.EXPIRED:
            self._kv.root.auth.token.revoke(self._kv.token)
        elif fault is BackendFault.DENIED:
            self._kv.allow()
        elif fault and times:
            proxy.fail_next(*[FAULTS[fault]] * times)
        else:
            proxy.fail(FAULTS[fault] if fault else None)

    def asked(self) -> int:
        return len(self._kv.proxy.exchanges)

    def canaries(self) -> tuple[str, ...]:
        return self._kv.token, "internal error", "quota"


class TestPlainKv(TestVersionedKv):
    kv = "1"

    @pytest.mark.parametrize("fault", [BackendFault.RESET])  # the answer to a write has no body that could break off
    def test_a_write_without_an_answer_is_made_once_or_said_to_be_in_doubt(self, fault: BackendFault) -> None:
        super().test_a_write_without_an_answer_is_made_once_or_said_to_be_in_doubt(fault)
