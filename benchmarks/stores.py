"""Stores of others: a backend beside the client that it uses, mounts beside the vault itself, the cost of extras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import boto3
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig
from botocore.config import Config

from benchmarks.processes import output
from benchmarks.rows import SCALES, ahead_of, alone, interleave, over_floor, repeated
from benchmarks.vaults import ADMIN, create, path_of
from securecfg import Vault
from securecfg.backends import open_backend
from securecfg.errors import SecurecfgError
from securecfg.mounts import Mount, Mounts, Rules
from securecfg.mounts.migration import Homecoming
from securecfg.mounts.sync_plan import Rules as SyncRules
from securecfg.mounts.sync_run import Synchronisation
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rows import Bench, Row
    from benchmarks.vaults import Place

AWAY_S = 0.005
"""How far a store of a cloud is away within a region."""
SECRETS = 1_000
READS = 200
SECRETS_MOVED = 10_000
FOLDER = "corp/"
EXTRAS = {
    "boto3": "awssm, awsssm, awskms",
    "hvac": "vault",
    "azure.keyvault.secrets": "azurekeyvault",
    "google.cloud.secretmanager": "gcpsm",
    "kubernetes.client": "k8s",
}
_COST = (
    "import time; t = time.perf_counter(); import {name}; t = time.perf_counter() - t;"
    " line = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
    " print(t, int(line.split()[1]) * 1024)"
)


def rows(bench: Bench) -> Iterator[Row]:
    yield from beside_the_client(bench)
    yield from mounted(bench)
    yield from cold(bench)
    yield from moved(bench)
    yield from extras(bench)


def beside_the_client(bench: Bench) -> Iterator[Row]:
    yield read_beside_boto3(bench, 0.0, "on this machine")
    yield read_beside_boto3(bench, AWAY_S, "5 ms away", 1.05)


def read_beside_boto3(bench: Bench, away_s: float, where: str, at_most: float | None = None) -> Row:
    path, count = path_of(3), bench.repeats(READS)
    with serving(away_s) as port:
        backend, client = open_backend(uri(port)), client_of(port)
        found = backend.read(path).value
        assert isinstance(found, Secret)
        assert found.reveal() == value(client, path) == path
        contenders = {
            "ours": repeated(lambda: backend.read(path), count),
            "client": repeated(lambda: value(client, path), count),
        }
        series = interleave(contenders, bench.rounds)
    return over_floor(f"`awssm:` read, a server {where}", series["ours"], ("boto3", series["client"]), at_most)


def mounted(bench: Bench) -> Iterator[Row]:
    own, path = path_of(3), FOLDER + path_of(3)
    with serving(0.0) as port:
        place = mounting(bench.folder / "mounted", port, Rules(max_age_s=86_400, refresh_s=0, keep_s=0))
        with place.open() as vault, create(bench.folder / "unmounted", 10).open() as plain:
            for each, where in ((vault, own), (vault, path), (plain, own)):
                each.read(where)
            contenders = {
                "ours": repeated(lambda: vault.read(path), 20_000),
                "own": repeated(lambda: vault.read(own), 20_000),
                "plain": repeated(lambda: plain.read(own), 20_000),
            }
            found = interleave(contenders, bench.rounds)
    floor = ("a secret of a vault without mounts", found["plain"])
    yield over_floor("read a mounted secret, known", found["ours"], floor, 1.2)
    yield over_floor("read an own secret of a vault with mounts", found["own"], floor, 1.2)


def cold(bench: Bench) -> Iterator[Row]:
    """Read many secrets for the first time: through a mount, one by one, and with AWS's caching client."""
    names = [path_of(number) for number in range(bench.repeats(SECRETS))]
    with serving(AWAY_S) as port:
        client = client_of(port)
        place = mounting(bench.folder / "cold", port, Rules(max_age_s=0, refresh_s=0, keep_s=0, calls_per_s=0))
        wanted = [(FOLDER + name, None) for name in names]
        with place.open() as vault:

            def ours() -> None:
                for result in vault.read_many(wanted):
                    assert not isinstance(result, SecurecfgError)

            def one_by_one() -> None:
                for name in names:
                    value(client, name)

            def caching() -> None:
                cache = SecretCache(SecretCacheConfig(max_cache_size=2 * len(names)), client=client)
                for name in names:
                    cache.get_secret_string(name)

            contenders = {"ours": ours, "boto3": one_by_one, "cache": caching}
            calls = {}
            for name, run in contenders.items():
                before = calls_of(port)
                run()
                calls[name] = calls_of(port) - before
            found = interleave({name: repeated(run, 1) for name, run in contenders.items()}, min(bench.rounds, 3))
    for name, title in (("boto3", "a loop over boto3"), ("cache", "AWS caching client")):
        note = f"{calls['ours']} calls beside {calls[name]}"
        title_of_row = f"read {len(names):,} secrets of a mount, nothing known, recorded"
        yield ahead_of(title_of_row, found["ours"], (title, found[name]), note=note)


