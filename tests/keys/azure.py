"""Azure for tests: the service on this machine, behind a proxy that speaks TLS in the names of Azure's hosts."""

from __future__ import annotations

import json
import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from securecfg.testing.azure_key_vault import CLIENT_ID, CLIENT_SECRET, LOGIN_HOST, TENANT, AzureKeyVault
from securecfg.testing.faulty_proxy import Answer, FaultyProxy
from tests.keys.certificates import make_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.testing.faulty_proxy import Exchange, Fault

VAULT_HOST = "shop.vault.azure.net"
HSM_HOST = "shop.managedhsm.azure.net"
HOSTS = ("*.vault.azure.net", "*.managedhsm.azure.net", LOGIN_HOST)


class AzureProxy(FaultyProxy):
    """A proxy whose faults are those of vaults; the login service has faults of its own.

    Attributes:
        probes: Requests without a token, with which the client asks for the challenge.
        logins: What the login service was asked.
        login_fault: What it does instead.
        token_fault: The same, when it is asked for a token.
    """

    def __init__(self, service: AzureKeyVault, tls: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", service.port, tls=tls)
        self.probes: list[Exchange] = []
        self.logins: list[Exchange] = []
        self.login_fault: Fault | None = None
        self.token_fault: Fault | None = None
        self._wrapping_fault: Fault | None = None
        self._change_faults: list[Fault] = []

    def forget(self) -> None:
        """Hand everything on, and forget what was asked."""
        for exchanges in (self.exchanges, self.probes, self.logins):
            exchanges.clear()
        self.fail(None)
        self.login_fault = self.token_fault = self._wrapping_fault = None
        self._change_faults.clear()

    def fail_change(self, fault: Fault) -> None:
        """Show a fault for the next request that changes a secret."""
        self._change_faults.append(fault)

    def fail_wrapping(self, fault: Fault) -> None:
        """Show a fault whenever a key is to be wrapped."""
        self._wrapping_fault = fault

    def take(self, exchange: Exchange) -> Fault | None:
        if exchange.headers["host"] == LOGIN_HOST:
            self.logins.append(exchange)
            return self.token_fault if exchange.path.endswith("/token") and self.token_fault else self.login_fault
        if "authorization" not in exchange.headers:
            self.probes.append(exchange)
            return None
        fault = super().take(exchange)
        if exchange.method != "GET" and self._change_faults:
            return self._change_faults.pop(0)
        return self._wrapping_fault if "/wrapkey" in exchange.path and self._wrapping_fault else fault


@contextmanager
def azure(
    folder: Path, client: str = "azure.keyvault.keys"
) -> Iterator[tuple[AzureKeyVault, AzureProxy, dict[str, str]]]:
    """Run the service, and give it, its proxy and the variables that lead a client there."""
    for package in ("azure.identity", client):
        pytest.importorskip(package, reason=f"needs the package `{package.replace('.', '-')}`")
    authority, tls = make_tls(folder, HOSTS)
    with AzureKeyVault() as service, AzureProxy(service, tls) as proxy:
        yield service, proxy, variables(proxy.url, authority)


def settle(
    place: tuple[AzureKeyVault, AzureProxy, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> tuple[AzureKeyVault, AzureProxy]:
    """Empty the service, and lead clients there and nowhere else."""
    service, proxy, variables = place
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_", "IMDS_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    service.clear()
    proxy.forget()
    return service, proxy


def variables(proxy_url: str, authority: Path) -> dict[str, str]:
    """Return the variables that lead a client to the service, as its only user."""
    return {
        "HTTPS_PROXY": proxy_url,
        "HTTP_PROXY": proxy_url,  # for the metadata service, which is nowhere here
        "NO_PROXY": "",
        "REQUESTS_CA_BUNDLE": str(authority),
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT_ID,
        "AZURE_CLIENT_SECRET": CLIENT_SECRET,
    }


def refusal(status: int, code: str, inner: str = "", message: str = "canary of the service") -> Answer:
    """Return the answer with which Key Vault refuses."""
    error: dict[str, object] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return Answer(status, json.dumps({"error": error}).encode(), {"Content-Type": "application/json"})
