"""Azure for tests: the service on this machine, behind a proxy that speaks TLS in the names of Azure's hosts."""

from __future__ import annotations

import datetime as dt
import json
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from securecfg.testing.azure_key_vault import CLIENT_ID, CLIENT_SECRET, LOGIN_HOST, TENANT, AzureKeyVault
from securecfg.testing.faulty_proxy import Answer, FaultyProxy

if TYPE_CHECKING:
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

    def forget(self) -> None:
        """Hand everything on, and forget what was asked."""
        for exchanges in (self.exchanges, self.probes, self.logins):
            exchanges.clear()
        self.fail(None)
        self.login_fault = self.token_fault = self._wrapping_fault = None

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
        return self._wrapping_fault if "/wrapkey" in exchange.path and self._wrapping_fault else fault


@contextmanager
def azure(folder: Path) -> Iterator[tuple[AzureKeyVault, AzureProxy, dict[str, str]]]:
    """Run the service, and give it, its proxy and the variables that lead a client there."""
    for package in ("azure.identity", "azure.keyvault.keys"):
        pytest.importorskip(package, reason=f"needs the package `{package.replace('.', '-')}`")
    authority, tls = make_certificates(folder)
    with AzureKeyVault() as service, AzureProxy(service, tls) as proxy:
        yield service, proxy, variables(proxy.url, authority)


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


def make_certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the file of a certificate authority, and the context of a server that it vouches for."""
    now = dt.datetime.now(dt.UTC)
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    begun = x509.CertificateBuilder().issuer_name(issuer).not_valid_before(now - dt.timedelta(days=1))
    begun = begun.not_valid_after(now + dt.timedelta(days=1))
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        begun.subject_name(issuer)
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, SHA256())
    )
    server = (
        begun.subject_name(x509.Name([]))
        .public_key(server_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, SHA256())
    )
    authority_file, server_file = folder / "authority.pem", folder / "server.pem"
    authority_file.write_bytes(authority.public_bytes(Encoding.PEM))
    server_file.write_bytes(
        server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + server.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    return authority_file, context


def refusal(status: int, code: str, inner: str = "", message: str = "canary of the service") -> Answer:
    """Return the answer with which Key Vault refuses."""
    error: dict[str, object] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return Answer(status, json.dumps({"error": error}).encode(), {"Content-Type": "application/json"})
