"""KV engines of a Vault server for tests: one for each test, behind a proxy, and who may use it."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from securecfg.testing.faulty_proxy import FaultyProxy
from tests.keys.transit import client, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from tests.keys.transit import Client

RIGHTS = ("create", "read", "update", "delete", "list")
DENIED = refusal(403, "permission denied")
SEALED = refusal(503, "Vault is sealed")
VARIABLES = (
    "VAULT_ADDR",
    "VAULT_TOKEN",
    "VAULT_NAMESPACE",
    "VAULT_CACERT",
    "VAULT_CAPATH",
    "VAULT_SECRET_ID",
    "VAULT_CLIENT_CERT",
    "VAULT_CLIENT_KEY",
)


class Kv(NamedTuple):
    """An engine.

    Attributes:
        root: May do everything, and does not go through the proxy.
        proxy: In front of the server.
        mount: Where the engine is, which is the name of the policy too that lets one do everything there.
        token: By that policy.
    """

    root: Client
    proxy: FaultyProxy
    mount: str
    token: str

    @property
    def paths(self) -> list[str]:
        """What was asked for, below the engine."""
        return [exchange.path.removeprefix(f"/v1/{self.mount}/") for exchange in self.proxy.exchanges]

    def allow(self, *rights: str) -> None:
        """Let the policy say that this may be done in the engine."""
        rules = {f"{self.mount}/*": {"capabilities": rights}} if rights else {}
        self.root.sys.create_or_update_acl_policy(self.mount, json.dumps({"path": rules}))


@contextmanager
def kv_engine(
    port: int, monkeypatch: pytest.MonkeyPatch, version: str = "2", namespace: str | None = None
) -> Iterator[Kv]:
    """Mount an engine, and let the environment lead to it."""
    root = client(port, namespace)
    mount = f"kv-{time.monotonic_ns()}"
    root.sys.enable_secrets_engine("kv", mount, options={"version": version})
    with FaultyProxy("127.0.0.1", port) as proxy:
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        kv = Kv(root, proxy, mount, root.auth.token.create(policies=[mount])["auth"]["client_token"])
        kv.allow(*RIGHTS)
        monkeypatch.setenv("VAULT_ADDR", proxy.url)
        monkeypatch.setenv("VAULT_TOKEN", kv.token)
        yield kv
