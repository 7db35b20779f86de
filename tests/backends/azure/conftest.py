from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.keys.azure import azure, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.testing.azure_key_vault import AzureKeyVault
    from securecfg.testing.azure_secrets import VaultSecrets
    from tests.keys.azure import AzureProxy

    Place = tuple[AzureKeyVault, AzureProxy, dict[str, str]]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with azure(tmp_path_factory.mktemp("azure"), "azure.keyvault.secrets") as place:
        yield place


@pytest.fixture
def service(place: Place, monkeypatch: pytest.MonkeyPatch) -> AzureKeyVault:
    service, _proxy = settle(place, monkeypatch)
    return service


@pytest.fixture
def secrets(service: AzureKeyVault) -> VaultSecrets:
    return service.secrets


@pytest.fixture
def proxy(place: Place, service: AzureKeyVault) -> AzureProxy:
    return place[1]
