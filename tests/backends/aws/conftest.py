from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.testing.faulty_proxy import FaultyProxy
from tests.backends.aws.cases import SETTINGS, reset
from tests.keys.aws import ACCESS_KEY, SECRET_KEY, moto

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _descriptions_are_read_once() -> Iterator[None]:
    """Let botocore look for AWS's descriptions of its services once, and not once for each client."""
    from functools import cache

    loaders = pytest.importorskip("botocore.loaders", reason="needs the package `boto3`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", cache(loaders.create_loader))
        yield


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where a moto server listens."""
    with moto() as port:
        yield port


@pytest.fixture
def empty(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in the server, and the settings are the tests' own."""
    reset(port)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, "/nonexistent")
    for variable in SETTINGS:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def proxy(port: int, empty: None) -> Iterator[FaultyProxy]:
    """A proxy before the server."""
    with FaultyProxy("127.0.0.1", port) as proxy:
        yield proxy
