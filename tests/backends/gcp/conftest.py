from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("google.cloud.secretmanager", reason="needs the package `google-cloud-secret-manager`")

from securecfg.testing.faulty_proxy import FaultyProxy
from tests.backends.gcp.secret_manager import SecretManager, serve
from tests.keys.gcp import ADMIN, write_account

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _keys_are_checked_once() -> Iterator[None]:
    """Let the private key of the service accounts be checked once, and not for each client: that takes 0.1 s."""
    from functools import cache

    from google.auth.crypt._cryptography_rsa import RSASigner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RSASigner, "from_string", cache(RSASigner.from_string))
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[SecretManager, int]]:
    """The service, and where it listens."""
    service = SecretManager()
    with serve(service) as port:
        yield service, port


@pytest.fixture
def service(server: tuple[SecretManager, int]) -> SecretManager:
    """The service, without a secret."""
    server[0].secrets.clear()
    return server[0]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The service account that the platform's own chain of credentials finds."""
    path = write_account(tmp_path / "account.json", ADMIN)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return path


@pytest.fixture
def proxy(server: tuple[SecretManager, int], service: SecretManager, account: Path) -> Iterator[FaultyProxy]:
    """A proxy before the service."""
    with FaultyProxy("127.0.0.1", server[1]) as proxy:
        yield proxy
