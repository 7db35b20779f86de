"""A Vault server for tests, what is prepared on it, and what Vault answers when it refuses."""

from __future__ import annotations

import json
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
"""A client of hvac, which has no types."""

ROOT = Path(__file__).parents[2]


@contextmanager
def vault_server(*arguments: str) -> Iterator[int]:
    """Run the server, and give its port."""
    pytest.importorskip("hvac", reason="needs the package `hvac`")
    command = [sys.executable, "-m", "tests.keys.vault_server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def client(port: int, namespace: str | None = None) -> Client:
    """Return hvac's client for what a test prepares."""
    import hvac

    return hvac.Client(url=f"http://127.0.0.1:{port}", token="root", namespace=namespace)


def allow(root: Client, policy: str, **paths: list[str]) -> str:
    """Write a policy of what may be done with transit keys, and return a token for it."""
    rules = {f"transit/{path}/*": {"capabilities": rights} for path, rights in paths.items()}
    root.sys.create_or_update_acl_policy(policy, json.dumps({"path": rules}))
    token: str = root.auth.token.create(policies=[policy])["auth"]["client_token"]
    return token


def refusal(status: int, *errors: str) -> Answer:
    """Return the answer with which Vault refuses."""
    return Answer(status, json.dumps({"errors": list(errors)}).encode(), {"Content-Type": "application/json"})
