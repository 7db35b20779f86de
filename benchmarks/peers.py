"""The hot read beside other clients: AWS's caching client at a cache hit, and hvac against a server on this machine."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import hvac
from aws_secretsmanager_caching import SecretCache

from benchmarks.rows import ahead_of, interleave, repeated
from benchmarks.vaults import create, path_of, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Bench, Row

PATH = path_of(3)
VALUE = value_of(3)


class CannedSecrets:
    """What the caching client asks of AWS: answers without a network."""

    meta = SimpleNamespace(config=SimpleNamespace(user_agent_extra=""))

    def describe_secret(self, **_: object) -> dict[str, Any]:
        return {"Name": PATH, "VersionIdsToStages": {"1": ["AWSCURRENT"]}}

    def get_secret_value(self, **_: object) -> dict[str, Any]:
        return {"Name": PATH, "VersionId": "1", "SecretString": VALUE, "VersionStages": ["AWSCURRENT"]}


def rows(bench: Bench) -> Iterator[Row]:
    place = create(bench.folder / "peers", 10)
    cache = SecretCache(client=CannedSecrets())
    command = [sys.executable, "-m", "benchmarks.canned_server", VALUE]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        client = hvac.Client(f"http://127.0.0.1:{server.stdout.readline().strip()}", token="canned")

        def ask_server() -> str:
            found = client.secrets.kv.v2.read_secret_version(PATH, raise_on_deleted_version=True)
            return str(found["data"]["data"]["value"])

        def ask_cache() -> str:
            return str(cache.get_secret_string(PATH))

        with place.open() as vault:

            def ours() -> object:
                return vault.read(PATH).field("").reveal()

            assert ours() == ask_cache() == ask_server() == VALUE
            contenders = {
                "ours": repeated(ours, 20_000),
                "cache": repeated(ask_cache, 5_000),
                "server": repeated(ask_server, 200),
            }
            found = interleave(contenders, bench.rounds)
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
    yield ahead_of("read and reveal, hot", found["ours"], ("AWS caching client, cache hit", found["cache"]), 1.0)
    yield ahead_of("read and reveal, hot", found["ours"], ("hvac, canned loopback server", found["server"]), 200.0)
