"""The public suite of backends for `azurekeyvault:`, through the vendor's client, over TLS."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.backends.azurekeyvault import from_uri
from securecfg.backends.uri import parse_backend_uri
from securecfg.testing.azure_key_vault import CLIENT_SECRET
from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from securecfg.testing.faulty_proxy import Answer, CutOff, Reset, Silence
from tests.keys.azure import VAULT_HOST, refusal
from tests.keys.key_service import closed_port

if TYPE_CHECKING:
    from securecfg.backends import Backend
    from securecfg.testing.azure_key_vault import AzureKeyVault
    from securecfg.testing.faulty_proxy import Fault
    from tests.keys.azure import AzureProxy

FAULTS: dict[BackendFault, Fault] = {
    BackendFault.RESET: Reset(),
    BackendFault.CUT_OFF: CutOff(),
    BackendFault.SILENT: Silence(),
    BackendFault.BROKEN: refusal(500, "InternalServerError"),
    BackendFault.NONSENSE: Answer(200, b"<html>canary of the service</html>"),
    BackendFault.THROTTLED: refusal(429, "Throttled"),
    BackendFault.EXPIRED: refusal(401, "Unauthorized"),
    BackendFault.DENIED: refusal(403, "Forbidden", "ForbiddenByRbac"),
}


class TestAzureSecrets(BackendConformance):
    @pytest.fixture(autouse=True)
    def _place(self, service: AzureKeyVault, proxy: AzureProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        self._azure, self._proxy, self._variables = service, proxy, monkeypatch

    def test_a_forked_child_has_a_client_of_its_own(self) -> None:
        fork = os.fork

        def fork_in_peace() -> int:
            # The proxy speaks TLS in this process: a thread of it inside OpenSSL would leave its locks to the child.
            time.sleep(0.2)
            return fork()

        self._variables.setattr("os.fork", fork_in_peace)
        super().test_a_forked_child_has_a_client_of_its_own()

    def backend(self) -> Backend:
        return from_uri(parse_backend_uri(f"azurekeyvault:{VAULT_HOST}"))

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        if fault is BackendFault.UNREACHABLE:
            self._variables.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
        elif fault is not None and times is not None:
            self._proxy.fail_next(*[FAULTS[fault]] * times)
        else:
            self._proxy.fail(FAULTS[fault] if fault else None)

    def fail_change(self, fault: BackendFault) -> None:
        self._proxy.fail_change(FAULTS[fault])

    def asked(self) -> int:
        return len(self._proxy.exchanges)

    def canaries(self) -> tuple[str, ...]:
        return CLIENT_SECRET, "canary of the service", *self._azure.tokens

    def fill(self, count: int) -> None:
        self._azure.secrets.fill(VAULT_HOST, [f"many--{number:05}" for number in range(count)])
