from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.testing.faulty_proxy import FaultyProxy
from securecfg.testing.kubernetes_api import KubernetesApi
from tests.backends.k8s.cluster import point_at, write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _client() -> None:
    pytest.importorskip("kubernetes", reason="needs the package `kubernetes`")


@pytest.fixture(scope="module")
def server() -> Iterator[KubernetesApi]:
    """A server for a module's tests."""
    with KubernetesApi() as server:
        yield server


@pytest.fixture
def api(server: KubernetesApi) -> KubernetesApi:
    """The same with nothing in it. It ends what it is watched by quickly."""
    server.clear()
    server.watch_s_max = 0.2
    return server


@pytest.fixture
def proxy(api: KubernetesApi) -> Iterator[FaultyProxy]:
    """A proxy before the server."""
    with FaultyProxy("127.0.0.1", api.port) as proxy:
        yield proxy


@pytest.fixture
def token(api: KubernetesApi, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token that may do everything, in a kubeconfig that leads to the proxy."""
    token = api.give_token()
    point_at(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", proxy.url, {"token": token}))
    return token
