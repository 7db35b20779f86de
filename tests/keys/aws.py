"""A moto server for tests, and what AWS answers when it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.testing.faulty_proxy import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

Client = Any
"""A client of boto3, which makes them at run time."""

REGION = "eu-west-1"
ANOTHER_REGION = "us-east-1"
ACCESS_KEY = "AKIAIOSFODNN7CANARY0"
SECRET_KEY = "canary-secret-access-key-0123456789abcdef"
SERVER = Path(__file__).parent / "moto_server.py"


@contextmanager
def moto(**variables: str) -> Iterator[int]:
    """Run moto's server, and give its port."""
    for package in ("boto3", "moto", "flask_cors"):
        pytest.importorskip(package, reason=f"needs the package `{package}`")
    environment = {**os.environ, **variables}
    with subprocess.Popen(
        [sys.executable, SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a line for each request
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def client(service: str, port: int, region: str = REGION, keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY)) -> Client:
    """Return boto3's own client for what a test prepares."""
    import boto3

    return boto3.client(
        service,
        region_name=region,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )


def refusal(code: str, status: int = 400, message: str = "canary of the service") -> Answer:
    """Return the answer with which AWS refuses."""
    body = json.dumps({"__type": code, "message": message}).encode()
    return Answer(status, body, {"Content-Type": "application/x-amz-json-1.1"})