def moved(bench: Bench) -> Iterator[Row]:
    """Make a folder of the vault as a mount is, and take a mount home. Each is done once, since it is done then."""
    count = SECRETS_MOVED if bench.scale >= SCALES[1] else bench.repeats(SECRETS) // 5
    rules = Rules(calls_per_s=0)
    with serving(AWAY_S, count) as port:
        place = mounting(bench.folder / "moved", port, rules)
        with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
            pair = Synchronisation(vault, FOLDER, "home/", SyncRules())
            started = time.perf_counter()
            outcome = pair.run(pair.plan(silent), silent)
            synchronised_s = time.perf_counter() - started
            assert len(outcome.done) == count
            started = time.perf_counter()
            assert not pair.plan(silent).todo
            planned_s = time.perf_counter() - started
            started = time.perf_counter()
            homecoming = Homecoming(vault, FOLDER, lambda _: nullcontext(silent), takes_versions=False)
            done = homecoming.take_over(homecoming.fetch())
            migrated_s = time.perf_counter() - started
            assert done.verified == count
    for name, seconds in (
        ("synchronise a mount with a folder of the vault", synchronised_s),
        ("see that both are alike", planned_s),
        ("migrate a mount into the vault", migrated_s),
    ):
        yield alone(f"{name}, {count:,} secrets", (seconds,), "s")


def silent(_done: int, _of: int) -> None:
    """Show no progress."""


def extras(bench: Bench) -> Iterator[Row]:
    for name, schemes in EXTRAS.items():
        if find_spec(name.partition(".")[0]) is None:
            continue
        command = [sys.executable, "-c", _COST.format(name=name)]
        runs = [output(command, None).split() for _ in range(bench.rounds + 1)][1:]
        yield alone(f"`import {name}` ({schemes})", tuple(float(seconds) for seconds, _ in runs), "s")
        yield alone(f"memory after it ({schemes})", tuple(float(size) for _, size in runs), "B")


@contextmanager
def serving(away_s: float, count: int = 0) -> Iterator[int]:
    """Run the canned server, and yield its port."""
    command = [sys.executable, "-m", "benchmarks.canned_aws", str(away_s), str(count)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        with server.stdout:
            port = int(server.stdout.readline())
        os.environ.update(AWS_ACCESS_KEY_ID="AKIACANNED", AWS_SECRET_ACCESS_KEY="canned")
        yield port
    finally:
        server.kill()
        server.wait()


def uri(port: int) -> str:
    return f"awssm:?region=eu-west-1&endpoint=http://127.0.0.1:{port}"


def client_of(port: int) -> Any:  # noqa: ANN401 - made at run time from AWS's description of the service
    return boto3.client(
        "secretsmanager",
        region_name="eu-west-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(retries={"total_max_attempts": 1}),
    )


def value(client: Any, name: str) -> str:  # noqa: ANN401 - as above
    return str(client.get_secret_value(SecretId=name)["SecretString"])


def calls_of(port: int) -> int:
    connection = HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/calls")
        return int(json.loads(connection.getresponse().read())["calls"])
    finally:
        connection.close()


def mounting(folder: Path, port: int, rules: Rules) -> Place:
    """Return a vault of ten secrets with the canned server mounted in it."""
    place = create(folder, 10)
    with Vault.open(place.vault, key=place.key, principal=ADMIN) as admin:
        Mounts(admin.authority).add(Mount(FOLDER, (uri(port),), rules))
    return place
