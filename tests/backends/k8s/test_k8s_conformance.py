"""The public suite of backends, for both kinds of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from securecfg.testing.faulty_proxy import Answer, CutOff, Reset, Silence
from tests.backends.k8s.cluster import backend, refusal

if TYPE_CHECKING:
    from securecfg.backends import Backend
    from securecfg.testing.faulty_proxy import Fault, FaultyProxy
    from securecfg.testing.kubernetes_api import KubernetesApi

FAULTS: dict[BackendFault, Fault] = {
    BackendFault.RESET: Reset(),
    BackendFault.CUT_OFF: CutOff(),
    BackendFault.SILENT: Silence(),
    BackendFault.BROKEN: refusal(500, "InternalError"),
    BackendFault.NONSENSE: Answer(200, b"<html>canary</html>"),
    BackendFault.THROTTLED: refusal(429, "TooManyRequests"),
}


class TestSecrets(BackendConformance):
    uri = "k8s:team"
    resource = "secrets"

    @pytest.fixture(autouse=True)
    def _cluster(self, api: KubernetesApi, proxy: FaultyProxy, token: str) -> None:
        self._api, self._proxy, self._token = api, proxy, token

    def backend(self) -> Backend:
        return backend(self.uri)

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        proxy = self._proxy
        if fault is BackendFault.UNREACHABLE:
            proxy.fail(Reset())  # connections that are there already
            proxy.__exit__()
        elif fault is BackendFault.EXPIRED:
            del self._api.tokens[self._token]
        elif fault is BackendFault.DENIED:
            self._api.tokens[self._token].clear()
        elif fault and times:
            proxy.fail_next(*[FAULTS[fault]] * times)
        else:
            proxy.fail(FAULTS[fault] if fault else None)

    def asked(self) -> int:
        return len(self._proxy.exchanges)

    def canaries(self) -> tuple[str, ...]:
        return self._token, "canary-words", "system:serviceaccount"

    def fill(self, count: int) -> None:
        for number in range(count):
            self._api.put(self.resource, f"many.{number:05}", data={"value": "eA=="})


class TestConfigMaps(TestSecrets):
    uri = "k8s:team?kind=configmap"
    resource = "configmaps"
