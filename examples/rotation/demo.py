"""Watch the password of a database change ten times under load, by two daemons, one of which is killed in mid-step.

Run it with `make demo-rotation`. It works in a scratch directory with a PostgreSQL server and a home of its own,
changes nothing else, needs no network and asks nothing. Each step asserts its outcome.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.walkthrough import Shell
from tests.rotation.postgresql_server import ADMIN, ADMIN_PASSWORD, postgresql_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.rotation.postgresql_server import PostgresqlServer

HERE = Path(__file__).resolve().parent
CANARY = "canary-5b21d9"
FIRST = f"first-{CANARY}"
ROTATIONS = 10
PATIENCE_S = 120.0
GRANTS = """
[roles.shop]
members = ["svc:shop"]
[[roles.shop.grants]]
actions = ["read"]
paths = ["db/shop"]

[roles.rotation]
members = ["svc:rotation"]
[[roles.rotation.grants]]
actions = ["read", "rotate"]
paths = ["db/shop"]
[[roles.rotation.grants]]
actions = ["read"]
paths = ["db/admin"]
"""
DATABASE = f"""
CREATE TABLE goods (name text);
CREATE ROLE app NOLOGIN;
GRANT SELECT ON goods TO app;
CREATE ROLE app_a LOGIN IN ROLE app PASSWORD '{FIRST}';
CREATE ROLE app_b LOGIN IN ROLE app;
ALTER ROLE app_a SET ROLE app;
ALTER ROLE app_b SET ROLE app;
"""


class Operator(Shell):
    """A scratch directory, a database, and whoever types commands there."""

    def __init__(self, folder: Path, server: PostgresqlServer, stack: ExitStack) -> None:
        """Prepare an environment that leads to the database."""
        self.server, self._stack = server, stack
        self.shop: subprocess.Popen[str] | None = None
        self.daemons: list[subprocess.Popen[str]] = []
        own = {
            "SECURECFG_VAULT": str(folder / "team.vault"),
            "SECURECFG_KEY": f"file:{folder / 'team.key'}",
            "SECURECFG_AS": "user:ana",
            "SHOP_DATABASE": f"host=127.0.0.1 port={server.port} dbname=postgres sslmode=disable",
        }
        super().__init__(folder, [CANARY], own)

    def start(self, shown: str, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a program beside this one; what it logs goes to a file of its own."""
        print(f"    $ {shown} &")
        name = "log-shop" if "daemon" not in command else f"log-{len(self.daemons)}"
        log = self._stack.enter_context((self.folder / name).open("w"))
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self._stack.callback(_end, process)
        return process

    def daemon(self) -> None:
        """Start a daemon."""
        command = ("rotation", "daemon", "--log-format", "json")
        name = f"securecfg {shlex.join(command)}"
        self.daemons.append(self.start(name, "-m", "securecfg", *command, SECURECFG_AS="svc:rotation"))

    def status(self) -> dict[str, Any]:
        """Return how the rotation is."""
        shown = json.loads(self.run("securecfg", "rotation", "status", "db/shop", "--json", is_shown=False))
        found: dict[str, Any] = shown["rotations"][0]
        return found

    def steps(self) -> list[dict[str, Any]]:
        """Return the objects of the records of all steps, oldest first."""
        records = self.run(
            "securecfg", "audit", "show", "--action", "rotation.stepped", "--last", "10000", "--json", is_shown=False
        )
        return [record["object"] for record in json.loads(records)["records"]]

    def logged(self, number: int) -> str:
        """Return what a daemon has logged."""
        return (self.folder / f"log-{number}").read_text(encoding="utf-8")


def create(operator: Operator) -> None:
    """Create a vault with the login of the shop and that of the database's administrator."""
    operator.server.ask(DATABASE)
    operator.run("securecfg", "key", "generate", "team.key")
    operator.run("securecfg", "vault", "create", "team.vault", "--admin", "ana")
    (operator.folder / "grants.toml").write_text(GRANTS, encoding="utf-8")
    operator.run("securecfg", "policy", "apply", "grants.toml")
    operator.run("securecfg", "secret", "put", "db/admin", given=ADMIN_PASSWORD)
    login = json.dumps({"username": "app_a", "password": FIRST})
    operator.run("securecfg", "secret", "put", "db/shop", "--fields", given=login)


