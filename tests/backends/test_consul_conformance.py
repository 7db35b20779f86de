"""The public suite of backends, for keys of Consul."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.backends.consul import from_uri
from securecfg.backends.uri import parse_backend_uri
from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from securecfg.testing.faulty_proxy import Answer, CutOff, Reset, Silence
from tests.backends.consul_agent import TOKEN, Rights, consul_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.backends import Backend
    from securecfg.testing.faulty_proxy import Fault

FAULTS: dict[BackendFault, Fault] = {
    BackendFault.RESET: Reset(),
    BackendFault.CUT_OFF: CutOff(),
    BackendFault.SILENT: Silence(),
    BackendFault.BROKEN: Answer(500, b"rpc error making call: canary"),
    BackendFault.NONSENSE: Answer(200, b"<html>canary</html>"),
    BackendFault.THROTTLED: Answer(429, b"rate limit exceeded, try again later or against a different server: canary"),
}


class TestConsulKv(BackendConformance):
    @pytest.fixture(autouse=True)
    def _agent(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with consul_keys(monkeypatch) as self._keys:
            yield

    def backend(self) -> Backend:
        return from_uri(parse_backend_uri("consul:team"))

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        agent, proxy = self._keys
        if fault is BackendFault.UNREACHABLE:
            proxy.fail(Reset())  # connections that are there already
            proxy.__exit__()
        elif fault is BackendFault.EXPIRED:
            del agent.tokens[TOKEN]
        elif fault is BackendFault.DENIED:
            agent.tokens[TOKEN] = Rights((), ())
        elif fault and times:
            proxy.fail_next(*[FAULTS[fault]] * times)
        else:
            proxy.fail(FAULTS[fault] if fault else None)

    def fill(self, count: int) -> None:
        for number in range(count):
            self._keys.agent.put(f"team/many/{number:05}", b"x")

    def asked(self) -> int:
        return len(self._keys.proxy.exchanges)

    def canaries(self) -> tuple[str, ...]:
        return TOKEN, "rpc error", "AccessorID"
