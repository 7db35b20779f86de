"""A shop that asks its database all the time, and never learns that its password changes.

It reads `db/shop` before each query, as a program does that opens a connection for each request, and stops at the end
of its standard input.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter

import psycopg

from securecfg import Vault

CLIENTS = 3


def ask(vault: Vault, stop: threading.Event, counts: Counter[str]) -> None:
    """Ask with a new connection each time, and count what comes of it."""
    while not stop.is_set():
        login = vault.read("db/shop")
        user, password = (str(login.field(name).reveal()) for name in ("username", "password"))
        try:
            with psycopg.connect(os.environ["SHOP_DATABASE"], user=user, password=password) as connection:
                connection.execute("SELECT count(*) FROM goods")
        except psycopg.Error as error:
            counts[f"failed: {type(error).__name__}"] += 1
        else:
            counts["answered"] += 1
            counts[f"as {user}"] += 1


def main() -> int:
    """Ask until the standard input ends, then say how often."""
    counts: Counter[str] = Counter()
    stop = threading.Event()
    with Vault.open(principal="svc:shop") as vault:
        clients = [threading.Thread(target=ask, args=(vault, stop, counts)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        sys.stdin.read()
        stop.set()
        for client in clients:
            client.join()
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
