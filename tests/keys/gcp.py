"""A server of Cloud KMS for tests, service accounts that it knows, and what Google answers when it refuses."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from securecfg.testing.faulty_proxy import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

Client = Any
"""Google's client, whose types are there when it is installed."""

RING = "projects/shop/locations/europe-west3/keyRings/main"
ADMIN = "admin@shop.iam.gserviceaccount.com"
READER = "reader@shop.iam.gserviceaccount.com"
NOBODY = "nobody@shop.iam.gserviceaccount.com"
SERVER = Path(__file__).parent / "cloudkms_server.py"


class Ports(NamedTuple):
    """Where the server listens."""

    http: int
    grpc: int


@cache
def account_key() -> rsa.RSAPrivateKey:
    """Return the private key of all service accounts."""
    return rsa.generate_private_key(65537, 2048)


def write_account(path: Path, address: str, key: rsa.RSAPrivateKey | None = None) -> Path:
    """Write the key file of a service account, as Google's console hands it out."""
    private = (key or account_key()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "0123456789abcdef",
        "private_key": private.decode(),
        "client_email": address,
        "token_uri": "http://127.0.0.1:1/token",
    }
    path.write_text(json.dumps(account))
    return path


@contextmanager
def cloud_kms() -> Iterator[Ports]:
    """Run the server, and give its ports."""
    pytest.importorskip("google.cloud.kms", reason="needs the package `google-cloud-kms`")
    public = account_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    arguments = [sys.executable, "-m", "tests.keys.cloudkms_server", public.decode()]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=SERVER.parents[2]) as process:
        assert process.stdout is not None
        try:
            yield Ports(*map(int, process.stdout.readline().split()))
        finally:
            process.kill()


def client(port: int, account: Path) -> Client:
    """Return Google's own client for what a test prepares."""
    from google.cloud import kms_v1
    from google.oauth2.service_account import Credentials

    return kms_v1.KeyManagementServiceClient(
        transport="rest",
        credentials=Credentials.from_service_account_file(account),  # type: ignore[no-untyped-call]  # no types
        client_options={"api_endpoint": f"http://127.0.0.1:{port}"},
    )


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Let Google's clients log all they can, and give what they do."""
    seen: list[str] = []

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(repr(vars(record)))

    handler, logger = Everything(), logging.getLogger("google")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        yield seen
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def refusal(http: int, status: str, message: str = "canary of the service") -> Answer:
    """Return the answer with which Google refuses."""
    body = json.dumps({"error": {"code": http, "message": message, "status": status}}).encode()
    return Answer(http, body, {"Content-Type": "application/json"})
