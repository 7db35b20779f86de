"""The public suite of backends for Google Secret Manager: as it is opened, and as one of bytes with metadata."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from securecfg.backends.gcpsm import from_uri
from securecfg.backends.uri import parse_backend_uri
from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from securecfg.testing.faulty_proxy import Answer, CutOff, FaultyProxy, Reset, Silence
from tests.keys.gcp import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.backends import Backend
    from securecfg.testing.faulty_proxy import Fault
    from tests.backends.gcp.secret_manager import SecretManager

FAULTS: dict[BackendFault, Fault] = {
    BackendFault.RESET: Reset(),
    BackendFault.CUT_OFF: CutOff(),
    BackendFault.SILENT: Silence(),
    BackendFault.BROKEN: refusal(500, "INTERNAL"),
    BackendFault.NONSENSE: Answer(200, b"<html>canary of the service</html>"),
    BackendFault.THROTTLED: refusal(429, "RESOURCE_EXHAUSTED"),
    BackendFault.EXPIRED: refusal(401, "UNAUTHENTICATED"),
    BackendFault.DENIED: refusal(403, "PERMISSION_DENIED"),
}


class TestSecretManager(BackendConformance):
    parent = "projects/shop"
    options = ""

    @pytest.fixture(autouse=True)
    def _place(self, server: tuple[SecretManager, int], service: SecretManager, account: Path) -> Iterator[None]:
        with ExitStack() as self._listening:
            self._service = service
            self._proxy = self._listening.enter_context(FaultyProxy("127.0.0.1", server[1]))
            yield

    def backend(self) -> Backend:
        return from_uri(parse_backend_uri(f"gcpsm:{self.parent}?endpoint={self._proxy.url}{self.options}"))

    def fill(self, count: int) -> None:
        for number in range(count):
            self._service.put(f"many--{number:05}", b"x", parent=self.parent)

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        if fault is BackendFault.UNREACHABLE:
            self._proxy.fail(Reset())  # to who is connected already
            self._listening.close()
        elif fault is not None and times is not None:
            self._proxy.fail_next(*[FAULTS[fault]] * times)
        else:
            self._proxy.fail(FAULTS[fault] if fault else None)

    def asked(self) -> int:
        return len(self._proxy.exchanges)

    def canaries(self) -> tuple[str, ...]:
        tokens = {exchange.headers["authorization"] for exchange in self._proxy.exchanges}
        return "PRIVATE KEY", "canary of the service", *tokens


class TestRegionalSecretsOfBytes(TestSecretManager):
    parent = "projects/shop/locations/europe-west3"
    options = "&annotations=yes&values=bytes"
