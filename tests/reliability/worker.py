"""A process that reads and writes a vault from several threads: `python -m tests.reliability.worker ...`.

It writes one JSON array for each operation: path, kind, begin, end, version, value.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

from securecfg.errors import SecretNotFound, StaleWrite, StoreBusy
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.values import as_number
from securecfg.vault.vault import Vault
from tests.vault.world import ADMIN

PATHS = 5


def main() -> int:
    """Work until the time is out."""
    path, key, name, threads, seconds, kind = sys.argv[1:]
    vault = Vault.open(path, key=key, principal=ADMIN, cache_values=0 if name.endswith("0") else 100)
    deadline = time.monotonic() + float(seconds)
    if kind == "compact":
        count = 0
        while time.monotonic() < deadline:
            count += compact(vault.opened)
            time.sleep(0.05)
        vault.close()
        print(json.dumps(["", "compactions", 0, 0, count, ""]))
        return 0
    failures: list[BaseException] = []
    results: list[list[object]] = []

    def run(number: int) -> None:
        try:
            _work(vault, f"{name}.{number}", deadline, results)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    vault.close()
    if failures:
        raise failures[0]
    for result in results:
        print(json.dumps(result))
    return 0


def _work(vault: Vault, name: str, deadline: float, results: list[list[object]]) -> None:
    draw = random.Random(name)
    count = 0
    while time.monotonic() < deadline:
        path = f"app/{draw.randrange(PATHS)}"
        count += 1
        begin = time.monotonic_ns()
        if draw.random() < 0.4:
            value = f"{name}:{count}" + ("" if count % 16 else "x" * 70_000)
            kind = "write"
            try:
                version = vault.write(path, value)
            except StoreBusy:
                # A large value on a path that changes all the time; certainly not written.
                continue
        elif draw.random() < 0.2:
            kind, value = "write", f"{name}:{count}"
            try:
                known = as_number(vault.history(path)[0].version)
                begin = time.monotonic_ns()
                version = vault.write(path, value, expect=known)
            except (StaleWrite, SecretNotFound):
                continue
            if version != known + 1:
                message = "a write with `expect` skipped a version"
                raise AssertionError(message)
        else:
            kind = "read"
            try:
                found = vault.read(path)
                version, value = as_number(found.version), str(found.field("").reveal())
            except SecretNotFound:
                version, value = 0, ""
        results.append([path, kind, begin, time.monotonic_ns(), version, value[:40]])


if __name__ == "__main__":
    sys.exit(main())
