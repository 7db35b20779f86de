"""The public suite of backends, for keys of a real etcd server, as they are and as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.backends.etcd import from_uri
from securecfg.backends.uri import parse_backend_uri
from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from securecfg.testing.faulty_proxy import Answer, CutOff, Reset, Silence
from tests.backends.etcd_cluster import etcd_keys, etcd_server, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.backends import Backend
    from securecfg.testing.faulty_proxy import Fault
    from tests.backends.etcd_cluster import Etcd

FAULTS: dict[BackendFault, Fault] = {
    BackendFault.RESET: Reset(),
    BackendFault.CUT_OFF: CutOff(),
    BackendFault.SILENT: Silence(),
    BackendFault.BROKEN: refusal(503, 14, "etcdserver: request timed out: canary"),
    BackendFault.NONSENSE: Answer(200, b"<html>canary</html>"),
    BackendFault.THROTTLED: refusal(429, 8, "etcdserver: too many requests"),
}


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with etcd_server() as etcd:
        yield etcd


class TestEtcdKeys(BackendConformance):
    options = ""

    @pytest.fixture(autouse=True)
    def _folder(self, etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with etcd_keys(etcd, monkeypatch) as self._keys:
            yield

    def backend(self) -> Backend:
        return from_uri(parse_backend_uri(f"etcd:{self._keys.folder}{self.options}"))

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        proxy = self._keys.proxy
        if fault is BackendFault.UNREACHABLE:
            proxy.fail(Reset())  # connections that are there already
            proxy.__exit__()
        elif fault is BackendFault.EXPIRED:
            self._keys.change_password("another")
        elif fault is BackendFault.DENIED:
            self._keys.deny()
        elif fault and times:
            proxy.fail_next(*[FAULTS[fault]] * times)
        else:
            proxy.fail(FAULTS[fault] if fault else None)

    def fill(self, count: int) -> None:
        self._keys.etcd.fill(self._keys.folder, count)

    def asked(self) -> int:
        return sum(method != "auth/authenticate" for method in self._keys.methods)

    def canaries(self) -> tuple[str, ...]:
        tokens = {exchange.headers.get("authorization", "") for exchange in self._keys.proxy.exchanges}
        return self._keys.password, "timed out", *filter(None, tokens)


class TestEtcdHistory(TestEtcdKeys):
    options = "?history=yes"