def set_rotation(operator: Operator) -> None:
    """Say how: two roles take turns, every two seconds, and the old one works a second longer."""
    operator.run(
        *("securecfg", "rotation", "set", "db/shop", "--rotator", "postgresql", "--every", "2s", "--grace", "1s"),
        *("--option", "host=127.0.0.1", "--option", f"port={operator.server.port}"),
        *("--option", "users=app_a,app_b", "--option", f"admin={ADMIN}"),
        *("--option", "admin-password=${secret:db/admin}", "--option", "probe=SELECT count(*) FROM goods"),
    )
    operator.run("securecfg", "rotation", "check", "db/shop")


def open_the_shop(operator: Operator) -> None:
    """Put the database under load, and start the daemons."""
    operator.shop = operator.start("python shop.py", str(HERE / "shop.py"))
    operator.daemon()
    operator.daemon()


def kill_one(operator: Operator) -> None:
    """Kill a daemon where it has stored a candidate, and has not said yet that the database knows it."""
    until = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < until, "nothing is rotated"
        for number, daemon in enumerate(operator.daemons):
            last = operator.logged(number).rstrip().rpartition("\n")[2]
            if '"to_state": "pending"' in last:
                daemon.send_signal(signal.SIGKILL)
                daemon.wait()
                print(f"    killed daemon {number} after: {last}")
                return
        time.sleep(0.002)


def watch(operator: Operator) -> None:
    """Wait until there were ten rotations, by the daemon that is left."""
    until = time.monotonic() + PATIENCE_S
    while (status := operator.status())["rotation_count"] < ROTATIONS:
        assert time.monotonic() < until, f"there were {status['rotation_count']}"
        time.sleep(0.5)
    assert operator.shop is not None
    output, _ = operator.shop.communicate("")
    counts = json.loads(output)
    print(f"    the shop: {output.strip()}")
    assert operator.shop.returncode == 0
    assert counts["answered"] > 0
    assert not [name for name in counts if name.startswith("failed")], "a query failed"
    assert counts["as app_a"] > 0
    assert counts["as app_b"] > 0


def tell(operator: Operator) -> None:
    """Stop the other daemon, and read the story in the log."""
    for daemon in operator.daemons:
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait() == 0
    operator.run("securecfg", "rotation", "history", "db/shop")
    steps = operator.steps()
    retired = [step for step in steps if step["to"] == "retired"]
    assert len(retired) >= ROTATIONS
    tokens = [step["token"] for step in steps if step["from"] == "idle"]
    assert len(tokens) == len(set(tokens))
    assert not [step for step in steps if step["to"] == "failed"]
    operator.run("securecfg", "audit", "verify")
    operator.run("securecfg", "vault", "verify")
    for number in range(len(operator.daemons)):
        assert CANARY not in operator.logged(number)


STEPS: tuple[tuple[str, Callable[[Operator], None]], ...] = (
    ("create a vault with a login for the shop", create),
    ("say how it is rotated", set_rotation),
    ("put the database under load, and start two daemons", open_the_shop),
    ("kill one of them in mid-step", kill_one),
    (f"wait for {ROTATIONS} rotations", watch),
    ("read the story in the log", tell),
)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


@contextmanager
def stage() -> Iterator[Operator]:
    """Give a scratch directory with a database, and end every program at its end."""
    with tempfile.TemporaryDirectory(prefix="securecfg-demo-rotation-") as scratch, ExitStack() as stack:
        server = stack.enter_context(postgresql_server())
        yield Operator(Path(scratch), server, stack)


def main() -> int:
    """Take every step."""
    with stage() as operator:
        for number, (title, step) in enumerate(STEPS, start=1):
            print(f"step {number}: {title}")
            step(operator)
    print("demo-rotation: all steps as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
