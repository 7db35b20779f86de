"""Walk through one application over four stores of others: mounted, one of them down, and all of it brought home.

Run it with `make demo-facade`. It works in a scratch directory with a home of its own, changes nothing else, needs no
network and asks nothing. The stores are servers on this machine that answer as HashiCorp Vault, AWS, Azure and Google
do; the clients are those of their vendors, unmodified. Each step asserts its outcome.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import hvac

from examples.walkthrough import Shell
from securecfg.testing.faulty_proxy import FaultyProxy, Reset
from tests.backends.gcp.secret_manager import SecretManager, serve
from tests.keys.aws import ACCESS_KEY, REGION, SECRET_KEY, moto
from tests.keys.azure import VAULT_HOST, azure
from tests.keys.gcp import ADMIN, write_account
from tests.keys.transit import vault_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
CANARY = "canary-77c4e0"
DATABASE = {"user": "web", "password": f"database-{CANARY}"}
STRIPE, MAIL, SEARCH, SESSION = (f"{name}-{CANARY}" for name in ("stripe", "mail", "search", "session"))
MOUNTS = ("hashicorp/", "aws/", "azure/", "google/")
GRANTS = """
[roles.app]
members = ["svc:app"]
[[roles.app.grants]]
actions = ["read"]
paths = ["hashicorp/**", "aws/**", "azure/**", "google/**", "own/**"]
"""


class Team(Shell):
    """A scratch directory, four stores, and whoever types commands there."""

    def __init__(self, folder: Path, environment: dict[str, str], uris: dict[str, str], hashicorp: FaultyProxy) -> None:
        """Prepare an environment that leads to the stores."""
        self.uris, self.hashicorp = uris, hashicorp
        self.expected = ""
        own = {
            "SECURECFG_VAULT": str(folder / "team.vault"),
            "SECURECFG_KEY": f"file:{folder / 'team.key'}",
            "SECURECFG_AS": "user:ana",
        }
        super().__init__(folder, [CANARY], own | environment)

    def app(self) -> str:
        """Run the application as the service that it is, and return what it printed."""
        return self.run("python", str(HERE / "app.py"), who="svc:app")

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the objects of all records of an event, oldest first."""
        shown = json.loads(self.run("securecfg", "audit", "show", "--action", event, "--json", is_shown=False))
        return [record["object"] for record in shown["records"]]


def create(team: Team) -> None:
    """Create a vault with one role and a secret of its own."""
    team.run("securecfg", "key", "generate", "team.key")
    team.run("securecfg", "vault", "create", "team.vault", "--admin", "ana")
    (team.folder / "grants.toml").write_text(GRANTS, encoding="utf-8")
    team.run("securecfg", "policy", "apply", "grants.toml")
    team.run("securecfg", "secret", "put", "own/session", given=SESSION)


def mount(team: Team) -> None:
    """Mount the four stores. Two hold secrets that their own clients wrote, two get theirs through the vault."""
    for folder, uri in team.uris.items():
        team.run("securecfg", "vault", "mount", folder, uri, "--max-age", "0s", "--refresh", "0s", "--keep", "1d")
    team.run("securecfg", "secret", "put", "azure/mail", given=MAIL)
    team.run("securecfg", "secret", "put", "google/search", given=SEARCH)
    assert team.run("securecfg", "secret", "list").split() == [
        "aws/stripe",
        "azure/mail",
        "google/search",
        "hashicorp/database",
        "own/session",
    ]


def start(team: Team) -> None:
    """Start the application. Its settings name paths, and nothing of where they lie."""
    team.expected = team.app()
    reads = team.records("mount.read")
    assert {read["served"] for read in reads} == {"store"}
    assert {read["path"] for read in reads} == {"hashicorp/database", "aws/stripe", "azure/mail", "google/search"}


def lose_a_store(team: Team) -> None:
    """Break off every connection to HashiCorp Vault: the application goes on, and the log says with what."""
    team.hashicorp.fail(Reset())
    assert team.app() == team.expected
    kept = {read["path"] for read in team.records("mount.read") if read["served"] == "last-good"}
    assert kept == {"hashicorp/database"}
    team.run("securecfg", "audit", "show", "--principal", "svc:app", "--last", "6")
    team.hashicorp.fail(None)


def bring_home(team: Team) -> None:
    """Take everything into the vault itself. The application does not change, and needs none of the stores."""
    for folder in MOUNTS:
        team.run("securecfg", "migrate", folder, "--yes")
    assert "hashicorp" not in team.run("securecfg", "vault", "mounts")
    asked = len(team.hashicorp.exchanges)
    assert team.app() == team.expected
    assert len(team.hashicorp.exchanges) == asked
    team.run("securecfg", "vault", "verify")
    team.run("securecfg", "audit", "verify")


STEPS: tuple[tuple[str, Callable[[Team], None]], ...] = (
    ("create a vault", create),
    ("mount four stores of others", mount),
    ("start the application", start),
    ("lose a store", lose_a_store),
    ("bring everything home", bring_home),
)


@contextmanager
def stores(folder: Path) -> Iterator[tuple[dict[str, str], dict[str, str], FaultyProxy]]:
    """Run the four stores; give the variables that lead there, the URIs of the mounts, and a proxy before the first."""
    with ExitStack() as stack:
        vault_port, aws_port = stack.enter_context(vault_server()), stack.enter_context(moto())
        hashicorp = stack.enter_context(FaultyProxy("127.0.0.1", vault_port))
        _, _, leads_to_azure = stack.enter_context(azure(folder, "azure.keyvault.secrets"))
        google_port = stack.enter_context(serve(SecretManager()))
        client = hvac.Client(url=f"http://127.0.0.1:{vault_port}", token="root")
        client.sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
        client.secrets.kv.v2.create_or_update_secret("team/database", DATABASE)
        boto3.client(
            "secretsmanager",
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{aws_port}",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        ).create_secret(Name="shop/stripe", SecretString=STRIPE)
        variables = {
            **leads_to_azure,
            "NO_PROXY": "127.0.0.1",
            "VAULT_ADDR": hashicorp.url,
            "VAULT_TOKEN": "root",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "GOOGLE_APPLICATION_CREDENTIALS": str(write_account(folder / "account.json", ADMIN)),
            "NO_GCE_CHECK": "true",
        }
        uris = {
            "hashicorp/": "vault:secret/team",
            "aws/": f"awssm:shop?region={REGION}&endpoint=http://127.0.0.1:{aws_port}",
            "azure/": f"azurekeyvault:https://{VAULT_HOST}",
            "google/": f"gcpsm:projects/shop?endpoint=http://127.0.0.1:{google_port}",
        }
        yield variables, uris, hashicorp


def main() -> int:
    """Take every step."""
    with tempfile.TemporaryDirectory(prefix="securecfg-demo-facade-") as scratch:
        folder = Path(scratch)
        with stores(folder) as (variables, uris, hashicorp):
            team = Team(folder, variables, uris, hashicorp)
            for number, (title, step) in enumerate(STEPS, start=1):
                print(f"step {number}: {title}")
                step(team)
    print("demo-facade: all steps as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
